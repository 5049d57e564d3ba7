"""A run of the benchmark that takes a part of a second."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pandas as pd

from benchmarks.runs.results import Results
from benchmarks.runs.runner import Settings, run
from tests.faults.writers import ABOUT, KEY
from tests.small import small_subject

SETTINGS = Settings(("energy", "random", "Saliency"), ("time",), ("mean", "silence"), clips=9, points=3)

subject = cache(small_subject)


def run_small(folder: Path) -> None:
    about = {**ABOUT, "methods": SETTINGS.methods, "grids": SETTINGS.grids, "fills": SETTINGS.fills}
    results = Results.open(folder, KEY, about)
    run(subject(), SETTINGS, results)
    results.collect()


def rows_of(folder: Path) -> pd.DataFrame:
    """The rows but for the time that they took."""
    return pd.read_csv(folder / "rows.csv").drop(columns="seconds")
