"""APEX as Captum attribution classes: at the layer, and at the input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from captum._utils.common import _format_additional_forward_args, _run_forward, _select_targets
from captum._utils.typing import TargetType
from captum.attr import GradientAttribution, LayerAttribution
from captum.log import log_usage
from torch import Tensor, nn

from captum_apex.basis import PrototypeBasis
from captum_apex.evidence import Decomposition, EvidenceScore, evidence_mask
from captum_apex.layers import (
    Columns,
    at_least_float32,
    check_finite,
    checked_columns,
    fingerprint,
    frozen,
    layer_name,
    on_one_device,
    watched,
)
from captum_apex.normalisation import ConstantVariance
from captum_apex.projection import enlarged, enlarged_alone
from captum_apex.schemes import own_columns

__all__ = ["APEX", "LayerAPEX"]

Inputs = Tensor | tuple[Tensor, ...]
Channels = int | Sequence[int]
Projection = type[GradientAttribution] | Callable[..., Tensor]


class LayerAPEX(LayerAttribution, GradientAttribution):
    r"""Contributions of prototype channels at a layer, laid out by the basis's scheme.

    Stands beside `captum.attr.LayerGradCam` and is called like it. The model is held in evaluation mode during a call and left
    as it was; only the part after the layer keeps a graph. Normalisations after the layer use their variance as a constant
    while the gradient is taken (`captum_apex.normalisation`).

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
        relevance = (parts.relevance * chosen[:, :, None, None]).sum(1)  # (clip, channel, frequency, time) → (clip, frequency, time)
        attributions = self.basis.scheme.spread(relevance, parts.columns)[:, None].to(_map_dtype(_first(inputs), relevance)).contiguous()
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

    def _forward(self, inputs: Inputs, additional_forward_args: Any, attribute_to_layer_input: bool) -> tuple[Tensor, Tensor]:
        """What the layer gave, as a leaf, and the model's output, with the graph between the two."""
        _check_inputs(inputs)
        leaves: list[Tensor] = []

        def take(features: Tensor) -> Tensor:
            torch.set_grad_enabled(True)  # also where the model itself runs this part under no_grad
            leaves.append(features.detach().clone().requires_grad_())
            return leaves[0].clone()  # what follows may work in place

        watch = watched(self.layer, self.layer_name, take, at_input=self.reads_input(attribute_to_layer_input))
        with torch.inference_mode(False), torch.enable_grad(), frozen(self.forward_func, self.layer), ConstantVariance(), watch:
            output = _run_forward(self.forward_func, _detached(inputs), None, _arguments(additional_forward_args))
        return leaves[0], output

    def _own_columns(self, additional_forward_args: Any) -> Tensor | None:
        """How many columns are each clip's own, where clips are padded."""
        if self.columns is None:
            return None
        arguments = _arguments(additional_forward_args)
        if not arguments or not isinstance(arguments[0], Tensor):
            raise ValueError(
                "expected the clips' lengths as the first of `additional_forward_args`, because clips are padded, but got none"
            )
        return self.columns(arguments[0])

    def _taken_apart(self, leaf: Tensor, output: Tensor, target: TargetType, columns: Tensor | None, again: bool = False) -> Decomposition:
        """The gradient of one target's score at the layer, in the channels of the basis; `again` keeps the graph for another one."""
        with torch.inference_mode(False), torch.enable_grad():
            score = _select_targets(output, target)
            assert score[0].numel() == 1, "Target not provided when necessary, cannot take gradient with respect to multiple outputs."
            gradient = self._gradient(score, leaf, again)
        Z, G = self._grids(leaf.detach(), gradient, columns)
        return self._in_basis(Z, G, output.detach(), target, score.detach().reshape(len(score)), columns)

    def evidence(
        self, parts: Decomposition, n_channels: int | None = 5, sides: str = "positive", channels: Channels | None = None
    ) -> Tensor:
        """The channels that make up an explanation, bool (clip, channel): the evidence, or the `channels` named."""
        if channels is None:
            return evidence_mask(parts.contributions, parts.activations, n_channels, sides)
        wanted = torch.tensor([channels] if isinstance(channels, int) else list(channels), dtype=torch.int64)
        width = self.basis.n_channels
        if not len(wanted) or wanted.min() < 0 or wanted.max() >= width:
            raise ValueError(f"expected `channels` among the basis's {width} channels, 0 to {width - 1}, but got {channels}")
        mask = torch.zeros(width, dtype=torch.bool)
        mask[wanted] = True
        return mask.to(parts.score.device).expand(len(parts.score), -1)

    def score_without_layer(
        self, inputs: Inputs, target: TargetType = None, additional_forward_args: Any = None, attribute_to_layer_input: bool = False
    ) -> Tensor:
        """`f_y(Z := 0)`: the score when the layer gives zeros, (clip,). One forward pass."""
        score = _select_targets(self.output_without_layer(inputs, additional_forward_args, attribute_to_layer_input), target)
        return score.reshape(len(score))

    def output_without_layer(self, inputs: Inputs, additional_forward_args: Any = None, attribute_to_layer_input: bool = False) -> Tensor:
        """`f(Z := 0)`: the model's whole output when the layer gives zeros, (clip, class) as a rule. One forward pass."""
        silence = watched(self.layer, self.layer_name, torch.zeros_like, at_input=self.reads_input(attribute_to_layer_input))
        with torch.no_grad(), frozen(self.forward_func, self.layer), silence:
            return _run_forward(self.forward_func, _detached(inputs), None, _arguments(additional_forward_args))

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
        return self.basis.U.to(like), self.basis.inverse.to(like)

    def _gradient(self, score: Tensor, leaf: Tensor, again: bool) -> Tensor:
        gradient = torch.autograd.grad(score.sum(), leaf, allow_unused=True, retain_graph=again)[0] if score.requires_grad else None
        if gradient is None:
            raise ValueError(f"expected the output to depend on the layer {self.layer_name!r}, but no gradient reaches it")
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
        own = own_columns(Z, checked_columns(columns, Z))
        return Z.where(own, 0.0), G.where(own, 0.0)

    def _in_basis(self, Z: Tensor, G: Tensor, output: Tensor, target: TargetType, score: Tensor, columns: Tensor | None) -> Decomposition:
        U, inverse = self._matrices(Z)
        with torch.autocast(Z.device.type, enabled=False):  # mixed precision is the model's affair
            features = torch.einsum("kc,ncft->nkft", U, Z)
            relevance = torch.einsum("ck,ncft->nkft", inverse, G).mul_(features)  # Ĝ = U⁻ᵀ G
        return Decomposition(features, relevance, G, output, target, score, None if columns is None else columns.to(Z.device))


class APEX(GradientAttribution):
    r"""Contributions of prototype channels at the input, as `captum.attr.GuidedGradCam` stands to `LayerGradCam`.

    Args:
        forward_func: the classifier.
        layer: the module that the basis was fitted on.
        basis: from `fit_basis`.
        device_ids: as in Captum.
        projection: how the evidence reaches the input. None enlarges the layer's map (linearly, its total kept). A Captum class, such
            as `IntegratedGradients`, attributes the evidence score; a function `(score, inputs, additional_forward_args) -> Tensor`
            does so with settings of its own, such as a baseline.
        input_layout: the axes of the inputs, `n` clip, `c` channel, `f` frequency, `t` time. Needed where three axes could mean
            several things; by default `"n c f t"`, `"n t"`, and `"n c t"` where the layer has one frequency row.
        columns: as in `LayerAPEX`.

    Raises:
        ValueError: as `LayerAPEX`.

    >>> from captum.attr import IntegratedGradients
    >>> from captum_apex import PrototypeBasis
    >>> layer = nn.Conv2d(1, 2, 3)
    >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 4))
    >>> apex = APEX(model, layer, PrototypeBasis(torch.eye(2), "square"), projection=IntegratedGradients)
    >>> apex.attribute(torch.randn(5, 1, 8, 10), target=3).shape
    torch.Size([5, 1, 8, 10])
    """

    def __init__(
        self,
        forward_func: Callable,
        layer: nn.Module,
        basis: PrototypeBasis,
        device_ids: list[int] | None = None,
        projection: Projection | None = None,
        input_layout: str | None = None,
        columns: Columns | None = None,
    ) -> None:
        GradientAttribution.__init__(self, on_one_device(forward_func))
        if projection is not None and not callable(projection):
            raise TypeError(f"expected `projection` to be a Captum class or a function, but got {type(projection).__name__}")
        self.layer_apex = LayerAPEX(forward_func, layer, basis, device_ids, columns)
        self.projection = projection
        self.input_layout = input_layout

    @property
    def basis(self) -> PrototypeBasis:
        """The fitted basis."""
        return self.layer_apex.basis

    @property
    def layer(self) -> nn.Module:
        """The explained layer."""
        return self.layer_apex.layer

    @property
    def evidence_score(self) -> EvidenceScore:
        """The scalar `h(x) = Σ w ⊙ φ(x)`, to be attributed by any input method; see `evidence_weights`."""
        return self._score(self.basis.origin.at_input)

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
    ) -> Inputs | tuple[Inputs, Tensor]:
        """The evidence's relevance at the input.

        Arguments, errors and the delta are those of `LayerAPEX.attribute`; the delta is that of the evidence at the layer, so it does
        not depend on the projection.

        Args:
            inputs: one tensor, or a tuple of one.
            target: as there.
            additional_forward_args: as there.
            attribute_to_layer_input: as there.
            n_channels: as there.
            sides: as there.
            return_convergence_delta: as there.
            channels: as there.

        Returns:
            A tensor of the input's shape, or a tuple of one where a tuple came; with `return_convergence_delta` also the deltas, (clip,).

        Raises:
            ValueError: for more than one input tensor; pass the others as `additional_forward_args`.
        """
        only = _only(inputs)
        at_layer = self.layer_apex
        parts = at_layer.decompose(only, target, additional_forward_args, attribute_to_layer_input)
        chosen = at_layer.evidence(parts, n_channels, sides, channels)
        if self.projection is None:
            relevance = at_layer.basis.scheme.spread((parts.relevance * chosen[:, :, None, None]).sum(1), parts.columns)
            attributions = self._enlarged(relevance, only, parts.columns, additional_forward_args)
        else:
            weights = at_layer.weights(parts, chosen)
            attributions = self._projected(
                self._score(at_layer.reads_input(attribute_to_layer_input)), only, weights, additional_forward_args
            )
        attributions = attributions.detach().to(_map_dtype(only, attributions)).contiguous()
        formatted = (attributions,) if isinstance(inputs, tuple) else attributions
        if not return_convergence_delta:
            return formatted
        silent = at_layer.score_without_layer(only, parts.target, additional_forward_args, attribute_to_layer_input)
        evidence = (parts.contributions * chosen).sum(1)
        return formatted, evidence - (parts.score - silent)

    def has_convergence_delta(self) -> bool:
        """True: `attribute(..., return_convergence_delta=True)` gives one value per clip."""
        return True

    @property
    def multiplies_by_inputs(self) -> bool:
        """True: relevance is gradient × feature at the layer."""
        return True

    def evidence_weights(
        self,
        inputs: Inputs,
        target: TargetType = None,
        additional_forward_args: Any = None,
        n_channels: int | None = 5,
        sides: str = "positive",
        channels: Channels | None = None,
    ) -> Tensor:
        """The weights that make `evidence_score` the evidence's contribution, `Σ w ⊙ φ(x) = Σ_{k in E} c_k`.

        Args:
            inputs: one tensor, or a tuple of one.
            target: as in `attribute`.
            additional_forward_args: as in `attribute`.
            n_channels: as in `attribute`.
            sides: as in `attribute`.
            channels: as in `attribute`; one int gives the score of one prototype channel.

        Returns:
            Tensor (clip, channel, frequency, time), to be passed as (the first of) `additional_forward_args`.
        """
        parts = self.layer_apex.decompose(_only(inputs), target, additional_forward_args)
        return self.layer_apex.weights(parts, self.layer_apex.evidence(parts, n_channels, sides, channels))

    def _score(self, at_input: bool) -> EvidenceScore:
        return EvidenceScore(self.forward_func, self.layer, self.basis.origin.layout, at_input)

    def _enlarged(self, relevance: Tensor, inputs: Tensor, columns: Tensor | None, additional_forward_args: Any) -> Tensor:
        if columns is None:
            return enlarged(relevance, inputs, self.input_layout)
        lengths = _arguments(additional_forward_args)[0]
        return enlarged_alone(relevance, inputs, self.input_layout, columns.tolist(), lengths.tolist())

    def _projected(self, score: EvidenceScore, inputs: Tensor, weights: Tensor, additional_forward_args: Any) -> Tensor:
        project = self.projection
        with torch.inference_mode(False):
            inputs, arguments = inputs.detach().clone(), _arguments((weights, *_arguments(additional_forward_args)))
            if isinstance(project, type):
                # Captum warns where it has to ask for gradients itself
                return project(score).attribute(inputs.requires_grad_(), additional_forward_args=arguments)
            return project(score, inputs, arguments)  # type: ignore[misc]  # not None here


def _first(inputs: Inputs) -> Tensor:
    return inputs[0] if isinstance(inputs, tuple) else inputs


def _only(inputs: Inputs) -> Tensor:
    if isinstance(inputs, tuple) and len(inputs) != 1:
        raise ValueError(f"expected one input tensor, but got {len(inputs)}; pass the others as `additional_forward_args`")
    only = _first(inputs)
    if not isinstance(only, Tensor):
        raise TypeError(f"expected `inputs` to be a tensor, but got {type(only).__name__}")
    return only


def _detached(inputs: Inputs) -> tuple[Tensor, ...]:
    """Inputs of our own, so that nothing the model does reaches the user's; an inference tensor becomes a normal one."""
    return tuple(tensor.detach().clone() for tensor in (inputs if isinstance(inputs, tuple) else (inputs,)))


def _arguments(additional_forward_args: Any) -> tuple:
    """As a tuple; an inference tensor becomes a normal one, which autograd can save."""
    arguments = _format_additional_forward_args(additional_forward_args) or ()
    return tuple(value.clone() if isinstance(value, Tensor) and value.is_inference() else value for value in arguments)


def _map_dtype(inputs: Tensor, relevance: Tensor) -> torch.dtype:
    """A map has the input's precision; that of integer samples keeps its own."""
    return inputs.dtype if inputs.is_floating_point() else relevance.dtype


def _check_inputs(inputs: Inputs) -> None:
    for tensor in inputs if isinstance(inputs, tuple) else (inputs,):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"expected `inputs` to be a tensor or a tuple of tensors, but got {type(tensor).__name__}")
        if not len(tensor):
            raise ValueError(f"expected `inputs` with at least one clip, but got shape {tuple(tensor.shape)}")
        check_finite(tensor, "the inputs")
