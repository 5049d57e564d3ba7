"""Region grids: the division of an input into tiles, columns or bands, each of which is masked as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_apex.choices import one_of
from captum_apex.numbers import whole_number

__all__ = ["GRIDS", "TILE", "check_grid", "n_regions", "named_grid", "region_grid", "region_sums"]

GRIDS: dict[str, tuple[int, int]] = {"square": (4, 10), "time": (1, 25), "frequency": (16, 1)}
"""The region grids by name, each as (rows, columns): tiles, columns in time, bands in frequency."""

TILE = (1 / GRIDS["square"][0], 1 / GRIDS["square"][1])
"""The sides of a `"square"` tile, as fractions of the frequency and of the time axis.

A column or band of the other grids is thinner, apart from the axis that it spans.
"""


def region_grid(shape: Sequence[int], rows: int, columns: int) -> Tensor:
    """Divides an input into a grid of regions and gives the region of each bin.

    The regions are numbered row by row, from the lowest bins and the first frames; their sides differ by at most one
    bin.

    Args:
        shape: sizes of the input without batch and channel: (frequency, time), or (sample,) for a waveform.
        rows: number of intervals on the frequency axis; 1 for columns in time, and for a waveform.
        columns: number of intervals on the time axis; 1 for bands in frequency.

    Returns:
        int64 tensor of that shape, in [0, rows · columns). Captum's methods take it as `feature_mask`.

    Raises:
        ValueError: if an axis has fewer bins than intervals, or the shape has another number of axes.

    Example:
        >>> from captum_apex.masking import region_grid
        >>> region_grid((2, 5), rows=2, columns=2)
        tensor([[0, 0, 0, 1, 1],
                [2, 2, 2, 3, 3]])
    """
    if not isinstance(shape, Sequence) or isinstance(shape, str):
        raise TypeError(f"expected `shape` to be the sizes of an input, but got {shape!r}")
    shape = [whole_number(size, "shape", least=1) for size in shape]
    if len(shape) not in (1, 2):
        raise ValueError(f"expected `shape` to be (frequency, time) or (sample,), but got {tuple(shape)}")
    frequency, time = shape if len(shape) == 2 else (1, *shape)
    row = _intervals(frequency, rows, "rows")
    column = _intervals(time, columns, "columns")
    return (row[:, None] * columns + column).reshape(*shape)


def named_grid(name: str, shape: Sequence[int]) -> Tensor:
    """The region grid with this name in `GRIDS`, for inputs of a shape.

    Args:
        name: `"square"`, `"time"` or `"frequency"`.
        shape: sizes of the input without batch and channel, as in `region_grid`.

    Returns:
        int64 tensor of that shape, as from `region_grid`.

    Raises:
        TypeError: if the name is no string.
        ValueError: if there is no grid with this name, or the input has too few bins for it.

    Example:
        >>> from captum_apex.masking import named_grid
        >>> named_grid("time", (1, 50))[0, :8]
        tensor([0, 0, 1, 1, 2, 2, 3, 3])
    """
    one_of(name, "the grid's name", GRIDS)
    return region_grid(shape, *GRIDS[name])


def region_sums(attributions: Tensor, grid: Tensor) -> Tensor:
    """The attribution of each region: the sum over its bins, in all channels.

    Args:
        attributions: shape (batch, channel, frequency, time), or without the channel axis; the last axes are those of
            the grid.
        grid: region of each bin, int64, shape (frequency, time), as from `region_grid`.

    Returns:
        float64 tensor of shape (batch, region), summed in double precision.

    Raises:
        TypeError: if the grid is not int64.
        ValueError: if the last axes are not those of the grid.

    Example:
        >>> import torch
        >>> from captum_apex.masking import region_grid, region_sums
        >>> region_sums(torch.ones(1, 3, 2, 5), region_grid((2, 5), 1, 2))
        tensor([[18., 12.]], dtype=torch.float64)
    """
    check_grid(grid)
    if attributions.dim() not in (grid.dim() + 1, grid.dim() + 2) or attributions.shape[-grid.dim() :] != grid.shape:
        expected = ", ".join(map(str, grid.shape))
        raise ValueError(
            f"expected `attributions` of shape (batch, channel, {expected}), but got {tuple(attributions.shape)}"
        )
    per_channel = attributions.detach().to(torch.float64).reshape(len(attributions), -1, grid.numel())
    per_bin = per_channel.sum(1)  # (clip, channel, bin) → (clip, bin)
    regions = grid.flatten().to(per_bin.device)
    return per_bin.new_zeros(len(attributions), n_regions(grid)).index_add_(1, regions, per_bin)  # → (clip, region)


def n_regions(grid: Tensor) -> int:
    """The number of regions of a grid: its largest number plus one.

    Args:
        grid: region of each bin, int64.

    Example:
        >>> from captum_apex.masking import n_regions, region_grid
        >>> n_regions(region_grid((64, 100), rows=4, columns=10))
        40
    """
    return int(grid.max()) + 1


def check_grid(grid: Tensor) -> None:
    """Raises an error if a tensor is no region grid.

    Args:
        grid: region of each bin, int64.

    Raises:
        TypeError: if the grid is not an int64 tensor.
        ValueError: if the grid is empty or has negative numbers.

    Example:
        >>> import torch
        >>> from captum_apex.masking import check_grid
        >>> check_grid(torch.tensor([0, -1]))
        Traceback (most recent call last):
            ...
        ValueError: expected `grid` to number its regions from 0, but got -1
    """
    if not isinstance(grid, Tensor) or grid.dtype != torch.int64:
        raise TypeError(f"expected `grid` to be an int64 tensor, but got {getattr(grid, 'dtype', type(grid).__name__)}")
    if grid.numel() == 0 or grid.min() < 0:
        raise ValueError(
            f"expected `grid` to number its regions from 0, but got {'none' if grid.numel() == 0 else int(grid.min())}"
        )


def _intervals(size: int, count: int, name: str) -> Tensor:
    """The interval that each bin of an axis belongs to, int64, shape (bin,)."""
    if not 1 <= count <= size:
        raise ValueError(f"expected `{name}` between 1 and the axis' {size} bins, but got {count}")
    return torch.arange(size) * count // size
