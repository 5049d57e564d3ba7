"""What a command ends with: a table of its results, or one JSON object."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from captum_apex.result_tables import text_table
from captum_apex.texts import band_text, fixed_text, times_text

__all__ = ["add_json_argument", "print_path", "print_results", "table_of"]

_ENDS = ("start_s", "end_s", "low_hz", "high_hz")


def add_json_argument(parser: argparse.ArgumentParser) -> None:
    """Declares `--json`.

    Example:
        >>> import argparse
        >>> from captum_apex.cli.command_results import add_json_argument
        >>> parser = argparse.ArgumentParser()
        >>> add_json_argument(parser)
        >>> parser.parse_args(["--json"]).as_json
        True
    """
    parser.add_argument(
        "--json",
        dest="as_json",
        action="store_true",
        help="print the results as one JSON object on the output, instead of paths there and a table beside the "
        "progress",
    )


def print_path(path: Path, as_json: bool) -> None:
    """Prints the path of a file that was written; nothing with `--json`, whose object has all paths.

    Args:
        path: path of the file.
        as_json: whether the results are printed as JSON.

    Example:
        >>> from pathlib import Path
        >>> from captum_apex.cli.command_results import print_path
        >>> print_path(Path("page.html"), as_json=False)
        page.html
    """
    if not as_json:
        print(path, flush=True)


def print_results(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    files: Iterable[Path],
    *,
    as_json: bool,
    digits: int = 2,
    **others: Any,
) -> None:
    """Prints the results: a table on the error stream, beside the progress; or a JSON object on the output.

    Args:
        name: what the rows are, in the JSON object.
        rows: the results, each by the names of the columns.
        files: paths of the files that were written.
        as_json: whether the results are printed as JSON.
        digits: digits after the point of times in the table; see `captum_apex.texts.second_digits`.
        others: further entries of the JSON object.

    Example:
        >>> from pathlib import Path
        >>> from captum_apex.cli.command_results import print_results
        >>> print_results("classes", [{"class": "dog", "events": 2}], [Path("a.txt")], as_json=True, duration_s=1.5)
        {"files": ["a.txt"], "duration_s": 1.5, "classes": [{"class": "dog", "events": 2}]}
    """
    if as_json:
        print(json.dumps({"files": [str(file) for file in files], **others, name: rows}, allow_nan=False))
    elif rows:
        print(table_of(rows, digits), file=sys.stderr)


def table_of(rows: Sequence[Mapping[str, Any]], digits: int = 2) -> str:
    """The text of a table, with numbers in three digits and places in words.

    Args:
        rows: at least one row, each by the names of the columns. The column `boxes` becomes `where`, with a line for
            each box, and the boxes of `fires_at` are on one line; `start_s`, `end_s`, `low_hz` and `high_hz`, from the
            first to the last box, are left out, and so are columns of empty texts.
        digits: digits after the point of times; one more where a start and an end would be the same.

    Example:
        >>> from captum_apex.cli.command_results import table_of
        >>> boxes = [
        ...     {"start_s": 0.25, "end_s": 0.5, "low_hz": None, "high_hz": None},
        ...     {"start_s": 0.75, "end_s": 1.0, "low_hz": 0.0, "high_hz": 800.0},
        ... ]
        >>> print(table_of([{"clip": "a.wav", "score": 2.5678, "boxes": boxes}]))
        clip   score  where
        a.wav   2.57  0.25–0.50 s
                      0.75–1.00 s, 0–800 Hz
    """
    rows = [_with_text(row, "fires_at", digits) if "fires_at" in row else row for row in rows]
    empty = {name for name in rows[0] if all(row[name] == "" for row in rows)}
    shown = [line for row in rows for line in _lines({name: row[name] for name in row if name not in empty}, digits)]
    header = [name.replace("_", " ") for name in shown[0]]
    return text_table(header, [[_text(value) for value in row.values()] for row in shown])


def _with_text(row: Mapping[str, Any], name: str, digits: int) -> dict[str, Any]:
    """A row with boxes as one text, which is empty where there are none."""
    return {**row, name: "; ".join(_place(box, digits) for box in row[name] or ())}


def _lines(row: Mapping[str, Any], digits: int) -> list[dict[str, Any]]:
    """A row as lines: one, or one for each box."""
    if "boxes" not in row:
        return [dict(row)]
    others = {name: value for name, value in row.items() if name not in ("boxes", *_ENDS)}
    places = [_place(box, digits) for box in row["boxes"] or ()] or [""]
    below = dict.fromkeys(others)
    return [{**(below if index else others), "where": place} for index, place in enumerate(places)]


def _place(box: Mapping[str, float | None], digits: int) -> str:
    """A box in words, as on the page."""
    times = "" if box["start_s"] is None else _seconds(box["start_s"], box["end_s"], digits)
    low = box["low_hz"]
    high = box["high_hz"]
    band = "" if low is None or high is None else band_text(low, high)
    return ", ".join(filter(None, (times, band))) or "all of the clip"


def _seconds(start: Any, end: Any, digits: int) -> str:
    are_same = fixed_text(start, digits) == fixed_text(end, digits)
    return times_text(start, end, digits + are_same)


def _text(value: Any) -> Any:
    """A number in three digits, with at most four after the point."""
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    before = math.floor(math.log10(abs(value))) + 1 if value else 1  # digits before the point; negative for 0.001
    text = f"{value:.{min(max(3 - before, 0), 4)}f}"
    short = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if short == "-0" else short
