"""APEX as a Captum attribution class at the layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from captum._utils.common import _run_forward, _select_targets
from captum._utils.typing import TargetType
from captum.attr import GradientAttribution, LayerAttribution
from captum.log import log_usage
from torch import Tensor, nn

from captum_apex.attribution.arguments import Inputs, arguments_of, check_inputs, detached, first_of, map_dtype
from captum_apex.attribution.decomposition import Decomposition, select_channels
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.layers.hooks import captured, frozen, watched
from captum_apex.layers.models import fingerprint, layer_name, on_one_device
from captum_apex.layers.normalisation import ConstantVariance
from captum_apex.layers.padding import Columns, checked_columns, column_mask
from captum_apex.layers.values import at_least_float32

__all__ = ["Channels", "LayerAPEX"]

Channels = int | Sequence[int]


class LayerAPEX(LayerAttribution, GradientAttribution):
    r"""Contributions of prototype channels at a layer, laid out by the basis's scheme.

    Stands beside `captum.attr.LayerGradCam` and is called like it. The model is held in evaluation mode during a call and left
    as it was; only the part after the layer keeps a graph. Normalisations after the layer use their variance as a constant
    while the gradient is taken (`captum_apex.layers.normalisation`).

    Args:
        forward_func: the classifier.
        layer: the module that the basis was fitted on.
        basis: from `fit_basis`.
        device_ids: as in Captum; kept for its contract. A data-parallel model is explained on its first device alone.
        columns: for batches of padded clips, from the clips' lengths to how many columns of the layer's grid are their own, as
            `FeatureBank.from_dataset` takes it. The lengths, int64 (clip,), are then the first of the `additional_forward_args`, which the
            model gets: it must not hear the padding.

    Raises:
        ValueError: for a layer that is not part of the model, a basis of another width (when called), or one that was
            fitted on other weights.

    Source: contributions follow EPIC (arXiv 2505.12897), generalised from pooling + linear heads by the gradient at the layer.

    >>> from captum_apex import PrototypeBasis
    >>> layer = nn.Conv2d(1, 2, 3)
    >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 4))
    >>> apex = LayerAPEX(model, layer, PrototypeBasis(torch.eye(2), "time"))
    >>> apex.attribute(torch.randn(5, 1, 8, 10), target=3).shape
    torch.Size([5, 1, 6, 8])
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
        self._kept: tuple[PrototypeBasis, Tensor, Tensor] | None = None
        fitted_on, weights = basis.origin.fingerprint, fingerprint(forward_func)
        if fitted_on and weights and fitted_on != weights:
            raise ValueError(
                f"expected the model that the basis was fitted on (layer {basis.origin.layer!r}), but its weights differ; "
                "fit the basis again on this model"
            )

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        target: TargetType = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        n_channels: int | None = 5,
        sides: str = "positive",
        return_convergence_delta: bool = False,
        channels: Channels | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """The evidence's relevance on the layer's grid.

        Args:
            inputs: as the model takes them, one tensor or a tuple.
            target: output index, in every form that Captum takes.
            additional_forward_args: passed on to the model.
            attribute_to_layer_input: explain what goes into the layer; a basis that was fitted there is always used there.
            n_channels: size of the evidence; None for every channel: the map is then complete and equal for every invertible `U`.
            sides: `"positive"`, or `"both"` to count channels from their negative side as well.
            return_convergence_delta: also return the map's total minus `f_y(Z) − f_y(Z := 0)`; costs a second pass.
            channels: explain these channels instead of the evidence; one int gives the map of one prototype channel.

        Returns:
            Tensor (clip, 1, frequency, time); with `return_convergence_delta` also the deltas, (clip,).

        Raises:
            AssertionError, IndexError: for a target that Captum refuses.
            ValueError: where the layer does not fit, naming it.
        """
        parts = self.decompose(inputs, target, additional_forward_args, attribute_to_layer_input)
        chosen = self.evidence(parts, n_channels, sides, channels)
        relevance = (parts.relevance * chosen[:, :, None, None]).sum(
            1
        )  # (clip, channel, frequency, time) → (clip, frequency, time)
        attributions = (
            self.basis.scheme.spread(relevance, parts.columns)[:, None]
            .to(map_dtype(first_of(inputs), relevance))
            .contiguous()
        )
        if not return_convergence_delta:
            return attributions
        silent = self.score_without_layer(inputs, parts.target, additional_forward_args, attribute_to_layer_input)
        return attributions, relevance.sum((1, 2)) - (parts.score - silent)

    def has_convergence_delta(self) -> bool:
        """True: `attribute(..., return_convergence_delta=True)` gives one value per clip."""
        return True

    @property
    def multiplies_by_inputs(self) -> bool:
        """True: relevance is gradient × feature."""
        return True

    def decompose(
        self,
        inputs: Inputs,
        target: TargetType = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        predicted: bool = False,
    ) -> Decomposition:
        """One forward pass and the gradient from the output back to the layer, in the channels of the basis.

        Args:
            inputs: as in `attribute`.
            target: as in `attribute`.
            additional_forward_args: as in `attribute`.
            attribute_to_layer_input: as in `attribute`.
            predicted: where no target is given, take each clip's predicted class.
        """
        leaf, output = self._forward(inputs, additional_forward_args, attribute_to_layer_input)
        if target is None and predicted and output.dim() == 2 and output.shape[1] > 1:
            target = output.argmax(1)
        return self._taken_apart(leaf, output, target, self._own_columns(additional_forward_args))

    def decompose_each(
        self,
        inputs: Inputs,
        targets: Callable[[Tensor], Iterable[TargetType]],
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
    ) -> Iterator[Decomposition]:
        """Several targets of the same clips: the model runs once, and only the part after the layer is gone back through for each.

        Args:
            inputs: as in `attribute`.
            targets: from the model's whole output to the targets, each in a form that `attribute` takes.
            additional_forward_args: as in `attribute`.
            attribute_to_layer_input: as in `attribute`.
        """
        leaf, output = self._forward(inputs, additional_forward_args, attribute_to_layer_input)
        for target in targets(output.detach()):
            yield self._taken_apart(leaf, output, target, self._own_columns(additional_forward_args), again=True)

    def _forward(
        self, inputs: Inputs, additional_forward_args: Any, attribute_to_layer_input: bool
    ) -> tuple[Tensor, Tensor]:
        """What the layer gave, as a leaf, and the model's output, with the graph between the two."""
        check_inputs(inputs)

        def leaf(features: Tensor) -> Tensor:
            torch.set_grad_enabled(True)  # also where the model itself runs this part under no_grad
            return features.detach().clone().requires_grad_()

        at_input = self.reads_input(attribute_to_layer_input)
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            frozen(self.forward_func, self.layer),
            ConstantVariance(),
            captured(self.layer, self.layer_name, at_input=at_input, prepare=leaf) as capture,
        ):
            output = _run_forward(self.forward_func, detached(inputs), None, arguments_of(additional_forward_args))
        return capture.value, output

    def _own_columns(self, additional_forward_args: Any) -> Tensor | None:
        """How many columns are each clip's own, where clips are padded."""
        if self.columns is None:
            return None
        arguments = arguments_of(additional_forward_args)
        if not arguments or not isinstance(arguments[0], Tensor):
            raise ValueError(
                "expected the clips' lengths as the first of `additional_forward_args`, because clips are padded, but got none"
            )
        return self.columns(arguments[0])

    def _taken_apart(
        self, leaf: Tensor, output: Tensor, target: TargetType, columns: Tensor | None, again: bool = False
    ) -> Decomposition:
        """The gradient of one target's score at the layer, in the channels of the basis; `again` keeps the graph for another one."""
        # Frozen, because checkpointed parts run again on the way back.
        with torch.inference_mode(False), torch.enable_grad(), frozen(self.forward_func, self.layer):
            score = _select_targets(output, target)
            assert score[0].numel() == 1, (
                "Target not provided when necessary, cannot take gradient with respect to multiple outputs."
            )
            gradient = self._gradient(score, leaf, again)
        Z, G = self._grids(leaf.detach(), gradient, columns)
        return self._in_basis(Z, G, output.detach(), target, score.detach().reshape(len(score)), columns)

    def evidence(
        self,
        parts: Decomposition,
        n_channels: int | None = 5,
        sides: str = "positive",
        channels: Channels | None = None,
    ) -> Tensor:
        """The channels that make up an explanation, bool (clip, channel): the evidence, or the `channels` named."""
        if channels is None:
            return select_channels(parts.contributions, parts.activations, n_channels, sides)
        wanted = torch.tensor([channels] if isinstance(channels, int) else list(channels), dtype=torch.int64)
        width = self.basis.n_channels
        if not len(wanted) or wanted.min() < 0 or wanted.max() >= width:
            raise ValueError(
                f"expected `channels` among the basis's {width} channels, 0 to {width - 1}, but got {channels}"
            )
        mask = torch.zeros(width, dtype=torch.bool)
        mask[wanted] = True
        return mask.to(parts.score.device).expand(len(parts.score), -1)

    def score_without_layer(
        self,
        inputs: Inputs,
        target: TargetType = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
    ) -> Tensor:
        """`f_y(Z := 0)`: the score when the layer gives zeros, (clip,). One forward pass."""
        score = _select_targets(
            self.output_without_layer(inputs, additional_forward_args, attribute_to_layer_input), target
        )
        return score.reshape(len(score))

    def output_without_layer(
        self, inputs: Inputs, additional_forward_args: Any = None, attribute_to_layer_input: bool = False
    ) -> Tensor:
        """`f(Z := 0)`: the model's whole output when the layer gives zeros, (clip, class) as a rule. One forward pass."""
        silence = watched(
            self.layer, self.layer_name, torch.zeros_like, at_input=self.reads_input(attribute_to_layer_input)
        )
        with torch.no_grad(), frozen(self.forward_func, self.layer), silence:
            return _run_forward(self.forward_func, detached(inputs), None, arguments_of(additional_forward_args))

    def reads_input(self, attribute_to_layer_input: bool) -> bool:
        """Whether the layer's input is explained: because it is asked for, or because the basis was fitted there."""
        return attribute_to_layer_input or self.basis.origin.at_input

    def weights(self, parts: Decomposition, chosen: Tensor) -> Tensor:
        """`w = Uᵀ 1_E U⁻ᵀ G`: what a sum with the raw features must weigh so that it is the chosen channels' contribution.

        Args:
            parts: from `decompose`.
            chosen: bool (clip, channel).

        Returns:
            Tensor (clip, channel, frequency, time) in the raw channels.
        """
        U, inverse = self._matrices(parts.gradient)
        with torch.autocast(parts.gradient.device.type, enabled=False):
            in_basis = torch.einsum("ck,ncft->nkft", inverse, parts.gradient)
            return torch.einsum("kc,nkft->ncft", U, in_basis * chosen[:, :, None, None])

    def _matrices(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """`U` and its inverse, kept where and as they were last asked for: between calls nothing is copied to a GPU again."""
        kept = self._kept
        if kept is None or kept[0] is not self.basis or kept[1].dtype != like.dtype or kept[1].device != like.device:
            self._kept = kept = (self.basis, self.basis.U.to(like), self.basis.inverse.to(like))
        return kept[1:]

    def _gradient(self, score: Tensor, leaf: Tensor, again: bool) -> Tensor:
        gradient = (
            torch.autograd.grad(score.sum(), leaf, allow_unused=True, retain_graph=again)[0]
            if score.requires_grad
            else None
        )
        if gradient is None:
            raise ValueError(
                f"expected the output to depend on the layer {self.layer_name!r}, but no gradient reaches it"
            )
        return gradient

    def _grids(self, output_of_layer: Tensor, gradient: Tensor, columns: Tensor | None) -> tuple[Tensor, Tensor]:
        """`Z` and `G`, (clip, channel, frequency, time), zero where a clip is padded."""
        layout = self.basis.origin.layout
        Z, G = (at_least_float32(layout.grid(tensor, repr(self.layer_name))) for tensor in (output_of_layer, gradient))
        if Z.shape[1] != self.basis.n_channels:
            raise ValueError(
                f"expected the layer {self.layer_name!r} to have the basis's {self.basis.n_channels} channels, but it gives {Z.shape[1]}"
            )
        self.basis.scheme.check(Z.shape[2], Z.shape[3], repr(self.layer_name))
        if columns is None:
            return Z, G
        own = column_mask(Z, checked_columns(columns, Z))
        return Z.where(own, 0.0), G.where(own, 0.0)

    def _in_basis(
        self, Z: Tensor, G: Tensor, output: Tensor, target: TargetType, score: Tensor, columns: Tensor | None
    ) -> Decomposition:
        U, inverse = self._matrices(Z)
        with torch.autocast(Z.device.type, enabled=False):  # mixed precision is the model's affair
            features = torch.einsum("kc,ncft->nkft", U, Z)
            relevance = torch.einsum("ck,ncft->nkft", inverse, G).mul_(features)  # Ĝ = U⁻ᵀ G
        return Decomposition(
            features, relevance, G, output, target, score, None if columns is None else columns.to(Z.device)
        )
