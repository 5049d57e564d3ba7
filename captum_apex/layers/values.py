"""Checks of values: NaN and infinity in tensors, whole numbers; and the conversion from half precision."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "NotFiniteError",
    "at_least_float32",
    "check_finite",
    "check_not_nan",
    "naming_clips",
    "real_number",
    "whole_number",
]


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


def whole_number(value: Any, name: str, least: int | None = None) -> int:
    """An integer of any kind that people have: a Python int, a NumPy integer, a tensor or an array of one integer.

    Args:
        value: the value.
        name: name of the argument, for messages.
        least: smallest number allowed; None for no bound.

    Raises:
        TypeError: the value is a bool, a float, or anything else that is no integer.
        ValueError: the number is below `least`.

    Example:
        >>> import numpy as np
        >>> from captum_apex.layers.values import whole_number
        >>> whole_number(np.int64(5), "n_channels")
        5
    """
    bound = "" if least is None else f" of at least {least}"
    is_bool = isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")
    try:
        number = None if is_bool else operator.index(value)
    except TypeError:  # a float, or several numbers
        number = None
    if number is None:
        raise TypeError(f"expected `{name}` to be an int{bound}, but got {type(value).__name__} {value!r}")
    if least is not None and number < least:
        raise ValueError(f"expected `{name}` to be an int{bound}, but got {number}")
    return number


def real_number(value: Any, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number of any kind that people have: a Python or a NumPy number, a tensor or an array of one number.

    Args:
        value: the value.
        name: name of the argument, for messages.
        low: smallest number allowed.
        high: largest number allowed.

    Raises:
        TypeError: the value is a bool, or no number.
        ValueError: the number is NaN, infinite or out of range.

    Example:
        >>> import numpy as np
        >>> from captum_apex.layers.values import real_number
        >>> real_number(np.float32(0.5), "threshold", 0, 1)
        0.5
    """
    bounds = f" of at least {low:g}" if math.isinf(high) else f" in [{low:g}, {high:g}]"
    bounds = "" if math.isinf(low) else bounds
    if isinstance(value, (bool, str, bytes)) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool"):
        raise TypeError(f"expected `{name}` to be a number{bounds}, but got {type(value).__name__} {value!r}")
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # no number, several numbers, too large an int
        raise TypeError(f"expected `{name}` to be a number{bounds}, but got {type(value).__name__} {value!r}") from None
    if not (math.isfinite(number) and low <= number <= high):
        raise ValueError(f"expected `{name}` to be a finite number{bounds}, but got {number:g}")
    return number


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
        >>> check_not_nan(torch.tensor([[0.0, -torch.inf]]), "the outputs")
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
