"""The paper's masking test: does masking the evidence's region change a prediction more than masking another region?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.classifiers.waveform_networks import on_bins
from benchmarks.methods.query import CLIPS_AT_ONCE, logits
from benchmarks.runs.stage import Stage
from benchmarks.runs.subject import Subject
from benchmarks.statistics import holm, interval, paired_test
from benchmarks.tasks import Split
from captum_apex import Explanation, LayerAPEX, PrototypeBasis, Region, explain
from captum_apex.masking.fills import masked

N_CHANNELS = 3  # channels of the evidence, as in the paper's figures
REGIONS: dict[str, float | None] = {"cell": None, "grown": 0.95, "wide": 0.8}
"""Size of a channel's region → quantile of its relevance map. `cell` is the peak cell alone; the others are the box
around the cells with at least that quantile. ProtoPNet (arXiv 1806.10574) and its successors use the 95th percentile.
In a sequence of few cells, the peak is the only such cell."""


def masking_test(
    subject: Subject,
    n_clips: int,
    split: Split = "test",
    *,
    draws: int = 10,
    fills: Sequence[str] = ("silence", "mean"),
) -> pd.DataFrame:
    """Masks the regions of the evidence and, as a control, the same regions at random places.

    A clip's region is the union of the regions of the three strongest channels of the evidence for its predicted class.
    Where a clip has no evidence, the region is empty and nothing is masked; such clips count with a drop of zero. See
    `elsewhere` for the random regions. The test takes clips × schemes × fills × sizes of region × (1 + draws) forward
    passes; fewer for a scheme whose larger regions equal its peak cells, as on a grid of few rows.

    Args:
        subject: the classifier and its bases.
        n_clips: number of clips, spread evenly over the split.
        split: `train` or `test`, the clips of the task that are masked.
        draws: number of random regions per clip.
        fills: names in `captum_apex.masking.fills.FILLS`.

    Returns:
        One line per `scheme`, `fill` and `region` (a name in `REGIONS`), with these columns:

        - `clips`: number of clips. `share`: share of the bins that are masked, mean over clips.
        - `drop`, `drop_random`: by how much the predicted class's probability falls when the region, or a random one,
          is masked.
        - `difference`: drop − drop_random, paired by clip, with its 95% interval `low`, `high`, the two-sided `p` of
          Wilcoxon's signed-rank test, and `p_holm`, adjusted for the number of lines.
        - `accuracy`, `accuracy_random`, `accuracy_before`: share of clips for which the label is predicted, with the
          region masked, with a random region masked, and with nothing masked.
        - `accuracy_difference`: accuracy_random − accuracy, with its 95% interval `accuracy_low`, `accuracy_high`.
        - `kept`, `kept_random`: share of clips for which the predicted class stays the same.

    Source: APEX (arXiv 2605.10153), the masking experiment.
    """
    stage = Stage.of(subject, n_clips, split)
    generator = np.random.default_rng(subject.seed)
    clips = _MaskedClips.of(stage)
    fill_values = {name: stage.fill(name) for name in fills}
    lines = []
    for scheme, basis in subject.bases.items():
        masks = torch.empty(0)
        outcomes: dict[str, dict[str, float]] = {}
        for region, quantile in REGIONS.items():
            next_masks = region_masks(subject, basis, clips.inputs, quantile)
            if not torch.equal(next_masks, masks):  # equal regions give equal numbers
                masks = next_masks
                others = [elsewhere(masks, generator) for _ in range(draws)]
                outcomes = {name: _compared(clips, fill, masks, others) for name, fill in fill_values.items()}
            lines += [{"scheme": str(scheme), "fill": name, "region": region, **outcomes[name]} for name in fills]
    table = pd.DataFrame(lines)
    table.insert(list(table).index("p") + 1, "p_holm", holm(table["p"]))
    return table


def region_masks(subject: Subject, basis: PrototypeBasis, inputs: Tensor, quantile: float | None) -> Tensor:
    """Masks of the regions of each clip's evidence, one per sequence of the scheme; a clip's region is their union.

    Args:
        subject: the classifier.
        basis: a fitted basis.
        inputs: inputs of the clips, (clip, channel, frequency, time).
        quantile: size of the regions, as in `captum_apex.explain`.

    Returns:
        bool tensor (clip, sequence, frequency, time), on the CPU.
    """
    at_layer = LayerAPEX(subject.model, subject.layer, basis)
    shares = subject.task.band_shares
    shape = (inputs.shape[2] if shares is None else shares.shape[1], inputs.shape[3])
    explanations = [
        explanation
        for batch in inputs.split(CLIPS_AT_ONCE)
        for explanation in explain(at_layer, batch, n_channels=N_CHANNELS, n_prototypes=1)
    ]
    masks = torch.stack([_sequence_masks(explanation, shape) for explanation in explanations])
    return masks if shares is None else on_bins(masks, shares)


def elsewhere(masks: Tensor, generator: np.random.Generator) -> Tensor:
    """The same regions at random places: the same number of bins in the same shapes.

    Each mask is shifted cyclically as a whole. All shifts for which the clip's edge cuts no box in two are equally
    likely, among them no shift at all. So strips move along time only, bands along frequency only, squares along both;
    the strips and the bands of `time-frequency` move independently of each other. A mask that covers an axis from end
    to end does not move along it.

    Args:
        masks: one mask per sequence, bool (clip, sequence, frequency, time).
        generator: random number generator that draws the places.

    Returns:
        bool tensor of the same shape.
    """
    moved = [[_shifted(mask, generator) for mask in sequences] for sequences in masks]
    return torch.stack([torch.stack(sequences) for sequences in moved])


def first_bins(mask: Tensor, axis: int) -> np.ndarray:
    """The bins that may become the first of an axis in a cyclic shift that cuts no box in two; bin 0 always may.

    Example:
        >>> first_bins(torch.tensor([[False, True, True, False]]), axis=1)
        array([0, 1, 3])
    """
    continues_box = (mask & mask.roll(1, axis)).any(1 - axis)  # the bin before is masked as well
    continues_box[0] = False
    return np.flatnonzero(~continues_box.numpy())


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
        region = masks.any(1, keepdim=True)  # (clip, sequence, frequency, time) → (clip, 1, frequency, time)
        after = _probabilities(self.model, masked(self.inputs, fill, region.to(self.inputs.device)))
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
        "kept": same_prediction,
        "kept_random": same_prediction_random,
    }


def _sequence_masks(explanation: Explanation, shape: tuple[int, int]) -> Tensor:
    """For each sequence the union of its boxes over the evidence, (sequence, frequency, time)."""
    regions = [evidence.region for evidence in explanation.evidence]
    sequences = range(len(explanation.scheme.sequences))
    return torch.stack(
        [Region(tuple(region.boxes[sequence] for region in regions)).mask(*shape) for sequence in sequences]
    )


def _shifted(mask: Tensor, generator: np.random.Generator) -> Tensor:
    first = [int(generator.choice(first_bins(mask, axis))) for axis in (0, 1)]
    return mask.roll((-first[0], -first[1]), (0, 1))


def _probabilities(model: nn.Module, inputs: Tensor) -> Tensor:
    """Probabilities of the classes, float64 (clip, class)."""
    return logits(model, inputs).double().softmax(1)
