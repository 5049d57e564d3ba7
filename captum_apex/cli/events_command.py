"""`events`: lists the events of a long recording."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from captum_apex.bases.basis import PrototypeBasis
from captum_apex.classifiers.classifier import Classifier
from captum_apex.cli.factory import load_classifier
from captum_apex.cli.loading import check_output_folder, load_apex, load_bases
from captum_apex.cli.types import add_evidence_arguments, pause, probability, seconds, share
from captum_apex.explanations.event_files import write_audacity, write_csv, write_json, write_raven
from captum_apex.explanations.events import RecordingExplanation, UnfinishedExplanationError
from captum_apex.explanations.long_recordings import explain_recording
from captum_apex.locating.region_search import RegionSearch

SUMMARY = "list what is detected in a long recording, for Raven, Audacity and spreadsheets"
DESCRIPTION = (
    "Slides over a recording of any length, and writes what is detected, when and in which band, by which prototype "
    "channels: one line per sound."
)
EXAMPLES = [
    "events night.wav --model my_model:classifier --basis time.safetensors --raven night.Table.1.selections.txt",
    "events night.wav --model my_model:classifier --basis time.safetensors --window 3 --hop 1 --audacity night.txt",
    "events night.wav --model my_model:classifier --basis square.safetensors --refine --raven night.Table.1.selections"
    ".txt",
]
FILES = {  # option: the ending of its file, so that a slip overwrites no recording and no basis, and who writes it
    "raven": (".txt", write_raven),
    "audacity": (".txt", write_audacity),
    "csv": (".csv", write_csv),
    "json": (".json", write_json),
}


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
        help="an event ends where its evidence falls below this share of the peak (%(default)s)",
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
        "and rows; the table then says what a region is worth",
    )


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recording", type=Path, metavar="RECORDING", help="an audio file of any length")
    parser.add_argument("--basis", type=Path, required=True, metavar="BASIS", help="one file that fit wrote")
    parser.add_argument(
        "--raven",
        type=Path,
        metavar="FILE.txt",
        help="the selection table to write; give at least one file to write",
    )
    parser.add_argument("--audacity", type=Path, metavar="FILE.txt", help="the label track to write")
    parser.add_argument("--csv", type=Path, metavar="FILE.csv", help="the table to write")
    parser.add_argument(
        "--json", type=Path, metavar="FILE.json", help="the file to write with the events of each channel"
    )


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
    """Lists the events of a long recording, and writes them into files."""
    writers = _writers(options)
    classifier = load_classifier(options.model, options.device, options.convert)
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
        n_channels=options.channels,
        sides=options.sides,
        level=options.level,
        gap=options.gap,
        search=RegionSearch() if options.refine else None,
        progress=True,
    )


def _write(explanation: RecordingExplanation, writers: dict[Path, Callable]) -> None:
    n_silent = sum(event.silent for event in explanation.events)
    in_silence = f", {n_silent} of them in digital silence" if n_silent else ""
    print(f"{len(explanation.events)} events in {explanation.duration:.1f} s{in_silence}", file=sys.stderr)
    for path, write in writers.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, explanation.events)
        print(path)


def _writers(options: argparse.Namespace) -> dict[Path, Callable]:
    """The function that writes each file."""
    writers: dict[Path, Callable] = {}
    for name, (suffix, write) in FILES.items():
        path = getattr(options, name)
        if path is None:
            continue
        if path in writers:
            raise ValueError(f"expected a file of its own for --{name}, but {path} is given twice")
        if path.suffix.lower() != suffix:
            raise ValueError(f"expected a file for --{name} that ends in {suffix}, but got {path}")
        check_output_folder(path)
        writers[path] = write
    if not writers:
        raise ValueError(f"expected a file to write, by --{', --'.join(FILES)}, but got none")
    return writers


def _window_and_hop(options: argparse.Namespace, classifier: Classifier) -> tuple[float, float]:
    """Window and hop in s: by default the length of the classifier's clips, and half of the window."""
    window = options.window
    if window is None:
        if classifier.length is None:
            raise ValueError("expected --window, in s, or a Classifier with a `length`, but there is neither")
        window = classifier.length / classifier.sample_rate
    return window, window / 2 if options.hop is None else options.hop
