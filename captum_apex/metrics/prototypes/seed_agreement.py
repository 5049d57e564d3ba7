"""Whether another fit finds the same channels: rows of the matrices, and clips of the prototypes."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_apex.extras import missing_package
from captum_apex.layers.values import check_finite

__all__ = ["jaccard_matrix", "matched_channels", "matched_prototypes", "prototype_jaccard"]


def matched_channels(U: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """The channel of another basis of the same layer that each channel is paired with, and the cosine of their rows.

    The pairs are those with the largest sum of cosines `u_k · v_π(k) / (‖u_k‖ ‖v_π(k)‖)` over all permutations `π`. The
    sign counts, because a channel and its negative have other prototypes. Rows of bases of different layers or of
    networks that were trained apart have nothing in common; `matched_prototypes` compares these.

    Args:
        U: matrix of a basis, (channel, channel).
        other: matrix of another basis of the same layer, (channel, channel).

    Returns:
        Index of the channel of `other`, int64 (channel,); and the cosines, float64 (channel,), in [-1, 1], which are 1
        where both have the same channels in any order and of any length.

    Raises:
        ImportError: scipy is not installed.
        ValueError: the matrices are not of the same shape, or not finite.

    Example:
        >>> import torch
        >>> from captum_apex.metrics.prototypes import matched_channels
        >>> matched_channels(torch.eye(2), torch.tensor([[0.0, 5.0], [3.0, 4.0]]))
        (tensor([1, 0]), tensor([0.6000, 1.0000], dtype=torch.float64))

    Source: the assignment problem (Kuhn, "The Hungarian method for the assignment problem", 1955), as for the
    stability of independent components.
    """
    if U.dim() != 2 or U.shape != other.shape:
        raise ValueError(
            f"expected two matrices (channel, channel) of one layer, but got {tuple(U.shape)} and {tuple(other.shape)}"
        )
    for name, matrix in {"U": U, "other": other}.items():
        check_finite(matrix, f"`{name}`")
    rows = torch.nn.functional.normalize(U.detach().to(torch.float64), dim=1)
    others = torch.nn.functional.normalize(other.detach().to(rows), dim=1)
    return _matched(rows @ others.T)


def matched_prototypes(indices: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """The channel of another basis that each channel is paired with by its prototypes, and their Jaccard index.

    The pairs are those with the largest sum of Jaccard indices over all permutations. The bases may be of different
    layers or networks, as long as the prototypes are of the same dataset.

    Args:
        indices: indices of the prototypes of a basis, integers (channel, prototype).
        other: those of another basis with as many channels.

    Returns:
        Index of the channel of `other`, int64 (channel,); and the indices of Jaccard, float64 (channel,), in [0, 1].

    Raises:
        ImportError: scipy is not installed.
        ValueError: the indices are not integers (channel, prototype), or the numbers of channels differ.

    Example:
        >>> import torch
        >>> from captum_apex.metrics.prototypes import matched_prototypes
        >>> matched_prototypes(torch.tensor([[0, 1], [2, 3]]), torch.tensor([[3, 2], [1, 5]]))
        (tensor([1, 0]), tensor([0.3333, 1.0000], dtype=torch.float64))
    """
    if len(indices) != len(other):
        raise ValueError(f"expected two bases with as many channels, but got {len(indices)} and {len(other)}")
    return _matched(jaccard_matrix(indices, other))


def prototype_jaccard(indices: Tensor, other: Tensor) -> Tensor:
    """The Jaccard index `|P_k ∩ Q_k| / |P_k ∪ Q_k|` of the prototypes of each channel in two bases.

    Args:
        indices: indices of the prototypes of a basis, integers (channel, prototype).
        other: those of the channels of another basis that they are paired with, in the order of the pairs, such as
            `other.prototype_indices[match]` with the `match` of `matched_channels`.

    Returns:
        float64 tensor (channel,), in [0, 1]; 1 where both have the same clips in any order.

    Raises:
        ValueError: the indices are not integers (channel, prototype), or the numbers of channels differ.

    Example:
        >>> import torch
        >>> from captum_apex.metrics.prototypes import prototype_jaccard
        >>> prototype_jaccard(torch.tensor([[0, 1], [2, 3]]), torch.tensor([[1, 0], [3, 5]]))
        tensor([1.0000, 0.3333], dtype=torch.float64)
    """
    if len(indices) != len(other):
        raise ValueError(f"expected as many channels in both, but got {len(indices)} and {len(other)}")
    return jaccard_matrix(indices, other).diagonal().clone()


def jaccard_matrix(indices: Tensor, other: Tensor) -> Tensor:
    """The Jaccard index of the prototypes of every channel of one basis with those of every channel of another.

    Args:
        indices: indices of the prototypes of a basis, integers (channel, prototype).
        other: those of another basis.

    Returns:
        float64 tensor (channel, other channel).

    Raises:
        ValueError: the indices are not integers (channel, prototype).

    Example:
        >>> import torch
        >>> from captum_apex.metrics.prototypes.seed_agreement import jaccard_matrix
        >>> jaccard_matrix(torch.tensor([[0, 1]]), torch.tensor([[1, 0], [0, 2], [2, 3]]))
        tensor([[1.0000, 0.3333, 0.0000]], dtype=torch.float64)
    """
    for each in (indices, other):
        if each.dim() != 2 or not each.numel() or each.is_floating_point():
            raise ValueError(
                f"expected indices of clips, integers (channel, prototype), but got {each.dtype} of shape "
                f"{tuple(each.shape)}"
            )
    clips, numbers = torch.cat([indices.flatten(), other.flatten().to(indices)]).unique(return_inverse=True)
    of_one, of_other = numbers.split([indices.numel(), other.numel()])
    chosen = _membership(of_one.view(indices.shape), len(clips))
    chosen_by_other = _membership(of_other.view(other.shape), len(clips))
    common = chosen @ chosen_by_other.T
    return common / (chosen.sum(1)[:, None] + chosen_by_other.sum(1) - common)


def _membership(numbers: Tensor, n_clips: int) -> Tensor:
    """Which clips are prototypes of each channel: 1 or 0 in float64, (channel, clip)."""
    return torch.zeros(len(numbers), n_clips, dtype=torch.float64, device=numbers.device).scatter_(1, numbers, 1.0)


def _matched(similarity: Tensor) -> tuple[Tensor, Tensor]:
    """The permutation of the columns with the largest sum of the similarities, and the similarities of the pairs."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise missing_package("scipy, which pairs the channels", "benchmarks", error) from error
    match = torch.from_numpy(linear_sum_assignment(similarity.cpu().numpy(), maximize=True)[1]).to(similarity.device)
    return match, similarity.gather(1, match[:, None])[:, 0]
