"""`report`, `overview`, `list` and `pictures`: what runs have found."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.classifiers.networks import NETWORKS
from benchmarks.classifiers.waveform_networks import WAVEFORM_NETWORKS
from benchmarks.methods import METHODS
from benchmarks.reports import overview, pictures, run_report
from benchmarks.runs.results import FolderError, Results
from benchmarks.tasks import TASKS
from captum_apex.masking.fills import FILLS
from captum_apex.masking.grids import GRIDS

ALL_NETWORKS = (*NETWORKS, *WAVEFORM_NETWORKS)


def report_command(options: argparse.Namespace) -> int:
    """Writes the report of a run, also of an unfinished one, and prints its summary."""
    _check_folder(options.folder)
    Results(options.folder).collect()
    try:
        print(run_report.write(options.folder))
    except ValueError as error:  # no cell is finished
        raise FolderError(str(error)) from error
    print(f"\n{(options.folder / 'report.md').resolve()}")
    return 0


def _check_folder(folder: Path) -> None:
    if not (folder / "run.json").is_file():
        raise FolderError(f"expected the folder of a run, but {folder} has no run.json")


def overview_command(options: argparse.Namespace) -> int:
    """Prints several runs side by side."""
    for folder in options.folders:
        _check_folder(folder)
        Results(folder).collect()
    print(overview.overview(options.folders))
    return 0


def list_command(_: argparse.Namespace) -> int:
    """Prints the names of tasks, networks, methods, grids and fills."""
    for title, names in (
        ("tasks", TASKS),
        ("networks", ALL_NETWORKS),
        ("methods", METHODS),
        ("grids", GRIDS),
        ("fills", FILLS),
    ):
        print(f"{title}:")
        print("\n".join(f"  {name}" for name in names))
    return 0


def pictures_command(options: argparse.Namespace) -> int:
    """Draws the pictures of the README and the guides."""
    for path in pictures.write(options.out, seed=options.seed):
        print(path)
    return 0
