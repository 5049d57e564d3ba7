"""`run`: a run of the benchmark."""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch

from benchmarks.classifiers.training import accuracy
from benchmarks.experiments.channels import channel_removal_table
from benchmarks.experiments.invariance import invariance_table
from benchmarks.experiments.purity import purity_table
from benchmarks.experiments.region_masking import masking_test
from benchmarks.experiments.truth import truth_table
from benchmarks.methods import load_methods
from benchmarks.reports import run_report
from benchmarks.runs.allocator import keep_freed_memory
from benchmarks.runs.results import Results, code_fingerprint, digest, versions
from benchmarks.runs.runner import Settings, run
from benchmarks.runs.subject import FIT, Subject, prepare
from benchmarks.tasks.task import SPLITS
from captum_apex.layers.models import fingerprint

TABLES: dict[str, Callable[[Subject, Settings], pd.DataFrame]] = {
    "invariance.csv": lambda subject, _: invariance_table(subject),
    "purity.csv": lambda subject, _: purity_table(subject),
    "evidence.csv": lambda subject, _: channel_removal_table(subject),
    "truth.csv": lambda subject, _: truth_table(subject),
    "masking_test.csv": lambda subject, settings: masking_test(subject, settings.clips, settings.part),
}
"""File → what a run writes there beside the methods' rows."""
OF_ANY_PART = (
    "masking_test.csv",
)  # the others are about the test part, which who chooses on the training part shall not see


def run_command(options: argparse.Namespace) -> int:
    """Scores attribution methods on a task, and writes rows, tables and figures to the folder of the run."""
    start = time.perf_counter()
    keep_freed_memory()
    about = {
        "seed": options.seed,
        "device": options.device,
        "layer_name": options.layer,
        "orthogonal": not options.invertible,
    }
    subject = prepare(options.task, options.network, **about, progress=True)
    reached = accuracy(subject.model, subject.task.test)
    print(
        f"{options.network} on {options.task}: accuracy {reached:.1%} on {len(subject.task.test)} unseen clips",
        flush=True,
    )
    methods, grids, fills = (tuple(dict.fromkeys(names)) for names in (options.methods, options.grid, options.fill))
    judged = (options.clips, options.part, options.points, options.sensitivity, options.limit)
    settings = Settings(methods, grids, fills, *judged, files=tuple(options.add), retry=options.retry)
    results = _open(options, subject, settings, reached)
    finished = len(settings.cells) - len(results.missing(settings.cells))
    if finished:
        print(f"{finished} of {len(settings.cells)} cells were finished before", flush=True)
    run(subject, settings, results, jobs=options.jobs, backend=options.backend, progress=True)
    _write_tables(results, subject, settings)
    results.collect()
    print("\ninsertion − deletion AUC of the predicted class's probability, higher is better\n")
    print(
        f"{run_report.write(results.folder)}\n\n{time.perf_counter() - start:.0f} s; rows, tables, figures and settings are in"
    )
    print(results.folder.resolve())
    return 0


def _write_tables(results: Results, subject: Subject, settings: Settings) -> None:
    """The experiments beside the methods' rows; one that fails is said and left out, the rows are worth their report."""
    for name, make in TABLES.items():
        if (settings.part == "test" or name in OF_ANY_PART) and not (results.folder / name).exists():
            try:
                results.write(name, make(subject, settings))
            except Exception as error:
                print(f"{name} could not be made: {type(error).__name__}: {error}", file=sys.stderr)


def _open(options: argparse.Namespace, subject: Subject, settings: Settings, reached: float) -> Results:
    """The folder of the run, named by all that its numbers depend on unless the user names it."""
    key = {
        **{
            name: getattr(options, name) for name in ("task", "network", "layer", "invertible", "seed", "part", "clips")
        },
        **{name: getattr(options, name) for name in ("points", "sensitivity", "limit")},
        "device": torch.device(options.device).type,
        "sounds": {part: getattr(subject.task, part).fingerprint() for part in SPLITS},
        "fit": FIT,
        "weights": fingerprint(subject.model),
        "bases": {
            str(scheme): hashlib.sha256(basis.U.cpu().numpy().tobytes()).hexdigest()
            for scheme, basis in subject.bases.items()
        },
        "code": code_fingerprint(),
        "versions": versions(),
    }
    about = {
        "methods": settings.methods,
        "grids": settings.grids,
        "fills": settings.fills,
        "reference": options.reference,
    }
    about |= {"accuracy": reached, "test_clips": len(subject.task.test), "classes": subject.task.classes}
    about |= {"command": options.typed, "sources": options.sources}
    return Results.open(options.out or Path("results") / f"{options.task}-{options.network}-{digest(key)}", key, about)


def add_methods(arguments: Sequence[str]) -> dict[str, str]:
    """Registers the methods of the files that `--add` names, before the other arguments are checked against the registry.

    Returns:
        The names of those methods, each with a digest of its file.
    """
    early = argparse.ArgumentParser(add_help=False)
    early.add_argument("--add", type=Path, action="append", default=[])
    sources: dict[str, str] = {}
    for path in early.parse_known_args(arguments)[0].add:
        try:
            names = load_methods(path.resolve())
        except ValueError as error:
            early.error(str(error))
        sources |= dict.fromkeys(names, hashlib.sha256(path.read_bytes()).hexdigest())
    return sources
