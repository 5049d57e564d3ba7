"""The evidence for a class: one forward pass taken apart into channels, those that speak for it, and the score that they make."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from captum._utils.typing import TargetType
from captum.attr._utils.lrp_rules import EpsilonRule
from torch import Tensor, nn

from captum_apex.layers import Layout, frozen, layer_name, model_of, watched

__all__ = ["Decomposition", "EvidenceScore", "InnerScore", "evidence_mask"]


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


def evidence_mask(contributions: Tensor, activations: Tensor, n_channels: int | None = 5, sides: str = "positive") -> Tensor:
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

    >>> evidence_mask(torch.tensor([[3.0, 2.0, 1.0, -1.0]]), torch.tensor([[1.0, -1.0, 1.0, 1.0]]), n_channels=2)
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
    largest = contributions.where(eligible, -torch.inf).sort(dim=1, descending=True, stable=True).indices[:, :n_channels]
    return torch.zeros_like(eligible).scatter(1, largest, True) & eligible


class EvidenceScore(nn.Module):
    """`h(x) = Σ w ⊙ φ(x)`: a scalar per clip that says how strongly the evidence's channels fire, for any input attribution method.

    The model runs up to the layer only. A module, so that methods that walk through modules (LRP, DeepLift) find the model's.

    >>> layer = nn.Conv2d(1, 2, 3)
    >>> score = EvidenceScore(nn.Sequential(layer, nn.Tanh()), layer)
    >>> score(torch.randn(5, 1, 8, 10), torch.ones(5, 2, 6, 8)).shape
    torch.Size([5])
    """

    def __init__(self, forward_func: Callable, layer: nn.Module, layout: Layout | None = None, at_input: bool = False) -> None:
        super().__init__()
        model = model_of(forward_func)
        self.forward_func = forward_func  # registered as a submodule where it is one
        if model is not None and not isinstance(forward_func, nn.Module):
            self.model = model
        self.layer_name = layer_name(forward_func, layer)
        self._layer = (layer,)  # in a tuple, so that it is not registered a second time
        self.layout = layout or Layout()
        self.at_input = at_input
        self.weighted_sum = _WeightedSum()

    def forward(self, inputs: Tensor, weights: Tensor, *additional_forward_args: Any) -> Tensor:
        """The score of each clip.

        Args:
            inputs: as the model takes them.
            weights: from `APEX.evidence_weights`, (clip, channel, frequency, time).
            *additional_forward_args: passed on to the model.

        Returns:
            Tensor (clip,).
        """
        taken: list[Tensor] = []

        def take(features: Tensor) -> None:
            taken.append(features)
            raise _LayerReached

        layer = self._layer[0]
        with suppress(_LayerReached), frozen(self.forward_func, layer), watched(layer, self.layer_name, take, at_input=self.at_input):
            self.forward_func(inputs, *additional_forward_args)
        grid = self.layout.grid(taken[0], repr(self.layer_name))
        return self.weighted_sum(grid, weights.to(grid.dtype))


class InnerScore(nn.Module):
    """An evidence score as a function of what a module inside of the model gives, such as a spectrogram made of the waveform.

    Args:
        score: of the model's inputs.
        input_layer: the module, which runs before the layer.
        name: of the module.
    """

    def __init__(self, score: EvidenceScore, input_layer: nn.Module, name: str) -> None:
        super().__init__()
        self.score = score
        self._input_layer = (input_layer,)
        self.input_layer_name = name

    def forward(self, inner: Tensor, inputs: Tensor, weights: Tensor, *additional_forward_args: Any) -> Tensor:
        """The score of each clip, (clip,), with `inner` in place of what the module gives for the inputs."""
        with watched(self._input_layer[0], self.input_layer_name, lambda _: inner.clone()):  # what follows may work in place
            return self.score(inputs, weights, *additional_forward_args)


class _WeightedSum(nn.Module):
    """`Σ w ⊙ Z`, (clip,). A module with a rule, because LRP starts at the last one that has a rule: here each product gets its share."""

    def __init__(self) -> None:
        super().__init__()
        self._rule = _FirstInputRule()

    @property
    def rule(self) -> EpsilonRule:
        return self._rule

    @rule.deleter
    def rule(self) -> None:
        """Kept: LRP removes the rules of all modules after each call, and could not run again."""

    def forward(self, grid: Tensor, weights: Tensor) -> Tensor:
        return (weights * grid).flatten(1).sum(1)


class _FirstInputRule(EpsilonRule):
    """The relevance goes to the first input alone."""

    def forward_hook(self, module: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> Tensor:
        return super().forward_hook(module, inputs[:1], outputs)


class _LayerReached(Exception):  # noqa: N818 - not an error: it ends a forward pass early
    pass
