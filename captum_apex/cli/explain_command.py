"""`explain`: explains clips in one HTML page."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from captum_apex.bases.basis import PrototypeBasis
from captum_apex.classifiers.class_names import class_index
from captum_apex.classifiers.classifier import Classifier
from captum_apex.cli.command_results import print_path, print_results
from captum_apex.cli.factory import load_classifier
from captum_apex.cli.file_table_results import check_table, said_table
from captum_apex.cli.loading import check_output_folder, list_left_out, naming_skip_bad, training_recordings
from captum_apex.explaining.classifier_bases import load_bases
from captum_apex.explaining.explained_clips import ExplainedClips
from captum_apex.explaining.explainer import Explainer
from captum_apex.locating.region_search import RegionSearch
from captum_apex.texts import encodable, second_digits, short_names

PAGE_SUFFIXES = (".html", ".htm")
TABLE_SUFFIXES = (".csv", ".json")
DEFAULT_PAGE = Path("page.html")
EVIDENCE_COLUMNS = (
    *("channel", "scheme", "contribution", "start_s", "end_s", "low_hz", "high_hz", "boxes", "doubts", "fires_at"),
)


@naming_skip_bad()
def run(options: argparse.Namespace) -> int:
    """Explains clips in one HTML page."""
    out = _free_path(DEFAULT_PAGE) if options.out is None else options.out
    _check_options(options, out)
    classifier = load_classifier(options.model, options.device, options.convert)
    targets = _targets(options, classifier)
    bases = load_bases(options.basis, options.layer)
    explainer = _explainer(classifier, bases, options)
    settings = _settings(options)
    if options.no_page:
        part = options.part or (0, 1)
        write = partial(explainer.write_evidence, options.clips, options.table, targets or None, part=part, **settings)
        return said_table(write, options, "channel", [])
    explained = explainer.explain(options.clips, targets or None, **settings)
    n_clips = len({page.clip.name for page in explained}) + len(explained.left_out)
    list_left_out(explained.left_out, n_clips)
    files = [explained.write(out, title=options.title, limit=options.limit, progress=True)]
    if options.table is not None:
        files.append(_write_table(explained, options.table))
    for file in files:
        print_path(file, options.as_json)
    rows = _rows(explained, options.as_json)
    left_out = dict(explained.left_out)
    digits = second_digits(max((page.clip.duration for page in explained), default=0.0))
    print_results("clips", rows, files, as_json=options.as_json, digits=digits, left_out=left_out)
    return 0


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of `Explainer.explain` and `write_evidence` that the options give."""
    return {
        "threshold": options.threshold,
        "n_channels": options.channels,
        "n_prototypes": options.prototypes,
        "sides": options.sides,
        "search": None if options.cells else RegionSearch(cross=options.cross),
        "skip_bad": options.skip_bad,
        "progress": True,
    }


def _write_table(explained: ExplainedClips, path: Path) -> Path:
    return explained.write_csv(path) if path.suffix.lower() == ".csv" else explained.write_json(path)


def _rows(explained: ExplainedClips, as_json: bool) -> list[dict[str, Any]]:
    """A row for each clip and class; in a table, which is for reading, the clips have short names."""
    rows = [_row(explained[index : index + 1]) for index in range(len(explained))]
    names = short_names([page.clip.name for page in explained])
    return rows if as_json else [{**row, "clip": name} for row, name in zip(rows, names, strict=True)]


def _row(explained: ExplainedClips) -> dict[str, Any]:
    """One clip and class in the table at the end, with the channel that supports the class most."""
    page = explained[0]
    rows = explained.rows()
    nothing = dict.fromkeys(EVIDENCE_COLUMNS) | {"doubts": ""}
    strongest = max(rows, key=lambda row: row["contribution"]) if rows else nothing
    return {
        "clip": encodable(page.clip.name),
        "label": encodable(page.clip.label),
        "explained": encodable(page.class_name(page.target if page.explained is None else page.explained)),
        "score": page.explanations[0].score,
        **{name: strongest[name] for name in EVIDENCE_COLUMNS},
        "note": "; ".join(filter(None, (page.clip.filled_text, page.silence_doubt))),
    }


def _explainer(classifier: Classifier, bases: Mapping[Path, PrototypeBasis], options: argparse.Namespace) -> Explainer:
    if options.data is None:
        without = "without --data, the folder or CSV file that the bases were fitted on, the page has no prototypes"
        print(without, file=sys.stderr)
        return Explainer(classifier, bases)
    sliced = (options.slice, options.annotations)
    return Explainer(classifier, bases, training_recordings(classifier, options.data, options.skip_bad, *sliced))


def _free_path(path: Path) -> Path:
    """The path, or the first one with a number where there is a file already: page.html, page-2.html, page-3.html."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(each for each in itertools.chain([path], numbered) if not os.path.lexists(each))


def _check_options(options: argparse.Namespace, out: Path) -> None:
    """Refuses what the parser cannot, before the model is loaded."""
    if options.no_page:
        if options.out is not None:
            raise ValueError(f"expected --out or --no-page, but got both: {options.out} would be a page")
        check_table(options.table, "--no-page")
        return
    if options.part is not None:
        raise ValueError("expected --part with --no-page, because a page has all clips")
    _check_page_path(out)
    _check_table_path(options.table)


def _check_page_path(path: Path) -> None:
    check_output_folder(path)
    if path.suffix.lower() not in PAGE_SUFFIXES:  # so that a slip overwrites no recording and no basis
        raise ValueError(f"expected --out to end in {PAGE_SUFFIXES[0]}, but got {path}")


def _check_table_path(path: Path | None) -> None:
    if path is None:
        return
    if path.suffix.lower() not in TABLE_SUFFIXES:  # so that a slip overwrites no recording and no basis
        raise ValueError(f"expected --table to end in {' or '.join(TABLE_SUFFIXES)}, but got {path}")
    check_output_folder(path)


def _targets(options: argparse.Namespace, classifier: Classifier) -> list[int]:
    """The classes that are asked for; where none is, it is said what is explained of a clip with several labels."""
    if classifier.exclusive is False and options.target is None and options.threshold is None:
        hint = "the best class of each clip is explained; --threshold 0.5 explains all classes that are detected"
        print(hint, file=sys.stderr)
    return [_target(name, classifier.class_names) for name in options.target or ()]


def _target(text: str, class_names: Sequence[str]) -> int:
    """The index of a class given by name or number."""
    try:
        return class_index(text, class_names)
    except ValueError as error:
        raise ValueError(f"--target: {error}") from error
