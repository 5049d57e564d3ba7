"""Types and choices of arguments that the commands share."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from benchmarks.classifiers.networks import NETWORKS
from benchmarks.classifiers.waveform_networks import WAVEFORM_NETWORKS
from benchmarks.methods import METHODS
from benchmarks.reports.markup import Section
from benchmarks.reports.overview import replace_tables
from benchmarks.runs.results import FolderError
from captum_apex.cli.loading import check_output_folder
from captum_apex.cli.types import positive_number

LONGEST = 1e6  # seconds
PLACE = re.compile(r"^<!-- end of .* -->$", re.MULTILINE)
NAMES = ("methods", "grids", "fills")  # lists of texts in the settings of every run
TYPES: dict[str, tuple[type, ...]] = {
    "task": (str,),
    "network": (str,),
    "part": (str,),
    "layer": (str,),
    "reference": (str, type(None)),
    "command": (str,),
    "clips": (int,),
    "test_clips": (int,),
    "accuracy": (int, float),
    "sources": (dict,),
    "versions": (dict,),
}
"""Types of further settings, as far as a run has them."""
ALL_NETWORKS = (*NETWORKS, *WAVEFORM_NETWORKS)
Commands = argparse._SubParsersAction  # where a command registers its parser


def absolute_path(text: str) -> Path:
    """An absolute path, since workers may have another working directory."""
    return Path(text).resolve()


def count(text: str) -> int:
    """An integer of at least 0."""
    return _integer_between(0, 2**31 - 1, text, "a number of at least 0")


def seconds(text: str) -> float:
    """A number of seconds above 0, at most the 11 days that timers take everywhere."""
    try:
        number = positive_number(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"expected more than 0 seconds, but got {text!r}") from error
    if number > LONGEST:
        raise argparse.ArgumentTypeError(f"expected at most {LONGEST:g} seconds, but got {text!r}")
    return number


def curve_points(text: str) -> int:
    """A number of points of a curve, at least its two ends."""
    return _integer_between(2, 1000, text, "at least 2 points, the two ends, and at most 1000")


def processes(text: str) -> int:
    """A number of processes; each is started, so a slip would take all of the machine."""
    return _integer_between(1, 1024, text, "a number from 1 to 1024")


def _integer_between(least: int, most: int, text: str, expected: str) -> int:
    if not text.isdecimal() or len(text) > 18 or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"expected {expected}, but got {text!r}")
    return int(text)


def method_name(text: str, others: Collection[str] = ()) -> str:
    """The name of a registered method, or one of the other names; names that are like a wrong one are in its error."""
    names = [*others, *METHODS]
    if text in names:
        return text
    by_lower_case = {name.lower(): name for name in names}
    near = [by_lower_case[name] for name in get_close_matches(text.lower(), by_lower_case, n=3)]
    meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise argparse.ArgumentTypeError(
        f"expected a method that `python -m benchmarks list` names, but got an invalid choice: {text!r}{meant}"
    )


def picture(text: str) -> Path:
    """The path of a picture to write."""
    if Path(text).suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"expected a picture that ends in .png, but got {text!r}")
    return Path(text)


def check_picture(path: Path | None) -> None:
    """Raises where a picture cannot be written, or would be a PNG under another name; called before the work."""
    if path is None:
        return
    check_output_folder(path)
    if path.suffix.lower() != ".png":
        raise FolderError(f"expected --picture to end in .png, but got {path}")


def check_tables(path: Path | None) -> None:
    """Raises where a Markdown file has no place for tables, or cannot be written; called before tables are computed."""
    if path is None:
        return
    if not path.is_file():
        raise FolderError(f"expected --out to name a Markdown file that has a place for tables, but {path} is no file")
    if not PLACE.search(path.read_text(encoding="utf-8")):
        raise FolderError(
            f"expected {path} to have a place for a table, such as the lines `<!-- Scores -->` and "
            "`<!-- end of Scores -->`, but it has none"
        )
    check_output_folder(path)


def check_run(folder: Path, needed: Sequence[str] = ()) -> None:
    """Raises a FolderError where a folder holds no run, or a run whose settings cannot be used.

    Args:
        folder: results folder of the run.
        needed: the further settings that must be there.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise FolderError(f"expected the folder of a run, but {folder} has no run.json")
    try:
        run = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FolderError(f"expected {path} to hold a run's settings, but it is not JSON ({error})") from error
    if not isinstance(run, dict) or not all(isinstance(run.get(name), dict) for name in ("key", "settings")):
        raise FolderError(f"expected {path} to hold a run's settings, but it has no key")
    _check_types({name: run[name] for name in run.keys() & {"versions"}} | run["key"] | run["settings"], needed, path)


def _check_types(settings: Mapping[str, Any], needed: Sequence[str], path: Path) -> None:
    lists_of_texts = {
        name: isinstance(settings.get(name), list) and all(isinstance(each, str) for each in settings[name])
        for name in NAMES
    }
    others = {name: isinstance(settings.get(name), kinds) for name, kinds in TYPES.items()}
    for name, is_right in (lists_of_texts | others).items():
        if not is_right and (name in settings or name in (*NAMES, *needed)):
            value = json.dumps(settings[name])[:100] if name in settings else "missing"
            raise FolderError(f"expected {path} to hold a run's settings, but {name!r} is {value}")


def write_tables(path: Path, sections: Sequence[Section]) -> None:
    """Replaces the tables between the marks of a Markdown file; raises FolderError for a file without marks."""
    try:
        replace_tables(path, sections)
    except ValueError as error:
        raise FolderError(str(error)) from error
