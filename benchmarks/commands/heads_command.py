"""The command `heads`: how well interpretable heads predict on frozen features, over tasks, networks and seeds."""

from __future__ import annotations

import argparse
import itertools
from functools import lru_cache
from pathlib import Path

import pandas as pd

from benchmarks.classifiers.networks import NETWORKS
from benchmarks.classifiers.sigmoid_heads import SIGMOID_HEADS
from benchmarks.classifiers.trained_heads import HEADS
from benchmarks.commands.options import Commands, check_picture, check_tables, write_tables
from benchmarks.commands.stored_lines import StoredLines
from benchmarks.experiments.head_scores import COLUMNS, OWN, head_line
from benchmarks.reports.head_picture import head_picture, recognised_clip
from benchmarks.reports.heads_table import heads_section
from benchmarks.reports.markup import section_markdown
from benchmarks.reports.pictures import save
from benchmarks.runs.subject import Subject, prepare
from benchmarks.tasks import TASKS
from captum_apex.cli.loading import check_output_folder
from captum_apex.cli.types import seed

KEY = ["task", "network", "seed", "head"]
PICTURED = "AudioProtoPNet, 10 prototypes"  # the head of the picture


def add_heads_parser(commands: Commands) -> None:
    """Adds the parser of `heads`."""
    parser = commands.add_parser(
        "heads",
        help="interpretable heads on frozen features: accuracy beside the network's own head, classes of prototypes",
        description="Trains the heads of AudioProtoPNet and InfoDisent on the features of frozen networks, and "
        "measures how well they predict. Lines that the CSV file has are not computed again.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--tasks", nargs="+", choices=TASKS, default=["digits"], help="what is classified; see `run`")
    add("--networks", nargs="+", choices=NETWORKS, default=["cnn"], help="the classifiers")
    add("--seeds", nargs="+", type=seed, default=[0], help="seeds of clips and training")
    heads = [OWN, *HEADS, *SIGMOID_HEADS]
    add("--heads", nargs="+", choices=heads, default=heads, metavar="NAME", help="the heads")
    add("--csv", type=Path, default=Path("results/heads.csv"), metavar="FILE.csv", help="file of all numbers")
    add("--out", type=Path, metavar="FILE.md", help="replace the table between this file's marks, as in `overview`")
    add(
        "--picture",
        type=Path,
        metavar="FILE.png",
        help=f"draw the first test clip that the network and {PICTURED!r} recognise, explained by this head and by "
        "APEX; of the first of the tasks, networks and seeds",
    )
    parser.set_defaults(command=heads_command)


def heads_command(options: argparse.Namespace) -> int:
    """Measures all heads, writes the numbers to a CSV file and prints the table."""
    check_output_folder(options.csv)
    check_tables(options.out)
    check_picture(options.picture)
    stored = StoredLines(options.csv, "heads", KEY, COLUMNS)
    prepared = lru_cache(maxsize=1)(_prepared)  # keys of one subject follow each other
    keys = itertools.product(options.tasks, options.networks, options.seeds, options.heads)

    def measured(task: str, network: str, number: int, name: str) -> pd.DataFrame:
        return head_line(prepared(task, network, number), name)

    section = heads_section(stored.completed(keys, measured))
    print(section_markdown(section, Path()))
    if options.out is not None:
        write_tables(options.out, [section])
    if options.picture is not None:
        subject = prepared(options.tasks[0], options.networks[0], options.seeds[0])
        save(head_picture(subject, PICTURED, recognised_clip(subject, PICTURED)), options.picture)
    return 0


def _prepared(task: str, network: str, number: int) -> Subject:
    return prepare(task, network, seed=number, progress=True)
