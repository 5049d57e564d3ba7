"""Colours that colour-blind readers tell apart; the report page takes its colours from here, too."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np

__all__ = [
    "AGAINST",
    "DARK",
    "DASHED",
    "GREY_LEVELS",
    "LEVELS",
    "LINES",
    "MARKERS",
    "PALE_AGAINST",
    "PALE_TOWARDS",
    "REGIONS",
    "SIGNED",
    "SOLID",
    "TOTAL",
    "TOWARDS",
    "LineStyle",
    "class_mark",
    "colour_steps",
]

LineStyle = tuple[float, Sequence[float]]  # offset of the dashes, lengths of dashes and gaps, in line widths

LEVELS = "magma"  # its lightness rises evenly: it can be read in grey and without colour vision
GREY_LEVELS = "Greys"  # beneath a coloured map: low levels are white
SIGNED = "RdBu_r"  # zero is nearly white
# The colours of Okabe and Ito; yellow is left out, because it is too pale for lines on white.
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
MARKERS = "osD^vP*"
# Bars of a waterfall; the pale ones are for a dark background.
TOWARDS = LINES[0]
AGAINST = LINES[1]
TOTAL = "#737373"
PALE_TOWARDS = LINES[4]
PALE_AGAINST = LINES[5]
# Outlines of regions are pale, because they lie on dark levels. A dashed outline means a region that is no better than
# a random place. The dashes are short, so that the outline of a small spot still looks like one line.
SOLID: LineStyle = (0, ())
DASHED: LineStyle = (0, (2.5, 2))
DARK = "#000004"  # the darkest of the levels, as background of pale lines elsewhere
REGIONS = ("#5fe0ff", "#f0e442", "#ffffff", "#4fd6a0", "#ffb3e6")


def class_mark(rank: int) -> tuple[str, str]:
    """Colour and marker of a class in the timeline of a recording.

    Args:
        rank: rank of the class, 0 for the strongest.

    Example:
        >>> from captum_apex.figures.colours import class_mark
        >>> class_mark(1)
        ('#f0e442', 's')
    """
    return REGIONS[rank % len(REGIONS)], MARKERS[rank % len(MARKERS)]


def colour_steps(name: str, n_steps: int = 11) -> list[str]:
    """Colours of a colour map from its low to its high end, for a legend.

    Args:
        name: name of the colour map in matplotlib.
        n_steps: number of colours.

    Example:
        >>> from captum_apex.figures.colours import colour_steps
        >>> colour_steps("Greys", 3)
        ['#ffffff', '#959595', '#000000']
    """
    return [mpl.colors.to_hex(mpl.colormaps[name](share)) for share in np.linspace(0, 1, n_steps)]
