"""The line around a region, drawn on a panel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from captum_apex.clip import Clip, Place
from captum_apex.figures.colours import REGION_STYLES, REGIONS, LineStyle
from captum_apex.outline import outline
from captum_apex.schemes import Region


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
    ax.add_collection(PathCollection([path], facecolors="none", edgecolors="black", linewidths=3.2, alpha=0.5, zorder=0.9))
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
    return Path.make_compound_path(*(Path([*loop, loop[0]], closed=True) for loop in loops)) if loops else Path(np.empty((0, 2)))
