"""The paper's first experiment: with the disentanglement module inside, the classifier predicts as before."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import torch
from torch import Tensor

from benchmarks.methods.query import logits
from benchmarks.runs.subject import Subject, fitted
from captum_apex import PrototypeBasis, insert_basis
from captum_apex.metrics import classification_scores


def invariance_table(subject: Subject) -> pd.DataFrame:
    """Metrics of the plain model, and of copies with each scheme's `U` and `U⁻¹` behind the layer, on all test clips.

    It takes one forward pass over the test clips for the plain model and one for each copy.

    Args:
        subject: the classifier and its orthogonal bases; the invertible bases are fitted, or read from the cache.

    Returns:
        One line per model, with the columns of `metrics` and these:

        - `largest_difference`: largest absolute difference to a logit of the plain model, over all clips and classes.
        - `same_predictions`: share of clips for which the predicted class is the same as the plain model's.
        - `status`: `ok`, or why the basis could not be inserted.

    Source: APEX (arXiv 2605.10153) and EPIC (arXiv 2505.12897), the comparison of the classifiers before and after.
    """
    indices, inputs = subject.test_clips(len(subject.task.test))
    labels = torch.tensor([subject.task.test[index][1] for index in indices])
    plain = logits(subject.model, inputs).cpu()
    lines = [compared("plain", plain, plain, labels)]
    for name, basis in _bases(subject):
        try:
            copy = insert_basis(subject.model, subject.layer, basis)
            lines.append(compared(name, logits(copy, inputs).cpu(), plain, labels))
        except ValueError as error:  # the copy failed the check of its outputs on an example
            lines.append({"model": name, "status": f"error ({error})"})
    return pd.DataFrame(lines)


def compared(name: str, logits: Tensor, plain: Tensor, labels: Tensor) -> dict[str, float | str]:
    """One line of the table: a model's metrics and its difference to the plain model; logits are (clip, class)."""
    return {
        "model": name,
        **metrics(logits, labels),
        "largest_difference": (logits - plain).abs().max().item(),
        "same_predictions": (logits.argmax(1) == plain.argmax(1)).double().mean().item(),
        "status": "ok",
    }


def metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy, AUROC, mean average precision and equal error rate, each in [0, 1].

    AUROC and average precision take one class against the rest, and are means over the classes.

    Args:
        logits: scores of the classes, (clip, class).
        labels: index of each clip's class, int64 (clip,).

    Returns:
        Metric → value. `eer` is NaN unless there are exactly two classes; the second one is the class to be detected.

    Example:
        >>> metrics(torch.tensor([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 0, 0, 1]))
        {'accuracy': 0.75, 'auroc': 1.0, 'mean_average_precision': 1.0, 'eer': 0.0}
    """
    scores = classification_scores(logits, labels)
    return {
        "accuracy": scores["top_1"],
        "auroc": scores["auroc"],
        "mean_average_precision": scores["mean_average_precision"],
        "eer": scores.get("equal_error_rate", float("nan")),
    }


def _bases(subject: Subject) -> Iterator[tuple[str, PrototypeBasis]]:
    for scheme in subject.bases:
        yield f"with U, {scheme}", fitted(subject, scheme)
        yield f"with U, {scheme}, invertible", fitted(subject, scheme, orthogonal=False)
