"""Where maps and regions lie, where the truth is known."""

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

N_LOCATED = 40  # clips per perspective whose evidence is compared with the truth


# --- truth ----------------------------------------------------------------------------------------------------------------

TRUTH_COLUMNS = ("scheme", "channel", "enlarged", "integrated", "random", "clips")


def truth_table(subject: Subject) -> pd.DataFrame:
    """How often the evidence meets the truth, one line per scheme, over test clips of the classes made for it.

    Returns:
        Shares of clips. `channel`: the strongest channel's region (a cell, a strip, a band, or where strip and band cross) has a bin in
        common with the truth. `enlarged`: the place where the enlarged map of five channels is largest has one. `integrated`: likewise for
        the five channels' map through Integrated Gradients, against the clip's mean per band. `random`: chance, exactly: the mean over all
        places of the same shape. No lines where no truth is known.
    """
    task = subject.task
    if task.truth is None or not task.perspectives:
        return pd.DataFrame(columns=TRUTH_COLUMNS)
    indices, inputs = subject.test_clips(len(task.test))
    made_for = [task.perspectives.get(task.classes[task.test[index][1]]) for index in indices]
    lines = []
    for scheme in subject.bases:
        own = [i for i, perspective in enumerate(made_for) if perspective == scheme][:N_LOCATED]
        if own:
            met = _on_truth(subject, scheme, inputs[own], [task.truth(indices[i]) for i in own])
            lines.append({"scheme": str(scheme), **met, "clips": len(own)})
    return pd.DataFrame(lines, columns=TRUTH_COLUMNS)


def _on_truth(subject: Subject, scheme: Scheme, clips: Tensor, truths: Sequence[Tensor]) -> dict[str, float]:
    basis, at_layer = subject.bases[scheme], LayerAPEX(subject.model, subject.layer, subject.bases[scheme])
    with torch.no_grad():
        target = subject.model(clips).argmax(1)
    projections = {"enlarged": None, "integrated": partial(integrated, baseline=mean_fill(clips))}
    maps = {
        name: APEX(subject.model, subject.layer, basis, projection=way).attribute(clips, target)
        for name, way in projections.items()
    }
    regions = [
        found.evidence[0].region if found.evidence else Region(())
        for found in explain(at_layer, clips, n_channels=1, n_prototypes=1, intersection=True)
    ]
    shares = {name: _share_met(_strongest_places(found, scheme, basis), truths) for name, found in maps.items()}
    chances = [_chance(truth, scheme, basis) for truth in truths]
    return {"channel": _share_met(regions, truths), **shares, "random": sum(chances) / len(chances)}


def _strongest_places(maps: Tensor, scheme: Scheme, basis: PrototypeBasis) -> list[Region]:
    """Where each map (clip, 1, mel, frame) is largest, in the cells that the scheme sees on the layer's grid."""
    n_rows, n_columns = _grid(basis)
    cells = scheme.cells(F.adaptive_avg_pool2d(maps, (n_rows, n_columns)))
    peaks = torch.stack([sequence[:, 0].argmax(1) for sequence in cells], 1)  # (clip, sequence)
    return [
        scheme.region(place, n_rows, n_columns, intersection=True)
        if own.any()
        else Region(())  # no evidence points nowhere
        for place, own in zip(peaks.tolist(), maps, strict=True)
    ]


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
    places = [
        scheme.region(cells(row, column), n_rows, n_columns, intersection=True) for row in rows for column in columns
    ]
    return _share_met(places, [truth] * len(places))


def _grid(basis: PrototypeBasis) -> tuple[int, int]:
    assert basis.origin.grid is not None  # a fitted basis knows its grid; for the type checker
    return basis.origin.grid
