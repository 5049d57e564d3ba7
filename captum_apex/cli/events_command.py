"""`events`: lists the events of a long recording."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from captum_apex.bases.basis import PrototypeBasis
from captum_apex.classifiers.classifier import Classifier
from captum_apex.cli.factory import load_classifier
from captum_apex.cli.loading import check_output_folder, load_apex
from captum_apex.cli.types import add_evidence_arguments, probability, seconds, share
from captum_apex.explaining.classifier_bases import load_bases
from captum_apex.explanations.events import (
    RecordingExplanation,
    UnfinishedExplanationError,
    write_audacity,
    write_raven,
)
from captum_apex.explanations.long_recordings import explain_recording
from captum_apex.locating.region_search import RegionSearch

SUMMARY = "list what is detected in a long recording, for Raven and Audacity"
DESCRIPTION = (
    "Slides over a recording of any length, and writes what is detected, when and in which band, by which prototype "
    "channel."
)
EXAMPLES = [
    "events night.wav --model my_model:classifier --basis time.safetensors --raven night.Table.1.selections.txt",
    "events night.wav --model my_model:classifier --basis time.safetensors --window 3 --hop 1 --audacity night.txt",
    "events night.wav --model my_model:classifier --basis square.safetensors --refine --raven night.Table.1.selections"
    ".txt",
]
LABEL_SUFFIX = ".txt"


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
    parser.add_argument(
        "--exclusive",
        action="store_true",
        help="for classes that exclude each other: probabilities by the softmax instead of the sigmoid",
    )
    add_evidence_arguments(parser)
    parser.add_argument(
        "--level",
        type=share,
        metavar="SHARE",
        default=0.5,
        help="an event ends where its evidence falls below this share of the peak (%(default)s)",
    )
    parser.add_argument(
        "--refine",
        action="store_true",
        help="find the times and the band of each event at the input, by masking, instead of at the layer's columns "
        "and rows; the table then says what a region is worth",
    )


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recording", type=Path, metavar="RECORDING", help="an audio file of any length")
    parser.add_argument("--basis", type=Path, required=True, metavar="BASIS", help="one file that fit wrote")
    parser.add_argument(
        "--raven",
        type=Path,
        metavar="FILE.txt",
        help="the selection table to write; give this, --audacity, or both",
    )
    parser.add_argument("--audacity", type=Path, metavar="FILE.txt", help="the label track to write")


def _add_windows(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--window",
        type=seconds,
        metavar="S",
        help="length of a window in seconds; by default the length of the factory's clips",
    )
    parser.add_argument(
        "--hop", type=seconds, metavar="S", help="seconds from one window to the next; by default half a window"
    )


def run(options: argparse.Namespace) -> int:
    """Lists the events of a long recording, and writes them for Raven and Audacity."""
    writers = _writers(options)
    classifier = load_classifier(options.model, options.device, options.convert)
    if options.exclusive and len(classifier.class_names) == 1:
        raise ValueError(
            "expected several classes with --exclusive, but there is one: its softmax is 1, whatever sounds"
        )
    bases = load_bases([options.basis], None)
    if len(bases) > 1:
        raise ValueError(f"expected one basis, but got {', '.join(map(str, bases))}")
    try:
        explanation = _explained(options, classifier, bases)
    except UnfinishedExplanationError as error:
        _write(error.explanation, writers)
        raise
    _write(explanation, writers)
    return 0


def _explained(
    options: argparse.Namespace, classifier: Classifier, bases: dict[Path, PrototypeBasis]
) -> RecordingExplanation:
    return explain_recording(
        load_apex(classifier, *next(iter(bases.items())), classifier.columns),
        options.recording,
        *_window_and_hop(options, classifier),
        classifier=classifier,
        threshold=options.threshold,
        probabilities=partial(torch.softmax, dim=-1) if options.exclusive else torch.sigmoid,
        n_channels=options.channels,
        sides=options.sides,
        level=options.level,
        search=RegionSearch() if options.refine else None,
        progress=True,
    )


def _write(explanation: RecordingExplanation, writers: dict[Path, Callable]) -> None:
    print(f"{len(explanation.events)} events in {explanation.duration:.1f} s", file=sys.stderr)
    for path, write in writers.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, explanation.events)
        print(path)


def _writers(options: argparse.Namespace) -> dict[Path, Callable]:
    """The function that writes each file."""
    writers = {}
    for path, write in ((options.raven, write_raven), (options.audacity, write_audacity)):
        if path is not None:
            writers[path] = write
    if not writers:
        raise ValueError("expected --raven, --audacity or both, the files to write, but got neither")
    if options.raven == options.audacity:
        raise ValueError(f"expected --raven and --audacity to be two files, but got {options.raven} for both")
    for path in writers:
        if path.suffix.lower() != LABEL_SUFFIX:  # so that a slip overwrites no recording and no basis
            raise ValueError(f"expected files to write that end in {LABEL_SUFFIX}, but got {path}")
        check_output_folder(path)
    return writers


def _window_and_hop(options: argparse.Namespace, classifier: Classifier) -> tuple[float, float]:
    """Window and hop in s: by default the length of the classifier's clips, and half of the window."""
    window = options.window
    if window is None:
        if classifier.length is None:
            raise ValueError("expected --window, in s, or a Classifier with a `length`, but there is neither")
        window = classifier.length / classifier.sample_rate
    return window, window / 2 if options.hop is None else options.hop
