"""How faithful a map is in one cell: every measure of a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from benchmarks.maps import Map, status_of
from benchmarks.methods import CLIPS_AT_ONCE
from benchmarks.rows import Row, numbers
from benchmarks.stage import Reference, Stage
from captum_apex.masking import region_sums
from captum_apex.metrics import (
    Curves,
    complexity,
    deletion_sequence,
    faithfulness_correlation,
    infidelity,
    mask_fidelity,
    masked_outputs,
    pointing_game,
    relevance_mass,
    soft_mask,
    sparseness,
)

SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "": lambda logits: logits.softmax(-1),
    "_logit": lambda logits: logits,
    "_sigmoid": lambda logits: logits.sigmoid(),
}
"""Suffix of a column → from logits (..., class) to the score that is followed; all come of the same passes."""


def scored(stage: Stage, found: Map, method: str, grid_name: str, fill_name: str, points: int) -> list[Row]:
    """The rows of one cell: one per clip, or one that says why there is none."""
    price = {"passes": found.passes, "memory": found.memory, "seconds": found.seconds}
    cell = Row(method, grid_name, fill_name, found.status, **price)  # type: ignore[arg-type]  # they are numbers
    if found.attributions is None:
        return [cell]
    try:
        return _rows(stage, found, found.attributions, cell, points)
    except Exception as error:  # the clips that are masked may not fit where the map did
        return [replace(cell, status=status_of(error))]


def _rows(stage: Stage, found: Map, attributions: Tensor, cell: Row, points: int) -> list[Row]:
    grid_name, fill_name = cell.grid, cell.fill
    grid, fill, reference = stage.grid(grid_name), stage.fill(fill_name), stage.observed(grid_name, fill_name)
    sums = region_sums(attributions, grid)
    curves = _curves(stage, attributions, grid, fill, reference, points)
    columns = {
        **_areas(curves),
        **_fidelity(stage, attributions, grid, fill, reference),
        **_agreement(stage, sums, reference),
        **_places(stage, attributions),
        "sparseness": sparseness(sums),
        "complexity": complexity(sums),
        "sensitivity": found.sensitivity,
    }
    values = {name: column.double().tolist() for name, column in columns.items() if column is not None}
    return [
        replace(
            cell,
            clip=stage.indices[i],
            label=stage.labels[i],
            predicted=int(stage.target[i]),
            fraction=numbers(curves[""].fraction[i].tolist()),
            deletion_curve=numbers(curves[""].deletion[i].tolist()),
            insertion_curve=numbers(curves[""].insertion[i].tolist()),
            **{name: column[i] for name, column in values.items()},
        )
        for i in range(len(stage.indices))
    ]


def _curves(stage: Stage, attributions: Tensor, grid: Tensor, fill: Tensor, reference: Reference, points: int) -> dict[str, Curves]:
    """The curves of every score: the model is asked for the points between the ends, which all methods share."""
    removal = deletion_sequence(stage.inputs, attributions, grid, points, stage.seed)
    inner = removal.removed[:, 1:-1]
    outputs = masked_outputs(stage.model, stage.inputs, fill, torch.cat([inner, ~inner], 1), grid, batch_size=CLIPS_AT_ONCE)
    down, up = outputs[:, : inner.shape[1]], outputs[:, inner.shape[1] :]
    logits = torch.cat([reference.whole[:, None], down, reference.empty[:, None], up], 1)  # as the masks of the removal
    return {suffix: removal.curves(_of_target(score(logits), stage.target)) for suffix, score in SCORES.items()}


def _areas(curves: dict[str, Curves]) -> dict[str, Tensor]:
    areas = {f"deletion{suffix}": own.deletion_auc for suffix, own in curves.items()}
    areas |= {f"insertion{suffix}": own.insertion_auc for suffix, own in curves.items()}
    return areas | {"aopc": curves[""].aopc}


def _fidelity(stage: Stage, attributions: Tensor, grid: Tensor, fill: Tensor, reference: Reference) -> dict[str, Tensor]:
    probability = nn.Sequential(stage.model, _Probability()).eval()
    mask, whole = soft_mask(attributions, grid), reference.whole.double().softmax(1)
    found = mask_fidelity(probability, stage.inputs, mask, fill, target=stage.target, outputs=whole, batch_size=CLIPS_AT_ONCE)
    names = ("average_drop", "average_increase", "average_gain", "faithfulness", "input_fidelity")
    return {name: getattr(found, name) for name in names}


class _Probability(nn.Module):
    """Softmax in double precision: a gain is relative to 1 − p, of which float32 keeps little where p is nearly 1."""

    def forward(self, logits: Tensor) -> Tensor:
        return logits.double().softmax(1)


def _agreement(stage: Stage, sums: Tensor, reference: Reference) -> dict[str, Tensor]:
    """What the map says of random removals against what happened; no pass of the model."""
    logits = torch.cat([reference.whole[:, None], reference.random], 1)
    scores = _of_target(logits.softmax(-1), stage.target)
    arguments = (scores[:, 0], scores[:, 1:], reference.removed, sums)
    return {"infidelity": infidelity(*arguments), "correlation": faithfulness_correlation(*arguments)}


def _places(stage: Stage, attributions: Tensor) -> dict[str, Tensor | None]:
    if stage.truth is None:
        return {"pointing": None, "relevance_mass": None}
    truth = stage.truth.to(attributions.device)
    return {"pointing": pointing_game(attributions, truth), "relevance_mass": relevance_mass(attributions, truth)}


def _of_target(scores: Tensor, target: Tensor) -> Tensor:
    """(clip, point, class) → (clip, point), each clip's own class."""
    return scores.gather(2, target[:, None, None].expand(-1, scores.shape[1], 1))[..., 0]
