"""How faithful the methods' maps are in one grid and fill: every measure of a row.

All measures that mask clips come of one table per clip: what the model says of it under each mask that some method asks about. Methods
often agree on which regions come first, so a mask that several ask about, in one measure or another, costs one pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.methods import CLIPS_AT_ONCE
from benchmarks.runs.maps import Summed, status_of
from benchmarks.runs.rows import Cell, Row, numbers
from benchmarks.runs.stage import Stage
from captum_apex.masking.grids import n_regions
from captum_apex.metrics import (
    Curves,
    Fidelity,
    Removal,
    complexity,
    faithfulness_correlation,
    infidelity,
    mixed_outputs,
    random_removals,
    region_shares,
    sparseness,
)

RANDOM_MASKS = 16  # per grid and fill, the same for every method and clip
SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "": lambda logits: logits.softmax(-1),
    "_logit": lambda logits: logits,
    "_sigmoid": lambda logits: logits.sigmoid(),
}
"""Suffix of a column → from logits (..., class) to the score that is followed; all come of the same passes."""


@dataclass(frozen=True)
class Question:
    """What is asked of the model about the map of one method.

    Attributes:
        removal: of the curves.
        shares: how much of each region is left under each mask, (clip, mask, region): those of deletion between its ends, those of
            insertion, the map as a soft mask, and what that leaves out.
    """

    removal: Removal
    shares: Tensor

    @classmethod
    def of(cls, sums: Tensor, grid: Tensor, points: int, seed: int) -> Question:
        """The question about a map with these sums, (clip, region)."""
        removal = Removal.of(sums, grid, points, seed)
        inner, soft = removal.removed[:, 1:-1].double(), region_shares(sums, grid)[:, None]
        return cls(removal, torch.cat([1 - inner, inner, soft, 1 - soft], 1))


def scored(
    stage: Stage, grid_name: str, fill_name: str, maps: Mapping[str, Summed], points: int
) -> dict[str, list[Row]]:
    """The rows of each method's cell of this grid and fill: one per clip, or one that says why there is none.

    Args:
        stage: the clips.
        grid_name: the regions.
        fill_name: what replaces them.
        maps: method → its map's sums for the stage's clips.
        points: of each curve, both ends counted.
    """
    try:
        return _scored(stage, grid_name, fill_name, maps, points)
    except Exception as error:  # the clips that are masked may not fit where the map did
        return {
            name: [row_of(Cell(name, grid_name, fill_name), found, status_of(error))] for name, found in maps.items()
        }


def row_of(cell: Cell, found: Summed, status: str = "") -> Row:
    """A row with what is known of a map before it is scored."""
    return Row(*cell, status or found.status, passes=found.passes, memory=found.memory, seconds=found.seconds)


def _scored(
    stage: Stage, grid_name: str, fill_name: str, maps: Mapping[str, Summed], points: int
) -> dict[str, list[Row]]:
    grid, fill = stage.grid(grid_name), stage.fill(fill_name)
    sums = {name: found.sums.to(stage.inputs.device) for name, found in maps.items() if found.sums is not None}
    questions = {name: Question.of(own, grid, points, stage.seed) for name, own in sums.items()}
    removed = random_removals(n_regions(grid), RANDOM_MASKS, seed=stage.seed).to(grid.device)
    ends = torch.tensor([[1.0], [0.0]], device=grid.device).expand(2, n_regions(grid))
    common = torch.cat([ends, 1.0 - removed.double()]).expand(len(stage.indices), -1, -1)
    shares = torch.cat([common, *(question.shares for question in questions.values())], 1)  # (clip, mask, region)
    # In double precision: of falls and gains where a probability is nearly 1, float32 keeps little.
    logits = asked(stage, fill, grid, shares).double()
    whole, empty, random, *own = logits.split(
        [1, 1, RANDOM_MASKS, *(question.shares.shape[1] for question in questions.values())], 1
    )
    rows = {}
    probabilities = _of_target(torch.cat([whole, random], 1).softmax(-1), stage.target)
    for (name, question), answers in zip(questions.items(), own, strict=True):
        cell = Cell(name, grid_name, fill_name)
        try:
            curves, fidelity = (
                _curves(question.removal, whole, empty, answers, stage.target),
                _fidelity(whole, answers, stage.target),
            )
            agreement = _agreement(probabilities, removed, sums[name])
            columns = {**_areas(curves), **fidelity, **agreement, **_concentration(sums[name]), **maps[name].columns}
            rows[name] = _rows(stage, row_of(cell, maps[name]), curves[""], columns)
        except Exception as error:  # what the model says under this method's masks is no affair of the others
            rows[name] = [row_of(cell, maps[name], status_of(error))]
    return rows


@torch.no_grad()
def asked(stage: Stage, fill: Tensor, grid: Tensor, shares: Tensor) -> Tensor:
    """The logits of every clip under every mask, (clip, mask, class); equal masks of a clip are asked about once.

    Args:
        stage: the clips and the model.
        fill: of the clips' shape.
        grid: the region of each bin, int64 (frequency, time).
        shares: how much of each region is left, float64 in [0, 1], (clip, mask, region).
    """
    return torch.stack([_asked_of_one(stage, i, fill, grid, own) for i, own in enumerate(shares)])


def _asked_of_one(stage: Stage, i: int, fill: Tensor, grid: Tensor, shares: Tensor) -> Tensor:
    unique, place = torch.unique(shares, dim=0, return_inverse=True)
    # Full batches alone: a sum may come out otherwise in a smaller one, and nothing here shall depend on which other methods there are.
    padded = torch.cat([unique, unique[-1:].expand(-len(unique) % CLIPS_AT_ONCE, -1)]).to(fill)
    clips, fills = (each[i : i + 1].expand(CLIPS_AT_ONCE, -1, -1, -1) for each in (stage.inputs, fill))
    logits = []
    for block in padded.split(CLIPS_AT_ONCE):
        per_bin = block.index_select(1, grid.flatten()).reshape(
            -1, 1, *grid.shape
        )  # (mask, region) → (mask, 1, frequency, time)
        logits.append(mixed_outputs(stage.model, clips, fills, per_bin, batch_size=CLIPS_AT_ONCE))
    return torch.cat(logits)[place]


def _curves(removal: Removal, whole: Tensor, empty: Tensor, answers: Tensor, target: Tensor) -> dict[str, Curves]:
    """The curves of every score."""
    down, up = answers[:, :-2].chunk(2, 1)
    logits = torch.cat([whole, down, empty, up], 1)  # as the masks of the removal
    return {suffix: removal.curves(_of_target(score(logits), target)) for suffix, score in SCORES.items()}


def _areas(curves: Mapping[str, Curves]) -> dict[str, Tensor]:
    areas = {f"deletion{suffix}": own.deletion_auc for suffix, own in curves.items()}
    areas |= {f"insertion{suffix}": own.insertion_auc for suffix, own in curves.items()}
    return areas | {"aopc": curves[""].aopc}


def _fidelity(whole: Tensor, answers: Tensor, target: Tensor) -> dict[str, Tensor]:
    outputs, masked_in, masked_out = (logits.softmax(-1) for logits in (whole[:, 0], answers[:, -2], answers[:, -1]))
    return vars(Fidelity.of(outputs, masked_in, masked_out, target))


def _agreement(scores: Tensor, removed: Tensor, sums: Tensor) -> dict[str, Tensor]:
    """What the map says of random removals against what happened; no pass of the model."""
    arguments = (scores[:, 0], scores[:, 1:], removed, sums)
    return {"infidelity": infidelity(*arguments), "correlation": faithfulness_correlation(*arguments)}


def _concentration(sums: Tensor) -> dict[str, Tensor]:
    return {"sparseness": sparseness(sums), "complexity": complexity(sums)}


def _rows(stage: Stage, cell: Row, curves: Curves, columns: Mapping[str, Tensor]) -> list[Row]:
    values = {name: column.double().tolist() for name, column in columns.items()}
    return [
        replace(
            cell,
            clip=stage.indices[i],
            label=stage.labels[i],
            predicted=int(stage.target[i]),
            fraction=numbers(curves.fraction[i].tolist()),
            deletion_curve=numbers(curves.deletion[i].tolist()),
            insertion_curve=numbers(curves.insertion[i].tolist()),
            **{name: column[i] for name, column in values.items()},
        )
        for i in range(len(stage.indices))
    ]


def _of_target(scores: Tensor, target: Tensor) -> Tensor:
    """(clip, point, class) → (clip, point), each clip's own class."""
    return scores.gather(2, target[:, None, None].expand(-1, scores.shape[1], 1))[..., 0]
