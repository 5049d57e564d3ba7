"""Whether a map points at the sound, where the true place of the sound is known. No model is needed.

These measures judge the model and the map together: where the model decides by something else than the sound, a
faithful map points elsewhere and scores low.
"""

from __future__ import annotations

import torch
from torch import Tensor

from captum_apex.masking.rankings import check_attributions

__all__ = ["pointing_game", "relevance_mass"]


def pointing_game(attributions: Tensor, truth: Tensor) -> Tensor:
    """Whether the bin with the largest attribution is a bin of the sound.

    Several bins can have the largest attribution, such as all bins of a region. The score is then the share of these
    bins that belong to the sound: the average score of one of them chosen at random. A constant map therefore scores
    the sound's share of all bins.

    Args:
        attributions: attribution of each bin, shape (batch, channel, frequency, time), or (batch, channel, sample) or
            (batch, sample) for waveforms; the channels are summed, and their axis may be absent.
        truth: which bins belong to the sound, bool, shape (batch, 1, frequency, time) or (batch, frequency, time); for
            waveforms (batch, 1, sample) or (batch, sample).

    Returns:
        float64 tensor of shape (batch,), 1 or 0, or between these for ties; NaN where no bin belongs to the sound.

    Raises:
        TypeError: the attributions are not a tensor, or the truth is not bool.
        ValueError: shapes do not fit each other, or the attributions are not finite (the message names the clip).

    Example:
        >>> import torch
        >>> from captum_apex.metrics import pointing_game
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
    """Share of the positive attribution that lies on the sound.

    The errors are those of `pointing_game`.

    Args:
        attributions: attribution of each bin, shape (batch, channel, frequency, time), or (batch, channel, sample) or
            (batch, sample) for waveforms; the channels are summed, and their axis may be absent.
        truth: which bins belong to the sound, bool, shape (batch, 1, frequency, time) or (batch, frequency, time); for
            waveforms (batch, 1, sample) or (batch, sample).

    Returns:
        float64 tensor of shape (batch,), in [0, 1], higher is better; NaN where no attribution is positive or no bin
        belongs to the sound. A constant positive map scores the sound's share of all bins.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import relevance_mass
        >>> truth = torch.tensor([[True, False, False, False]])[:, None]
        >>> relevance_mass(torch.tensor([[3.0, 0.0, 1.0, -4.0]])[:, None], truth)
        tensor([0.7500], dtype=torch.float64)

    Source: Arras et al. (arXiv 2003.07258), "relevance mass accuracy". The channels are summed before negative values
    are set to zero.
    """
    values, inside = _by_bin(attributions, truth)
    positive = values.clamp_min(0)
    mass = (positive * inside).sum(1) / positive.sum(1)  # 0 / 0: NaN where nothing is positive
    return mass.where(inside.any(1), torch.nan)


def _by_bin(attributions: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """The attribution of each bin as float64, and whether the bin belongs to the sound; both (clip, bin)."""
    check_attributions(attributions)
    if not isinstance(truth, Tensor) or truth.dtype != torch.bool:
        raise TypeError(
            f"expected `truth` to be a bool tensor, but got {getattr(truth, 'dtype', type(truth).__name__)}"
        )
    # Without its channel axis of size 1, the truth has the axes of the bins, (frequency, time) or (sample,).
    has_channel = truth.dim() == 4 or (truth.dim() == 3 and attributions.dim() < 4)
    marked = truth.squeeze(1) if has_channel and truth.shape[1] == 1 else truth
    maps = attributions.detach().to(torch.float64)
    if maps.dim() == marked.dim() + 1:
        maps = maps.sum(1)  # (clip, channel, ...) → (clip, ...)
    if marked.dim() not in (2, 3) or marked.shape != maps.shape:
        raise ValueError(
            "expected `attributions` of shape (batch, channel, frequency, time) and `truth` of shape "
            "(batch, frequency, time), or (batch, sample) for both, but got "
            f"{tuple(attributions.shape)} and {tuple(truth.shape)}"
        )
    return maps.flatten(1), marked.flatten(1).to(maps.device)
