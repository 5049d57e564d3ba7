"""Context managers around forward passes that read or change the output of one layer.

They see only the calls of their own thread, and among these only those of the run that they were made for: not those of
an explanation inside the model's forward pass.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from captum_apex.layers.changes import THREAD, noted
from captum_apex.layers.holding import released, removed
from captum_apex.layers.kinds import takes_hooks
from captum_apex.layers.layer_output import tensor_in, with_tensor
from captum_apex.layers.still_models import frozen, held
from captum_apex.layers.values import described_output

__all__ = ["Capture", "captured", "copied", "frozen", "held", "hooked", "replaced", "watched"]


def copied(model: nn.Module) -> nn.Module:
    """A deep copy of a model as its user has left it, also while other threads explain the model.

    Args:
        model: the model.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex.layers.hooks import copied, watched
        >>> model = nn.ReLU()
        >>> with watched(model, "model", lambda output: -output):
        ...     copy = copied(model)
        ...     _ = model(torch.ones(1))
        >>> copy(torch.ones(1))
        tensor([1.])
    """
    with released(model):
        copy = deepcopy(model)
    for module in copy.modules():
        for hooks in (module._forward_hooks, module._forward_pre_hooks):
            for hook in list(hooks.values()):
                if getattr(hook, "__module__", "").startswith("captum_apex.layers."):
                    removed(hooks, hook)
    return copy


@contextmanager
def hooked(module: nn.Module, hook: Callable, *, at_input: bool = False) -> Iterator[None]:
    """A forward hook that sees only the calls of this thread, and not those of a run inside the run.

    Args:
        module: the module.
        hook: the hook, as torch calls it.
        at_input: whether it is a hook that torch calls before the module runs.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex.layers.hooks import hooked
        >>> layer = nn.ReLU()
        >>> with hooked(layer, lambda module, inputs, output: output + 1):
        ...     layer(torch.tensor([1.0]))
        tensor([2.])
        >>> layer(torch.tensor([1.0]))
        tensor([1.])
    """
    thread = threading.current_thread()
    depth = len(THREAD.runs)

    def acting(*arguments: Any) -> Any:
        # Between this block and the module, the run itself may hold the model once; a second hold is another run.
        is_own = threading.current_thread() is thread and len(THREAD.runs) <= depth + 1
        return hook(*arguments) if is_own else None

    with noted(partial(removed, module._forward_pre_hooks if at_input else module._forward_hooks, acting)):
        (module.register_forward_pre_hook if at_input else module.register_forward_hook)(acting)
        yield


@contextmanager
def watched(
    layer: nn.Module, name: str, change: Callable[[Tensor], Tensor | None], *, at_input: bool = False
) -> Iterator[None]:
    """Calls a function with the layer's output in the one forward pass that runs inside the block.

    Of a layer that gives a tuple, such as a recurrent one, it is the first tensor; see
    `captum_apex.layers.layer_output`.

    Args:
        layer: the layer.
        name: name of the layer, for error messages.
        change: gets the layer's output. A tensor that it returns replaces the output; None leaves the output as it is.
        at_input: give `change` the layer's input instead of its output.

    Raises:
        ValueError: if the layer gives no tensor, if the layer runs twice or not at all, or if it is TorchScript.

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
    if not takes_hooks(layer):
        raise ValueError(
            f"expected a layer that takes hooks, but {name!r} is TorchScript; put it into an nn.Sequential in the "
            "model, and explain that; where the whole model is TorchScript, write a module whose `forward` calls its "
            "parts, with an nn.Identity() where the layer is"
        )

    def changed(value: Any) -> Any:
        nonlocal runs
        runs += 1
        _check_runs_once(runs, name)
        other = change(_checked_tensor(value, layer, name))
        return None if other is None else with_tensor(value, layer, other)

    def before(_: nn.Module, arguments: tuple) -> tuple | None:
        value = changed(arguments[0] if arguments else None)
        return None if value is None else (value, *arguments[1:])

    def after(_: nn.Module, __: tuple, output: Any) -> Any:
        return changed(output)

    with hooked(layer, before, at_input=True) if at_input else hooked(layer, after):
        yield
    if runs == 0:
        hint = _place_alone(layer)
        raise ValueError(f"expected the layer {name!r} to run in the forward pass, but it never did{hint}")


def _check_runs_once(runs: int, name: str) -> None:
    if runs > 1:
        around = name.rpartition(".")[0]
        raise ValueError(
            f"expected the layer {name!r} to run once in a forward pass, but it ran again; choose a layer that the "
            f"model uses only once, such as the module around it{f' ({around!r})' if around else ''}; or explain one "
            "of its runs, the layer of `captum_apex.ChosenRun(model, module, run)`; where it runs once for each frame "
            "or window, stack what it gives along the time in `forward`, give that to an nn.Identity(), and explain "
            "the identity"
        )


def _checked_tensor(value: Any, layer: nn.Module, name: str) -> Tensor:
    """The tensor in what a layer gives, after a check that there is one."""
    tensor = tensor_in(value, layer)
    if tensor is None:
        raise ValueError(
            f"expected the layer {name!r} to give a tensor, or a tuple that begins with one, but got "
            f"{described_output(value)}; choose a layer inside it or after it, or give the tensor to an nn.Identity() "
            "in `forward`, and explain the identity"
        )
    return tensor


def _place_alone(layer: nn.Module) -> str:
    """What to do about a module that only holds weights, as the end of a message; empty for any other."""
    if type(layer) is not nn.Module:
        return ""
    return (
        ": it only holds weights, as the modules of `torch.export` do; explain the model "
        "`torch.export.unflatten(program)`, whose modules run"
    )


@contextmanager
def replaced(layer: nn.Module, name: str, values: Callable[[], Tensor]) -> Iterator[None]:
    """Replaces the output of a layer in the forward pass that runs inside the block.

    Where the gradient is recorded when the block begins, it is recorded from this layer on also if the model runs the
    layer and the modules behind it under `torch.no_grad()`, or the layer alone under `torch.inference_mode()`.

    Args:
        layer: the layer.
        name: name of the layer, for error messages.
        values: gives the tensor that replaces the output; the model continues with a copy.

    Raises:
        ValueError: if the layer gives no tensor, or if the layer runs twice or not at all.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex.layers.hooks import replaced
        >>> layer = nn.ReLU()
        >>> values = torch.tensor([5.0], requires_grad=True)
        >>> with replaced(layer, "relu", lambda: values), torch.no_grad():
        ...     output = layer(torch.tensor([-1.0]))
        >>> output.requires_grad
        True
    """
    is_recorded = torch.is_grad_enabled()

    def copied_values(_: Tensor) -> Tensor:
        if not is_recorded:
            return values().clone()  # the modules after the layer may change it in place
        if not torch.is_inference_mode_enabled():  # there, no later module can record a gradient
            torch.set_grad_enabled(True)
        with torch.inference_mode(False):
            return values().clone()

    with watched(layer, name, copied_values):
        yield


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
        ValueError: if the layer gives no tensor, or if the layer runs twice or not at all.

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


class _LayerReached(BaseException):
    """Ends a forward pass early. It is no `Exception`, so that no module catches it, and torch runs no hooks for it."""
