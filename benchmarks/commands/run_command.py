"""The command `run`: one run of the benchmark, from the classifier to the report."""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
import torch

from benchmarks.classifiers.training import accuracy
from benchmarks.commands.options import (
    ALL_NETWORKS,
    Commands,
    absolute_path,
    check_run,
    count,
    curve_points,
    method_name,
    processes,
    seconds,
)
from benchmarks.experiments.channels import channel_removal_table
from benchmarks.experiments.invariance import invariance_table
from benchmarks.experiments.purity import purity_table
from benchmarks.experiments.region_masking import masking_test
from benchmarks.experiments.truth import truth_table
from benchmarks.methods import load_methods
from benchmarks.reports import run_report
from benchmarks.runs.allocator import keep_freed_memory
from benchmarks.runs.results import FolderError, Results, code_fingerprint, digest, versions
from benchmarks.runs.runner import DEFAULT_FILLS, Settings, default_methods, run
from benchmarks.runs.stage import SEGMENTS
from benchmarks.runs.subject import FIT, Subject, prepare
from benchmarks.runs.workers import check_backend, ended_workers
from benchmarks.tasks import TASKS
from benchmarks.tasks.segment_times import lookup, read_times
from benchmarks.tasks.task import SPLITS
from captum_apex.cli.exit_status import WRONG_INPUT
from captum_apex.cli.loading import check_output_folder
from captum_apex.cli.types import device, positive_integer, seed
from captum_apex.layers.models import fingerprint
from captum_apex.masking.fills import FILLS
from captum_apex.masking.grids import GRIDS

TABLES: dict[str, Callable[[Subject, Settings, int], pd.DataFrame]] = {
    "invariance.csv": lambda subject, _, __: invariance_table(subject),
    "purity.csv": lambda subject, _, __: purity_table(subject),
    "evidence.csv": lambda subject, _, __: channel_removal_table(subject),
    "truth.csv": lambda subject, _, __: truth_table(subject),
    "masking_test.csv": lambda subject, settings, jobs: masking_test(subject, settings.clips, settings.part, jobs=jobs),
}
"""File → the experiment whose table a run writes there, beside the methods' rows."""
OF_ANY_PART = ("masking_test.csv",)
"""The tables that a run on training clips has as well. The others are about test clips, which must stay unseen while
settings are chosen on training clips."""


def add_run_parser(commands: Commands) -> None:
    """Adds the parser of `run`."""
    parser = commands.add_parser(
        "run",
        help="score attribution methods on a task",
        description="Trains (or takes from the cache) a classifier, fits the four bases, and scores every method by "
        "deletion and insertion.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    _add_subject_options(parser.add_argument_group("what is explained"))
    _add_method_options(parser.add_argument_group("methods"))
    _add_masking_options(parser.add_argument_group("masking"))
    _add_computing_options(parser.add_argument_group("computing"))
    parser.set_defaults(command=run_command)


def _add_subject_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--task", choices=TASKS, default="scenes", help="what is classified; recordings need CAPTUM_APEX_DATA")
    add("--network", choices=ALL_NETWORKS, default="cnn", help="the classifier that is explained")
    add("--layer", default="", help="name of the layer that is explained; the last one before pooling if left out")
    add("--invertible", action="store_true", help="explain by bases U = exp(A), not by orthogonal ones")
    add("--clips", type=positive_integer, default=24, help="number of clips, spread evenly over the part")
    add("--part", choices=SPLITS, default="test", help="the clips that are explained; choose settings on train alone")
    add("--seed", type=seed, default=0, help="seed of clips, training, fitting and random methods")


def _add_method_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    methods = list(default_methods())
    add("--methods", nargs="+", type=method_name, default=methods, metavar="METHOD", help="names as `list` shows them")
    add(
        "--add",
        type=absolute_path,
        action="append",
        default=[],
        metavar="FILE.py",
        help="a file with methods of your own; may be repeated",
    )
    add(
        "--reference",
        type=method_name,
        metavar="METHOD",
        help="method that the others are tested against; LayerGradCam unless the run has another",
    )
    add(
        "--retry", action="store_true", help="compute cells again that ended by an error, or for lack of time or memory"
    )


def _add_masking_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--grid",
        nargs="+",
        choices=[*GRIDS, *SEGMENTS],
        default=list(GRIDS),
        help="regions that are masked together; those of segments need --segments",
    )
    add(
        "--segments",
        type=absolute_path,
        metavar="PATH",
        help="times that divide each test clip: a CSV file (clip, time), or a folder of files such as 7.TextGrid",
    )
    add("--tier", help="tier of the TextGrid files, such as phones; their only one if left out")
    add("--fill", nargs="+", choices=FILLS, default=list(DEFAULT_FILLS), help="what replaces masked regions")
    add("--points", type=curve_points, default=7, help="points of each curve, both ends counted")
    add(
        "--sensitivity",
        type=count,
        default=0,
        help="number of perturbed copies of each clip that are explained as well",
    )


def _add_computing_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--limit", type=seconds, help="seconds after which one explanation of all clips is given up")
    add("--device", type=device, default="cpu", help="where the classifier runs, such as cuda")
    add(
        "--jobs",
        type=processes,
        default=min(joblib.cpu_count(), 1024),
        help="processes side by side; the results do not depend on their number",
    )
    add(
        "--backend",
        help="dask, ray or a backend of joblib; local processes if left out",
    )
    add("--address", help="address of a running cluster of dask or ray; a cluster of local processes if left out")
    add("--out", type=Path, help="results folder; a folder in results/ named by the settings if left out")


def run_command(options: argparse.Namespace) -> int:
    """Scores attribution methods on a task, and writes rows, tables and figures to the folder of the run."""
    start = time.perf_counter()
    _check_options(options)
    keep_freed_memory()
    options.times = read_times(options.segments, options.tier) if options.segments else {}
    subject = _prepared(options)
    if options.times:
        subject = replace(subject, task=replace(subject.task, segments=lookup(options.times, options.segments)))
    _check_segments(options, subject)
    test_accuracy = accuracy(subject.model, subject.task.test)
    n_test = len(subject.task.test)
    print(f"{options.network} on {options.task}: accuracy {test_accuracy:.1%} on {n_test} unseen clips", flush=True)
    settings = _settings(options)
    results = _open(options, subject, settings, test_accuracy)
    finished = len(settings.cells) - len(results.missing(settings.cells))
    if finished:
        print(f"{finished} of {len(settings.cells)} cells were finished before", flush=True)
    _run(subject, settings, results, options)
    own_processes = options.backend is None  # another backend may be chosen because processes cannot take the model
    _write_tables(results, subject, settings, options.jobs if own_processes else 1)
    results.collect()
    print("\ninsertion − deletion AUC of the predicted class's probability, higher is better\n")
    print(run_report.write(results.folder))
    print(f"\n{time.perf_counter() - start:.0f} s; rows, tables, figures and settings are in")
    print(results.folder.resolve())
    return _finished_status(results, settings)


def _finished_status(results: Results, settings: Settings) -> int:
    """The exit status of a run; where cells are not finished, because their workers ended, the run says so."""
    missing = results.missing(settings.cells)
    if not missing:
        return 0
    print(
        f"{len(missing)} of {len(settings.cells)} cells are not finished, for the reasons above; the same command goes "
        "on with them",
        file=sys.stderr,
    )
    return WRONG_INPUT


def _check_options(options: argparse.Namespace) -> None:
    """Raises before the work where its results could not be written, or the processes not be started."""
    folder = options.out or Path("results", "new")
    check_output_folder(folder / "run.json")
    if (folder / "run.json").exists():
        check_run(folder)
    check_backend(options.backend, options.address)


def _check_segments(options: argparse.Namespace, subject: Subject) -> None:
    """Raises where a grid of segments has no segments, or is asked for training clips, whose times nobody gave."""
    asked = [name for name in options.grid if name in SEGMENTS]
    if asked and (subject.task.segments is None or options.part != "test"):
        raise FolderError(f"expected --segments, and test clips, with --grid {' '.join(asked)}")


def _run(subject: Subject, settings: Settings, results: Results, options: argparse.Namespace) -> None:
    computing = {"jobs": options.jobs, "backend": options.backend, "address": options.address}
    with ended_workers():
        run(subject, settings, results, **computing, progress=True)


def _prepared(options: argparse.Namespace) -> Subject:
    return prepare(
        options.task,
        options.network,
        seed=options.seed,
        device=options.device,
        layer_name=options.layer,
        orthogonal=not options.invertible,
        progress=True,
    )


def _settings(options: argparse.Namespace) -> Settings:
    methods, grids, fills = (tuple(dict.fromkeys(names)) for names in (options.methods, options.grid, options.fill))
    masking = (options.clips, options.part, options.points, options.sensitivity, options.limit)
    return Settings(methods, grids, fills, *masking, files=tuple(options.add), retry=options.retry)


def _write_tables(results: Results, subject: Subject, settings: Settings, jobs: int) -> None:
    """Writes the experiments' tables; one that fails is reported and left out, so that the rows get their report."""
    for name, experiment in TABLES.items():
        if (settings.part == "test" or name in OF_ANY_PART) and not (results.folder / name).exists():
            try:
                results.write(name, experiment(subject, settings, jobs))
            except Exception as error:
                print(f"{name} could not be made: {type(error).__name__}: {error}", file=sys.stderr)


def _open(options: argparse.Namespace, subject: Subject, settings: Settings, test_accuracy: float) -> Results:
    """The folder of the run; unless `--out` names it, its name depends on everything that the numbers depend on."""
    key = _key(options, subject)
    about = {
        "methods": settings.methods,
        "grids": settings.grids,
        "fills": settings.fills,
        "reference": options.reference,
        "accuracy": test_accuracy,
        "test_clips": len(subject.task.test),
        "classes": subject.task.classes,
        "command": options.typed,
        "sources": options.sources,
    }
    folder = options.out or Path("results") / f"{options.task}-{options.network}-{digest(key)}"
    return Results.open(folder, key, about)


def _key(options: argparse.Namespace, subject: Subject) -> dict[str, Any]:
    """Everything that the numbers of a run depend on."""
    names = ("task", "network", "layer", "invertible", "seed", "part", "clips", "points", "sensitivity", "limit")
    return {
        **{name: getattr(options, name) for name in names},
        "device": torch.device(options.device).type,
        "sounds": {split: getattr(subject.task, split).fingerprint() for split in SPLITS},
        "fit": FIT,
        "weights": fingerprint(subject.model),
        "bases": {
            str(scheme): hashlib.sha256(basis.U.cpu().numpy().tobytes()).hexdigest()
            for scheme, basis in subject.bases.items()
        },
        **({"segments": digest({str(clip): times for clip, times in options.times.items()})} if options.times else {}),
        "code": code_fingerprint(),
        "versions": versions(),
    }


def add_methods(arguments: Sequence[str]) -> dict[str, str]:
    """Registers the methods of the files given by `--add`, before the other arguments are checked against the registry.

    Args:
        arguments: arguments of the command line.

    Returns:
        Name of each of those methods → SHA-256 digest of its file.
    """
    parser = argparse.ArgumentParser("python -m benchmarks", add_help=False)
    parser.add_argument("--add", type=Path, metavar="FILE.py", action="append", default=[])
    sources: dict[str, str] = {}
    for path in parser.parse_known_args(arguments)[0].add:
        try:
            names = load_methods(path.resolve())
        except ValueError as error:
            parser.error(str(error))
        sources |= dict.fromkeys(names, hashlib.sha256(path.read_bytes()).hexdigest())
    return sources
