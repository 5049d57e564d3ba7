"""The CSV file of the command `speed`: the timings of the parts that are finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import pandas as pd

from benchmarks.experiments.timing import Timing
from benchmarks.runs.results import FolderError
from captum_apex.files import locked, replaced

KEY = ("part", "repeats", "device")
_VALUES = tuple(field.name for field in fields(Timing))


def stored_timings(path: Path, key: tuple[str, int, str]) -> list[Timing]:
    """The timings of a part in the file; none where it is not finished.

    Args:
        path: path of the file, which may be missing.
        key: name of the part, number of repeats and name of the device.

    Raises:
        FolderError: the file holds something else.
    """
    stored = _read(path)
    lines = stored[(stored[list(KEY)] == list(key)).all(axis=1)]
    return [Timing(*values) for values in lines[list(_VALUES)].itertuples(index=False, name=None)]


def store_timings(path: Path, key: tuple[str, int, str], timings: Sequence[Timing]) -> None:
    """Adds the timings of a finished part to the file.

    Args:
        path: path of the file.
        key: as in `stored_timings`.
        timings: the timings.
    """
    lines = pd.DataFrame([{**dict(zip(KEY, key, strict=True)), **asdict(timing)} for timing in timings])
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent), replaced(path) as temporary:
        stored = _read(path)  # another process may have added lines meanwhile
        pd.concat([stored, lines] if len(stored) else [lines]).to_csv(temporary, index=False)


def _read(path: Path) -> pd.DataFrame:
    columns = [*KEY, *_VALUES]
    try:
        stored = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=columns)
    except ValueError as error:  # pandas' own errors are among them
        raise FolderError(f"expected {path} to hold the lines of `speed`, but it cannot be read: {error}") from error
    if missing := [name for name in columns if name not in stored.columns]:
        raise FolderError(
            f"expected {path} to hold the lines of `speed` as this version writes them, but it lacks the column "
            f"{missing[0]}; name another file for --csv"
        )
    return stored.assign(reference=stored["reference"].fillna(""))  # an absolute time has none
