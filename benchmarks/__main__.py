"""The benchmark's command line: `python -m benchmarks run`, `list`, `speed`, `pictures`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks import pictures, report, speed
from benchmarks.classifiers import NETWORKS, accuracy
from benchmarks.evidence import findings
from benchmarks.methods import METHODS
from benchmarks.runner import Settings, run
from benchmarks.subject import FIT, prepare
from benchmarks.tasks import TASKS
from captum_apex.masking import FILLS, GRIDS

EXAMPLES = """examples:
  python -m benchmarks run                                        the embedded scenes, every method
  python -m benchmarks run --task environment --network convnext
  python -m benchmarks run --task digits --methods "APEX time" LayerGradCam random --grid time --fill silence --clips 20
  python -m benchmarks speed
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; 0 where it worked, 2 where the arguments or the recordings are not right."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except FileNotFoundError as error:  # recordings that are not there
        print(f"python -m benchmarks: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace) -> int:
    start = time.perf_counter()
    subject = prepare(options.task, options.network, seed=options.seed, device=options.device, progress=True)
    reached = accuracy(subject.model, subject.task.test)
    print(f"{options.network} on {options.task}: accuracy {reached:.1%} on {len(subject.task.test)} unseen clips", flush=True)
    methods, grids, fills = (tuple(dict.fromkeys(names)) for names in (options.methods, options.grid, options.fill))
    settings = Settings(methods, grids, fills, options.clips, options.points)
    rows = list(run(subject, settings, progress=True))
    found = findings(subject)
    about = asdict(settings) | {name: getattr(options, name) for name in ("task", "network", "seed", "device")}
    about |= {"fit": FIT, "accuracy": reached, "test_clips": len(subject.task.test), "seconds": time.perf_counter() - start}
    folder = options.out or Path("results") / f"{options.task}-{options.network}-{time.strftime('%Y%m%d-%H%M%S')}"
    text = report.write(folder, rows, found, about)
    print("\ninsertion − deletion AUC of the predicted class's probability, higher is better\n")
    print(f"{text}\n\n{time.perf_counter() - start:.0f} s in all; rows, curves, figure and settings are in\n{folder.resolve()}")
    return 0


def _list(_: argparse.Namespace) -> int:
    for title, names in (("tasks", TASKS), ("networks", NETWORKS), ("methods", METHODS), ("grids", GRIDS), ("fills", FILLS)):
        print(f"{title}:")
        print("\n".join(f"  {name}" for name in names))
    return 0


def _speed(options: argparse.Namespace) -> int:
    print(speed.table(speed.measure(repeats=options.repeats)))
    return 0


def _pictures(options: argparse.Namespace) -> int:
    for path in pictures.write(options.out, seed=options.seed):
        print(path)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    scoring = commands.add_parser(
        "run",
        help="score attribution methods on a task",
        description="Trains (or takes from the cache) a classifier, fits the four bases, scores every method by deletion and insertion.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    scoring.add_argument("--task", choices=TASKS, default="scenes", help="what is classified; recordings need CAPTUM_APEX_DATA")
    scoring.add_argument("--network", choices=NETWORKS, default="cnn", help="the classifier that is explained")
    scoring.add_argument(
        "--methods", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD", help="names as `list` shows them"
    )
    scoring.add_argument("--clips", type=_positive, default=24, help="how many test clips, spread evenly over the test part")
    scoring.add_argument("--grid", nargs="+", choices=GRIDS, default=list(GRIDS), help="regions that are masked together")
    scoring.add_argument("--fill", nargs="+", choices=FILLS, default=list(FILLS), help="what masked regions are replaced by")
    scoring.add_argument("--points", type=_curve_points, default=9, help="points of each curve, both ends counted")
    scoring.add_argument("--seed", type=int, default=0, help="of clips, training, fitting and random methods")
    scoring.add_argument("--device", type=_device, default="cpu", help="where the classifier runs, such as cuda")
    scoring.add_argument("--out", type=Path, help="results folder; by default results/TASK-NETWORK-TIME")
    scoring.set_defaults(command=_run)
    commands.add_parser("list", help="name the tasks, networks, methods, grids and fills").set_defaults(command=_list)
    timing = commands.add_parser("speed", help="measure attribution, the bank, fitting and the masking curves against bare forward passes")
    timing.add_argument("--repeats", type=_positive, default=5, help="runs of each timing; the median is kept")
    timing.set_defaults(command=_speed)
    drawing = commands.add_parser("pictures", help="draw the README's pictures")
    drawing.add_argument("--out", type=Path, default=Path("tutorials/pictures"), help="folder for the PNG files")
    drawing.add_argument("--seed", type=int, default=0, help="of clips, training and fitting")
    drawing.set_defaults(command=_pictures)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected a number of at least 1, but got {number}")
    return number


def _curve_points(text: str) -> int:
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError(f"expected at least 2 points, the two ends, but got {number}")
    return number


def _device(text: str) -> str:
    try:
        device = torch.device(text)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise argparse.ArgumentTypeError(f"expected a device that is here, but got {text!r}") from error
    return str(device)


if __name__ == "__main__":
    sys.exit(main())
