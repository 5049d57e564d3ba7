"""The forward pass that attribution records, which several attribution objects of one layer can share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from captum._utils.common import _run_forward
from torch import Tensor, nn

from captum_apex.attribution.arguments import Inputs, check_rows, detached_inputs, first_input, forward_arguments
from captum_apex.attribution.layer_graph import LayerGraph, recorded_graph
from captum_apex.layers.changes import noted, recording, restored
from captum_apex.layers.models import layer_name
from captum_apex.layers.normalisation import ConstantRest
from captum_apex.layers.pooled_norm import PooledNorm
from captum_apex.layers.still_models import entered, held
from captum_apex.layers.values import checked_output

__all__ = ["in_recorded_pass", "recorded_pass", "run_anew", "run_once", "shared_passes", "shares_passes"]

_Result = TypeVar("_Result")


@dataclass(frozen=True, eq=False)
class _Pass:
    """A forward pass, and what came of it."""

    kind: tuple
    inputs: tuple
    result: Any


_SHARED: ContextVar[list[_Pass] | None] = ContextVar("_SHARED", default=None)


@contextmanager
def shared_passes() -> Iterator[None]:
    """A block in which the model runs once for the same inputs and the same layer, whichever object explains it.

    What the passes gave is kept until the end of the block, so it should be as long as the work on one batch.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex import LayerAPEX, PrototypeBasis
        >>> from captum_apex.attribution.recorded_pass import shared_passes
        >>> layer = nn.ReLU()
        >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> handle = model.register_forward_hook(lambda *_: print("the model runs"))
        >>> apexes = [LayerAPEX(model, layer, PrototypeBasis(torch.eye(1), scheme)) for scheme in ("time", "square")]
        >>> with shared_passes():
        ...     maps = [apex.attribute(torch.ones(1, 1, 1, 2), 0) for apex in apexes]
        the model runs
    """
    with noted(partial(_SHARED.set, _SHARED.get())):
        _SHARED.set([])
        yield


def shares_passes() -> bool:
    """Whether this is inside a block of `shared_passes`, so that another object may need the graph of a pass.

    Example:
        >>> from captum_apex.attribution.recorded_pass import shared_passes, shares_passes
        >>> with shared_passes():
        ...     shares_passes()
        True
    """
    return _SHARED.get() is not None


def run_once(kind: tuple, inputs: tuple, run: Callable[[], _Result]) -> _Result:
    """What a forward pass gives; inside `shared_passes`, what it gave before for the same inputs.

    Args:
        kind: what distinguishes the pass from others: the model, the layer, and what is done there.
        inputs: inputs and further arguments of the model.
        run: runs the model.

    Example:
        >>> import torch
        >>> from captum_apex.attribution.recorded_pass import run_once, shared_passes
        >>> with shared_passes():
        ...     results = [run_once(("model",), (torch.ones(2),), object) for _ in range(2)]
        >>> results[0] is results[1]
        True
    """
    passes = _SHARED.get()
    if passes is None:
        return run()
    for each in passes:
        if each.kind == kind and _same(each.inputs, inputs):
            return each.result
    result = run_anew(run)  # an explanation inside the model is another matter
    passes.append(_Pass(kind, inputs, result))
    return result


def run_anew(run: Callable[[], _Result]) -> _Result:
    """What a function gives outside of every block of `shared_passes`.

    Args:
        run: the function, without arguments.

    Example:
        >>> from captum_apex.attribution.recorded_pass import run_anew, shared_passes, shares_passes
        >>> with shared_passes():
        ...     run_anew(shares_passes)
        False
    """
    with noted(partial(_SHARED.set, _SHARED.get())):
        _SHARED.set(None)
        return run()


def _same(one: Any, other: Any) -> bool:
    """Whether two arguments of a model are the same: equal tensors, or the same object."""
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return (one.dtype, one.device) == (other.dtype, other.device) and torch.equal(one, other)
    return one is other


@restored
def recorded_pass(
    forward_func: Callable,
    layer: nn.Module,
    inputs: Inputs,
    additional_forward_args: Any = None,
    norm: PooledNorm | None = None,
    at_input: bool = False,
) -> tuple[LayerGraph, Tensor]:
    """The graph from the layer on, and the output of the model, by one forward pass.

    Args:
        forward_func: the model.
        layer: the explained layer.
        inputs: inputs of the model, one tensor or a tuple.
        additional_forward_args: further arguments of the model.
        norm: the norm that is applied to the grid.
        at_input: whether the graph begins at the input of the layer.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex.attribution.recorded_pass import recorded_pass
        >>> layer = nn.ReLU()
        >>> graph, output = recorded_pass(nn.Sequential(layer, nn.Flatten()), layer, torch.tensor([[[-1.0, 2.0]]]))
        >>> output
        tensor([[0., 2.]], grad_fn=<ViewBackward0>)
    """
    further = forward_arguments(additional_forward_args)

    def run() -> tuple[LayerGraph, Tensor]:
        at_layer = recorded_graph(layer, layer_name(forward_func, layer), norm, at_input=at_input)
        with recording(), at_layer as graph, in_recorded_pass(forward_func, layer):
            output = _run_forward(forward_func, detached_inputs(inputs), None, further)
        return graph, check_rows(checked_output(output, forward_func), len(first_input(inputs)))

    kind = ("recorded", forward_func, layer, None if norm is None else norm.module, at_input)
    return run_once(kind, (inputs, further), run)


@contextmanager
def in_recorded_pass(forward_func: Callable, layer: nn.Module) -> Iterator[None]:
    """A block in which autograd records, and holds constant the parameters and the variances of normalisations.

    The way back needs it too, because checkpointed modules run again then.

    Args:
        forward_func: the model, which is held still.
        layer: the explained layer.

    Example:
        >>> import torch
        >>> from captum_apex.attribution.recorded_pass import in_recorded_pass
        >>> model = torch.nn.Linear(2, 1)
        >>> with in_recorded_pass(model, model):
        ...     model(torch.ones(1, 2)).requires_grad
        False
    """
    with torch.enable_grad(), held(forward_func, layer), entered(ConstantRest()):
        yield
