"""Candidates for the region of a channel: boxes around the parts of a map that stand out, and wider ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from captum_apex.bases.schemes import Scheme
from captum_apex.locating.bins import Rectangle

__all__ = ["boxes_around_peaks", "widened"]

_ROWS = 64
_COLUMNS = 128
"""A larger map is added up to at most so many rows and columns before boxes are sought."""
_FINEST = 1 / 32  # width of the moving mean with which the peak of a map is measured, as a share of the axis
_PARTS = 3  # a region has at most so many boxes
_SMALLEST_PART = 0.25  # a further box must hold at least this share of what the first holds
_MARGIN = 1 / 64  # by which a box is widened on each side, as a share of the axis


def boxes_around_peaks(maps: Tensor, scheme: Scheme, level: float) -> list[list[Rectangle]]:
    """For each map the boxes that hold most of what exceeds a level.

    A box is the rectangle with the largest sum of `map − level · peak`, where `peak` is the largest moving mean of the
    map over a thirty-second of each axis. So its sides follow the sound. For `time` it has all rows, and the next boxes
    are the best among the remaining columns; for `frequency` the same with rows and columns exchanged. `square` has
    several rectangles, `time-frequency` one.

    Args:
        maps: maps of a channel at the input, (map, frequency, time).
        scheme: the scheme.
        level: share of the peak that a bin must exceed to count for a box, in [0, 1).

    Returns:
        For each map at most three boxes, the strongest first; none where the map is nowhere above 0.

    Example:
        >>> import torch
        >>> from captum_apex import Scheme
        >>> from captum_apex.locating.candidates import boxes_around_peaks
        >>> bursts = torch.tensor([[[0.0, 4.0, 4.0, 0.0, 0.0, 3.0, 0.0, 0.0]]])
        >>> boxes_around_peaks(bursts, Scheme.TIME, level=0.5)
        [[(0, 1, 1, 3), (0, 1, 5, 6)]]
    """
    n_rows, n_columns = maps.shape[1:]
    row_step = math.ceil(n_rows / _ROWS) if scheme is not Scheme.TIME else n_rows
    column_step = math.ceil(n_columns / _COLUMNS) if scheme is not Scheme.FREQUENCY else n_columns
    sums = _added_up(maps.double().cpu(), row_step, column_step)
    n_boxes = 1 if scheme is Scheme.TIME_FREQUENCY else _PARTS
    found = _intervals(sums, level, n_boxes) if 1 in sums.shape[1:] else _rectangles(sums, level, n_boxes)
    return [
        [
            (low * row_step, min(high * row_step, n_rows), start * column_step, min(end * column_step, n_columns))
            for low, high, start, end in boxes
        ]
        for boxes in found
    ]


def widened(boxes: Sequence[Rectangle], n_rows: int, n_columns: int) -> list[Rectangle]:
    """The boxes with a margin of a sixty-fourth of each axis, at least one bin, on each side that lies inside the clip.

    Boxes that then meet are joined where that gives a box: those with the same rows, or with the same columns.

    Args:
        boxes: the boxes of a region.
        n_rows: number of frequency rows of the clip.
        n_columns: number of time columns of the clip.

    Example:
        >>> from captum_apex.locating.candidates import widened
        >>> widened([(0, 8, 10, 20), (0, 8, 23, 30)], n_rows=8, n_columns=128)  # two columns on each side
        [(0, 8, 8, 32)]
    """
    of_rows, of_columns = (max(1, round(size * _MARGIN)) for size in (n_rows, n_columns))
    wider: list[Rectangle] = []
    for box in sorted(boxes):
        low = max(box[0] - of_rows, 0)
        high = min(box[1] + of_rows, n_rows)
        start = max(box[2] - of_columns, 0)
        end = min(box[3] + of_columns, n_columns)
        before = wider[-1] if wider else None
        if before and before[:2] == (low, high) and start <= before[3]:
            wider[-1] = (low, high, before[2], max(end, before[3]))
        elif before and before[2:] == (start, end) and low <= before[1]:
            wider[-1] = (before[0], max(high, before[1]), start, end)
        else:
            wider.append((low, high, start, end))
    return wider


def _added_up(maps: Tensor, row_step: int, column_step: int) -> Tensor:
    """Sums of blocks of bins; the last block of an axis may be smaller."""
    padding = (0, -maps.shape[2] % column_step, 0, -maps.shape[1] % row_step)
    return F.avg_pool2d(F.pad(maps, padding)[:, None], (row_step, column_step))[:, 0] * (row_step * column_step)


def _peak(maps: Tensor) -> Tensor:
    """The largest moving mean of each map, (map, 1, 1)."""
    window = [max(1, round(size * _FINEST)) for size in maps.shape[1:]]
    return F.avg_pool2d(maps[:, None], window, stride=1).amax((2, 3))[:, :, None]


def _intervals(maps: Tensor, level: float, n_boxes: int) -> list[list[Rectangle]]:
    """The boxes of maps with one row or one column."""
    along_time = maps.shape[1] == 1
    profiles = (maps - level * _peak(maps)).flatten(1).numpy()
    found = []
    for profile, peak in zip(profiles, _peak(maps).flatten().tolist(), strict=True):
        runs = sorted(_runs(profile, 0, len(profile)), key=lambda run: -run[2]) if peak > 0 else []
        kept = [(start, end) for start, end, total in runs[:n_boxes] if total >= _SMALLEST_PART * runs[0][2]]
        found.append([(0, 1, start, end) if along_time else (start, end, 0, 1) for start, end in kept])
    return found


def _runs(profile: NDArray[np.float64], first: int, last: int) -> list[tuple[int, int, float]]:
    """The disjoint intervals with the largest sums between two positions: each start, end and sum."""
    pending = [(first, last)]
    runs = []
    while pending:
        begin, stop = pending.pop()
        if stop <= begin:
            continue
        sums = np.concatenate([[0.0], profile[begin:stop].cumsum()])
        gains = sums[1:] - np.minimum.accumulate(sums[:-1])
        end = int(gains.argmax())
        start = int(sums[: end + 1].argmin())
        if gains[end] > 0:
            runs.append((begin + start, begin + end + 1, float(gains[end])))
            pending += [(begin, begin + start), (begin + end + 1, stop)]
    return runs


def _rectangles(maps: Tensor, level: float, n_boxes: int) -> list[list[Rectangle]]:
    """The boxes of maps with several rows and columns."""
    peaks = _peak(maps)
    remaining = maps - level * peaks
    found: list[list[Rectangle]] = [[] for _ in maps]
    largest: Tensor | None = None
    for _ in range(n_boxes):
        rectangles, totals = _best_rectangles(remaining)
        largest = totals if largest is None else largest
        for index, (rectangle, total) in enumerate(zip(rectangles, totals.tolist(), strict=True)):
            if peaks[index] > 0 and total > 0 and total >= _SMALLEST_PART * largest[index]:
                found[index].append(rectangle)
                low, high, start, end = rectangle
                remaining[index, low:high, start:end] = -torch.inf
    return found


def _best_rectangles(maps: Tensor) -> tuple[list[Rectangle], Tensor]:
    """The rectangle with the largest sum in each map (map, frequency, time), and its sum, (map,)."""
    n_rows = maps.shape[1]
    finite = maps.clamp_min(-maps.abs().where(maps.isfinite(), 0.0).sum((1, 2), keepdim=True) - 1)
    below = F.pad(finite.cumsum(1), (0, 0, 1, 0))  # sums of the rows below each edge
    low, high = torch.triu_indices(n_rows + 1, n_rows + 1, offset=1)
    sums = F.pad((below[:, high] - below[:, low]).cumsum(2), (1, 0))  # (map, pair of rows, edge of a column)
    lowest = sums[..., :-1].cummin(2)
    gains = sums[..., 1:] - lowest.values
    totals, places = gains.flatten(1).max(1)
    pairs = places // gains.shape[2]
    ends = places % gains.shape[2]
    starts = lowest.indices[torch.arange(len(maps)), pairs, ends]
    rectangles = [
        (int(low[pair]), int(high[pair]), int(start), int(end) + 1)
        for pair, start, end in zip(pairs, starts, ends, strict=True)
    ]
    return rectangles, totals
