"""Whether a map points at where the evidence is known to lie. They need the truth, and no model.

They judge the model and the map together: a model that decides by something else than the marked sound has a faithful map that fails here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from captum_apex.masking.rankings import check_attributions


def pointing_game(attributions: Tensor, truth: Tensor) -> Tensor:
    """Whether the bin with the largest attribution lies on the truth.

    Where several bins are the largest, as in a map that is constant within its regions, it is the share of them that lie there: what a fair
    draw among them would score on average. A constant map so scores the truth's share of all bins.

    Args:
        attributions: shape (batch, channel, frequency, time); the channels are summed, and their axis may be absent.
        truth: where the evidence lies, bool, shape (batch, 1, frequency, time) or (batch, frequency, time).

    Returns:
        float64 tensor of shape (batch,), 1 or 0, or between these for ties; NaN where the truth is empty.

    Raises:
        TypeError: for attributions that are not a tensor, or a truth that is not bool.
        ValueError: for shapes that do not belong together, and for attributions that are not finite, naming the clip.

    Example:
        >>> truth = torch.tensor([[True, False, False, False]])[:, None]
        >>> pointing_game(torch.tensor([[2.0, 0.0, 1.0, 2.0]])[:, None], truth)
        tensor([0.5000], dtype=torch.float64)

    Source: Zhang et al. (arXiv 1608.00507), Section 4.1, without a tolerance around the truth.
    """
    values, inside = _by_bin(attributions, truth)
    largest = values == values.amax(1, keepdim=True)
    share = (largest & inside).sum(1, dtype=torch.float64) / largest.sum(1)
    return share.where(inside.any(1), torch.nan)


def relevance_mass(attributions: Tensor, truth: Tensor) -> Tensor:
    """The share of the positive attribution that lies on the truth; arguments and errors as in `pointing_game`.

    Returns:
        float64 tensor of shape (batch,), in [0, 1], higher is better; NaN where no bin is positive or the truth is empty. The truth's share
        of all bins is what a constant positive map scores.

    Example:
        >>> truth = torch.tensor([[True, False, False, False]])[:, None]
        >>> relevance_mass(torch.tensor([[3.0, 0.0, 1.0, -4.0]])[:, None], truth)
        tensor([0.7500], dtype=torch.float64)

    Source: Arras et al. (arXiv 2003.07258), "relevance mass accuracy", the channels pooled by the positive part of their sum.
    """
    values, inside = _by_bin(attributions, truth)
    positive = values.clamp_min(0)
    mass = (positive * inside).sum(1) / positive.sum(1)  # 0 / 0: NaN where nothing is positive
    return mass.where(inside.any(1), torch.nan)


def _by_bin(attributions: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """The attribution of each bin, and whether it lies on the truth; both (clip, bin), the first float64."""
    check_attributions(attributions)
    if not isinstance(truth, Tensor) or truth.dtype != torch.bool:
        raise TypeError(
            f"expected `truth` to be a bool tensor, but got {getattr(truth, 'dtype', type(truth).__name__)}"
        )
    maps = attributions.detach().to(torch.float64)
    if maps.dim() == 4:
        maps = maps.sum(1)  # (clip, channel, frequency, time) → (clip, frequency, time)
    marked = truth.squeeze(1) if truth.dim() == 4 and truth.shape[1] == 1 else truth
    if maps.dim() != 3 or marked.shape != maps.shape:
        raise ValueError(
            "expected `attributions` of shape (batch, channel, frequency, time) and `truth` of shape (batch, frequency, time), "
            f"but got {tuple(attributions.shape)} and {tuple(truth.shape)}"
        )
    return maps.flatten(1), marked.flatten(1).to(maps.device)
