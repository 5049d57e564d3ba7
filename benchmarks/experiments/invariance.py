"""The paper's first experiment: with the disentanglement module inside, the classifier decides as it did before."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks.methods.registry import CLIPS_AT_ONCE
from benchmarks.runs.subject import Subject, fitted
from captum_apex import PrototypeBasis, insert_basis
from captum_apex.metrics import classification_scores


def invariance_table(subject: Subject) -> pd.DataFrame:
    """The task's metrics for the plain model and for copies with each scheme's `U` and `U⁻¹` inside, on the whole test part.

    It takes a full forward pass over the test part for the plain model and for each copy.

    Args:
        subject: the classifier; its bases, and the invertible ones from the cache.

    Returns:
        One line per model, see `metrics`. `largest_difference` is that between its logits and the plain ones, absolute, over all clips and
        classes; `same_predictions` is the share of clips whose predicted class is the plain one's; `status` is `ok`, or why there is no
        copy.

    Source: APEX (arXiv 2605.10153), the comparison of the classifiers before and after; EPIC (arXiv 2505.12897) likewise.
    """
    indices, inputs = subject.test_clips(len(subject.task.test))
    labels = torch.tensor([subject.task.test[index][1] for index in indices])
    plain = _logits(subject.model, inputs)
    lines = [compared("plain", plain, plain, labels)]
    for name, basis in _bases(subject):
        try:
            copy = insert_basis(subject.model, subject.layer, basis)
            lines.append(compared(name, _logits(copy, inputs), plain, labels))
        except ValueError as error:  # the copy's outputs differ on the example that it is checked with
            lines.append({"model": name, "status": f"error ({error})"})
    return pd.DataFrame(lines)


def compared(name: str, logits: Tensor, plain: Tensor, labels: Tensor) -> dict[str, float | str]:
    """One line: the metrics of a model's logits, and how they differ from the plain ones, all (clip, class)."""
    return {
        "model": name,
        **metrics(logits, labels),
        "largest_difference": (logits - plain).abs().max().item(),
        "same_predictions": (logits.argmax(1) == plain.argmax(1)).double().mean().item(),
        "status": "ok",
    }


def metrics(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Accuracy, AUROC and average precision (one class against the rest, the mean over classes), equal error rate, all in [0, 1].

    Args:
        logits: (clip, class).
        labels: int64 (clip,).

    Returns:
        `eer` is NaN unless there are two classes, the second of which is the one to be detected.

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


@torch.no_grad()
def _logits(model: nn.Module, inputs: Tensor) -> Tensor:
    """(clip, class), on the CPU."""
    return torch.cat([model(batch) for batch in inputs.split(CLIPS_AT_ONCE)]).cpu()
