"""The choice of prototypes: the clips that activate each channel most, in banks of any size."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["CLIPS_AT_ONCE", "activations_of", "most_active"]

CLIPS_AT_ONCE = 2**13
"""Number of clips that are compared at a time; it bounds the activations (clip, channel) in memory."""

_CHANNELS_AT_ONCE = 64


@torch.no_grad()
def most_active(means: Tensor, U: Tensor, n_prototypes: int) -> Tensor:
    """The clips with the largest activation of each channel.

    The clips are taken in blocks, each for all channels, so that the means are read once.

    Args:
        means: mean over each clip's grid, (clip, channel).
        U: matrix of the basis, (channel, channel); negated for the negative side.
        n_prototypes: number of clips per channel.

    Returns:
        Indices of the clips, best first, int64 (channel, prototype).

    Example:
        >>> import torch
        >>> from captum_apex.bases.prototype_choice import most_active
        >>> most_active(torch.tensor([[1.0, 5.0], [2.0, 4.0], [3.0, 6.0]]), torch.eye(2), n_prototypes=2)
        tensor([[2, 1],
                [2, 0]])
    """
    first, *others = means.split(CLIPS_AT_ONCE)
    levels, clips = _strongest(first, U, n_prototypes)
    for number, block in enumerate(others, start=1):
        levels_of_block, clips_of_block = _strongest(block, U, n_prototypes)
        both = torch.cat([levels, levels_of_block], 1)
        levels, order = both.topk(min(n_prototypes, both.shape[1]), dim=1)
        clips = torch.cat([clips, clips_of_block + number * CLIPS_AT_ONCE], 1).gather(1, order)
    return clips


@torch.no_grad()
def activations_of(means: Tensor, U: Tensor, chosen: Tensor) -> Tensor:
    """The activation of each channel in some clips.

    Args:
        means: mean over each clip's grid, (clip, channel).
        U: matrix of the basis, (channel, channel).
        chosen: clips of each channel, int64 (channel, prototype).

    Returns:
        Tensor (channel, prototype).

    Example:
        >>> import torch
        >>> from captum_apex.bases.prototype_choice import activations_of
        >>> activations_of(torch.tensor([[1.0, 5.0], [2.0, 4.0], [3.0, 6.0]]), torch.eye(2), torch.tensor([[2], [0]]))
        tensor([[3.],
                [5.]])
    """
    blocks = zip(U.split(_CHANNELS_AT_ONCE), chosen.split(_CHANNELS_AT_ONCE), strict=True)
    return torch.cat([torch.einsum("kc,kpc->kp", rows, means[clips]) for rows, clips in blocks])


def _strongest(means: Tensor, U: Tensor, n_prototypes: int) -> tuple[Tensor, Tensor]:
    """The largest activations of each channel, and their clips, both (channel, prototype), best first."""
    count = min(n_prototypes, len(means))
    # (clip, channel) → (channel, prototype) for each block of channels
    found = [(means @ rows.T).T.contiguous().topk(count, dim=1) for rows in U.split(_CHANNELS_AT_ONCE)]
    return torch.cat([levels for levels, _ in found]), torch.cat([clips for _, clips in found])
