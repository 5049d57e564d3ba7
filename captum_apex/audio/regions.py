"""Regions of a clip: rectangles over frequency and time, and their unions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Box", "Region"]


@dataclass(frozen=True)
class Box:
    """A rectangle on the model's input, with its sides as fractions of the two axes, in [0, 1].

    Args:
        low: lower end, as a fraction of the frequency axis, which begins with the first frequency row.
        high: upper end, as a fraction of the frequency axis.
        start: beginning, as a fraction of the time axis, which begins with the first time column.
        end: end, as a fraction of the time axis.

    Example:
        >>> from captum_apex import Box
        >>> box = Box(low=0.0, high=0.5, start=0.25, end=0.75)
        >>> (box.high - box.low) * (box.end - box.start)  # the share of the input that it covers
        0.25
    """

    low: float
    high: float
    start: float
    end: float


@dataclass(frozen=True)
class Region:
    """A region of the model's input: the union of its boxes.

    Args:
        boxes: the boxes, which may overlap.

    Example:
        >>> from captum_apex import Box, Region
        >>> Region((Box(low=0.0, high=0.5, start=0.25, end=0.5),)).mask(2, 4)
        tensor([[False,  True, False, False],
                [False, False, False, False]])
    """

    boxes: tuple[Box, ...]

    def mask(self, n_rows: int, n_columns: int) -> Tensor:
        """A mask that is True for the bins with their centre in the region.

        Args:
            n_rows: number of frequency rows.
            n_columns: number of time columns.

        Returns:
            bool tensor of shape (frequency, time).
        """
        rows = (torch.arange(n_rows, dtype=torch.float64) + 0.5)[:, None] / n_rows
        columns = (torch.arange(n_columns, dtype=torch.float64) + 0.5)[None, :] / n_columns
        inside = torch.zeros(n_rows, n_columns, dtype=torch.bool)
        for box in self.boxes:
            inside |= (box.low <= rows) & (rows < box.high) & (box.start <= columns) & (columns < box.end)
        return inside
