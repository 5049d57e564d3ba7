"""Text in figures: names of channels, numbers, and lines that fit the space they have."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from captum_apex.explanations.evidence import Evidence
from captum_apex.figures.canvas import panel_width
from captum_apex.texts import encodable

__all__ = ["SMALL", "TINY", "channel_name", "fitted", "heading", "number", "points", "quoted", "title"]

# Relative to the user's font size
SMALL = "small"
TINY = "x-small"
_SAFETY = 0.88  # on a screen, letters are fitted to pixels and can be wider than measured


def channel_name(evidence: Evidence) -> str:
    """The channel's number, with "(negative)" where it supports the class by its negative activation.

    Args:
        evidence: the channel in the evidence for a class.

    Example:
        >>> from captum_apex import Evidence, Region
        >>> from captum_apex.figures.titles import channel_name
        >>> channel_name(Evidence(3, -1, 2.0, -1.0, 0.8, Region(()), ()))
        'channel 3 (negative)'
    """
    return f"channel {evidence.channel}{'' if evidence.side > 0 else ' (negative)'}"


def points(size: str) -> float:
    """A relative font size in points.

    Args:
        size: name of the font size in matplotlib, which is relative to the user's font size.

    Example:
        >>> import matplotlib as mpl
        >>> from captum_apex.figures.titles import points
        >>> points("medium") == mpl.rcParams["font.size"]
        True
    """
    return FontProperties(size=size).get_size_in_points()


def quoted(name: str) -> str:
    """A name in quotation marks; an empty text for an empty name.

    Args:
        name: the name.

    Example:
        >>> from captum_apex.figures.titles import quoted
        >>> quoted("dog"), quoted("")
        ('“dog”', '')
    """
    return f"“{name}”" if name else ""


def number(value: float, sign: bool = False) -> str:
    """Three digits, with a minus sign that is as wide as a plus.

    Args:
        value: the number.
        sign: whether a positive number gets a plus sign.

    Example:
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

    Example:
        >>> from captum_apex.figures.titles import fitted
        >>> fitted("first second", 0.6)
        'first\nsecond'
    """
    font = FontProperties(size=size)
    width = inches * 72 * _SAFETY
    words = encodable(text).split()
    broken: list[str] = []
    while words and len(broken) < lines - 1:
        n_words = 1
        while n_words < len(words) and _width(" ".join(words[: n_words + 1]), font) <= width:
            n_words += 1
        broken.append(" ".join(words[:n_words]))
        words = words[n_words:]
    if words:
        broken.append(" ".join(words))
    return "\n".join(_cut(line, width, font) for line in broken)


def title(ax: Axes, lines: Iterable[str], inches: float, pad: float | None = None) -> None:
    r"""Writes lines above a panel. The first line may hold a long name, so it is broken; the others are cut.

    Args:
        ax: the panel.
        lines: the lines.
        inches: width of the panel in inches.
        pad: distance from the panel in points.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from captum_apex.figures.titles import title
        >>> panel = Figure().add_subplot()
        >>> title(panel, ["dog", "purity 0.83"], 2.0)
        >>> panel.get_title()
        'dog\npurity 0.83'
    """
    first, *rest = lines
    text = "\n".join([fitted(first, inches), *(fitted(line, inches, lines=1) for line in rest)])
    ax.set_title(text, fontsize=SMALL, pad=pad, parse_math=False)


def _cut(line: str, width: float, font: FontProperties) -> str:
    if _width(line, font) <= width:
        return line
    # By bisection: to lay out one text takes milliseconds, and a line of all class names has thousands of letters.
    n_letters = bisect_right(range(1, len(line)), width, key=lambda n: _width(f"{line[:n]}…", font))
    return f"{line[:n_letters].rstrip()}…"


def _width(text: str, font: FontProperties) -> float:
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] if text else 0.0


def heading(target: Figure | SubFigure, question: str, name: str = "", *notes: str) -> None:
    """Writes the heading of a figure.

    Args:
        target: the figure.
        question: the first line.
        name: name of the clip, for a line below it.
        notes: remarks on the numbers, each on lines of its own.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from captum_apex.figures.titles import heading
        >>> figure = Figure()
        >>> heading(figure, "Why dog?", "barking.wav")
        >>> figure.get_suptitle().splitlines()
        ['Why dog?', 'clip: barking.wav']
    """
    width = panel_width(target, 1, 0.2)
    lines = [f"clip: {name}"] if name else []
    text = [fitted(question, width, "medium"), *(fitted(line, width, SMALL, 1) for line in lines)]
    text += [fitted(note, width, "medium") for note in notes]
    target.suptitle("\n".join(text), fontsize="medium", parse_math=False)
