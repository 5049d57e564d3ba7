"""The explained layer: held still, watched, and seen as a grid of channels over frequency and time."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from types import MethodType
from typing import Any

import torch
from einops import EinopsError, rearrange
from torch import Tensor, nn

__all__ = [
    "Columns",
    "Layout",
    "Origin",
    "at_least_float32",
    "check_finite",
    "checked_columns",
    "fingerprint",
    "frozen",
    "layer_name",
    "model_of",
    "on_one_device",
    "watched",
]


Columns = Callable[[Tensor], Tensor]
"""From the lengths of clips in steps of the input's time axis, int64 (clip,), to their numbers of columns at the layer, int64 (clip,)."""


@dataclass(frozen=True)
class Layout:
    """How a layer's output becomes a grid (clip, channel, frequency, time).

    Args:
        pattern: an einops pattern that ends in `n c f t`, such as `"n t c -> n c 1 t"` for a transformer over frames.
        sizes: the axis sizes that the pattern leaves open, such as `{"f": 12}` for `"n (f t) c -> n c f t"`.
        class_tokens: the first so many entries of axis 1 belong to no place of the clip, and are left out of the grid.

    >>> Layout("n (f t) c -> n c f t", {"f": 2}, class_tokens=1).grid(torch.zeros(1, 7, 5)).shape
    torch.Size([1, 5, 2, 3])
    """

    pattern: str = "n c f t -> n c f t"
    sizes: Mapping[str, int] | None = None
    class_tokens: int = 0

    @classmethod
    def of(cls, layout: Layout | str | tuple[str, Mapping[str, int]] | None) -> Layout:
        """The layout that a user wrote: a pattern, a pattern with its sizes, or None for (clip, channel, frequency, time)."""
        if layout is None or isinstance(layout, cls):
            return layout or cls()
        if isinstance(layout, str):
            return cls(layout)
        if isinstance(layout, tuple) and len(layout) == 2:
            return cls(layout[0], dict(layout[1]))
        raise TypeError(f"expected `layout` to be an einops pattern or (pattern, sizes), but got {layout!r}")

    def grid(self, output: Tensor, layer: str = "the layer") -> Tensor:
        """A layer's output as (clip, channel, frequency, time).

        Raises:
            ValueError: naming the layer and the shape of its output, where the pattern does not fit or nothing is left beside class tokens.
        """
        if self.class_tokens and not 0 < self.class_tokens < output.shape[1]:
            raise ValueError(
                f"expected `class_tokens` from 0 to {output.shape[1] - 1}, because {layer} gives {output.shape[1]} entries on axis 1, "
                f"but got {self.class_tokens}"
            )
        try:
            grid = rearrange(output[:, self.class_tokens :], self.pattern, **(self.sizes or {}))
        except EinopsError as error:
            raise ValueError(
                f"expected {layer} to give a tensor that fits {self.pattern!r}, but got shape {tuple(output.shape)}; "
                'pass `layout`, an einops pattern to "n c f t", such as "n t c -> n c 1 t" for tokens over time'
            ) from error
        if grid.dim() != 4:
            raise ValueError(f"expected `layout` to give 4 axes (clip, channel, frequency, time), but {self.pattern!r} gives {grid.dim()}")
        return grid


@dataclass(frozen=True)
class Origin:
    """What features were taken from.

    Args:
        layer: the layer's name in the model.
        layout: how its output is seen as a grid.
        grid: (frequency, time), the grid's size; the longest clip's where there are several lengths.
        input_shape: one input's shape, without the batch axis; None where clips have several lengths.
        fingerprint: of the model's weights; empty where the model is not known (a plain function).
        n_clips: clips in the dataset.
        at_input: whether the layer's input was taken, not its output.
        dataset: a fingerprint of the dataset, from whoever can tell one from another; empty where nobody can.
    """

    layer: str = ""
    layout: Layout = Layout()
    grid: tuple[int, int] | None = None
    input_shape: tuple[int, ...] | None = None
    fingerprint: str = ""
    n_clips: int = 0
    at_input: bool = False
    dataset: str = ""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Origin:
        """The inverse of `dataclasses.asdict`, also after a way through JSON, which turns tuples into lists."""
        tuples = {name: None if values[name] is None else tuple(values[name]) for name in ("grid", "input_shape")}
        return cls(**{**values, **tuples, "layout": Layout(**values["layout"])})


def on_one_device(forward_func: Callable) -> Callable:
    """The model that a data-parallel one copies to several devices; else the function itself.

    The copies run at once, each with a part of the batch: a layer that is watched would run several times.
    """
    inside = _uncompiled_module(forward_func) if isinstance(forward_func, nn.Module) else forward_func
    if isinstance(inside, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return inside.module
    return forward_func


def model_of(forward_func: Callable) -> nn.Module | None:
    """The module behind a forward function: itself, a bound method's owner, what a partial, parallel or compiled one wraps; or None."""
    forward_func = on_one_device(forward_func)
    if isinstance(forward_func, nn.Module):
        return _uncompiled_module(forward_func)
    if isinstance(forward_func, partial):
        return model_of(forward_func.func)
    if isinstance(forward_func, MethodType) and isinstance(forward_func.__self__, nn.Module):
        return forward_func.__self__
    return None


def layer_name(forward_func: Callable, layer: nn.Module) -> str:
    """The layer's name in its model.

    Raises:
        TypeError: where the layer is not a module.
        ValueError: where the layer is not part of the model.
    """
    if not isinstance(layer, nn.Module):
        raise TypeError(f"expected `layer` to be a torch.nn.Module, but got {type(layer).__name__}")
    model = model_of(forward_func)
    if model is None:
        return type(layer).__name__
    for name, module in model.named_modules():
        if module is layer:
            return name or type(layer).__name__
    raise ValueError(f"expected `layer` to be part of the model {type(model).__name__}, but this {type(layer).__name__} is not")


def fingerprint(forward_func: Callable) -> str:
    """A SHA-256 of the model's floating-point weights and buffers, in order; empty for a plain function.

    It is the same in float32 and float64, and where the model is wrapped (in a `Sequential` with a softmax, say).
    """
    model = model_of(forward_func)
    if model is None:
        return ""
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.detach().to("cpu", torch.float32).contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def check_finite(tensor: Tensor, what: str, first_clip: int = 0) -> None:
    """Raises a ValueError that names the first clip with NaN or infinity.

    Args:
        tensor: (clip, ...).
        what: the words for it in the message.
        first_clip: the number of the tensor's first clip.
    """
    if not tensor.is_floating_point() or tensor.sum().isfinite():  # a sum is several times as fast, and can only overflow beside that
        return
    if not tensor.isfinite().all():
        clip = first_clip + int((~tensor.isfinite().flatten(1).all(1)).nonzero()[0])
        raise ValueError(f"expected finite values, but {what} of clip {clip} have NaN or infinity")


def checked_columns(columns: Tensor, grid: Tensor) -> Tensor:
    """The numbers of columns of padded clips, after making sure that the grid has them.

    Args:
        columns: int64 (clip,).
        grid: (clip, channel, frequency, time).

    Raises:
        ValueError: for another shape or type, or a number that is not from 1 to the grid's columns, naming the clip.
    """
    if not isinstance(columns, Tensor) or columns.dtype != torch.int64 or columns.shape != (len(grid),):
        got = f"{columns.dtype} {tuple(columns.shape)}" if isinstance(columns, Tensor) else type(columns).__name__
        raise ValueError(f"expected `columns` to give int64 of shape {(len(grid),)}, one number per clip, but got {got}")
    wrong = (columns < 1) | (columns > grid.shape[-1])
    if wrong.any():
        clip = int(wrong.nonzero()[0])
        raise ValueError(
            f"expected from 1 to {grid.shape[-1]} columns of the layer for every clip, but got {int(columns[clip])} for clip {clip}"
        )
    return columns


def at_least_float32(tensor: Tensor) -> Tensor:
    """Half precision becomes float32; the rest stays as it is."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


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


def _uncompiled_module(model: nn.Module) -> nn.Module:
    return getattr(model, "_orig_mod", model)  # where torch.compile keeps the model


def _uncompiled() -> AbstractContextManager:
    if "torch._dynamo" not in sys.modules:  # nothing is compiled, and the import would take a second
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


@contextmanager
def watched(layer: nn.Module, name: str, change: Callable[[Tensor], Tensor | None], *, at_input: bool = False) -> Iterator[None]:
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
