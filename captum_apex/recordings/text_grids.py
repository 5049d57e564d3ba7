"""TextGrid files, in which Praat and forced aligners store when phonemes and words begin and end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import NamedTuple

__all__ = ["Interval", "read_text_grid"]

# Praat's rule: only texts in quotation marks, flags in angle brackets and numbers that stand alone count. The rest is
# for human readers, so that the long and the short form are read alike.
_VALUE = re.compile(r'"(?:[^"]|"")*"|(?<!\S)[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?!\S)')


class Interval(NamedTuple):
    """A part of a recording with its label.

    Attributes:
        start: where it begins, in seconds.
        end: where it ends, in seconds.
        label: the phoneme, the word, or an empty text for a pause.

    Example:
        >>> from captum_apex.recordings.text_grids import Interval
        >>> Interval(0.1, 0.25, "AH0").label
        'AH0'
    """

    start: float
    end: float
    label: str


def read_text_grid(path: str | PathLike[str], tier: str | None = None) -> list[Interval]:
    """The intervals of one tier of a TextGrid file.

    Args:
        path: a TextGrid in Praat's long or short text form, in UTF-8 or UTF-16.
        tier: name of the tier, such as `"phones"`; the only tier of intervals if left out.

    Returns:
        All intervals of the tier, also those without a label, in the order of the file.

    Raises:
        ValueError: the file is no TextGrid in a text form, has no such tier, or has several and none was named.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.recordings import read_text_grid
        >>> short = '"ooTextFile" "TextGrid" 0 1 <exists> 1 "IntervalTier" "words" 0 1 2 0 0.4 "yes" 0.4 1 ""'
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "clip.TextGrid")
        ...     _ = path.write_text(short)
        ...     read_text_grid(path)
        [Interval(start=0.0, end=0.4, label='yes'), Interval(start=0.4, end=1.0, label='')]
    """
    values = iter(_VALUE.findall(_text(Path(path))))
    try:
        tiers = _tiers(values)
    except (StopIteration, ValueError) as error:
        raise ValueError(f"expected {path} to be a TextGrid in a text form of Praat, but it is not one") from error
    found = [intervals for name, intervals in tiers if tier is None or name == tier]
    if len(found) != 1:
        names = ", ".join(repr(name) for name, _ in tiers) or "none"
        wanted = "one tier of intervals, or the name of a tier" if tier is None else f"a tier {tier!r}"
        raise ValueError(f"expected {wanted} in {path}, but its tiers of intervals are {names}")
    return found[0]


def _text(path: Path) -> str:
    content = path.read_bytes()
    utf_16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    return content.decode("utf-16" if utf_16 else "utf-8-sig")


def _tiers(values: Iterator[str]) -> list[tuple[str, list[Interval]]]:
    """The name and the intervals of each tier of intervals; tiers of points are left out."""
    kinds = (_label(next(values)), _label(next(values)))
    if kinds != ("ooTextFile", "TextGrid"):
        raise ValueError(f"expected a TextGrid, but got {kinds}")
    _skip(values, 2)  # the ends of the recording
    tiers = []
    for _ in range(int(next(values))):
        kind = _label(next(values))
        name = _label(next(values))
        _skip(values, 2)  # the ends of the tier
        count = int(next(values))
        if kind == "IntervalTier":
            tiers.append((name, [_interval(values) for _ in range(count)]))
        else:
            _skip(values, 2 * count)  # a time and a mark for each point
    return tiers


def _interval(values: Iterator[str]) -> Interval:
    start = float(next(values))
    end = float(next(values))
    return Interval(start, end, _label(next(values)))


def _label(value: str) -> str:
    if not value.startswith('"'):
        raise ValueError(f"expected a text, but got {value}")
    return value[1:-1].replace('""', '"')


def _skip(values: Iterator[str], count: int) -> None:
    for _ in range(count):
        next(values)
