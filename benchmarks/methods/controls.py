"""Controls: maps that do not depend on the model, as a lower bound, and a greedy search, as an upper bound."""

from __future__ import annotations

import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from benchmarks.methods.query import CLIPS_AT_ONCE, Query, features_of
from benchmarks.methods.region_maps import spread
from benchmarks.methods.registry import method
from captum_apex.masking.grids import n_regions
from captum_apex.metrics import masked_scores


@method("random")
def _random(query: Query) -> Tensor:
    return torch.rand(query.inputs.shape).to(query.inputs)


@method("blurred random")
def _blurred_random(query: Query) -> Tensor:
    """Noise that is as smooth as a map enlarged from the layer's grid, since some measures reward smoothness alone.

    The standard deviation of the Gaussian filter is half a cell of the layer.
    """
    n_rows, n_columns = features_of(query, query.inputs[:1]).shape[2:]
    lines = (query.places.rows(n_rows), query.places.columns(n_columns))
    half = [line.step / line.size * bins / 2 for bins, line in zip(query.inputs.shape[2:], lines, strict=True)]
    noise = torch.randn(query.inputs.shape).numpy()
    return torch.from_numpy(gaussian_filter(noise, (0, 0, *half))).to(query.inputs)


@method("energy")
def _energy(query: Query) -> Tensor:
    """The level of each bin above silence, in the units of the inputs (decibels over a constant); or its magnitude."""
    is_level = query.band_shares is None and query.inputs.shape[2] > 1  # not a spectrum or a waveform
    return query.inputs - query.silence if is_level else query.inputs.norm(dim=1, keepdim=True)


@method("greedy oracle", uses_fill=True, uses_grid=True, default=False)
def _greedy_oracle(query: Query) -> Tensor:
    """A greedy search for the order of the regions that is best for the deletion and the insertion curve.

    In each step it adds the region that makes the difference of two probabilities of the class largest: that of the
    selected regions alone in the fill, minus that of the clip without them. For n regions this takes n·(n + 1) passes
    per clip. The score of a region is n minus its index in the order.
    """
    regions = n_regions(query.grid)
    chosen = torch.zeros(len(query.inputs), regions, dtype=torch.bool, device=query.inputs.device)
    scores = torch.zeros(chosen.shape, device=query.inputs.device)
    for rank in range(regions):
        candidates = (~chosen).nonzero()[:, 1].reshape(len(chosen), -1)  # (clip, candidate): equally many for each clip
        extended = chosen[:, None] | nn.functional.one_hot(candidates, regions).bool()  # (clip, candidate, region)
        best = candidates.gather(1, _probability_difference(query, extended).argmax(1, keepdim=True))
        chosen.scatter_(1, best, True)
        scores.scatter_(1, best, float(regions - rank))
    return spread(scores, query.grid)


def _probability_difference(query: Query, chosen: Tensor) -> Tensor:
    """The probability of the class with the chosen regions alone, minus that without them, (clip, candidate)."""
    probability = nn.Sequential(query.model, nn.Softmax(1))
    removed = torch.cat([~chosen, chosen], 1)
    alone, without = masked_scores(
        probability, query.inputs, query.fill, removed, query.grid, query.target, batch_size=CLIPS_AT_ONCE
    ).chunk(2, 1)
    return alone - without
