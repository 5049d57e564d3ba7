"""The fit in closed form: with prototypes and peaks fixed, one polar factor maximises the mean purity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from captum_apex.bases.peak_search import peaks_of_pairs
from captum_apex.bases.schemes import peak_cells
from captum_apex.choices import one_of
from captum_apex.defaults import FIT_EPOCHS

__all__ = ["ClosedForm", "check_method", "mean_directions", "polar_factor"]

_LARGE_CLIP = 2**17  # bytes; the cells of larger clips are not copied for each pair, which costs more than a loop
_LARGE_BANK = 2**32  # bytes; of larger banks, which may be mapped files, the cells of each clip are read once
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
        self._U = polar_factor(mean_directions(sequences, self._U, chosen, advance), near=self._U)


def mean_directions(
    sequences: Sequence[Tensor], U: Tensor, chosen: Tensor, advance: Callable[[int], object] | None = None
) -> Tensor:
    """The mean of the peak vectors of each channel, each divided by its length; a vector of zeros stays as it is.

    Args:
        sequences: cells of each of the scheme's sequences, each (clip, channel of the layer, cell); the mean is over
            the sequences too.
        U: matrix of the basis, (channel, channel of the layer).
        chosen: clips of the prototypes of each channel, int64 (channel, prototype), each at most once per channel.
        advance: as in `ClosedForm.improve`.

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
    directions = torch.zeros_like(U)
    for sequence in sequences:
        is_large = sequence[0].nbytes >= _LARGE_CLIP or sequence.nbytes > _LARGE_BANK
        for channels, vectors in (_by_clip if is_large and sequence.device.type == "cpu" else _by_rank)(
            sequence, U, chosen
        ):
            lengths = vectors.norm(dim=1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny)
            directions[channels] += vectors / lengths  # no channel occurs twice
            if advance is not None:
                advance(len(vectors) * sequence.shape[2])
    return directions / (chosen.shape[1] * len(sequences))


def _by_rank(sequence: Tensor, U: Tensor, chosen: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """For each rank of the prototypes, all channels with their peak vectors (channel, ·)."""
    channels = torch.arange(len(U), device=U.device)
    for clips in chosen.unbind(1):
        yield channels, sequence[clips, :, peaks_of_pairs(sequence, clips, U)].to(U.dtype)  # some have half precision


def _by_clip(sequence: Tensor, U: Tensor, chosen: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """For each clip, the channels that it is a prototype of, with their peak vectors in it (channel, ·)."""
    clips, counts = chosen.unique(return_counts=True)
    pairs = chosen.flatten().argsort(stable=True)
    for clip, pairs_of_clip in zip(clips.tolist(), pairs.split(counts.tolist()), strict=True):
        channels = pairs_of_clip // chosen.shape[1]
        cells = sequence[clip].to(U.dtype)
        peaks = peak_cells(cells, U[channels])
        yield channels, cells.T.contiguous()[peaks]  # a copy of whole rows is faster than one of columns


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
    one_of(method, "`method`", FIT_EPOCHS)
    if method == "closed-form" and not orthogonal:
        raise ValueError(
            "expected an orthogonal basis for the method 'closed-form', which gives no other, but got "
            "`orthogonal=False`; the method 'gradient' fits invertible bases (on the command line: --method)"
        )
