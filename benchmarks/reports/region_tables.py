"""The tables of the command `regions`: the regions of the evidence over tasks, networks and seeds."""

from __future__ import annotations

import pandas as pd

from benchmarks.experiments.region_masking import ratio
from benchmarks.reports.markup import Section, number, significant

SUBJECT = ["task", "network", "scheme"]
SEPARATOR = " / "
GROUPS = {
    "meets truth: cell / found / random": ("cell", "found", "random"),
    "IoU: cell / found": ("iou_cell", "iou_found"),
    "channel falls: cell / found / random": ("channel_cell", "channel_found", "channel_random"),
    "probability falls: cell / found / random": ("drop_cell", "drop_found", "drop_random"),
    "area: cell / found": ("share_cell", "share_found"),
}
"""Head of a column → columns of `benchmarks.experiments.region_summary.region_summary`."""
RATIO = "found : random"
ABOUT = (
    "The regions are the peak cell of a channel (“cell”), the region that the search finds (“found”), and the found "
    "region at random places (“random”). Meets truth: share of clips in which the region of the strongest channel has "
    "a bin in common with the class event. IoU: the common bins as a share of the bins that region or event has. "
    "Channel falls: share of a channel's contribution that masking its region takes away, median over three channels "
    "per clip. Probability falls: by how much the predicted class's probability falls when the regions of the three "
    "channels are masked; the next column is the ratio of its means, where a random fall below 0.001 counts as 0.001. "
    "Area: share of the clip that is masked. Masked bins are replaced by their surroundings: the clip, blurred along "
    "the axis in which the scheme has regions."
)


def region_sections(lines: pd.DataFrame) -> list[Section]:
    """The sections `Regions`, with means over seeds, and `Regions by seed`.

    Args:
        lines: the lines of `benchmarks.experiments.region_summary.region_summary` for all subjects.
    """
    by_subject = lines.sort_values("seed", kind="stable").groupby(SUBJECT, sort=False)
    means = by_subject.mean(numeric_only=True)
    means["seeds"] = by_subject["seed"].agg(lambda seeds: ", ".join(map(str, seeds)))
    by_seed = lines.sort_values("seed", kind="stable")
    return [
        Section("Regions", [ABOUT], {"Regions": _entries(means.reset_index(), "seeds")}),
        Section("Regions by seed", [], {"Regions by seed": _entries(by_seed, "seed")}),
    ]


def _entries(lines: pd.DataFrame, seeds: str) -> pd.DataFrame:
    """The lines as texts; `seeds` is the name of the column of seeds."""
    table = lines[[*SUBJECT, seeds]].astype(str)
    for head, names in GROUPS.items():
        texts = lines[list(names)].map(number)
        table[head] = texts.agg(SEPARATOR.join, axis=1)
    ratios = [ratio(*falls) for falls in lines[["drop_found", "drop_random"]].to_numpy(dtype=float)]
    table.insert(list(table).index("area: cell / found"), RATIO, list(map(significant, ratios)))
    return table.reset_index(drop=True)
