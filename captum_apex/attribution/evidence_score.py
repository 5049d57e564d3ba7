"""The evidence score: the strength of the evidence's channels as a scalar function of the input."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from captum.attr._utils.lrp_rules import EpsilonRule
from torch import Tensor, nn

from captum_apex.attribution.layer_graph import gradient_stop
from captum_apex.layers.changes import restored
from captum_apex.layers.hooks import captured, frozen, replaced
from captum_apex.layers.layout import Layout
from captum_apex.layers.models import layer_name, model_of
from captum_apex.layers.padding import Columns
from captum_apex.layers.pooled_norm import PooledNorm, explained_grid

__all__ = ["EvidenceScore", "InnerScore"]


class EvidenceScore(nn.Module):
    """`h(x) = Σ w ⊙ φ(x)`: a weighted sum of the layer's features, one scalar per clip, for any attribution method.

    The forward pass ends at the layer. The score is a module, so that methods that look for the modules of a model
    (LRP, DeepLift) find those of the explained model.

    Args:
        forward_func: the classifier.
        layer: the module that the basis was fitted on.
        layout: layout of the layer's output, where it is not (clip, channel, frequency, time).
        at_input: whether the score reads the input of the layer instead of its output.
        norm: the norm that is applied to the grid, `LayerAPEX.norm`; None for the grid of the layer itself.
        columns: function from lengths to columns for batches of padded clips, as in `LayerAPEX`. Only a score with a
            norm needs it; the lengths are then the first of the further arguments.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex import EvidenceScore
        >>> layer = nn.ReLU()
        >>> score = EvidenceScore(nn.Sequential(layer, nn.Flatten()), layer)
        >>> inputs = torch.tensor([[[[-1.0, 2.0]]]])  # (clip, channel, frequency, time)
        >>> score(inputs, torch.tensor([[[[5.0, 3.0]]]]))
        tensor([6.])
    """

    def __init__(
        self,
        forward_func: Callable,
        layer: nn.Module,
        layout: Layout | None = None,
        at_input: bool = False,
        norm: PooledNorm | None = None,
        columns: Columns | None = None,
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
        self.norm = norm
        self.columns = columns
        self.weighted_sum = _WeightedSum()

    @restored
    def forward(self, inputs: Tensor, weights: Tensor, *additional_forward_args: Any) -> Tensor:
        """The score of each clip.

        Args:
            inputs: inputs of the model, the first axis is the clip.
            weights: the weights that `APEX.evidence_weights` gives, (clip, channel, frequency, time).
            *additional_forward_args: further arguments of the model.

        Returns:
            Tensor (clip,).
        """
        layer = self._layer[0]
        columns = None
        if self.norm is not None and self.columns is not None:
            columns = self.columns(additional_forward_args[0])

        def features() -> Tensor:
            at_layer = captured(layer, self.layer_name, at_input=self.at_input, stop=True)
            with at_layer as capture, frozen(self.forward_func, layer):
                self.forward_func(inputs, *additional_forward_args)
            return capture.value

        value = features()
        self.check_gradient(inputs, value, "the inputs", features)
        # The parameters of the norm are constants too.
        with nullcontext() if self.norm is None else frozen(self.forward_func, layer):
            grid = explained_grid(value, self.layout, self.norm, self.layer_name, columns)
        return self.weighted_sum(grid, weights.to(grid.dtype))

    def check_gradient(self, start: Tensor, end: Tensor, name: str, run: Callable[[], Tensor]) -> None:
        """Raises an error where a gradient is wanted at a tensor, but none passes to it.

        Args:
            start: the tensor; a gradient is wanted there if it requires one.
            end: what the model has computed from it.
            name: name of the tensor, for the error message.
            run: function that computes `end` once more.

        Raises:
            ValueError: `end` has no gradient; the message names the module that takes it away.
        """
        if not torch.is_grad_enabled() or not start.requires_grad or end.requires_grad:
            return
        raise ValueError(
            f"expected a gradient to pass from the layer {self.layer_name!r} to {name}, but none does: "
            f"{gradient_stop(model_of(self.forward_func), run)}; leave out `projection`, or take one that needs no "
            "gradient, such as captum.attr.Occlusion"
        )


class InnerScore(nn.Module):
    """An evidence score as a function of the output of an inner module, such as the spectrogram of the waveform.

    Args:
        score: the evidence score as a function of the model's inputs.
        input_layer: the inner module, which runs before the layer.
        name: name of the inner module, for messages.

    Example:
        >>> import torch
        >>> from captum_apex import EvidenceScore
        >>> from torch import nn
        >>> from captum_apex.attribution.evidence_score import InnerScore
        >>> doubled = nn.Upsample(scale_factor=2)  # stands for a spectrogram
        >>> layer = nn.ReLU()
        >>> score = InnerScore(EvidenceScore(nn.Sequential(doubled, layer), layer), doubled, "doubled")
        >>> inner = torch.tensor([[[[-1.0, 2.0], [0.0, 1.0]]]])
        >>> score(inner, torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 2, 2))
        tensor([3.])
    """

    def __init__(self, score: EvidenceScore, input_layer: nn.Module, name: str) -> None:
        super().__init__()
        self.score = score
        self._input_layer = (input_layer,)
        self.input_layer_name = name

    @restored
    def forward(self, inner: Tensor, inputs: Tensor, weights: Tensor, *additional_forward_args: Any) -> Tensor:
        """The score of each clip where `inner` replaces the output of the inner module.

        Args:
            inner: replacement for the output of the inner module, of the same shape.
            inputs: inputs of the model.
            weights: weights, as in `EvidenceScore.forward`.
            *additional_forward_args: further arguments of the model.

        Returns:
            Tensor (clip,).
        """

        def score() -> Tensor:
            with replaced(self._input_layer[0], self.input_layer_name, lambda: inner):
                return self.score(inputs, weights, *additional_forward_args)

        value = score()
        self.score.check_gradient(inner, value, f"what {self.input_layer_name!r} gives", score)
        return value


class _WeightedSum(nn.Module):
    """`Σ w ⊙ Z`, (clip,), as a module with a special rule for LRP.

    LRP starts at the last module that has a rule; the rule here gives each product the relevance that it adds to the
    sum.
    """

    def __init__(self) -> None:
        super().__init__()
        self._rule = _FirstInputRule()

    @property
    def rule(self) -> EpsilonRule:
        return self._rule

    @rule.deleter
    def rule(self) -> None:
        """Does nothing: LRP deletes the rules of all modules after each call, and could not run a second time."""

    def forward(self, grid: Tensor, weights: Tensor) -> Tensor:
        return (weights * grid).flatten(1).sum(1)


class _FirstInputRule(EpsilonRule):
    """An LRP rule that gives all relevance to the first input."""

    def forward_hook(self, module: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> Tensor:
        return super().forward_hook(module, inputs[:1], outputs)
