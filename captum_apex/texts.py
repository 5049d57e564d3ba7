"""Names of files and classes, and times, as texts of figures, pages and tables."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal

__all__ = [
    "band_text",
    "cell_text",
    "encodable",
    "fixed_text",
    "minutes_text",
    "second_digits",
    "short_names",
    "times_text",
]

_NO_TEXT = ("=", "+", "-", "@", '"')  # the beginnings of formulas and of quoted cells in spreadsheets
_LONG = (0.9, 0.09)  # s; a clip of about 1 s, such as 0.99 s of whole frames, counts as one
_FEWEST = 2  # digits after the point
_SURROGATES = re.compile("[\ud800-\udfff]")


def encodable(text: str) -> str:
    r"""A text for figures, pages and tables: what is no Unicode in it is shown by replacement characters.

    Python keeps the bytes of a file name that are no Unicode as surrogates, which can neither be drawn nor encoded.

    Args:
        text: the text.

    Example:
        >>> from captum_apex.texts import encodable
        >>> encodable("caf\udce9.wav")
        'caf�.wav'
    """
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


def cell_text(name: str) -> str:
    r"""A name as a cell of a table: on one line, and as text for a spreadsheet, which would run "=cmd|…" as a formula.

    Args:
        name: the name; where it begins with =, +, -, @ or a quotation mark, an apostrophe is put before it.

    Example:
        >>> from captum_apex.texts import cell_text
        >>> cell_text("=1+1"), cell_text("dog\nbark")
        ("'=1+1", 'dog bark')
    """
    line = encodable(" ".join(name.split()))
    return f"'{line}" if line.startswith(_NO_TEXT) else line


def second_digits(duration: float) -> int:
    """How many digits after the point times in a clip have, so that the last one is at most a hundredth of the clip.

    Args:
        duration: duration of the clip, in s.

    Returns:
        2 for clips of 1 s and more, 3 for those of 0.1 s, 4 for shorter ones, such as calls of bats.

    Example:
        >>> from captum_apex.texts import second_digits
        >>> second_digits(5.0), second_digits(0.5), second_digits(0.065)
        (2, 3, 4)
    """
    return _FEWEST + sum(duration < long for long in _LONG)


def times_text(start: float, end: float, digits: int = _FEWEST) -> str:
    """A time span in words.

    Args:
        start: its start, in s.
        end: its end, in s.
        digits: digits after the point, as `second_digits` gives them.

    Example:
        >>> from captum_apex.texts import times_text
        >>> times_text(0.25, 0.5), times_text(0.0125, 0.0171, digits=4)
        ('0.25–0.50 s', '0.0125–0.0171 s')
    """
    return f"{fixed_text(start, digits)}–{fixed_text(end, digits)} s"


def band_text(low: float, high: float) -> str:
    """A frequency band in words.

    Args:
        low: its lower end, in Hz.
        high: its upper end, in Hz.

    Example:
        >>> from captum_apex.texts import band_text
        >>> band_text(312.5, 8000.0)
        '313–8000 Hz'
    """
    return f"{fixed_text(low, 0)}–{fixed_text(high, 0)} Hz"


def fixed_text(value: float, digits: int) -> str:
    """A number with so many digits after the point; a half is rounded away from zero, as the page's script does.

    Args:
        value: the number.
        digits: digits after the point.

    Example:
        >>> from captum_apex.texts import fixed_text
        >>> fixed_text(0.125, 2), f"{0.125:.2f}"  # Python rounds a half to the even digit
        ('0.13', '0.12')
    """
    return f"{Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):f}"


def minutes_text(seconds: float) -> str:
    """A duration of more than a minute, as it is said of work that will take so long.

    Args:
        seconds: the duration, in s.

    Example:
        >>> from captum_apex.texts import minutes_text
        >>> minutes_text(61), minutes_text(170), minutes_text(9000)
        ('a minute', '3 minutes', '2.5 hours')
    """
    if seconds < 90 * 60:
        minutes = max(round(seconds / 60), 1)
        return "a minute" if minutes == 1 else f"{minutes} minutes"
    return f"{seconds / 3600:.1f} hours"


def short_names(names: Sequence[str]) -> list[str]:
    """The names of clips for printed texts and pages: without the folder that all files among them are in.

    Args:
        names: paths of files, and names of clips that are no files.

    Example:
        >>> from captum_apex.texts import short_names
        >>> short_names(["/tmp/sounds/dog/a.wav", "/tmp/sounds/rain/a.wav", "clip 3"])
        ['dog/a.wav', 'rain/a.wav', 'clip 3']
    """
    folders = [os.path.dirname(name) for name in names if os.path.dirname(name)]
    try:
        shared = os.path.commonpath(folders) if folders else ""
    except ValueError:  # some paths are absolute, and others are not
        shared = ""
    inside = [bool(shared and os.path.dirname(name)) for name in names]
    shown = [os.path.relpath(name, shared) if cut else name for name, cut in zip(names, inside, strict=True)]
    return [encodable(name) for name in shown]
