"""The fit in closed form: with prototypes and peaks fixed, one polar factor maximises the mean purity."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from captum_apex.bases.peak_search import peaks_of_pairs
from captum_apex.choices import one_of
from captum_apex.defaults import FIT_METHODS

__all__ = ["ClosedForm", "check_method", "mean_directions", "polar_factor"]

_PAIRS_AT_ONCE = 4096  # bounds the peak vectors (pair, channel)
_TIE = 1e-9  # weight of the present matrix; it decides only between matrices that are equally good


class ClosedForm:
    """A fit that goes from one orthogonal matrix to the best one for its prototypes and peaks.

    An orthogonal matrix keeps the length of every vector. So the purity of a pair is the product of the channel's row
    with the peak vector of length 1, and the mean over all pairs is `⟨U, M⟩ / C`, where `M` has, for each channel, the
    mean of these vectors. Of all orthogonal matrices, the polar factor of `M` has the largest product with it.

    Args:
        like: a tensor (·, channel) of the type and on the device of the fit, which starts at the raw channels.

    Example:
        >>> import torch
        >>> from captum_apex.bases.polar_fit import ClosedForm
        >>> cells = torch.tensor([[[0.0, 4.0], [5.0, -3.0]]])  # one clip, two channels, two cells
        >>> fit = ClosedForm(cells.mean(2))
        >>> fit.improve([cells], torch.tensor([[0], [0]]), advance=print)
        4
        >>> fit.U()
        tensor([[ 0.9487, -0.3162],
                [ 0.3162,  0.9487]])

    Source: P. H. Schönemann, "A generalized solution of the orthogonal Procrustes problem" (1966).
    """

    def __init__(self, like: Tensor) -> None:
        self._U = torch.eye(like.shape[1]).to(like)

    def U(self) -> Tensor:  # noqa: N802 - the formula's own symbol
        """The present matrix, (channel, channel)."""
        return self._U

    @torch.no_grad()
    def improve(self, sequences: Sequence[Tensor], chosen: Tensor, advance: Callable[[int], object]) -> None:
        """Looks for the peaks of the prototypes, and takes the best matrix for them.

        Args:
            sequences: cells of each of the scheme's sequences, each (clip, channel, cell).
            chosen: clips of the prototypes of each channel, int64 (channel, prototype).
            advance: is called with the number of cells that were compared since its last call.
        """
        n_cells = sum(sequence.shape[2] for sequence in sequences)
        channels_at_once = max(1, _PAIRS_AT_ONCE // chosen.shape[1])
        blocks = []
        for rows, clips in zip(self._U.split(channels_at_once), chosen.split(channels_at_once), strict=True):
            blocks.append(mean_directions(sequences, rows, clips))
            advance(clips.numel() * n_cells)
        self._U = polar_factor(torch.cat(blocks), near=self._U)


def mean_directions(sequences: Sequence[Tensor], rows: Tensor, chosen: Tensor) -> Tensor:
    """The mean of the peak vectors of each channel, each divided by its length; a vector of zeros stays as it is.

    Args:
        sequences: cells of each of the scheme's sequences, each (clip, channel of the layer, cell); the mean is over
            the sequences too.
        rows: rows of the matrix of the basis, (channel, channel of the layer).
        chosen: clips of the prototypes of these channels, int64 (channel, prototype).

    Returns:
        Tensor (channel, channel of the layer).

    Example:
        >>> import torch
        >>> from captum_apex.bases.polar_fit import mean_directions
        >>> cells = torch.tensor([[[0.0, 4.0], [5.0, -3.0]]])  # one clip, two channels, two cells
        >>> mean_directions([cells], torch.eye(2), torch.tensor([[0], [0]]))  # the second cell, then the first
        tensor([[ 0.8000, -0.6000],
                [ 0.0000,  1.0000]])
    """
    clips = chosen.flatten()
    directions = rows.repeat_interleave(chosen.shape[1], dim=0)  # (channel, ·) → (pair, ·)
    means = []
    for sequence in sequences:
        vectors = sequence[clips, :, peaks_of_pairs(sequence, clips, directions)]
        lengths = vectors.norm(dim=1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny)
        means.append((vectors / lengths).view(*chosen.shape, -1).mean(1))  # (pair, ·) → (channel, ·)
    return torch.stack(means).mean(0)


def polar_factor(matrix: Tensor, near: Tensor) -> Tensor:
    """The orthogonal matrix with the largest sum of products with a matrix, by its singular values in float64.

    Args:
        matrix: square matrix, (row, column).
        near: orthogonal matrix of the same shape. Where several are equally good, as for a matrix of lower rank, the
            result is the one that is closest to it.

    Returns:
        Tensor (row, column), orthogonal up to rounding.

    Example:
        >>> import torch
        >>> from captum_apex.bases.polar_fit import polar_factor
        >>> polar_factor(torch.tensor([[3.0, 0.0], [0.0, 0.0]]), near=torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
        tensor([[ 1.,  0.],
                [ 0., -1.]])
    """
    left, _, right = torch.linalg.svd(matrix.double() + _TIE * near.double())
    return (left @ right).to(matrix)


def check_method(method: str, orthogonal: bool = True) -> None:
    """Refuses a method of fitting that there is not, and an invertible basis in closed form.

    Args:
        method: `gradient` or `closed-form`, as in `fit_basis`.
        orthogonal: whether the basis is orthogonal.

    Raises:
        ValueError: there is no such method, or it does not give an invertible basis.

    Example:
        >>> from captum_apex.bases.polar_fit import check_method
        >>> check_method("closed-form"), check_method("gradient", orthogonal=False)
        (None, None)
    """
    one_of(method, "`method`", FIT_METHODS)
    if method == "closed-form" and not orthogonal:
        raise ValueError(
            "expected an orthogonal basis for the method 'closed-form', which gives no other, but got "
            "`orthogonal=False`; the method 'gradient' fits invertible bases (on the command line: --method)"
        )
