"""The values of all channels of a basis as a function of the input."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from captum_apex.bases.basis import PrototypeBasis
from captum_apex.choices import one_of
from captum_apex.layers.changes import restored
from captum_apex.layers.fitted_on import check_origin
from captum_apex.layers.hooks import captured, frozen
from captum_apex.layers.models import layer_name, model_of, on_one_device
from captum_apex.layers.pooled_norm import PooledNorm, explained_grid

__all__ = ["ChannelOutputs"]


class ChannelOutputs(nn.Module):
    """The values of all channels of a basis, one row per clip, for measures that change the input.

    The forward pass ends at the layer. Clips of a batch have one length.

    Args:
        forward_func: the classifier.
        layer: the module that the basis was fitted on.
        basis: the basis.
        value: `"peak"`, the largest cell of the scheme (for `time-frequency` the mean of the two peaks), or `"mean"`,
            the activation `a_k`, the mean over the grid.

    Raises:
        TypeError: `value` is no string.
        ValueError: the layer is not part of the model, the basis was fitted on a model with other weights, or there is
            no such value.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex import PrototypeBasis
        >>> from captum_apex.attribution import ChannelOutputs
        >>> layer = nn.ReLU()
        >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> clip = torch.tensor([[[[0.0, 2.0, 1.0]]]])  # (clip, channel, frequency, time)
        >>> outputs = ChannelOutputs(model, layer, PrototypeBasis(torch.eye(1), "time"))
        >>> outputs(clip), outputs.peaks(clip).tolist()
        (tensor([[2.]]), [[[1]]])
    """

    def __init__(self, forward_func: Callable, layer: nn.Module, basis: PrototypeBasis, value: str = "peak") -> None:
        super().__init__()
        self.forward_func = on_one_device(forward_func)  # registered as a submodule where it is one
        self.layer_name = layer_name(self.forward_func, layer)
        model = model_of(forward_func)
        if model is not None and not isinstance(self.forward_func, nn.Module):
            self.model = model
        self._layer = (layer,)  # in a tuple, so that it is not registered a second time
        self.basis = basis
        self.value = one_of(value, "`value`", ("peak", "mean"))
        check_origin(self.forward_func, layer, basis.origin)
        self.norm = PooledNorm.of(self.forward_func, layer, basis.origin)

    @restored
    def forward(self, inputs: Tensor) -> Tensor:
        """The values, (clip, channel), differentiable in the inputs."""
        features = self._features(inputs)
        if self.value == "mean":
            return features.mean((2, 3))
        return torch.stack([cells.amax(2) for cells in self.basis.scheme.cells(features)]).mean(0)

    @restored
    @torch.no_grad()
    def peaks(self, inputs: Tensor) -> Tensor:
        """Index of the peak cell of each channel in each sequence of the scheme, int64 (clip, channel, sequence)."""
        cells = self.basis.scheme.cells(self._features(inputs))
        return torch.stack([sequence.argmax(2) for sequence in cells], 2)

    def _features(self, inputs: Tensor) -> Tensor:
        """`Ẑ`, the grid in the channels of the basis, (clip, channel, frequency, time)."""
        layer = self._layer[0]
        at_layer = captured(layer, self.layer_name, at_input=self.basis.origin.at_input, stop=True)
        with at_layer as capture, frozen(self.forward_func, layer):
            self.forward_func(inputs)
        with frozen(self.forward_func, layer):  # the parameters of the norm are constants too
            grid = explained_grid(capture.value, self.basis.origin.layout, self.norm, self.layer_name, None)
        return torch.einsum("kc,ncft->nkft", self.basis.U.to(grid), grid)
