"""The line around a region, exactly on the edges of its boxes and without inner lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from captum_apex.clip import Place
from captum_apex.schemes import Box

__all__ = ["outline"]


def outline(boxes: Sequence[Box | Place]) -> list[list[tuple[float, float]]]:
    """The edge of a union of rectangles.

    Args:
        boxes: of a region, as fractions or in Hz and seconds.

    Returns:
        Closed lines, each by its corners, (time, frequency): the inside is on the left, so holes run the other way round.

    >>> outline([Place(0, 1000, 0, 1), Place(0, 1000, 1, 2)])
    [[(0, 0), (2, 0), (2, 1000), (0, 1000)]]
    """
    across = sorted({side for box in boxes for side in (box.start, box.end)})
    up = sorted({side for box in boxes for side in (box.low, box.high)})
    inside = np.zeros((len(up) + 1, len(across) + 1), dtype=bool)  # with an empty margin; cell (i, j) begins at edge (i − 1, j − 1)
    for box in boxes:
        rows = slice(up.index(box.low) + 1, up.index(box.high) + 1)
        inside[rows, across.index(box.start) + 1 : across.index(box.end) + 1] = True
    return [[(across[column], up[row]) for row, column in loop] for loop in _loops(inside)]


def _loops(inside: NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """The corners of the lines around what is inside, as (row, column) of the edges."""
    following = _edges(inside)
    loops = []
    while following:
        start = place = next(iter(following))
        loop: list[tuple[int, int]] = []
        while not loop or place != start:
            loop.append(place)
            ends = following[place]
            end = ends.pop()
            if not ends:
                del following[place]
            place = end
        loops.append([corner for before, corner, after in _neighbours(loop) if not _straight(before, corner, after)])
    return loops


def _edges(inside: NDArray[np.bool_]) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Start → ends of every edge between inside and outside, with the inside on its left."""
    following: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for row, column in np.argwhere(inside).tolist():
        low, high, left, right = row - 1, row, column - 1, column
        if not inside[row - 1, column]:
            following[low, left].append((low, right))
        if not inside[row, column + 1]:
            following[low, right].append((high, right))
        if not inside[row + 1, column]:
            following[high, right].append((high, left))
        if not inside[row, column - 1]:
            following[high, left].append((low, left))
    return following


def _neighbours(loop: list[tuple[int, int]]) -> zip[tuple[tuple[int, int], ...]]:
    return zip([loop[-1], *loop[:-1]], loop, [*loop[1:], loop[0]], strict=True)


def _straight(*corners: tuple[int, int]) -> bool:
    return any(len({corner[axis] for corner in corners}) == 1 for axis in (0, 1))
