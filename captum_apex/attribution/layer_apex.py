"""APEX as a Captum attribution class whose maps lie on the grid of a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from captum._utils.common import _run_forward, _select_targets
from captum._utils.typing import TargetType
from captum.attr import GradientAttribution, LayerAttribution
from captum.log import log_usage
from torch import Tensor, nn

from captum_apex.attribution.arguments import (
    Inputs,
    channel_indices,
    check_inputs,
    check_rows,
    detached_inputs,
    first_input,
    forward_arguments,
    map_dtype,
    plain_target,
    score_of,
    unpadded_columns,
)
from captum_apex.attribution.decomposition import N_CHANNELS, Decomposition, check_decomposed, in_basis, select_channels
from captum_apex.attribution.described import Described
from captum_apex.attribution.layer_graph import LayerGraph
from captum_apex.attribution.recorded_pass import in_recorded_pass, recorded_pass, run_anew, run_once, shares_passes
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.classifiers.logits import warn_of_probabilities
from captum_apex.layers.changes import recording, restored
from captum_apex.layers.fitted_on import check_origin
from captum_apex.layers.hooks import watched
from captum_apex.layers.models import layer_name, on_one_device
from captum_apex.layers.padding import Columns, checked_columns, column_mask
from captum_apex.layers.pooled_norm import PooledNorm
from captum_apex.layers.still_models import frozen, prepared
from captum_apex.layers.values import at_least_float32, check_finite, checked_output

__all__ = ["Channels", "LayerAPEX"]

Channels = int | Sequence[int]
"""The index of one channel of the basis, or the indices of several."""


class LayerAPEX(Described, LayerAttribution, GradientAttribution):
    r"""Contributions of prototype channels on the grid of a layer, laid out by the scheme of the basis.

    The class is called like `captum.attr.LayerGradCam`. During a call the model is in evaluation mode; afterwards it is
    as it was before. Only the modules after the layer keep a graph. While the gradient is taken, normalisations after
    the layer use their variance as a constant (see `captum_apex.layers.normalisation`). A basis of a bank with a `norm`
    explains the grid that this norm normalises (see `captum_apex.layers.PooledNorm`); then "the grid" means that one.

    Args:
        forward_func: the classifier; one that returns more than its scores as a `SelectedOutput`.
        layer: the module that the basis was fitted on. Where it gives a tuple, the first tensor is explained.
        basis: the basis, usually from `fit_basis`.
        device_ids: devices, as in Captum; accepted, but not used. A data-parallel model is explained on its first
            device.
        columns: function for batches of padded clips. It takes the lengths of the clips, int64 (clip,), and gives the
            number of columns of the layer's grid without padding, int64 (clip,), as in `FeatureBank.from_dataset`. The
            lengths must then be the first of the `additional_forward_args`. The model gets them too, and must ignore
            the padding.

    Raises:
        TypeError: `layer` is not a module, or `basis` is not a `PrototypeBasis`.
        ValueError: the layer is not part of the model, or the basis was fitted on a model with other weights. A basis
            of another width than the layer is refused when the object is called.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex import LayerAPEX, PrototypeBasis
        >>> layer = nn.ReLU()
        >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())  # one class for each channel
        >>> inputs = torch.tensor([[[[0.0, 2.0], [0.0, 6.0]], [[1.0, 1.0], [1.0, 1.0]]]])
        >>> apex = LayerAPEX(model, layer, PrototypeBasis(torch.eye(2), "time"))
        >>> apex.attribute(inputs, target=0)  # the score, 2, lies in the second column
        tensor([[[[0., 1.],
                  [0., 1.]]]])

    Source: EPIC (arXiv 2505.12897); the gradient at the layer generalises its contributions to heads of any kind.
    """

    def __init__(
        self,
        forward_func: Callable,
        layer: nn.Module,
        basis: PrototypeBasis,
        device_ids: list[int] | None = None,
        columns: Columns | None = None,
    ) -> None:
        forward_func = on_one_device(forward_func)
        LayerAttribution.__init__(self, forward_func, layer, device_ids)
        GradientAttribution.__init__(self, forward_func)
        if not isinstance(basis, PrototypeBasis):
            raise TypeError(f"expected `basis` to be a PrototypeBasis, but got {type(basis).__name__}")
        self.layer_name = layer_name(forward_func, layer)
        self.basis = basis
        self.columns = columns
        self._cached_matrices: tuple[PrototypeBasis, Tensor, Tensor] | None = None
        _ = self.norm  # raises where the model has no such norm
        check_origin(forward_func, layer, basis.origin)

    @property
    def norm(self) -> PooledNorm | None:
        """The norm that is applied to the grid, where the basis was fitted so; None for the grid of the layer itself.

        Raises:
            ValueError: the model has no such norm.
        """
        return PooledNorm.of(self.forward_func, self.layer, self.basis.origin)

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        target: TargetType = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        n_channels: int | None = N_CHANNELS,
        sides: str = "positive",
        return_convergence_delta: bool = False,
        channels: Channels | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The relevance of the evidence on the grid of the layer.

        Args:
            inputs: inputs of the model, one tensor or a tuple of tensors; the first axis of each is the clip.
            target: index of the class to explain, in every form that Captum accepts.
            additional_forward_args: further arguments of the model.
            attribute_to_layer_input: whether to explain the input of the layer instead of its output. A basis that was
                fitted at the input of the layer is always used there.
            n_channels: largest number of channels in the evidence, `N_CHANNELS` (5) by default. None takes every
                channel: the map is then complete, and equal for every invertible `U`.
            sides: `"positive"`, or `"both"` to add channels that support the class by a negative activation.
            return_convergence_delta: whether to return also the convergence delta, the total of the map minus
                `f_y(Z) − f_y(Z := 0)`. It takes a second forward pass.
            channels: the channels to explain instead of the evidence; one int gives the map of one prototype channel.

        Returns:
            Tensor (clip, 1, frequency, time). With `return_convergence_delta`, a tuple of this and the deltas, (clip,).

        Raises:
            AssertionError: Captum refuses the target.
            IndexError: the target is out of range.
            TypeError: an input is not a tensor, or `n_channels` is neither an int nor None.
            ValueError: the layer does not fit the basis, the model does not return one tensor, no gradient of it
                reaches the layer, an input has NaN or infinity, or `n_channels`, `sides` or `channels` is out of range.
        """
        decomposition = self.decompose(inputs, target, additional_forward_args, attribute_to_layer_input)
        selected = self.selected_channels(decomposition, n_channels, sides, channels)
        relevance = decomposition.relevance * selected[:, :, None, None]
        relevance = relevance.sum(1)  # (clip, channel, frequency, time) → (clip, frequency, time)
        attributions = self.basis.scheme.spread(relevance, decomposition.columns)[:, None]
        attributions = attributions.to(map_dtype(first_input(inputs), relevance)).contiguous()
        if not return_convergence_delta:
            return attributions
        without_layer = self.score_without_layer(
            inputs, decomposition.target, additional_forward_args, attribute_to_layer_input
        )
        return attributions, relevance.sum((1, 2)) - (decomposition.score - without_layer)

    def has_convergence_delta(self) -> bool:
        """True: `attribute(..., return_convergence_delta=True)` gives one value per clip."""
        return True

    @property
    def multiplies_by_inputs(self) -> bool:
        """True: relevance is gradient × feature."""
        return True

    @restored
    def decompose(
        self,
        inputs: Inputs,
        target: TargetType = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        predicted: bool = False,
    ) -> Decomposition:
        """Decomposes the score of one class into the channels of the basis, by one forward pass and one gradient.

        Args:
            inputs: inputs of the model, as in `attribute`.
            target: index of the class to explain, as in `attribute`.
            additional_forward_args: further arguments of the model.
            attribute_to_layer_input: whether to explain the input of the layer, as in `attribute`.
            predicted: whether to explain the predicted class of each clip where `target` is None.

        Returns:
            The decomposition of all clips.
        """
        target = plain_target(target)
        with prepared(self.forward_func, self.layer):
            graph, output = self._forward(inputs, additional_forward_args, attribute_to_layer_input)
            if target is None and predicted and output.dim() == 2 and output.shape[1] > 1:
                target = output.argmax(1)
            columns = unpadded_columns(self.columns, additional_forward_args)
            return self._decompose_target(graph, output, target, columns)

    def decompose_each(
        self,
        inputs: Inputs,
        targets: Callable[[Tensor], Iterable[TargetType]],
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
    ) -> Iterator[Decomposition]:
        """Decomposes the scores of several classes by one forward pass, and one gradient at the layer for each.

        Args:
            inputs: inputs of the model, as in `attribute`.
            targets: function from the whole output of the model to the targets to explain, each in a form that
                `attribute` accepts.
            additional_forward_args: further arguments of the model.
            attribute_to_layer_input: whether to explain the input of the layer, as in `attribute`.

        Yields:
            One decomposition of all clips for each target.
        """
        graph, output = self._forward(inputs, additional_forward_args, attribute_to_layer_input)
        features = None  # those of the first class are those of all
        for target in targets(output.detach()):
            columns = unpadded_columns(self.columns, additional_forward_args)
            decomposition = self._decompose_target(graph, output, target, columns, keep_graph=True, features=features)
            features = decomposition.features
            yield decomposition

    @restored
    def _forward(
        self, inputs: Inputs, additional_forward_args: Any, attribute_to_layer_input: bool
    ) -> tuple[LayerGraph, Tensor]:
        """The graph from the layer on, and the output of the model."""
        check_inputs(inputs)
        place = (self.norm, self.reads_input(attribute_to_layer_input))
        run = partial(recorded_pass, self.forward_func, self.layer, inputs, additional_forward_args, *place)
        graph, output = run()
        graph.check_reached(output, self.forward_func, self.layer, partial(run_anew, run))
        warn_of_probabilities(output)
        return graph, output

    @restored
    def _decompose_target(
        self,
        graph: LayerGraph,
        output: Tensor,
        target: TargetType,
        columns: Tensor | None,
        *,
        keep_graph: bool = False,
        features: Tensor | None = None,
    ) -> Decomposition:
        """Decomposes the score of one target; `keep_graph` serves another one, whose `features` are the same."""
        with recording():
            (target,) = forward_arguments((target,))  # a normal tensor
            score = score_of(output, target)
        with recording(), torch.no_grad():  # the parameters of the norm are constants too
            on_way_back = in_recorded_pass(self.forward_func, self.layer)
            keep_graph = keep_graph or shares_passes()
            grids = graph.grids(score, self.basis.origin.layout, columns, keep_graph, on_way_back)
        Z, G = self._checked(*grids, columns)
        score = score.detach().reshape(len(score))
        check_decomposed(self.layer_name, Z, G, score)
        features, relevance = in_basis(*self.matrices(Z), Z, G, features)
        columns = None if columns is None else columns.to(Z.device)
        return Decomposition(features, relevance, G, output.detach(), target, score, columns)

    def selected_channels(
        self,
        decomposition: Decomposition,
        n_channels: int | None = N_CHANNELS,
        sides: str = "positive",
        channels: Channels | None = None,
    ) -> Tensor:
        """The channels to explain: those of the evidence, or the given `channels`.

        Args:
            decomposition: the decomposition of the clips, from `decompose`.
            n_channels: largest number of channels in the evidence, as in `attribute`.
            sides: `"positive"` or `"both"`, as in `attribute`.
            channels: the channels to explain instead of the evidence, as in `attribute`.

        Returns:
            bool tensor (clip, channel), True for the selected channels.

        Raises:
            TypeError: `n_channels` is neither an int nor None, or `channels` holds anything else than integers.
            ValueError: `n_channels`, `sides` or `channels` is out of range.
        """
        if channels is None:
            return select_channels(decomposition.contributions, decomposition.activations, n_channels, sides)
        mask = torch.zeros(self.basis.n_channels, dtype=torch.bool)
        mask[channel_indices(channels, self.basis.n_channels)] = True
        return mask.to(decomposition.score.device).expand(len(decomposition.score), -1)

    def score_without_layer(
        self,
        inputs: Inputs,
        target: TargetType = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
    ) -> Tensor:
        """`f_y(Z := 0)`: the score of a class where the grid is zero, by one forward pass.

        Args:
            inputs: inputs of the model, as in `attribute`.
            target: index of the class, as in `attribute`.
            additional_forward_args: further arguments of the model.
            attribute_to_layer_input: whether the input of the layer is zero instead of its output.

        Returns:
            Tensor (clip,).
        """
        output = self.output_without_layer(inputs, additional_forward_args, attribute_to_layer_input)
        score = _select_targets(output, plain_target(target)).reshape(len(output))
        check_finite(score, f"the scores where {self.layer_name!r} gives zeros,")
        return score

    @restored
    def output_without_layer(
        self, inputs: Inputs, additional_forward_args: Any = None, attribute_to_layer_input: bool = False
    ) -> Tensor:
        """`f(Z := 0)`: the whole output of the model where the grid is zero, by one forward pass.

        Args:
            inputs: inputs of the model, as in `attribute`.
            additional_forward_args: further arguments of the model.
            attribute_to_layer_input: whether the input of the layer is zero instead of its output.

        Returns:
            The output of the model, usually (clip, class).
        """
        check_inputs(inputs)
        reads_input = self.reads_input(attribute_to_layer_input)
        norm = self.norm
        further = forward_arguments(additional_forward_args)

        def run() -> Tensor:
            zeros = watched(self.layer, self.layer_name, torch.zeros_like, at_input=reads_input)
            if norm is not None:  # its output is the mean of the normalised grid
                zeros = watched(norm.module, norm.name, torch.zeros_like)
            with torch.no_grad(), zeros, frozen(self.forward_func, self.layer):
                output = _run_forward(self.forward_func, detached_inputs(inputs), None, further)
            return check_rows(checked_output(output, self.forward_func), len(first_input(inputs)))

        kind = ("without", self.forward_func, self.layer, None if norm is None else norm.module, reads_input)
        return run_once(kind, (inputs, further), run)

    def reads_input(self, attribute_to_layer_input: bool) -> bool:
        """Whether the input of the layer is explained: by request, or because the basis was fitted there."""
        return attribute_to_layer_input or self.basis.origin.at_input

    def weights(self, decomposition: Decomposition, selected: Tensor) -> Tensor:
        """`w = Uᵀ 1_E U⁻ᵀ G`: the weights of the raw features for which their sum is the contribution of the channels.

        Args:
            decomposition: the decomposition of the clips, from `decompose`.
            selected: the channels, bool (clip, channel).

        Returns:
            Tensor (clip, channel, frequency, time) in the raw channels of the layer.
        """
        U, inverse = self.matrices(decomposition.gradient)
        with torch.autocast(decomposition.gradient.device.type, enabled=False):
            in_basis = torch.einsum("ck,ncft->nkft", inverse, decomposition.gradient)
            return torch.einsum("kc,nkft->ncft", U, in_basis * selected[:, :, None, None])

    def matrices(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """`U` and `U⁻¹` on the device and in the dtype of a tensor; cached, so that a GPU gets them only once."""
        cached = self._cached_matrices
        kind = (like.dtype, like.device)
        if cached is None or cached[0] is not self.basis or (cached[1].dtype, cached[1].device) != kind:
            cached = (self.basis, self.basis.U.to(like), self.basis.inverse.to(like))
            self._cached_matrices = cached
        return cached[1:]

    def _checked(self, Z: Tensor, G: Tensor, columns: Tensor | None) -> tuple[Tensor, Tensor]:
        """`Z` and `G`, (clip, channel, frequency, time), zero in the padding of a clip; they fit the basis."""
        Z = at_least_float32(Z)
        G = at_least_float32(G)
        if Z.shape[1] != self.basis.n_channels:
            raise ValueError(
                f"expected the layer {self.layer_name!r} to have the basis's {self.basis.n_channels} channels, but it "
                f"gives {Z.shape[1]}"
            )
        self.basis.scheme.check(Z.shape[2], Z.shape[3], repr(self.layer_name))
        if columns is None:
            return Z, G
        unpadded = column_mask(Z, checked_columns(columns, Z))
        return Z.where(unpadded, 0.0), G.where(unpadded, 0.0)
