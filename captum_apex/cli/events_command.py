"""`events`: lists the events of a long recording."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from captum_apex.bases.basis import PrototypeBasis
from captum_apex.classifiers.classifier import Classifier
from captum_apex.cli.command_results import print_path, print_results
from captum_apex.cli.factory import load_classifier
from captum_apex.cli.loading import check_output_folder
from captum_apex.explaining.classifier_bases import load_bases
from captum_apex.explaining.explainer import Explainer
from captum_apex.explanations.events import (
    RecordingExplanation,
    UnfinishedExplanationError,
    write_audacity,
    write_raven,
)
from captum_apex.locating.region_search import RegionSearch

LABEL_SUFFIX = ".txt"


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
        _write(error.explanation, writers, options.as_json)
        raise
    _write(explanation, writers, options.as_json)
    return 0


def _explained(
    options: argparse.Namespace, classifier: Classifier, bases: dict[Path, PrototypeBasis]
) -> RecordingExplanation:
    return Explainer(classifier, bases).explain_recording(
        options.recording,
        window=options.window,
        hop=options.hop,
        threshold=options.threshold,
        probabilities=partial(torch.softmax, dim=-1) if options.exclusive else torch.sigmoid,
        n_channels=options.channels,
        sides=options.sides,
        level=options.level,
        search=RegionSearch() if options.refine else None,
        progress=True,
    )


def _write(explanation: RecordingExplanation, writers: dict[Path, Callable], as_json: bool) -> None:
    print(f"{len(explanation.events)} events in {explanation.duration:.1f} s", file=sys.stderr)
    for path, write in writers.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, explanation.events)
        print_path(path, as_json)
    counts = Counter(event.name for event in explanation.events)
    best = {event.name: event.score for event in sorted(explanation.events, key=lambda event: event.score)}
    rows = [{"class": name, "events": n, "highest_probability": best[name]} for name, n in counts.most_common()]
    print_results("classes", rows, writers, as_json=as_json, duration_s=explanation.duration)


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
