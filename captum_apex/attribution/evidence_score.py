"""The evidence score: how strongly the channels of the evidence fire, as a scalar function of the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from captum.attr._utils.lrp_rules import EpsilonRule
from torch import Tensor, nn

from captum_apex.layers.hooks import captured, frozen, watched
from captum_apex.layers.layout import Layout
from captum_apex.layers.models import layer_name, model_of

__all__ = ["EvidenceScore", "InnerScore"]


class EvidenceScore(nn.Module):
    """`h(x) = Σ w ⊙ φ(x)`: a scalar per clip that says how strongly the evidence's channels fire, for any input attribution method.

    The model runs up to the layer only. A module, so that methods that walk through modules (LRP, DeepLift) find the model's.

    >>> import torch
    >>> layer = nn.Conv2d(1, 2, 3)
    >>> score = EvidenceScore(nn.Sequential(layer, nn.Tanh()), layer)
    >>> score(torch.randn(5, 1, 8, 10), torch.ones(5, 2, 6, 8)).shape
    torch.Size([5])
    """

    def __init__(
        self, forward_func: Callable, layer: nn.Module, layout: Layout | None = None, at_input: bool = False
    ) -> None:
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
        layer = self._layer[0]
        with (
            frozen(self.forward_func, layer),
            captured(layer, self.layer_name, at_input=self.at_input, stop=True) as capture,
        ):
            self.forward_func(inputs, *additional_forward_args)
        grid = self.layout.grid(capture.value, repr(self.layer_name))
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
        with watched(
            self._input_layer[0], self.input_layer_name, lambda _: inner.clone()
        ):  # what follows may work in place
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
