"""How good the prototypes of a basis are, by the measures of `captum_apex.metrics.prototypes`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.experiments.channels import decompose
from benchmarks.experiments.compared_bases import BY_SCHEME, DETERMINISTIC, matrix_of
from benchmarks.methods.registry import CLIPS_AT_ONCE
from benchmarks.runs.subject import Subject
from benchmarks.statistics import interval
from benchmarks.tasks.scene_parts import parts_of
from captum_apex import FeatureBank, PrototypeBasis, Region, Scheme, basis_from_matrix
from captum_apex.attribution import ChannelOutputs, select_channels
from captum_apex.bases import Prototypes
from captum_apex.bases.prototype_choice import most_active
from captum_apex.metrics import prototypes as measures

N_CHANNELS = 5  # channels of an explanation
N_PROTOTYPES = 5  # prototypes of a channel, among training clips and among unseen ones
ATTACK: dict[str, Any] = {"epsilon": 0.1, "step": 0.02, "n_steps": 10}  # changes of inputs of standard deviation 1
LOWERED = (8, 2)  # channels that are lowered by changes elsewhere, and prototypes of each
OTHER_SEED = 1000  # above the seed of the subject: the seed of the second fit
NOISE = (0.2, 0.25)  # standard deviation of the noise, and where it is cut, as in Huang et al.

MEASURES = {
    "purity": "channel",
    "unseen": "channel",
    "gap": "channel",
    "class": "channel",
    "class_unseen": "channel",
    "overlap": "channel",
    "cosine": "channel",
    "jaccard": "channel",
    "part": "channel",
    "part_at_random": "channel",
    "consistency": "channel",
    "stability": "channel",
    "fall": "prototype",
    "fall_anywhere": "prototype",
    "overtaken": "prototype",
    "channels": "clip",
    "votes": "clip",
    "votes_shuffled": "clip",
}
"""What is measured, and over what its mean and its interval are taken."""
CHANCES = ("class_chance", "class_unseen_chance", "overlap_chance", "condition")
COLUMNS = ("scheme", *(f"{name}{end}" for name in MEASURES for end in ("", "_low", "_high")), *CHANCES)
"""Columns of the lines of `quality_lines`."""


class ChannelValues(Protocol):
    """The values of all channels as a function of the inputs, such as `ChannelOutputs`."""

    def __call__(self, inputs: Tensor) -> Tensor:
        """The values (clip, channel), differentiable in the inputs."""

    def peaks(self, inputs: Tensor) -> Tensor:
        """The peak cells of all channels, int64 (clip, channel, sequence)."""


@dataclass(frozen=True)
class UnseenClips:
    """What the measures need of the test clips, for any basis.

    Attributes:
        bank: their features.
        products: `Σ Z Gᵀ` over the grid of each clip, with the gradient `G` of the predicted class, (clip, channel,
            channel). In a basis, `c_k` is the k-th entry of the diagonal of `U (Σ Z Gᵀ) U⁻¹`.
        predicted: the predicted class, int64 (clip,).
    """

    bank: FeatureBank
    products: Tensor
    predicted: Tensor

    @classmethod
    def of(cls, subject: Subject) -> UnseenClips:
        """The test clips of a subject, by two passes."""
        products = []
        predicted = []
        for inputs in subject.test_clips(len(subject.task.test))[1].split(CLIPS_AT_ONCE):
            raw = decompose(subject, inputs)
            products.append(torch.einsum("ncft,ndft->ncd", raw.features.double(), raw.gradient.double()).cpu())
            predicted.append(raw.output.argmax(1).cpu())
        return cls(unseen_bank(subject), torch.cat(products), torch.cat(predicted))

    def contributions(self, basis: PrototypeBasis) -> Tensor:
        """`c_k` of each channel for the predicted class, float64 (clip, channel)."""
        return torch.einsum("kc,ncd,dk->nk", basis.U.double(), self.products, basis.inverse)

    def activations(self, basis: PrototypeBasis) -> Tensor:
        """`a_k` of each channel, float64 (clip, channel)."""
        return self.bank.means.cpu().double() @ basis.U.double().T


def unseen_bank(subject: Subject) -> FeatureBank:
    """The features of the test clips of a subject, by one pass."""
    bank = FeatureBank.from_dataset(subject.model, subject.layer, subject.task.test, norm=subject.norm, places=False)
    return replace(bank, origin=replace(bank.origin, places=subject.bank.origin.places))


def quality_lines(subject: Subject, name: str, clips: UnseenClips) -> pd.DataFrame:
    """The measures of one kind of basis, on the bank of a subject.

    Args:
        subject: the classifier and its bank.
        name: a name in `benchmarks.experiments.compared_bases.BASES`.
        clips: the test clips of the subject.

    Returns:
        One line per scheme: the mean of each of `MEASURES` with its 95% interval over channels, prototypes or clips,
        NaN where the task has no parts; and `CHANCES`.

        - `purity`, `unseen`, `gap`: purity of the prototypes among training clips, among test clips, and the difference
          of the two where the first are chosen among as many training clips as there are test clips.
        - `class`, `class_unseen`: share of the most frequent class among training and test prototypes.
        - `overlap`: Jaccard index of the prototypes of two channels.
        - `cosine`, `jaccard`: agreement with a basis of another seed, of the rows and of their prototypes.
        - `part`, `part_at_random`, `consistency`, `stability`: parts in the cells of the test prototypes' peaks, and in
          random cells.
        - `fall`, `fall_anywhere`, `overtaken`: by what share the peak value of a channel falls when a test prototype is
          changed outside of the peak's cell, or anywhere; and the ranks that it then loses (outside).
        - `channels`: channels that make up 90% of the contribution to the predicted class.
        - `votes`, `votes_shuffled`: agreement of the prototypes' labels with the predicted class, by the channels of
          the explanation, and with the channels' prototypes exchanged at random.
    """
    lines = []
    for scheme, U, other in _matrices(subject, name):
        basis = basis_from_matrix(subject.bank, scheme, U, n_prototypes=available(subject.bank))
        unseen = basis_from_matrix(clips.bank, scheme, U, n_prototypes=available(clips.bank))
        chosen = positive_side(basis)
        of_unseen = positive_side(unseen)
        outputs = ChannelOutputs(subject.model, subject.layer, unseen)
        contributions = clips.contributions(basis)
        values = _purities(subject, basis, unseen) | class_measures(chosen, of_unseen)
        values |= explanation_measures(
            subject, contributions, clips.activations(basis), labels_of(chosen), clips.predicted
        )
        values |= _agreement(subject, basis, other) | part_measures(subject, outputs, unseen, of_unseen)
        values |= fall_measures(subject, outputs, contributions, unseen, of_unseen)
        chances = {**chances_of(subject, clips), "condition": torch.linalg.cond(basis.U.double()).item()}
        lines.append({"scheme": str(scheme), **summary_of(values), **chances})
    return pd.DataFrame(lines, columns=COLUMNS)


def _matrices(subject: Subject, name: str) -> Iterator[tuple[Scheme, Tensor, Tensor]]:
    """The matrix of a kind of basis for each scheme, and the one of another seed."""
    found: tuple[Tensor, Tensor] | None = None
    for scheme in subject.bases:
        if found is None or name in BY_SCHEME:
            U = matrix_of(subject, scheme, name, subject.seed)
            same = name in DETERMINISTIC
            found = (U, U if same else matrix_of(subject, scheme, name, subject.seed + OTHER_SEED))
        yield scheme, *found


def positive_side(basis: PrototypeBasis) -> Prototypes:
    """The prototypes of the positive side, which bases of `basis_from_matrix` always have."""
    assert basis.positive is not None  # this line is for the type checker
    return basis.positive


def subset(bank: FeatureBank, n_clips: int, seed: int) -> FeatureBank:
    """A random selection of the clips of a bank.

    Args:
        bank: features of the clips.
        n_clips: number of clips to select.
        seed: seed of the selection.
    """
    chosen = torch.randperm(bank.n_clips, generator=torch.Generator().manual_seed(seed))[:n_clips].sort().values
    cells = {sequence: values[chosen] for sequence, values in bank.cells.items()}
    labels = None if bank.labels is None else bank.labels[chosen]
    return FeatureBank(cells, bank.means[chosen], labels, replace(bank.origin, n_clips=len(chosen)))


def available(bank: FeatureBank) -> int:
    """The number of prototypes that are taken from the clips of a bank."""
    return min(N_PROTOTYPES, bank.n_clips)


def _purities(subject: Subject, basis: PrototypeBasis, unseen: PrototypeBasis) -> dict[str, Tensor]:
    as_many = subset(subject.bank.only(basis.scheme), unseen.origin.n_clips, subject.seed)
    fair = basis_from_matrix(as_many, basis.scheme, basis.U, n_prototypes=available(as_many))
    of_unseen = positive_side(unseen).purities
    return {
        "purity": positive_side(basis).purities.mean(1),
        "unseen": of_unseen.mean(1),
        "gap": measures.purity_gap(positive_side(fair).purities, of_unseen),
    }


def labels_of(prototypes: Prototypes) -> Tensor:
    """The labels of prototypes, (channel, prototype), which every task of the benchmark has."""
    assert prototypes.labels is not None  # this line is for the type checker
    return prototypes.labels


def class_measures(training: Prototypes, unseen: Prototypes) -> dict[str, Tensor]:
    """The measures of classes and of overlap, from the prototypes among training clips and among unseen ones."""
    return {
        "class": measures.class_share(labels_of(training)),
        "class_unseen": measures.class_share(labels_of(unseen)),
        "overlap": measures.prototype_overlap(training.indices),
    }


def explanation_measures(
    subject: Subject, contributions: Tensor, activations: Tensor, labels: Tensor, predicted: Tensor
) -> dict[str, Tensor]:
    """The size of explanations, and what the labels of their prototypes say.

    Args:
        subject: the task, and the seed of the exchange.
        contributions: what each channel adds to the score of the predicted class, (clip, channel).
        activations: activation of each channel, (clip, channel).
        labels: labels of the prototypes, (channel, prototype).
        predicted: the class that is explained in each clip, int64 (clip,).
    """
    weights = contributions * select_channels(contributions, activations, N_CHANNELS)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(subject.seed))
    agreements = [
        measures.vote_agreement(measures.prototype_votes(weights, each, len(subject.task.classes)), predicted)
        for each in (labels, labels[order])
    ]
    return {
        "channels": measures.channels_needed(contributions),
        "votes": agreements[0],
        "votes_shuffled": agreements[1],
    }


def _agreement(subject: Subject, basis: PrototypeBasis, other: Tensor) -> dict[str, Tensor]:
    match, cosines = measures.matched_channels(basis.U, other)
    indices = most_active(subject.bank.means, other[match].to(subject.bank.means), available(subject.bank)).cpu()
    return {"cosine": cosines, "jaccard": measures.prototype_jaccard(positive_side(basis).indices, indices)}


def part_measures(
    subject: Subject, outputs: ChannelValues, basis: PrototypeBasis, unseen: Prototypes
) -> dict[str, Tensor]:
    """The measures of parts, for a task whose parts are known; else none.

    Args:
        subject: the task, and the seed of the noise and of the random cells.
        outputs: the values of the channels.
        basis: a basis with the scheme and the grid of the peak cells.
        unseen: the prototypes among test clips.
    """
    if subject.task.name != "scenes":
        return {}
    indices = unseen.indices
    parts = {clip: parts_of(subject.seed, "test", clip) for clip in indices.unique().tolist()}
    generator = torch.Generator().manual_seed(subject.seed)
    found, noisy, random = (
        measures.part_hits(regions_of(basis, peaks), indices, parts)
        for peaks in (
            unseen.peaks,
            _noisy_peaks(subject, outputs, indices, generator),
            _random_peaks(basis, unseen.peaks, generator),
        )
    )
    return {
        "part": measures.part_purity(found),
        "part_at_random": measures.part_purity(random),
        "consistency": measures.part_consistency(found),
        "stability": measures.part_stability(found, noisy),
    }


def regions_of(basis: PrototypeBasis, peaks: Tensor) -> list[list[Region]]:
    """The regions of peak cells, by channel and rank.

    Args:
        basis: a basis that knows its grid.
        peaks: peak cells, int64 (channel, prototype, sequence).
    """
    grid = basis.origin.grid
    assert grid is not None  # always set in a fitted basis; this line is for the type checker
    return [[basis.region(each, *grid, intersection=True) for each in of_channel] for of_channel in peaks.tolist()]


def _noisy_peaks(subject: Subject, outputs: ChannelValues, indices: Tensor, generator: torch.Generator) -> Tensor:
    """The peak cells of all channels in their prototypes, with noise added to the clips."""
    clips, numbers = indices.unique(return_inverse=True)
    peaks = []
    for batch in clips.split(CLIPS_AT_ONCE):
        inputs = _inputs(subject, batch)
        noise = torch.randn(inputs.shape, generator=generator) * NOISE[0]
        peaks.append(outputs.peaks(inputs + noise.clamp(-NOISE[1], NOISE[1]).to(inputs)).cpu())
    channels = torch.arange(len(indices))[:, None].expand_as(indices)
    return torch.cat(peaks)[numbers, channels]


def _random_peaks(basis: PrototypeBasis, peaks: Tensor, generator: torch.Generator) -> Tensor:
    """Random cells in place of the peaks of the prototypes."""
    n_rows, n_columns = basis.origin.grid or (1, 1)
    n_cells = {Scheme.TIME: n_columns, Scheme.FREQUENCY: n_rows, Scheme.SQUARE: n_rows * n_columns}
    sequences = basis.scheme.sequences
    return torch.stack(
        [torch.randint(n_cells[each], peaks.shape[:2], generator=generator) for each in sequences], dim=2
    )


def _inputs(subject: Subject, clips: Tensor) -> Tensor:
    inputs = torch.stack([subject.task.test[clip][0] for clip in clips.tolist()])
    return inputs.to(next(subject.model.parameters()).device)


def fall_measures(
    subject: Subject, outputs: ChannelValues, contributions: Tensor, basis: PrototypeBasis, unseen: Prototypes
) -> dict[str, Tensor]:
    """By how much changes of the test prototypes lower the channels that contribute most.

    Args:
        subject: the task.
        outputs: the values of the channels.
        contributions: what each channel adds to the score of the predicted class, (clip, channel).
        basis: a basis with the scheme and the grid of the peak cells.
        unseen: the prototypes among test clips.
    """
    n_channels, n_prototypes = LOWERED
    channels = contributions.clamp_min(0).mean(0).topk(min(n_channels, contributions.shape[1])).indices
    regions = regions_of(basis, unseen.peaks[channels, :n_prototypes])
    indices = unseen.indices[channels, :n_prototypes]
    inputs = _inputs(subject, indices.flatten())
    inside = torch.stack([region.mask(*inputs.shape[2:]) for of_channel in regions for region in of_channel])
    of_clips = channels[:, None].expand_as(indices).flatten()
    outside = measures.misalignment(outputs, inputs, inside, of_clips, **ATTACK)
    anywhere = measures.misalignment(outputs, inputs, torch.zeros_like(inside), of_clips, **ATTACK)
    return {"fall": outside.fall, "fall_anywhere": anywhere.fall, "overtaken": outside.rank_change}


def chances_of(subject: Subject, clips: UnseenClips) -> dict[str, float]:
    """What the measures of classes and of overlap are for clips that are drawn at random."""
    banks: Sequence[FeatureBank] = (subject.bank, clips.bank)
    shares = [
        measures.chance_class_share(torch.as_tensor(bank.labels), available(bank))
        if bank.labels is not None
        else np.nan
        for bank in banks
    ]
    overlap = measures.chance_overlap(subject.bank.n_clips, available(subject.bank))
    return dict(zip(CHANCES[:3], (*shares, overlap), strict=True))


def summary_of(values: dict[str, Tensor]) -> dict[str, float]:
    """Mean and interval of each of `MEASURES`; NaN for one that there is not."""
    summary = {}
    for name in MEASURES:
        numbers = values[name].double().cpu().numpy() if name in values else np.array([])
        numbers = numbers[np.isfinite(numbers)]
        low, high = interval(numbers)
        summary[name] = float(numbers.mean()) if len(numbers) else np.nan
        summary |= {f"{name}_low": low, f"{name}_high": high}
    return summary
