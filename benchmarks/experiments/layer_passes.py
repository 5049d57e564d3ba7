"""Counting the forward-equivalent passes of a computation up to a layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

BACKWARD = 2  # forward passes that a backward pass costs


def layer_passes(layer: nn.Module, run: Callable[[], object]) -> int:
    """The clips, or copies of them, that a computation brings through a layer; on the way back each counts twice.

    A gradient that ends at the layer's output does not count: it takes the modules after the layer alone.

    Args:
        layer: the layer; its output is a tensor with the clips on the first axis.
        run: the computation.

    Example:
        >>> import torch
        >>> from benchmarks.experiments.layer_passes import layer_passes
        >>> layer = torch.nn.ReLU()
        >>> layer_passes(layer, lambda: layer(torch.ones(3, 2)))
        3
        >>> layer_passes(layer, lambda: layer(torch.ones(3, 2, requires_grad=True)).sum().backward())
        9
    """
    passes = []

    def count(_module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        passes.append(len(output))
        if inputs[0].requires_grad:
            output.register_hook(lambda gradient: passes.append(BACKWARD * len(gradient)))

    handle = layer.register_forward_hook(count)
    try:
        run()
    finally:
        handle.remove()
    return sum(passes)
