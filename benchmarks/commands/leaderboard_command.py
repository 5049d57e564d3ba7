"""The command `leaderboard`: methods on a frozen version of the benchmark, and whether all is as in the version."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from benchmarks.commands.options import Commands, absolute_path, check_tables, method_name, processes, write_tables
from benchmarks.commands.stored_lines import StoredLines
from benchmarks.experiments.frozen_scores import ENTRIES, freeze, frozen_rows, new_version
from benchmarks.reports.leaderboard_table import COLUMNS, KEY, leaderboard_lines, leaderboard_section
from benchmarks.reports.markup import section_markdown
from benchmarks.reports.standings import MEASURE
from benchmarks.runs.frozen import FROZEN, FrozenError, FrozenVersion
from benchmarks.runs.results import FAILED, code_fingerprint
from captum_apex.cli.loading import check_output_folder
from captum_apex.cli.types import positive_integer

LATEST = 1  # number of the version that is taken if none is named
REFERENCES = ("LayerGradCam", "IntegratedGradients", "random")  # methods whose published scores --check repeats
TOLERANCE = 2e-3  # largest difference of a repeated score: rounding may exchange two regions of nearly the same value
ROWS = "rows.csv"


def add_leaderboard_parser(commands: Commands) -> None:
    """Adds the parser of `leaderboard`."""
    parser = commands.add_parser(
        "leaderboard",
        help="everybody's methods on the same frozen networks and clips; add your own",
        description="Prints the leaderboard of a frozen version of the benchmark. With --add or --methods, methods "
        "are scored on the networks, clips, fills and grids of the version, after these were compared with it, and the "
        "lines are kept in a CSV file.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--version", type=positive_integer, default=LATEST, help="number of the version")
    add("--entries", nargs="+", metavar="NAME", help="networks of the version, such as scenes-cnn-0; all if left out")
    add("--methods", nargs="+", type=method_name, metavar="METHOD", help="methods to score; those of --add if left out")
    add(
        "--add",
        type=absolute_path,
        action="append",
        default=[],
        metavar="FILE.py",
        help="a file with methods of your own; may be repeated",
    )
    add("--source", default="", help="where the methods are from, such as a paper or an address; kept in the lines")
    add("--check", action="store_true", help="only compare networks, clips and some scores with the version")
    add("--freeze", action="store_true", help="make the version of networks that are trained here; for maintainers")
    add("--csv", type=Path, default=Path("results/leaderboard.csv"), metavar="FILE.csv", help="file of your own lines")
    add("--jobs", type=processes, default=1, help="processes side by side; the results do not depend on their number")
    add("--out", type=Path, metavar="FILE.md", help="replace the table between this file's marks, as in `overview`")
    parser.set_defaults(command=leaderboard_command)


def leaderboard_command(options: argparse.Namespace) -> int:
    """Prints the leaderboard; scores methods, or checks the version, before that."""
    check_output_folder(options.csv)
    check_tables(options.out)
    version = _frozen(options.version) if options.freeze else FrozenVersion.load(options.version)
    entries = options.entries or list(version.entries)
    if unknown := [name for name in entries if name not in version.entries]:
        raise FrozenError(f"expected --entries among {', '.join(version.entries)}, but got {unknown[0]!r}")
    published = _stored(version.folder / ROWS)
    if options.check:
        return _check(version, entries, published.all(), options.jobs)
    own = _stored(options.csv)
    for name in entries:
        _add(version, name, own, options)
    lines = pd.concat([published.all(), own.all()], ignore_index=True)
    lines = lines[(lines["version"] == version.number) & lines["entry"].isin(entries)]
    if lines.empty:
        raise FrozenError("expected methods to show, but nothing is scored yet; name some by --methods or --add")
    section = leaderboard_section(lines.drop_duplicates([*KEY, "grid", "fill"], keep="last"))
    print(section_markdown(section, Path()))
    if options.out is not None:
        write_tables(options.out, [section])
    return 0


def _frozen(number: int) -> FrozenVersion:
    version = freeze(new_version(number, FROZEN), ENTRIES)
    print(f"{', '.join(version.entries)}: written to {version.folder}", file=sys.stderr)
    return version


def _stored(path: Path) -> StoredLines:
    return StoredLines(path, "leaderboard", KEY, COLUMNS)


def _add(version: FrozenVersion, name: str, own: StoredLines, options: argparse.Namespace) -> None:
    """Scores the methods that have no lines of this code and file for an entry; those that failed are tried again."""
    code = code_fingerprint()
    asked = list(dict.fromkeys(options.methods or options.sources))
    methods = [each for each in asked if not _is_scored(own.of(version.number, name, each), code, options.sources)]
    if not methods:
        return
    folder = options.csv.parent / f"leaderboard-{version.number}"
    rows, exact = frozen_rows(
        version, name, methods, folder, files=options.add, sources=options.sources, jobs=options.jobs
    )
    about = {"version": version.number, "entry": name, "exact": exact, "source": options.source, "code": code}
    lines = leaderboard_lines(rows[rows["method"].isin(methods)], about, options.sources)
    own.replace(lines)
    print(f"{name}: {_same(exact)}; written to {own.path}", file=sys.stderr)
    for method, status in lines[lines["status"] != "ok"].groupby("method", sort=False)["status"].first().items():
        print(f"  {method}: {status}", file=sys.stderr)


def _is_scored(lines: pd.DataFrame, code: str, files: Mapping[str, str]) -> bool:
    """Whether a method has lines of this code and of its file, and did not fail."""
    if lines.empty or lines["status"].str.startswith(FAILED).any():
        return False
    file = files.get(lines["method"].iloc[0], "")
    return bool((lines["code"] == code).all() and (lines["file"].astype(object).fillna("") == file).all())


def _same(exact: bool) -> str:
    return f"network, clips, fills and grids are those of the version {'exactly' if exact else 'up to rounding'}"


def _check(version: FrozenVersion, entries: list[str], published: pd.DataFrame, jobs: int) -> int:
    """Compares entries with the version, and prints what was found; the status is 2 where scores differ."""
    n_wrong = 0
    for name in entries:
        methods = [each for each in REFERENCES if each in set(published[published["entry"] == name]["method"])]
        with TemporaryDirectory() as folder:
            rows, exact = frozen_rows(version, name, methods, Path(folder), jobs=jobs)
        print(f"{name}: {_same(exact)}" + ("" if methods else "; no published scores to repeat"))
        about = {"version": version.number, "entry": name, "exact": exact, "source": "", "code": ""}
        found = leaderboard_lines(rows, about, {}) if methods else published[:0]
        for method, cells in _compared(published, found).groupby("method", sort=False):
            largest = (cells[f"{MEASURE}_published"] - cells[MEASURE]).abs().max(skipna=False)
            is_same = bool(largest <= TOLERANCE)  # NaN, of a method that fails here, is not
            n_wrong += not is_same
            verdict = "as published" if is_same else f"published: {cells[f'{MEASURE}_published'].mean():.4f}"
            print(f"  {method}: {cells[MEASURE].mean(skipna=False):.4f}, {verdict}")
    return 2 if n_wrong else 0


def _compared(published: pd.DataFrame, found: pd.DataFrame) -> pd.DataFrame:
    """The published score and the one that was found here, of each grid and fill."""
    return published.merge(found, on=[*KEY, "grid", "fill"], suffixes=("_published", ""))
