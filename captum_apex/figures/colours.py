"""Colours that colour-blind readers tell apart."""

from __future__ import annotations

from collections.abc import Sequence

LineStyle = tuple[float, Sequence[float]]  # where the dashes begin, and the lengths of dashes and gaps

LEVELS = "magma"  # rises evenly in lightness: it reads in grey and without colour vision
GREY_LEVELS = "Greys"  # beneath a coloured map: quiet is white
SIGNED = "RdBu_r"  # white in the middle
# Okabe and Ito's; yellow is left out: it is too pale for lines on white.
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
MARKERS = "osD^vP*"
TOWARDS, AGAINST, TOTAL = LINES[0], LINES[1], "0.45"
# Pale ones, on the dark levels. Where several regions are on one panel, each has dashes of its own, in the gaps of the others; they are
# short, so that the line around a small spot is still seen as one.
REGIONS = ("#5fe0ff", "#f0e442", "#ffffff", "#4fd6a0")
REGION_STYLES: tuple[LineStyle, ...] = ((0, ()), (0, (2.5, 3.5)), (2.75, (2, 4)), (0, (0.75, 2.25)))
