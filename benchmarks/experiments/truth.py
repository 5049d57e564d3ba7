"""Whether maps and regions point at the place of the class event, on tasks for which that place is known."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.methods.prototype_maps import integrated
from benchmarks.runs.subject import Subject
from captum_apex import APEX, LayerAPEX, PrototypeBasis, Region, Scheme, explain
from captum_apex.masking.fills import mean_fill

N_LOCATED = 40  # at most so many clips per scheme
TRUTH_COLUMNS = ("scheme", "channel", "enlarged", "integrated", "random", "clips")


def truth_table(subject: Subject) -> pd.DataFrame:
    """How often a map or region meets the known truth, one line per scheme, over test clips of the classes made for it.

    Args:
        subject: the classifier and its bases.

    Returns:
        Shares of clips in which a place has a bin in common with the truth; no lines where the truth is not known.

        - `channel`: the strongest channel's region (a cell, a strip, a band, or the crossing of a strip and a band).
        - `enlarged`: the place where the enlarged map of five channels is largest.
        - `integrated`: the place where the map of five channels through Integrated Gradients is largest, with the
          clip's mean per band as the baseline.
        - `random`: a random place of the same shape, exactly: the mean over all such places.
        - `clips`: number of clips.
    """
    task = subject.task
    if task.truth is None or not task.perspectives:
        return pd.DataFrame(columns=TRUTH_COLUMNS)
    indices, inputs = subject.test_clips(len(task.test))
    made_for = [task.perspectives.get(task.classes[task.test[index][1]]) for index in indices]
    lines = []
    for scheme in subject.bases:
        chosen = [i for i, made_for_scheme in enumerate(made_for) if made_for_scheme == scheme][:N_LOCATED]
        if chosen:
            shares = _shares_on_truth(subject, scheme, inputs[chosen], [task.truth(indices[i]) for i in chosen])
            lines.append({"scheme": str(scheme), **shares, "clips": len(chosen)})
    return pd.DataFrame(lines, columns=TRUTH_COLUMNS)


def _shares_on_truth(subject: Subject, scheme: Scheme, clips: Tensor, truths: Sequence[Tensor]) -> dict[str, float]:
    basis = subject.bases[scheme]
    at_layer = LayerAPEX(subject.model, subject.layer, basis)
    with torch.no_grad():
        target = subject.model(clips).argmax(1)
    projections = {"enlarged": None, "integrated": partial(integrated, baseline=mean_fill(clips))}
    maps = {
        name: APEX(subject.model, subject.layer, basis, projection=projection).attribute(clips, target)
        for name, projection in projections.items()
    }
    regions = [
        explanation.evidence[0].region if explanation.evidence else Region(())
        for explanation in explain(at_layer, clips, n_channels=1, n_prototypes=1, search=None)
    ]
    shares = {name: _share_met(_strongest_places(values, scheme, basis), truths) for name, values in maps.items()}
    chances = [_chance(truth, scheme, basis) for truth in truths]
    return {"channel": _share_met(regions, truths), **shares, "random": sum(chances) / len(chances)}


def _strongest_places(maps: Tensor, scheme: Scheme, basis: PrototypeBasis) -> list[Region]:
    """Where each map (clip, 1, mel, frame) is largest, as a region of the scheme on the layer's grid."""
    n_rows, n_columns = _grid(basis)
    cells = scheme.cells(F.adaptive_avg_pool2d(maps, (n_rows, n_columns)))
    peaks = torch.stack([sequence[:, 0].argmax(1) for sequence in cells], 1)  # (clip, sequence)
    return [
        scheme.region(place, n_rows, n_columns, intersection=True)
        if values.any()
        else Region(())  # a map of zeros points nowhere
        for place, values in zip(peaks.tolist(), maps, strict=True)
    ]


def _share_met(regions: Sequence[Region], truths: Sequence[Tensor]) -> float:
    """Share of clips whose region has a bin in common with the truth."""
    met = [bool((region.mask(*truth.shape) & truth).any()) for region, truth in zip(regions, truths, strict=True)]
    return sum(met) / len(met)


def _chance(truth: Tensor, scheme: Scheme, basis: PrototypeBasis) -> float:
    """Of all places of a region of the scheme's shape, the share that meets the truth."""
    n_rows, n_columns = _grid(basis)
    rows = range(n_rows) if scheme != Scheme.TIME else [0]
    columns = range(n_columns) if scheme != Scheme.FREQUENCY else [0]
    cells = {
        Scheme.SQUARE: lambda row, column: [row * n_columns + column],
        Scheme.TIME: lambda _, column: [column],
        Scheme.FREQUENCY: lambda row, _: [row],
        Scheme.TIME_FREQUENCY: lambda row, column: [column, row],  # in the order of the scheme's sequences
    }[scheme]
    places = [
        scheme.region(cells(row, column), n_rows, n_columns, intersection=True) for row in rows for column in columns
    ]
    return _share_met(places, [truth] * len(places))


def _grid(basis: PrototypeBasis) -> tuple[int, int]:
    assert basis.origin.grid is not None  # always set in a fitted basis; this line is for the type checker
    return basis.origin.grid
