"""The table of the command `fits`: ways of fitting, over seeds."""

from __future__ import annotations

import pandas as pd

from benchmarks.experiments.fits import N_CHANNELS
from benchmarks.reports.markup import Section, ascending, mean_and_range, number

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
    "smallest and the largest value where there are several. The first table has the differences to the fit by "
    "gradient of the same scheme and seed."
)


DIFFERENCES = ("purity", "unseen", "removed", "alone")
REFERENCE = "gradient"
AGAINST = "Difference to the fit by gradient"


def fits_section(lines: pd.DataFrame) -> Section:
    """The section with one line per task, network, scheme and way of fitting, and the differences to `REFERENCE`.

    Args:
        lines: lines of `benchmarks.experiments.fits.fit_lines`, with the columns `task`, `network`, `seed` and `fit`.
    """
    by_subject = lines.groupby(SUBJECT, sort=False)
    entries = {name: by_subject[name].agg(mean_and_range) for name in MEASURES}
    entries["seeds"] = by_subject["seed"].agg(ascending)
    tables = {NAME: pd.DataFrame(entries).reset_index()}
    differences = differences_table(lines)
    return Section(NAME, [ABOUT], {AGAINST: differences, **tables} if len(differences) else tables)


def differences_table(lines: pd.DataFrame) -> pd.DataFrame:
    """What each way of fitting is above `REFERENCE`, over the schemes and seeds of a task and a network.

    Args:
        lines: as in `fits_section`.

    Returns:
        One line per task, network and other way of fitting: the mean difference in each of `DIFFERENCES`, with the
        smallest and the largest; the median share of the seconds; and the number of cases, pairs of a scheme and a
        seed. Empty where one of the two is missing.
    """
    cases = ["task", "network", "seed", "scheme"]
    measures = [*DIFFERENCES, "seconds"]
    reference = lines.loc[lines["fit"] == REFERENCE, [*cases, *measures]]
    pairs = lines[lines["fit"] != REFERENCE].merge(reference, on=cases, suffixes=("", "_reference"))
    for name in DIFFERENCES:
        pairs[name] -= pairs[f"{name}_reference"]
    pairs["seconds"] /= pairs["seconds_reference"]
    by_fit = pairs.groupby(["task", "network", "fit"], sort=False)
    entries = {name: by_fit[name].agg(mean_and_range) for name in DIFFERENCES}
    entries["share of the seconds"] = by_fit["seconds"].agg(lambda shares: number(shares.median(), 3))
    entries["cases"] = by_fit["seed"].agg(lambda seeds: str(len(seeds)))
    return pd.DataFrame(entries).reset_index()
