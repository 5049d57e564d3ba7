"""Scores of the methods' maps in one region grid and fill: every measure of a row.

All measures that mask clips are computed from one table per clip: the logits under each mask that some method needs.
Methods often agree on which regions come first, so a mask that several methods or measures need costs one forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from benchmarks.methods import CLIPS_AT_ONCE
from benchmarks.runs.maps import RegionSums, status_of
from benchmarks.runs.rows import Cell, Row, numbers
from benchmarks.runs.stage import SEGMENTS, Stage
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

RANDOM_MASKS = 16  # masks per region grid and fill, the same for every method and clip
SCORES: dict[str, Callable[[Tensor], Tensor]] = {
    "": lambda logits: logits.softmax(-1),
    "_logit": lambda logits: logits,
    "_sigmoid": lambda logits: logits.sigmoid(),
}
"""Suffix of a column → function from logits (..., class) to the scores of the curves; all use the same passes."""


@dataclass(frozen=True)
class MethodMasks:
    """The masks that the measures need for the map of one method.

    Attributes:
        removal: the steps of the deletion and insertion curves.
        shares: the share of each region that is left under each mask, in [0, 1], (clip, mask, region): the masks of
            deletion without its ends, those of insertion, the map as a soft mask, and the complement of the soft mask.
    """

    removal: Removal
    shares: Tensor

    @classmethod
    def of(cls, sums: Tensor, grid: Tensor, points: int, seed: int, *, by_mean: bool = False) -> MethodMasks:
        """The masks for a map with these sums over its regions, (clip, region), ranked by them or by the means."""
        sizes = grid.flatten().bincount().to(sums)
        removal = Removal.of(sums / sizes if by_mean else sums, grid, points, seed)
        inner = removal.removed[:, 1:-1].double()  # (clip, mask, region)
        soft = region_shares(sums, grid)[:, None]  # (clip, region) → (clip, 1, region)
        return cls(removal, torch.cat([1 - inner, inner, soft, 1 - soft], 1))


def score_methods(
    stage: Stage, grid_name: str, fill_name: str, maps: Mapping[str, RegionSums], points: int
) -> dict[str, list[Row]]:
    """The rows of each method's cell of this region grid and fill: one per clip, or a single one with the reason.

    Args:
        stage: the clips.
        grid_name: name of the region grid.
        fill_name: name of the fill that replaces regions.
        maps: name of a method → sums of its maps for the clips of the stage.
        points: number of points of each curve, including both ends.
    """
    try:
        if grid_name in SEGMENTS:
            return _score_each_clip(stage, grid_name, fill_name, maps, points)
        return _score_methods(stage, stage.grid(grid_name), (grid_name, fill_name), maps, points)
    except Exception as error:  # memory that was enough for the maps may not be enough for the masked clips
        return {name: [row_of(Cell(name, grid_name, fill_name), sums, status_of(error))] for name, sums in maps.items()}


def row_of(cell: Cell, sums: RegionSums, status: str = "") -> Row:
    """A row with what is known of a map before it is scored: its status, or the given one, and its price."""
    return Row(*cell, status or sums.status, passes=sums.passes, memory=sums.memory, seconds=sums.seconds)


def _score_each_clip(
    stage: Stage, grid_name: str, fill_name: str, maps: Mapping[str, RegionSums], points: int
) -> dict[str, list[Row]]:
    """The rows of clips with grids of their own: one clip after the other, since they differ in the number of regions.

    If a method fails on a clip, the row with the reason is its only one.
    """
    rows: dict[str, list[Row]] = {name: [] for name in maps}
    for selection, clip in stage.batches(1):
        grid = clip.grid(grid_name)[0]
        own = {name: each.clips(selection, n_regions(grid)) for name, each in maps.items()}
        for name, of_clip in _score_methods(clip, grid, (grid_name, fill_name), own, points).items():
            rows[name] += of_clip
    return {name: next(([row] for row in of_method if row.clip < 0), of_method) for name, of_method in rows.items()}


def _score_methods(
    stage: Stage, grid: Tensor, names: tuple[str, str], maps: Mapping[str, RegionSums], points: int
) -> dict[str, list[Row]]:
    """The rows in a region grid; `names` are those of the grid and of the fill."""
    grid_name, fill_name = names
    fill = stage.fill(fill_name)
    sums = {name: each.sums.to(stage.inputs.device) for name, each in maps.items() if each.sums is not None}
    masks_of = partial(MethodMasks.of, grid=grid, points=points, seed=stage.seed, by_mean=grid_name == "segment-means")
    masks = {name: masks_of(of_method) for name, of_method in sums.items()}
    removed = random_removals(n_regions(grid), RANDOM_MASKS, seed=stage.seed).to(grid.device)
    ends = torch.tensor([[1.0], [0.0]], device=grid.device).expand(2, n_regions(grid))
    common = torch.cat([ends, 1.0 - removed.double()]).expand(len(stage.indices), -1, -1)
    shares = torch.cat([common, *(each.shares for each in masks.values())], 1)  # (clip, mask, region)
    # In double precision: if a probability is nearly 1, float32 rounds away most of its falls and gains.
    logits = masked_logits(stage, fill, grid, shares).double()
    sizes = [each.shares.shape[1] for each in masks.values()]
    whole, empty, random, *logits_of_methods = logits.split([1, 1, RANDOM_MASKS, *sizes], 1)
    probabilities = _of_target(torch.cat([whole, random], 1).softmax(-1), stage.target)
    rows = {}
    for (name, method_masks), masked in zip(masks.items(), logits_of_methods, strict=True):
        cell = Cell(name, grid_name, fill_name)
        try:
            curves = _curves(method_masks.removal, whole, empty, masked, stage.target)
            fidelity = _fidelity(whole, masked, stage.target)
            agreement = _agreement(probabilities, removed, sums[name])
            columns = {**_areas(curves), **fidelity, **agreement, **_concentration(sums[name]), **maps[name].columns}
            rows[name] = _rows(stage, row_of(cell, maps[name]), curves[""], columns)
        except Exception as error:  # a failure under this method's masks does not concern the other methods
            rows[name] = [row_of(cell, maps[name], status_of(error))]
    return rows


@torch.no_grad()
def masked_logits(stage: Stage, fill: Tensor, grid: Tensor, shares: Tensor) -> Tensor:
    """The logits of every clip under every mask, (clip, mask, class); equal masks of a clip cost one forward pass.

    Args:
        stage: the clips and the model.
        fill: the values that replace regions, of the shape of the inputs.
        grid: the region of each bin, int64 (frequency, time).
        shares: the share of each region that is left, float64 in [0, 1], (clip, mask, region).
    """
    return torch.stack([_masked_logits_of_clip(stage, i, fill, grid, masks) for i, masks in enumerate(shares)])


def _masked_logits_of_clip(stage: Stage, i: int, fill: Tensor, grid: Tensor, shares: Tensor) -> Tensor:
    unique, place = torch.unique(shares, dim=0, return_inverse=True)
    # All batches are full: a smaller batch may round sums differently, and the scores of a method must not depend on
    # which other methods are scored with it.
    padded = torch.cat([unique, unique[-1:].expand(-len(unique) % CLIPS_AT_ONCE, -1)]).to(fill)
    clips, fills = (each[i : i + 1].expand(CLIPS_AT_ONCE, -1, -1, -1) for each in (stage.inputs, fill))
    logits = []
    for block in padded.split(CLIPS_AT_ONCE):
        # (mask, region) → (mask, 1, frequency, time)
        per_bin = block.index_select(1, grid.flatten()).reshape(-1, 1, *grid.shape)
        logits.append(mixed_outputs(stage.model, clips, fills, per_bin, batch_size=CLIPS_AT_ONCE))
    return torch.cat(logits)[place]


def _curves(removal: Removal, whole: Tensor, empty: Tensor, masked: Tensor, target: Tensor) -> dict[str, Curves]:
    """The curves of every score in `SCORES`."""
    deleted, inserted = masked[:, :-2].chunk(2, 1)
    logits = torch.cat([whole, deleted, empty, inserted], 1)  # in the order of the masks of the removal
    return {suffix: removal.curves(_of_target(score(logits), target)) for suffix, score in SCORES.items()}


def _areas(curves: Mapping[str, Curves]) -> dict[str, Tensor]:
    areas = {f"deletion{suffix}": each.deletion_auc for suffix, each in curves.items()}
    areas |= {f"insertion{suffix}": each.insertion_auc for suffix, each in curves.items()}
    return areas | {"aopc": curves[""].aopc}


def _fidelity(whole: Tensor, masked: Tensor, target: Tensor) -> dict[str, Tensor]:
    """The measures of the soft mask, whose logits and those of its complement are the last two of `masked`."""
    outputs, masked_in, masked_out = (logits.softmax(-1) for logits in (whole[:, 0], masked[:, -2], masked[:, -1]))
    return vars(Fidelity.of(outputs, masked_in, masked_out, target))


def _agreement(scores: Tensor, removed: Tensor, sums: Tensor) -> dict[str, Tensor]:
    """How well the map predicts the measured change under random removals; needs no further pass of the model."""
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
    """The scores of each clip's target: (clip, point, class) → (clip, point)."""
    return scores.gather(2, target[:, None, None].expand(-1, scores.shape[1], 1))[..., 0]
