"""A forward pass whose graph starts at the explained grid, and the gradient of a score there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.autograd.graph import _engine_run_backward
from torch.utils.checkpoint import CheckpointError

from captum_apex.layers.hooks import Capture, captured
from captum_apex.layers.layout import Layout
from captum_apex.layers.pooled_norm import PooledNorm, explained_grid, pooled_grid

__all__ = ["LayerGraph", "gradients_at", "no_checkpointing", "recorded_graph"]


@dataclass(frozen=True, eq=False)
class LayerGraph:
    """The output of the layer in one forward pass, as a leaf of the graph that computes the model's output.

    Args:
        layer: name of the layer, for error messages.
        features: the output of the layer.
        norm: the norm that is applied to the grid before the pooling; None for the grid of the layer itself.
        normed: the output of the norm, a second leaf; None without a norm.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex.attribution.layer_graph import recorded_graph
        >>> from captum_apex.layers import Layout
        >>> layer = nn.Identity()
        >>> with recorded_graph(layer, "layer") as graph:
        ...     score = 3 * layer(torch.ones(1, 1, 1, 2)).sum((1, 2, 3))
        >>> graph.grids(score, Layout())
        (tensor([[[[1., 1.]]]]), tensor([[[[3., 3.]]]]))
    """

    layer: str
    features: Capture
    norm: PooledNorm | None = None
    normed: Capture | None = None

    def grids(
        self, score: Tensor, layout: Layout, columns: Tensor | None = None, keep_graph: bool = False
    ) -> tuple[Tensor, Tensor]:
        """The explained grid, and the gradient of a score at it.

        Args:
            score: the score of each clip, (clip,), computed in the recorded pass.
            layout: layout of the output of the layer.
            columns: number of columns of each clip without padding, int64 (clip,); None where no clip is padded.
            keep_graph: keep the graph for the gradient of another score.

        Returns:
            `Z` and `G`, both (clip, channel, frequency, time); values in the padding have no meaning.

        Raises:
            ValueError: the score does not depend on the layer, or the model does not pool the grid and apply the norm.
        """
        grid = explained_grid(self.features.value.detach(), layout, self.norm, self.layer, columns)
        if self.norm is None or self.normed is None:
            return grid, layout.grid(self._gradients(score, keep_graph, self.features)[0], repr(self.layer))
        self.norm.check(pooled_grid(grid, columns), self.normed.value, self.layer, self.features.value.dtype)
        gradient, beside = self._gradients(score, keep_graph, self.normed, self.features)
        if beside.any():
            raise ValueError(
                f"expected the layer {self.layer!r} to reach the output only through {self.norm.name!r}, but there is "
                "another path; leave out `norm`"
            )
        return grid, self.norm.spread(gradient, grid, columns)

    def _gradients(self, score: Tensor, keep_graph: bool, *places: Capture) -> list[Tensor]:
        """The gradients at the places; zeros where no gradient reaches any but the first."""
        leaves = [place.value for place in places]
        gradients: list[Tensor | None] = [None]
        if score.requires_grad:
            gradients = gradients_at(leaves, score.sum(), keep_graph=keep_graph)
        if gradients[0] is None:
            raise ValueError(f"expected the output to depend on the layer {self.layer!r}, but no gradient reaches it")
        return [
            torch.zeros_like(leaf) if gradient is None else gradient
            for leaf, gradient in zip(leaves, gradients, strict=True)
        ]


@contextmanager
def recorded_graph(
    layer: nn.Module, name: str, norm: PooledNorm | None = None, *, at_input: bool = False
) -> Iterator[LayerGraph]:
    """Makes the output of a layer a leaf of the graph in the forward pass that runs inside the block.

    Args:
        layer: the layer.
        name: name of the layer, for error messages.
        norm: the norm that is applied to the grid; its output becomes a leaf too.
        at_input: take the input of the layer instead of its output.

    Raises:
        ValueError: the layer or the norm does not give one tensor, runs twice, or not at all.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex.attribution.layer_graph import recorded_graph
        >>> layer = nn.ReLU()
        >>> with recorded_graph(layer, "relu") as graph:
        ...     output = layer(torch.tensor([[-1.0, 2.0]]))
        >>> graph.features.value
        tensor([[0., 2.]], requires_grad=True)
    """
    at_norm: AbstractContextManager[Capture | None] = nullcontext()
    if norm is not None:
        at_norm = captured(norm.module, norm.name, prepare=partial(_leaf, norm.name), replace=True)
    with (
        captured(layer, name, at_input=at_input, prepare=partial(_leaf, name), replace=True) as features,
        at_norm as normed,
    ):
        yield LayerGraph(name, features, norm, normed)


def gradients_at(
    leaves: Sequence[Tensor], output: Tensor, weights: Tensor | None = None, *, keep_graph: bool = False
) -> list[Tensor | None]:
    """The gradients of an output at leaves of the graph; None where none reaches a leaf.

    Args:
        leaves: the leaves.
        output: the output, a single value where there are no weights.
        weights: weights of the values of the output, in its shape.
        keep_graph: keep the graph for further gradients.

    Raises:
        ValueError: a module that is checkpointed gives something else when it runs again on the way back.

    Example:
        >>> import torch
        >>> from captum_apex.attribution.layer_graph import gradients_at
        >>> leaf = torch.tensor([2.0, 3.0], requires_grad=True)
        >>> gradients_at([leaf], leaf.square().sum())
        [tensor([4., 6.])]
    """
    weights = torch.ones_like(output) if weights is None else weights
    try:
        # What `torch.autograd.grad` calls. In that function itself torch takes our modes off its stack, so checkpointed
        # modules would run again without them.
        return list(
            _engine_run_backward(
                (output,), (weights,), keep_graph, False, tuple(leaves), allow_unreachable=True, accumulate_grad=False
            )
        )
    except CheckpointError as error:
        raise ValueError(no_checkpointing(error)) from error
    except RuntimeError as error:
        if "heckpoint" in str(error):  # the reentrant kind of checkpoint raises no error class of its own
            raise ValueError(no_checkpointing(error)) from error
        raise


def no_checkpointing(error: RuntimeError) -> str:
    """The message for an error of torch's gradient checkpointing.

    Example:
        >>> from captum_apex.attribution.layer_graph import no_checkpointing
        >>> no_checkpointing(RuntimeError("a different number of tensors was saved"))[:73]
        'expected a model without gradient checkpointing around the explained laye'
    """
    first_line = str(error).strip().splitlines()[0]
    return (
        "expected a model without gradient checkpointing around the explained layer, but `torch.utils.checkpoint` runs "
        f"it, and it gives something else when it runs again on the way back ({first_line}); switch checkpointing off, "
        "which only saves memory in training"
    )


def _leaf(name: str, output: Tensor) -> Tensor:
    if torch.is_inference_mode_enabled():
        raise ValueError(
            f"expected the model to run {name!r} where gradients can be computed, but it does so in "
            "`torch.inference_mode()`; use `torch.no_grad()` there"
        )
    torch.set_grad_enabled(True)  # also where the model itself runs these modules under no_grad
    return output.detach().clone().requires_grad_()
