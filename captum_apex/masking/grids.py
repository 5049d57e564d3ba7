"""Regions of a spectrogram that are masked as one: tiles, columns, bands."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

GRIDS: dict[str, tuple[int, int]] = {"square": (4, 10), "time": (1, 25), "frequency": (16, 1)}
"""Name of a grid → its (rows, columns): tiles, columns in time, bands in frequency."""

TILE = (1 / GRIDS["square"][0], 1 / GRIDS["square"][1])
"""The largest sides that a region of these grids has where it does not span the axis, as shares of the frequency and the time axis."""


def region_grid(shape: Sequence[int], rows: int, columns: int) -> Tensor:
    """Which region of a coarse grid each input bin belongs to.

    The regions are numbered row by row, beginning with the lowest bins and the first frames; their sides differ by at most one bin.

    Args:
        shape: the input's sizes without batch and channel: (frequency, time), or (samples,) for a waveform.
        rows: how many parts the frequency axis is cut into; 1 for columns in time, and for every waveform.
        columns: how many parts the time axis is cut into; 1 for bands in frequency.

    Returns:
        int64 tensor of that shape, in [0, rows · columns); it serves Captum's methods as `feature_mask`.

    Raises:
        ValueError: where an axis has fewer bins than parts, or the shape has another number of axes.

    Example:
        >>> region_grid((2, 5), rows=2, columns=2)
        tensor([[0, 0, 0, 1, 1],
                [2, 2, 2, 3, 3]])
    """
    if len(shape) not in (1, 2):
        raise ValueError(f"expected `shape` to be (frequency, time) or (samples,), but got {tuple(shape)}")
    frequency, time = shape if len(shape) == 2 else (1, *shape)
    row, column = _parts(frequency, rows, "rows"), _parts(time, columns, "columns")
    return (row[:, None] * columns + column).reshape(*shape)


def named_grid(name: str, shape: Sequence[int]) -> Tensor:
    """The region grid that `GRIDS` knows by this name, for inputs of this shape; see `region_grid`.

    Example:
        >>> named_grid("time", (64, 500)).unique().numel()
        25
    """
    if name not in GRIDS:
        raise ValueError(f"expected the grid's name to be one of {sorted(GRIDS)}, but got {name!r}")
    return region_grid(shape, *GRIDS[name])


def region_sums(attributions: Tensor, grid: Tensor) -> Tensor:
    """The attribution of each region: the sum over its bins, in all channels.

    Args:
        attributions: shape (batch, channel, frequency, time); the channel axis may be absent, and the last axes are those of the grid.
        grid: the region that each bin belongs to, int64, shape (frequency, time); see `region_grid`.

    Returns:
        float64 tensor of shape (batch, region): summed in double precision, whatever the input's.

    Raises:
        TypeError: for a grid that is not int64.
        ValueError: where the last axes are not those of the grid.

    Example:
        >>> region_sums(torch.ones(1, 3, 2, 5), region_grid((2, 5), 1, 2))
        tensor([[18., 12.]], dtype=torch.float64)
    """
    check_grid(grid)
    if attributions.dim() not in (grid.dim() + 1, grid.dim() + 2) or attributions.shape[-grid.dim() :] != grid.shape:
        expected = ", ".join(map(str, grid.shape))
        raise ValueError(
            f"expected `attributions` of shape (batch, channel, {expected}), but got {tuple(attributions.shape)}"
        )
    clips = len(attributions)
    per_bin = (
        attributions.detach().to(torch.float64).reshape(clips, -1, grid.numel()).sum(1)
    )  # (clip, channel, bin) → (clip, bin)
    regions = grid.flatten().to(per_bin.device)
    return per_bin.new_zeros(clips, n_regions(grid)).index_add_(1, regions, per_bin)  # (clip, bin) → (clip, region)


def n_regions(grid: Tensor) -> int:
    """How many regions a grid has: one more than its largest number."""
    return int(grid.max()) + 1


def check_grid(grid: Tensor) -> None:
    """Refuses what cannot number regions.

    Raises:
        TypeError: for a grid that is not an int64 tensor.
        ValueError: for one that is empty or has negative numbers.
    """
    if not isinstance(grid, Tensor) or grid.dtype != torch.int64:
        raise TypeError(f"expected `grid` to be an int64 tensor, but got {getattr(grid, 'dtype', type(grid).__name__)}")
    if grid.numel() == 0 or grid.min() < 0:
        raise ValueError(
            f"expected `grid` to number its regions from 0, but got {'none' if grid.numel() == 0 else int(grid.min())}"
        )


def _parts(size: int, parts: int, name: str) -> Tensor:
    if not 1 <= parts <= size:
        raise ValueError(f"expected `{name}` between 1 and the axis' {size} bins, but got {parts}")
    return torch.arange(size) * parts // size
