"""The outline of a region, and how it is drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from captum_apex.audio.clip import Clip
from captum_apex.audio.regions import Box, Place, Region
from captum_apex.figures.colours import DARK, DASHED, REGIONS, SOLID, LineStyle
from captum_apex.figures.titles import TINY

__all__ = ["LINE_WIDTH", "draw_outline", "draw_places", "line_widths", "outline", "union_path"]

LINE_WIDTH = 1.5  # in points
_STRIPE = 1.6  # by how much an outline is wider than the next one that coincides with it, in points
_NARROW = 0.3  # share of a panel's width below which a word is written upward
_DARK_EDGE = 1.7  # by how much the dark line below an outline is wider, in points


def draw_outline(
    ax: Axes, clip: Clip, region: Region, rank: int = 0, *, dashed: bool = False, width: float = LINE_WIDTH
) -> PathPatch:
    """Outlines a region on a panel whose axes are seconds and Hz, and writes "silence" into a region of silence.

    Args:
        ax: the panel.
        clip: the clip that is drawn on the panel.
        region: a region of the model's input for this clip.
        rank: rank of the region's channel in the evidence, which chooses the colour; 0 for the strongest channel.
        dashed: whether the line is dashed, which means that the region is no better than a random place.
        width: width of the line in points, see `line_widths`.

    Returns:
        The outline.

    Example:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> from captum_apex import Box, Clip, Region, SpectrogramAxes
        >>> from captum_apex.figures.outlines import draw_outline
        >>> clip = Clip(torch.zeros(9, 4), SpectrogramAxes(8000, 16, 80))
        >>> patch = draw_outline(Figure().add_subplot(), clip, Region((Box(0.0, 1.0, 0.25, 0.5),)))
        >>> patch.get_path().vertices[:2].tolist()
        [[0.005, 0.0], [0.015, 0.0]]
    """
    if region.boxes and clip.is_silent(region):
        _write_silence(ax, clip, region, REGIONS[rank % len(REGIONS)])
    return draw_places(ax, clip.places(region), rank, DASHED if dashed else SOLID, width)


def _write_silence(ax: Axes, clip: Clip, region: Region, colour: str) -> None:
    """Writes the word into the middle of the largest box."""
    boxes = [clip.on_picture(box) for box in clip.folded(region).boxes]
    largest = max(boxes, key=lambda box: (box.end - box.start) * (box.high - box.low))
    n_bins, n_frames = clip.decibels.shape
    text = ax.text(
        clip.axes.seconds(n_frames * (largest.start + largest.end) / 2),
        clip.axes.hertz(n_bins * (largest.low + largest.high) / 2),
        "silence",
        color=colour,
        fontsize=TINY,
        rotation="vertical" if largest.end - largest.start < min(_NARROW, largest.high - largest.low) else "horizontal",
        horizontalalignment="center",
        verticalalignment="center",
        path_effects=[withStroke(linewidth=2, foreground=DARK)],
    )
    text.set_in_layout(False)


def draw_places(
    ax: Axes, places: Sequence[Place], rank: int = 0, style: LineStyle = SOLID, width: float = LINE_WIDTH
) -> PathPatch:
    """Outlines the union of places on a panel whose axes are seconds and Hz.

    Args:
        ax: the panel.
        places: rectangles in Hz and seconds.
        rank: chooses the colour, see `draw_outline`.
        style: line style, its lengths in units of 1.5 points.
        width: width of the line in points.

    Returns:
        The outline.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from captum_apex import Place
        >>> from captum_apex.figures.outlines import draw_places
        >>> patch = draw_places(Figure().add_subplot(), [Place(0, 1000, 0, 1), Place(0, 1000, 1, 2)])
        >>> patch.get_path().vertices.tolist()
        [[0.0, 0.0], [2.0, 0.0], [2.0, 1000.0], [0.0, 1000.0], [0.0, 0.0]]
    """
    offset, lengths = style
    scaled = (offset * LINE_WIDTH / width, [length * LINE_WIDTH / width for length in lengths])
    path = union_path(places)
    # A dark line, for places where the levels are as pale as the outline. It is below the outlines of all regions.
    dark = width + _DARK_EDGE
    ax.add_collection(
        PathCollection([path], facecolors="none", edgecolors="black", linewidths=dark, alpha=0.5, zorder=0.9)
    )
    colour = REGIONS[rank % len(REGIONS)]
    patch = PathPatch(path, fill=False, edgecolor=colour, linestyle=scaled, linewidth=width, joinstyle="miter")
    ax.add_patch(patch)
    return patch


def line_widths(regions: Sequence[Region]) -> list[float]:
    """The width of the outline of each region on one panel, so that all are visible where regions coincide.

    An outline is wider than each later one of the same region, and lies beneath it.

    Args:
        regions: the regions, in the order in which they are drawn.

    Returns:
        Widths in points; 1.5 for a region without a later one that is the same.

    Example:
        >>> from captum_apex import Box, Region
        >>> from captum_apex.figures.outlines import line_widths
        >>> strip = Region((Box(0.0, 1.0, 0.25, 0.5),))
        >>> line_widths([strip, strip, Region(())])
        [3.1, 1.5, 1.5]
    """
    return [LINE_WIDTH + _STRIPE * regions[rank + 1 :].count(region) for rank, region in enumerate(regions)]


def union_path(places: Sequence[Place]) -> Path:
    """The edge of a union of rectangles, as closed lines with x in seconds and y in Hz.

    Args:
        places: rectangles in Hz and seconds.

    Example:
        >>> from captum_apex import Place
        >>> from captum_apex.figures.outlines import union_path
        >>> union_path([Place(0, 1000, 0, 1), Place(0, 1000, 1, 2)]).vertices.tolist()
        [[0.0, 0.0], [2.0, 0.0], [2.0, 1000.0], [0.0, 1000.0], [0.0, 0.0]]
    """
    loops = outline(places)
    if not loops:
        return Path(np.empty((0, 2)))
    return Path.make_compound_path(*(Path([*loop, loop[0]], closed=True) for loop in loops))


def outline(boxes: Sequence[Box | Place]) -> list[list[tuple[float, float]]]:
    """The edge of a union of rectangles.

    Args:
        boxes: the rectangles, as fractions or in Hz and seconds.

    Returns:
        Closed lines, each as its corners (time, frequency). The inside is on the left: edges of holes run clockwise.

    Example:
        >>> from captum_apex import Place
        >>> from captum_apex.figures.outlines import outline
        >>> outline([Place(0, 1000, 0, 1), Place(0, 1000, 1, 2)])
        [[(0, 0), (2, 0), (2, 1000), (0, 1000)]]
    """
    times = sorted({side for box in boxes for side in (box.start, box.end)})
    frequencies = sorted({side for box in boxes for side in (box.low, box.high)})
    # A grid of cells with an empty margin: cell (i, j) begins at frequency i − 1 and time j − 1.
    inside = np.zeros((len(frequencies) + 1, len(times) + 1), dtype=bool)
    for box in boxes:
        rows = slice(frequencies.index(box.low) + 1, frequencies.index(box.high) + 1)
        columns = slice(times.index(box.start) + 1, times.index(box.end) + 1)
        inside[rows, columns] = True
    return [[(times[column], frequencies[row]) for row, column in loop] for loop in _loops(inside)]


def _loops(inside: NDArray[np.bool_]) -> list[list[tuple[int, int]]]:
    """The corners of the lines around the cells that are inside, as (row, column) of the edges."""
    following = _edges(inside)
    loops = []
    while following:
        start = next(iter(following))
        place = start
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
    for high, right in np.argwhere(inside).tolist():
        low = high - 1
        left = right - 1
        if not inside[high - 1, right]:
            following[low, left].append((low, right))
        if not inside[high, right + 1]:
            following[low, right].append((high, right))
        if not inside[high + 1, right]:
            following[high, right].append((high, left))
        if not inside[high, right - 1]:
            following[high, left].append((low, left))
    return following


def _neighbours(loop: list[tuple[int, int]]) -> zip[tuple[tuple[int, int], ...]]:
    return zip([loop[-1], *loop[:-1]], loop, [*loop[1:], loop[0]], strict=True)


def _straight(*corners: tuple[int, int]) -> bool:
    return any(len({corner[axis] for corner in corners}) == 1 for axis in (0, 1))
