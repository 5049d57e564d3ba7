"""The arguments of `layers`."""

from __future__ import annotations

import argparse
from pathlib import Path

SUMMARY = "list the layers that can be explained, with the layout of each"
DESCRIPTION = (
    "Runs the model on one clip, and lists the layers that can be explained, the best first: name, channels, grid, and "
    "the layout to give to the Classifier where one is needed."
)
EXAMPLES = ["layers --model my_model:classifier", "layers clip.wav --model my_model:classifier"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `layers`."""
    parser.add_argument(
        "clip", type=Path, nargs="?", metavar="CLIP", help="an audio file; by default noise of the length of a clip"
    )
