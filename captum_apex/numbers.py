"""Numbers of any kind that people have, as arguments: of Python, of NumPy, or in a tensor."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

__all__ = ["full_scale", "part_of", "real_number", "whole_number"]

_BITS = {"int8": 8, "int16": 16, "int32": 32}  # of samples whose full scale is known from their type


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
        >>> from captum_apex.numbers import whole_number
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


def part_of(part: Any, n_clips: int | None = None) -> tuple[int, int]:
    """The index of a part and the number of parts, after a check that there is such a part.

    Args:
        part: a pair of whole numbers.
        n_clips: number of clips of which each part has at least one; None for parts that may be empty.

    Raises:
        TypeError: it is no pair of integers.
        ValueError: the index is not below the number of parts, or there are more parts than clips.

    Example:
        >>> from captum_apex.numbers import part_of
        >>> part_of([1, 4])
        (1, 4)
    """
    if not isinstance(part, Sequence) or len(part) != 2:
        raise TypeError(f"expected `part` as (index, number of parts), but got {part!r}")
    index = whole_number(part[0], "part", least=0)
    n_parts = whole_number(part[1], "part", least=1)
    if index >= n_parts or (n_clips is not None and n_parts > n_clips):
        most = "" if n_clips is None else f", and at most {n_clips} parts, one for each clip"
        raise ValueError(
            f"expected `part` as (index, number of parts) with an index below the number of parts{most}, but got {part}"
        )
    return index, n_parts


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
        >>> from captum_apex.numbers import real_number
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


def full_scale(dtype: Any) -> str:
    """What to do with samples of integers, as the end of a message; empty for other samples.

    Args:
        dtype: the type of the samples, of torch or NumPy.

    Example:
        >>> import torch
        >>> from captum_apex.numbers import full_scale
        >>> full_scale(torch.int16), full_scale(torch.float32)
        ('; divide 16-bit samples by 32768', '')
    """
    name = str(dtype).removeprefix("torch.")
    if name in _BITS:
        return f"; divide {_BITS[name]}-bit samples by {2 ** (_BITS[name] - 1)}"
    if name == "uint8":
        return "; subtract 128 from unsigned 8-bit samples, and divide by 128"
    return "; divide samples by their full scale, 32768 for 16 bits" if "int" in name else ""
