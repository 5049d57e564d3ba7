"""The command `shortcuts`: whether explanations find a sound that gives a class away, over tasks, seeds and levels."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import pandas as pd

from benchmarks.classifiers.networks import NETWORKS
from benchmarks.commands.options import Commands, check_tables, write_tables
from benchmarks.commands.stored_lines import StoredLines
from benchmarks.experiments.planted_sounds import PLANTS
from benchmarks.experiments.shortcuts import COLUMNS, shortcut_table
from benchmarks.reports.markup import section_markdown
from benchmarks.reports.shortcuts_table import shortcuts_section
from benchmarks.tasks import TASKS, load_task
from captum_apex import SCHEMES
from captum_apex.cli.loading import check_output_folder
from captum_apex.cli.types import seed

KEY = ["task", "network", "seed", "plant", "level"]
LEVELS = (-40.0, -60.0)  # dB


def add_shortcuts_parser(commands: Commands) -> None:
    """Adds the parser of `shortcuts`."""
    parser = commands.add_parser(
        "shortcuts",
        help="whether explanations find a sound that is in the training clips of one class",
        description="Trains classifiers with a sound in all clips of one class and without it, and measures what their "
        "explanations show of it. Lines that the CSV file has are not computed again; the table shows all of them.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--tasks", nargs="+", choices=TASKS, default=["digits"], help="what is classified; see `run`")
    add("--networks", nargs="+", choices=NETWORKS, default=["cnn"], help="the classifiers")
    add("--seeds", nargs="+", type=seed, default=[0], help="seeds of clips, training and fitting")
    add("--plant", nargs="+", choices=PLANTS, default=["hum"], help="what is planted: a tone, or a click at the start")
    add("--levels", nargs="+", type=level, default=list(LEVELS), metavar="DB", help="levels of the sound, in dB")
    add("--csv", type=Path, default=Path("results/shortcuts.csv"), metavar="FILE.csv", help="file of all numbers")
    add("--out", type=Path, metavar="FILE.md", help="replace the table between this file's marks, as in `overview`")
    parser.set_defaults(command=shortcuts_command)


def level(text: str) -> float:
    """A level in dB relative to full scale, from −200 to 0."""
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not -200 <= value <= 0:
        raise argparse.ArgumentTypeError(f"expected a level from -200 to 0 dB, but got {text!r}")
    return value


def shortcuts_command(options: argparse.Namespace) -> int:
    """Measures all classifiers, writes the numbers to a CSV file and prints the table of all its lines."""
    check_output_folder(options.csv)
    check_tables(options.out)
    stored = StoredLines(options.csv, "shortcuts", KEY, COLUMNS)
    keys = itertools.product(options.tasks, options.networks, options.seeds, options.plant, options.levels)
    stored.completed(keys, _measured)
    section = shortcuts_section(stored.all())
    print(section_markdown(section, Path()))
    if options.out is not None:
        write_tables(options.out, [section])
    return 0


def _measured(task: str, network: str, number: int, plant: str, decibels: float) -> pd.DataFrame:
    return shortcut_table(load_task(task, number), network, PLANTS[plant](level=decibels), SCHEMES, seed=number)
