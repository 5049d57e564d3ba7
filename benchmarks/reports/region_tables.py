"""The tables of the command `regions`: the regions of the evidence over tasks, networks and seeds."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from benchmarks.experiments.region_masking import ratio
from benchmarks.experiments.region_summary import OTHER_FILLS
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
FALLS = ("channel falls: cell / found / random", "probability falls: cell / found / random")
"""The columns that each fill has."""
MISSES = {
    "meets truth: strongest / any of three": ("found", "any_of_three"),
    "event masked, channel falls: met / missed": ("event_met", "event_missed"),
}
"""Head of a column of `Missed events` → columns of the region summary."""
RATIO = "found : random"
LINE_COLUMNS = (
    *(name for names in (*GROUPS.values(), *MISSES.values()) for name in names),
    *(f"{name}_{fill}" for fill in OTHER_FILLS for head in FALLS for name in GROUPS[head]),
)
"""Columns of the region summary that the tables need, besides those that name the line."""
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

ABOUT_FILLS = (
    "The same falls where the masked bins are replaced by silence, or by their band's mean over time, rather than by "
    "their surroundings."
)

ABOUT_MISSES = (
    "Why regions miss the class event, where its place is known. Strongest, any of three: share of clips in which the "
    "found region of the strongest channel, or of at least one of three, has a bin in common with the event. The event "
    "masked: share of the strongest channel's contribution that masking the event itself takes away, median over the "
    "clips in which the channel's region meets the event, and over those in which it does not."
)


def region_sections(lines: pd.DataFrame) -> list[Section]:
    """The sections `Regions` and `Regions by fill`, with means over seeds, `Missed events` and `Regions by seed`.

    `Missed events` is left out where the truth is known for no task.

    Args:
        lines: the lines of `benchmarks.experiments.region_summary.region_summary` for all subjects.
    """
    by_subject = lines.sort_values("seed", kind="stable").groupby(SUBJECT, sort=False)
    means = by_subject.mean(numeric_only=True)
    means["seeds"] = by_subject["seed"].agg(lambda seeds: ", ".join(map(str, seeds)))
    by_seed = lines.sort_values("seed", kind="stable")
    known = by_seed[by_seed["found"].notna()]
    misses = [Section("Missed events", [ABOUT_MISSES], {"Missed events": _misses(known)})] if len(known) else []
    return [
        Section("Regions", [ABOUT], {"Regions": _entries(means.reset_index(), "seeds")}),
        Section("Regions by fill", [ABOUT_FILLS], {"Regions by fill": _entries_by_fill(means.reset_index())}),
        *misses,
        Section("Regions by seed", [], {"Regions by seed": _entries(by_seed, "seed")}),
    ]


def _entries(lines: pd.DataFrame, seeds: str) -> pd.DataFrame:
    """The lines as texts; `seeds` is the name of the column of seeds."""
    table = lines[[*SUBJECT, seeds]].astype(str)
    for head, names in GROUPS.items():
        texts = lines[list(names)].map(number)
        table[head] = texts.agg(SEPARATOR.join, axis=1)
    table.insert(list(table).index("area: cell / found"), RATIO, _ratios(lines, GROUPS[FALLS[1]]))
    return table.reset_index(drop=True)


def _entries_by_fill(means: pd.DataFrame) -> pd.DataFrame:
    """The falls with each of the other fills as texts, one line per fill."""
    tables = []
    for fill in OTHER_FILLS:
        table = means[[*SUBJECT, "seeds"]].astype(str)
        table.insert(len(SUBJECT), "fill", fill)
        columns = {head: [f"{name}_{fill}" for name in GROUPS[head]] for head in FALLS}
        for head, names in columns.items():
            table[head] = means[names].map(number).agg(SEPARATOR.join, axis=1)
        table[RATIO] = _ratios(means, columns[FALLS[1]])
        tables.append(table)
    return pd.concat(tables).sort_index(kind="stable").reset_index(drop=True)


def _misses(known: pd.DataFrame) -> pd.DataFrame:
    """What the strongest channels lose without the event, as texts; the truth of all lines is known."""
    table = known[[*SUBJECT, "seed"]].astype(str)
    for head, names in MISSES.items():
        table[head] = known[list(names)].map(number).agg(SEPARATOR.join, axis=1)
    return table.reset_index(drop=True)


def _ratios(lines: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """The ratio of the falls of found regions and of random places, as texts; `names` as in `GROUPS`."""
    _, found, random = names
    return [significant(ratio(*falls)) for falls in lines[[found, random]].to_numpy(dtype=float)]
