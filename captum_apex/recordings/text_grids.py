"""Praat's TextGrids: intervals of time with a text, in tiers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from captum_apex.recordings.tables import file_text

__all__ = ["Interval", "read_text_grid"]

# What Praat itself reads of a text file: texts in quotation marks, in which "" is one mark, flags, and numbers that
# stand alone. All other words, and comments, are for people: so the long and the short format are read alike.
_TOKEN = re.compile(r'"((?:[^"]|"")*)"|<(\w+)>|!.*|(\S+)')
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?%?$")
_POINTS = "TextTier"
_INTERVALS = "IntervalTier"


class Interval(NamedTuple):
    """An interval of a tier, or a point, which begins and ends at one time.

    Args:
        tier: name of the tier.
        start: beginning, in s.
        end: end, in s.
        text: the text; empty where nothing is annotated.

    Example:
        >>> from captum_apex.recordings import Interval
        >>> Interval("words", 0.5, 0.75, "na").end
        0.75
    """

    tier: str
    start: float
    end: float
    text: str


def read_text_grid(path: str | os.PathLike) -> list[Interval]:
    r"""The intervals and points of all tiers of a TextGrid, in the long or the short text format of Praat.

    Args:
        path: path of the file, in UTF-8 or UTF-16.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no TextGrid in a text format.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.recordings import read_text_grid
        >>> short = '"ooTextFile"\n"TextGrid"\n0 1 <exists> 1\n"IntervalTier" "words" 0 1 2\n0 0.5 "na" 0.5 1 ""\n'
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.TextGrid").write_text(short)
        ...     read_text_grid(Path(folder, "a.TextGrid"))[0]
        Interval(tier='words', start=0.0, end=0.5, text='na')
    """
    tokens = _tokens(file_text(Path(path)))
    try:
        if [next(tokens), next(tokens)] != ["ooTextFile", "TextGrid"]:
            raise ValueError("it does not begin with ooTextFile and TextGrid")
        _numbers(tokens, 2)  # start and end of the sound
        if next(tokens) != "exists":  # a TextGrid without tiers
            return []
        return [interval for _ in range(_count(tokens)) for interval in _tier(tokens)]
    except (StopIteration, RuntimeError) as error:
        raise ValueError(f"expected {path} to be a TextGrid, but it ends within a tier") from error
    except ValueError as error:
        raise ValueError(f"expected {path} to be a TextGrid in a text format of Praat, but {error}") from error


def _tokens(text: str) -> Iterator[str | float]:
    """The texts, flags and numbers of a text file."""
    for match in _TOKEN.finditer(text):
        quoted, flag, word = match.groups()
        if quoted is not None:
            yield quoted.replace('""', '"')
        elif flag is not None:
            yield flag
        elif word is not None and _NUMBER.match(word):
            yield float(word.rstrip("%"))


def _tier(tokens: Iterator[str | float]) -> Iterator[Interval]:
    """The intervals or points of the tier that begins here."""
    kind = next(tokens)
    name = next(tokens)
    if kind not in (_POINTS, _INTERVALS):
        raise ValueError(f"a tier is of the kind {kind!r}")
    _numbers(tokens, 2)  # start and end of the tier
    for _ in range(_count(tokens)):
        times = _numbers(tokens, 2 if kind == _INTERVALS else 1)
        text = next(tokens)
        if not isinstance(text, str):
            raise ValueError(f"the tier {name!r} has the number {text:g} in place of a text")
        yield Interval(str(name), times[0], times[-1], text)


def _numbers(tokens: Iterator[str | float], count: int) -> list[float]:
    numbers = []
    for _ in range(count):
        token = next(tokens)
        if not isinstance(token, float):
            raise ValueError(f"it has the text {token!r} in place of a number")
        numbers.append(token)
    return numbers


def _count(tokens: Iterator[str | float]) -> int:
    return int(_numbers(tokens, 1)[0])
