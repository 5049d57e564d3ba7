"""The arguments of `explain`."""

from __future__ import annotations

import argparse
from pathlib import Path

from captum_apex.cli.slice_arguments import add_slices
from captum_apex.cli.types import (
    add_evidence_arguments,
    add_part_argument,
    positive_integer,
    positive_number,
    probability,
)

SUMMARY = "explain clips in one HTML page"
DESCRIPTION = (
    "Explains clips by fitted bases, with the recordings that show each channel, in one HTML page that needs nothing "
    "else."
)
EXAMPLES = [
    "explain new.wav --model my_model:classifier --basis bases --data recordings",
    "explain a.wav b.wav --model my_model:classifier --basis time.safetensors --target siren dog --out page.html",
    "explain new.wav --model my_model:classifier --basis bases --cells --out page.html",
    "explain clips --model my_model:classifier --basis bases --no-page --table evidence.csv --skip-bad",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `explain`."""
    _add_files(parser)
    classes = parser.add_mutually_exclusive_group()
    classes.add_argument(
        "--target",
        nargs="+",
        metavar="CLASS",
        help="the classes to explain, by name or number, predicted or not; by default the one with the largest score",
    )
    classes.add_argument(
        "--threshold",
        type=probability,
        metavar="P",
        help="explain all classes with a probability of at least P, for models that give a clip several labels",
    )
    add_evidence_arguments(parser)
    parser.add_argument(
        "--prototypes",
        type=positive_integer,
        metavar="N",
        help="prototypes per channel (4, or as many as the bases have)",
    )
    _add_regions(parser)
    _add_page(parser)


def _add_regions(parser: argparse.ArgumentParser) -> None:
    regions = parser.add_mutually_exclusive_group()
    regions.add_argument(
        "--cells",
        action="store_true",
        help="show the peak cells of the layer's grid instead of regions that are found by masking: faster, but less "
        "exact",
    )
    regions.add_argument(
        "--cross",
        action="store_true",
        help="for time-frequency: find the cross of a strip and a band instead of the rectangle in which they meet",
    )


def _add_page(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--limit",
        type=positive_number,
        metavar="MB",
        default=64,
        help="the largest page to write, in megabytes (%(default)s)",
    )
    parser.add_argument(
        "--table",
        type=Path,
        metavar="FILE",
        help="also write the evidence as a table, a file that ends in .csv or .json",
    )
    parser.add_argument(
        "--no-page",
        action="store_true",
        help="write the table alone, for thousands of clips: the same command goes on after an interruption with what "
        "the folder FILE.parts keeps",
    )
    add_part_argument(parser)
    parser.add_argument(
        "--title", metavar="TEXT", default="Why the model heard that", help="title of the page (%(default)s)"
    )


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "clips", type=Path, nargs="+", metavar="CLIP", help="audio files to explain, or folders of them"
    )
    parser.add_argument(
        "--basis",
        type=Path,
        nargs="+",
        required=True,
        metavar="BASIS",
        help="files that fit wrote, or folders of them; one basis per scheme",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PAGE.html",
        help="the page to write; by default page.html, or page-2.html and so on where there is such a file already",
    )
    _add_data(parser)


def _add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DATA",
        help="the folder or the CSV file that the bases were fitted on; without it the page has no prototypes",
    )
    parser.add_argument(
        "--layer",
        metavar="NAME",
        help="checks that the bases were fitted on this layer; they know their layer without it",
    )
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out clips and recordings of --data that cannot be read, and list them, instead of stopping at the "
        "first",
    )
    add_slices(parser)
