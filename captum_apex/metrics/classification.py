"""Scores of a classifier, for one class per clip, for several classes per clip, and for detectors; from torchmetrics.

Outputs are scores before the softmax or the sigmoid (logits). The areas and the error rate depend only on the order of
the outputs. They are passed to torchmetrics as ranks: torchmetrics takes scores between 0 and 1 for probabilities, and
its sigmoid saturates for large scores, which makes ties.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

from captum_apex.caller import warn_caller
from captum_apex.extras import missing_package

__all__ = ["auroc", "classification_scores", "equal_error_rate", "mean_average_precision", "top_1"]


def classification_scores(outputs: Tensor, labels: Tensor) -> dict[str, float]:
    """All measures of this module at once.

    Args:
        outputs: scores before the softmax or the sigmoid, shape (clip, class); (clip,) or (clip, 1) for a detector with
            one output.
        labels: index of each clip's class, int, shape (clip,), 0 or 1 for a detector; or the classes of each clip as 0
            and 1, shape (clip, class), where a clip can have several classes or none.

    Returns:
        `top_1`, `mean_average_precision` and `auroc`, in [0, 1], higher is better; for a detector with one or two
        outputs also `equal_error_rate`, in [0, 1], lower is better.

    Raises:
        ImportError: torchmetrics is missing.
        TypeError: outputs are not a tensor of floats, or labels not a tensor of integers.
        ValueError: shapes do not fit each other, outputs are not finite, or labels are not classes.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import classification_scores
        >>> outputs = torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 3.0]])
        >>> classification_scores(outputs, torch.tensor([0, 0, 0, 1]))
        {'top_1': 0.75, 'mean_average_precision': 1.0, 'auroc': 1.0, 'equal_error_rate': 0.0}
    """
    measures = (top_1, mean_average_precision, auroc)
    scores = {measure.__name__: measure(outputs, labels) for measure in measures}
    if labels.dim() == 1 and (outputs.dim() == 1 or outputs.shape[1] < 3):
        scores["equal_error_rate"] = equal_error_rate(outputs, labels)
    return scores


def top_1(outputs: Tensor, labels: Tensor) -> float:
    """Share of clips where the highest score is that of the clip's class, or of one of its classes.

    A detector with one output detects class 1 where the output is above 0. Clips without any class are left out.
    The errors are those of `classification_scores`.

    Args:
        outputs: scores before the softmax or the sigmoid, shape (clip, class); (clip,) or (clip, 1) for a detector with
            one output.
        labels: index of each clip's class, int, shape (clip,); or the classes of each clip as 0 and 1, shape
            (clip, class).

    Returns:
        In [0, 1], higher is better; NaN where no clip has a class.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import top_1
        >>> top_1(torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 0, 0, 1]))
        0.75

    Source: BirdSet (arXiv 2403.10380), "T1-Acc", for several classes.
    """
    scores, truth = _checked(outputs, labels)
    correct = truth.gather(1, scores.argmax(1, keepdim=True)).squeeze(1)  # (clip, class) → (clip,)
    return correct[truth.any(1)].double().mean().item()


def mean_average_precision(outputs: Tensor, labels: Tensor) -> float:
    """Average precision of each class against the rest, averaged over the classes (cmAP).

    Classes that no clip has are left out, with a warning. The errors are those of `classification_scores`.

    Args:
        outputs: scores before the softmax or the sigmoid, shape (clip, class); (clip,) or (clip, 1) for a detector with
            one output.
        labels: index of each clip's class, int, shape (clip,); or the classes of each clip as 0 and 1, shape
            (clip, class).

    Returns:
        In [0, 1], higher is better; NaN where no class is left.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import mean_average_precision
        >>> round(mean_average_precision(torch.tensor([2.0, 1.0, -1.0]), torch.tensor([1, 0, 1])), 4)  # 5/6 and 1/2
        0.6667

    Source: BirdSet (arXiv 2403.10380), "cmAP".
    """
    scores, truth = _checked(outputs, labels)
    return _class_mean(_torchmetrics().binary_average_precision, _comparable(scores, labels), truth, truth.any(0))


def auroc(outputs: Tensor, labels: Tensor) -> float:
    """Area under the ROC curve of each class against the rest, averaged over the classes.

    Classes that no clip has, or that every clip has, are left out, with a warning. Two exclusive classes have the same
    area. The errors are those of `classification_scores`.

    Args:
        outputs: scores before the softmax or the sigmoid, shape (clip, class); (clip,) or (clip, 1) for a detector with
            one output.
        labels: index of each clip's class, int, shape (clip,); or the classes of each clip as 0 and 1, shape
            (clip, class).

    Returns:
        In [0, 1], higher is better; NaN where no class is left.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import auroc
        >>> auroc(torch.tensor([2.0, 1.0, -1.0]), torch.tensor([1, 0, 1]))
        0.5
    """
    scores, truth = _checked(outputs, labels)
    return _class_mean(_torchmetrics().binary_auroc, _comparable(scores, labels), truth, truth.any(0) & ~truth.all(0))


def equal_error_rate(outputs: Tensor, labels: Tensor) -> float:
    """Error rate of a detector at the threshold where its miss rate equals its false alarm rate.

    The miss rate is the share of misses among the clips of class 1, and the false alarm rate the share of false alarms
    among the clips of class 0. Where no threshold makes them equal, both are interpolated linearly between the two
    thresholds around the place where they would be. Chance is 0.5; a larger rate means that the two classes are
    swapped. The other errors are those of `classification_scores`.

    Args:
        outputs: scores before the softmax or the sigmoid, shape (clip, 2); (clip,) or (clip, 1) for a detector with one
            output.
        labels: class of each clip, 0 or 1, int, shape (clip,).

    Returns:
        In [0, 1], lower is better; NaN where all clips have one class.

    Raises:
        ValueError: there are not one or two outputs per clip.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import equal_error_rate
        >>> equal_error_rate(torch.tensor([2.0, 1.0, -1.0, -2.0]), torch.tensor([1, 0, 1, 0]))
        0.5
        >>> equal_error_rate(torch.tensor([0.0, 1.0, 2.0, 4.0, 3.0]), torch.tensor([0, 0, 1, 0, 0]))
        0.5
    """
    scores, truth = _checked(outputs, labels)
    if scores.shape[1] != 2 or labels.dim() != 1:
        raise ValueError(
            f"expected one or two outputs per clip and labels (clip,), but got {tuple(outputs.shape)} and "
            f"{tuple(labels.shape)}; only a detector has an equal error rate"
        )
    if not truth.any(0).all():
        return float("nan")
    alarms, hits, _ = _torchmetrics().binary_roc(_ranks(scores[:, 1] - scores[:, 0]), truth[:, 1].long())
    return _crossing(alarms.double(), 1 - hits.double())


def _crossing(rising: Tensor, falling: Tensor) -> float:
    """The value at which a rising and a falling line meet, both from 0 to 1 or back, linear between their points."""
    after = int((rising >= falling).nonzero()[0])  # not the first point, where they are 0 and 1
    gaps = (falling - rising)[after - 1 : after + 1]
    share = gaps[0] / (gaps[0] - gaps[1])  # of the way from the point before
    return torch.lerp(rising[after - 1], rising[after], share).item()


def _checked(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Scores in float64, and which classes each clip has as bool; both (clip, class)."""
    if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
        raise TypeError(
            f"expected `outputs` to be a tensor of floats, but got {getattr(outputs, 'dtype', type(outputs).__name__)}"
        )
    if not isinstance(labels, Tensor):
        raise TypeError(f"expected `labels` to be a tensor, but got {type(labels).__name__}")
    if labels.is_complex():
        raise TypeError(f"expected `labels` to be a tensor of real numbers, but got {labels.dtype}")
    if not outputs.isfinite().all():
        raise ValueError("expected `outputs` to be finite, but got NaN or infinity")
    scores = outputs.detach().double()
    if labels.dim() == 2:
        return _checked_several(scores, labels.to(scores.device))
    if scores.dim() == 1 or (scores.dim() == 2 and scores.shape[1] == 1):
        # A detector with one output: a constant score of 0 for class 0 makes it detect class 1 above 0.
        scores = torch.stack([torch.zeros_like(scores.flatten()), scores.flatten()], 1)  # (clip,) → (clip, class)
    return _checked_exclusive(scores, labels.to(scores.device))


def _checked_several(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    if scores.shape != labels.shape or not len(labels):
        raise ValueError(
            f"expected `outputs` and `labels` of one shape (clip, class), but got {tuple(scores.shape)} and "
            f"{tuple(labels.shape)}"
        )
    if not ((labels == 0) | (labels == 1)).all():
        raise ValueError("expected `labels` of shape (clip, class) to be 0 or 1, but got other numbers")
    return scores, labels > 0


def _checked_exclusive(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    if scores.dim() != 2 or labels.shape != scores.shape[:1] or not len(labels):
        raise ValueError(
            f"expected `outputs` of shape (clip, class) and `labels` of shape (clip,), "
            f"but got {tuple(scores.shape)} and {tuple(labels.shape)}"
        )
    n_classes = scores.shape[1]
    if labels.is_floating_point():
        raise TypeError(f"expected `labels` of shape (clip,) to be integers, but got {labels.dtype}")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(
            f"expected `labels` from 0 to {n_classes - 1}, but got {labels.min().item()} to {labels.max().item()}"
        )
    return scores, torch.nn.functional.one_hot(labels.long(), n_classes).bool()


def _comparable(scores: Tensor, labels: Tensor) -> Tensor:
    """Scores of a class that can be compared between clips, (clip, class).

    The scores of several classes per clip are comparable already. For exclusive classes they are the log-odds of each
    class against all others, which have the order of the softmax without its ties near 1.
    """
    if labels.dim() == 2:
        return scores
    log_probabilities = scores.log_softmax(1)
    top = scores.argmax(1, keepdim=True)
    others = scores.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)
    odds = (log_probabilities - torch.log1p(-log_probabilities.exp())).scatter(1, top, scores.gather(1, top) - others)
    return odds.float()  # equal odds that were computed in two ways differ in the last digits of float64


def _class_mean(measure: Callable, scores: Tensor, truth: Tensor, defined: Tensor) -> float:
    """The mean of a measure over the classes for which it is defined."""
    left_out = (~defined).nonzero().flatten().tolist()
    if left_out:
        listed = ", ".join(map(str, left_out[:10])) + (", …" if len(left_out) > 10 else "")
        warn_caller(
            f"{len(left_out)} of {len(defined)} classes are left out of a mean, since none or all of the clips have "
            f"them: {listed}"
        )
    values = [
        measure(_ranks(scores[:, index]), truth[:, index].long()) for index in defined.nonzero().flatten().tolist()
    ]
    return torch.stack(values).double().mean().item() if values else float("nan")


def _ranks(scores: Tensor) -> Tensor:
    """Numbers from 0 to 1 in the order of the scores, with the same ties."""
    places = torch.unique(scores, return_inverse=True)[1].double()
    return places / places.max().clamp_min(1)


def _torchmetrics() -> ModuleType:
    try:
        from torchmetrics.functional import classification
    except ImportError as error:
        package = "torchmetrics, which computes the scores of classifiers"
        raise missing_package(package, "classification", error) from error
    return classification
