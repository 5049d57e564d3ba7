"""The arguments of `demo`."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "explain twelve sounds with a small classifier of the package, in some ten seconds"
DESCRIPTION = (
    "Explains twelve sounds of an evening by a pond with a small classifier that is a part of the package, writes "
    "their page, and opens it. It needs no files and no network."
)
EXAMPLES = ["demo", "demo --out pond --no-show"]
NEEDS_MODEL = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `demo`."""
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        default=Path("captum-apex-demo"),
        help="the folder to write: page.html, evidence.csv and the sounds (%(default)s)",
    )
    parser.add_argument(
        "--no-show", dest="show", action="store_false", help="neither open the page nor play a sound, only write them"
    )
