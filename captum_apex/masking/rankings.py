"""The order of regions by an attribution map."""

from __future__ import annotations

import torch
from torch import Tensor


def check_attributions(attributions: Tensor) -> None:
    """Refuses what cannot be ranked.

    Raises:
        TypeError: for attributions that are not a tensor.
        ValueError: for values that are not finite, naming the clip, and where there is no axis beside that of the clips.
    """
    if not isinstance(attributions, Tensor):
        raise TypeError(f"expected `attributions` to be a tensor, but got {type(attributions).__name__}")
    if attributions.dim() < 2:
        raise ValueError(f"expected `attributions` of shape (batch, ...), but got {tuple(attributions.shape)}")
    damaged = ~attributions.isfinite().flatten(1).all(1)
    if damaged.any():
        raise ValueError(f"expected finite `attributions`, but got NaN or infinity in clip {int(damaged.nonzero()[0])}")


def ranking(scores: Tensor, seed: int) -> Tensor:
    """The regions of each clip, the most important first.

    Ties are broken by a shuffle that is the same for every clip, so that a clip's ranking does not depend on its batch. Without the
    shuffle, a map that is zero nearly everywhere would be rewarded or punished for where region 0 happens to be.

    Args:
        scores: shape (batch, region).
        seed: of the shuffle; the global random state is neither read nor changed.

    Returns:
        int64 tensor of shape (batch, region).

    Raises:
        ValueError: for a NaN, naming the clip.

    Example:
        >>> ranking(torch.tensor([[0.1, 0.7, 0.2]]), seed=0)
        tensor([[1, 2, 0]])
    """
    damaged = scores.isnan().any(1)
    if damaged.any():
        raise ValueError(f"expected scores without NaN, but got NaN in clip {int(damaged.nonzero()[0])}")
    shuffle = torch.randperm(scores.shape[1], generator=torch.Generator().manual_seed(seed)).to(scores.device)
    return shuffle[scores[:, shuffle].argsort(dim=1, descending=True, stable=True)]
