"""From scores of regions to maps.

One convention for all methods that score regions: a region's score is the *sum* of the map over it, as for methods that score bins, so
each bin gets the score over the region's size. Captum writes the whole score into each bin instead, which would weigh a region by its size;
the sides of a grid's regions differ by one bin at most.
"""

from __future__ import annotations

from torch import Tensor


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
    """A map of Captum's, (clip, 1, frequency, time) with a region's score in each of its bins, with the score shared among them instead."""
    return attributions / _sizes(grid)[grid]


def _sizes(grid: Tensor) -> Tensor:
    return grid.flatten().bincount()
