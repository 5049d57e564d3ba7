"""The command `fits`: ways of fitting a basis, over tasks, networks and seeds."""

from __future__ import annotations

import argparse
import itertools
from functools import lru_cache
from pathlib import Path

import pandas as pd

from benchmarks.classifiers.networks import NETWORKS
from benchmarks.commands.options import Commands, check_tables, write_tables
from benchmarks.commands.stored_lines import StoredLines
from benchmarks.experiments.fits import FITS, fit_lines
from benchmarks.reports.fits_table import COLUMNS, fits_section
from benchmarks.reports.markup import section_markdown
from benchmarks.runs.subject import Subject, prepare
from benchmarks.tasks import TASKS
from captum_apex.cli.loading import check_output_folder
from captum_apex.cli.types import seed

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
    stored = StoredLines(options.csv, "fits", KEY, COLUMNS)
    prepared = lru_cache(maxsize=1)(_prepared)  # keys of one subject follow each other
    keys = itertools.product(options.tasks, options.networks, options.seeds, options.fits)

    def measured(task: str, network: str, number: int, name: str) -> pd.DataFrame:
        return fit_lines(prepared(task, network, number), name)

    section = fits_section(stored.completed(keys, measured))
    print(section_markdown(section, Path()))
    if options.out is not None:
        write_tables(options.out, [section])
    return 0


def _prepared(task: str, network: str, number: int) -> Subject:
    return prepare(task, network, seed=number, progress=True)
