"""Parts of a clip: rectangles over frequency and time, and their unions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Box", "Region"]


@dataclass(frozen=True)
class Box:
    """A rectangle on the input, its sides as fractions of the frequency and the time axis, in [0, 1].

    `low` and `high` count from the first frequency row, `start` and `end` from the first time column.
    """

    low: float
    high: float
    start: float
    end: float


@dataclass(frozen=True)
class Region:
    """A part of the input: the union of its boxes.

    >>> Region((Box(low=0.0, high=0.5, start=0.25, end=0.5),)).mask(2, 4)
    tensor([[False,  True, False, False],
            [False, False, False, False]])
    """

    boxes: tuple[Box, ...]

    def mask(self, n_rows: int, n_columns: int) -> Tensor:
        """The bins whose centre lies in the region; bool, shape (frequency, time) = (n_rows, n_columns)."""
        rows = (torch.arange(n_rows, dtype=torch.float64) + 0.5)[:, None] / n_rows
        columns = (torch.arange(n_columns, dtype=torch.float64) + 0.5)[None, :] / n_columns
        inside = torch.zeros(n_rows, n_columns, dtype=torch.bool)
        for box in self.boxes:
            inside |= (box.low <= rows) & (rows < box.high) & (box.start <= columns) & (columns < box.end)
        return inside
