"""APEX as a Captum attribution class whose maps have the shape of the input."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from captum._utils.typing import TargetType
from captum.attr import GradientAttribution
from captum.log import log_usage
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from captum_apex.attribution.arguments import Inputs, detached_inputs, forward_arguments, map_dtype, single_input
from captum_apex.attribution.decomposition import N_CHANNELS, Decomposition
from captum_apex.attribution.described import Described
from captum_apex.attribution.evidence_score import EvidenceScore, InnerScore
from captum_apex.attribution.layer_apex import Channels, LayerAPEX
from captum_apex.attribution.layer_graph import no_checkpointing
from captum_apex.attribution.projection import enlarged, enlarged_alone
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.layers.changes import recording, restored
from captum_apex.layers.hooks import Capture, captured, held
from captum_apex.layers.layout import input_axes
from captum_apex.layers.models import layer_name, on_one_device
from captum_apex.layers.padding import Columns

__all__ = ["APEX"]

Projection = type[GradientAttribution] | Callable[..., Tensor]
"""A Captum attribution class, or a function `(score, inputs, additional_forward_args) -> Tensor`."""


class APEX(Described, GradientAttribution):
    r"""Contributions of prototype channels at the input; `LayerAPEX` gives them at the layer.

    Args:
        forward_func: the classifier.
        layer: the module that the basis was fitted on.
        basis: the basis, usually from `fit_basis`.
        device_ids: devices, as in `LayerAPEX`.
        projection: method that brings the evidence to the input. None enlarges the map of the layer linearly and keeps
            its total. A Captum class, such as `IntegratedGradients`, attributes the evidence score to the input with
            its default settings. A function `(score, inputs, additional_forward_args) -> Tensor` does so with other
            settings, such as a baseline. Captum's methods that change the model while they run (LRP, DeepLift, guided
            backpropagation, deconvolution) can explain a model in one thread at a time only.
        input_layout: axes of the inputs, `n` clip, `c` channel, `f` frequency, `t` time. The default is `"n c f t"` for
            four axes and `"n t"` for two. For three axes it is `"n c t"` where the layer has one frequency row or the
            input has one channel; otherwise the layout must be given.
        columns: function from lengths to columns for batches of padded clips, as in `LayerAPEX`.
        input_layer: a module of the model, such as a spectrogram that the model computes from waveforms. The maps then
            have the shape of the output of this module, and `input_layout` names the axes of that output. The gradient
            is taken from there on, also where the model runs this module under `torch.no_grad()`. For padded clips this
            needs a `projection`.

    Raises:
        TypeError: `projection` cannot be called; `input_layout` is no string; or an argument has the wrong type, as in
            `LayerAPEX`.
        ValueError: `columns` and `input_layer` are given without a `projection`; `input_layout` cannot be read; or an
            argument does not fit the model, as in `LayerAPEX`.

    Example:
        >>> import torch
        >>> from captum.attr import InputXGradient
        >>> from torch import nn
        >>> from captum_apex import APEX, PrototypeBasis
        >>> layer = nn.ReLU()
        >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())  # one class for each channel
        >>> basis = PrototypeBasis(torch.eye(2), "time")
        >>> inputs = torch.tensor([[[[0.0, 2.0]], [[1.0, 3.0]]]])  # (clip, channel, frequency, time)
        >>> APEX(model, layer, basis).attribute(inputs, target=0)  # enlarged, the same for all channels of an input
        tensor([[[[0.0000, 0.5000]],
        <BLANKLINE>
                 [[0.0000, 0.5000]]]])
        >>> APEX(model, layer, basis, projection=InputXGradient).attribute(inputs, target=0)
        tensor([[[[0., 1.]],
        <BLANKLINE>
                 [[0., 0.]]]])
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
        if input_layout is not None:
            input_axes(input_layout)
        self.layer_apex = LayerAPEX(forward_func, layer, basis, device_ids, columns)
        self.projection = projection
        self.input_layout = input_layout
        self.input_layer = input_layer
        self.input_layer_name = "" if input_layer is None else layer_name(forward_func, input_layer)
        if columns is not None and input_layer is not None and projection is None:
            raise ValueError(
                "expected a `projection` where clips are padded, because their lengths do not say how much of what "
                f"{self.input_layer_name!r} gives is theirs, but got None; pass a Captum class, such as "
                "IntegratedGradients"
            )

    @property
    def basis(self) -> PrototypeBasis:  # type: ignore[override]
        """The fitted basis."""
        return self.layer_apex.basis

    @property
    def layer_name(self) -> str:  # type: ignore[override]
        """Name of the explained layer in the model."""
        return self.layer_apex.layer_name

    def _settings(self) -> list[tuple[str, str]]:
        name = "enlarged linearly" if self.projection is None else getattr(self.projection, "__name__", "a function")
        settings = [("at the input", name)]
        if self.input_layout is not None:
            settings.append(("input layout", str(self.input_layout)))
        if self.input_layer_name:
            settings.append(("at the output of", self.input_layer_name))
        return settings

    @property
    def layer(self) -> nn.Module:
        """The explained layer."""
        return self.layer_apex.layer

    @property
    def evidence_score(self) -> EvidenceScore:
        """The scalar function `h(x) = Σ w ⊙ φ(x)` for any input attribution method; `evidence_weights` gives `w`."""
        return self._score(self.basis.origin.at_input)

    @log_usage()
    @restored
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
    ) -> Inputs | tuple[Inputs, Tensor]:
        """The relevance of the evidence at the input.

        Args:
            inputs: inputs of the model, one tensor or a tuple of one tensor; the first axis is the clip.
            target: index of the class to explain, as in `LayerAPEX.attribute`.
            additional_forward_args: further arguments of the model.
            attribute_to_layer_input: whether to explain the input of the layer, as in `LayerAPEX.attribute`.
            n_channels: largest number of channels in the evidence, `N_CHANNELS` (5) by default; None takes every
                channel.
            sides: `"positive"` or `"both"`, as in `LayerAPEX.attribute`.
            return_convergence_delta: whether to return also the convergence delta of the evidence at the layer, as in
                `LayerAPEX.attribute`; it does not depend on the projection.
            channels: the channels to explain instead of the evidence, as in `LayerAPEX.attribute`.

        Returns:
            Tensor of the shape of the input, or of the output of `input_layer`; a tuple of one tensor where the inputs
            are a tuple. With `return_convergence_delta`, a tuple of this and the deltas, (clip,).

        Raises:
            AssertionError: Captum refuses the target.
            IndexError: the target is out of range.
            TypeError: an argument has the wrong type, as in `LayerAPEX.attribute`.
            ValueError: there are several input tensors, all but the first of which belong in `additional_forward_args`;
                the `input_layout` is needed or does not fit; or an argument is out of range, as in
                `LayerAPEX.attribute`.
        """
        only = single_input(inputs)
        at_layer = self.layer_apex
        with self._mapped_tensor(only) as mapped:
            decomposition = at_layer.decompose(only, target, additional_forward_args, attribute_to_layer_input)
        selected = at_layer.selected_channels(decomposition, n_channels, sides, channels)
        if self.projection is None:
            attributions = self._enlarged(decomposition, selected, mapped.value, additional_forward_args)
        else:
            arguments = (at_layer.weights(decomposition, selected), *forward_arguments(additional_forward_args))
            at_input = at_layer.reads_input(attribute_to_layer_input)
            attributions = self._projected(mapped.value, only, arguments, at_input)
        attributions = attributions.detach().to(map_dtype(only, attributions)).contiguous()
        formatted = (attributions,) if isinstance(inputs, tuple) else attributions
        if not return_convergence_delta:
            return formatted
        without_layer = at_layer.score_without_layer(
            only, decomposition.target, additional_forward_args, attribute_to_layer_input
        )
        contribution = (decomposition.contributions * selected).sum(1)
        return formatted, contribution - (decomposition.score - without_layer)

    def _mapped_tensor(self, inputs: Tensor) -> AbstractContextManager[Capture]:
        """The tensor that gets the map: the inputs, or the output of `input_layer` in the forward pass inside."""
        if self.input_layer is not None:
            return captured(self.input_layer, self.input_layer_name, prepare=_detached_copy)
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
        n_channels: int | None = N_CHANNELS,
        sides: str = "positive",
        channels: Channels | None = None,
    ) -> Tensor:
        """The weights for which `evidence_score` is the contribution of the evidence, `Σ w ⊙ φ(x) = Σ_{k in E} c_k`.

        Args:
            inputs: inputs of the model, one tensor or a tuple of one tensor; the first axis is the clip.
            target: index of the class to explain, as in `attribute`.
            additional_forward_args: further arguments of the model.
            n_channels: largest number of channels in the evidence, as in `attribute`.
            sides: `"positive"` or `"both"`, as in `attribute`.
            channels: the channels to take instead of the evidence; one int gives the score of one prototype channel.

        Returns:
            Tensor (clip, channel, frequency, time), the first of the `additional_forward_args` of `evidence_score`.
        """
        decomposition = self.layer_apex.decompose(single_input(inputs), target, additional_forward_args)
        selected = self.layer_apex.selected_channels(decomposition, n_channels, sides, channels)
        return self.layer_apex.weights(decomposition, selected)

    def _score(self, at_input: bool) -> EvidenceScore:
        at_layer = self.layer_apex
        layout = self.basis.origin.layout
        return EvidenceScore(self.forward_func, self.layer, layout, at_input, at_layer.norm, at_layer.columns)

    def _enlarged(
        self, decomposition: Decomposition, selected: Tensor, mapped: Tensor, additional_forward_args: Any
    ) -> Tensor:
        """The map of the selected channels, laid out by the scheme and enlarged to the shape of a tensor."""
        relevance = (decomposition.relevance * selected[:, :, None, None]).sum(1)  # (clip, frequency, time)
        columns = decomposition.columns
        relevance = self.basis.scheme.spread(relevance, columns)
        if columns is None:
            return enlarged(relevance, mapped, self.input_layout, self.basis.origin.places)
        lengths = forward_arguments(additional_forward_args)[0].tolist()
        places = self.basis.origin.places
        return enlarged_alone(relevance, mapped, self.input_layout, columns.tolist(), lengths, places)

    @restored
    def _projected(self, mapped: Tensor, inputs: Tensor, arguments: tuple, at_input: bool) -> Tensor:
        """The evidence score, attributed to the inputs or to the output of `input_layer` for them."""
        project = self.projection
        assert project is not None
        score = self._score(at_input)
        function: nn.Module = score
        # Held also on the way back, where checkpointed modules run again.
        with recording(), held(self.forward_func, self.layer):
            mapped = mapped.detach().clone()
            arguments = forward_arguments(arguments)
            if self.input_layer is not None:
                function = InnerScore(score, self.input_layer, self.input_layer_name)
                arguments = (*detached_inputs(inputs), *arguments)
            try:
                if isinstance(project, type):
                    mapped.requires_grad_()  # Captum would do it, with a warning
                    return project(function).attribute(mapped, additional_forward_args=arguments)
                return project(function, mapped, arguments)
            except CheckpointError as error:
                raise ValueError(no_checkpointing(error)) from error


def _detached_copy(output: Tensor) -> Tensor:
    """The values of a module's output, which later modules cannot change in place."""
    return output.detach().clone()
