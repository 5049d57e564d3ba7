"""`speed` and `events`: measurements beside the runs."""

from __future__ import annotations

import argparse

from benchmarks.experiments import speed
from benchmarks.experiments.soundscape import soundscape_picture, soundscape_table
from benchmarks.runs.subject import prepare


def speed_command(options: argparse.Namespace) -> int:
    """Prints the cost of the library's parts as ratios to forward passes."""
    print(speed.table(speed.measure(repeats=options.repeats, device=options.device)))
    return 0


def events_command(options: argparse.Namespace) -> int:
    """Prints how well events of a long recording are detected."""
    subject = prepare(options.task, options.network, seed=options.seed, progress=True)
    print(soundscape_table(subject, options.clips, options.seed).to_string(index=False, float_format="{:.2f}".format))
    if options.picture is not None:
        soundscape_picture(subject, options.seed).savefig(options.picture, dpi=85)
        print(options.picture)
    return 0
