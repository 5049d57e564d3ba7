"""The command line's arguments."""

from __future__ import annotations

import argparse
from pathlib import Path

import joblib

from benchmarks.classifiers.networks import NETWORKS
from benchmarks.commands.measure_command import events_command, speed_command
from benchmarks.commands.run_command import run_command
from benchmarks.commands.show_command import (
    ALL_NETWORKS,
    list_command,
    overview_command,
    pictures_command,
    report_command,
)
from benchmarks.methods import METHODS
from benchmarks.runs.runner import DEFAULT_FILLS, default_methods
from benchmarks.tasks import TASKS
from benchmarks.tasks.task import SPLITS
from captum_apex.cli.types import device
from captum_apex.masking.fills import FILLS
from captum_apex.masking.grids import GRIDS

EXAMPLES = """examples:
  python -m benchmarks run                                        the embedded scenes, every method
  python -m benchmarks run --task environment --network convnext --clips 80
  python -m benchmarks run --task digits --methods "APEX time" LayerGradCam random --grid time --fill silence --clips 20
  python -m benchmarks run --add my_method.py --methods "my method" LayerGradCam
  python -m benchmarks report results/scenes-cnn-1a2b3c4d         tables and figures of a run, also of an unfinished one
  python -m benchmarks overview results/*                         several runs side by side
  python -m benchmarks speed

A run that is interrupted goes on where it stopped when the same command is given again. More methods, grids or fills can be added to a
finished one in the same way.
"""


def command_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    scoring = commands.add_parser(
        "run",
        help="score attribution methods on a task",
        description="Trains (or takes from the cache) a classifier, fits the four bases, scores every method by deletion and insertion.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    scoring.add_argument(
        "--task", choices=TASKS, default="scenes", help="what is classified; recordings need CAPTUM_APEX_DATA"
    )
    scoring.add_argument("--network", choices=ALL_NETWORKS, default="cnn", help="the classifier that is explained")
    scoring.add_argument(
        "--layer", default="", help="the layer that is explained, by name; the last one before pooling if left out"
    )
    scoring.add_argument(
        "--invertible", action="store_true", help="explain by bases U = exp(A), not by orthogonal ones"
    )
    scoring.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=list(default_methods()),
        metavar="METHOD",
        help="names as `list` shows them",
    )
    scoring.add_argument(
        "--add",
        type=_resolved,
        action="append",
        default=[],
        metavar="FILE.py",
        help="a file with methods of your own; may be repeated",
    )
    scoring.add_argument(
        "--retry", action="store_true", help="compute cells again that ended by an error, or for want of time or memory"
    )
    scoring.add_argument("--clips", type=_positive, default=24, help="how many clips, spread evenly over the part")
    scoring.add_argument(
        "--part", choices=SPLITS, default="test", help="whose clips are explained; choose settings on train alone"
    )
    scoring.add_argument(
        "--grid", nargs="+", choices=GRIDS, default=list(GRIDS), help="regions that are masked together"
    )
    scoring.add_argument(
        "--fill", nargs="+", choices=FILLS, default=list(DEFAULT_FILLS), help="what masked regions are replaced by"
    )
    scoring.add_argument("--points", type=_curve_points, default=7, help="points of each curve, both ends counted")
    scoring.add_argument(
        "--sensitivity", type=_count, default=0, help="perturbed copies of each clip that are explained as well"
    )
    scoring.add_argument("--limit", type=_seconds, help="seconds after which one explanation of all clips is given up")
    scoring.add_argument(
        "--reference",
        choices=METHODS,
        metavar="METHOD",
        help="whom the others are tested against; LayerGradCam unless the run has another",
    )
    scoring.add_argument("--seed", type=int, default=0, help="of clips, training, fitting and random methods")
    scoring.add_argument("--device", type=device, default="cpu", help="where the classifier runs, such as cuda")
    scoring.add_argument(
        "--jobs",
        type=_positive,
        default=joblib.cpu_count(),
        help="processes side by side; the results do not depend on it",
    )
    scoring.add_argument(
        "--backend",
        help="joblib's backend, such as dask or ray where a cluster is connected; by default processes here",
    )
    scoring.add_argument(
        "--out", type=Path, help="results folder; by default one in results/ that is named by the settings"
    )
    scoring.set_defaults(command=run_command)
    reporting = commands.add_parser("report", help="tables and figures of a run, in Markdown, LaTeX and PNG")
    reporting.add_argument("folder", type=Path, metavar="RUN", help="the run's results folder")
    reporting.set_defaults(command=report_command)
    viewing = commands.add_parser("overview", help="several runs side by side, in Markdown")
    viewing.add_argument("folders", type=Path, nargs="+", metavar="RUN", help="the runs' results folders")
    viewing.set_defaults(command=overview_command)
    commands.add_parser("list", help="name the tasks, networks, methods, grids and fills").set_defaults(
        command=list_command
    )
    timing = commands.add_parser(
        "speed", help="measure attribution, the bank, fitting and the masking curves against bare forward passes"
    )
    timing.add_argument("--repeats", type=_positive, default=5, help="runs of each timing; the median is kept")
    timing.add_argument(
        "--device", type=device, default="cpu", help="where models run and bases are fitted, such as cuda"
    )
    timing.set_defaults(command=speed_command)
    listing = commands.add_parser(
        "events", help="how well events of a long recording are found, made of a task's test clips"
    )
    listing.add_argument(
        "--task", choices=TASKS, default="scenes", help="whose clips; recordings need CAPTUM_APEX_DATA"
    )
    listing.add_argument("--network", choices=NETWORKS, default="cnn", help="the classifier that hears them")
    listing.add_argument("--clips", type=_positive, default=40, help="how many clips, in random order")
    listing.add_argument("--seed", type=int, default=0, help="of clips, training, fitting and the order")
    listing.add_argument("--picture", type=Path, metavar="FILE.png", help="draw the first five clips")
    listing.set_defaults(command=events_command)
    drawing = commands.add_parser("pictures", help="draw the pictures of the README and the guides")
    drawing.add_argument("--out", type=Path, default=Path("tutorials/pictures"), help="folder for the PNG files")
    drawing.add_argument("--seed", type=int, default=0, help="of clips, training and fitting")
    drawing.set_defaults(command=pictures_command)
    return parser


def _resolved(text: str) -> Path:
    """Workers may have another working directory."""
    return Path(text).resolve()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, but got {number}")
    return number


def _count(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, but got {number}")
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"expected more than 0 seconds, but got {text}")
    return number


def _curve_points(text: str) -> int:
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError(f"expected at least 2 points, the two ends, but got {number}")
    return number
