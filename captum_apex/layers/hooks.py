"""The model held still, and its layer watched, for the length of a `with` block."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from captum_apex.layers.models import model_of

__all__ = ["Capture", "captured", "frozen", "watched"]


@contextmanager
def frozen(forward_func: Callable, layer: nn.Module) -> Iterator[None]:
    """Holds the model in evaluation mode, its parameters without gradients; every flag is restored, also after an exception.

    Where only a plain function is known, this holds for the layer alone. What torch.compile made runs uncompiled: code that was compiled
    earlier would not see that a layer is watched.
    """
    model = model_of(forward_func) or layer
    training = [module for module in model.modules() if module.training]
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for module in training:
            module.training = False
        for parameter in trainable:
            parameter.requires_grad_(False)
        with _uncompiled():
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
    """While inside, `change` sees what the layer gives (or takes, `at_input`); what it returns goes on in its place.

    Raises:
        ValueError: naming the layer, where it gives something other than one tensor, runs twice, or (on leaving) never ran.
    """
    runs = 0

    def see(value: Any) -> Tensor | None:
        nonlocal runs
        runs += 1
        if runs > 1:
            raise ValueError(
                f"expected the layer {name!r} to run once in a forward pass, but it ran again; explain a layer that is not reused"
            )
        if isinstance(value, tuple) and len(value) == 1:
            value = value[0]
        if not isinstance(value, Tensor):
            raise ValueError(
                f"expected the layer {name!r} to give one tensor, but got {type(value).__name__}; explain a layer inside or after it"
            )
        return change(value)

    def before(_: nn.Module, arguments: tuple) -> tuple | None:
        changed = see(arguments[0] if arguments else None)
        return None if changed is None else (changed, *arguments[1:])

    def after(_: nn.Module, __: tuple, output: Any) -> Any:
        changed = see(output)
        return (changed,) if changed is not None and isinstance(output, tuple) else changed

    handle = layer.register_forward_pre_hook(before) if at_input else layer.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()
    if runs == 0:
        raise ValueError(f"expected the layer {name!r} to run in the forward pass, but it never did")


@dataclass
class Capture:
    """What a layer gave in the one forward pass inside a `captured` block.

    Args:
        value: the tensor; there is none before the layer ran.
    """

    value: Tensor = field(init=False)


@contextmanager
def captured(
    layer: nn.Module,
    name: str,
    *,
    at_input: bool = False,
    prepare: Callable[[Tensor], Tensor] | None = None,
    stop: bool = False,
) -> Iterator[Capture]:
    """Keeps the output of a layer in the forward pass that runs inside.

    Args:
        layer: the module.
        name: name of the layer, for messages.
        at_input: keep what goes into the layer instead of what comes out.
        prepare: makes the tensor to keep from the output; the model then goes on with a copy of it. By default the output
            itself is kept, and the model goes on as ever.
        stop: end the forward pass at the layer; what follows the layer does not run.

    Yields:
        The capture, whose `value` is the tensor as soon as the layer has run.

    Raises:
        ValueError: as `watched` raises it.

    >>> layer = nn.Linear(2, 2, bias=False).requires_grad_(False)
    >>> layer.weight.copy_(torch.eye(2)).shape
    torch.Size([2, 2])
    >>> with captured(layer, "layer") as capture:
    ...     _ = nn.Sequential(layer, nn.ReLU())(torch.tensor([[1.0, -1.0]]))
    >>> capture.value
    tensor([[ 1., -1.]])
    """
    capture = Capture()

    def keep(output: Tensor) -> Tensor | None:
        capture.value = output if prepare is None else prepare(output)
        if stop:
            raise _LayerReached
        return None if prepare is None else capture.value.clone()  # what follows may work in place

    with suppress(_LayerReached), watched(layer, name, keep, at_input=at_input):
        yield capture


class _LayerReached(Exception):  # noqa: N818 - not an error: it ends a forward pass early
    pass
