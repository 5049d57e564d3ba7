"""The line around a region, and how it is drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from numpy.typing import NDArray

from captum_apex.audio.clip import Clip, Place
from captum_apex.audio.regions import Box, Region
from captum_apex.figures.colours import REGION_STYLES, REGIONS, LineStyle

__all__ = ["draw_outline", "outline", "region_line", "union_path"]


def draw_outline(ax: Axes, clip: Clip, region: Region, rank: int = 0, *, dashed: bool = False) -> PathPatch:
    """Outlines a region on a panel whose axes are seconds and Hz.

    Args:
        ax: the panel.
        clip: says where the boxes lie.
        region: of the model's input.
        rank: chooses the colour, the strongest channel's first.
        dashed: with the line style of that rank, for panels with several regions.
    """
    colour, style = region_line(rank, dashed=dashed)
    path = union_path([clip.place(box) for box in region.boxes])
    # Below all lines, so that no other region is hidden; for where the sound is as pale as the line.
    ax.add_collection(
        PathCollection([path], facecolors="none", edgecolors="black", linewidths=3.2, alpha=0.5, zorder=0.9)
    )
    patch = PathPatch(path, fill=False, edgecolor=colour, linestyle=style, linewidth=1.5, joinstyle="miter")
    ax.add_patch(patch)
    return patch


def region_line(rank: int, *, dashed: bool = True) -> tuple[str, LineStyle]:
    """Colour and line style of a region; the first is never dashed."""
    return REGIONS[rank % len(REGIONS)], REGION_STYLES[rank % len(REGION_STYLES) if dashed else 0]


def union_path(places: Sequence[Place]) -> Path:
    """The edge of a union of rectangles, as closed lines with x in seconds and y in Hz.

    >>> union_path([Place(0, 1000, 0, 1), Place(0, 1000, 1, 2)]).vertices.tolist()
    [[0.0, 0.0], [2.0, 0.0], [2.0, 1000.0], [0.0, 1000.0], [0.0, 0.0]]
    """
    loops = outline(places)
    return (
        Path.make_compound_path(*(Path([*loop, loop[0]], closed=True) for loop in loops))
        if loops
        else Path(np.empty((0, 2)))
    )


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
    inside = np.zeros(
        (len(up) + 1, len(across) + 1), dtype=bool
    )  # with an empty margin; cell (i, j) begins at edge (i − 1, j − 1)
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
