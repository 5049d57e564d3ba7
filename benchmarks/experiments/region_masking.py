"""The paper's masking test: is a prediction hurt more where the evidence's region is masked than where any other region is?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.classifiers.waveform_networks import on_bins
from benchmarks.methods.registry import CLIPS_AT_ONCE
from benchmarks.runs.stage import Stage
from benchmarks.runs.subject import Subject
from benchmarks.statistics import holm, interval, paired_test
from benchmarks.tasks import Split
from captum_apex import Explanation, LayerAPEX, PrototypeBasis, Region, explain
from captum_apex.masking.fills import masked

N_CHANNELS = 3  # as many as the paper's figures show
REGIONS: dict[str, float | None] = {"cell": None, "grown": 0.95, "wide": 0.8}
"""How far a channel's region reaches: its peak cell alone, or the box around the cells from a quantile of its own map on. ProtoPNet
(arXiv 1806.10574) and its successors draw theirs from the 95th percentile on. A sequence of few cells has its peak alone there."""


def masking_test(
    subject: Subject, n_clips: int, part: Split = "test", *, draws: int = 10, fills: Sequence[str] = ("silence", "mean")
) -> pd.DataFrame:
    """Masks the regions of the evidence, and as a control the same regions at random places.

    A clip's region is the union over the three strongest channels of the evidence for its predicted class. It may be empty: masking
    nothing costs nothing, and such clips count. See `elsewhere` for the random regions. It takes clips × schemes × fills × kinds of
    region × (1 + draws) forward passes; fewer for a scheme whose regions do not grow, as on a grid of few rows.

    Args:
        subject: the classifier and its bases.
        n_clips: how many clips, spread evenly over the part.
        part: of the task that they are taken from.
        draws: random regions per clip.
        fills: names in `captum_apex.masking.fills.FILLS`.

    Returns:
        One line per scheme, fill and kind of region (see `REGIONS`). `share` is that of the bins masked; `drop` and `drop_random` are by
        how much the predicted class's probability falls; `difference` is drop − drop_random, paired per clip, with its 95% interval (`low`,
        `high`) and the two-sided `p` of Wilcoxon's signed-rank test; `p_holm` is adjusted for the number of lines. `accuracy`,
        `accuracy_random`, `accuracy_before` are shares of clips whose label is predicted; `accuracy_difference` is accuracy_random −
        accuracy, with its 95% interval. `kept` and `kept_random` are shares of clips whose prediction stays.

    Source: APEX (arXiv 2605.10153), the masking experiment.
    """
    stage, generator = Stage.of(subject, n_clips, part), np.random.default_rng(subject.seed)
    clips, fillings = _MaskedClips.of(stage), {name: stage.fill(name) for name in fills}
    lines = []
    for scheme, basis in subject.bases.items():
        masks, compared = torch.empty(0), {}
        for region, quantile in REGIONS.items():
            found = region_masks(subject, basis, clips.inputs, quantile)
            if not torch.equal(found, masks):
                masks, others = found, [elsewhere(found, generator) for _ in range(draws)]
                compared = {fill: _compared(clips, filling, masks, others) for fill, filling in fillings.items()}
            lines += [{"scheme": str(scheme), "fill": fill, "region": region, **compared[fill]} for fill in fills]
    table = pd.DataFrame(lines)
    table.insert(list(table).index("p") + 1, "p_holm", holm(table["p"]))
    return table


def region_masks(subject: Subject, basis: PrototypeBasis, inputs: Tensor, quantile: float | None) -> Tensor:
    """Where the evidence's channels have their regions, one mask per sequence of the scheme; a clip's region is their union.

    Args:
        subject: the classifier.
        basis: from `fit_basis`.
        inputs: (clip, channel, frequency, time).
        quantile: as `explain` takes it.

    Returns:
        bool tensor (clip, sequence, frequency, time), on the CPU.
    """
    at_layer, shares = LayerAPEX(subject.model, subject.layer, basis), subject.task.band_shares
    shape = (inputs.shape[2] if shares is None else shares.shape[1], inputs.shape[3])
    found = [
        explanation
        for batch in inputs.split(CLIPS_AT_ONCE)
        for explanation in explain(at_layer, batch, n_channels=N_CHANNELS, n_prototypes=1, quantile=quantile)
    ]
    masks = torch.stack([_sequence_masks(explanation, shape) for explanation in found])
    return masks if shares is None else on_bins(masks, shares)


def elsewhere(masks: Tensor, generator: np.random.Generator) -> Tensor:
    """The same regions at random places: as many bins, in the same shapes.

    Each mask is shifted as a whole, around the ends of the axes, to a place drawn evenly (its own among them) from those where the clip's
    edge cuts no box in two. So strips move along time only, bands along frequency only, squares along both; the strips and the bands of
    `time-frequency` move independently of each other. What fills an axis stays.

    Args:
        masks: bool, one mask per sequence, (clip, sequence, frequency, time).
        generator: draws the places.

    Returns:
        bool tensor of the same shape.
    """
    moved = [[_shifted(mask, generator) for mask in sequences] for sequences in masks]
    return torch.stack([torch.stack(sequences) for sequences in moved])


def first_bins(mask: Tensor, axis: int) -> np.ndarray:
    """The bins of an axis that may come first when the mask is shifted around its ends, so that nothing is cut in two; 0 always may.

    >>> first_bins(torch.tensor([[False, True, True, False]]), axis=1)
    array([0, 1, 3])
    """
    goes_on = (mask & mask.roll(1, axis)).any(1 - axis)  # each bin's mask continues that of the bin before
    goes_on[0] = False
    return np.flatnonzero(~goes_on.numpy())


@dataclass(frozen=True)
class _MaskedClips:
    """The clips of the test.

    Attributes:
        model: the classifier.
        inputs: (clip, channel, frequency, time).
        labels: (clip,).
        before: probabilities of the unmasked clips, (clip, class).
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
        """Per clip the drop in probability, whether the label is predicted, and whether the prediction stays, float64 (3, clip)."""
        region = masks.any(1, keepdim=True).to(
            self.inputs.device
        )  # (clip, sequence, frequency, time) → (clip, 1, frequency, time)
        after, predicted = _probabilities(self.model, masked(self.inputs, fill, region)), self.before.argmax(1)
        drop = (self.before - after).gather(1, predicted[:, None])[:, 0]
        return torch.stack([drop, after.argmax(1) == self.labels, after.argmax(1) == predicted]).cpu().numpy()


def _compared(clips: _MaskedClips, fill: Tensor, masks: Tensor, others: Sequence[Tensor]) -> dict[str, float]:
    own = clips.outcome(fill, masks)
    # A difference per draw and then the mean: exactly zero where a region cannot move, which a rank test must not take for a small one.
    differences = np.mean([own - clips.outcome(fill, other) for other in others], axis=0)  # (draw, 3, clip) → (3, clip)
    (drop, accuracy, kept), (drop_random, accuracy_random, kept_random) = own.mean(1), (own - differences).mean(1)
    (low, high), (accuracy_low, accuracy_high) = interval(differences[0]), interval(-differences[1])
    return {
        "clips": len(masks),
        "share": masks.any(1).double().mean().item(),
        "drop": drop,
        "drop_random": drop_random,
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
        "kept": kept,
        "kept_random": kept_random,
    }


def _sequence_masks(explanation: Explanation, shape: tuple[int, int]) -> Tensor:
    """(sequence, frequency, time): the union over the evidence of each sequence's boxes."""
    regions = [evidence.region for evidence in explanation.evidence]
    sequences = range(len(explanation.scheme.sequences))
    return torch.stack(
        [Region(tuple(region.boxes[sequence] for region in regions)).mask(*shape) for sequence in sequences]
    )


def _shifted(mask: Tensor, generator: np.random.Generator) -> Tensor:
    first = [int(generator.choice(first_bins(mask, axis))) for axis in (0, 1)]
    return mask.roll((-first[0], -first[1]), (0, 1))


@torch.no_grad()
def _probabilities(model: nn.Module, inputs: Tensor) -> Tensor:
    """float64 (clip, class)."""
    return torch.cat([model(batch).double().softmax(1) for batch in inputs.split(CLIPS_AT_ONCE)])
