"""The table of the command `norm`: both places of the norm, over tasks and seeds."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.experiments.norm_place import N_CHANNELS
from benchmarks.reports.markup import Section, mean_and_range

NAME = "Place of the norm"
SUBJECT = ["task", "scheme", "place"]
MEASURES = ("purity_raw", "purity", "removed_raw", "removed", "alone", "contribution")
ABOUT = (
    "Bases of ConvNeXt on the grid of its layer (“layer”), and on the grid that the LayerNorm behind the pooling "
    "normalises (“norm”). Purity: mean purity of the prototypes of the raw channels (“purity_raw”), and after the fit. "
    f"Removed: by how much the probability of the predicted class falls without the {N_CHANNELS} strongest channels. "
    "Alone: by how much it falls with only these; this cannot be compared between the places, as on the grid of the "
    "layer the norm still follows and scales the few channels up. Contribution: share of the positive contributions "
    "that these channels have. Each entry is the mean over the seeds, with the smallest and the largest value."
)


def norm_section(lines: pd.DataFrame) -> Section:
    """The section with one line per task, scheme and place.

    Args:
        lines: the lines of `benchmarks.experiments.norm_place.norm_place_table`.
    """
    by_subject = lines.groupby(SUBJECT, sort=False)
    entries = {"seeds": by_subject["seed"].agg(lambda seeds: ", ".join(map(str, seeds)))}
    for name in MEASURES:
        entries[name] = by_subject[name].agg(partial(mean_and_range, digits=2))
    table = pd.DataFrame(entries).reset_index()
    order = table["task"].map({task: place for place, task in enumerate(table["task"].unique())})
    table = table.assign(order=order).sort_values(["order", "scheme", "place"]).drop(columns="order")
    return Section(NAME, [ABOUT], {NAME: table.reset_index(drop=True)})
