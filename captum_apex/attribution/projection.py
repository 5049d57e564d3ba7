"""The projection of a map from the grid of the layer to the input by enlarging it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor

from captum_apex.layers.cell_places import CellLine, CellPlaces
from captum_apex.layers.layout import default_axes, input_axes

__all__ = ["default_layout", "enlarged", "enlarged_alone"]


def enlarged(relevance: Tensor, inputs: Tensor, input_layout: str | None, places: CellPlaces | None = None) -> Tensor:
    """A map on the grid of the layer, enlarged linearly to the shape of the inputs with its total kept.

    Each cell's value stands at the centre of the cell, with linear interpolation between. An outer value reaches half a
    cell further; beyond, where a layer without padding has no cell, the map is zero. The share of a cell in the total
    stays what it was; without `places` only where the input has a multiple of the grid's rows and columns: otherwise,
    the outer cells get another share, 0.3% for 15 columns that are enlarged to 126 frames. Along an axis that is finer
    at the layer than at the input, the map is averaged.

    Args:
        relevance: maps on the grid of the layer, (clip, frequency, time).
        inputs: inputs of the model; only their shape is used.
        input_layout: axes of the inputs, such as `"n c f t"`; without `f` the rows of the map are added up. None
            derives the axes from the shape of the inputs.
        places: where the cells lie on the axes of the input; None where they fill it.

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
    large = _interpolated(relevance, size, places or CellPlaces())
    channels = {"c": inputs.shape[axes.index("c")]} if "c" in axes else {}
    large = large / channels.get("c", 1)
    if "f" in axes:
        return repeat(large, f"n f t -> {' '.join(axes)}", **channels)
    return repeat(large[:, 0], f"n t -> {' '.join(axes)}", **channels)


def _interpolated(relevance: Tensor, size: Sequence[int], places: CellPlaces) -> Tensor:
    """Maps (clip, frequency, time) in another size, linear between the cells; the total of each cell is kept."""
    if places == CellPlaces():
        # Bilinear interpolation to a smaller size would skip cells.
        coarse = (min(relevance.shape[1], size[0]), min(relevance.shape[2], size[1]))
        averaged = F.adaptive_avg_pool2d(relevance[:, None], coarse)
        large = F.interpolate(averaged, size, mode="bilinear", align_corners=False)[:, 0]
        return large * (relevance[0].numel() / large[0].numel())
    rows = places.rows(relevance.shape[1], size[0] if places.frequency else None)
    columns = places.columns(relevance.shape[2], size[1] if places.time else None)
    return _along(_along(relevance, 2, columns, size[1]), 1, rows, size[0])


def _along(relevance: Tensor, axis: int, line: CellLine, size: int) -> Tensor:
    """Maps that are enlarged to `size` steps along one axis."""
    n_cells = relevance.shape[axis]
    if n_cells >= size:  # interpolation would skip cells
        shares = line.shares(size).to(relevance)
        return (relevance.transpose(axis, -1) @ shares).transpose(axis, -1)
    steps = (torch.arange(size, dtype=torch.float64) + 0.5) * (line.size / size)
    cells = (steps - line.first) / line.step
    covered = ((cells >= -0.5) & (cells <= n_cells - 0.5)).double()
    cells = cells.clamp(0, n_cells - 1)
    before = cells.floor().long()
    after = (before + 1).clamp(max=n_cells - 1)
    part = cells - before
    totals = torch.zeros(n_cells, dtype=torch.float64)
    totals = totals.index_add(0, before, covered * (1 - part)).index_add(0, after, covered * part)
    # Cells in the padding, which have no step of the input, are added to the nearest one that has some.
    seen = totals.gt(0).nonzero()[:, 0]
    nearest = seen[(torch.arange(n_cells)[:, None] - seen).abs().argmin(1)]
    device = relevance.device
    moved = torch.zeros_like(relevance).index_add(axis, nearest.to(device), relevance)
    shape = [-1 if i == axis else 1 for i in range(relevance.dim())]
    moved = moved / totals.clamp_min(torch.finfo(torch.float64).tiny).to(relevance).reshape(shape)
    first, second = (moved.index_select(axis, cells_of.to(device)) for cells_of in (before, after))
    part = part.to(relevance).reshape(shape)
    return (first + part * (second - first)) * covered.to(relevance).reshape(shape)


def enlarged_alone(
    relevance: Tensor,
    inputs: Tensor,
    input_layout: str | None,
    columns: Sequence[int],
    lengths: Sequence[int],
    places: CellPlaces | None = None,
) -> Tensor:
    """The maps of padded clips, each enlarged to the unpadded length of its clip; the map is zero in the padding.

    Args:
        relevance: maps on the grid of the layer, (clip, frequency, time).
        inputs: inputs of the model; only their shape is used.
        input_layout: axes of the inputs, as in `enlarged`.
        columns: number of grid columns of each clip without padding.
        lengths: length of each clip without padding, in steps of the inputs' time axis.
        places: where the cells lie on the axes of the input, as in `enlarged`.

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
        maps[this].narrow(time, 0, length).copy_(enlarged(relevance[this, :, :n_columns], unpadded, layout, places))
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
    axes = default_axes(inputs, relevance.shape[-2])
    if axes is None:
        raise ValueError(
            f"expected inputs (clip, channel, frequency, time) or (clip, time), but got shape {tuple(inputs.shape)}; "
            "say with `input_layout` which axis is which, such as 'n f t'"
        )
    return " ".join(axes)
