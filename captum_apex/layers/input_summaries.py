"""Short summaries of inputs, by which it is noticed that a recording or a transform is another one."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

__all__ = ["input_summary", "is_same_input"]

_SAME = 1e-3  # how much the mean and the size of an input may differ on another machine, as a share


def input_summary(values: Tensor) -> dict[str, Any]:
    """The shape, the mean and the size of an input, as JSON can hold them.

    Args:
        values: the input of a clip, without the clip axis.

    Returns:
        `shape`; `mean`, that of all values; and `size`, the square root of the sum of their squares.

    Example:
        >>> import torch
        >>> from captum_apex.layers.input_summaries import input_summary
        >>> input_summary(torch.tensor([[3.0, 4.0]]))
        {'shape': [1, 2], 'mean': 3.5, 'size': 5.0}
    """
    finite = values.detach().double().nan_to_num().cpu()
    return {"shape": list(values.shape), "mean": finite.mean().item(), "size": finite.norm().item()}


def is_same_input(former: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether two summaries can be of one input, which another machine has computed with other rounding errors.

    Args:
        former: a summary.
        now: another one.

    Example:
        >>> from captum_apex.layers.input_summaries import is_same_input
        >>> summary = {"shape": [1, 2], "mean": 3.5, "size": 5.0}
        >>> is_same_input(summary, {**summary, "mean": 3.5001}), is_same_input(summary, {**summary, "size": 6.0})
        (True, False)
    """
    scale = max(former["size"], now["size"]) / math.sqrt(max(1, math.prod(now["shape"])))  # of one value
    return (
        former["shape"] == now["shape"]
        and abs(former["mean"] - now["mean"]) <= _SAME * scale
        and math.isclose(former["size"], now["size"], rel_tol=_SAME)
    )
