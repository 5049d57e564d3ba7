"""The table of the command `heads`: how well trained heads predict, over seeds."""

from __future__ import annotations

import pandas as pd

from benchmarks.experiments.head_scores import MEASURES, N_PROTOTYPES, OWN
from benchmarks.reports.markup import Section, ascending, mean_and_range

NAME = "Trained heads"
SUBJECT = ["task", "network", "head"]
TITLES = {
    "top_1": "top-1",
    "mean_average_precision": "cmAP",
    "auroc": "AUROC",
    "equal_error_rate": "EER",
    "agreement": "agreement",
    "classes": "one class",
    "classes_unseen": "one class, unseen",
}
ABOUT = (
    f"Heads that are trained on the features of a frozen network, on test clips, beside the {OWN} of the network, "
    "which APEX leaves as it is. Top-1: accuracy; cmAP: average precision, averaged over classes; EER: equal error "
    "rate of a detector; agreement: share of the clips for which the head predicts what the network does. One class: "
    f"share of the most frequent class among the {N_PROTOTYPES} training clips that are most similar to a prototype of "
    "the head, and among unseen ones. Asymmetric loss: a sigmoid for each class, trained as for clips with several "
    "classes; the other heads have the cross-entropy. Each entry is the mean over the seeds, with the smallest and the "
    "largest value where there are several."
)


def heads_section(lines: pd.DataFrame) -> Section:
    """The section with one line per task, network and head.

    Args:
        lines: lines of `benchmarks.experiments.head_scores.head_line`, with the columns `task`, `network`, `seed` and
            `head`.
    """
    by_subject = lines.groupby(SUBJECT, sort=False)
    entries = {TITLES[name]: by_subject[name].agg(mean_and_range) for name in MEASURES}
    entries["seeds"] = by_subject["seed"].agg(ascending)
    return Section(NAME, [ABOUT], {NAME: pd.DataFrame(entries).reset_index()})
