"""`events`: lists the events of a long recording."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from captum_apex.bases.schemes import Scheme
from captum_apex.cli.command_results import print_path, print_results, table_of
from captum_apex.cli.factory import load_classifier
from captum_apex.cli.file_table_results import check_table, said_table
from captum_apex.cli.loading import check_output_folder, training_recordings
from captum_apex.explaining.classifier_bases import load_bases
from captum_apex.explaining.explainer import Explainer
from captum_apex.explanations.event_files import event_records, write_audacity, write_csv, write_json, write_raven
from captum_apex.explanations.events import Event, RecordingExplanation, UnfinishedExplanationError, event_digits
from captum_apex.locating.region_search import RegionSearch
from captum_apex.recordings.folders import AudioDataset
from captum_apex.result_tables import counted
from captum_apex.texts import encodable

# The endings of the file of each option, so that a slip overwrites no recording and no basis, and who writes it.
FILES: dict[str, dict[str, Callable]] = {
    "raven": {".txt": write_raven},
    "audacity": {".txt": write_audacity},
    "table": {".csv": write_csv, ".json": write_json},
}


def run(options: argparse.Namespace) -> int:
    """Lists the events of a long recording: into files, or on the output where no file is named."""
    several = len(options.recordings) > 1 or options.part is not None or options.recordings[0].is_dir()
    writers = {} if several else _writers(options)
    folders = _folders(options) if several else {}
    classifier = load_classifier(options.model, options.device, options.convert)
    bases = load_bases([options.basis], None)
    if len(bases) > 1:
        raise ValueError(
            f"expected one basis, but got {', '.join(map(str, bases))}; give one of them, such as --basis "
            f"{next((path for path, basis in bases.items() if basis.scheme is Scheme.TIME), next(iter(bases)))}"
        )
    recordings = None if options.data is None else training_recordings(classifier, options.data, options.skip_bad)
    explainer = Explainer(classifier, bases, recordings)
    if several:
        return _of_several(options, explainer, folders)
    try:
        explanation = _explained(options, explainer)
    except UnfinishedExplanationError as error:
        _write(error.explanation, writers, options.as_json, recordings)
        raise
    _write(explanation, writers, options.as_json, recordings)
    return 0


def _explained(options: argparse.Namespace, explainer: Explainer) -> RecordingExplanation:
    return explainer.explain_recording(options.recordings[0], **_settings(options), progress=True)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    names = ("window", "hop", "threshold", "sides", "level", "gap")
    search = RegionSearch() if options.refine else None
    return {**{name: getattr(options, name) for name in names}, "n_channels": options.channels, "search": search}


def _of_several(options: argparse.Namespace, explainer: Explainer, folders: dict[str, Path]) -> int:
    """Writes one table of several recordings."""
    given = {**folders, **_settings(options), "part": options.part or (0, 1), "skip_bad": options.skip_bad}
    write = partial(explainer.write_events, options.recordings, options.table, **given, progress=True)
    return said_table(write, options, "event", list(folders.values()))


def _folders(options: argparse.Namespace) -> dict[str, Path]:
    """The folders of the files of each recording, after a check of them and of the table."""
    check_table(options.table, "several recordings")
    folders = {name: getattr(options, name) for name in FILES if name != "table"}
    given = {name: folder for name, folder in folders.items() if folder is not None}
    for name, folder in given.items():
        if folder.is_file() or folder.suffix.lower() in FILES[name]:
            raise ValueError(f"expected a folder for --{name}, with a file for each recording, but got {folder}")
        check_output_folder(folder / "a.txt")
    return given


def _write(
    explanation: RecordingExplanation, writers: dict[Path, Callable], as_json: bool, recordings: AudioDataset | None
) -> None:
    n_silent = sum(event.silent for event in explanation.events)
    in_silence = f", {n_silent} of them in digital silence" if n_silent else ""
    n_events = counted(len(explanation.events), "event")
    print(f"{n_events} in a recording of {explanation.duration:.1f} s{in_silence}", file=sys.stderr)
    if explanation.events and explanation.unsure_text:
        print(explanation.unsure_text.replace("hop", "--hop").replace("level", "--level"), file=sys.stderr)
    n_without = sum(event.effect is None for event in explanation.events)
    if 0 < n_without < len(explanation.events):  # with --refine
        print(
            f"{counted(n_without, 'event')} without an effect: no smaller region takes as much as their columns do, "
            "which are too long for random places beside them, or it lies elsewhere",
            file=sys.stderr,
        )
    for path, write in writers.items():
        named = {"recordings": recordings} if write is write_json else {}
        write(path, explanation.events, **named)
        print_path(path, as_json)
    counts = Counter(event.name for event in explanation.events)
    best = {event.name: event.score for event in sorted(explanation.events, key=lambda event: event.score)}
    rows = [{"class": name, "events": n, "highest_probability": best[name]} for name, n in counts.most_common()]
    records = event_records(explanation.events, recordings)
    others = {"duration_s": explanation.duration, "events": records} if as_json else {}
    print_results("classes", rows, writers, as_json=as_json, digits=2, **others)
    if explanation.events and not writers and not as_json:
        print(table_of([_row(event) for event in explanation.events], event_digits(explanation.events)))


def _row(event: Event) -> dict[str, Any]:
    box = {"start_s": event.start, "end_s": event.end, "low_hz": event.low, "high_hz": event.high}
    return {"boxes": [box], "class": encodable(event.name), "probability": event.score, "note": event.quiet_text}


def _writers(options: argparse.Namespace) -> dict[Path, Callable]:
    """The function that writes each file."""
    writers: dict[Path, Callable] = {}
    for name, by_suffix in FILES.items():
        path = getattr(options, name)
        if path is None:
            continue
        if path in writers:
            raise ValueError(f"expected a file of its own for --{name}, but {path} is given twice")
        if path.suffix.lower() not in by_suffix:
            raise ValueError(f"expected a file for --{name} that ends in {' or '.join(by_suffix)}, but got {path}")
        check_output_folder(path)
        writers[path] = by_suffix[path.suffix.lower()]
    return writers
