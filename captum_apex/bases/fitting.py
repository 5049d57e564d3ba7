"""Fits a basis on a feature bank: chooses prototypes and maximises their purity."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captum_apex.bases.basis import PrototypeBasis, Prototypes, matrix_tensor
from captum_apex.bases.features import FeatureBank
from captum_apex.bases.fit_plan import (
    Epoch,
    checked_prototypes,
    default_prototypes,
    planned_epochs,
    prototype_count,
)
from captum_apex.bases.fit_progress import FitProgress
from captum_apex.bases.peak_search import cells_at_hand, peaks_of_pairs
from captum_apex.bases.polar_fit import SPREAD, ClosedForm, check_method, mean_directions
from captum_apex.bases.processes import Processes
from captum_apex.bases.schemes import Scheme, purity
from captum_apex.bases.shared_bank import SharedBank
from captum_apex.caller import warn_caller
from captum_apex.defaults import FIT_EPOCHS
from captum_apex.numbers import real_number, whole_number

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["basis_from_matrix", "fit_basis", "pair_purity"]

_WIDE = 256  # channels; in wider layers the gradient of the matrix exponential dominates the costs
_WEIGHT_DECAY = 1e-5
_PAIRS_AT_ONCE = 4096  # bounds the peak vectors (pair, channel) while purities are measured


def fit_basis(
    bank: FeatureBank,
    scheme: Scheme | str,
    *,
    method: str = "gradient",
    orthogonal: bool = True,
    epochs: int | None = None,
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    batch_size: int | None = None,
    n_prototypes: tuple[int, int] | None = None,
    reselect_every: int = 2,
    seed: int = 0,
    group: ProcessGroup | None = None,
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
            is a polar factor, in about a twentieth of the time. In this mean, active channels weigh more (see
            `ClosedForm`); `seed` has no effect.
        orthogonal: fit an orthogonal `U = exp(A − Aᵀ)`; otherwise an invertible `U = exp(A)`. `A` starts at zero, so
            that `U` starts at the raw channels. In layers of more than 256 channels, every step of an orthogonal fit
            starts at the matrix `V` of the step before: `U = exp(A − Aᵀ) V` with `A = 0`, where the gradient of the
            exponential is that of `A − Aᵀ`. Away from zero that gradient takes an exponential of twice the size, so an
            invertible fit of a wide layer is slow; it was not stable with restarts.
        epochs: number of passes over all (channel, prototype) pairs; by default 20, in closed form 10. 0 gives the raw
            channels with their prototypes.
        learning_rate: of a fit by gradient, the learning rate of Adam; by default 1e-2, and in layers of more than 256
            channels `1e-2 √(128 / channels)`, because a larger rate turns so many channels too far in a step. With
            EPIC's 1e-3 the purity has not converged after 20 epochs and is lower in every scheme.
        weight_decay: of a fit by gradient, the weight decay of Adam on `A`, by default 1e-5; without effect where every
            step starts at `A = 0`.
        batch_size: of a fit by gradient, the number of pairs per step; by default 512, as in EPIC, and in layers of
            more than 256 channels four per channel (as 512 for 128 channels). A wider layer then has no more steps,
            each of which computes a matrix exponential.
        n_prototypes: number of prototypes per channel at the start of the fit, and in the basis. By gradient, the
            number falls linearly during the fit, by default from 100 to 5. In closed form it stays at the first one, by
            default a sixteenth of the clips, from 5 to 20, of which the basis has the 5 best.
        reselect_every: number of epochs between two choices of prototypes.
        seed: of a fit by gradient, the seed of the random number generator that shuffles the pairs; the global random
            state is not used.
        group: a process group of `torch.distributed`, whose processes all call this function with the same settings,
            each with the bank of its own part of the dataset: the i-th process with `part=(i, n)`. All get the basis of
            the whole dataset, up to rounding that of one process. None for a bank in this process alone.
        progress: show a progress bar; if the fit will take more than a minute, a text at its start says so.

    Raises:
        ValueError: the bank's grid does not support the scheme; a setting is out of range; an invertible basis, or a
            setting of the fit by gradient, is asked for in closed form; or the banks of a group are not the parts of
            one bank.
        RuntimeError: another process of the group has ended, or does not answer.

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
    steps = {"learning_rate": learning_rate, "weight_decay": weight_decay, "batch_size": batch_size}
    check_method(method, orthogonal, **steps)
    seed = whole_number(seed, "seed")
    scheme = Scheme(scheme)
    epochs = whole_number(FIT_EPOCHS[method] if epochs is None else epochs, "epochs", least=0)
    reselect_every = whole_number(reselect_every, "reselect_every", least=1)
    settings = {"method": method, "orthogonal": orthogonal, "epochs": epochs, "reselect_every": reselect_every}
    asked = None if n_prototypes is None else checked_prototypes(n_prototypes)
    shared = SharedBank(bank, scheme, group, {**settings, **steps, "seed": seed, "n_prototypes": asked})
    first, last = _available(shared.n_clips, *(asked or default_prototypes(method, shared.n_clips)))
    with torch.inference_mode(False), torch.enable_grad():
        search: ClosedForm | _Descent
        is_closed = method == "closed-form"
        if is_closed:
            search = ClosedForm(bank.means, SPREAD, shared.processes)
        else:
            matrix = _Matrix(bank.means, orthogonal)
            search = _Descent(matrix, learning_rate, weight_decay, batch_size, seed, shared.processes)
        fall = (first, first if is_closed else last)
        counts = [prototype_count(epoch, epochs, reselect_every, *fall) for epoch in range(epochs)] + [last]
        plan = planned_epochs(bank, shared.sequences, counts, reselect_every)
        chosen = shared.most_active(search.U(), counts[0])
        history = [_mean_purity(shared, search.U(), chosen[:, :last], is_closed)]
        with FitProgress(scheme, bank.origin.grid, sum(epoch.n_compared for epoch in plan), progress) as shown:
            for epoch in plan:
                search.improve(epoch.sequences, shared.here(chosen), shown.advance)
                chosen, strongest = _chosen_after(epoch, shared, search.U(), chosen, last)
                history.append(_mean_purity(shared, search.U(), strongest, is_closed))
                shown.advance(epoch.n_measured)
        return _basis(shared, scheme, search.U(), last, torch.tensor(history))


def basis_from_matrix(
    bank: FeatureBank,
    scheme: Scheme | str,
    U: Tensor,
    *,
    n_prototypes: int = 5,
    purity_history: Tensor | None = None,
    group: ProcessGroup | None = None,
) -> PrototypeBasis:
    """A basis from any invertible matrix (raw channels, a rotation, PCA, ICA), with its prototypes in a bank.

    Args:
        bank: features of the clips.
        scheme: the scheme of the basis, by name or object.
        U: invertible matrix, (channel, channel).
        n_prototypes: number of prototypes per channel and side.
        purity_history: mean purity before fitting and after each epoch, (epoch + 1,), to store in the basis; by default
            empty.
        group: a process group whose processes each have a part of the bank, as in `fit_basis`.

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
    if tuple(U.shape) != (bank.n_channels, bank.n_channels):
        raise ValueError(f"expected `U` of shape {(bank.n_channels, bank.n_channels)}, but got {tuple(U.shape)}")
    kept = checked_prototypes((n_prototypes, n_prototypes))
    shared = SharedBank(bank, scheme, group, {"n_prototypes": kept})
    history = torch.empty(0) if purity_history is None else purity_history
    U = shared.processes.agreed(U.to(bank.means.device))
    return _basis(shared, scheme, U, _available(shared.n_clips, *kept)[1], history)


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
    sequences, clips = cells_at_hand(sequences, clips)
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

    @torch.no_grad()
    def agree(self, processes: Processes) -> None:
        """Takes the matrix of the first process: those of different machines would drift apart by rounding."""
        self.A.copy_(processes.agreed(self.A))
        self.V = None if self.V is None else processes.agreed(self.V)


class _Descent:
    """Maximises the purity by Adam, on batches of pairs in random order."""

    def __init__(
        self,
        matrix: _Matrix,
        rate: float | None,
        decay: float | None,
        batch_size: int | None,
        seed: int,
        processes: Processes,
    ) -> None:
        width = len(matrix.A)
        rate = real_number(_default_learning_rate(width) if rate is None else rate, "learning_rate", low=0)
        decay = real_number(_WEIGHT_DECAY if decay is None else decay, "weight_decay", low=0)
        batch_size = _default_batch_size(width) if batch_size is None else batch_size
        self.matrix = matrix
        self.processes = processes
        self.batch_size = whole_number(batch_size, "batch_size", least=1)
        self.optimizer = torch.optim.Adam([matrix.A], rate, weight_decay=decay)
        self.generator = torch.Generator().manual_seed(whole_number(seed, "seed"))

    def U(self) -> Tensor:  # noqa: N802 - the formula's own symbol
        return self.matrix.U()

    def improve(self, sequences: Sequence[Tensor], chosen: Tensor, advance: Callable[[int], object]) -> None:
        """One epoch; `advance` gets the number of cells that were compared. See `ClosedForm.improve`."""
        sequences, chosen = cells_at_hand(sequences, chosen)
        pairs = _pairs(chosen)
        n_cells = sum(sequence.shape[2] for sequence in sequences)
        shuffle = torch.randperm(len(pairs), generator=self.generator).to(pairs.device)
        for batch in pairs[shuffle].split(self.batch_size):
            _step(self.matrix, self.optimizer, sequences, batch, self.processes)
            advance(len(batch) * n_cells)
        self.matrix.agree(self.processes)


def _step(
    matrix: _Matrix, optimizer: torch.optim.Optimizer, sequences: Sequence[Tensor], pairs: Tensor, processes: Processes
) -> None:
    """One step of gradient descent on the mean purity of the pairs, each in the process that has its clip."""
    optimizer.zero_grad()
    here = pairs[pairs[:, 1] >= 0]
    loss = -pair_purity(sequences, matrix.U(track=True), here)[0].sum() / len(pairs)
    loss.backward()
    assert matrix.A.grad is not None
    matrix.A.grad = processes.total(matrix.A.grad)
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


def _chosen_after(epoch: Epoch, shared: SharedBank, U: Tensor, chosen: Tensor, last: int) -> tuple[Tensor, Tensor]:
    """The prototypes of the next epoch, and those whose purity is measured, `last` per channel."""
    if not epoch.n_following:
        return chosen, shared.most_active_again(U, chosen, last)
    chosen = shared.most_active(U, epoch.n_following)
    return chosen, chosen[:, :last]


@torch.no_grad()
def _measured(shared: SharedBank, U: Tensor, chosen: Tensor, sign: int = 1) -> tuple[Tensor, Tensor]:
    """Purity (channel, prototype) and peaks (channel, prototype, sequence) of the chosen clips of all processes.

    A bounded number of pairs at a time is measured, each in the process that has its clip.
    """
    sequences, places = cells_at_hand(shared.sequences, shared.here(chosen))
    pairs = _pairs(places)
    here = pairs[:, 1] >= 0
    batches = [pair_purity(sequences, U, batch, sign) for batch in pairs[here].split(_PAIRS_AT_ONCE)]
    purities = U.new_zeros(len(pairs))
    purities[here] = torch.cat([purities for purities, _ in batches])
    peaks = pairs.new_zeros(len(pairs), len(shared.sequences))
    peaks[here] = torch.cat([peaks for _, peaks in batches])
    total = shared.processes.total
    return total(purities).view_as(chosen), total(peaks).view(*chosen.shape, -1)


def _mean_purity(shared: SharedBank, U: Tensor, chosen: Tensor, is_closed: bool) -> float:
    """The mean purity of the chosen prototypes (channel, prototype) on the positive side."""
    if is_closed:  # a product, because `U` is orthogonal; see `ClosedForm`
        directions = shared.processes.total(mean_directions(shared.sequences, U, shared.here(chosen)))
        return (U * directions).sum().item() / len(U)
    return _measured(shared, U, chosen)[0].mean().item()


def _basis(shared: SharedBank, scheme: Scheme, U: Tensor, n_prototypes: int, history: Tensor) -> PrototypeBasis:
    """A matrix with its prototypes."""
    of_features = U.to(shared.means)  # the basis keeps a matrix of higher precision
    positive, negative = (_prototypes(shared, scheme, of_features, n_prototypes, sign) for sign in (1, -1))
    return PrototypeBasis(U.detach().cpu(), scheme, positive, negative, history, shared.origin)


def _prototypes(shared: SharedBank, scheme: Scheme, U: Tensor, n_prototypes: int, sign: int) -> Prototypes:
    """The prototypes of one side."""
    chosen = shared.most_active(sign * U, n_prototypes)
    purities, peaks = _measured(shared, U, chosen, sign)
    activations = shared.activations(U, chosen)
    labels = None if shared.bank.labels is None else shared.rows(shared.bank.labels, chosen).cpu()
    columns = shared.columns(chosen)
    if columns is not None:
        peaks = _in_clip_grid(peaks, scheme, shared.widths(chosen), columns)
        columns = columns.cpu()
    return Prototypes(chosen.cpu(), activations.cpu(), purities.cpu(), peaks.cpu(), labels, columns)


def _in_clip_grid(peaks: Tensor, scheme: Scheme, widths: Tensor, columns: Tensor) -> Tensor:
    """Peaks counted in each clip's grid, instead of the bank's grid, which is as wide as that of the longest clip.

    Only the cells of `square` are counted over rows and columns, so only they differ.
    """
    if scheme is not Scheme.SQUARE:
        return peaks
    width = widths[..., None]
    return peaks // width * columns[..., None] + peaks % width


def _available(n_clips: int, first: int, last: int) -> tuple[int, int]:
    """The numbers of prototypes at the start and at the end, at most the number of clips."""
    if n_clips < first:
        warn_caller(f"{n_clips} clips are fewer than {first} prototypes per channel; {n_clips} are used")
    return min(first, n_clips), min(last, n_clips)
