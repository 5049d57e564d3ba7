"""The arguments of `examine`."""

from __future__ import annotations

import argparse
from pathlib import Path

from captum_apex.cli.types import positive_number

SUMMARY = "report what can be explained in a model, and what would make that wrong"
DESCRIPTION = (
    "Runs the model on one or two clips, and reports the layers that can be explained, where their cells lie and how "
    "far they hear, whether contributions add up, whether clips have the same scores in a batch and one by one, "
    "whether the scores are logits, and whether the inputs have the times and frequencies that the Classifier says. It "
    "prints the code that mends the Classifier."
)
EXAMPLES = ["examine --model my_model:classifier", "examine one.wav two.wav --model my_model:classifier"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `examine`."""
    parser.add_argument(
        "clips",
        type=Path,
        nargs="*",
        metavar="CLIP",
        help="one or two audio files; by default noise, as long as a clip",
    )
    parser.add_argument(
        "--seconds",
        type=positive_number,
        default=60.0,
        metavar="S",
        help="how long the search for the places of the layers' cells may take (default: %(default)g)",
    )
