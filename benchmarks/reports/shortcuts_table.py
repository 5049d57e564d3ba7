"""The table of the command `shortcuts`: whether explanations find a sound that gives a class away, over seeds."""

from __future__ import annotations

import pandas as pd

from benchmarks.experiments.shortcuts import COLUMNS
from benchmarks.reports.markup import Section, ascending, mean_and_range

NAME = "Shortcuts"
SUBJECT = ["task", "network", "plant", "level", "trained", "scheme"]
MEASURES = tuple(name for name in COLUMNS if name not in SUBJECT)
ABOUT = (
    "A sound is added to all training clips of one class: a hum, a steady tone of 1 kHz, at a level in dB below a sine "
    "of full scale; or a click, a pulse of noise of a few milliseconds, 20 ms after the start, whose largest sample is "
    "as far below full scale. A classifier that was trained with it is compared with one that was not; both are "
    "explained with the sound. Accuracy: on test clips without it; recall: the same of the class alone; fooled: share "
    "of the test clips of other classes that get the class when it is added. Channels: whose prototypes lose at least "
    "half of their activation without it; prototypes: share of all prototypes that are clips with it, of such "
    "channels; shown: share of the clips whose explanation of the class has such a channel.",
    "Over the clips with the sound that get the class: lost: fall of the probability without it; evidence: share of "
    "the positive contributions from such channels; mass: share of the map on the bins that the sound raises, and "
    "bins: share that these are of all; examples: share of the shown prototypes that are clips with it, and examples "
    "chance: share of the training clips that have it. Means over the seeds, with the smallest and the largest value "
    "where there are several.",
)


def shortcuts_section(lines: pd.DataFrame) -> Section:
    """The section with one line per task, network, planted sound, level, training and scheme.

    Args:
        lines: lines of `benchmarks.experiments.shortcuts.shortcut_table`, with the columns `task`, `network`, `seed`,
            `plant` and `level`.
    """
    by_subject = lines.groupby(SUBJECT, sort=False)
    entries = {name.replace("_", " "): by_subject[name].agg(mean_and_range) for name in MEASURES}
    entries["seeds"] = by_subject["seed"].agg(ascending)
    table = pd.DataFrame(entries).reset_index()
    return Section(NAME, ABOUT, {NAME: table.assign(level=table["level"].map("{:g}".format))})
