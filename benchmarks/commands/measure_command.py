"""The commands `speed`, `events` and `norm`: measurements beside the runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.classifiers.networks import NETWORKS
from benchmarks.commands.options import Commands, check_tables, picture, write_tables
from benchmarks.experiments import speed
from benchmarks.experiments.norm_place import norm_place_table
from benchmarks.experiments.soundscape import soundscape_picture, soundscape_table
from benchmarks.experiments.stored_timings import store_timings, stored_timings
from benchmarks.experiments.timing import HEADER
from benchmarks.reports.markup import section_markdown
from benchmarks.reports.norm_table import norm_section
from benchmarks.runs.subject import prepare
from benchmarks.tasks import TASKS
from captum_apex.cli.loading import check_output_folder
from captum_apex.cli.types import device, positive_integer, seed
from captum_apex.files import replaced

_PARTS = f"what is measured, of {', '.join(speed.PARTS)}"


def add_speed_parser(commands: Commands) -> None:
    """Adds the parser of `speed`."""
    parser = commands.add_parser(
        "speed",
        help="measure attribution, the feature bank, fitting and the masking curves against bare forward passes",
        description="Measures the cost of explanations, part by part, and prints each row as soon as it is measured. "
        "Parts that the CSV file has are not measured again.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    usual = [part for part in speed.PARTS if part not in speed.DEAR]
    parser.add_argument("--parts", nargs="+", choices=speed.PARTS, default=usual, metavar="NAME", help=_PARTS)
    parser.add_argument(
        "--csv", type=Path, default=Path("results/speed.csv"), metavar="FILE.csv", help="file of all numbers"
    )
    parser.add_argument(
        "--repeats", type=positive_integer, default=5, help="runs of each timing, of which the median is taken"
    )
    parser.add_argument(
        "--device", type=device, default="cpu", help="where models run and bases are fitted, such as cuda"
    )
    parser.set_defaults(command=speed_command)


def add_events_parser(commands: Commands) -> None:
    """Adds the parser of `events`."""
    parser = commands.add_parser(
        "events", help="how well events are detected in a long recording that is made of a task's test clips"
    )
    parser.add_argument("--task", choices=TASKS, default="scenes", help="task of the clips; see `run`")
    parser.add_argument("--network", choices=NETWORKS, default="cnn", help="the classifier")
    parser.add_argument("--clips", type=positive_integer, default=40, help="number of clips, in random order")
    parser.add_argument("--seed", type=seed, default=0, help="seed of clips, training, fitting and the order")
    parser.add_argument("--picture", type=picture, metavar="FILE.png", help="draw the first five clips to this file")
    parser.set_defaults(command=events_command)


def add_norm_parser(commands: Commands) -> None:
    """Adds the parser of `norm`."""
    parser = commands.add_parser(
        "norm",
        help="compare bases of the layer's grid with bases of the grid that the norm behind the pooling normalises",
    )
    parser.add_argument("--task", nargs="+", choices=TASKS, default=["scenes"], help="tasks of the clips; see `run`")
    parser.add_argument("--seeds", nargs="+", type=seed, default=[0], help="seeds of clips, training and fitting")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="replace the table between this file's marks")
    parser.set_defaults(command=norm_command)


def speed_command(options: argparse.Namespace) -> int:
    """Prints the cost of explanations as ratios to forward passes, and writes each finished part to the CSV file."""
    check_output_folder(options.csv)
    print(HEADER, flush=True)
    for part in options.parts:
        key = (part, options.repeats, str(options.device))
        timings = stored_timings(options.csv, key)
        if timings:
            print(f"{part}: from {options.csv}, not measured again", file=sys.stderr)
            print(*timings, sep="\n", flush=True)
            continue
        for timing in speed.measure(part, repeats=options.repeats, device=options.device):
            print(timing, flush=True)
            timings.append(timing)
        store_timings(options.csv, key, timings)
    return 0


def events_command(options: argparse.Namespace) -> int:
    """Prints how well the events of a long recording are detected."""
    if options.picture is not None:
        check_output_folder(options.picture)
    subject = prepare(options.task, options.network, seed=options.seed, progress=True)
    print(soundscape_table(subject, options.clips, options.seed).to_string(index=False, float_format="{:.2f}".format))
    if options.picture is not None:
        kind = options.picture.suffix.removeprefix(".") or "png"
        with replaced(options.picture) as unfinished:
            soundscape_picture(subject, options.seed).savefig(unfinished, format=kind, dpi=85)
        print(options.picture)
    return 0


def norm_command(options: argparse.Namespace) -> int:
    """Prints purity and channel removal of ConvNeXt for both places of the norm."""
    check_tables(options.out)
    section = norm_section(norm_place_table(options.task, options.seeds, progress=True))
    print(section_markdown(section, Path()))
    if options.out is not None:
        write_tables(options.out, [section])
    return 0
