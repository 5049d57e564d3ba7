"""The command `prototypes`: how good the prototypes of several bases are, over tasks, networks and seeds."""

from __future__ import annotations

import argparse
import itertools
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.classifiers.networks import NETWORKS
from benchmarks.commands.options import Commands, check_tables, write_tables
from benchmarks.experiments.compared_bases import BASES
from benchmarks.experiments.prototype_quality import COLUMNS, UnseenClips, quality_lines
from benchmarks.reports.markup import section_markdown
from benchmarks.reports.prototypes_table import prototypes_section
from benchmarks.runs.results import FolderError
from benchmarks.runs.subject import Subject, prepare
from benchmarks.tasks import TASKS
from captum_apex.cli.loading import check_output_folder
from captum_apex.cli.types import seed
from captum_apex.files import locked, replaced

KEY = ["task", "network", "seed", "basis"]
Key = tuple[str, str, int, str]


def add_prototypes_parser(commands: Commands) -> None:
    """Adds the parser of `prototypes`."""
    parser = commands.add_parser(
        "prototypes",
        help="how good prototypes are: unseen purity, classes, parts, misalignment, agreement of seeds",
        description="Measures the prototypes of APEX's bases beside those of a rotation, PCA, ICA and a sparse "
        "dictionary. Lines that the CSV file has are not computed again.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--tasks", nargs="+", choices=TASKS, default=["digits"], help="what is classified; see `run`")
    add("--networks", nargs="+", choices=NETWORKS, default=["cnn"], help="the classifiers")
    add("--seeds", nargs="+", type=seed, default=[0], help="seeds of clips, training and fitting")
    add("--bases", nargs="+", choices=BASES, default=list(BASES), metavar="NAME", help="the bases")
    add("--csv", type=Path, default=Path("results/prototypes.csv"), metavar="FILE.csv", help="file of all numbers")
    add("--out", type=Path, metavar="FILE.md", help="replace the tables between this file's marks, as in `overview`")
    parser.set_defaults(command=prototypes_command)


def prototypes_command(options: argparse.Namespace) -> int:
    """Measures all bases, writes the numbers to a CSV file and prints the tables."""
    check_output_folder(options.csv)
    check_tables(options.out)
    tables = []
    for task, network, number in itertools.product(options.tasks, options.networks, options.seeds):
        prepared: tuple[Subject, UnseenClips] | None = None
        for name in options.bases:
            key = (task, network, number, name)
            lines = _stored(options.csv, key)
            if lines.empty:
                prepared = prepared or _prepared(task, network, number)
                lines = _measured(*prepared, key, options.csv)
            tables.append(lines)
    section = prototypes_section(pd.concat(tables, ignore_index=True))
    print(section_markdown(section, Path()))
    if options.out is not None:
        write_tables(options.out, [section])
    return 0


def _prepared(task: str, network: str, number: int) -> tuple[Subject, UnseenClips]:
    subject = prepare(task, network, seed=number, progress=True)
    return subject, UnseenClips.of(subject)


def _measured(subject: Subject, clips: UnseenClips, key: Key, path: Path) -> pd.DataFrame:
    """The lines of one kind of basis, which are also added to the CSV file."""
    columns: dict[str, Any] = dict(zip(KEY, key, strict=True))
    lines = quality_lines(subject, key[-1], clips).assign(**columns)[[*KEY, *COLUMNS]]
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent), replaced(path) as temporary:
        stored = _read(path)  # another process may have added lines meanwhile
        pd.concat([stored, lines] if len(stored) else [lines]).to_csv(temporary, index=False)
    print(f"{', '.join(map(str, key))}: written to {path}", file=sys.stderr)
    return lines


def _stored(path: Path, key: Key) -> pd.DataFrame:
    """The lines that the CSV file has of one kind of basis."""
    stored = _read(path)
    return stored[(stored[KEY] == list(key)).all(axis=1)]


def _read(path: Path) -> pd.DataFrame:
    columns = [*KEY, *COLUMNS]
    try:
        stored = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=columns)
    except ValueError as error:  # pandas' own errors are among them
        raise FolderError(
            f"expected {path} to hold the lines of `prototypes`, but it cannot be read: {error}"
        ) from error
    if missing := [name for name in columns if name not in stored.columns]:
        raise FolderError(
            f"expected {path} to hold the lines of `prototypes` as this version writes them, but it lacks the column "
            f"{missing[0]}; name another file for --csv"
        )
    return stored
