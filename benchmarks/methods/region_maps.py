"""Maps made of scores of regions, and of maps on a layer's grid.

For all methods, the score of a region is the *sum* of the map over the region. So a method that scores regions gives
each bin the score divided by the number of bins in the region. Captum writes the whole score into each bin instead,
which would weight a region by its size; the regions of a grid differ by at most one bin along each axis.
"""

from __future__ import annotations

from torch import Tensor

from benchmarks.methods.query import Query
from captum_apex.attribution import projection


def spread(scores: Tensor, grid: Tensor) -> Tensor:
    """A map with the score of each region as its sum over the region.

    Args:
        scores: score of each region, (clip, region).
        grid: the region of each bin, int64 (frequency, time).

    Returns:
        Tensor (clip, 1, frequency, time).

    Example:
        >>> import torch
        >>> spread(torch.tensor([[6.0, 2.0]]), torch.tensor([[0, 0, 1]]))
        tensor([[[[3., 3., 2.]]]])
    """
    return (scores / _sizes(grid))[:, grid][:, None]  # (clip, region) → (clip, 1, frequency, time)


def shared(attributions: Tensor, grid: Tensor) -> Tensor:
    """A map of Captum's, with the score of each region divided among its bins.

    Args:
        attributions: a map with the whole score of the region in each bin, (clip, channel, frequency, time).
        grid: the region of each bin, int64 (frequency, time).
    """
    return attributions / (_sizes(grid)[grid] * attributions.shape[1])


def enlarged(at_layer: Tensor, query: Query) -> Tensor:
    """A map on the layer's grid, (clip, 1, row, column), enlarged to the query's inputs, (clip, 1, frequency, time).

    All methods share this function and the enlarged maps of `APEX`: each cell stands at its place on the input, which
    `query.places` knows, and between cells the map is linear.

    If the inputs are spectra, the rows of the layer divide the mel axis and not the frequency axis of the inputs. Then
    the map is enlarged to the mel bands, and the value of a band is divided among the bins at the same frequencies in
    Hz.
    """
    frequency, time = query.inputs.shape[2:]
    bands = frequency if query.band_shares is None else query.band_shares.shape[1]
    log_mels = at_layer.new_empty(1).expand(len(at_layer), 1, bands, time)  # only their shape counts
    large = projection.enlarged(at_layer[:, 0], log_mels, "n c f t", query.places)
    return large if query.band_shares is None else query.band_shares @ large


def _sizes(grid: Tensor) -> Tensor:
    return grid.flatten().bincount()
