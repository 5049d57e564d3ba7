"""How few values a map concentrates on. A concentrated map is easier to read; it is not more often right."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_apex.masking.rankings import check_attributions

__all__ = ["complexity", "sparseness"]


def sparseness(attributions: Tensor) -> Tensor:
    """Gini index of the absolute attributions; higher is more concentrated.

    With the n absolute values `a_1 ≤ … ≤ a_n`, it is `Σ_k (2k − n − 1) · a_k / (n · Σ_k a_k)`. It does not depend on
    the map's scale, and hardly on its resolution.

    Args:
        attributions: shape (batch, ...): maps, or the sums of their regions.

    Returns:
        float64 tensor of shape (batch,), in [0, 1): 0 where all values are equal, `1 − 1/n` where all but one are zero.
        NaN for an all-zero map.

    Raises:
        TypeError: the attributions are not a tensor.
        ValueError: the attributions are not finite (the message names the clip), or have only the batch axis.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import sparseness
        >>> sparseness(torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, -2.0, 0.0]]))
        tensor([0.0000, 0.7500], dtype=torch.float64)

    Source: Chalasani et al. (arXiv 1810.06583), Gini index. Quantus' `Sparseness` adds 1e-7 to every value and gives 0
    for an all-zero map.
    """
    ascending = _magnitudes(attributions).sort(1).values
    n = ascending.shape[1]
    weights = 2 * torch.arange(1, n + 1, dtype=torch.float64, device=ascending.device) - n - 1
    return (ascending @ weights) / (n * ascending.sum(1))


def complexity(attributions: Tensor) -> Tensor:
    """Entropy of the values' shares in the sum of the absolute attributions, in nats; lower is more concentrated.

    Unlike `sparseness`, it grows with the resolution: its exponential is the number of equal values that would have the
    same entropy.

    Args:
        attributions: shape (batch, ...): maps, or the sums of their regions.

    Returns:
        float64 tensor of shape (batch,), in [0, ln n]: 0 where all but one value are zero, `ln n` where all n values
        are equal. NaN for an all-zero map.

    Raises:
        TypeError: the attributions are not a tensor.
        ValueError: the attributions are not finite (the message names the clip), or have only the batch axis.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import complexity
        >>> complexity(torch.tensor([[1.0, -1.0, 1.0, 1.0], [0.0, 0.0, -2.0, 0.0]])).exp()
        tensor([4., 1.], dtype=torch.float64)

    Source: Bhatt et al. (arXiv 2005.00631), "complexity".
    """
    magnitudes = _magnitudes(attributions)
    return torch.special.entr(magnitudes / magnitudes.sum(1, keepdim=True)).sum(1)


def _magnitudes(attributions: Tensor) -> Tensor:
    """Absolute values in float64, (clip, ...) → (clip, value), each map divided by its largest: no sum overflows."""
    check_attributions(attributions)
    magnitudes = attributions.detach().to(torch.float64).flatten(1).abs()
    return magnitudes / magnitudes.amax(1, keepdim=True)  # 0 / 0: NaN for an all-zero map
