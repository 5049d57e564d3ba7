"""From scores to probabilities: whether classes exclude each other, and whether scores are probabilities already."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from torch import Tensor

__all__ = ["check_logits", "checked_exclusive"]

_ENOUGH = 16  # scores between 0 and 1, from which on they are hardly logits
_ROUNDING = 1e-3  # of a sum of probabilities


def checked_exclusive(exclusive: Any, n_classes: int) -> bool | None:
    """Whether classes exclude each other, as a bool or None.

    Args:
        exclusive: what the user gave.
        n_classes: number of classes.

    Raises:
        TypeError: it is neither a bool nor None.
        ValueError: a single class shall be exclusive.

    Example:
        >>> from captum_apex.classifiers.logits import checked_exclusive
        >>> checked_exclusive(True, 2)
        True
    """
    if exclusive is None:
        return None
    if not isinstance(exclusive, (bool, np.bool_)):
        raise TypeError(
            f"expected `exclusive` to be True, False or None, but got {type(exclusive).__name__} {exclusive!r}"
        )
    if exclusive and n_classes == 1:
        raise ValueError(
            "expected several classes with `exclusive=True`, but there is one: its softmax is 1, whatever sounds"
        )
    return bool(exclusive)


def check_logits(scores: Tensor, exclusive: bool) -> None:
    """Raises for scores that a softmax gave, and warns of those that a sigmoid probably gave.

    The softmax of probabilities is nearly the same for all classes, and their sigmoid is never below one half.

    Args:
        scores: scores of the model, (..., class).
        exclusive: whether probabilities are the softmax of the scores; otherwise they are the sigmoid.

    Raises:
        ValueError: several classes have scores from 0 to 1 that sum to 1 for every clip.

    Example:
        >>> import torch
        >>> from captum_apex.classifiers.logits import check_logits
        >>> check_logits(torch.tensor([2.0, -1.0]), exclusive=True)
        >>> try:
        ...     check_logits(torch.tensor([2.0, -1.0]).softmax(0), exclusive=True)
        ... except ValueError as error:
        ...     print(str(error)[:72])
        expected a model that gives logits, but its scores are probabilities, wh
    """
    if not scores.numel() or not ((scores >= 0) & (scores <= 1)).all():
        return
    if scores.shape[-1] > 1 and ((scores.sum(-1) - 1).abs() < _ROUNDING).all():
        raise ValueError(
            "expected a model that gives logits, but its scores are probabilities, which sum to 1 for each clip; "
            "explain the model without its softmax, of which the logits are the input"
        )
    if not exclusive and scores.numel() >= _ENOUGH and ((scores > 0) & (scores < 1)).all():
        warnings.warn(
            f"all {scores.numel()} scores lie between 0 and 1, as if they were probabilities already; if the model "
            "ends in a sigmoid, explain it without that, because the sigmoid of a probability is never below 0.5",
            stacklevel=3,
        )
