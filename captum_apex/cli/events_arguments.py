"""The arguments of `events`."""

from __future__ import annotations

import argparse
from pathlib import Path

from captum_apex.cli.types import add_evidence_arguments, add_part_argument, pause, probability, seconds, share

SUMMARY = "list what is detected in a long recording, for Raven, Audacity and spreadsheets"
DESCRIPTION = (
    "Slides over a recording of any length, and writes what is detected, when and in which band, by which prototype "
    "channels. A line is a stretch of time in which the model finds evidence for a class. Its begin and end are those "
    "of the evidence and not of the sound, which can be longer, or shorter where a column of the layer hears much; one "
    "sound can have several lines: --gap joins them. Without a file to write, the events are printed. Of several "
    "recordings, the events are written in one table, with the path of the recording in each line."
)
EXAMPLES = [
    "events night.wav --model my_model:classifier --basis time.safetensors --raven night.Table.1.selections.txt",
    "events night.wav --model my_model:classifier --basis time.safetensors --window 3 --hop 1 --audacity night.txt",
    "events night.wav --model my_model:classifier --basis square.safetensors --refine --raven night.Table.1.selections"
    ".txt",
    "events field --model my_model:classifier --basis time.safetensors --table events.csv --raven selections",
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of `events`."""
    _add_files(parser)
    _add_windows(parser)
    parser.add_argument(
        "--threshold",
        type=probability,
        metavar="P",
        default=0.5,
        help="the least probability of a detected class (%(default)s)",
    )
    add_evidence_arguments(parser)
    _add_edges(parser)


def _add_edges(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--level",
        type=share,
        metavar="SHARE",
        default=0.5,
        help="an event ends where its evidence falls below this share of the peak: where events are longer than their "
        "sounds, take 0.9 and a small --hop (%(default)s)",
    )
    parser.add_argument(
        "--gap",
        type=pause,
        metavar="S",
        default=0.0,
        help="the longest pause inside an event, in seconds: 0 gives each bark of a dog a line, 1 the whole barking "
        "(%(default)s)",
    )
    parser.add_argument(
        "--refine",
        action="store_true",
        help="find the times and the band of each event at the input, by masking, instead of at the layer's columns "
        "and rows; the table then says what a region is worth. These are the times of the evidence, too",
    )


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "recordings",
        type=Path,
        nargs="+",
        metavar="RECORDING",
        help="an audio file of any length; or several, or folders with all folders in them, for one table",
    )
    parser.add_argument("--basis", type=Path, required=True, metavar="BASIS", help="one file that fit wrote")
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DATA",
        help="the folder or the CSV file that the basis was fitted on, for the names of the prototypes in JSON",
    )
    _add_output(parser)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--raven",
        type=Path,
        metavar="FILE.txt",
        help="the selection table to write; for several recordings, a folder that gets one for each",
    )
    parser.add_argument(
        "--audacity",
        type=Path,
        metavar="FILE.txt",
        help="the label track to write; for several recordings, a folder that gets one for each",
    )
    parser.add_argument(
        "--table",
        type=Path,
        metavar="FILE",
        help="the table to write: FILE.csv, or FILE.json, which has the events of each channel as well; for several "
        "recordings, the same command goes on after an interruption with what the folder FILE.parts keeps",
    )
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="leave out recordings, of several and of --data, that cannot be read, and list them, instead of stopping "
        "at the first",
    )
    add_part_argument(parser)


def _add_windows(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--window",
        type=seconds,
        metavar="S",
        help="length of a window in seconds; by default the length of the factory's clips",
    )
    parser.add_argument(
        "--hop",
        type=seconds,
        metavar="S",
        help="seconds from one window to the next; by default half a window; a tenth makes the times of events finer",
    )
