"""Context managers around forward passes: freeze the model, and read or change the output of one layer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from captum_apex.layers.models import model_of, plain_paths

__all__ = ["Capture", "captured", "frozen", "watched"]


@contextmanager
def frozen(forward_func: Callable, layer: nn.Module) -> Iterator[None]:
    """Puts the model into evaluation mode and its parameters out of gradients for the length of the block.

    Every flag is restored at the end, also after an exception. A model that `torch.compile` made runs uncompiled inside
    the block, because code that was compiled before ignores hooks that are added later.

    Args:
        forward_func: the model, or a function that calls it.
        layer: the explained layer. If the module behind `forward_func` is not known, only this layer is frozen.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers import frozen
        >>> model = nn.Linear(2, 1)
        >>> with frozen(model, model):
        ...     model.training, model.weight.requires_grad
        (False, False)
        >>> model.training, model.weight.requires_grad
        (True, True)
    """
    known = model_of(forward_func)
    model = known or layer
    training = [module for module in model.modules() if module.training]
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for module in training:
            module.training = False
        for parameter in trainable:
            parameter.requires_grad_(False)
        with _uncompiled(), plain_paths([known] if known else []):
            yield
    finally:
        for module in training:
            module.training = True
        for parameter in trainable:
            parameter.requires_grad_(True)


def _uncompiled() -> AbstractContextManager:
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and the import would take a second
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


@contextmanager
def watched(
    layer: nn.Module, name: str, change: Callable[[Tensor], Tensor | None], *, at_input: bool = False
) -> Iterator[None]:
    """Calls a function with the layer's output in the one forward pass that runs inside the block.

    Args:
        layer: the layer.
        name: name of the layer, for error messages.
        change: gets the layer's output. A tensor that it returns replaces the output; None leaves the output as it is.
        at_input: give `change` the layer's input instead of its output.

    Raises:
        ValueError: if the layer's output is not one tensor, or if the layer runs twice or not at all.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex.layers import watched
        >>> model = nn.Sequential(nn.Identity(), nn.ReLU())
        >>> with watched(model[0], "0", torch.neg):
        ...     model(torch.tensor([1.0, -2.0]))
        tensor([0., 2.])
    """
    runs = 0

    def changed(value: Any) -> Tensor | None:
        nonlocal runs
        runs += 1
        _check_runs_once(runs, name)
        return change(_only_tensor(value, name))

    def before(_: nn.Module, arguments: tuple) -> tuple | None:
        value = changed(arguments[0] if arguments else None)
        return None if value is None else (value, *arguments[1:])

    def after(_: nn.Module, __: tuple, output: Any) -> Any:
        value = changed(output)
        return (value,) if value is not None and isinstance(output, tuple) else value

    handle = layer.register_forward_pre_hook(before) if at_input else layer.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()
    if runs == 0:
        raise ValueError(f"expected the layer {name!r} to run in the forward pass, but it never did")


def _check_runs_once(runs: int, name: str) -> None:
    if runs > 1:
        raise ValueError(
            f"expected the layer {name!r} to run once in a forward pass, but it ran again; "
            "choose a layer that the model uses only once"
        )


def _only_tensor(value: Any, name: str) -> Tensor:
    """The tensor itself, also out of a tuple that holds nothing else."""
    if isinstance(value, tuple) and len(value) == 1:
        value = value[0]
    if not isinstance(value, Tensor):
        raise ValueError(
            f"expected the layer {name!r} to give one tensor, but got {type(value).__name__}; "
            "choose a layer inside it or after it"
        )
    return value


@dataclass(eq=False, repr=False)
class Capture:
    """The output of a layer in the forward pass inside a `captured` block.

    Args:
        value: the output; the attribute does not exist before the layer has run.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex.layers.hooks import captured
        >>> layer = nn.ReLU()
        >>> with captured(layer, "relu") as capture:
        ...     output = layer(torch.tensor([-1.0, 2.0])) + 10
        >>> capture.value
        tensor([0., 2.])
    """

    value: Tensor = field(init=False)


@contextmanager
def captured(
    layer: nn.Module,
    name: str,
    *,
    at_input: bool = False,
    prepare: Callable[[Tensor], Tensor] | None = None,
    replace: bool = False,
    stop: bool = False,
) -> Iterator[Capture]:
    """Stores the output of a layer in the forward pass that runs inside the block.

    Args:
        layer: the layer.
        name: name of the layer, for error messages.
        at_input: store the layer's input instead of its output.
        prepare: computes the tensor to store from the output; by default the output itself is stored.
        replace: the model continues with a copy of the stored tensor; by default it continues with its own output.
        stop: end the forward pass at the layer; the modules after it do not run.

    Yields:
        The capture; its `value` is the stored tensor as soon as the layer has run.

    Raises:
        ValueError: if the layer's output is not one tensor, or if the layer runs twice or not at all.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex.layers.hooks import captured
        >>> model = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(3, 2))
        >>> with captured(model[0], "0", stop=True) as capture:
        ...     model(torch.tensor([[1.0, -1.0, 2.0]]))
        >>> capture.value
        tensor([[1., 0., 2.]])
    """
    capture = Capture()

    def store(output: Tensor) -> Tensor | None:
        capture.value = output if prepare is None else prepare(output)
        if stop:
            raise _LayerReached
        if not replace:
            return None
        with torch.inference_mode(False):  # also where the model itself runs the layer in this mode
            return capture.value.clone()  # the modules after the layer may change it in place

    with suppress(_LayerReached), watched(layer, name, store, at_input=at_input):
        yield capture


class _LayerReached(Exception):  # noqa: N818 - not an error: it ends a forward pass early
    pass
