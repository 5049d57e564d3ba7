"""How good the prototypes of AudioProtoPNet's heads are, by the measures of `prototype_quality`.

A prototype of such a head is a direction that belongs to one class, in place of a channel of a basis. Its value in a
clip is the largest similarity of a cell, so the scheme is always `square`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.classifiers.sigmoid_heads import SIGMOID_HEADS
from benchmarks.classifiers.trained_heads import HEADS, PrototypeHead
from benchmarks.experiments.prototype_quality import (
    COLUMNS,
    OTHER_SEED,
    UnseenClips,
    available,
    chances_of,
    class_measures,
    explanation_measures,
    fall_measures,
    labels_of,
    part_measures,
    regions_of,
    subset,
    summary_of,
)
from benchmarks.methods.registry import CLIPS_AT_ONCE
from benchmarks.methods.trained_head_maps import head_learner
from benchmarks.runs.learning import learned_networks
from benchmarks.runs.stage import Stage
from benchmarks.runs.subject import Subject
from captum_apex import Evidence, FeatureBank, Prototype, PrototypeBasis, Region, Scheme
from captum_apex.bases import Prototypes
from captum_apex.layers.changes import restored
from captum_apex.layers.hooks import captured, frozen
from captum_apex.layers.models import layer_name
from captum_apex.metrics import prototypes as measures

PROTOTYPE_HEADS = (
    *(name for name, build in HEADS.items() if getattr(build, "func", build) is PrototypeHead),
    *SIGMOID_HEADS,
)
"""Names of the heads with prototypes, in `HEADS` and `SIGMOID_HEADS` of `benchmarks.classifiers`."""


class HeadValues(nn.Module):
    """The values of all prototypes of a head, one row per clip, for measures that change the input.

    Args:
        subject: the frozen network and its layer.
        head: the head on the features of the layer.
    """

    def __init__(self, subject: Subject, head: PrototypeHead) -> None:
        super().__init__()
        self.model = subject.model
        self.head = head
        self._layer = (subject.layer,)  # in a tuple, so that it is not registered a second time

    @restored
    def forward(self, inputs: Tensor) -> Tensor:
        """The largest similarity of a cell to each prototype, (clip, prototype), differentiable in the inputs."""
        return self._similarities(inputs).amax(2)

    @restored
    @torch.no_grad()
    def peaks(self, inputs: Tensor) -> Tensor:
        """Index of the most similar cell of each prototype, int64 (clip, prototype, 1)."""
        return self._similarities(inputs).argmax(2, keepdim=True)

    def _similarities(self, inputs: Tensor) -> Tensor:
        layer = self._layer[0]
        with captured(layer, layer_name(self.model, layer), stop=True) as capture, frozen(self.model, layer):
            self.model(inputs)
        return self.head.similarities(capture.value).flatten(1, 2).flatten(2)  # (clip, prototype, cell)


@dataclass(frozen=True)
class HeadOnClips:
    """A head on the clips of a bank.

    Attributes:
        prototypes: the clips that are most similar to each prototype; their purity is the similarity.
        values: largest similarity of a cell to each prototype, (clip, prototype).
        logits: the logits of the head, (clip, class).
    """

    prototypes: Prototypes
    values: Tensor
    logits: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, head: PrototypeHead, bank: FeatureBank) -> HeadOnClips:
        """The head on a bank that has the cells of the scheme `square`."""
        batches = [cells[:, :, None].float() for cells in bank.sequences(Scheme.SQUARE)[0].split(CLIPS_AT_ONCE)]
        similarities = torch.cat([head.similarities(cells).flatten(1, 2).flatten(2) for cells in batches]).cpu()
        values, places = similarities.max(2)  # (clip, prototype, cell) → (clip, prototype)
        strongest, clips = values.T.topk(available(bank), dim=1)  # (prototype, clip)
        peaks = places.T.gather(1, clips)[..., None]
        labels = None if bank.labels is None else bank.labels.cpu()[clips]
        prototypes = Prototypes(clips, activations=strongest, purities=strongest, peaks=peaks, labels=labels)
        return cls(prototypes, values, torch.cat([head(cells) for cells in batches]).cpu())

    def contributions(self, head: PrototypeHead) -> Tensor:
        """What each prototype adds to the logit of the class that the head predicts, (clip, prototype)."""
        weights = head.weights.detach().cpu().relu()  # (class, prototype of the class)
        classes = torch.arange(len(weights)).repeat_interleave(weights.shape[1])
        return self.values * weights.flatten() * (classes == self.logits.argmax(1)[:, None])


def head_quality_lines(subject: Subject, name: str, clips: UnseenClips) -> pd.DataFrame:
    """The measures of the prototypes of one head, on the bank of a subject.

    Args:
        subject: the frozen network and its bank; the head is trained unless it is cached.
        name: a name in `PROTOTYPE_HEADS`.
        clips: the test clips of the subject.

    Returns:
        One line in the form of `benchmarks.experiments.prototype_quality.quality_lines`, with prototypes of the head in
        place of channels. The class that is explained is the one that the head predicts; its logit is the sum of the
        contributions and a bias. `purity` is the similarity of the peak cell, the cosine, which for a row of an
        orthogonal basis is its purity. `condition` is NaN, since the prototypes are no basis.

    Raises:
        FailedTrainingError: the training failed.
    """
    head = trained_head(subject, name)
    training = HeadOnClips.of(head, subject.bank)
    unseen = HeadOnClips.of(head, clips.bank)
    grid = PrototypeBasis(torch.eye(subject.bank.n_channels), Scheme.SQUARE, origin=subject.bank.origin)
    outputs = HeadValues(subject, head)
    contributions = unseen.contributions(head)
    labels = labels_of(training.prototypes)
    values = _purities(subject, head, training, unseen) | class_measures(training.prototypes, unseen.prototypes)
    values |= explanation_measures(subject, contributions, unseen.values, labels, unseen.logits.argmax(1))
    values |= _agreement(subject, name, head, training) | part_measures(subject, outputs, grid, unseen.prototypes)
    values |= fall_measures(subject, outputs, contributions, grid, unseen.prototypes)
    line = {"scheme": str(Scheme.SQUARE), **summary_of(values), **chances_of(subject, clips)}
    return pd.DataFrame([line], columns=COLUMNS)


def trained_head(subject: Subject, name: str) -> PrototypeHead:
    """A head with prototypes on the frozen network of a subject, from the cache if it was trained before.

    Args:
        subject: the frozen network and its task.
        name: a name in `PROTOTYPE_HEADS`.

    Raises:
        FailedTrainingError: the training failed.
    """
    learned = learned_networks(subject, [head_learner(name)])[head_learner(name)]
    head = learned.network(head_learner(name), Stage.of(subject, 1))
    assert isinstance(head, PrototypeHead)  # this line is for the type checker
    return head


def _purities(subject: Subject, head: PrototypeHead, training: HeadOnClips, unseen: HeadOnClips) -> dict[str, Tensor]:
    as_many = HeadOnClips.of(head, subset(subject.bank.only(Scheme.SQUARE), len(unseen.values), subject.seed))
    of_unseen = unseen.prototypes.purities
    return {
        "purity": training.prototypes.purities.mean(1),
        "unseen": of_unseen.mean(1),
        "gap": measures.purity_gap(as_many.prototypes.purities, of_unseen),
    }


def _agreement(subject: Subject, name: str, head: PrototypeHead, training: HeadOnClips) -> dict[str, Tensor]:
    other = trained_head(replace(subject, seed=subject.seed + OTHER_SEED), name)
    match, cosines = measures.matched_channels(head.prototypes.flatten(0, 1), other.prototypes.flatten(0, 1))
    indices = HeadOnClips.of(other, subject.bank).prototypes.indices[match.cpu()]
    return {"cosine": cosines, "jaccard": measures.prototype_jaccard(training.prototypes.indices, indices)}


@dataclass(frozen=True)
class HeadExplanation:
    """Why a head predicts its class for a test clip, in the form of APEX's evidence.

    Attributes:
        predicted: index of the class that the head predicts.
        logit: the logit of this class.
        evidence: the prototypes that add most to the logit, best first. `channel` is the number of the prototype among
            those of its class, `activation` and `purity` are the largest similarity, and regions are the most similar
            cell.
    """

    predicted: int
    logit: float
    evidence: tuple[Evidence, ...]


def head_explanation(
    subject: Subject, name: str, index: int, *, n_channels: int = 3, n_prototypes: int = 2
) -> HeadExplanation:
    """Explains the prediction of a head for a test clip by its prototypes.

    Args:
        subject: the frozen network and its bank; the head is trained unless it is cached.
        name: a name in `PROTOTYPE_HEADS`.
        index: index of the test clip.
        n_channels: largest number of prototypes of the head.
        n_prototypes: number of training clips for each of them.

    Raises:
        FailedTrainingError: the training failed.
    """
    head = trained_head(subject, name)
    training = HeadOnClips.of(head, subject.bank).prototypes
    grid = PrototypeBasis(torch.eye(subject.bank.n_channels), Scheme.SQUARE, origin=subject.bank.origin)
    clip = HeadOnClips.of(head, features_of_test_clip(subject, index))
    contributions = clip.contributions(head)[0].detach()
    strongest = contributions.topk(min(n_channels, head.weights.shape[1])).indices
    regions = regions_of(grid, training.peaks[strongest, :n_prototypes])
    cells = regions_of(grid, clip.prototypes.peaks[strongest])
    evidence = [
        Evidence(
            channel=p % head.weights.shape[1],
            side=1,
            contribution=contributions[p].item(),
            activation=clip.values[0, p].item(),
            purity=clip.values[0, p].item(),
            region=cells[rank][0],
            prototypes=_shown(training, p, regions[rank]),
        )
        for rank, p in enumerate(strongest.tolist())
        if contributions[p] > 0
    ]
    predicted = int(clip.logits[0].argmax())
    return HeadExplanation(predicted, clip.logits[0, predicted].item(), tuple(evidence))


def features_of_test_clip(subject: Subject, index: int) -> FeatureBank:
    """The features of one test clip."""
    return FeatureBank.from_dataset(subject.model, subject.layer, [subject.task.test[index]], places=False)


def _shown(training: Prototypes, number: int, regions: list[Region]) -> tuple[Prototype, ...]:
    """The training clips of one prototype that have regions."""
    labels = labels_of(training)
    return tuple(
        Prototype(
            int(training.indices[number, rank]),
            int(labels[number, rank]),
            activation=training.activations[number, rank].item(),
            purity=training.purities[number, rank].item(),
            region=region,
        )
        for rank, region in enumerate(regions)
    )
