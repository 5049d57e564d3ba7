"""One forward pass taken apart into the channels of a basis, and the channels that speak for a class."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from captum._utils.typing import TargetType
from torch import Tensor

__all__ = ["Decomposition", "select_channels"]


@dataclass(frozen=True)
class Decomposition:
    """One forward pass, taken apart into the channels of a basis.

    Args:
        features: `Ẑ`, the layer's grid in the basis, (clip, channel, frequency, time).
        relevance: `R = Ĝ ⊙ Ẑ`, (clip, channel, frequency, time).
        gradient: `G = ∂f_y/∂Z` in the raw channels, (clip, channel, frequency, time).
        output: the model's whole output, (clip, class) as a rule.
        target: the class asked for, as Captum takes it; the predicted class of each clip where none was given.
        score: `f_y`, (clip,).
        columns: how many columns of the grid are each clip's own, int64 (clip,), where shorter clips are padded; features, relevance and
            gradient are zero in the others. None where all are.
    """

    features: Tensor
    relevance: Tensor
    gradient: Tensor
    output: Tensor
    target: TargetType
    score: Tensor
    columns: Tensor | None = None

    @property
    def contributions(self) -> Tensor:
        """`c_k`, what each channel adds to the score, (clip, channel)."""
        return self.relevance.sum((2, 3))

    @property
    def activations(self) -> Tensor:
        """`a_k`, the mean of each channel over the grid, (clip, channel)."""
        if self.columns is None:
            return self.features.mean((2, 3))
        return self.features.sum((2, 3)) / (self.features.shape[2] * self.columns[:, None])


def select_channels(
    contributions: Tensor, activations: Tensor, n_channels: int | None = 5, sides: str = "positive"
) -> Tensor:
    """Which channels are the evidence for the class.

    Args:
        contributions: `c_k`, (clip, channel).
        activations: `a_k`, (clip, channel).
        n_channels: how many, the largest contributions first; there may be fewer. None for every channel, whatever its sign.
        sides: `"positive"` takes channels with `c_k > 0` and `a_k > 0`; `"both"` also those with `c_k > 0` and `a_k < 0`.

    Returns:
        bool tensor (clip, channel).

    Raises:
        TypeError, ValueError: for `n_channels` that is not a positive int or None, or an unknown `sides`.

    >>> select_channels(torch.tensor([[3.0, 2.0, 1.0, -1.0]]), torch.tensor([[1.0, -1.0, 1.0, 1.0]]), n_channels=2)
    tensor([[ True, False,  True, False]])
    """
    if sides not in ("positive", "both"):
        raise ValueError(f"expected `sides` to be 'positive' or 'both', but got {sides!r}")
    if n_channels is None:
        return torch.ones_like(contributions, dtype=torch.bool)
    if not isinstance(n_channels, int) or isinstance(n_channels, bool):
        raise TypeError(f"expected `n_channels` to be an int or None, but got {type(n_channels).__name__}")
    if n_channels <= 0:
        raise ValueError(f"expected `n_channels` to be an int larger than 0, but got {n_channels}")
    eligible = (contributions > 0) & (activations > 0 if sides == "positive" else activations != 0)
    largest = (
        contributions.where(eligible, -torch.inf).sort(dim=1, descending=True, stable=True).indices[:, :n_channels]
    )
    return torch.zeros_like(eligible).scatter(1, largest, True) & eligible
