"""Whether the labels of the prototypes alone say what the model predicts."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_apex.layers.values import check_finite
from captum_apex.numbers import whole_number

__all__ = ["prototype_votes", "vote_agreement"]


def prototype_votes(weights: Tensor, labels: Tensor, n_classes: int) -> Tensor:
    """The votes of the prototypes for each class: their labels, weighted by what their channel adds to the score.

    `v_c = Σ_k max(w_k, 0) · |{p : y_kp = c}| / (P · Σ_k max(w_k, 0))`: the verdict of a reader who sees, of a whole
    explanation, only the labels `y` of the `P` prototypes of each channel and the weight of the channel.

    Args:
        weights: weight of each channel in each clip, (clip, channel): contributions to the predicted class, or
            activations. Negative ones count as zero, as they have other prototypes. Set those of channels that an
            explanation does not show to zero.
        labels: class of each prototype, integers (channel, prototype).
        n_classes: number of classes.

    Returns:
        float64 tensor (clip, class), which adds up to 1 over the classes; NaN where no weight is positive.

    Raises:
        TypeError: `n_classes` is no integer.
        ValueError: shapes do not fit each other, weights are not finite, or a label is no class.

    Example:
        >>> import torch
        >>> from captum_apex.metrics.prototypes import prototype_votes
        >>> labels = torch.tensor([[0, 0], [1, 0]])
        >>> prototype_votes(torch.tensor([[1.0, 1.0], [-2.0, 3.0]]), labels, n_classes=2)
        tensor([[0.7500, 0.2500],
                [0.5000, 0.5000]], dtype=torch.float64)

    Source: ours, after forward simulation (Doshi-Velez and Kim, arXiv 1702.08608, Section 3.2), with a fixed rule in
    place of the person.
    """
    n_classes = whole_number(n_classes, "n_classes", least=1)
    if labels.dim() != 2 or labels.is_floating_point() or weights.dim() != 2 or weights.shape[1] != len(labels):
        raise ValueError(
            "expected `weights` of shape (clip, channel) and integer `labels` of shape (channel, prototype), but got "
            f"{tuple(weights.shape)} and {labels.dtype} of shape {tuple(labels.shape)}"
        )
    if not labels.numel() or labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(f"expected labels from 0 to {n_classes - 1}, but got {labels.unique().tolist()}")
    check_finite(weights, "`weights`")
    shares = torch.nn.functional.one_hot(labels.long(), n_classes).to(torch.float64).mean(1)  # (channel, class)
    positive = weights.detach().to(shares).clamp_min(0)
    return positive @ shares / positive.sum(1, keepdim=True)  # 0 / 0: NaN where no weight is positive


def vote_agreement(votes: Tensor, predicted: Tensor) -> Tensor:
    """Whether the class with the most votes is the one that the model predicts.

    Several classes can have the most votes. The score is then one part of their number where the predicted class is
    among them: the average score of one of them chosen at random.

    Args:
        votes: votes for each class, (clip, class), from `prototype_votes`.
        predicted: the predicted class of each clip, integers (clip,).

    Returns:
        float64 tensor (clip,), 1 or 0, or between these for ties; 1 / number of classes where a clip has no votes.
        A constant vote scores the share of its class among the predictions.

    Raises:
        ValueError: shapes do not fit each other.

    Example:
        >>> import torch
        >>> from captum_apex.metrics.prototypes import vote_agreement
        >>> vote_agreement(torch.tensor([[0.7, 0.3], [0.5, 0.5], [0.9, 0.1]]), torch.tensor([0, 1, 1]))
        tensor([1.0000, 0.5000, 0.0000], dtype=torch.float64)
    """
    if votes.dim() != 2 or predicted.shape != votes.shape[:1] or predicted.is_floating_point():
        raise ValueError(
            "expected `votes` of shape (clip, class) and integer `predicted` of shape (clip,), but got "
            f"{tuple(votes.shape)} and {predicted.dtype} of shape {tuple(predicted.shape)}"
        )
    known = votes.nan_to_num(0.0)  # no votes: all classes have as many
    largest = known >= known.amax(1, keepdim=True) - 1e-12
    return largest.gather(1, predicted[:, None].long())[:, 0].to(torch.float64) / largest.sum(1)
