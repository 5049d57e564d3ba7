"""The decomposition of a forward pass into the channels of a basis, and the choice of the evidence's channels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from captum._utils.typing import TargetType
from torch import Tensor

from captum_apex.choices import one_of
from captum_apex.defaults import N_CHANNELS
from captum_apex.layers.values import check_each_finite
from captum_apex.numbers import whole_number

__all__ = ["N_CHANNELS", "Decomposition", "check_decomposed", "check_sides", "in_basis", "select_channels"]


@dataclass(frozen=True)
class Decomposition:
    """One forward pass, decomposed into the channels of a basis.

    Args:
        features: `Ẑ`, the grid of the layer in the channels of the basis, (clip, channel, frequency, time).
        relevance: `R = Ĝ ⊙ Ẑ` in the channels of the basis, (clip, channel, frequency, time).
        gradient: `G = ∂f_y/∂Z` in the raw channels of the layer, (clip, channel, frequency, time).
        output: whole output of the model, usually (clip, class).
        target: the explained class, in a form that Captum accepts.
        score: `f_y`, the output of the model for the target, (clip,).
        columns: number of grid columns of each clip without padding, int64 (clip,); features, relevance and gradient
            are zero in the other columns. None where no clip is padded.

    Example:
        >>> import torch
        >>> from captum_apex.attribution import Decomposition
        >>> features = torch.tensor([[[[0.0, 2.0]], [[1.0, 1.0]]]])  # two channels on a grid of one row and two columns
        >>> gradient = torch.full_like(features, 0.5)
        >>> output = torch.tensor([[2.0]])
        >>> decomposition = Decomposition(features, gradient * features, gradient, output, 0, output[:, 0])
        >>> decomposition.contributions, decomposition.activations
        (tensor([[1., 1.]]), tensor([[1., 1.]]))
    """

    features: Tensor
    relevance: Tensor
    gradient: Tensor
    output: Tensor
    target: TargetType
    score: Tensor
    columns: Tensor | None = None

    @cached_property
    def contributions(self) -> Tensor:
        """`c_k`, the amount that each channel adds to the score, (clip, channel)."""
        return self.relevance.sum((2, 3))

    @cached_property
    def activations(self) -> Tensor:
        """`a_k`, the mean of each channel over the grid without padding, (clip, channel)."""
        if self.columns is None:
            return self.features.mean((2, 3))
        return self.features.sum((2, 3)) / (self.features.shape[2] * self.columns[:, None])


def check_decomposed(layer: str, grid: Tensor, gradient: Tensor, score: Tensor) -> None:
    """Refuses a grid, a gradient and scores that do not belong to the clips, or hold NaN or infinity.

    Args:
        layer: name of the layer, for error messages.
        grid: output of the layer, (clip, channel, frequency, time).
        gradient: gradient of the scores at the grid, of its shape.
        score: the explained score of each clip, (clip,).

    Raises:
        ValueError: there is not one grid per clip, or a value is NaN or infinite (the message names the clip).

    Example:
        >>> import torch
        >>> from captum_apex.attribution.decomposition import check_decomposed
        >>> try:
        ...     check_decomposed("conv", torch.ones(2, 1, 1, 1), torch.ones(2, 1, 1, 1), torch.tensor([1.0, torch.inf]))
        ... except ValueError as error:
        ...     print(error)
        expected finite values, but the scores of clip 1 have NaN or infinity
    """
    if len(grid) != len(score):
        raise ValueError(f"expected {layer!r} to give one grid per clip, but got {len(grid)} for {len(score)} clips")
    check_each_finite({f"the output of {layer!r}": grid, "the scores": score, f"the gradients at {layer!r}": gradient})


def in_basis(
    U: Tensor, inverse: Tensor, grid: Tensor, gradient: Tensor, features: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The features and the relevance in the channels of a basis.

    Args:
        U: the basis, (channel, channel).
        inverse: its inverse.
        grid: output of the layer, (clip, channel, frequency, time).
        gradient: gradient of the scores at the grid, of its shape.
        features: the features, where they are known from the decomposition for another class.

    Example:
        >>> import torch
        >>> from captum_apex.attribution.decomposition import in_basis
        >>> grid = torch.tensor([[[[3.0]]]])
        >>> in_basis(torch.tensor([[2.0]]), torch.tensor([[0.5]]), grid, torch.ones_like(grid))
        (tensor([[[[6.]]]]), tensor([[[[3.]]]]))
    """
    with torch.autocast(grid.device.type, enabled=False):  # mixed precision is meant for the model alone
        if features is None:
            features = torch.einsum("kc,ncft->nkft", U, grid)
        return features, torch.einsum("ck,ncft->nkft", inverse, gradient).mul_(features)  # Ĝ = U⁻ᵀ G


def check_sides(sides: str) -> None:
    """Refuses another name than `"positive"` and `"both"`.

    Raises:
        TypeError: `sides` is no string.
        ValueError: `sides` is another name.

    Example:
        >>> from captum_apex.attribution.decomposition import check_sides
        >>> try:
        ...     check_sides("negative")
        ... except ValueError as error:
        ...     print(error)
        expected `sides` to be one of 'positive', 'both', but got 'negative'
    """
    one_of(sides, "`sides`", ("positive", "both"))


def select_channels(
    contributions: Tensor, activations: Tensor, n_channels: int | None = N_CHANNELS, sides: str = "positive"
) -> Tensor:
    """The channels that are evidence for the explained class.

    Args:
        contributions: `c_k`, (clip, channel).
        activations: `a_k`, (clip, channel).
        n_channels: largest number of channels in the evidence, `N_CHANNELS` (5) by default. The channels with the
            largest contributions are selected; None selects every channel, also those with a negative contribution.
        sides: `"positive"` selects among the channels with `c_k > 0` and `a_k > 0`; `"both"` also among those with
            `c_k > 0` and `a_k < 0`.

    Returns:
        bool tensor (clip, channel), True for the selected channels.

    Raises:
        TypeError: `n_channels` is neither an int nor None.
        ValueError: `n_channels` is not larger than 0, or `sides` is unknown.

    Example:
        >>> import torch
        >>> from captum_apex.attribution import select_channels
        >>> contributions = torch.tensor([[3.0, 2.0, 1.0, -1.0]])
        >>> activations = torch.tensor([[1.0, -1.0, 1.0, 1.0]])
        >>> select_channels(contributions, activations, n_channels=2)
        tensor([[ True, False,  True, False]])
    """
    check_sides(sides)
    if n_channels is None:
        return torch.ones_like(contributions, dtype=torch.bool)
    n_channels = whole_number(n_channels, "n_channels", least=1)
    eligible = (contributions > 0) & (activations > 0 if sides == "positive" else activations != 0)
    ordered = contributions.where(eligible, -torch.inf).sort(dim=1, descending=True, stable=True)
    largest = ordered.indices[:, :n_channels]  # (clip, selected channel)
    return torch.zeros_like(eligible).scatter(1, largest, True) & eligible
