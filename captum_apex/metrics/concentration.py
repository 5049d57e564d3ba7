"""On how few values a map concentrates. A short explanation is easier to read; whether it is right, these measures cannot tell."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_apex.masking.rankings import check_attributions


def sparseness(attributions: Tensor) -> Tensor:
    """Gini index of the absolute attributions; higher is more concentrated.

    With the n absolute values in rising order, `Σ_k (2k − n − 1) · a_k / (n · Σ_k a_k)`. It does not depend on the map's scale, and hardly
    on its resolution.

    Args:
        attributions: shape (batch, ...): maps, or the sums of their regions.

    Returns:
        float64 tensor of shape (batch,), in [0, 1): 0 where all values are equal, `1 − 1/n` where one is all. NaN for an all-zero map,
        which has nothing that could be concentrated.

    Raises:
        TypeError: for attributions that are not a tensor.
        ValueError: for attributions that are not finite, naming the clip, or that have no axis beside the clips'.

    Example:
        >>> sparseness(torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, -2.0, 0.0]]))
        tensor([0.0000, 0.7500], dtype=torch.float64)

    Source: Chalasani et al. (arXiv 1810.06583), Gini index; Quantus' `Sparseness` adds 1e-7 to every value, which makes an all-zero map 0.
    """
    ascending = _magnitudes(attributions).sort(1).values
    n = ascending.shape[1]
    weights = 2 * torch.arange(1, n + 1, dtype=torch.float64, device=ascending.device) - n - 1
    return (ascending @ weights) / (n * ascending.sum(1))


def complexity(attributions: Tensor) -> Tensor:
    """Entropy of the shares that the values have in the map's absolute total, in nats; lower is more concentrated.

    Unlike `sparseness` it grows with the resolution: the exponential of it is the number of equal values that would be as complex.

    Args:
        attributions: shape (batch, ...): maps, or the sums of their regions.

    Returns:
        float64 tensor of shape (batch,), in [0, ln n]: 0 where one value is all, `ln n` where all n are equal. NaN for an all-zero map.

    Raises:
        TypeError: for attributions that are not a tensor.
        ValueError: for attributions that are not finite, naming the clip, or that have no axis beside the clips'.

    Example:
        >>> complexity(torch.tensor([[1.0, -1.0, 1.0, 1.0], [0.0, 0.0, -2.0, 0.0]])).exp()
        tensor([4., 1.], dtype=torch.float64)

    Source: Bhatt et al. (arXiv 2005.00631), "complexity".
    """
    magnitudes = _magnitudes(attributions)
    return torch.special.entr(magnitudes / magnitudes.sum(1, keepdim=True)).sum(1)


def _magnitudes(attributions: Tensor) -> Tensor:
    """Absolute values in double precision, (clip, ...) → (clip, value), each map divided by its largest, so that no sum overflows."""
    check_attributions(attributions)
    magnitudes = attributions.detach().to(torch.float64).flatten(1).abs()
    return magnitudes / magnitudes.amax(1, keepdim=True)  # 0 / 0: NaN for an all-zero map
