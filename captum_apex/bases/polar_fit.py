"""The fit in closed form: with prototypes and peaks fixed, one polar factor maximises the mean purity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_apex.bases.peak_search import peaks_of_pairs
from captum_apex.bases.processes import Processes
from captum_apex.bases.schemes import peak_cells
from captum_apex.choices import one_of
from captum_apex.defaults import FIT_EPOCHS

__all__ = ["SPREAD", "ClosedForm", "channel_weights", "check_method", "mean_directions", "polar_factor"]

_LARGE_CLIP = 2**17  # bytes; the cells of larger clips are not copied for each pair, which costs more than a loop
_LARGE_BANK = 2**32  # bytes; of larger banks, which may be mapped files, the cells of each clip are read once
_QUIET = 1e-3  # share of the mean activation, below which the activations of channels count alike
_TIE = 1e-9  # weight of the present matrix; it decides only between matrices that are equally good

SPREAD = 0.25
"""The largest standard deviation of the logarithms of the channels' weights: with 0, all weigh the same."""


class ClosedForm:
    """A fit that goes from one orthogonal matrix to the best one for its prototypes and peaks.

    An orthogonal matrix keeps the length of every vector. So the purity of a pair is the product of the channel's row
    with the peak vector of length 1, and the mean over all pairs is `⟨U, M⟩ / C`, where `M` has, for each channel, the
    mean of these vectors. Of all orthogonal matrices, the polar factor of `M` has the largest product with it.

    The mean is weighted: row `k` of `M` is multiplied by a weight `w_k`, which is larger for more active channels.
    Otherwise the polar factor evens out the activations, and predictions rest less on few channels.

    Args:
        means: mean over each clip's grid, (clip, channel), of the type and on the device of the fit. It starts at the
            raw channels.
        spread: the largest standard deviation of the logarithms of the weights; 0 for the same weight of all channels.
        processes: the processes that share the clips; by default this one alone.

    Example:
        >>> import torch
        >>> from captum_apex.bases.polar_fit import ClosedForm
        >>> cells = torch.tensor([[[0.0, 4.0], [5.0, -3.0]]])  # one clip, two channels, two cells
        >>> fit = ClosedForm(cells.mean(2), spread=0)
        >>> fit.improve([cells], torch.tensor([[0], [0]]), advance=print)
        4
        >>> fit.U()
        tensor([[ 0.9487, -0.3162],
                [ 0.3162,  0.9487]])

    Source: P. H. Schönemann, "A generalized solution of the orthogonal Procrustes problem" (1966).
    """

    def __init__(self, means: Tensor, spread: float = SPREAD, processes: Processes | None = None) -> None:
        self._means = means
        self._spread = spread
        self._processes = processes or Processes()
        self._U = torch.eye(means.shape[1]).to(means)

    def U(self) -> Tensor:  # noqa: N802 - the formula's own symbol
        """The present matrix, (channel, channel)."""
        return self._U

    @torch.no_grad()
    def improve(self, sequences: Sequence[Tensor], chosen: Tensor, advance: Callable[[int], object]) -> None:
        """Looks for the peaks of the prototypes, and takes the best matrix for them.

        Args:
            sequences: cells of each of the scheme's sequences, each (clip, channel, cell).
            chosen: clips of the prototypes of each channel, int64 (channel, prototype); −1 for one that another process
                has.
            advance: is called with the number of cells that were compared since its last call.
        """
        weights = channel_weights(self._means, self._U, chosen, self._spread, self._processes)
        directions = self._processes.total(mean_directions(sequences, self._U, chosen, advance))
        self._U = self._processes.agreed(polar_factor(weights[:, None] * directions, near=self._U))


def channel_weights(
    means: Tensor, U: Tensor, chosen: Tensor, spread: float = SPREAD, processes: Processes | None = None
) -> Tensor:
    """The weights of the channels in the mean purity: powers of their mean activations by their prototypes.

    The exponent is 1, or so much smaller that the logarithms of the weights have the standard deviation `spread`. With
    an exponent of 1 throughout, the activations would differ more after each epoch.

    Args:
        means: mean over each clip's grid, (clip, channel of the layer).
        U: matrix of the basis, (channel, channel of the layer).
        chosen: clips of the prototypes of each channel, int64 (channel, prototype); −1 for one of another process.
        spread: as in `ClosedForm`.
        processes: the processes that share the clips; by default this one alone.

    Returns:
        Tensor (channel,). Activations count by their absolute values, and those of less than a thousandth of the mean
        as a thousandth of it.

    Example:
        >>> import torch
        >>> from captum_apex.bases.polar_fit import channel_weights
        >>> means = torch.tensor([[2.0, 16.0], [0.0, 2.0]])
        >>> channel_weights(means, torch.eye(2), torch.tensor([[0, 1], [0, 1]]), spread=0.5)  # activations 1 and 9
        tensor([0.6065, 1.6487])
    """
    here = (chosen >= 0).to(means)
    totals = F.embedding_bag(chosen.clamp_min(0), means, mode="sum", per_sample_weights=here)
    means_of_prototypes = (processes or Processes()).total(totals) / chosen.shape[1]  # (channel, channel of the layer)
    activations = (means_of_prototypes * U).sum(1).abs()
    logarithms = activations.clamp_min(_QUIET * activations.mean() + torch.finfo(U.dtype).tiny).log()
    logarithms -= logarithms.mean()
    exponent = (spread / logarithms.std(correction=0).clamp_min(_TIE)).clamp_max(1)
    return (exponent * logarithms).exp()


def mean_directions(
    sequences: Sequence[Tensor], U: Tensor, chosen: Tensor, advance: Callable[[int], object] | None = None
) -> Tensor:
    """The mean of the peak vectors of each channel, each divided by its length; a vector of zeros stays as it is.

    Args:
        sequences: cells of each of the scheme's sequences, each (clip, channel of the layer, cell); the mean is over
            the sequences too.
        U: matrix of the basis, (channel, channel of the layer).
        chosen: clips of the prototypes of each channel, int64 (channel, prototype), each at most once per channel; −1
            for one that another process has, which adds nothing here.
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
        found = _by_clip if is_large and sequence.device.type == "cpu" else _by_rank
        for channels, vectors in found(sequence, U, chosen):
            directions.index_add_(0, channels, vectors)  # no channel occurs twice
            if advance is not None:
                advance(len(vectors) * sequence.shape[2])
    return directions / (chosen.shape[1] * len(sequences))


def _by_rank(sequence: Tensor, U: Tensor, chosen: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """For each rank of the prototypes, all channels with their peak vectors of length 1, (channel, ·)."""
    for ranked in chosen.unbind(1):
        channels = (ranked >= 0).nonzero()[:, 0]
        clips = ranked[channels]
        peaks = peaks_of_pairs(sequence, clips, U[channels])
        vectors = sequence[clips, :, peaks].to(U.dtype)  # some have half precision
        yield channels, _unit(vectors)


def _by_clip(sequence: Tensor, U: Tensor, chosen: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """For each clip, the channels that it is a prototype of, with their peak vectors in it of length 1 (channel, ·)."""
    clips, counts = chosen.unique(return_counts=True)
    pairs = chosen.flatten().argsort(stable=True)
    for clip, pairs_of_clip in zip(clips.tolist(), pairs.split(counts.tolist()), strict=True):
        if clip < 0:
            continue
        channels = pairs_of_clip // chosen.shape[1]
        cells = sequence[clip].to(U.dtype)
        peaks = peak_cells(cells, U.index_select(0, channels))  # takes half of the time of `U[channels]`
        if len(peaks) > cells.shape[1]:
            yield channels, _unit(cells.T.contiguous()).index_select(0, peaks)
        else:
            yield channels, _unit(cells.index_select(1, peaks).T.contiguous())


def _unit(vectors: Tensor) -> Tensor:
    """The vectors (vector, ·), each divided by its length; a vector of zeros stays as it is."""
    return vectors / vectors.norm(dim=1, keepdim=True).clamp_min(torch.finfo(vectors.dtype).tiny)


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


def check_method(method: str, orthogonal: bool = True, **steps: Any) -> None:
    """Refuses a method of fitting that there is not, and what the closed form does not have.

    Args:
        method: `gradient` or `closed-form`, as in `fit_basis`.
        orthogonal: whether the basis is orthogonal.
        steps: settings of the steps of a fit by gradient, by their names; None for those that are not given.

    Raises:
        ValueError: there is no such method, it does not give an invertible basis, or it has no such setting.

    Example:
        >>> from captum_apex.bases.polar_fit import check_method
        >>> check_method("closed-form"), check_method("gradient", orthogonal=False, learning_rate=0.02)
        (None, None)
    """
    one_of(method, "`method`", FIT_EPOCHS)
    if method == "closed-form" and not orthogonal:
        raise ValueError(
            "expected an orthogonal basis for the method 'closed-form', which gives no other, but got "
            "`orthogonal=False`; the method 'gradient' fits invertible bases (on the command line: --method)"
        )
    given = [f"`{name}={value!r}`" for name, value in steps.items() if value is not None]
    if method == "closed-form" and given:
        raise ValueError(
            f"expected no settings of steps for the method 'closed-form', which takes none, but got "
            f"{', '.join(given)}; the method 'gradient' has them: `method=\"gradient\"`"
        )
