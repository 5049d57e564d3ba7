"""The paper's masking test: does masking the evidence's region change a prediction more than masking another region?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

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
from benchmarks.methods.query import CLIPS_AT_ONCE, logits
from benchmarks.runs.stage import Stage
from benchmarks.runs.subject import Subject
from benchmarks.runs.workers import Workers, ended_workers, started
from benchmarks.statistics import holm, interval, paired_test
from benchmarks.tasks import Split
from benchmarks.threads import one_thread
from captum_apex import Scheme
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
    jobs: int = 1,
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
        jobs: number of processes that run at the same time; the numbers do not depend on it.

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
    with one_thread(), ended_workers(), started(stage, jobs=jobs) as workers:
        before = _probabilities(stage.model, stage.inputs)
        located = _located(workers, stage)
        calls = (
            (place, before, regions, tuple(fills))
            for place, regions in enumerate(_with_random_places(located, draws, subject.seed))
        )
        tested = sorted(workers.results(_lines, calls), key=itemgetter(0))
    lines = [line for _, lines in tested for line in lines]
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
class _LocatedClip:
    """The evidence of one clip for the basis of one scheme.

    Attributes:
        channels: the channels of the evidence.
        masks: name of a region, in `REGIONS` → the region of each channel, bool (channel, frequency, time).
    """

    channels: list[int]
    masks: dict[str, Tensor]


@dataclass(frozen=True)
class _MaskedRegions:
    """Regions of the evidence of all clips for the basis of one scheme, and the same regions at random places.

    Attributes:
        scheme: the scheme.
        region: name of the region, in `REGIONS`.
        channels: the channels of the evidence of each clip.
        unions: union of the regions of each clip, bool (clip, frequency, time).
        others: the unions at random places, as many as draws.
        repeats: of each clip the regions of its channels, followed by the same regions at random places, bool (1 +
            draw, channel, frequency, time).
    """

    scheme: Scheme
    region: str
    channels: list[list[int]]
    unions: Tensor
    others: list[Tensor]
    repeats: list[Tensor]


def _located(workers: Workers, stage: Stage) -> dict[Scheme, list[_LocatedClip]]:
    """The evidence of all clips for the basis of each scheme, in the order of the schemes and of the clips."""
    batches = [
        (scheme, slice(start, start + CLIPS_AT_ONCE))
        for scheme in stage.bases
        for start in range(0, len(stage.indices), CLIPS_AT_ONCE)
    ]
    found = dict(workers.results(_located_batch, enumerate(batches)))
    located: dict[Scheme, list[_LocatedClip]] = {scheme: [] for scheme in stage.bases}
    for place, (scheme, _) in enumerate(batches):
        located[scheme].extend(found[place])
    return located


def _located_batch(stage: Stage, place: int, batch: tuple[Scheme, slice]) -> tuple[int, list[_LocatedClip]]:
    """The evidence of some clips of the stage for the basis of a scheme; runs in a worker."""
    scheme, selection = batch
    inputs = stage.inputs[selection]
    n_rows, n_columns = inputs.shape[2:]
    with one_thread():
        explanations = explanations_of(stage, stage.bases[scheme], inputs, N_CHANNELS)
    return place, [
        _LocatedClip(
            [evidence.channel for evidence in explanation.evidence],
            {name: region_masks(stage.band_shares, explanation, (n_rows, n_columns), name) for name in REGIONS},
        )
        for explanation in explanations
    ]


def _with_random_places(
    located: Mapping[Scheme, Sequence[_LocatedClip]], draws: int, seed: int
) -> Iterator[_MaskedRegions]:
    """The regions of each scheme with their random places, which are drawn one after the other."""
    generator = torch.Generator().manual_seed(seed)
    for scheme, clips in located.items():
        for region in REGIONS:
            masks = [clip.masks[region] for clip in clips]
            unions = torch.stack([of_clip.any(0) for of_clip in masks])
            others = [moved(unions, generator) for _ in range(draws)]
            repeats = [torch.stack([each, *(moved(each, generator) for _ in range(draws))]) for each in masks]
            yield _MaskedRegions(scheme, region, [clip.channels for clip in clips], unions, others, repeats)


def _lines(
    stage: Stage, place: int, before: Tensor, regions: _MaskedRegions, fills: Sequence[str]
) -> tuple[int, list[dict[str, Any]]]:
    """The lines of these regions, one for each fill; runs in a worker.

    Args:
        stage: the clips.
        place: place of the lines in the table.
        before: probabilities of the classes for the unmasked clips, (clip, class).
        regions: the regions and their random places.
        fills: names of the fills.
    """
    with one_thread():
        clips = _MaskedClips.of(stage, before)
        channels = EvidenceChannels.of(stage, stage.bases[regions.scheme], regions.channels)
        lines = []
        for name in fills:
            fill = fill_values(stage, name, regions.scheme)
            measured = _compared(clips, fill, regions.unions, regions.others)
            of_channels = _channels(channels, fill, regions.repeats)
            about = {"scheme": str(regions.scheme), "fill": name, "region": regions.region}
            lines.append({**about, **measured, **of_channels})
    return place, lines


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
    def of(cls, stage: Stage, before: Tensor) -> _MaskedClips:
        return cls(stage.model, stage.inputs, torch.tensor(stage.labels, device=stage.inputs.device), before)

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
