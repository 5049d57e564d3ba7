"""The commands `report`, `overview`, `list` and `pictures`, which show what is there and compute no scores."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.commands.options import ALL_NETWORKS, Commands, check_run
from benchmarks.methods import METHODS
from benchmarks.reports import overview, pictures, run_report, truth_agreement
from benchmarks.reports.figure_parts import write_figure
from benchmarks.reports.leads import leads_figure
from benchmarks.runs.results import FolderError, Results
from benchmarks.runs.stage import SEGMENTS
from benchmarks.tasks import TASKS
from captum_apex.cli.loading import check_output_folder
from captum_apex.cli.types import seed
from captum_apex.masking.fills import FILLS
from captum_apex.masking.grids import GRIDS

OF_OVERVIEW = ("task", "network", "part", "clips", "test_clips", "accuracy")  # settings that the overview shows


def add_report_parser(commands: Commands) -> None:
    """Adds the parser of `report`."""
    parser = commands.add_parser("report", help="tables and figures of a run, in Markdown, LaTeX and PNG")
    parser.add_argument("folder", type=Path, metavar="RUN", help="the run's results folder")
    parser.set_defaults(command=report_command)


def add_overview_parser(commands: Commands) -> None:
    """Adds the parser of `overview`."""
    parser = commands.add_parser("overview", help="several runs side by side, in Markdown")
    parser.add_argument("folders", type=Path, nargs="+", metavar="RUN", help="the runs' results folders")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.md",
        help="replace the tables between this file's marks, such as `<!-- Scores -->` and `<!-- end of Scores -->`, "
        "instead of printing all tables",
    )
    parser.add_argument(
        "--pictures",
        type=Path,
        metavar="FOLDER",
        help="draw who is ahead in each run, and, where the truth is known, whether methods with higher scores point "
        "more at the sound",
    )
    parser.set_defaults(command=overview_command)


def add_list_parser(commands: Commands) -> None:
    """Adds the parser of `list`."""
    parser = commands.add_parser("list", help="name the tasks, networks, methods, grids and fills")
    parser.set_defaults(command=list_command)


def add_pictures_parser(commands: Commands) -> None:
    """Adds the parser of `pictures`."""
    parser = commands.add_parser("pictures", help="draw the pictures of the README and the guides")
    parser.add_argument("--out", type=Path, default=Path("tutorials/pictures"), help="folder for the PNG files")
    parser.add_argument("--seed", type=seed, default=0, help="seed of clips, training and fitting")
    parser.set_defaults(command=pictures_command)


def report_command(options: argparse.Namespace) -> int:
    """Writes the report of a run, also of an unfinished one, and prints its summary."""
    check_run(options.folder)
    Results(options.folder).collect()
    try:
        print(run_report.write(options.folder))
    except ValueError as error:  # no cell is finished
        raise FolderError(str(error)) from error
    print(f"\n{(options.folder / 'report.md').resolve()}")
    return 0


def overview_command(options: argparse.Namespace) -> int:
    """Prints several runs side by side, or replaces the tables of a Markdown file by theirs."""
    if options.pictures is not None:
        if options.pictures.suffix:
            raise FolderError(f"expected --pictures to name a folder, but got {options.pictures}")
        check_output_folder(options.pictures / "leads.png")
    for folder in options.folders:
        check_run(folder, OF_OVERVIEW)
        Results(folder).collect()
    if options.pictures is not None:
        _draw(options.pictures, options.folders)
    if options.out is None:
        print(overview.overview(options.folders))
        return 0
    try:
        titles = overview.update(options.out, options.folders)
    except ValueError as error:
        raise FolderError(str(error)) from error
    print(f"{options.out}: {', '.join(titles)}")
    return 0


def _draw(folder: Path, runs: Sequence[Path]) -> None:
    """Draws who is ahead, and how scores agree with the truth, as far as the runs tell."""
    rows = overview.rows_by_name(runs)
    figures = {
        "leads": leads_figure(rows),
        "agreement": truth_agreement.agreement_figure(rows),
        "faithfulness_and_truth": truth_agreement.picture(rows),
    }
    if not any(figures.values()):
        raise FolderError("expected runs with several methods for --pictures, but there is nothing to compare")
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        if figure is not None:
            write_figure(figure, folder / f"{name}.png")
            print(folder / f"{name}.png")


def list_command(_: argparse.Namespace) -> int:
    """Prints the names of tasks, networks, methods, grids and fills."""
    names_of = {
        "tasks": TASKS,
        "networks": ALL_NETWORKS,
        "methods": METHODS,
        "grids": [*GRIDS, *SEGMENTS],
        "fills": FILLS,
    }
    for title, names in names_of.items():
        print(f"{title}:")
        print("\n".join(f"  {name}" for name in names))
    return 0


def pictures_command(options: argparse.Namespace) -> int:
    """Draws the pictures of the README and the guides."""
    check_output_folder(options.out / "new.png")
    for path in pictures.write(options.out, seed=options.seed):
        print(path)
    return 0
