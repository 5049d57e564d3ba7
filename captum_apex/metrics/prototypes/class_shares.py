"""Whether the prototypes of a channel are of one class, against clips that are drawn at random."""

from __future__ import annotations

import math
from fractions import Fraction

import torch
from torch import Tensor

from captum_apex.numbers import whole_number

__all__ = ["chance_class_share", "class_share"]


def class_share(labels: Tensor) -> Tensor:
    """The share of the prototypes of each channel that have its most frequent class.

    `share_k = max_c |{p : y_kp = c}| / P`, with the labels `y` of the `P` prototypes of channel `k`. A channel need not
    be of one class to be understood: a sound that several classes have is one sound. So compare the shares of several
    bases with each other and with `chance_class_share`.

    Args:
        labels: class of each prototype, integers (channel, prototype), as `Prototypes.labels` of clips with one label.

    Returns:
        float64 tensor (channel,), in [1 / P, 1]; 1 where all prototypes of a channel are of one class.

    Raises:
        ValueError: the labels are not integers (channel, prototype), such as those of clips with several labels.

    Example:
        >>> import torch
        >>> from captum_apex.metrics.prototypes import class_share
        >>> class_share(torch.tensor([[7, 7, 7, 7], [7, 0, 2, 2]]))
        tensor([1.0000, 0.5000], dtype=torch.float64)

    Source: the purity of a cluster (Manning, Raghavan and Schütze, "Introduction to Information Retrieval", 2008,
    Section 16.3), where a cluster is the prototypes of a channel.
    """
    if labels.dim() != 2 or not labels.numel() or labels.is_floating_point():
        raise ValueError(
            "expected `labels` to be the classes of the prototypes, integers (channel, prototype), but got "
            f"{labels.dtype} of shape {tuple(labels.shape)}; of clips with several labels, choose one"
        )
    same = labels[:, :, None] == labels[:, None]  # (channel, prototype, other prototype)
    return same.sum(2).amax(1).to(torch.float64) / labels.shape[1]


def chance_class_share(labels: Tensor, n_prototypes: int) -> float:
    """The expected share of the most frequent class among clips that are drawn at random, without replacement.

    `E[max_c n_c] / P = Σ_{t < P} (1 − W(t) / (N over P)) / P`, where `W(t)` is the number of selections of `P` of `N`
    clips with at most `t` of each class: the coefficient of `x^P` in `Π_c Σ_{j ≤ t} (N_c over j) x^j`. The sums are of
    integers, so the result is exact.

    Args:
        labels: class of each clip of the dataset, integers (clip,).
        n_prototypes: number of prototypes of a channel, `P`.

    Returns:
        A number in (0, 1]; 1 for a dataset of one class, and for a single prototype.

    Raises:
        TypeError: `n_prototypes` is no integer.
        ValueError: there are fewer clips than prototypes, or the labels are not integers (clip,).

    Example:
        >>> import torch
        >>> from captum_apex.metrics.prototypes import chance_class_share
        >>> chance_class_share(torch.tensor([0, 0, 1, 1]), n_prototypes=2)  # 2 of the 6 pairs are of one class
        0.6666666666666666
    """
    n_prototypes = whole_number(n_prototypes, "n_prototypes", least=1)
    if labels.dim() != 1 or labels.is_floating_point() or len(labels) < n_prototypes:
        raise ValueError(
            f"expected `labels` to be integers (clip,) of at least {n_prototypes} clips, but got {labels.dtype} of "
            f"shape {tuple(labels.shape)}"
        )
    counts = labels.unique(return_counts=True)[1].tolist()
    n_selections = math.comb(len(labels), n_prototypes)
    above = [1 - Fraction(_selections(counts, n_prototypes, most), n_selections) for most in range(n_prototypes)]
    return float(sum(above) / n_prototypes)


def _selections(counts: list[int], n_chosen: int, most: int) -> int:
    """Number of selections of clips with at most `most` of each class."""
    ways = [1] + [0] * n_chosen
    for count in counts:
        of_class = [math.comb(count, n) for n in range(most + 1)]
        ways = [
            sum(of_class[n] * ways[total - n] for n in range(min(most, total) + 1)) for total in range(n_chosen + 1)
        ]
    return ways[n_chosen]
