"""The command `regions`: what the regions of the evidence are worth, over tasks, networks and seeds."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from benchmarks.classifiers.networks import NETWORKS
from benchmarks.commands.options import Commands, check_tables, write_tables
from benchmarks.commands.stored_lines import StoredLines
from benchmarks.experiments.region_summary import region_summary
from benchmarks.reports.markup import markdown
from benchmarks.reports.region_tables import LINE_COLUMNS, region_sections
from benchmarks.runs.subject import prepare
from benchmarks.tasks import TASKS
from captum_apex.cli.loading import check_output_folder
from captum_apex.cli.types import positive_integer, seed

SUBJECT = ["task", "network", "seed", "clips"]


def add_regions_parser(commands: Commands) -> None:
    """Adds the parser of `regions`."""
    parser = commands.add_parser(
        "regions",
        help="how well the regions of the evidence meet the known truth, and what masking them takes away",
        description="Finds the regions of the evidence in test clips, and compares them with peak cells, with random "
        "places and with the known truth. A line that the CSV file has is not computed again.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--tasks", nargs="+", choices=TASKS, default=["scenes"], help="what is classified; see `run`")
    add("--networks", nargs="+", choices=NETWORKS, default=["cnn"], help="the classifiers")
    add("--seeds", nargs="+", type=seed, default=[0], help="seeds of clips, training, fitting and random places")
    add("--clips", type=positive_integer, default=40, help="number of clips of the masking test")
    add("--csv", type=Path, default=Path("results/regions.csv"), metavar="FILE.csv", help="file of all numbers")
    add("--out", type=Path, metavar="FILE.md", help="replace the tables between this file's marks, as in `overview`")
    parser.set_defaults(command=regions_command)


def regions_command(options: argparse.Namespace) -> int:
    """Measures the regions of all subjects, writes the numbers to a CSV file and prints the tables."""
    check_output_folder(options.csv)
    check_tables(options.out)
    subjects = [
        (task, network, seed) for task in options.tasks for network in options.networks for seed in options.seeds
    ]
    lines = pd.concat([_lines(*subject, options.clips, options.csv) for subject in subjects])
    sections = region_sections(lines)
    print(markdown("Regions of the evidence", sections, Path()))
    if options.out is not None:
        write_tables(options.out, sections)
    return 0


def _lines(task: str, network: str, seed: int, n_clips: int, path: Path) -> pd.DataFrame:
    """The lines of one subject, from the CSV file; if it has none, they are computed and added to it."""
    stored = StoredLines(path, "regions", SUBJECT, LINE_COLUMNS)
    known = stored.of(task, network, seed, n_clips)
    if len(known):
        print(f"{task}, {network}, seed {seed}: from {path}, not computed again", file=sys.stderr)
        return known
    lines = region_summary(prepare(task, network, seed=seed, progress=True), n_clips)
    stored.add(lines)
    return lines
