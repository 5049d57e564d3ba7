"""The channels of one clip for altered copies of the clip, by forward passes that end at the layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from captum._utils.common import _run_forward, _select_targets
from captum._utils.typing import TargetType
from torch import Tensor, nn

from captum_apex.attribution.layer_apex import LayerAPEX
from captum_apex.attribution.layer_graph import gradients_at
from captum_apex.layers.changes import recording, restored
from captum_apex.layers.hooks import captured, frozen, replaced
from captum_apex.layers.models import layer_name
from captum_apex.layers.pooled_norm import explained_grid
from captum_apex.layers.values import NotFiniteError, at_least_float32
from captum_apex.locating.bins import Bins

__all__ = ["ChannelValues"]


@dataclass(frozen=True, eq=False)
class ChannelValues:
    """Weighted channels of the basis as functions of the bins of one clip.

    The value of a channel is `Σ w(f, t) · û_k · Z(f, t)`, where `û_k` is a row of `U`. With the weights `Ĝ_k` it is the
    contribution of the channel to a score; with equal weights it is the mean activation.

    Args:
        at_layer: the attribution object, with the model, the layer and the basis.
        bins: the clip.
        directions: rows of `U`, (channel, channel of the layer).
        weights: weights of each channel on the grid, (channel, frequency, time).
        arguments: additional arguments of the model for this clip alone.
        inputs: input of the model for this clip; only used with `input_layer`.
        input_layer: a module of the model that gives the bins; None where the bins are the input of the model.
        batch_size: largest number of copies in a forward pass.
        on_clip: the weighted channels on the grid for the clip itself, (channel, frequency, time), where they are known
            already; None to compute them by one pass.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex import LayerAPEX, PrototypeBasis
        >>> from captum_apex.locating.bins import Bins
        >>> from captum_apex.locating.channel_values import ChannelValues
        >>> layer = nn.ReLU()
        >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> clip = torch.tensor([[[[-1.0, 2.0]]]])  # (clip, channel, frequency, time)
        >>> apex = LayerAPEX(model, layer, PrototypeBasis(torch.eye(1), "time"))
        >>> channels = ChannelValues(apex, Bins.of(clip, "n c f t"), torch.eye(1), torch.ones(1, 1, 2))
        >>> channels.on_clip, channels.of(clip / 2)
        (tensor([[[0., 2.]]]), tensor([[1.]]))
    """

    at_layer: LayerAPEX
    bins: Bins
    directions: Tensor
    weights: Tensor
    arguments: tuple = ()
    inputs: Tensor | None = None
    input_layer: nn.Module | None = None
    batch_size: int = 16
    on_clip: Tensor | None = None

    def __post_init__(self) -> None:
        if self.on_clip is None:
            object.__setattr__(self, "on_clip", self.on_grid(self.bins.values)[0])

    @restored
    @torch.no_grad()
    def on_grid(self, values: Tensor) -> Tensor:
        """The weighted channels on the grid, (copy, channel, frequency, time); their sum is the value of a channel.

        Args:
            values: copies of the clip's bins, (copy, channel, frequency, time).
        """
        return self._checked(
            torch.cat([self._weighted(self._features(batch)) for batch in values.split(self.batch_size)])
        )

    def of(self, values: Tensor) -> Tensor:
        """The value of each channel for copies of the clip's bins, (copy, channel)."""
        return self.on_grid(values).sum((2, 3))

    @restored
    def maps(self, fill: Tensor, positions: Sequence[float]) -> Tensor | None:
        """Maps of the channels at the input: gradient × (clip − fill) at positions from the fill (0) to the clip (1).

        The mean over positions is the map of Integrated Gradients with that many steps.

        Args:
            fill: what replaces the bins, of the shape of the bins' values.
            positions: the positions, in [0, 1].

        Returns:
            float tensor (position, channel, frequency, time); None where no gradient reaches the input.
        """
        difference = self.bins.values - fill
        with recording(), frozen(self.at_layer.forward_func, self.at_layer.layer):
            steps = torch.tensor(positions, device=fill.device).to(fill)[:, None, None, None]
            points = (fill + steps * difference).detach().clone().requires_grad_()
            features = self._features(points)
            if not features.requires_grad:
                return None
            gradients = [
                gradients_at([points], features, weights.expand_as(features), keep_graph=True)[0]
                for weights in self._raw_weights(features)
            ]
        reaching = [gradient for gradient in gradients if gradient is not None]
        if not reaching:
            return None
        return self._checked(torch.stack([at_least_float32(gradient * difference).sum(1) for gradient in reaching], 1))

    @restored
    @torch.no_grad()
    def with_scores(self, values: Tensor, target: TargetType) -> tuple[Tensor, Tensor]:
        """The value of each channel and the score of a class for copies of the clip's bins, by whole forward passes.

        Args:
            values: copies of the clip's bins, (copy, channel, frequency, time).
            target: index of the class, the same for all copies.

        Returns:
            The values (copy, channel) and the scores (copy,).
        """
        of_channels = []
        scores = []
        for batch in values.split(self.batch_size):
            features, output = self._features_and_output(batch, whole=True)
            of_channels.append(self._checked(self._weighted(features)).sum((2, 3)))
            scores.append(_select_targets(output, target).reshape(len(batch)))
        return torch.cat(of_channels), self._checked(at_least_float32(torch.cat(scores)))

    def _checked(self, values: Tensor) -> Tensor:
        """Values of copies of the clip, after a check that they are finite; the copies are no clips of the caller."""
        if not values.sum().isfinite() and not values.isfinite().all():
            what = f"the values at the layer {self.at_layer.layer_name!r} or of the score, with masked bins,"
            raise NotFiniteError(what, clip=0)
        return values

    def _weighted(self, features: Tensor) -> Tensor:
        features = at_least_float32(features)
        with torch.autocast(features.device.type, enabled=False):
            channels = torch.einsum("kc,ncft->nkft", self.directions.to(features.dtype), features)
        return channels * self.weights

    def _raw_weights(self, features: Tensor) -> Iterator[Tensor]:
        """The weights of the layer's channels for each channel of the basis, (1, channel, frequency, time)."""
        for direction, weights in zip(self.directions, self.weights, strict=True):
            yield (direction[:, None, None] * weights)[None].to(features.dtype)

    def _features(self, values: Tensor) -> Tensor:
        """The grid of the layer for copies of the clip, (copy, channel of the layer, frequency, time)."""
        return self._features_and_output(values, whole=False)[0]

    @restored
    def _features_and_output(self, values: Tensor, whole: bool) -> tuple[Tensor, Any]:
        """The grid of the layer for copies of the clip, and the output of the model where the pass is a whole one."""
        at_layer = self.at_layer
        layer = at_layer.layer
        at_input = at_layer.reads_input(False)
        output = None
        copied = torch.clone if whole else None  # the modules after the layer may change its output in place
        with (
            captured(layer, at_layer.layer_name, at_input=at_input, prepare=copied, stop=not whole) as capture,
            self._replaced(values),
            frozen(at_layer.forward_func, layer),
        ):
            output = self._run(values)
        with frozen(at_layer.forward_func, layer):  # the parameters of the norm are constants too
            layout = at_layer.basis.origin.layout
            return explained_grid(capture.value, layout, at_layer.norm, at_layer.layer_name), output

    def _replaced(self, values: Tensor) -> AbstractContextManager:
        """Replaces the output of `input_layer` by the values in the forward pass inside."""
        if self.input_layer is None:
            return nullcontext()
        name = layer_name(self.at_layer.forward_func, self.input_layer)
        return replaced(self.input_layer, name, lambda: self.bins.inputs(values))

    def _run(self, values: Tensor) -> Any:
        if self.input_layer is None:
            inputs = self.bins.inputs(values)
            inputs = inputs.clone() if inputs.requires_grad else inputs.detach().clone()
        else:
            assert self.inputs is not None
            inputs = self.inputs.repeat(len(values), *[1] * (self.inputs.dim() - 1))
        arguments = tuple(_repeated(argument, len(values)) for argument in self.arguments)
        return _run_forward(self.at_layer.forward_func, inputs, None, arguments)


def _repeated(argument: Any, n_copies: int) -> Any:
    """An argument of the model for one clip, repeated for copies of the clip."""
    if isinstance(argument, Tensor) and argument.dim() and len(argument) == 1:
        return argument.repeat(n_copies, *[1] * (argument.dim() - 1))
    return argument
