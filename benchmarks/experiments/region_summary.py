"""The regions of the evidence in numbers, one line per scheme: on the truth, and in the masking test."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from benchmarks.experiments.located_evidence import SURROUNDINGS
from benchmarks.experiments.missed_events import MISS_COLUMNS, event_shares
from benchmarks.experiments.region_masking import masking_test
from benchmarks.experiments.truth import REGION_COLUMNS, region_shares, truth_clips
from benchmarks.runs.subject import Subject

Line = Mapping[Any, Any]
"""A line of the masking test: column → value."""
DRAWS = 2  # random places of each region
OTHER_FILLS = ("silence", "mean")
"""Fills with which the regions are masked besides the fill of the search for them."""
MEASURED = ("channel", "drop")  # columns of the masking test that are reported for every fill


def region_summary(subject: Subject, n_clips: int) -> pd.DataFrame:
    """What the regions of a classifier's evidence are worth, one line per scheme, over test clips.

    Args:
        subject: the classifier and its bases.
        n_clips: number of clips of the masking test, spread evenly over the test clips.

    Returns:
        These columns:

        - `task`, `network`, `seed`, `scheme`, and `clips`, the number of clips of the masking test.
        - The columns `cell`, `found`, `random`, `iou_…` and `area_…` of `benchmarks.experiments.truth.truth_table`,
          about the strongest channel, and `any_of_three`, `event_met`, `event_missed` of
          `benchmarks.experiments.missed_events.event_shares`; NaN where the truth is not known.
        - `channel_cell`, `channel_found`, `channel_random`: share of a channel's contribution that masking its peak
          cell, its found region, or the latter at random places takes away, median over channels.
        - `drop_cell`, `drop_found`, `drop_random`: fall of the predicted class's probability when the union of the
          regions of three channels is masked, or that of the found regions at random places.
        - `p`: p-value of Wilcoxon's signed-rank test of `drop_found` against `drop_random`.
        - `share_cell`, `share_found`: share of the clip that the union covers, mean over clips.

        Masked bins are replaced by their surroundings, as in the search for regions. The columns `channel_…` and
        `drop_…` exist for the fills `silence` and `mean` as well, as in `drop_found_silence`.
    """
    tested = masking_test(subject, n_clips, draws=DRAWS, fills=[SURROUNDINGS, *OTHER_FILLS]).to_dict("records")
    by_region = {(line["scheme"], line["fill"], line["region"]): line for line in tested}
    lines = []
    for scheme in subject.bases:
        clips = truth_clips(subject, scheme)
        shares = dict.fromkeys((*REGION_COLUMNS, *MISS_COLUMNS), math.nan)
        if clips is not None:
            shares = region_shares(subject, scheme, clips) | event_shares(subject, scheme, clips)
        cell = by_region[str(scheme), SURROUNDINGS, "cell"]
        located = by_region[str(scheme), SURROUNDINGS, "found"]
        lines.append(
            {
                "task": subject.task.name,
                "network": subject.network,
                "seed": subject.seed,
                "scheme": str(scheme),
                "clips": int(located["clips"]),
                **shares,
                **_falls(cell, located),
                "share_cell": cell["share"],
                "share_found": located["share"],
                "p": located["p"],
                **_falls_by_fill(by_region, str(scheme)),
            }
        )
    return pd.DataFrame(lines)


def _falls(cell: Line, located: Line) -> dict[str, float]:
    """The falls that masking a cell, a found region and random places brings."""
    falls: dict[str, float] = {}
    for name in MEASURED:
        falls |= {
            f"{name}_cell": cell[name],
            f"{name}_found": located[name],
            f"{name}_random": located[f"{name}_random"],
        }
    return falls


def _falls_by_fill(by_region: Mapping[tuple[str, str, str], Line], scheme: str) -> dict[str, float]:
    """The falls with each of the other fills, whose name ends the name of the column."""
    falls: dict[str, float] = {}
    for fill in OTHER_FILLS:
        of_fill = _falls(by_region[scheme, fill, "cell"], by_region[scheme, fill, "found"])
        falls |= {f"{name}_{fill}": fall for name, fall in of_fill.items()}
    return falls
