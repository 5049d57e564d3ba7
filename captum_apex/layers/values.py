"""Checks of values: NaN and infinity, and what a model gives; and the conversion from half precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn

__all__ = [
    "NotFiniteError",
    "at_least_float32",
    "check_each_finite",
    "check_finite",
    "check_not_nan",
    "checked_output",
    "described_output",
    "naming_clips",
]


_MOST_ENTRIES = 8  # of an output, in a message
_NAMES_OF_SCORES = ("logit", "score", "clipwise", "pred", "class")


class NotFiniteError(ValueError):
    """NaN or infinity in the values of a clip.

    Args:
        what: name of the values, a plural.
        clip: index of the clip.
        name: name of the clip in the message; by default its index.

    Example:
        >>> from captum_apex.layers.values import NotFiniteError
        >>> print(NotFiniteError("the inputs", 3))
        expected finite values, but the inputs of clip 3 have NaN or infinity
    """

    def __init__(self, what: str, clip: int, name: str = "") -> None:
        super().__init__(f"expected finite values, but {what} of {name or f'clip {clip}'} have NaN or infinity")
        self.what = what
        self.clip = clip

    def __reduce__(self) -> tuple[Any, ...]:  # for the workers of a DataLoader
        return _restored, (str(self), self.what, self.clip)


def _restored(message: str, what: str, clip: int) -> NotFiniteError:
    error = NotFiniteError(what, clip)
    error.args = (message,)
    return error


@contextmanager
def naming_clips(name: Callable[[int], str]) -> Iterator[None]:
    """Names the clip of a `NotFiniteError` that is raised inside the block as the user knows it.

    Args:
        name: function from the index of the clip to its name, such as a file or a time.

    Example:
        >>> import torch
        >>> from captum_apex.layers.values import check_finite, naming_clips
        >>> try:
        ...     with naming_clips(lambda clip: f"the window at {2 * clip} s"):
        ...         check_finite(torch.tensor([[0.0], [float("nan")]]), "the inputs")
        ... except ValueError as error:
        ...     print(error)
        expected finite values, but the inputs of the window at 2 s have NaN or infinity
    """
    try:
        yield
    except NotFiniteError as error:
        raise NotFiniteError(error.what, error.clip, name(error.clip)) from None


def check_finite(tensor: Tensor, what: str, first_clip: int = 0) -> None:
    """Raises an error that names the first clip with NaN or infinity.

    Args:
        tensor: values of shape (clip, ...).
        what: name of the values in the error message, a plural.
        first_clip: index of the tensor's first clip in the dataset.

    Raises:
        NotFiniteError: a value is NaN or infinite; it is a ValueError.

    Example:
        >>> import torch
        >>> from captum_apex.layers import check_finite
        >>> try:
        ...     check_finite(torch.tensor([[0.0], [float("nan")]]), "the inputs", first_clip=10)
        ... except ValueError as error:
        ...     print(error)
        expected finite values, but the inputs of clip 11 have NaN or infinity
    """
    # A sum is several times as fast as `isfinite`; it is also infinite where finite values overflow.
    if not tensor.is_floating_point() or tensor.sum().isfinite():
        return
    if not tensor.isfinite().all():
        clip = first_clip + int((~tensor.isfinite().reshape(len(tensor), -1).all(1)).nonzero()[0])
        raise NotFiniteError(what, clip)


def check_each_finite(tensors: Mapping[str, Tensor]) -> None:
    """As `check_finite` for several tensors; only one number leaves the device as long as there is no fault.

    Args:
        tensors: values of shape (clip, ...) by their name in the error message, a plural.

    Raises:
        NotFiniteError: a value is NaN or infinite.

    Example:
        >>> import torch
        >>> from captum_apex.layers.values import check_each_finite
        >>> try:
        ...     check_each_finite({"the inputs": torch.zeros(1, 2), "the scores": torch.tensor([torch.inf])})
        ... except ValueError as error:
        ...     print(error)
        expected finite values, but the scores of clip 0 have NaN or infinity
    """
    total = sum(tensor.detach().sum() for tensor in tensors.values())
    if math.isfinite(float(total)):
        return
    for what, tensor in tensors.items():
        check_finite(tensor.detach(), what)


def check_not_nan(tensor: Tensor, what: str) -> None:
    """Raises an error that names the first clip with NaN; infinity is allowed, as in the scores of excluded classes.

    Args:
        tensor: values of shape (clip, ...).
        what: name of the values in the error message, a plural.

    Raises:
        NotFiniteError: a value is NaN.

    Example:
        >>> import torch
        >>> from captum_apex.layers.values import check_not_nan
        >>> try:
        ...     check_not_nan(torch.tensor([[0.0, -torch.inf], [0.0, torch.nan]]), "the outputs")
        ... except ValueError as error:
        ...     print(error)
        expected finite values, but the outputs of clip 1 have NaN or infinity
    """
    if tensor.is_floating_point() and tensor.isnan().any():
        raise NotFiniteError(what, int(tensor.isnan().reshape(len(tensor), -1).any(1).nonzero()[0]))


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
        ValueError: the output is a tuple, a dictionary or another object; the message lists what it holds, and has the
            line of code that selects the scores.

    Example:
        >>> import torch
        >>> from captum_apex.layers.values import checked_output
        >>> from torch import nn
        >>> try:
        ...     checked_output({"logits": torch.zeros(2, 3)}, nn.Flatten())
        ... except ValueError as error:
        ...     print(str(error).replace("; ", ";\n"))
        expected the model Flatten to return a tensor of scores (clip, class), but got a dict with ['logits'] (2, 3);
        explain the model `captum_apex.SelectedOutput(model, 'logits')`
    """
    if isinstance(output, Tensor):
        return output
    entries = _entries(output)
    known = isinstance(forward_func, nn.Module)
    name = type(forward_func).__name__ if known else getattr(forward_func, "__name__", type(forward_func).__name__)
    message = (
        f"expected the model {name} to return a tensor of scores (clip, class), but got {described_output(output)}; "
    )
    if not entries or not known:
        raise ValueError(f"{message}return the scores alone{f', such as output{_scores(entries)}' if entries else ''}")
    several = sum(isinstance(value, Tensor) for value in entries.values()) > 1
    raise ValueError(
        f"{message}explain the model `captum_apex.SelectedOutput(model, {_selection(entries)})`"
        f"{', if this entry has the scores' if several else ''}"
    )


def described_output(output: Any) -> str:
    """What a model or a module gives, in words: its kind, and the tensors in it with their shapes.

    Args:
        output: the output, of any type.

    Example:
        >>> import torch
        >>> from captum_apex.layers.values import described_output
        >>> described_output((torch.zeros(2, 8), {"attention": torch.zeros(2, 4, 4)}))
        "a tuple with [0] (2, 8), [1]['attention'] (2, 4, 4)"
    """
    kind = type(output).__name__
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    listed = [f"{key} {_described(value)}" for key, value in _leaves(output).items()]
    more = ", …" if len(listed) > _MOST_ENTRIES else ""
    inside = f" with {', '.join(listed[:_MOST_ENTRIES])}{more}" if listed else ""
    return f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}{inside}"


def _leaves(output: Any, depth: int = 3) -> dict[str, Any]:
    """The entries of an output by the code that reads them, and in place of an entry the entries inside it."""
    leaves: dict[str, Any] = {}
    for key, value in _entries(output).items():
        inside = {} if isinstance(value, Tensor) or depth == 1 else _leaves(value, depth - 1)
        leaves |= {f"{key}{inner}": each for inner, each in inside.items()} or {key: value}
    return leaves


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
    """The code that reads the scores: logits or scores by their name, or else the first tensor (clip, class)."""
    logits = [key for key in entries if key.strip("[].'") == "logits"]
    tensors = [key for key, value in entries.items() if isinstance(value, Tensor)]
    per_class = [key for key in tensors if entries[key].dim() == 2]
    named = [key for key in per_class if any(word in key.lower() for word in _NAMES_OF_SCORES)]
    return [*logits, *named, *per_class, *tensors, *entries][0]


def _selection(entries: dict[str, Any]) -> str:
    """What to pass as the `output` of a `SelectedOutput`."""
    code = _scores(entries)
    return repr(code[1:]) if code.startswith(".") else code[1:-1]
