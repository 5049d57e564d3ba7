"""The tables of the command `prototypes`: how good the prototypes of several bases are, over seeds."""

from __future__ import annotations

import pandas as pd

from benchmarks.experiments.prototype_quality import ATTACK, CHANCES, LOWERED, MEASURES, N_CHANNELS, N_PROTOTYPES
from benchmarks.reports.markup import NOTHING, Section, ascending, between, number

NAME = "Quality of prototypes"
OF_CHANNELS = "Channels and their prototypes"
OF_PLACES = "Regions of the prototypes"
CHANCE = "Chance"
SUBJECT = ["task", "network", "scheme", "basis"]
TABLES = {
    OF_CHANNELS: ("purity", "unseen", "gap", "class", "class_unseen", "overlap", "cosine", "jaccard"),
    "Explanations": ("channels", "votes", "votes_shuffled"),
    OF_PLACES: ("part", "part_at_random", "consistency", "stability", "fall", "fall_anywhere", "overtaken"),
}
"""Measures of each table, by the table's name."""
ABOUT = (
    f"Bases of APEX beside changes of basis that were not made for prototypes, with {N_PROTOTYPES} prototypes per "
    "channel. Each entry is the mean over the seeds; in brackets the 95% bootstrap interval over channels, prototypes "
    "or clips, of several seeds from the lowest to the highest end.",
    "Purity: of the prototypes; unseen: of those among test clips; gap: the first minus the second, with prototypes "
    "among as many training clips as there are test clips. Class: share of the most frequent class among the "
    "prototypes, and among those of test clips (class unseen). Overlap: Jaccard index of the prototypes of two "
    "channels. Cosine, jaccard: agreement with the basis of another seed, of the paired rows and of their prototypes.",
    "Channels: how many make up 90% of the positive contribution to the predicted class. Votes: how often the labels "
    f"of the prototypes of the {N_CHANNELS} channels of an explanation, weighted by contribution, say the predicted "
    "class; votes shuffled: with the prototypes of the channels exchanged.",
    "Part: share of the test prototypes whose peak cell shows the part that the channel shows most often, where the "
    "places of the sounds are known; part at random: of random cells. Consistency: share of channels where that is at "
    "least 0.8. Stability: share of prototypes that show the same parts with noise. Fall: by what share the peak value "
    f"of a channel falls when its prototype is changed by at most {ATTACK['epsilon']:g} outside of the peak's cell "
    "(anywhere: no bin is spared); overtaken: ranks that it loses. They are of the "
    f"{LOWERED[0]} channels that contribute most, with "
    f"{LOWERED[1]} prototypes each.",
    "AudioProtoPNet: prototypes of its heads (see Trained heads), in place of channels. Each belongs to a class, and "
    "the explained class is the one that the head predicts. The value of a prototype in a clip is the largest cosine "
    "of a cell, so there is only the scheme square. That cosine is its purity, as it is for a row of an orthogonal "
    "basis; its clips are those with the largest cosine, while those of a channel have the largest mean over the "
    "grid. With n prototypes of each class, an explanation has at most n. Intervals over few prototypes can leave "
    "the range of a measure.",
)


def prototypes_section(lines: pd.DataFrame) -> Section:
    """The section with one line per task, network, scheme and basis in each table.

    Args:
        lines: lines of `benchmarks.experiments.prototype_quality.quality_lines`, with the columns `task`, `network`,
            `seed` and `basis`.
    """
    by_subject = lines.groupby(SUBJECT, sort=False)
    tables = {CHANCE: chance_table(lines)}
    for title, names in TABLES.items():
        entries = {name: by_subject[[name, f"{name}_low", f"{name}_high"]].apply(_entry) for name in names}
        entries["seeds"] = by_subject["seed"].agg(ascending)
        tables[title] = pd.DataFrame(entries).reset_index()
    return Section(NAME, ABOUT, tables)


def chance_table(lines: pd.DataFrame) -> pd.DataFrame:
    """What the measures of classes and of overlaps are for clips that are drawn at random, per task and network.

    Args:
        lines: as in `prototypes_section`.
    """
    names = [name for name in CHANCES if name != "condition"]
    means = lines.groupby(["task", "network"], sort=False)[names].mean()
    return (
        means.map(lambda value: number(value, 3))
        .rename(columns=lambda name: name.removesuffix("_chance"))
        .reset_index()
    )


def _entry(values: pd.DataFrame) -> str:
    """The mean over the seeds, and the lowest and the highest end of their intervals."""
    name, low, high = values.columns
    if values[name].isna().all():
        return NOTHING
    digits = 1 if MEASURES[name] == "clip" and name == "channels" else 3
    if values[low].isna().any():
        return number(values[name].mean(), digits)
    return between(values[name].mean(), values[low].min(), values[high].max(), digits)
