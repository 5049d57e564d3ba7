"""Regions of a clip: rectangles over frequency and time, as fractions or in Hz and seconds, and unions of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Box", "Place", "Region", "in_order"]

_ROUNDING = 1e-9  # of a period: what ends this close to a seam ends at the seam


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


class Place(NamedTuple):
    """A rectangle in Hz and seconds.

    Args:
        low: lower end, in Hz.
        high: upper end, in Hz.
        start: beginning, in seconds from the first sample of the clip.
        end: end, in seconds.

    Example:
        >>> import torch
        >>> from captum_apex import Box, Clip
        >>> Clip.from_waveform(torch.ones(4000), 8000).place(Box(low=0.5, high=1.0, start=0.0, end=0.5))
        Place(low=2000.0, high=4000.0, start=0.0, end=0.25)
    """

    low: float
    high: float
    start: float
    end: float


def in_order(boxes: Iterable[Box], places: Iterable[Place]) -> list[tuple[Box, Place]]:
    """Boxes with their places in the order in which they are listed: by the start, then by the lower end.

    Args:
        boxes: the boxes of a region.
        places: the place of each box.

    Example:
        >>> from captum_apex import Box, Place
        >>> from captum_apex.audio.regions import in_order
        >>> late, early = Place(0.0, 500.0, 0.5, 0.6), Place(0.0, 500.0, 0.1, 0.2)
        >>> [place.start for box, place in in_order([Box(0.0, 1.0, 0.5, 0.6), Box(0.0, 1.0, 0.1, 0.2)], [late, early])]
        [0.1, 0.5]
    """
    return sorted(zip(boxes, places, strict=True), key=lambda pair: (pair[1].start, pair[1].low))


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

    def folded(self, period: float, start: float = 0.0) -> Region:
        """The region with everything moved into the first period of the time axis.

        A box over a seam becomes two, and boxes of one band that then overlap in time become one. What has been folded
        stays as it is.

        Args:
            period: the period, as a fraction of the time axis.
            start: start of the first period, as a fraction of the time axis.

        Example:
            >>> from captum_apex import Box, Region
            >>> for box in Region((Box(low=0.0, high=1.0, start=0.375, end=0.625),)).folded(0.5).boxes:
            ...     print(box.start, box.end)
            0.0 0.125
            0.375 0.5
        """
        boxes: list[Box] = []
        for box in self.boxes:
            if box.end - box.start >= period * (1 - _ROUNDING):
                boxes.append(replace(box, start=max(start, 0.0), end=start + period))
                continue
            first = max(0, math.floor((box.start - start) / period + _ROUNDING))
            last = max(first, math.ceil((box.end - start) / period - _ROUNDING) - 1)
            for turn in range(first, last + 1):
                begin = max(box.start - turn * period, start) if turn else box.start  # a box may begin before turn 0
                boxes.append(replace(box, start=begin, end=min(box.end - turn * period, start + period)))
        return Region(tuple(_joined(boxes)))

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


def _joined(boxes: Iterable[Box]) -> list[Box]:
    """Boxes in the order of time, with those of one band that overlap or touch in time as one."""
    joined: list[Box] = []
    for box in sorted(boxes, key=lambda box: (box.low, box.high, box.start)):
        last = joined[-1] if joined else None
        if last is not None and (last.low, last.high) == (box.low, box.high) and box.start <= last.end:
            joined[-1] = replace(last, end=max(last.end, box.end))
        else:
            joined.append(box)
    return sorted(joined, key=lambda box: (box.start, box.low))
