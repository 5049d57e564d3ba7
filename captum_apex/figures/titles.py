"""Text in figures: names of channels, numbers, and lines that fit the space they have."""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from captum_apex.explanations.evidence import Evidence

# Relative to the user's font size
SMALL = "small"
TINY = "x-small"
_SAFETY = 0.88  # on a screen, letters are fitted to pixels and can be wider than measured


def channel_name(evidence: Evidence) -> str:
    """The channel's number, with "(negative)" where it supports the class by its negative activation."""
    return f"channel {evidence.channel}{'' if evidence.side > 0 else ' (negative)'}"


def points(size: str) -> float:
    """A relative font size in points."""
    return FontProperties(size=size).get_size_in_points()


def quoted(name: str) -> str:
    """A name in quotation marks; an empty text for an empty name."""
    return f"“{name}”" if name else ""


def number(value: float, sign: bool = False) -> str:
    """Three digits, with a minus sign that is as wide as a plus.

    >>> from captum_apex.figures.titles import number
    >>> number(-1.2345), number(0.5, sign=True)
    ('−1.23', '+0.5')
    """
    return f"{value:{'+' if sign else ''}.3g}".replace("-", "−")


def fitted(text: str, inches: float, size: str = SMALL, lines: int = 2) -> str:
    r"""A text, broken between words into lines that fit a width; a text that is too long ends in "…".

    Args:
        text: one or more words.
        inches: the width.
        size: relative font size.
        lines: largest number of lines.

    >>> from captum_apex.figures.titles import fitted
    >>> fitted("first second", 0.6)
    'first\nsecond'
    """
    font = FontProperties(size=size)
    width = inches * 72 * _SAFETY
    broken = [""]
    for word in text.split():
        longer = f"{broken[-1]} {word}".strip()
        if broken[-1] and _width(longer, font) > width:
            broken.append(word)
        else:
            broken[-1] = longer
    if len(broken) > lines:
        broken[lines - 1 :] = [" ".join(broken[lines - 1 :])]
    return "\n".join(_cut(line, width, font) for line in broken)


def title(ax: Axes, lines: Iterable[str], inches: float, pad: float | None = None) -> None:
    """Writes lines above a panel. The first line may hold a long name, so it is broken; the others are cut.

    Args:
        ax: the panel.
        lines: the lines.
        inches: width of the panel in inches.
        pad: distance from the panel in points.
    """
    first, *rest = lines
    text = "\n".join([fitted(first, inches), *(fitted(line, inches, lines=1) for line in rest)])
    ax.set_title(text, fontsize=SMALL, pad=pad, parse_math=False)


def _cut(line: str, width: float, font: FontProperties) -> str:
    if _width(line, font) <= width:
        return line
    while line and _width(f"{line}…", font) > width:
        line = line[:-1]
    return f"{line.rstrip()}…"


def _width(text: str, font: FontProperties) -> float:
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] if text else 0.0
