"""The arguments of `describe`."""

from __future__ import annotations

import argparse
from pathlib import Path

from captum_apex.cli.command_results import add_json_argument

SUMMARY = "say what files of bases and folders of feature banks hold"
DESCRIPTION = (
    "Says what files of bases and folders of feature banks hold: the layer, the channels, the prototypes and what they "
    "were computed from. It runs no model."
)
EXAMPLES = ["describe bases", "describe time.safetensors bank --json"]
NEEDS_MODEL = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `describe`."""
    parser.add_argument(
        "paths", type=Path, nargs="+", metavar="PATH", help="files that fit wrote, folders of them, or folders of banks"
    )
    add_json_argument(parser)
