"""The order of regions by their attribution."""

from __future__ import annotations

import operator

import torch
from torch import Tensor

__all__ = ["check_attributions", "ranking"]


def check_attributions(attributions: Tensor) -> None:
    """Raises an error if attributions cannot be ranked.

    Args:
        attributions: shape (batch, ...).

    Raises:
        TypeError: if the attributions are not a tensor.
        ValueError: if a value is NaN or infinite (the error names the clip), or if there is no axis after the batch.

    Example:
        >>> import torch
        >>> from captum_apex.masking import check_attributions
        >>> check_attributions(torch.tensor([[0.0], [float("nan")]]))
        Traceback (most recent call last):
            ...
        ValueError: expected finite `attributions`, but got NaN or infinity in clip 1
    """
    if not isinstance(attributions, Tensor):
        raise TypeError(f"expected `attributions` to be a tensor, but got {type(attributions).__name__}")
    if attributions.dim() < 2:
        raise ValueError(f"expected `attributions` of shape (batch, ...), but got {tuple(attributions.shape)}")
    damaged = ~attributions.isfinite().flatten(1).all(1)
    if damaged.any():
        raise ValueError(f"expected finite `attributions`, but got NaN or infinity in clip {int(damaged.nonzero()[0])}")


def ranking(scores: Tensor, seed: int) -> Tensor:
    """The regions of each clip, in order of decreasing score.

    Regions of equal score are shuffled, in the same way for every clip, so that the ranking of a clip does not depend
    on its batch. Without the shuffle, the rank of equal regions would follow their numbers, and a map that is zero
    nearly everywhere would be judged by the position of region 0.

    Args:
        scores: shape (batch, region).
        seed: seed of the random number generator for the shuffle; the global random state is neither read nor changed.

    Returns:
        int64 tensor of shape (batch, region).

    Raises:
        ValueError: if a score is NaN; the error names the clip.

    Example:
        >>> import torch
        >>> from captum_apex.masking import ranking
        >>> ranking(torch.tensor([[0.1, 0.7, 0.2]]), seed=0)
        tensor([[1, 2, 0]])
    """
    damaged = scores.isnan().any(1)
    if damaged.any():
        raise ValueError(f"expected scores without NaN, but got NaN in clip {int(damaged.nonzero()[0])}")
    shuffle = torch.randperm(scores.shape[1], generator=torch.Generator().manual_seed(operator.index(seed))).to(
        scores.device
    )
    return shuffle[scores[:, shuffle].argsort(dim=1, descending=True, stable=True)]
