"""How many channels make up an explanation, and whether each channel has prototypes of its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from captum_apex.layers.values import check_finite
from captum_apex.metrics.prototypes.seed_agreement import jaccard_matrix
from captum_apex.numbers import real_number, whole_number

__all__ = ["chance_overlap", "channels_needed", "prototype_overlap"]

_ROUNDING = 1e-9  # of the sum of the contributions


def channels_needed(contributions: Tensor, share: float = 0.9) -> Tensor:
    """The number of channels that make up a share of the positive contribution to the score.

    `n = min {n : Σ_{i ≤ n} c_(i) ≥ share · Σ_k max(c_k, 0)}`, with the contributions `c_(1) ≥ c_(2) ≥ …` of a clip.

    Args:
        contributions: `c_k`, what each channel adds to the score, (clip, channel), as `Decomposition.contributions`.
        share: share of the positive contributions, in (0, 1].

    Returns:
        float64 tensor (clip,), from 1 to the number of channels: 1 where a single channel suffices, `⌈share · C⌉` where
        all `C` channels add the same. NaN where no channel adds to the score.

    Raises:
        ValueError: the contributions are not finite or of another shape, or the share is out of range.

    Example:
        >>> import torch
        >>> from captum_apex.metrics.prototypes import channels_needed
        >>> channels_needed(torch.tensor([[9.0, -5.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0]]))
        tensor([1., 4.], dtype=torch.float64)

    Source: after the "local size" of PIP-Net's explanations (Nauta et al., CVPR 2023), the number of prototypes that
    are not zero. Here hardly a contribution is zero, so the smallest ones are left out.
    """
    if contributions.dim() != 2:
        raise ValueError(f"expected `contributions` of shape (clip, channel), but got {tuple(contributions.shape)}")
    check_finite(contributions, "`contributions`")
    share = real_number(share, "share", 0, 1)
    ordered = contributions.detach().to(torch.float64).clamp_min(0).sort(dim=1, descending=True).values
    total = ordered.sum(1, keepdim=True)
    missing = ordered.cumsum(1) < (share - _ROUNDING) * total
    return (missing.sum(1).to(torch.float64) + 1).where(total[:, 0] > 0, torch.nan)


def prototype_overlap(indices: Tensor) -> Tensor:
    """How far the prototypes of each channel are those of the other channels, too.

    `overlap_k = mean_{l ≠ k} |P_k ∩ P_l| / |P_k ∪ P_l|`, with the set `P_k` of the clips that are prototypes of channel
    `k`.

    Args:
        indices: indices of the clips in the dataset, integers (channel, prototype), as `Prototypes.indices`.

    Returns:
        float64 tensor (channel,), in [0, 1]: 0 where no clip is a prototype of another channel, 1 where all channels
        have the same prototypes. Compare it with `chance_overlap`. NaN for a single channel.

    Raises:
        ValueError: the indices are not integers (channel, prototype).

    Example:
        >>> import torch
        >>> from captum_apex.metrics.prototypes import prototype_overlap
        >>> prototype_overlap(torch.tensor([[0, 1], [1, 2], [3, 4]]))  # the first two have one of three in common
        tensor([0.1667, 0.1667, 0.0000], dtype=torch.float64)

    Source: the Jaccard index; ours as a measure of prototypes.
    """
    shared = jaccard_matrix(indices, indices)
    return (shared.sum(1) - 1) / (len(indices) - 1) if len(indices) > 1 else torch.full_like(shared[0], torch.nan)


def chance_overlap(n_clips: int, n_prototypes: int) -> float:
    """The expected Jaccard index of two sets of clips that are drawn at random, each without replacement.

    `Σ_j p(j) · j / (2 P − j)`, where `p` is the hypergeometric probability that `j` of `P` clips are in both sets.

    Args:
        n_clips: number of clips of the dataset.
        n_prototypes: number of prototypes of a channel, `P`.

    Raises:
        TypeError: a number is no integer.
        ValueError: there are fewer clips than prototypes.

    Example:
        >>> from captum_apex.metrics.prototypes import chance_overlap
        >>> chance_overlap(n_clips=4, n_prototypes=1), chance_overlap(n_clips=3, n_prototypes=3)
        (0.25, 1.0)
    """
    n_prototypes = whole_number(n_prototypes, "n_prototypes", least=1)
    n_clips = whole_number(n_clips, "n_clips", least=n_prototypes)
    ways = [
        math.comb(n_prototypes, j) * math.comb(n_clips - n_prototypes, n_prototypes - j)
        for j in range(n_prototypes + 1)
    ]
    return sum(n * j / (2 * n_prototypes - j) for j, n in enumerate(ways)) / math.comb(n_clips, n_prototypes)
