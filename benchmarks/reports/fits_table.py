"""The table of the command `fits`: ways of fitting, over seeds."""

from __future__ import annotations

import pandas as pd

from benchmarks.experiments.fits import N_CHANNELS
from benchmarks.reports.markup import Section, number

NAME = "Ways of fitting"
SUBJECT = ["task", "network", "scheme", "fit"]
MEASURES = ("purity", "unseen", "removed", "alone", "seconds")
COLUMNS = ("scheme", *MEASURES)
"""Columns of the lines of `benchmarks.experiments.fits.fit_lines`."""
ABOUT = (
    "Bases that are fitted in several ways. Purity: mean purity of the prototypes, five per channel; unseen: that of "
    "the five test clips that activate each channel most. Removed: by how much the probability of the predicted class "
    f"falls without the {N_CHANNELS} strongest channels (more is better); alone: by how much it falls with only these "
    "(less is better). Seconds: time of the process for one fit. Each entry is the mean over the seeds, with the "
    "smallest and the largest value where there are several."
)


def fits_section(lines: pd.DataFrame) -> Section:
    """The section with one line per task, network, scheme and way of fitting.

    Args:
        lines: lines of `benchmarks.experiments.fits.fit_lines`, with the columns `task`, `network`, `seed` and `fit`.
    """
    by_subject = lines.groupby(SUBJECT, sort=False)
    table = pd.DataFrame({name: by_subject[name].agg(_mean_and_range) for name in MEASURES}).reset_index()
    return Section(NAME, [ABOUT], {NAME: table})


def _mean_and_range(values: pd.Series) -> str:
    mean = number(values.mean(), 3)
    return mean if len(values) == 1 else f"{mean} ({number(values.min(), 3)} to {number(values.max(), 3)})"
