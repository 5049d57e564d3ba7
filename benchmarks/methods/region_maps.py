"""From scores of regions, and of a layer's cells, to maps.

One convention for all methods that score regions: a region's score is the *sum* of the map over it, as for methods that score bins, so
each bin gets the score over the region's size. Captum writes the whole score into each bin instead, which would weigh a region by its size;
the sides of a grid's regions differ by one bin at most.
"""

from __future__ import annotations

from captum.attr import LayerAttribution
from torch import Tensor

from benchmarks.methods.registry import Query


def spread(scores: Tensor, grid: Tensor) -> Tensor:
    """A map that sums to the region's score over each region.

    Args:
        scores: (clip, region).
        grid: the region of each bin, int64 (frequency, time).

    Returns:
        Tensor (clip, 1, frequency, time).

    >>> import torch
    >>> spread(torch.tensor([[6.0, 2.0]]), torch.tensor([[0, 0, 1]]))
    tensor([[[[3., 3., 2.]]]])
    """
    return (scores / _sizes(grid))[:, grid][:, None]  # (clip, region) → (clip, 1, frequency, time)


def shared(attributions: Tensor, grid: Tensor) -> Tensor:
    """A map of Captum's, (clip, channel, frequency, time) with a region's score in each of its bins, with the score shared among them."""
    return attributions / (_sizes(grid)[grid] * attributions.shape[1])


def enlarged(at_layer: Tensor, query: Query) -> Tensor:
    """A map on the layer's grid, (clip, 1, row, column), enlarged to the query's inputs, (clip, 1, frequency, time).

    Where these are spectra, the layer's rows are parts of the mel axis and not of theirs. Then the map is enlarged to the mel bands, and
    what is on a band is shared among the bins that lie at the same Hz.
    """
    frequency, time = query.inputs.shape[2:]
    if query.band_shares is None:
        return LayerAttribution.interpolate(at_layer, (frequency, time), "bilinear")
    return query.band_shares @ LayerAttribution.interpolate(at_layer, (query.band_shares.shape[1], time), "bilinear")


def _sizes(grid: Tensor) -> Tensor:
    return grid.flatten().bincount()
