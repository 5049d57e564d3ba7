"""The times at which clips are divided into segments, such as words or phonemes, from a file or a folder."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path

from captum_apex.recordings import read_text_grid

COLUMNS = ("clip", "time")  # of a CSV file
SUFFIX = ".TextGrid"


def read_times(path: Path, tier: str | None = None) -> dict[int, tuple[float, ...]]:
    r"""The times in seconds at which each test clip is divided, in order.

    Args:
        path: a CSV file with the columns `clip` (index of the test clip) and `time`, with a line for each boundary; or
            a folder with TextGrid files whose names are the indices of the test clips, such as `7.TextGrid`.
        tier: name of the tier of the TextGrid files, such as `phones`; their only tier if left out.

    Returns:
        Index of a test clip → its boundaries. Where intervals of a tier begin and end, there are boundaries.

    Raises:
        FileNotFoundError: there is neither such a file nor such a folder.
        ValueError: the file or a file in the folder is not of this form.

    Example:
        >>> import tempfile
        >>> from benchmarks.tasks.segment_times import read_times
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "words.csv")
        ...     _ = path.write_text("clip,time\n0,0.5\n0,0.25\n3,0.4\n")
        ...     read_times(path)
        {0: (0.25, 0.5), 3: (0.4,)}
    """
    if path.is_dir():
        times = {_index(file.stem, file): _ends(file, tier) for file in sorted(path.glob(f"*{SUFFIX}"))}
    elif path.exists():
        times = _in_table(path)
    else:
        raise FileNotFoundError(f"expected a CSV file or a folder of {SUFFIX} files at {path}, but there is neither")
    if not times:
        raise ValueError(f"expected boundaries of clips in {path}, but it has none")
    return {clip: tuple(sorted(set(times[clip]))) for clip in sorted(times)}


def lookup(times: dict[int, tuple[float, ...]], path: Path) -> Callable[[int], tuple[float, ...]]:
    """The `segments` of a task: the boundaries of a clip, from the result of `read_times`.

    Args:
        times: index of a test clip → its boundaries.
        path: where they are from, for the error message.

    Returns:
        A function from the index of a test clip to its boundaries. It raises a ValueError for a clip without any.

    Example:
        >>> from benchmarks.tasks.segment_times import lookup
        >>> lookup({3: (0.4,)}, Path("words.csv"))(3)
        (0.4,)
    """

    def segments(index: int) -> tuple[float, ...]:
        if index not in times:
            raise ValueError(f"expected boundaries of test clip {index} in {path}, but it has none")
        return times[index]

    return segments


def _ends(path: Path, tier: str | None) -> list[float]:
    """The ends of all intervals of a tier, also of those without a text; tiers of points are left out."""
    intervals = [each for each in read_text_grid(path) if each.start < each.end]
    tiers = list(dict.fromkeys(each.tier for each in intervals))
    if tier not in tiers and (tier is not None or len(tiers) != 1):
        wanted = "one tier of intervals, or the name of a tier" if tier is None else f"a tier {tier!r}"
        names = ", ".join(map(repr, tiers)) or "none"
        raise ValueError(f"expected {wanted} in {path}, but its tiers of intervals are {names}")
    return [end for each in intervals if tier in (None, each.tier) for end in (each.start, each.end)]


def _in_table(path: Path) -> dict[int, list[float]]:
    times: dict[int, list[float]] = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if not set(COLUMNS) <= set(reader.fieldnames or ()):
            raise ValueError(f"expected the columns {', '.join(COLUMNS)} in {path}, but got {reader.fieldnames}")
        for line in reader:
            times.setdefault(_index(line["clip"], path), []).append(_seconds(line["time"], path))
    return times


def _index(text: str | None, path: Path) -> int:
    if text is None or not text.strip().isdecimal():
        raise ValueError(f"expected the index of a test clip, such as 7, in {path}, but got {text!r}")
    return int(text)


def _seconds(text: str, path: Path) -> float:
    try:
        seconds = float(text)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise ValueError(f"expected a time of at least 0 seconds in {path}, but got {text!r}")
    return seconds
