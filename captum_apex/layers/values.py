"""Checks of what a model gives, NaN and infinity among it, and the conversion from half precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["at_least_float32", "check_finite", "checked_output"]


def check_finite(tensor: Tensor, what: str, first_clip: int = 0) -> None:
    """Raises an error that names the first clip with NaN or infinity.

    Args:
        tensor: values of shape (clip, ...).
        what: name of the values in the error message, a plural.
        first_clip: index of the tensor's first clip in the dataset.

    Raises:
        ValueError: if a value is NaN or infinite.

    Example:
        >>> import torch
        >>> from captum_apex.layers import check_finite
        >>> check_finite(torch.tensor([[0.0], [float("nan")]]), "the inputs", first_clip=10)
        Traceback (most recent call last):
            ...
        ValueError: expected finite values, but the inputs of clip 11 have NaN or infinity
    """
    # A sum is several times as fast as `isfinite`; it is also infinite where finite values overflow.
    if not tensor.is_floating_point() or tensor.sum().isfinite():
        return
    if not tensor.isfinite().all():
        clip = first_clip + int((~tensor.isfinite().flatten(1).all(1)).nonzero()[0])
        raise ValueError(f"expected finite values, but {what} of clip {clip} have NaN or infinity")


def at_least_float32(tensor: Tensor) -> Tensor:
    """The tensor in float32 if it is in half precision; otherwise the tensor itself.

    Args:
        tensor: a tensor of any shape and dtype.

    Example:
        >>> import torch
        >>> from captum_apex.layers import at_least_float32
        >>> at_least_float32(torch.tensor([0.5], dtype=torch.float16)).dtype
        torch.float32
    """
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def checked_output(output: Any, forward_func: Callable) -> Tensor:
    r"""The output of a model, after a check that it is one tensor.

    Args:
        output: what the model has returned.
        forward_func: the model, or a function that calls it.

    Returns:
        `output`, unchanged.

    Raises:
        ValueError: the output is a tuple, a dictionary or another object; the message has a line of code that makes the
            model return the scores in it.

    Example:
        >>> import torch
        >>> from captum_apex.layers.values import checked_output
        >>> from torch import nn
        >>> try:
        ...     checked_output({"logits": torch.zeros(2, 3)}, nn.Flatten())
        ... except ValueError as error:
        ...     print(str(error).replace("; ", ";\n"))
        expected the model Flatten to return a tensor of scores (clip, class), but got a dict with ['logits'] (2, 3);
        make it return the scores alone: `model.register_forward_hook(lambda module, inputs, output: output['logits'])`
    """
    if isinstance(output, Tensor):
        return output
    kind = type(output).__name__
    entries = _entries(output)
    known = isinstance(forward_func, nn.Module)
    name = type(forward_func).__name__ if known else getattr(forward_func, "__name__", type(forward_func).__name__)
    listed = ", ".join(f"{key} {_described(value)}" for key, value in list(entries.items())[:6])
    message = (
        f"expected the model {name} to return a tensor of scores (clip, class), but got "
        f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}{f' with {listed}' if entries else ''}; "
    )
    if not entries or not known:
        raise ValueError(f"{message}return the scores alone{f', such as output{_scores(entries)}' if entries else ''}")
    if hasattr(output, "logits") and hasattr(output, "to_tuple"):
        raise ValueError(f"{message}explain the model `captum_apex.pretrained.LogitsModel(model)`, which does")
    raise ValueError(
        f"{message}make it return the scores alone: "
        f"`model.register_forward_hook(lambda module, inputs, output: output{_scores(entries)})`"
    )


def _entries(output: Any) -> dict[str, Any]:
    """What an output holds, by the code that reads it."""
    if isinstance(output, Mapping):
        return {f"[{key!r}]": value for key, value in output.items()}
    if isinstance(output, (tuple, list)):
        names = getattr(output, "_fields", None) or range(len(output))
        return {
            f"[{key}]" if isinstance(key, int) else f".{key}": each for key, each in zip(names, output, strict=True)
        }
    if is_dataclass(output):
        return {f".{each.name}": getattr(output, each.name) for each in fields(output)}
    return {f".{key}": value for key, value in getattr(output, "__dict__", {}).items() if isinstance(value, Tensor)}


def _described(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__


def _scores(entries: dict[str, Any]) -> str:
    """The code that reads the scores: logits by their name, or else the first tensor (clip, class)."""
    named = [key for key in entries if key.strip("[].'") == "logits"]
    tensors = [key for key, value in entries.items() if isinstance(value, Tensor)]
    per_class = [key for key in tensors if entries[key].dim() == 2]
    return [*named, *per_class, *tensors, *entries][0]
