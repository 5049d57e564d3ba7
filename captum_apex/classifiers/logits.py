"""Scores: one per class, of classes that exclude each other or not, and not probabilities already."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from captum_apex.caller import warn_caller
from captum_apex.layers.selected_output import one_score_per_class

__all__ = [
    "ScoreCountError",
    "check_logits",
    "checked_exclusive",
    "checked_scores",
    "kind_of_scores",
    "naming_score_counts",
    "score_count_fault",
    "silence_bar",
    "warn_of_probabilities",
]


class _Scoring(Protocol):
    """What is needed of a `Classifier` to try it."""

    @property
    def sample_rate(self) -> int: ...

    @property
    def length(self) -> int | None: ...

    def inputs(self, waveform: Tensor, name: str = ...) -> Tensor: ...

    def scores(self, inputs: Tensor, name: str = ...) -> list[float]: ...


_ENOUGH = 16  # scores between 0 and 1, from which on they are hardly logits
_ROUNDING = 1e-3  # of a sum of probabilities
_LEAST_ROUNDING = 1e-5  # the same where two logits of one clip may sum to 1 by chance
_AFTER_SIGMOID = (
    *("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Transpose", "Permute", "Select", "Slice", "Clone"),
    *("Mean", "Max", "Amax", "Clamp", "ToCopy"),
)
"""The beginnings of the names that autograd gives to steps which leave probabilities what they are."""

_WITHOUT_SOFTMAX = "explain the model without its softmax, of which the logits are the input"
_PROBABILITIES = {
    "softmax": ("probabilities, as a softmax gives them", _WITHOUT_SOFTMAX),
    "log-softmax": ("logarithms of probabilities, as a log-softmax gives them", _WITHOUT_SOFTMAX),
    "sigmoid": (
        "what a sigmoid gives",
        "explain the logits: `captum_apex.SelectedOutput(model, torch.logit)`",
    ),
}
"""What each kind of scores that are no logits is in words, and what to explain instead."""


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


def checked_scores(output: Tensor, n_classes: int) -> Tensor:
    """The output of the model for one clip, after a check that it has one score per class.

    Args:
        output: output of the model, (1, class).
        n_classes: number of classes.

    Raises:
        ScoreCountError: the output has another number of scores, or scores of frames.

    Example:
        >>> import torch
        >>> from captum_apex.classifiers.logits import checked_scores
        >>> try:
        ...     checked_scores(torch.zeros(1, 50, 3), n_classes=3)
        ... except ValueError as error:
        ...     print(str(error).split("; ")[1].partition(", which")[0])
        explain the model `captum_apex.SelectedOutput(model, lambda output: output.mean(1))`
    """
    if output.numel() == n_classes and output.dim() <= 2:
        return output
    hint = ""
    if output.dim() == 2 and len(output) == 1:
        hint = (
            f"; if all of its {output.shape[1]} scores are those of classes, give the Classifier {output.shape[1]} "
            f"`class_names`, in the order of the scores; it has {n_classes}"
        )
    if output.dim() > 2 and n_classes in output.shape[1:]:
        hint = (
            f"; explain the model `{one_score_per_class(output.shape, n_classes)}`, which gives one score per class "
            "(`amax` in place of `mean` for the largest score)"
        )
    raise ScoreCountError(
        f"expected the model to give a tensor of one score for each of the {n_classes} classes, but got shape "
        f"{tuple(output.shape)}{hint}"
    )


class ScoreCountError(ValueError):
    """A model gives another number of scores than there are class names.

    Example:
        >>> import torch
        >>> from captum_apex.classifiers.logits import ScoreCountError, checked_scores
        >>> try:
        ...     checked_scores(torch.zeros(1, 6), n_classes=5)
        ... except ScoreCountError as error:
        ...     print(str(error).partition("scores are ")[2])
        those of classes, give the Classifier 6 `class_names`, in the order of the scores; it has 5
    """


def score_count_fault(classifier: _Scoring) -> str:
    """What is wrong with the number of class names of a classifier, found by a pass of a clip of zeros.

    Args:
        classifier: the classifier.

    Returns:
        The message of the error; empty where there are as many names as scores, and where the model or the transform
        does not take the zeros.

    Example:
        >>> import torch
        >>> from captum_apex import Classifier
        >>> from captum_apex.classifiers.logits import score_count_fault
        >>> classifier = Classifier(torch.nn.Linear(9, 6), lambda waveform: waveform[:9], 8000, ["dog", "rain"])
        >>> score_count_fault(classifier).partition("; ")[0]
        'expected the model to give a tensor of one score for each of the 2 classes, but got shape (1, 6)'
    """
    n_samples = classifier.sample_rate if classifier.length is None else classifier.length
    with suppress(Exception):  # the user's code can raise anything, and the caller has another error at hand
        try:
            classifier.scores(classifier.inputs(torch.zeros(n_samples)))
        except ScoreCountError as error:
            return str(error)
    return ""


@contextmanager
def naming_score_counts(classifier: _Scoring) -> Iterator[None]:
    """Where classes do not fit, the error names the reason if it is that there are more or fewer names than scores.

    Args:
        classifier: the classifier by whose classes recordings are read inside.

    Example:
        >>> import torch
        >>> from captum_apex import Classifier
        >>> from captum_apex.classifiers.logits import naming_score_counts
        >>> classifier = Classifier(torch.nn.Linear(9, 6), lambda waveform: waveform[:9], 8000, ["dog", "rain"])
        >>> try:
        ...     with naming_score_counts(classifier):
        ...         raise ValueError("expected the sub-folders to be named like classes, but got 'rooster'")
        ... except ValueError as error:
        ...     print(str(error).partition("; ")[0])
        expected the model to give a tensor of one score for each of the 2 classes, but got shape (1, 6)
    """
    try:
        yield
    except ValueError as error:
        fault = score_count_fault(classifier)
        if fault:
            raise ValueError(fault) from error
        raise


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
        warn_caller(
            f"all {scores.numel()} scores lie between 0 and 1, as if they were probabilities already; if the model "
            "ends in a sigmoid, explain it without that, because the sigmoid of a probability is never below 0.5"
        )


def warn_of_probabilities(output: Tensor) -> None:
    """Warns where contributions to probabilities are computed, which are no contributions to logits.

    A softmax is recognised by its values, a sigmoid by the graph of the output.

    Args:
        output: the explained output of the model with its graph, (clip, class) or with more axes.

    Example:
        >>> import warnings
        >>> import torch
        >>> from captum_apex.classifiers.logits import warn_of_probabilities
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_of_probabilities(torch.tensor([[2.0, -1.0]]))
        ...     warn_of_probabilities(torch.tensor([[2.0, -1.0]]).softmax(1))
        >>> [str(warning.message)[:58] for warning in caught]
        ['the scores are probabilities, as a softmax gives them, so ']
    """
    kind = kind_of_scores(output)
    if kind == "logits":
        return
    what, instead = _PROBABILITIES[kind]
    warn_caller(
        f"the scores are {what}, so that contributions are those to a probability: they add up only roughly, and fall "
        f"to 0 where the model is certain; {instead}"
    )


def kind_of_scores(output: Tensor) -> str:
    """What a model's scores are: `"logits"`, or what `"softmax"`, `"log-softmax"` or `"sigmoid"` gives.

    Args:
        output: the output of the model with its graph, (clip, class) or with more axes.

    Example:
        >>> import torch
        >>> from captum_apex.classifiers.logits import kind_of_scores
        >>> logits = torch.tensor([[2.0, -1.0]], requires_grad=True)
        >>> kind_of_scores(logits), kind_of_scores(logits.softmax(1)), kind_of_scores(logits.sigmoid())
        ('logits', 'softmax', 'sigmoid')
    """
    values = output.detach()
    if _sum_to_one(values):
        return "softmax"
    if (values <= 0).all() and _sum_to_one(values.exp()):
        return "log-softmax"
    return "sigmoid" if _ends_in_sigmoid(output) else "logits"


def _sum_to_one(output: Tensor) -> bool:
    """Whether several scores of each clip are probabilities of classes that exclude each other."""
    if output.dim() != 2 or output.shape[1] < 2 or not ((output >= 0) & (output <= 1)).all():
        return False
    rounding = max(_LEAST_ROUNDING, torch.finfo(output.dtype).eps) if output.is_floating_point() else 0.0
    return bool(((output.sum(1) - 1).abs() <= rounding).all())


def _ends_in_sigmoid(output: Tensor) -> bool:
    """Whether a sigmoid gave the scores, or the scores of frames or of places of which they are the mean or maximum."""
    node: Any = output.grad_fn
    while node is not None and node.name().startswith(_AFTER_SIGMOID):
        node = node.next_functions[0][0]
    return node is not None and node.name().startswith("SigmoidBackward")


def silence_bar(n_classes: int, exclusive: bool | None, *, clearly: bool = False) -> float:
    """The probability of a class in digital silence above which silence has that class for the model.

    It is halfway between chance and certainty: 0.5 for a class of its own, and more among classes that exclude each
    other, of which one gets at least the share of chance, 0.5 of two classes.

    Args:
        n_classes: number of classes.
        exclusive: whether the classes exclude each other.
        clearly: whether it shall be so clear that a warning is due, 0.05 above the bar: a model that is undecided, such
            as an untrained one, has about 0.5 of each class.

    Example:
        >>> from captum_apex.classifiers.logits import silence_bar
        >>> silence_bar(10, exclusive=False), silence_bar(2, exclusive=True), silence_bar(10, exclusive=True)
        (0.5, 0.75, 0.55)
    """
    return 0.5 + (0.5 / n_classes if exclusive else 0.0) + 0.05 * clearly
