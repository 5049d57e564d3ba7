"""Fits a basis on a feature bank: chooses prototypes and maximises their purity."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_apex.bases.basis import PrototypeBasis, Prototypes, matrix_tensor
from captum_apex.bases.collation import batch_labels
from captum_apex.bases.features import FeatureBank
from captum_apex.bases.fit_progress import FitProgress
from captum_apex.bases.peak_search import peaks_of_pairs, thinned
from captum_apex.bases.polar_fit import SPREAD, ClosedForm, check_method, mean_directions
from captum_apex.bases.prototype_choice import most_active, most_active_again
from captum_apex.bases.schemes import Scheme, purity
from captum_apex.caller import warn_caller
from captum_apex.defaults import FIT_EPOCHS, FIT_PROTOTYPES, KEPT_PROTOTYPES
from captum_apex.numbers import real_number, whole_number

__all__ = ["basis_from_matrix", "fit_basis", "pair_purity"]

_WIDE = 256  # channels; in wider layers the gradient of the matrix exponential dominates the costs
_PAIRS_AT_ONCE = 4096  # bounds the peak vectors (pair, channel) while purities are measured
_THINNED_EPOCHS = 0.6  # share of the epochs that take some of the cells of a very fine grid


def fit_basis(
    bank: FeatureBank,
    scheme: Scheme | str,
    *,
    method: str = "gradient",
    orthogonal: bool = True,
    epochs: int | None = None,
    learning_rate: float | None = None,
    weight_decay: float = 1e-5,
    batch_size: int | None = None,
    n_prototypes: tuple[int, int] | None = None,
    reselect_every: int = 2,
    seed: int = 0,
    progress: bool = False,
) -> PrototypeBasis:
    """Learns `U` by maximising the mean purity of all channels' prototypes; the model is not run.

    In grids of more than 2¹⁵ cells, such as 256 × 256, the first three fifths of the epochs look for peaks among every
    n-th cell only, at most 2¹⁵, so that a fit on a very fine grid does not take much longer. The last epochs and
    everything that the basis holds (prototypes, peaks, purities, `purity_history`) are of all cells. The channels are
    others than those of a fit on all cells. With a ninth of the cells, the mean purity of three fits was 0.508 instead
    of 0.519 on ESC-10 (raw channels: 0.478), and 0.397 instead of 0.379 on calls of bats (0.298).

    Args:
        bank: features of the clips; fitting runs on the device of the bank.
        scheme: the scheme to fit for, by name or object.
        method: how the purity is maximised. `gradient` takes steps of Adam, as EPIC does. `closed-form` takes, in each
            epoch, the orthogonal matrix with the largest mean purity for the present prototypes and their peaks, which
            is a polar factor. In this mean, active channels weigh more (see `ClosedForm`). `learning_rate`,
            `weight_decay`, `batch_size` and `seed` then have no effect.
        orthogonal: fit an orthogonal `U = exp(A − Aᵀ)`; otherwise an invertible `U = exp(A)`. `A` starts at zero, so
            that `U` starts at the raw channels. In layers of more than 256 channels, every step of an orthogonal fit
            starts at the matrix `V` of the step before: `U = exp(A − Aᵀ) V` with `A = 0`, where the gradient of the
            exponential is that of `A − Aᵀ`. Away from zero that gradient takes an exponential of twice the size, so an
            invertible fit of a wide layer is slow; it was not stable with restarts.
        epochs: number of passes over all (channel, prototype) pairs; by default 20, in closed form 10. 0 gives the raw
            channels with their prototypes.
        learning_rate: learning rate of Adam; by default 1e-2, and in layers of more than 256 channels
            `1e-2 √(128 / channels)`, because a larger rate turns so many channels too far in a step. With EPIC's 1e-3
            the purity has not converged after 20 epochs and is lower in every scheme.
        weight_decay: weight decay of Adam on `A`; without effect where every step starts at `A = 0`.
        batch_size: number of pairs per step; by default 512, as in EPIC, and in layers of more than 256 channels four
            per channel (as 512 for 128 channels). A wider layer then has no more steps, each of which computes a matrix
            exponential.
        n_prototypes: number of prototypes per channel at the start of the fit, and in the basis. By gradient, the
            number falls linearly during the fit, by default from 100 to 5. In closed form it stays at the first one, by
            default 20, of which the basis has the 5 best.
        reselect_every: number of epochs between two choices of prototypes.
        seed: seed of the random number generator that shuffles the pairs; the global random state is not used.
        progress: show a progress bar; if the fit will take more than a minute, a text at its start says so.

    Raises:
        ValueError: the bank's grid does not support the scheme, a setting is out of range, or an invertible basis is
            asked for in closed form.

    Example:
        >>> import torch
        >>> from captum_apex import FeatureBank, fit_basis
        >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.AdaptiveAvgPool2d(1))
        >>> clips = [torch.tensor([[[2.0, 0.0]], [[1.0, 0.0]]]), torch.tensor([[[-1.0, 0.0]], [[2.0, 0.0]]])]
        >>> bank = FeatureBank.from_dataset(model, model[0], clips)
        >>> basis = fit_basis(bank, "time", n_prototypes=(1, 1))
        >>> basis.prototype_indices.tolist()
        [[0], [1]]
        >>> [round(purity, 2) for purity in basis.purity_history[[0, -1]].tolist()]  # before and after
        [0.89, 1.0]
        >>> closed = fit_basis(bank, "time", method="closed-form", epochs=1, n_prototypes=(1, 1))
        >>> [round(purity, 2) for purity in closed.purity_history.tolist()]
        [0.89, 1.0]

    Source: EPIC (arXiv 2505.12897), training of the disentanglement module; for wide layers, Lezcano-Casado,
        "Trivializations for gradient-based optimization on manifolds" (2019).
    """
    check_method(method, orthogonal)
    scheme = Scheme(scheme)
    sequences = bank.sequences(scheme)
    epochs = whole_number(FIT_EPOCHS[method] if epochs is None else epochs, "epochs", least=0)
    reselect_every = whole_number(reselect_every, "reselect_every", least=1)
    first, last = _available(bank, (FIT_PROTOTYPES[method], KEPT_PROTOTYPES) if n_prototypes is None else n_prototypes)
    with torch.inference_mode(False), torch.enable_grad():
        search: ClosedForm | _Descent
        is_closed = method == "closed-form"
        if is_closed:
            search = ClosedForm(bank.means, SPREAD)
        else:
            matrix = _Matrix(bank.means, orthogonal)
            search = _Descent(matrix, learning_rate, weight_decay, batch_size, seed)
        fall = (first, first if is_closed else last)
        counts = [_prototype_count(epoch, epochs, reselect_every, *fall) for epoch in range(epochs)] + [last]
        plan = _planned(bank, sequences, counts, reselect_every)
        chosen = most_active(bank.means, search.U(), counts[0])
        history = [_mean_purity(sequences, search.U(), chosen[:, :last], is_closed)]
        with FitProgress(scheme, bank.origin.grid, sum(epoch.n_compared for epoch in plan), progress) as shown:
            for epoch in plan:
                search.improve(epoch.sequences, chosen, shown.advance)
                chosen, strongest = _chosen_after(epoch, bank.means, search.U(), chosen, last)
                history.append(_mean_purity(sequences, search.U(), strongest, is_closed))
                shown.advance(epoch.n_measured)
        return basis_from_matrix(bank, scheme, search.U(), n_prototypes=last, purity_history=torch.tensor(history))


def basis_from_matrix(
    bank: FeatureBank, scheme: Scheme | str, U: Tensor, *, n_prototypes: int = 5, purity_history: Tensor | None = None
) -> PrototypeBasis:
    """A basis from any invertible matrix (raw channels, a rotation, PCA, ICA), with its prototypes in a bank.

    Args:
        bank: features of the clips.
        scheme: the scheme of the basis, by name or object.
        U: invertible matrix, (channel, channel).
        n_prototypes: number of prototypes per channel and side.
        purity_history: mean purity before fitting and after each epoch, (epoch + 1,), to store in the basis; by default
            empty.

    Raises:
        ValueError: `U` does not fit the bank, or the bank has no cells for the scheme.

    Example:
        >>> import torch
        >>> from captum_apex import FeatureBank, basis_from_matrix
        >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.AdaptiveAvgPool2d(1))
        >>> clips = [torch.tensor([[[2.0, 0.0]], [[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0]], [[0.0, 2.0]]])]
        >>> bank = FeatureBank.from_dataset(model, model[0], clips)
        >>> swapped = basis_from_matrix(bank, "time", torch.tensor([[0.0, 1.0], [1.0, 0.0]]), n_prototypes=1)
        >>> swapped.prototype_indices.tolist(), swapped.positive.activations.tolist()
        ([[1], [0]], [[1.0], [1.0]])
    """
    scheme = Scheme(scheme)
    U = matrix_tensor(U)
    if bank.labels is not None:
        batch_labels(bank.labels, bank.n_clips)
    if tuple(U.shape) != (bank.n_channels, bank.n_channels):
        raise ValueError(f"expected `U` of shape {(bank.n_channels, bank.n_channels)}, but got {tuple(U.shape)}")
    bank.sequences(scheme)  # raises where the bank has no cells for the scheme
    count = _available(bank, (n_prototypes, n_prototypes))[1]
    positive, negative = (_prototypes(bank, scheme, U.to(bank.means), count, sign) for sign in (1, -1))
    history = torch.empty(0) if purity_history is None else purity_history
    return PrototypeBasis(U.detach().cpu(), scheme, positive, negative, history, bank.origin)


def pair_purity(sequences: Sequence[Tensor], U: Tensor, pairs: Tensor, sign: int = 1) -> tuple[Tensor, Tensor]:
    """Purity and peaks of (channel, clip) pairs.

    Args:
        sequences: cells of each of the scheme's sequences, each (clip, channel, cell).
        U: matrix of the basis, (channel, channel).
        pairs: channel and clip of each pair, int64 (pair, 2).
        sign: +1 for the positive side, −1 for the negative side, which has the peaks and purities of −Ẑ.

    Returns:
        Purity (pair,), the mean over the sequences, differentiable in `U`; and index of the peak cell in each sequence,
        int64 (pair, sequence).

    Example:
        >>> import torch
        >>> from captum_apex.bases.fitting import pair_purity
        >>> cells = torch.tensor([[[0.0, 3.0], [1.0, 4.0]]])
        >>> pair_purity([cells], torch.eye(2), torch.tensor([[0, 0], [1, 0]]))
        (tensor([0.6000, 0.8000]), tensor([[1],
                [1]]))
    """
    channels, clips = pairs.unbind(1)
    purities = []
    peaks = []
    for sequence in sequences:
        peak = peaks_of_pairs(sequence, clips, sign * U.detach()[channels])
        vectors = sequence[clips, :, peak].to(U.dtype)  # of half precision in some banks
        purities.append(sign * purity(vectors @ U.T, channels))  # (pair, channel) → (pair,)
        peaks.append(peak)
    return torch.stack(purities).mean(0), torch.stack(peaks, 1)


class _Matrix:
    """`U` during the fit: `exp(A)`, `exp(A − Aᵀ)`, or in a wide layer `exp(A − Aᵀ) V` with the `U` of the last step."""

    def __init__(self, like: Tensor, orthogonal: bool) -> None:
        width = like.shape[1]
        self.A = like.new_zeros(width, width).requires_grad_()
        self.V = torch.eye(width).to(like) if orthogonal and width > _WIDE else None
        self.orthogonal = orthogonal

    def U(self, track: bool = False) -> Tensor:  # noqa: N802 - the formula's own symbol
        with torch.set_grad_enabled(track):
            generator = self.A - self.A.T if self.orthogonal else self.A
            if self.V is None:
                return torch.matrix_exp(generator)
            # At A = 0 the sum has the value and the derivative of exp(A − Aᵀ) V.
            return self.V + generator @ self.V if track else self.V

    @torch.no_grad()
    def rebase(self) -> None:
        """After a step in a wide layer: multiplies `V` by the step's rotation, and sets `A` to zero again."""
        if self.V is None:
            return
        moved = torch.matrix_exp(self.A - self.A.T) @ self.V
        # A step of Newton's iteration makes `V` orthogonal again; rounding errors would add up over the steps.
        self.V = 1.5 * moved - 0.5 * moved @ (moved.T @ moved)
        self.A.zero_()


class _Descent:
    """Maximises the purity by Adam, on batches of pairs in random order."""

    def __init__(self, matrix: _Matrix, rate: float | None, decay: float, batch_size: int | None, seed: int) -> None:
        width = len(matrix.A)
        rate = real_number(_default_learning_rate(width) if rate is None else rate, "learning_rate", low=0)
        decay = real_number(decay, "weight_decay", low=0)
        batch_size = _default_batch_size(width) if batch_size is None else batch_size
        self.matrix = matrix
        self.batch_size = whole_number(batch_size, "batch_size", least=1)
        self.optimizer = torch.optim.Adam([matrix.A], rate, weight_decay=decay)
        self.generator = torch.Generator().manual_seed(whole_number(seed, "seed"))

    def U(self) -> Tensor:  # noqa: N802 - the formula's own symbol
        return self.matrix.U()

    def improve(self, sequences: Sequence[Tensor], chosen: Tensor, advance: Callable[[int], object]) -> None:
        """One epoch; `advance` gets the number of cells that were compared."""
        pairs = _pairs(chosen)
        n_cells = sum(sequence.shape[2] for sequence in sequences)
        shuffle = torch.randperm(len(pairs), generator=self.generator).to(pairs.device)
        for batch in pairs[shuffle].split(self.batch_size):
            _step(self.matrix, self.optimizer, sequences, batch)
            advance(len(batch) * n_cells)


def _step(matrix: _Matrix, optimizer: torch.optim.Optimizer, sequences: Sequence[Tensor], pairs: Tensor) -> None:
    """One step of gradient descent on the mean purity of the pairs."""
    optimizer.zero_grad()
    loss = -pair_purity(sequences, matrix.U(track=True), pairs)[0].mean()
    loss.backward()
    optimizer.step()
    matrix.rebase()


def _default_batch_size(n_channels: int) -> int:
    return 4 * n_channels if n_channels > _WIDE else 512


def _default_learning_rate(n_channels: int) -> float:
    return 1e-2 * math.sqrt(128 / n_channels) if n_channels > _WIDE else 1e-2


def _pairs(chosen: Tensor) -> Tensor:
    """Clips (channel, prototype) as pairs of channel and clip (pair, 2)."""
    channels = torch.arange(len(chosen), device=chosen.device)[:, None].expand_as(chosen)
    return torch.stack([channels, chosen], -1).flatten(0, 1)


@dataclass(frozen=True)
class _Epoch:
    """What an epoch takes.

    Attributes:
        n_prototypes: number of prototypes per channel.
        n_following: number of prototypes per channel that are chosen after the epoch; 0 where the same ones stay.
        n_pairs: number of (channel, prototype) pairs.
        sequences: cells that the steps look for peaks in, each (clip, channel, cell).
        n_measured: number of cells that are compared to measure the purity after the epoch.
    """

    n_prototypes: int
    n_following: int
    n_pairs: int
    sequences: tuple[Tensor, ...]
    n_measured: int

    @property
    def n_cells(self) -> int:
        """Number of cells that are compared for each pair."""
        return sum(sequence.shape[2] for sequence in self.sequences)

    @property
    def n_compared(self) -> int:
        """Number of cells that are compared in the epoch."""
        return self.n_pairs * self.n_cells + self.n_measured


def _planned(
    bank: FeatureBank, sequences: tuple[Tensor, ...], counts: Sequence[int], reselect_every: int
) -> list[_Epoch]:
    """What each epoch takes; `counts` are the numbers of prototypes per channel in the epochs, and in the basis."""
    epochs = len(counts) - 1
    n_columns = bank.origin.grid[1] if bank.origin.grid else 1
    n_thinned = int(_THINNED_EPOCHS * epochs)
    some = tuple(thinned(sequence, n_columns) for sequence in sequences) if n_thinned else sequences
    n_measured = counts[-1] * bank.n_channels * sum(sequence.shape[2] for sequence in sequences)
    plan = []
    for epoch in range(epochs):
        is_followed_by_choice = (epoch + 1) % reselect_every == 0 or epoch + 1 == epochs
        n_following = counts[epoch + 1] if is_followed_by_choice else 0
        taken = some if epoch < n_thinned else sequences
        plan.append(_Epoch(counts[epoch], n_following, counts[epoch] * bank.n_channels, taken, n_measured))
    return plan


def _chosen_after(epoch: _Epoch, means: Tensor, U: Tensor, chosen: Tensor, last: int) -> tuple[Tensor, Tensor]:
    """The prototypes of the next epoch, and those whose purity is measured, `last` per channel."""
    if not epoch.n_following:
        return chosen, most_active_again(means, U, chosen, last)
    chosen = most_active(means, U, epoch.n_following)
    return chosen, chosen[:, :last]


def _prototype_count(epoch: int, epochs: int, reselect_every: int, first: int, last: int) -> int:
    """The number of prototypes per channel, which falls linearly over the choices of prototypes."""
    n_choices = (epochs - 1) // reselect_every
    return round(first + (last - first) * (epoch // reselect_every) / n_choices) if n_choices else last


@torch.no_grad()
def _measured(sequences: Sequence[Tensor], U: Tensor, pairs: Tensor, sign: int = 1) -> tuple[Tensor, Tensor]:
    """`pair_purity` without gradients, a bounded number of pairs at a time."""
    batches = [pair_purity(sequences, U, batch, sign) for batch in pairs.split(_PAIRS_AT_ONCE)]
    return torch.cat([purities for purities, _ in batches]), torch.cat([peaks for _, peaks in batches])


def _mean_purity(sequences: Sequence[Tensor], U: Tensor, chosen: Tensor, is_closed: bool) -> float:
    """The mean purity of the chosen prototypes (channel, prototype) on the positive side."""
    if is_closed:  # a product, because `U` is orthogonal; see `ClosedForm`
        return (U * mean_directions(sequences, U, chosen)).sum().item() / len(U)
    return _measured(sequences, U, _pairs(chosen))[0].mean().item()


def _prototypes(bank: FeatureBank, scheme: Scheme, U: Tensor, n_prototypes: int, sign: int) -> Prototypes:
    """The prototypes of one side."""
    chosen = most_active(bank.means, sign * U, n_prototypes)
    purities, peaks = _measured(bank.sequences(scheme), U, _pairs(chosen), sign)
    activations = torch.einsum("kc,kpc->kp", U, bank.means[chosen])
    labels = None if bank.labels is None else bank.labels[chosen.to(bank.labels.device)].cpu()
    peaks = peaks.view(*chosen.shape, -1).cpu()
    columns = None
    if bank.columns is not None:
        columns = bank.columns.cpu()[chosen.cpu()]
        peaks = _in_clip_grid(peaks, scheme, bank.origin.grid, columns)
    return Prototypes(chosen.cpu(), activations.cpu(), purities.view_as(chosen).cpu(), peaks, labels, columns)


def _in_clip_grid(peaks: Tensor, scheme: Scheme, grid: tuple[int, int] | None, columns: Tensor) -> Tensor:
    """Peaks counted in each clip's grid, instead of the bank's grid, which is as wide as that of the longest clip.

    Only the cells of `square` are counted over rows and columns, so only they differ.
    """
    if scheme is not Scheme.SQUARE:
        return peaks
    assert grid is not None
    return peaks // grid[1] * columns[..., None] + peaks % grid[1]


def _available(bank: FeatureBank, n_prototypes: tuple[int, int]) -> tuple[int, int]:
    """The requested numbers of prototypes at the start and at the end, at most the number of clips."""
    if not isinstance(n_prototypes, Sequence) or len(n_prototypes) != 2:
        raise TypeError(f"expected `n_prototypes` as (start, end), but got {n_prototypes!r}")
    first, last = (whole_number(number, "n_prototypes") for number in n_prototypes)
    if not first >= last >= 1:
        raise ValueError(f"expected `n_prototypes` as (start, end) with start ≥ end ≥ 1, but got {n_prototypes}")
    if bank.n_clips < first:
        warn_caller(f"{bank.n_clips} clips are fewer than {first} prototypes per channel; {bank.n_clips} are used")
    return min(first, bank.n_clips), min(last, bank.n_clips)
