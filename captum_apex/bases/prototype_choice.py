"""The choice of prototypes: the clips that activate each channel most, in banks of any size."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["most_active", "most_active_again"]

_CLIPS_AT_ONCE = 2**13  # bounds, with the number of channels, the activations (clip, channel) in memory
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
    first, *others = means.split(_CLIPS_AT_ONCE)
    levels, clips = _strongest(first, U, n_prototypes)
    for number, block in enumerate(others, start=1):
        levels_of_block, clips_of_block = _strongest(block, U, n_prototypes)
        both = torch.cat([levels, levels_of_block], 1)
        levels, order = both.topk(min(n_prototypes, both.shape[1]), dim=1)
        clips = torch.cat([clips, clips_of_block + number * _CLIPS_AT_ONCE], 1).gather(1, order)
    return clips


@torch.no_grad()
def most_active_again(means: Tensor, U: Tensor, chosen: Tensor, n_prototypes: int) -> Tensor:
    """The clips with the largest activation after a small change of the matrix; of many clips, among those before it.

    Where there are many clips, to compare them all costs more than an epoch of the fit.

    Args:
        means: mean over each clip's grid, (clip, channel).
        U: the matrix after the change, (channel, channel).
        chosen: clips that were chosen before it, int64 (channel, prototype).
        n_prototypes: number of clips per channel, at most as many as were chosen.

    Returns:
        Indices of the clips, best first, int64 (channel, prototype): of all clips in a bank of at most 8192, else of
        the chosen ones.

    Example:
        >>> import torch
        >>> from captum_apex.bases.prototype_choice import most_active_again
        >>> means = torch.tensor([[1.0, 5.0], [2.0, 4.0], [3.0, 6.0]])
        >>> most_active_again(means, -torch.eye(2), torch.tensor([[2, 1], [2, 0]]), n_prototypes=1)
        tensor([[0],
                [1]])
    """
    if len(means) <= _CLIPS_AT_ONCE:
        return most_active(means, U, n_prototypes)
    found = []
    for rows, clips in zip(U.split(_CHANNELS_AT_ONCE), chosen.split(_CHANNELS_AT_ONCE), strict=True):
        levels = torch.einsum("kc,kpc->kp", rows, means[clips])
        found.append(clips.gather(1, levels.topk(n_prototypes, dim=1).indices))
    return torch.cat(found)


def _strongest(means: Tensor, U: Tensor, n_prototypes: int) -> tuple[Tensor, Tensor]:
    """The largest activations of each channel, and their clips, both (channel, prototype), best first."""
    count = min(n_prototypes, len(means))
    # (clip, channel) → (channel, prototype) for each block of channels
    found = [(means @ rows.T).T.contiguous().topk(count, dim=1) for rows in U.split(_CHANNELS_AT_ONCE)]
    return torch.cat([levels for levels, _ in found]), torch.cat([clips for _, clips in found])
