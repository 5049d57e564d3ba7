"""Types and choices of arguments that the commands share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.classifiers.networks import NETWORKS
from benchmarks.classifiers.waveform_networks import WAVEFORM_NETWORKS
from benchmarks.reports.markup import Section
from benchmarks.reports.overview import replace_tables
from benchmarks.runs.results import FolderError

ALL_NETWORKS = (*NETWORKS, *WAVEFORM_NETWORKS)
Commands = argparse._SubParsersAction  # where a command registers its parser


def absolute_path(text: str) -> Path:
    """An absolute path, since workers may have another working directory."""
    return Path(text).resolve()


def count(text: str) -> int:
    """An integer of at least 0."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, but got {number}")
    return number


def seconds(text: str) -> float:
    """A positive number of seconds."""
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"expected more than 0 seconds, but got {text}")
    return number


def curve_points(text: str) -> int:
    """A number of points of a curve, at least its two ends."""
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError(f"expected at least 2 points, the two ends, but got {number}")
    return number


def write_tables(path: Path, sections: Sequence[Section]) -> None:
    """Replaces the tables between the marks of a Markdown file; raises FolderError for a file without marks."""
    try:
        replace_tables(path, sections)
    except ValueError as error:
        raise FolderError(str(error)) from error
