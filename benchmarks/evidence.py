"""What fitting a basis buys: purer channels, channels that matter to the model, regions that lie on the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.methods import integrated
from benchmarks.subject import Subject
from captum_apex import APEX, LayerAPEX, PrototypeBasis, Region, Scheme, explain
from captum_apex.layers import frozen, watched
from captum_apex.masking import mean_fill

N_REMOVED = 5  # channels
N_LOCATED = 40  # clips per perspective whose evidence is compared with the truth


@dataclass(frozen=True)
class Finding:
    """One scheme's figures on the test clips.

    Attributes:
        scheme: the perspective.
        purity_raw: mean purity of the raw channels' prototypes, in [-1, 1].
        purity_fitted: of the fitted basis.
        drop_raw: how much removing the top five raw channels lowers the predicted class's probability, the mean over clips.
        drop_fitted: likewise for the fitted basis.
        on_truth_channel: share of clips, among the classes of this perspective, where the strongest channel's region meets the truth: a
            cell, a strip, a band, or where strip and band cross; NaN where no truth is known.
        on_truth_enlarged: the same for the place where the enlarged map of five channels is largest.
        on_truth_integrated: the same for the five channels' map through Integrated Gradients, against the clip's mean per band.
        on_truth_random: the same for a random place of the same shape, exactly: the mean over all places.
    """

    scheme: str
    purity_raw: float
    purity_fitted: float
    drop_raw: float
    drop_fitted: float
    on_truth_channel: float
    on_truth_enlarged: float
    on_truth_integrated: float
    on_truth_random: float

    @property
    def drop_ratio(self) -> float:
        """How many times as much the fitted channels matter as the raw ones."""
        return self.drop_fitted / self.drop_raw


def findings(subject: Subject) -> list[Finding]:
    """The figures of every scheme, on the whole test part: they cost a few passes only."""
    indices, inputs = subject.test_clips(len(subject.task.test))
    return [_finding(subject, scheme, indices, inputs) for scheme in subject.bases]


def probability_drop(subject: Subject, basis: PrototypeBasis, inputs: Tensor, n_channels: int = N_REMOVED) -> Tensor:
    """How much the predicted class's probability falls when the evidence's channels are removed at the layer, (clip,).

    Args:
        subject: the classifier.
        basis: whose channels; the evidence is chosen with it.
        inputs: (clip, 1, mel, frame).
        n_channels: size of the evidence.
    """
    model, layer = subject.model, subject.layer
    at_layer = LayerAPEX(model, layer, basis)
    parts = at_layer.decompose(inputs, predicted=True)
    chosen = at_layer.evidence(parts, n_channels)
    removed = torch.einsum("ck,nkft->ncft", basis.inverse.to(parts.features), parts.features * chosen[:, :, None, None])
    with torch.no_grad(), frozen(model, layer), watched(layer, at_layer.layer_name, lambda features: features - removed):
        after = model(inputs).softmax(1)
    before, target = parts.output.softmax(1), torch.as_tensor(parts.target)[:, None]
    return (before.gather(1, target) - after.gather(1, target))[:, 0]


def _finding(subject: Subject, scheme: Scheme, indices: list[int], inputs: Tensor) -> Finding:
    basis = subject.bases[scheme]
    raw = PrototypeBasis(torch.eye(basis.n_channels), scheme, origin=basis.origin)
    channel, enlarged, through, chance = _on_truth(subject, scheme, indices, inputs)
    return Finding(
        scheme=str(scheme),
        purity_raw=basis.purity_history[0].item(),
        purity_fitted=basis.purity_history[-1].item(),
        drop_raw=probability_drop(subject, raw, inputs).mean().item(),
        drop_fitted=probability_drop(subject, basis, inputs).mean().item(),
        on_truth_channel=channel,
        on_truth_enlarged=enlarged,
        on_truth_integrated=through,
        on_truth_random=chance,
    )


def _on_truth(subject: Subject, scheme: Scheme, indices: list[int], inputs: Tensor) -> tuple[float, float, float, float]:
    """How often the evidence meets the truth: the strongest channel, the map enlarged and through Integrated Gradients, chance."""
    task, basis = subject.task, subject.bases[scheme]
    own = [i for i, index in enumerate(indices) if task.perspectives.get(task.classes[task.test[index][1]]) == scheme][:N_LOCATED]
    if task.truth is None or not own:
        return (float("nan"),) * 4
    clips, truths = inputs[own], [task.truth(indices[i]) for i in own]
    with torch.no_grad():
        target = subject.model(clips).argmax(1)
    projections = (None, partial(integrated, baseline=mean_fill(clips)))
    maps = [APEX(subject.model, subject.layer, basis, projection=projection).attribute(clips, target) for projection in projections]
    at_layer = LayerAPEX(subject.model, subject.layer, basis)
    regions = [
        found.evidence[0].region if found.evidence else Region(())
        for found in explain(at_layer, clips, n_channels=1, n_prototypes=1, intersection=True)
    ]
    shares = [_share_met(_strongest_places(found, scheme, basis), truths) for found in maps]
    chances = [_chance(truth, scheme, basis) for truth in truths]
    return _share_met(regions, truths), shares[0], shares[1], sum(chances) / len(chances)


def _strongest_places(maps: Tensor, scheme: Scheme, basis: PrototypeBasis) -> list[Region]:
    """Where each map (clip, 1, mel, frame) is largest, in the cells that the scheme sees on the layer's grid."""
    n_rows, n_columns = _grid(basis)
    cells = scheme.cells(F.adaptive_avg_pool2d(maps, (n_rows, n_columns)))
    peaks = torch.stack([sequence[:, 0].argmax(1) for sequence in cells], 1)  # (clip, sequence)
    return [scheme.region(place, n_rows, n_columns, intersection=True) for place in peaks.tolist()]


def _share_met(regions: Sequence[Region], truths: Sequence[Tensor]) -> float:
    """Share of clips whose region has a bin in common with the truth."""
    met = [bool((region.mask(*truth.shape) & truth).any()) for region, truth in zip(regions, truths, strict=True)]
    return sum(met) / len(met)


def _chance(truth: Tensor, scheme: Scheme, basis: PrototypeBasis) -> float:
    """Share of all places of a region of the scheme's shape that meet the truth."""
    n_rows, n_columns = _grid(basis)
    rows = range(n_rows) if scheme != Scheme.TIME else [0]
    columns = range(n_columns) if scheme != Scheme.FREQUENCY else [0]
    cells = {
        Scheme.SQUARE: lambda row, column: [row * n_columns + column],
        Scheme.TIME: lambda _, column: [column],
        Scheme.FREQUENCY: lambda row, _: [row],
        Scheme.TIME_FREQUENCY: lambda row, column: [column, row],  # in the order of the scheme's sequences
    }[scheme]
    places = [scheme.region(cells(row, column), n_rows, n_columns, intersection=True) for row in rows for column in columns]
    return _share_met(places, [truth] * len(places))


def _grid(basis: PrototypeBasis) -> tuple[int, int]:
    assert basis.origin.grid is not None  # a fitted basis knows its grid; for the type checker
    return basis.origin.grid
