"""Which columns of a grid belong to a clip, where shorter clips of a batch are padded."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["Columns", "checked_columns", "column_mask"]


def column_mask(grid: Tensor, columns: Tensor) -> Tensor:
    """Which columns are a clip's own, not padding; bool, of a shape that broadcasts to the grid's.

    Args:
        grid: (clip, …, time).
        columns: how many are its own, int64 (clip,).

    >>> column_mask(torch.zeros(2, 1, 3), torch.tensor([1, 3])).tolist()
    [[[True, False, False]], [[True, True, True]]]
    """
    own = torch.arange(grid.shape[-1], device=grid.device) < columns.to(grid.device)[:, None]  # (clip, time)
    return own.reshape(len(grid), *[1] * (grid.dim() - 2), grid.shape[-1])


Columns = Callable[[Tensor], Tensor]
"""From the lengths of clips in steps of the input's time axis, int64 (clip,), to their numbers of columns at the layer, int64 (clip,)."""


def checked_columns(columns: Tensor, grid: Tensor) -> Tensor:
    """The numbers of columns of padded clips, after making sure that the grid has them.

    Args:
        columns: int64 (clip,).
        grid: (clip, channel, frequency, time).

    Raises:
        ValueError: for another shape or type, or a number that is not from 1 to the grid's columns, naming the clip.
    """
    if not isinstance(columns, Tensor) or columns.dtype != torch.int64 or columns.shape != (len(grid),):
        got = f"{columns.dtype} {tuple(columns.shape)}" if isinstance(columns, Tensor) else type(columns).__name__
        raise ValueError(
            f"expected `columns` to give int64 of shape {(len(grid),)}, one number per clip, but got {got}"
        )
    wrong = (columns < 1) | (columns > grid.shape[-1])
    if wrong.any():
        clip = int(wrong.nonzero()[0])
        raise ValueError(
            f"expected from 1 to {grid.shape[-1]} columns of the layer for every clip, but got {int(columns[clip])} for clip {clip}"
        )
    return columns
