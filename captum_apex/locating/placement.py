"""The same mask at random places of the clip."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["elsewhere"]


def elsewhere(mask: Tensor, generator: torch.Generator) -> Tensor:
    """The same bins at a random place: as many bins in the same shapes.

    The mask is shifted cyclically as a whole. All shifts for which the edge of the clip cuts no box in two are equally
    likely; the mask itself is possible only where there is no other place. A strip moves along time only, a band along
    frequency only: a mask that covers an axis from end to end does not move along it.

    Args:
        mask: bool (frequency, time).
        generator: random number generator that draws the place.

    Returns:
        bool tensor (frequency, time).

    Example:
        >>> import torch
        >>> from captum_apex.locating.placement import elsewhere
        >>> elsewhere(torch.tensor([[True, False]]), torch.Generator().manual_seed(0))
        tensor([[False,  True]])
    """
    rows = _first_bins(mask, 0)
    columns = _first_bins(mask, 1)
    n_places = len(rows) * len(columns)
    drawn = int(torch.randint(1, n_places, (1,), generator=generator)) if n_places > 1 else 0
    # A mask that repeats itself, such as a rhythm, is the same after a shift by its period: the next place is taken.
    for place in (*range(drawn, n_places), *range(1, drawn)):
        row = int(rows[place // len(columns)])
        column = int(columns[place % len(columns)])
        shifted = mask.roll((-row, -column), (0, 1))
        if not torch.equal(shifted, mask):
            return shifted
    return mask.clone()


def _first_bins(mask: Tensor, axis: int) -> Tensor:
    """The bins that may become the first of an axis in a cyclic shift that cuts no box in two; bin 0 comes first."""
    continues_box = (mask & mask.roll(1, axis)).any(1 - axis)  # the bin before is masked as well
    continues_box[0] = False
    return (~continues_box).nonzero()[:, 0]
