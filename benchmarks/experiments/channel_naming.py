"""How often channels get the name of a planted sound, and whether the name holds for prototypes among unseen clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import pandas as pd
import torch

from benchmarks.experiments.compared_bases import matrix_of
from benchmarks.experiments.prototype_quality import positive_side, regions_of
from benchmarks.runs.subject import Subject
from benchmarks.tasks import Split
from benchmarks.tasks.scene_parts import crowded_parts_of, parts_of
from benchmarks.tasks.scenes import CLASSES
from captum_apex import FeatureBank, PrototypeBasis, Region, basis_from_matrix
from captum_apex.metrics.prototypes import PartHits, ProposedNames, part_hits, part_names

BASES = ("raw", "rotation", "PCA", "APEX orthogonal")
"""The bases whose channels are named, of `benchmarks.experiments.compared_bases.BASES`."""
N_PROTOTYPES = 20  # of a channel, among training clips and among unseen ones
MEASURES = ("named", "moved", "class_event", "same", "shown", "anywhere")
COLUMNS = ("scheme", *MEASURES)
"""Columns of the lines of `naming_lines`."""
PARTS: Mapping[str, Callable[[int, Split, int], dict[str, Region]]] = {
    "scenes": lru_cache(maxsize=10_000)(parts_of),
    "crowded": lru_cache(maxsize=10_000)(crowded_parts_of),
}
"""The tasks that know their sounds: function from seed, split and index to the region of each sound by its name."""


def naming_lines(subject: Subject, name: str, unseen: FeatureBank) -> pd.DataFrame:
    """What the channels of one kind of basis are called after the sounds in their prototypes' peak cells.

    Args:
        subject: the classifier and its bank, of a task in `PARTS`.
        name: a name in `benchmarks.experiments.compared_bases.BASES`.
        unseen: features of the test clips, from `prototype_quality.unseen_bank`.

    Returns:
        One line per scheme, with shares in [0, 1]:

        - `named`: channels that get a name from their training prototypes by `part_names`, of all channels.
        - `moved`: the same where the peak cells of all prototypes are exchanged at random, a control.

        And of the channels that get a name, NaN if there is none:

        - `class_event`: those whose name is the sound of a class, and not a distractor.
        - `same`: those for which the best name by the prototypes among test clips is the same.
        - `shown`: of the prototypes among test clips that have the sound, those whose peak cell shows it.
        - `anywhere`: the same over the prototypes of all channels, which is what a wrong name would get.
    """
    lines = []
    for scheme in subject.bases:
        U = matrix_of(subject, scheme, name, subject.seed)
        banks: Mapping[Split, FeatureBank] = {"train": subject.bank, "test": unseen}
        bases = {split: basis_from_matrix(bank, scheme, U, n_prototypes=_number(bank)) for split, bank in banks.items()}
        hits = {split: hits_of(subject, split, basis, positive_side(basis).peaks) for split, basis in bases.items()}
        proposed = part_names(hits["train"])
        moved = part_names(hits_of(subject, "train", bases["train"], _moved(bases["train"], subject.seed)))
        shares = {"named": len(proposed.names) / len(U), "moved": len(moved.names) / len(U)}
        lines.append({"scheme": str(scheme), **shares, **names_held(proposed, hits["test"])})
    return pd.DataFrame(lines, columns=COLUMNS)


def hits_of(subject: Subject, split: Split, basis: PrototypeBasis, peaks: torch.Tensor) -> PartHits:
    """The sounds that some cells of the prototypes show.

    Args:
        subject: the task, one in `PARTS`, and its seed.
        split: the split whose clips the prototypes are.
        basis: a basis with prototypes.
        peaks: the cells, int64 (channel, prototype, sequence).
    """
    indices = positive_side(basis).indices
    parts = {clip: PARTS[subject.task.name](subject.seed, split, clip) for clip in indices.unique().tolist()}
    return part_hits(regions_of(basis, peaks), indices, parts)


def names_held(proposed: ProposedNames, unseen: PartHits) -> dict[str, float]:
    """The measures of the channels that have a name; see `naming_lines`.

    Args:
        proposed: names by prototypes among training clips.
        unseen: what the prototypes of the same channels among test clips show.
    """
    best = part_names(unseen).best
    shown = (unseen.hits & unseen.present).sum(1).double()  # (channel, part)
    having = unseen.present.sum(1).double()
    values: dict[str, list[float]] = {measure: [] for measure in MEASURES[2:]}
    for channel, name in proposed.names.items():
        values["class_event"].append(name in CLASSES)
        values["same"].append(name == best[channel])
        if name in unseen.names and having[channel, place := unseen.names.index(name)]:
            values["shown"].append((shown[channel, place] / having[channel, place]).item())
            values["anywhere"].append((shown[:, place].sum() / having[:, place].sum()).item())
    return {measure: float(np.mean(numbers)) if numbers else np.nan for measure, numbers in values.items()}


def _number(bank: FeatureBank) -> int:
    return min(N_PROTOTYPES, bank.n_clips)


def _moved(basis: PrototypeBasis, seed: int) -> torch.Tensor:
    """The peak cells of all prototypes in a random order."""
    peaks = positive_side(basis).peaks
    places = peaks.flatten(0, 1)  # (channel, prototype, sequence) → (pair, sequence)
    order = torch.randperm(len(places), generator=torch.Generator().manual_seed(seed))
    return places[order].view_as(peaks)
