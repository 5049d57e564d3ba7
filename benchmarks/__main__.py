"""The benchmark's command line: `python -m benchmarks run`, `report`, `overview`, `list`, `speed`, `events`, `pictures`."""

from __future__ import annotations

import argparse
import hashlib
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import joblib
import pandas as pd
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from benchmarks import overview, pictures, report, speed
from benchmarks.allocator import keep_freed_memory
from benchmarks.classifiers import NETWORKS, LayerError, accuracy
from benchmarks.evidence import evidence_table, purity_table, truth_table
from benchmarks.invariance import invariance_table
from benchmarks.masking_test import masking_test
from benchmarks.methods import METHODS, load_methods
from benchmarks.results import FolderError, Results, code_fingerprint, digest, versions
from benchmarks.runner import DEFAULT_FILLS, Settings, default_methods, run
from benchmarks.soundscape import soundscape_picture, soundscape_table
from benchmarks.subject import FIT, Subject, prepare
from benchmarks.tasks import TASKS
from benchmarks.tasks.task import SPLITS
from benchmarks.waveforms import WAVEFORM_NETWORKS
from captum_apex.layers import fingerprint
from captum_apex.masking import FILLS, GRIDS
from captum_apex.options import device

TABLES: dict[str, Callable[[Subject, Settings], pd.DataFrame]] = {
    "invariance.csv": lambda subject, _: invariance_table(subject),
    "purity.csv": lambda subject, _: purity_table(subject),
    "evidence.csv": lambda subject, _: evidence_table(subject),
    "truth.csv": lambda subject, _: truth_table(subject),
    "masking_test.csv": lambda subject, settings: masking_test(subject, settings.clips, settings.part),
}
"""File → what a run writes there beside the methods' rows."""
OF_ANY_PART = ("masking_test.csv",)  # the others are about the test part, which who chooses on the training part shall not see

ALL_NETWORKS = (*NETWORKS, *WAVEFORM_NETWORKS)

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
INTERRUPTED = 130  # as shells report it


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; 0 where it worked, 2 where the arguments, the recordings or the folder are not right, 130 where interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        sources = _add_methods(arguments)
        options = _parser().parse_args(arguments)
        options.sources, options.typed = sources, shlex.join(["python", "-m", "benchmarks", *arguments])
        return options.command(options)
    except (FileNotFoundError, FolderError, LayerError) as error:
        print(f"python -m benchmarks: {error}", file=sys.stderr)
        return 2
    except TerminatedWorkerError as error:
        print(f"python -m benchmarks: the system ended a worker, for want of memory as a rule; try fewer --jobs ({error})", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted: what is finished is kept, and the same command goes on from there", file=sys.stderr)
        return INTERRUPTED


def _run(options: argparse.Namespace) -> int:
    start = time.perf_counter()
    keep_freed_memory()
    about = {"seed": options.seed, "device": options.device, "layer_name": options.layer, "orthogonal": not options.invertible}
    subject = prepare(options.task, options.network, **about, progress=True)
    reached = accuracy(subject.model, subject.task.test)
    print(f"{options.network} on {options.task}: accuracy {reached:.1%} on {len(subject.task.test)} unseen clips", flush=True)
    methods, grids, fills = (tuple(dict.fromkeys(names)) for names in (options.methods, options.grid, options.fill))
    judged = (options.clips, options.part, options.points, options.sensitivity, options.limit)
    settings = Settings(methods, grids, fills, *judged, files=tuple(options.add), retry=options.retry)
    results = _open(options, subject, settings, reached)
    finished = len(settings.cells) - len(results.missing(settings.cells))
    if finished:
        print(f"{finished} of {len(settings.cells)} cells were finished before", flush=True)
    run(subject, settings, results, jobs=options.jobs, backend=options.backend, progress=True)
    _write_tables(results, subject, settings)
    results.collect()
    print("\ninsertion − deletion AUC of the predicted class's probability, higher is better\n")
    print(f"{report.write(results.folder)}\n\n{time.perf_counter() - start:.0f} s; rows, tables, figures and settings are in")
    print(results.folder.resolve())
    return 0


def _write_tables(results: Results, subject: Subject, settings: Settings) -> None:
    """The experiments beside the methods' rows; one that fails is said and left out, the rows are worth their report."""
    for name, make in TABLES.items():
        if (settings.part == "test" or name in OF_ANY_PART) and not (results.folder / name).exists():
            try:
                results.write(name, make(subject, settings))
            except Exception as error:
                print(f"{name} could not be made: {type(error).__name__}: {error}", file=sys.stderr)


def _open(options: argparse.Namespace, subject: Subject, settings: Settings, reached: float) -> Results:
    """The folder of the run, named by all that its numbers depend on unless the user names it."""
    key = {
        **{name: getattr(options, name) for name in ("task", "network", "layer", "invertible", "seed", "part", "clips")},
        **{name: getattr(options, name) for name in ("points", "sensitivity", "limit")},
        "device": torch.device(options.device).type,
        "sounds": {part: getattr(subject.task, part).fingerprint() for part in SPLITS},
        "fit": FIT,
        "weights": fingerprint(subject.model),
        "bases": {str(scheme): hashlib.sha256(basis.U.cpu().numpy().tobytes()).hexdigest() for scheme, basis in subject.bases.items()},
        "code": code_fingerprint(),
        "versions": versions(),
    }
    about = {"methods": settings.methods, "grids": settings.grids, "fills": settings.fills, "reference": options.reference}
    about |= {"accuracy": reached, "test_clips": len(subject.task.test), "classes": subject.task.classes}
    about |= {"command": options.typed, "sources": options.sources}
    return Results.open(options.out or Path("results") / f"{options.task}-{options.network}-{digest(key)}", key, about)


def _report(options: argparse.Namespace) -> int:
    _check_folder(options.folder)
    Results(options.folder).collect()
    try:
        print(report.write(options.folder))
    except ValueError as error:  # no cell is finished
        raise FolderError(str(error)) from error
    print(f"\n{(options.folder / 'report.md').resolve()}")
    return 0


def _check_folder(folder: Path) -> None:
    if not (folder / "run.json").is_file():
        raise FolderError(f"expected the folder of a run, but {folder} has no run.json")


def _overview(options: argparse.Namespace) -> int:
    for folder in options.folders:
        _check_folder(folder)
        Results(folder).collect()
    print(overview.overview(options.folders))
    return 0


def _add_methods(arguments: Sequence[str]) -> dict[str, str]:
    """Registers the methods of the files that `--add` names, before the other arguments are checked against the registry.

    Returns:
        The names of those methods, each with a digest of its file.
    """
    early = argparse.ArgumentParser(add_help=False)
    early.add_argument("--add", type=Path, action="append", default=[])
    sources: dict[str, str] = {}
    for path in early.parse_known_args(arguments)[0].add:
        try:
            names = load_methods(path.resolve())
        except ValueError as error:
            early.error(str(error))
        sources |= dict.fromkeys(names, hashlib.sha256(path.read_bytes()).hexdigest())
    return sources


def _list(_: argparse.Namespace) -> int:
    for title, names in (("tasks", TASKS), ("networks", ALL_NETWORKS), ("methods", METHODS), ("grids", GRIDS), ("fills", FILLS)):
        print(f"{title}:")
        print("\n".join(f"  {name}" for name in names))
    return 0


def _speed(options: argparse.Namespace) -> int:
    print(speed.table(speed.measure(repeats=options.repeats, device=options.device)))
    return 0


def _events(options: argparse.Namespace) -> int:
    subject = prepare(options.task, options.network, seed=options.seed, progress=True)
    print(soundscape_table(subject, options.clips, options.seed).to_string(index=False, float_format="{:.2f}".format))
    if options.picture is not None:
        soundscape_picture(subject, options.seed).savefig(options.picture, dpi=85)
        print(options.picture)
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
    scoring.add_argument("--network", choices=ALL_NETWORKS, default="cnn", help="the classifier that is explained")
    scoring.add_argument("--layer", default="", help="the layer that is explained, by name; the last one before pooling if left out")
    scoring.add_argument("--invertible", action="store_true", help="explain by bases U = exp(A), not by orthogonal ones")
    scoring.add_argument(
        "--methods", nargs="+", choices=METHODS, default=list(default_methods()), metavar="METHOD", help="names as `list` shows them"
    )
    scoring.add_argument(
        "--add", type=_resolved, action="append", default=[], metavar="FILE.py", help="a file with methods of your own; may be repeated"
    )
    scoring.add_argument("--retry", action="store_true", help="compute cells again that ended by an error, or for want of time or memory")
    scoring.add_argument("--clips", type=_positive, default=24, help="how many clips, spread evenly over the part")
    scoring.add_argument("--part", choices=SPLITS, default="test", help="whose clips are explained; choose settings on train alone")
    scoring.add_argument("--grid", nargs="+", choices=GRIDS, default=list(GRIDS), help="regions that are masked together")
    scoring.add_argument("--fill", nargs="+", choices=FILLS, default=list(DEFAULT_FILLS), help="what masked regions are replaced by")
    scoring.add_argument("--points", type=_curve_points, default=7, help="points of each curve, both ends counted")
    scoring.add_argument("--sensitivity", type=_count, default=0, help="perturbed copies of each clip that are explained as well")
    scoring.add_argument("--limit", type=_seconds, help="seconds after which one explanation of all clips is given up")
    scoring.add_argument(
        "--reference", choices=METHODS, metavar="METHOD", help="whom the others are tested against; LayerGradCam unless the run has another"
    )
    scoring.add_argument("--seed", type=int, default=0, help="of clips, training, fitting and random methods")
    scoring.add_argument("--device", type=device, default="cpu", help="where the classifier runs, such as cuda")
    scoring.add_argument(
        "--jobs", type=_positive, default=joblib.cpu_count(), help="processes side by side; the results do not depend on it"
    )
    scoring.add_argument("--backend", help="joblib's backend, such as dask or ray where a cluster is connected; by default processes here")
    scoring.add_argument("--out", type=Path, help="results folder; by default one in results/ that is named by the settings")
    scoring.set_defaults(command=_run)
    reporting = commands.add_parser("report", help="tables and figures of a run, in Markdown, LaTeX and PNG")
    reporting.add_argument("folder", type=Path, metavar="RUN", help="the run's results folder")
    reporting.set_defaults(command=_report)
    viewing = commands.add_parser("overview", help="several runs side by side, in Markdown")
    viewing.add_argument("folders", type=Path, nargs="+", metavar="RUN", help="the runs' results folders")
    viewing.set_defaults(command=_overview)
    commands.add_parser("list", help="name the tasks, networks, methods, grids and fills").set_defaults(command=_list)
    timing = commands.add_parser("speed", help="measure attribution, the bank, fitting and the masking curves against bare forward passes")
    timing.add_argument("--repeats", type=_positive, default=5, help="runs of each timing; the median is kept")
    timing.add_argument("--device", type=device, default="cpu", help="where models run and bases are fitted, such as cuda")
    timing.set_defaults(command=_speed)
    listing = commands.add_parser("events", help="how well events of a long recording are found, made of a task's test clips")
    listing.add_argument("--task", choices=TASKS, default="scenes", help="whose clips; recordings need CAPTUM_APEX_DATA")
    listing.add_argument("--network", choices=NETWORKS, default="cnn", help="the classifier that hears them")
    listing.add_argument("--clips", type=_positive, default=40, help="how many clips, in random order")
    listing.add_argument("--seed", type=int, default=0, help="of clips, training, fitting and the order")
    listing.add_argument("--picture", type=Path, metavar="FILE.png", help="draw the first five clips")
    listing.set_defaults(command=_events)
    drawing = commands.add_parser("pictures", help="draw the README's pictures")
    drawing.add_argument("--out", type=Path, default=Path("tutorials/pictures"), help="folder for the PNG files")
    drawing.add_argument("--seed", type=int, default=0, help="of clips, training and fitting")
    drawing.set_defaults(command=_pictures)
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


if __name__ == "__main__":
    sys.exit(main())
