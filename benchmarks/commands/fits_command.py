"""The command `fits`: ways of fitting a basis, over tasks, networks and seeds."""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.classifiers.networks import NETWORKS
from benchmarks.commands.options import Commands, check_tables, write_tables
from benchmarks.experiments.fits import FITS, fit_lines
from benchmarks.reports.fits_table import COLUMNS, fits_section
from benchmarks.reports.markup import section_markdown
from benchmarks.runs.results import FolderError
from benchmarks.runs.subject import Subject, prepare
from benchmarks.tasks import TASKS
from captum_apex.cli.loading import check_output_folder
from captum_apex.cli.types import seed
from captum_apex.files import locked, replaced

KEY = ["task", "network", "seed", "fit"]


def add_fits_parser(commands: Commands) -> None:
    """Adds the parser of `fits`."""
    parser = commands.add_parser(
        "fits",
        help="compare ways of fitting a basis: by gradient, and in closed form with several schedules",
        description="Fits bases in several ways, and measures their purity, the evidence per channel and the time. "
        "Lines that the CSV file has are not computed again.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--tasks", nargs="+", choices=TASKS, default=["digits"], help="what is classified; see `run`")
    add("--networks", nargs="+", choices=NETWORKS, default=["cnn"], help="the classifiers")
    add("--seeds", nargs="+", type=seed, default=[0], help="seeds of clips, training and fitting")
    add("--fits", nargs="+", choices=FITS, default=list(FITS), metavar="NAME", help="the ways of fitting")
    add("--csv", type=Path, default=Path("results/fits.csv"), metavar="FILE.csv", help="file of all numbers")
    add("--out", type=Path, metavar="FILE.md", help="replace the table between this file's marks, as in `overview`")
    parser.set_defaults(command=fits_command)


def fits_command(options: argparse.Namespace) -> int:
    """Measures all ways of fitting, writes the numbers to a CSV file and prints the table."""
    check_output_folder(options.csv)
    check_tables(options.out)
    tables = []
    for task, network, number in itertools.product(options.tasks, options.networks, options.seeds):
        subject = None
        for name in options.fits:
            lines = _stored(options.csv, (task, network, number, name))
            if lines.empty:
                subject = subject or prepare(task, network, seed=number, progress=True)
                lines = _measured(subject, (task, network, number, name), options.csv)
            tables.append(lines)
    section = fits_section(pd.concat(tables, ignore_index=True))
    print(section_markdown(section, Path()))
    if options.out is not None:
        write_tables(options.out, [section])
    return 0


def _measured(subject: Subject, key: tuple[str, str, int, str], path: Path) -> pd.DataFrame:
    """The lines of one way of fitting, which are also added to the CSV file."""
    columns: dict[str, Any] = dict(zip(KEY, key, strict=True))
    lines = fit_lines(subject, key[-1]).assign(**columns)[[*KEY, *COLUMNS]]
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent), replaced(path) as temporary:
        stored = _read(path)  # another process may have added lines meanwhile
        pd.concat([stored, lines] if len(stored) else [lines]).to_csv(temporary, index=False)
    print(f"{', '.join(map(str, key))}: written to {path}", file=sys.stderr)
    return lines


def _stored(path: Path, key: tuple[str, str, int, str]) -> pd.DataFrame:
    """The lines that the CSV file has of one way of fitting."""
    stored = _read(path)
    return stored[(stored[KEY] == list(key)).all(axis=1)]


def _read(path: Path) -> pd.DataFrame:
    columns = [*KEY, *COLUMNS]
    try:
        stored = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=columns)
    except ValueError as error:  # pandas' own errors are among them
        raise FolderError(f"expected {path} to hold the lines of `fits`, but it cannot be read: {error}") from error
    if missing := [name for name in columns if name not in stored.columns]:
        raise FolderError(
            f"expected {path} to hold the lines of `fits` as this version writes them, but it lacks the column "
            f"{missing[0]}; name another file for --csv"
        )
    return stored
