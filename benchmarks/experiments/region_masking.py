"""The paper's masking test: does masking the evidence's region change a prediction more than masking another region?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.experiments.located_evidence import (
    REGIONS,
    SURROUNDINGS,
    EvidenceChannels,
    explanations_of,
    fill_values,
    moved,
    region_masks,
)
from benchmarks.methods.query import logits
from benchmarks.runs.stage import Stage
from benchmarks.runs.subject import Subject
from benchmarks.statistics import holm, interval, paired_test
from benchmarks.tasks import Split
from captum_apex import Explanation, PrototypeBasis
from captum_apex.masking.fills import masked

N_CHANNELS = 3  # channels of the evidence, as in the paper's figures
SMALLEST_FALL = 0.001  # a fall at random places below this counts as this in a ratio


def masking_test(
    subject: Subject,
    n_clips: int,
    split: Split = "test",
    *,
    draws: int = 10,
    fills: Sequence[str] = (SURROUNDINGS, "silence", "mean"),
) -> pd.DataFrame:
    """Masks the regions of the evidence and, as a control, the same regions at random places.

    A clip's region is the union of the regions of the three strongest channels of the evidence for its predicted class.
    Where a clip has no evidence, the region is empty and nothing is masked; such clips count with a drop of zero. A
    random region has as many bins in the same shapes: the union is shifted as a whole, see
    `captum_apex.locating.placement.elsewhere`. The channels are measured one by one: the region of each channel is
    masked alone, and then it is masked at random places.

    Besides the search for the regions, the test takes clips × schemes × fills × 2 × (1 + draws) forward passes, and
    three times as many up to the layer for the channels.

    Args:
        subject: the classifier and its bases.
        n_clips: number of clips, spread evenly over the split.
        split: `train` or `test`, the clips of the task that are masked.
        draws: number of random regions per clip, and of random places per channel.
        fills: names in `captum_apex.masking.fills.FILLS`, or `surroundings`, the fill of the search for regions: the
            clip, blurred along the axis in which the scheme has regions.

    Returns:
        One line per `scheme`, `fill` and `region`. The region `cell` is the peak cell of each channel, `found` the
        region that `captum_apex.explain` finds. The columns:

        - `clips`: number of clips. `share`: share of the bins that are masked, mean over clips.
        - `drop`, `drop_random`: by how much the predicted class's probability falls when the region, or a random one,
          is masked. `ratio`: see `ratio`.
        - `channel`, `channel_random`: share of a channel's contribution that masking its region, or the same region at
          random places, takes away: median over the channels of the evidence; NaN without any.
        - `difference`: drop − drop_random, paired by clip, with its 95% interval `low`, `high`, the two-sided `p` of
          Wilcoxon's signed-rank test, and `p_holm`, adjusted for the number of lines.
        - `accuracy`, `accuracy_random`, `accuracy_before`: share of clips for which the label is predicted, with the
          region masked, with a random region masked, and with nothing masked.
        - `accuracy_difference`: accuracy_random − accuracy, with its 95% interval `accuracy_low`, `accuracy_high`.
        - `kept`, `kept_random`: share of clips for which the predicted class stays the same.

    Source: APEX (arXiv 2605.10153), the masking experiment.
    """
    stage = Stage.of(subject, n_clips, split)
    generator = torch.Generator().manual_seed(subject.seed)
    clips = _MaskedClips.of(stage)
    lines = []
    for scheme, basis in subject.bases.items():
        values = {name: fill_values(stage, name, scheme) for name in fills}
        evidence = _LocatedClips.of(subject, stage, basis)
        for region in REGIONS:
            masks = evidence.masks(region)
            unions = torch.stack([of_clip.any(0) for of_clip in masks])  # (clip, frequency, time)
            others = [moved(unions, generator) for _ in range(draws)]
            repeats = [torch.stack([each, *(moved(each, generator) for _ in range(draws))]) for each in masks]
            for name, fill in values.items():
                measured = _compared(clips, fill, unions, others) | _channels(evidence.channels, fill, repeats)
                lines.append({"scheme": str(scheme), "fill": name, "region": region, **measured})
    table = pd.DataFrame(lines)
    table.insert(list(table).index("p") + 1, "p_holm", holm(table["p"]))
    return table


def ratio(drop: float, drop_random: float) -> float:
    """How many times larger a fall is than the fall at random places; a random fall below 0.001 counts as 0.001.

    Example:
        >>> from benchmarks.experiments.region_masking import ratio
        >>> ratio(0.5, 0.1), ratio(0.5, -0.2)
        (5.0, 500.0)
    """
    return drop / max(drop_random, SMALLEST_FALL)


@dataclass(frozen=True)
class _LocatedClips:
    """The evidence of the clips for one basis.

    Attributes:
        subject: the classifier and its task.
        size: number of frequency rows and of time columns of the inputs.
        explanations: the explanation of each clip.
        channels: the channels of the evidence.
    """

    subject: Subject
    size: tuple[int, int]
    explanations: list[Explanation]
    channels: EvidenceChannels

    @classmethod
    def of(cls, subject: Subject, stage: Stage, basis: PrototypeBasis) -> _LocatedClips:
        explanations = explanations_of(subject, basis, stage.inputs, N_CHANNELS)
        n_rows, n_columns = stage.inputs.shape[2:]
        return cls(subject, (n_rows, n_columns), explanations, EvidenceChannels.of(stage, basis, explanations))

    def masks(self, region: str) -> list[Tensor]:
        """The masks of each clip's channels, bool (channel, frequency, time)."""
        return [region_masks(self.subject, explanation, self.size, region) for explanation in self.explanations]


@dataclass(frozen=True)
class _MaskedClips:
    """The clips that are masked.

    Attributes:
        model: the classifier.
        inputs: inputs of the clips, (clip, channel, frequency, time).
        labels: index of each clip's class, (clip,).
        before: probabilities of the classes for the unmasked clips, (clip, class).
    """

    model: nn.Module
    inputs: Tensor
    labels: Tensor
    before: Tensor

    @classmethod
    def of(cls, stage: Stage) -> _MaskedClips:
        labels = torch.tensor(stage.labels, device=stage.inputs.device)
        return cls(stage.model, stage.inputs, labels, _probabilities(stage.model, stage.inputs))

    def outcome(self, fill: Tensor, masks: Tensor) -> np.ndarray:
        """Per clip the drop in probability, whether the label is predicted, whether the prediction stays, (3, clip)."""
        after = _probabilities(self.model, masked(self.inputs, fill, masks[:, None].to(self.inputs.device)))
        predicted = self.before.argmax(1)
        drop = (self.before - after).gather(1, predicted[:, None])[:, 0]
        return torch.stack([drop, after.argmax(1) == self.labels, after.argmax(1) == predicted]).cpu().numpy()


def _compared(clips: _MaskedClips, fill: Tensor, masks: Tensor, others: Sequence[Tensor]) -> dict[str, float]:
    """The measured columns of one line: the regions `masks` against the random regions `others`."""
    outcome = clips.outcome(fill, masks)
    # A difference per draw and then the mean: it is exactly zero where a region cannot move, and the rank test must not
    # take a rounding error for a small difference.
    # (draw, 3, clip) → (3, clip)
    differences = np.mean([outcome - clips.outcome(fill, other) for other in others], axis=0)
    drop, accuracy, same_prediction = outcome.mean(1)
    drop_random, accuracy_random, same_prediction_random = (outcome - differences).mean(1)
    low, high = interval(differences[0])
    accuracy_low, accuracy_high = interval(-differences[1])
    return {
        "clips": len(masks),
        "share": masks.double().mean().item(),
        "drop": drop,
        "drop_random": drop_random,
        "ratio": ratio(drop, drop_random),
        "difference": differences[0].mean(),
        "low": low,
        "high": high,
        "p": paired_test(differences[0], np.zeros(len(masks))),
        "accuracy": accuracy,
        "accuracy_random": accuracy_random,
        "accuracy_before": (clips.before.argmax(1) == clips.labels).double().mean().item(),
        "accuracy_difference": -differences[1].mean(),
        "accuracy_low": accuracy_low,
        "accuracy_high": accuracy_high,
        "kept": same_prediction,
        "kept_random": same_prediction_random,
    }


def _channels(channels: EvidenceChannels, fill: Tensor, repeats: Sequence[Tensor]) -> dict[str, float]:
    """The columns of one line about the channels; the first repeat has the regions, the others have random places."""
    falls = channels.falls(fill, repeats)  # (repeat, channel)
    if not falls.shape[1]:
        return {"channel": float("nan"), "channel_random": float("nan")}
    return {"channel": np.median(falls[0]), "channel_random": np.median(falls[1:].mean(0))}


def _probabilities(model: nn.Module, inputs: Tensor) -> Tensor:
    """Probabilities of the classes, float64 (clip, class)."""
    return logits(model, inputs).double().softmax(1)
