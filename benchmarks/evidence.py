"""What fitting a basis buys: purer channels, channels that matter to the model, regions that lie on the truth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.subject import Subject
from captum_apex import LayerAPEX, PrototypeBasis, Scheme, explain
from captum_apex.layers import frozen, watched

N_REMOVED = 5


@dataclass(frozen=True)
class Finding:
    """One scheme's figures on the test clips.

    Attributes:
        scheme: the perspective.
        purity_raw: mean purity of the raw channels' prototypes, in [-1, 1].
        purity_fitted: of the fitted basis.
        drop_raw: how much removing the top five raw channels lowers the predicted class's probability, the mean over clips.
        drop_fitted: likewise for the fitted basis.
        on_truth: share of clips whose strongest channel's region meets the truth, among the classes of this perspective; NaN
            where no truth is known.
        on_truth_random: the same share for a random region of the same shape, exactly: the mean over all places.
    """

    scheme: str
    purity_raw: float
    purity_fitted: float
    drop_raw: float
    drop_fitted: float
    on_truth: float
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
    on_truth, random = _on_truth(subject, scheme, indices, inputs)
    return Finding(
        scheme=str(scheme),
        purity_raw=basis.purity_history[0].item(),
        purity_fitted=basis.purity_history[-1].item(),
        drop_raw=probability_drop(subject, raw, inputs).mean().item(),
        drop_fitted=probability_drop(subject, basis, inputs).mean().item(),
        on_truth=on_truth,
        on_truth_random=random,
    )


def _on_truth(subject: Subject, scheme: Scheme, indices: list[int], inputs: Tensor) -> tuple[float, float]:
    task = subject.task
    own = [
        i
        for i, index in enumerate(indices)
        if task.truth is not None and task.perspectives.get(task.classes[task.test[index][1]]) == scheme
    ]
    if task.truth is None or not own:
        return float("nan"), float("nan")
    found = explain(LayerAPEX(subject.model, subject.layer, subject.bases[scheme]), inputs[own], n_channels=1, intersection=True)
    hits, chances = [], []
    for position, explanation in zip(own, found, strict=True):
        if explanation.evidence:  # else no channel speaks for the class
            truth = task.truth(indices[position])
            hits.append(bool((explanation.evidence[0].region.mask(*truth.shape) & truth).any()))
            chances.append(_chance(truth, scheme, subject.bases[scheme]))
    return sum(hits) / len(hits), sum(chances) / len(chances)


def _chance(truth: Tensor, scheme: Scheme, basis: PrototypeBasis) -> float:
    """Share of all places of the region that meet the truth."""
    assert basis.origin.grid is not None
    n_rows, n_columns = basis.origin.grid
    rows = range(n_rows) if scheme != Scheme.TIME else [None]
    columns = range(n_columns) if scheme != Scheme.FREQUENCY else [None]
    places = [_peaks(scheme, row, column, n_columns) for row in rows for column in columns]
    met = [bool((scheme.region(place, n_rows, n_columns, intersection=True).mask(*truth.shape) & truth).any()) for place in places]
    return sum(met) / len(met)


def _peaks(scheme: Scheme, row: int | None, column: int | None, n_columns: int) -> list[int]:
    if scheme is Scheme.SQUARE:
        return [(row or 0) * n_columns + (column or 0)]
    return [place for place in (column, row) if place is not None]  # the order of `Scheme.sequences`
