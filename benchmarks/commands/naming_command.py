"""The command `naming`: how often channels get the names of sounds, and whether these hold for unseen clips."""

from __future__ import annotations

import argparse
import itertools
from functools import lru_cache
from pathlib import Path

import pandas as pd

from benchmarks.classifiers.networks import NETWORKS
from benchmarks.commands.options import Commands, check_tables, write_tables
from benchmarks.commands.stored_lines import StoredLines
from benchmarks.experiments.channel_naming import BASES, COLUMNS, PARTS, naming_lines
from benchmarks.experiments.compared_bases import BASES as ALL_BASES
from benchmarks.experiments.prototype_quality import unseen_bank
from benchmarks.reports.markup import section_markdown
from benchmarks.reports.naming_table import naming_section
from benchmarks.runs.subject import Subject, prepare
from captum_apex import FeatureBank
from captum_apex.cli.loading import check_output_folder
from captum_apex.cli.types import seed

KEY = ["task", "network", "seed", "basis"]


def add_naming_parser(commands: Commands) -> None:
    """Adds the parser of `naming`."""
    parser = commands.add_parser(
        "naming",
        help="how often channels get the names of planted sounds, and whether the names hold for unseen clips",
        description="Names the channels of several bases by the sounds in their prototypes' peak cells, for tasks that "
        "know where their sounds are. Lines that the CSV file has are not computed again; the table shows all of them.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--tasks", nargs="+", choices=PARTS, default=["scenes"], help="what is classified; see `run`")
    add("--networks", nargs="+", choices=NETWORKS, default=["cnn"], help="the classifiers")
    add("--seeds", nargs="+", type=seed, default=[0], help="seeds of clips, training and fitting")
    add("--bases", nargs="+", choices=ALL_BASES, default=list(BASES), metavar="NAME", help="the bases")
    add("--csv", type=Path, default=Path("results/naming.csv"), metavar="FILE.csv", help="file of all numbers")
    add("--out", type=Path, metavar="FILE.md", help="replace the table between this file's marks, as in `overview`")
    parser.set_defaults(command=naming_command)


def naming_command(options: argparse.Namespace) -> int:
    """Names the channels of all bases, writes the numbers to a CSV file and prints the table of all its lines."""
    check_output_folder(options.csv)
    check_tables(options.out)
    stored = StoredLines(options.csv, "naming", KEY, COLUMNS)
    prepared = lru_cache(maxsize=1)(_prepared)  # keys of one subject follow each other

    def measured(task: str, network: str, number: int, name: str) -> pd.DataFrame:
        subject, unseen = prepared(task, network, number)
        return naming_lines(subject, name, unseen)

    keys = itertools.product(options.tasks, options.networks, options.seeds, options.bases)
    stored.completed(keys, measured)
    section = naming_section(stored.all())
    print(section_markdown(section, Path()))
    if options.out is not None:
        write_tables(options.out, [section])
    return 0


def _prepared(task: str, network: str, number: int) -> tuple[Subject, FeatureBank]:
    subject = prepare(task, network, seed=number, progress=True)
    return subject, unseen_bank(subject)
