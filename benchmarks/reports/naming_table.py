"""The table of the command `naming`: names of channels, over seeds."""

from __future__ import annotations

from functools import partial

import pandas as pd

from benchmarks.experiments.channel_naming import MEASURES, N_PROTOTYPES
from benchmarks.reports.markup import Section, ascending, mean_and_range

NAME = "Names of channels"
SUBJECT = ["task", "network", "scheme", "basis"]
ABOUT = (
    "Channels that are named by part_names after the sounds in the peak cells of their prototypes, "
    f"{N_PROTOTYPES} per channel, where the place of every sound is known. Named: share of channels that get a name "
    "(p of at most 0.05, corrected for the number of sounds); moved: the same with the peak cells of all prototypes "
    "exchanged at random.",
    "Of the channels with a name: class event: share whose name is the sound of a class; same: share that get the same "
    "best name by prototypes among test clips; shown: of these prototypes, where the clip has the sound, share whose "
    "peak cell shows it; anywhere: the same over the prototypes of all channels. Means over the seeds, with the "
    "smallest and the largest value where there are several.",
)


def naming_section(lines: pd.DataFrame) -> Section:
    """The section with one line per task, network, scheme and basis.

    Args:
        lines: lines of `benchmarks.experiments.channel_naming.naming_lines`, with the columns `task`, `network`,
            `seed` and `basis`.
    """
    by_subject = lines.groupby(SUBJECT, sort=False)
    entries = {name.replace("_", " "): by_subject[name].agg(partial(mean_and_range, digits=2)) for name in MEASURES}
    entries["seeds"] = by_subject["seed"].agg(ascending)
    return Section(NAME, ABOUT, {NAME: pd.DataFrame(entries).reset_index()})
