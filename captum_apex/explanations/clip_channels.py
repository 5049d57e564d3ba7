"""The channels of a clip as `ChannelValues`: of an explained clip, by contribution; of a prototype, by activation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from captum_apex.attribution.apex import APEX
from captum_apex.attribution.arguments import detached_inputs, single_input
from captum_apex.attribution.decomposition import Decomposition
from captum_apex.attribution.layer_apex import LayerAPEX
from captum_apex.attribution.projection import default_layout
from captum_apex.layers.changes import restored
from captum_apex.layers.hooks import captured, frozen
from captum_apex.layers.layout import input_axes
from captum_apex.layers.models import layer_name
from captum_apex.locating.bins import Bins
from captum_apex.locating.channel_values import ChannelValues

__all__ = ["at_layer_of", "channels_by_activation", "channels_by_contribution", "clip_arguments"]


def channels_by_contribution(
    apex: APEX | LayerAPEX,
    inputs: Tensor | tuple[Tensor, ...],
    arguments: tuple,
    decomposition: Decomposition,
    clip: int,
    channels: Sequence[int],
    batch_size: int,
) -> ChannelValues:
    """The contributions of some channels to the score of one clip of a batch, as functions of the clip's bins.

    Args:
        apex: the attribution object.
        inputs: inputs of the batch.
        arguments: additional arguments of the model for the batch.
        decomposition: decomposition of the batch for the explained class.
        clip: index of the clip in the batch.
        channels: indices of the channels.
        batch_size: largest number of masked copies in a forward pass.

    Raises:
        ValueError: there are several input tensors, or the layout of the inputs is needed.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex import LayerAPEX, PrototypeBasis
        >>> from captum_apex.explanations.clip_channels import channels_by_contribution
        >>> layer = nn.ReLU()
        >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> apex = LayerAPEX(model, layer, PrototypeBasis(torch.eye(1), "time"))
        >>> clip = torch.tensor([[[[-1.0, 2.0, 5.0]]]])
        >>> channels = channels_by_contribution(apex, clip, (), apex.decompose(clip, 0), 0, [0], batch_size=8)
        >>> channels.of(clip), channels.of(clip.clamp(max=2))  # without and with the last column lowered
        (tensor([[2.3333]]), tensor([[1.3333]]))
    """
    at_layer = at_layer_of(apex)
    U, inverse = at_layer.matrices(decomposition.gradient)
    columns = None if decomposition.columns is None else int(decomposition.columns[clip])
    gradient = decomposition.gradient[clip, :, :, :columns]
    weights = torch.einsum("ck,cft->kft", inverse[:, list(channels)], gradient)  # rows of Ĝ = U⁻ᵀ G
    only = single_input(inputs)
    alone = clip_arguments(arguments, clip, len(only))
    on_clip = decomposition.relevance[clip, list(channels), :, :columns]
    return _channel_values(apex, only[clip : clip + 1], alone, U[list(channels)], weights, batch_size, on_clip)


def channels_by_activation(
    apex: APEX | LayerAPEX, inputs: Tensor, arguments: tuple, channels: Sequence[int], side: int, batch_size: int
) -> ChannelValues:
    """The mean activations of some channels in a clip, as functions of the clip's bins.

    Args:
        apex: the attribution object.
        inputs: input of one clip; its first axis has size 1.
        arguments: additional arguments of the model for this clip.
        channels: indices of the channels.
        side: 1, or −1 for the negated activations.
        batch_size: largest number of masked copies in a forward pass.

    Example:
        >>> import torch
        >>> from captum_apex import LayerAPEX, PrototypeBasis
        >>> from captum_apex.explanations.clip_channels import channels_by_activation
        >>> model = torch.nn.Identity()
        >>> apex = LayerAPEX(model, model, PrototypeBasis(2 * torch.eye(1), "time"))
        >>> clip = torch.tensor([[[[-4.0, 1.0]]]])
        >>> channels_by_activation(apex, clip, (), [0], side=-1, batch_size=8).of(clip)  # twice the mean, negated
        tensor([[3.]])
    """
    at_layer = at_layer_of(apex)
    dtype = torch.promote_types(inputs.dtype, torch.float32)
    U, _ = at_layer.matrices(torch.empty(0, dtype=dtype, device=inputs.device))
    grid = at_layer.basis.origin.grid
    one = torch.ones(1, 1 if grid is None else grid[0], 1, device=U.device)
    values = _channel_values(apex, inputs, arguments, U[list(channels)], one, batch_size)
    assert values.on_clip is not None
    weights = torch.full_like(values.on_clip, side / values.on_clip[0].numel())
    return replace(values, weights=weights, on_clip=values.on_clip * weights)


def clip_arguments(arguments: tuple, clip: int, n_clips: int) -> tuple:
    """The additional arguments of the model for one clip of a batch.

    Args:
        arguments: the arguments for the batch; a tensor with as many rows as there are clips has one row for each.
        clip: index of the clip.
        n_clips: number of clips.

    Example:
        >>> import torch
        >>> from captum_apex.explanations.clip_channels import clip_arguments
        >>> clip_arguments((torch.tensor([16, 12]), "mean"), clip=1, n_clips=2)
        (tensor([12]), 'mean')
    """
    return tuple(
        value[clip : clip + 1] if isinstance(value, Tensor) and value.dim() and len(value) == n_clips else value
        for value in arguments
    )


def at_layer_of(apex: APEX | LayerAPEX) -> LayerAPEX:
    """The attribution object at the layer.

    Example:
        >>> import torch
        >>> from captum_apex import LayerAPEX, PrototypeBasis
        >>> from captum_apex.explanations.clip_channels import at_layer_of
        >>> layer = torch.nn.ReLU()
        >>> apex = LayerAPEX(layer, layer, PrototypeBasis(torch.eye(1), "time"))
        >>> at_layer_of(apex) is apex
        True
    """
    return apex.layer_apex if isinstance(apex, APEX) else apex


def _channel_values(
    apex: APEX | LayerAPEX,
    inputs: Tensor,
    arguments: tuple,
    directions: Tensor,
    weights: Tensor,
    batch_size: int,
    on_clip: Tensor | None = None,
) -> ChannelValues:
    at_layer = at_layer_of(apex)
    inputs = detached_inputs(inputs)[0]
    input_layer = apex.input_layer if isinstance(apex, APEX) else None
    layout = apex.input_layout if isinstance(apex, APEX) else None
    if at_layer.columns is not None:
        time = input_axes(layout).index("t") if layout and input_layer is None else inputs.dim() - 1
        inputs = inputs.narrow(time, 0, int(arguments[0]))  # the clip alone, without padding
    mapped = inputs if input_layer is None else _output_of(at_layer, input_layer, inputs, arguments)
    bins = Bins.of(mapped, layout or default_layout(weights, mapped))
    return ChannelValues(at_layer, bins, directions, weights, arguments, inputs, input_layer, batch_size, on_clip)


@restored
@torch.no_grad()
def _output_of(at_layer: LayerAPEX, module: nn.Module, inputs: Tensor, arguments: Any) -> Tensor:
    """The output of a module of the model for one clip."""
    with (
        captured(module, layer_name(at_layer.forward_func, module), prepare=torch.clone, stop=True) as capture,
        frozen(at_layer.forward_func, at_layer.layer),
    ):
        at_layer.forward_func(inputs, *arguments)
    return capture.value
