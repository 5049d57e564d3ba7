"""The command `prototypes`: how good the prototypes of several bases are, over tasks, networks and seeds."""

from __future__ import annotations

import argparse
import itertools
from functools import lru_cache
from pathlib import Path

import pandas as pd

from benchmarks.classifiers.networks import NETWORKS
from benchmarks.commands.options import Commands, check_tables, write_tables
from benchmarks.commands.stored_lines import StoredLines
from benchmarks.experiments.compared_bases import BASES
from benchmarks.experiments.head_prototypes import PROTOTYPE_HEADS, head_quality_lines
from benchmarks.experiments.prototype_quality import COLUMNS, UnseenClips, quality_lines
from benchmarks.reports.markup import section_markdown
from benchmarks.reports.prototypes_table import prototypes_section
from benchmarks.runs.subject import Subject, prepare
from benchmarks.tasks import TASKS
from captum_apex.cli.loading import check_output_folder
from captum_apex.cli.types import seed

KEY = ["task", "network", "seed", "basis"]


def add_prototypes_parser(commands: Commands) -> None:
    """Adds the parser of `prototypes`."""
    parser = commands.add_parser(
        "prototypes",
        help="how good prototypes are: unseen purity, classes, parts, misalignment, agreement of seeds",
        description="Measures the prototypes of APEX's bases beside those of a rotation, PCA, ICA, a sparse "
        "dictionary and AudioProtoPNet's heads. Lines that the CSV file has are not computed again.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--tasks", nargs="+", choices=TASKS, default=["digits"], help="what is classified; see `run`")
    add("--networks", nargs="+", choices=NETWORKS, default=["cnn"], help="the classifiers")
    add("--seeds", nargs="+", type=seed, default=[0], help="seeds of clips, training and fitting")
    bases = [*BASES, *PROTOTYPE_HEADS]
    add("--bases", nargs="+", choices=bases, default=bases, metavar="NAME", help="the bases, and heads with prototypes")
    add("--csv", type=Path, default=Path("results/prototypes.csv"), metavar="FILE.csv", help="file of all numbers")
    add("--out", type=Path, metavar="FILE.md", help="replace the tables between this file's marks, as in `overview`")
    parser.set_defaults(command=prototypes_command)


def prototypes_command(options: argparse.Namespace) -> int:
    """Measures all bases, writes the numbers to a CSV file and prints the tables."""
    check_output_folder(options.csv)
    check_tables(options.out)
    stored = StoredLines(options.csv, "prototypes", KEY, COLUMNS)
    prepared = lru_cache(maxsize=1)(_prepared)  # keys of one subject follow each other

    def measured(task: str, network: str, number: int, name: str) -> pd.DataFrame:
        subject, clips = prepared(task, network, number)
        measure = head_quality_lines if name in PROTOTYPE_HEADS else quality_lines
        return measure(subject, name, clips)

    keys = itertools.product(options.tasks, options.networks, options.seeds, options.bases)
    section = prototypes_section(stored.completed(keys, measured))
    print(section_markdown(section, Path()))
    if options.out is not None:
        write_tables(options.out, [section])
    return 0


def _prepared(task: str, network: str, number: int) -> tuple[Subject, UnseenClips]:
    subject = prepare(task, network, seed=number, progress=True)
    return subject, UnseenClips.of(subject)
