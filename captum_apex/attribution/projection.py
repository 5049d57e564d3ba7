"""The projection of a map from the grid of the layer to the input by enlarging it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor

from captum_apex.layers.layout import input_axes

__all__ = ["default_layout", "enlarged", "enlarged_alone"]


def enlarged(relevance: Tensor, inputs: Tensor, input_layout: str | None) -> Tensor:
    """A map on the grid of the layer, enlarged linearly to the shape of the inputs with its total kept.

    The total is exact where the input has a multiple of the grid's rows and columns. Otherwise the interpolation gives
    the outer cells a different share: 0.3% for an outer cell of 15 columns that are enlarged to 126 frames. Along an
    axis that is finer at the layer than at the input, the map is averaged first.

    Args:
        relevance: maps on the grid of the layer, (clip, frequency, time).
        inputs: inputs of the model; only their shape is used.
        input_layout: axes of the inputs, such as `"n c f t"`; without `f` the rows of the map are added up. None
            derives the axes from the shape of the inputs.

    Returns:
        Tensor of the shape of the inputs; all channels of an input have the same map.

    Raises:
        TypeError: the layout is no string.
        ValueError: the layout does not fit, or it is None and the axes of the inputs are ambiguous.

    Example:
        >>> import torch
        >>> from captum_apex.attribution.projection import enlarged
        >>> enlarged(torch.tensor([[[4.0, 8.0]]]), torch.zeros(1, 1, 1, 4), None)
        tensor([[[[2.0000, 2.5000, 3.5000, 4.0000]]]])
    """
    axes = input_axes(default_layout(relevance, inputs) if input_layout is None else input_layout)
    if len(axes) != inputs.dim():
        raise ValueError(
            f"expected `input_layout` to name the {inputs.dim()} axes of the inputs by n, c, f and t, such as "
            f"'n c f t', but got {input_layout!r}"
        )
    if "f" not in axes:
        relevance = relevance.sum(1, keepdim=True)
    size = [inputs.shape[axes.index(axis)] if axis in axes else 1 for axis in "ft"]
    large = _interpolated(relevance, size) * (relevance[0].numel() / inputs[0].numel())
    channels = {"c": inputs.shape[axes.index("c")]} if "c" in axes else {}
    if "f" in axes:
        return repeat(large, f"n f t -> {' '.join(axes)}", **channels)
    return repeat(large[:, 0], f"n t -> {' '.join(axes)}", **channels)


def _interpolated(relevance: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (clip, frequency, time) in another size, bilinear; an axis that gets shorter is averaged first."""
    # Bilinear interpolation to a smaller size would skip cells.
    coarse = (min(relevance.shape[1], size[0]), min(relevance.shape[2], size[1]))
    averaged = F.adaptive_avg_pool2d(relevance[:, None], coarse)
    return F.interpolate(averaged, size, mode="bilinear", align_corners=False)[:, 0]


def enlarged_alone(
    relevance: Tensor, inputs: Tensor, input_layout: str | None, columns: Sequence[int], lengths: Sequence[int]
) -> Tensor:
    """The maps of padded clips, each enlarged to the unpadded length of its clip; the map is zero in the padding.

    Args:
        relevance: maps on the grid of the layer, (clip, frequency, time).
        inputs: inputs of the model; only their shape is used.
        input_layout: axes of the inputs, as in `enlarged`.
        columns: number of grid columns of each clip without padding.
        lengths: length of each clip without padding, in steps of the inputs' time axis.

    Returns:
        Tensor of the shape of the inputs; each clip has the map that `enlarged` gives for the clip without padding.

    Raises:
        ValueError: the layout does not fit, or the length of a clip is not from 1 to that of the inputs.

    Example:
        >>> import torch
        >>> from captum_apex.attribution.projection import enlarged_alone
        >>> enlarged_alone(torch.tensor([[[4.0, 0.0]]]), torch.zeros(1, 1, 1, 4), None, columns=[1], lengths=[2])
        tensor([[[[2., 2., 0., 0.]]]])
    """
    layout = default_layout(relevance, inputs) if input_layout is None else input_layout
    time = input_axes(layout).index("t")
    maps = torch.zeros(inputs.shape, dtype=relevance.dtype, device=relevance.device)
    for clip, (n_columns, length) in enumerate(zip(columns, lengths, strict=True)):
        if not 0 < length <= inputs.shape[time]:
            raise ValueError(
                f"expected lengths from 1 to the inputs' {inputs.shape[time]} steps of time, but got {length} for clip "
                f"{clip}"
            )
        this = slice(clip, clip + 1)  # keeps the clip axis
        unpadded = inputs[this].narrow(time, 0, length)
        maps[this].narrow(time, 0, length).copy_(enlarged(relevance[this, :, :n_columns], unpadded, layout))
    return maps


def default_layout(relevance: Tensor, inputs: Tensor) -> str:
    """The axes of inputs whose layout was not given, from their shape.

    Args:
        relevance: maps on the grid of the layer, (..., frequency, time); only the number of rows is used.
        inputs: inputs of the model.

    Raises:
        ValueError: the axes of the inputs are ambiguous.

    Example:
        >>> import torch
        >>> from captum_apex.attribution.projection import default_layout
        >>> default_layout(torch.zeros(1, 4, 8), torch.zeros(1, 1, 64, 128))
        'n c f t'
    """
    layouts = {2: "n t", 4: "n c f t"}
    if relevance.shape[-2] == 1 or inputs.shape[1] == 1:
        layouts[3] = "n c t"
    if inputs.dim() not in layouts:
        raise ValueError(
            f"expected inputs (clip, channel, frequency, time) or (clip, time), but got shape {tuple(inputs.shape)}; "
            "say with `input_layout` which axis is which, such as 'n f t'"
        )
    return layouts[inputs.dim()]
