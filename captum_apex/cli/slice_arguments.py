"""The options of `fit` and `explain` that slice long recordings."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_slices"]


def add_slices(parser: argparse.ArgumentParser) -> None:
    """Adds the options that slice long recordings.

    Example:
        >>> import argparse
        >>> from captum_apex.cli.slice_arguments import add_slices
        >>> parser = argparse.ArgumentParser()
        >>> add_slices(parser)
        >>> parser.parse_args(["--slice"]).slice
        True
    """
    parser.add_argument(
        "--slice",
        action="store_true",
        help="slice long recordings into clips of the classifier's length, instead of taking the beginning of each; "
        "what fit was given, explain needs too",
    )
    parser.add_argument(
        "--annotations",
        type=Path,
        metavar="CSV",
        help="where the classes sound in the recordings: columns of files, starts and ends in seconds, and labels; the "
        "recordings are then sliced",
    )
