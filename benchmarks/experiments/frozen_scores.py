"""Scores of methods on the networks and clips of a frozen version of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from benchmarks.classifiers.training import accuracy
from benchmarks.runs.frozen import VERSION_FILE, Entry, FrozenError, FrozenVersion
from benchmarks.runs.results import Results, code_fingerprint, digest, digest_of, versions
from benchmarks.runs.runner import Settings, run
from benchmarks.runs.stage import Stage
from benchmarks.runs.subject import Subject, prepare
from benchmarks.runs.workers import ended_workers
from captum_apex.masking.grids import GRIDS

ENTRIES = (
    ("scenes", "cnn", 0, 24),
    ("crowded", "cnn", 0, 24),
    ("digits", "cnn", 0, 24),
    ("environment", "cnn", 0, 80),
    ("vocoded", "cnn", 0, 24),
    ("spliced", "cnn", 0, 48),
)
"""Task, network, seed and number of clips of each entry of a new version."""
POINTS = 7  # points of each curve in a new version
FILLS = ("silence", "mean")  # fills of a new version


def frozen_rows(
    version: FrozenVersion,
    name: str,
    methods: Sequence[str],
    folder: Path,
    *,
    files: Sequence[Path] = (),
    sources: Mapping[str, str] | None = None,
    jobs: int = 1,
) -> tuple[pd.DataFrame, bool]:
    """Scores methods on an entry of a version, after everything was compared with the version.

    Args:
        version: the version.
        name: name of the entry.
        methods: names in `benchmarks.methods.METHODS`.
        folder: folder in which finished cells are kept, in one of its own for each code, bases and files of methods.
        files: files that register further methods.
        sources: digest of the file of each of these methods.
        jobs: number of processes that run at the same time.

    Returns:
        The rows of the run, one for each clip, grid, fill and method; and whether clips and fills are those of the
        version to the last bit, and not only up to rounding.

    Raises:
        FrozenError: the network, clips, fills or grids are not those of the version.
        FileNotFoundError: the task needs recordings that are not there.
    """
    subject = version.subject(name, progress=True)
    entry = version.entries[name]
    exact = version.check(subject, Stage.of(subject, len(entry.indices)))
    clips = len(entry.indices)
    settings = Settings(methods, version.grids, version.fills, clips, points=version.points, files=tuple(files))
    results = _opened(version, entry, subject, settings, folder, dict(sources or {}))
    with ended_workers():
        run(subject, settings, results, jobs=jobs, progress=True)
    return pd.read_csv(results.collect()), exact


def _opened(
    version: FrozenVersion, entry: Entry, subject: Subject, settings: Settings, folder: Path, sources: dict[str, str]
) -> Results:
    """The folder of the run, whose name depends on everything that its cells depend on."""
    key = {
        "version": version.number,
        "entry": entry.name,
        "task": entry.task,
        "network": entry.network,
        "part": "test",
        "clips": settings.clips,
        "sources": sources,
        "code": code_fingerprint(),
        "versions": versions(),
        "bases": {str(scheme): digest_of(basis.U) for scheme, basis in subject.bases.items()},
    }
    about = {
        "methods": settings.methods,
        "grids": settings.grids,
        "fills": settings.fills,
        "command": "",
        "reference": None,
        "sources": sources,
        "accuracy": entry.accuracy,
        "classes": subject.task.classes,
        "test_clips": len(subject.task.test),
    }
    return Results.open(folder / f"{entry.name}-{digest(key)}", key, about)


def freeze(version: FrozenVersion, entries: Sequence[tuple[str, str, int, int]]) -> FrozenVersion:
    """Makes a version of networks that are trained here, or in the cache, and writes it with their weights.

    Args:
        version: number, folder, grids, fills and points of the version; its entries are left out.
        entries: task, network, seed and number of clips of each entry.

    Returns:
        The version with its entries.

    Raises:
        FrozenError: the version exists.
    """
    if (version.folder / VERSION_FILE).exists():
        raise FrozenError(f"expected a new version, but {version.folder} is there; a frozen version is never changed")
    models = {}
    made = {}
    for task, network, seed, n_clips in entries:
        subject = prepare(task, network, seed=seed, progress=True)
        share = accuracy(subject.model, subject.task.test)
        entry = Entry.of(subject, Stage.of(subject, n_clips), share, version.grids, version.fills)
        made[entry.name] = entry
        models[entry.name] = subject.model
    frozen = FrozenVersion(version.folder, version.number, version.grids, version.fills, version.points, made)
    frozen.save(models)
    return frozen


def new_version(number: int, root: Path) -> FrozenVersion:
    """A version without entries, with the grids, fills and points of this code.

    Args:
        number: its number.
        root: the folder of all versions.
    """
    return FrozenVersion(root / str(number), number, tuple(GRIDS), FILLS, POINTS, {})
