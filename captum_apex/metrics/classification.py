"""How well a classifier classifies, for one class per clip, for several, and for detectors; computed by torchmetrics.

Outputs are scores before the softmax or the sigmoid (logits). The areas and the error rate depend on their order only; it is handed on as
ranks, since torchmetrics would take scores between 0 and 1 for probabilities and let large ones saturate into ties.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor

__all__ = ["auroc", "classification_scores", "equal_error_rate", "mean_average_precision", "top_1"]


def classification_scores(outputs: Tensor, labels: Tensor) -> dict[str, float]:
    """All measures of this module at once.

    Args:
        outputs: scores before the softmax or the sigmoid, of shape (clip, class); (clip,) or (clip, 1) for a detector with one output.
        labels: the class of each clip, int, of shape (clip,), for a detector 0 or 1; or (clip, class) of 0 and 1, where a clip can have
            several classes or none.

    Returns:
        `top_1`, `mean_average_precision`, `auroc`, all in [0, 1] and higher is better, and for a detector with one or two outputs
        `equal_error_rate`, in [0, 1] and lower is better.

    Raises:
        ImportError: torchmetrics is missing.
        TypeError: outputs or labels are no tensors of floats and of integers.
        ValueError: for shapes that do not belong together, outputs that are not finite, and labels that are no classes.

    Example:
        >>> classification_scores(torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 0, 0, 1]))
        {'top_1': 0.75, 'mean_average_precision': 1.0, 'auroc': 1.0, 'equal_error_rate': 0.0}
    """
    measures = (top_1, mean_average_precision, auroc)
    scores = {measure.__name__: measure(outputs, labels) for measure in measures}
    if labels.dim() == 1 and (outputs.dim() == 1 or outputs.shape[1] < 3):
        scores["equal_error_rate"] = equal_error_rate(outputs, labels)
    return scores


def top_1(outputs: Tensor, labels: Tensor) -> float:
    """The share of clips whose highest score is that of their class, or of one of their classes; arguments as in `classification_scores`.

    A detector with one output says 1 where it is above 0. Clips without any class are left out; NaN where that leaves none.

    Source: BirdSet (arXiv 2403.10380), "T1-Acc", for several classes.
    """
    scores, truth = _checked(outputs, labels)
    right = truth.gather(1, scores.argmax(1, keepdim=True)).squeeze(1)  # (clip, class) → (clip,)
    return right[truth.any(1)].double().mean().item()


def mean_average_precision(outputs: Tensor, labels: Tensor) -> float:
    """Average precision of each class against the rest, and its mean over the classes (cmAP); arguments as in `classification_scores`.

    Classes that no clip has are left out, with a warning; NaN where that leaves none.

    Source: BirdSet (arXiv 2403.10380), "cmAP".
    """
    scores, truth = _checked(outputs, labels)
    return _class_mean(_torchmetrics().binary_average_precision, _comparable(scores, labels), truth, truth.any(0))


def auroc(outputs: Tensor, labels: Tensor) -> float:
    """Area under the ROC curve of each class against the rest, and its mean over the classes; arguments as in `classification_scores`.

    Classes that no clip has, or that every clip has, are left out, with a warning; NaN where that leaves none. For two exclusive classes it
    is the same for both.
    """
    scores, truth = _checked(outputs, labels)
    return _class_mean(_torchmetrics().binary_auroc, _comparable(scores, labels), truth, truth.any(0) & ~truth.all(0))


def equal_error_rate(outputs: Tensor, labels: Tensor) -> float:
    """The rate of errors of a detector where it misses as many as it raises false alarms; arguments as in `classification_scores`.

    It is the mean of the share of misses among the clips of class 1 and the share of alarms among those of class 0, at the threshold where
    the two are closest. 0.5 is chance; more than that says that the classes are the wrong way round.

    Returns:
        in [0, 1], lower is better; NaN where there are clips of one class only.

    Raises:
        ValueError: also for other than one or two outputs.
    """
    scores, truth = _checked(outputs, labels)
    if scores.shape[1] != 2 or labels.dim() != 1:
        raise ValueError(
            f"expected one or two outputs per clip and labels (clip,), but got {tuple(outputs.shape)} and {tuple(labels.shape)}; "
            "an equal error rate is of a detector"
        )
    if not truth.any(0).all():
        return float("nan")
    return _torchmetrics().binary_eer(_ranks(scores[:, 1] - scores[:, 0]), truth[:, 1].long()).item()


def _checked(outputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Scores in float64, and whether a clip has a class; both (clip, class)."""
    if not isinstance(outputs, Tensor) or not outputs.is_floating_point():
        raise TypeError(
            f"expected `outputs` to be a tensor of floats, but got {getattr(outputs, 'dtype', type(outputs).__name__)}"
        )
    if not isinstance(labels, Tensor):
        raise TypeError(f"expected `labels` to be a tensor, but got {type(labels).__name__}")
    if not outputs.isfinite().all():
        raise ValueError("expected `outputs` to be finite, but got NaN or infinity")
    scores = outputs.detach().double()
    if labels.dim() == 2:
        return _several(scores, labels.to(scores.device))
    if scores.dim() == 1 or (scores.dim() == 2 and scores.shape[1] == 1):  # a detector: it says 1 above 0
        scores = torch.stack([torch.zeros_like(scores.flatten()), scores.flatten()], 1)  # (clip,) → (clip, class)
    return _exclusive(scores, labels.to(scores.device))


def _several(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    if scores.shape != labels.shape or not len(labels):
        raise ValueError(
            f"expected `outputs` and `labels` of one shape (clip, class), but got {tuple(scores.shape)} and {tuple(labels.shape)}"
        )
    if not ((labels == 0) | (labels == 1)).all():
        raise ValueError("expected `labels` of shape (clip, class) to be 0 or 1, but got other numbers")
    return scores, labels > 0


def _exclusive(scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
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

    For several classes to a clip they are so already. For exclusive classes they are the log-odds of each class against all others, which
    are in the order of the softmax, and have no ties where it is all but 1.
    """
    if labels.dim() == 2:
        return scores
    log_probabilities, top = scores.log_softmax(1), scores.argmax(1, keepdim=True)
    others = scores.scatter(1, top, -torch.inf).logsumexp(1, keepdim=True)
    odds = (log_probabilities - torch.log1p(-log_probabilities.exp())).scatter(1, top, scores.gather(1, top) - others)
    return odds.float()  # so that what is equal stays so, whichever way it was computed


def _class_mean(measure: Callable, scores: Tensor, truth: Tensor, defined: Tensor) -> float:
    """The mean of a measure over the classes for which it is defined."""
    left_out = (~defined).nonzero().flatten().tolist()
    if left_out:
        listed = ", ".join(map(str, left_out[:10])) + (", …" if len(left_out) > 10 else "")
        warnings.warn(
            f"{len(left_out)} of {len(defined)} classes are left out of a mean, since none or all of the clips have them: {listed}",
            stacklevel=3,
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
        raise ImportError(
            f"expected torchmetrics, which computes the scores of classifiers, but it cannot be imported: "
            f"pip install 'captum-apex[classification]' ({error})"
        ) from error
    return classification
