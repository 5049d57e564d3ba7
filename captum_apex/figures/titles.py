"""Text in figures: names of channels, numbers, and lines that fit the room they have."""

from __future__ import annotations

from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from captum_apex.explanations.explanation import Evidence

SMALL, TINY = "small", "x-small"  # in relation to the user's own font size
_SAFETY = 0.88  # letters that are fitted to the pixels of a screen are wider than measured


def channel_name(part: Evidence) -> str:
    """Its number, and a sign where the channel speaks through its negative activation."""
    return f"channel {part.channel}{'' if part.side > 0 else ' (−)'}"


def points(size: str) -> float:
    """A relative size of a font, in points."""
    return FontProperties(size=size).get_size_in_points()


def quoted(name: str) -> str:
    """A name in quotation marks; nothing for no name."""
    return f"“{name}”" if name else ""


def number(value: float, sign: bool = False) -> str:
    """Three digits, with a minus sign that is as wide as a plus.

    >>> number(-1.2345), number(0.5, sign=True)
    ('−1.23', '+0.5')
    """
    return f"{value:{'+' if sign else ''}.3g}".replace("-", "−")


def fitted(text: str, inches: float, size: str = SMALL, lines: int = 2) -> str:
    """The text broken between words into lines that fit a width; what is too long ends in "…".

    Args:
        text: one or more words.
        inches: the room.
        size: of the font.
        lines: at most.
    """
    font = FontProperties(size=size)
    room = inches * 72 * _SAFETY
    broken = [""]
    for word in text.split():
        longer = f"{broken[-1]} {word}".strip()
        if broken[-1] and _width(longer, font) > room:
            broken.append(word)
        else:
            broken[-1] = longer
    if len(broken) > lines:
        broken[lines - 1 :] = [" ".join(broken[lines - 1 :])]
    return "\n".join(_cut(line, room, font) for line in broken)


def title(ax: Axes, lines: Iterable[str], inches: float, pad: float | None = None) -> None:
    """Writes lines above a panel; the first, which may hold a long name, is broken to the width in inches, the others are cut."""
    first, *rest = lines
    text = "\n".join([fitted(first, inches), *(fitted(line, inches, lines=1) for line in rest)])
    ax.set_title(text, fontsize=SMALL, pad=pad, parse_math=False)


def _cut(line: str, room: float, font: FontProperties) -> str:
    if _width(line, font) <= room:
        return line
    while line and _width(f"{line}…", font) > room:
        line = line[:-1]
    return f"{line.rstrip()}…"


def _width(text: str, font: FontProperties) -> float:
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] if text else 0.0
