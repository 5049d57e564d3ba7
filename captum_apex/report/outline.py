"""The line around a region, without the lines between its boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from captum_apex.schemes import Box

__all__ = ["outline"]


def outline(boxes: Sequence[Box]) -> str:
    """The edge of the union of boxes, as an SVG path.

    Args:
        boxes: their sides as fractions of the picture.

    Returns:
        Path data; x to the right and y downward, both from 0 to 1.

    >>> outline([Box(low=0.0, high=0.5, start=0.25, end=0.5)])
    'M0.25 0.5V1M0.5 0.5V1M0.25 0.5H0.5M0.25 1H0.5'
    """
    across = sorted({side for box in boxes for side in (box.start, box.end)})
    down = sorted({1 - side for box in boxes for side in (box.low, box.high)})
    inside = np.zeros((len(down) + 1, len(across) + 1), dtype=bool)  # the parts between neighbouring sides, and one part around them
    for box in boxes:
        rows = slice(down.index(1 - box.high) + 1, down.index(1 - box.low) + 1)
        inside[rows, across.index(box.start) + 1 : across.index(box.end) + 1] = True
    upright = (inside[:, 1:] != inside[:, :-1]).T  # (side, part)
    level = inside[1:] != inside[:-1]
    lines = [f"M{_number(x)} {_number(down[top])}V{_number(down[end])}" for x, top, end in _lines(across, upright)]
    return "".join(lines + [f"M{_number(across[start])} {_number(y)}H{_number(across[end])}" for y, start, end in _lines(down, level)])


def _lines(sides: Sequence[float], edges: NDArray[np.bool_]) -> Iterator[tuple[float, int, int]]:
    """Per side, the runs of parts along which the inside ends: the side, and where the run begins and ends."""
    for side, edge in zip(sides, edges, strict=True):
        for begin, end in np.flatnonzero(np.diff(edge.astype(np.int8))).reshape(-1, 2).tolist():
            yield side, begin, end


def _number(value: float) -> str:
    return f"{value:.5f}".rstrip("0").rstrip(".")
