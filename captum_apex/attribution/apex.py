"""APEX as a Captum attribution class at the input."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from captum._utils.typing import TargetType
from captum.attr import GradientAttribution
from captum.log import log_usage
from torch import Tensor, nn

from captum_apex.attribution.arguments import Inputs, arguments_of, detached, map_dtype, only_one
from captum_apex.attribution.evidence_score import EvidenceScore, InnerScore
from captum_apex.attribution.layer_apex import Channels, LayerAPEX
from captum_apex.attribution.projection import enlarged, enlarged_alone
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.layers.hooks import Capture, captured
from captum_apex.layers.models import layer_name, on_one_device
from captum_apex.layers.padding import Columns

__all__ = ["APEX"]

Projection = type[GradientAttribution] | Callable[..., Tensor]


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
        input_layer: a module of the model, such as a spectrogram that it makes of waveforms: maps are then of what this gives, not of the
            inputs, and so is `input_layout`. For padded clips it needs a `projection`.

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
        input_layer: nn.Module | None = None,
    ) -> None:
        GradientAttribution.__init__(self, on_one_device(forward_func))
        if projection is not None and not callable(projection):
            raise TypeError(
                f"expected `projection` to be a Captum class or a function, but got {type(projection).__name__}"
            )
        self.layer_apex = LayerAPEX(forward_func, layer, basis, device_ids, columns)
        self.projection = projection
        self.input_layout = input_layout
        self.input_layer = input_layer
        self.input_layer_name = "" if input_layer is None else layer_name(forward_func, input_layer)
        if columns is not None and input_layer is not None and projection is None:
            raise ValueError(
                "expected a `projection` where clips are padded, because their lengths do not say how much of what "
                f"{self.input_layer_name!r} gives is theirs, but got None; pass a Captum class, such as IntegratedGradients"
            )

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
            A tensor of the input's shape (or of what `input_layer` gives), or a tuple of one where a tuple came; with
            `return_convergence_delta` also the deltas, (clip,).

        Raises:
            ValueError: for more than one input tensor; pass the others as `additional_forward_args`.
        """
        only = only_one(inputs)
        at_layer = self.layer_apex
        with self._mapped_inputs(only) as mapped:
            parts = at_layer.decompose(only, target, additional_forward_args, attribute_to_layer_input)
        chosen = at_layer.evidence(parts, n_channels, sides, channels)
        if self.projection is None:
            relevance = at_layer.basis.scheme.spread((parts.relevance * chosen[:, :, None, None]).sum(1), parts.columns)
            attributions = self._enlarged(relevance, mapped.value, parts.columns, additional_forward_args)
        else:
            weights, at_input = at_layer.weights(parts, chosen), at_layer.reads_input(attribute_to_layer_input)
            attributions = self._projected(
                mapped.value, only, (weights, *arguments_of(additional_forward_args)), at_input
            )
        attributions = attributions.detach().to(map_dtype(only, attributions)).contiguous()
        formatted = (attributions,) if isinstance(inputs, tuple) else attributions
        if not return_convergence_delta:
            return formatted
        silent = at_layer.score_without_layer(only, parts.target, additional_forward_args, attribute_to_layer_input)
        evidence = (parts.contributions * chosen).sum(1)
        return formatted, evidence - (parts.score - silent)

    def _mapped_inputs(self, inputs: Tensor) -> AbstractContextManager[Capture]:
        """What the map is a map of: the inputs themselves, or what `input_layer` gives in the forward pass inside."""
        if self.input_layer is not None:
            return captured(self.input_layer, self.input_layer_name, prepare=Tensor.detach)
        capture = Capture()
        capture.value = inputs
        return nullcontext(capture)

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
        parts = self.layer_apex.decompose(only_one(inputs), target, additional_forward_args)
        return self.layer_apex.weights(parts, self.layer_apex.evidence(parts, n_channels, sides, channels))

    def _score(self, at_input: bool) -> EvidenceScore:
        return EvidenceScore(self.forward_func, self.layer, self.basis.origin.layout, at_input)

    def _enlarged(
        self, relevance: Tensor, inputs: Tensor, columns: Tensor | None, additional_forward_args: Any
    ) -> Tensor:
        if columns is None:
            return enlarged(relevance, inputs, self.input_layout)
        lengths = arguments_of(additional_forward_args)[0]
        return enlarged_alone(relevance, inputs, self.input_layout, columns.tolist(), lengths.tolist())

    def _projected(self, mapped: Tensor, inputs: Tensor, arguments: tuple, at_input: bool) -> Tensor:
        """The evidence score attributed to the inputs, or to what the model makes of them at `input_layer`."""
        project, score = self.projection, self._score(at_input)
        with torch.inference_mode(False):
            mapped, arguments = mapped.detach().clone(), arguments_of(arguments)
            function: nn.Module = score
            if self.input_layer is not None:
                function, arguments = (
                    InnerScore(score, self.input_layer, self.input_layer_name),
                    (*detached(inputs), *arguments),
                )
            if isinstance(project, type):
                # Captum warns where it has to ask for gradients itself
                return project(function).attribute(mapped.requires_grad_(), additional_forward_args=arguments)
            return project(function, mapped, arguments)  # type: ignore[misc]  # not None here
