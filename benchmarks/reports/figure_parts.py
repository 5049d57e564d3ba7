"""What the figures of the reports have in common: their style, points with intervals, names, a legend, their files."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike

from benchmarks.reports.standings import FAMILIES, family
from captum_apex.figures.colours import LINES, TOTAL
from captum_apex.files import replaced

DPI = 130
FAMILY_COLOURS = dict(zip(FAMILIES, (LINES[0], LINES[1], TOTAL), strict=True))
MEASURED = "insertion − deletion AUC"
WIDTH = 9.0  # smallest width of a figure in inches, which the titles need


def style() -> AbstractContextManager[None]:
    """Small texts, and no frame at the top and on the right, for the figures that are drawn inside."""
    return mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})


def points(
    panel: Axes,
    values: ArrayLike,
    places: ArrayLike,
    ends: tuple[ArrayLike, ArrayLike],
    colour: str,
    marker: str = "o",
    **more: Any,
) -> None:
    """Points with horizontal intervals.

    Args:
        panel: the panel.
        values: places of the points on the x-axis, (point,).
        places: places of the points on the y-axis, (point,).
        ends: lower and upper ends of the intervals, (point,) each.
        colour: colour of points and intervals.
        marker: marker of the points.
        more: further options of matplotlib's `errorbar`.
    """
    low, high = ends
    below = np.subtract(values, low)
    above = np.subtract(high, values)
    errors = np.maximum(0, [below, above])  # an end can be on the wrong side by a rounding error
    options = {"markersize": 4, "linewidth": 1, **more}
    panel.errorbar(np.asarray(values), places, xerr=errors, fmt=marker, color=colour, **options)


def name_methods(panel: Axes, methods: Sequence[str]) -> None:
    """Writes the methods' names on the y-axis, from below; APEX in bold, controls in italics."""
    panel.set_yticks(range(len(methods)), methods)
    for text, name in zip(panel.get_yticklabels(), methods, strict=True):
        text.set(
            fontweight="bold" if family(name) == "APEX" else "normal",
            fontstyle="italic" if family(name) == "controls" else "normal",
        )
    panel.set_ylim(-0.6, len(methods) - 0.4)
    panel.grid(axis="y", color="0.92")
    panel.set_axisbelow(True)


def family_legend(figure: Figure, *more: Line2D) -> None:
    """The colours of the families of methods, below the panels, and further lines."""
    handles = [
        Line2D([], [], color=colour, marker="o", markersize=4, linestyle="", label=kind)
        for kind, colour in FAMILY_COLOURS.items()
    ]
    handles += more
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)


def write_figure(figure: Figure, path: Path) -> None:
    """Writes a figure to a PNG file, completely or not at all."""
    with replaced(path) as unfinished:
        figure.savefig(unfinished, format="png")
