"""What every method has to beat, and what none can: maps that do not look at the model, and an oracle that asks it about everything."""

from __future__ import annotations

import torch
from captum.attr import LayerActivation
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from benchmarks.methods.region_maps import spread
from benchmarks.methods.registry import CLIPS_AT_ONCE, Query, method
from captum_apex.masking.grids import n_regions
from captum_apex.metrics import masked_scores


@method("random")
def _random(query: Query) -> Tensor:
    return torch.rand(query.inputs.shape).to(query.inputs)


@method("blurred random")
def _blurred_random(query: Query) -> Tensor:
    """Noise as smooth as a map enlarged from the layer's grid, by a Gaussian of half a cell: some measures reward smoothness alone."""
    cells = LayerActivation(query.model, query.layer).attribute(query.inputs[:1]).shape[2:]
    half = [bins / size / 2 for bins, size in zip(query.inputs.shape[2:], cells, strict=True)]
    noise = torch.randn(query.inputs.shape).numpy()
    return torch.from_numpy(gaussian_filter(noise, (0, 0, *half))).to(query.inputs)


@method("energy")
def _energy(query: Query) -> Tensor:
    """How far each bin is above silence, in the model's own units (decibels over a constant); of spectra the magnitude."""
    return query.inputs - query.silence if query.band_shares is None else query.inputs.norm(dim=1, keepdim=True)


@method("greedy oracle", uses_fill=True, uses_grid=True, default=False)
def _greedy_oracle(query: Query) -> Tensor:
    """The order that serves both curves best, one region at a time; a bound to look at, not to compete with.

    The next region is the one with which the regions so far, alone in the fill, leave the class's probability highest above that of the
    clip without them. It takes n·(n + 1) passes per clip for n regions. A region's score is n less its place in the order.
    """
    regions = n_regions(query.grid)
    chosen = torch.zeros(len(query.inputs), regions, dtype=torch.bool, device=query.inputs.device)
    scores = torch.zeros(chosen.shape, device=query.inputs.device)
    for rank in range(regions):
        left = (~chosen).nonzero()[:, 1].reshape(len(chosen), -1)  # (clip, candidate): as many for each clip
        with_one = chosen[:, None] | nn.functional.one_hot(left, regions).bool()  # (clip, candidate, region)
        best = left.gather(1, _gap(query, with_one).argmax(1, keepdim=True))
        chosen.scatter_(1, best, True)
        scores.scatter_(1, best, float(regions - rank))
    return spread(scores, query.grid)


def _gap(query: Query, chosen: Tensor) -> Tensor:
    """The class's probability with the chosen regions alone, less that without them, (clip, candidate)."""
    probability = nn.Sequential(query.model, nn.Softmax(1))
    removed = torch.cat([~chosen, chosen], 1)
    alone, without = masked_scores(
        probability, query.inputs, query.fill, removed, query.grid, query.target, batch_size=CLIPS_AT_ONCE
    ).chunk(2, 1)
    return alone - without
