"""From a feature bank to a basis: choosing prototypes and maximising their purity."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_apex.bases.basis import PrototypeBasis, Prototypes
from captum_apex.bases.features import FeatureBank
from captum_apex.bases.schemes import Scheme, peak_cells, purity

__all__ = ["basis_from_matrix", "fit_basis", "most_active", "pair_purity"]

_WIDE = 256  # channels; in wider layers the gradient of the matrix exponential costs more than all else
_CHANNELS_AT_ONCE = 64  # bounds the (clip, channel) table of activations while prototypes are chosen
_PAIRS_AT_ONCE = 4096  # bounds the peak vectors (pair, channel) while purities are measured
_GATHERED_BYTES = {"cpu": 2**21}  # bounds the gathered cells (pair, channel, cell) while peaks are looked for


def fit_basis(
    bank: FeatureBank,
    scheme: Scheme | str,
    *,
    orthogonal: bool = True,
    epochs: int = 20,
    learning_rate: float | None = None,
    weight_decay: float = 1e-5,
    batch_size: int | None = None,
    n_prototypes: tuple[int, int] = (100, 5),
    reselect_every: int = 2,
    seed: int = 0,
    progress: bool = False,
) -> PrototypeBasis:
    """Learns `U` by maximising the mean purity of all channels' prototypes; the model is not run.

    Args:
        bank: the features; fitting runs on the bank's device.
        scheme: the perspective, by name or object.
        orthogonal: `U = exp(A − Aᵀ)`; otherwise `U = exp(A)`, invertible. `A` starts at zero: at the raw channels. In layers of more
            than 256 channels every step of an orthogonal fit begins at the last one's matrix, `U = exp(A − Aᵀ) V` with `A = 0`: the
            exponential's gradient costs nothing there. (Elsewhere it takes an exponential of twice the size: an invertible fit of a wide
            layer is slow. Fitted like that, it was not stable.)
        epochs: passes over all (channel, prototype) pairs; 0 gives the raw channels with their prototypes.
        learning_rate: of Adam; by default 1e-2, and in layers of more than 256 channels `1e-2 √(128 / channels)`: a larger one turns so
            many channels too far in a step. EPIC's 1e-3 has not converged after 20 epochs: the purity is lower in every scheme.
        weight_decay: of Adam, on `A`; without effect where every step begins at `A = 0`.
        batch_size: pairs per step; by default 512, as in EPIC, and in layers of more than 256 channels four per channel (as 512 are of
            128), so that a wider layer has no more steps, each of which costs a matrix exponential.
        n_prototypes: per channel, at the start and at the end; falls linearly.
        reselect_every: epochs between two choices of prototypes.
        seed: of the order of the pairs; the global generator is not used.
        progress: show a progress bar.

    Raises:
        ValueError: where the bank's grid does not support the scheme, or a setting is out of range.

    Source: EPIC (arXiv 2505.12897), training of the disentanglement module; for wide layers, Lezcano-Casado, "Trivializations for
        gradient-based optimization on manifolds" (2019).
    """
    scheme = Scheme(scheme)
    sequences = bank.sequences(scheme)
    wide = bank.n_channels > _WIDE
    if batch_size is None:
        batch_size = 4 * bank.n_channels if wide else 512
    if learning_rate is None:
        learning_rate = 1e-2 * math.sqrt(128 / bank.n_channels) if wide else 1e-2
    for name, value, least in (
        ("epochs", epochs, 0),
        ("batch_size", batch_size, 1),
        ("reselect_every", reselect_every, 1),
    ):
        if value < least:
            raise ValueError(f"expected `{name}` to be an int of at least {least}, but got {value}")
    first, last = _available(bank, n_prototypes)
    with torch.inference_mode(False), torch.enable_grad():
        matrix = _Matrix(bank.means, orthogonal)
        optimizer = torch.optim.Adam([matrix.A], learning_rate, weight_decay=weight_decay)
        generator = torch.Generator().manual_seed(seed)
        history = [_mean_purity(bank, scheme, matrix.U(), last)]
        pairs = torch.empty(0, 2)
        for epoch in tqdm(range(epochs), desc=f"fitting {scheme}", unit="epoch", disable=not progress):
            if epoch % reselect_every == 0:
                chosen = most_active(
                    bank.means, matrix.U(), _prototype_count(epoch, epochs, reselect_every, first, last)
                )
                pairs = _pairs(chosen)
            for batch in pairs[torch.randperm(len(pairs), generator=generator).to(pairs.device)].split(batch_size):
                optimizer.zero_grad()
                loss = -pair_purity(sequences, matrix.U(track=True), batch)[0].mean()
                loss.backward()
                optimizer.step()
                matrix.rebase()
            history.append(_mean_purity(bank, scheme, matrix.U(), last))
        return basis_from_matrix(bank, scheme, matrix.U(), n_prototypes=last, purity_history=torch.tensor(history))


def basis_from_matrix(
    bank: FeatureBank, scheme: Scheme | str, U: Tensor, *, n_prototypes: int = 5, purity_history: Tensor | None = None
) -> PrototypeBasis:
    """Any invertible matrix as a basis, with the prototypes that it gives in a bank: raw channels, a rotation, PCA, ICA.

    Args:
        bank: the features.
        scheme: the perspective, by name or object.
        U: (channel, channel).
        n_prototypes: per channel and side.
        purity_history: kept in the basis.

    Raises:
        ValueError: where `U` does not fit the bank.
    """
    scheme = Scheme(scheme)
    if tuple(U.shape) != (bank.n_channels, bank.n_channels):
        raise ValueError(f"expected `U` of shape {(bank.n_channels, bank.n_channels)}, but got {tuple(U.shape)}")
    bank.sequences(scheme)  # says so where the bank lacks them
    count = _available(bank, (n_prototypes, n_prototypes))[1]
    positive, negative = (_prototypes(bank, scheme, U.to(bank.means), count, sign) for sign in (1, -1))
    history = torch.empty(0) if purity_history is None else purity_history
    return PrototypeBasis(U.detach().cpu(), scheme, positive, negative, history, bank.origin)


@torch.no_grad()
def most_active(means: Tensor, U: Tensor, n_prototypes: int) -> Tensor:
    """The clips with the largest activation of each channel, best first, int64 (channel, prototype).

    Args:
        means: mean over the grid, (clip, channel).
        U: (channel, channel); negated for the negative side.
        n_prototypes: how many of each channel.
    """
    blocks = U.split(_CHANNELS_AT_ONCE)
    return torch.cat(
        [(means @ block.T).topk(n_prototypes, dim=0).indices.T for block in blocks]
    )  # (clip, channel) → (channel, prototype)


def pair_purity(sequences: Sequence[Tensor], U: Tensor, pairs: Tensor, sign: int = 1) -> tuple[Tensor, Tensor]:
    """Purity and peaks of (channel, clip) pairs.

    Args:
        sequences: the cells of each of the scheme's sequences, (clip, channel, cell) each.
        U: (channel, channel).
        pairs: int64 (pair, 2): channel, clip.
        sign: −1 for the negative side, whose peak and purity are those of −Ẑ.

    Returns:
        Purity (pair,), the mean over sequences, differentiable in `U`; peaks, int64 (pair, sequence).
    """
    channels, clips = pairs.unbind(1)
    purities, peaks = [], []
    for sequence in sequences:
        peak = _peaks(sequence, clips, sign * U.detach()[channels])
        purities.append(sign * purity(sequence[clips, :, peak] @ U.T, channels))  # (pair, channel) → (pair,)
        peaks.append(peak)
    return torch.stack(purities).mean(0), torch.stack(peaks, 1)


def _peaks(sequence: Tensor, clips: Tensor, directions: Tensor) -> Tensor:
    """The peak cells, a few pairs at a time: on a CPU the gathered cells then stay in its cache, which is several times as fast."""
    bytes_at_once = _GATHERED_BYTES.get(sequence.device.type, 2**28)
    pairs_at_once = max(1, bytes_at_once // (sequence[0].numel() * sequence.element_size()))
    parts = zip(clips.split(pairs_at_once), directions.split(pairs_at_once), strict=True)
    return torch.cat([peak_cells(sequence.index_select(0, some), rows) for some, rows in parts])


class _Matrix:
    """`U` while it is fitted: `exp(A − Aᵀ) V` or `exp(A)`; `V` is where a wide layer's last step led to, else the identity."""

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
            return (
                self.V + generator @ self.V if track else self.V
            )  # at A = 0 this is exp(A − Aᵀ) V, and has its derivative

    @torch.no_grad()
    def rebase(self) -> None:
        """After a step in a wide layer: what it changed goes into `V`, and `A` is zero again."""
        if self.V is None:
            return
        moved = torch.matrix_exp(self.A - self.A.T) @ self.V
        self.V = 1.5 * moved - 0.5 * moved @ (
            moved.T @ moved
        )  # rounding would add up over the steps; Newton's iteration takes it away
        self.A.zero_()


def _pairs(chosen: Tensor) -> Tensor:
    """(channel, prototype) clips → (pair, 2): channel, clip."""
    channels = torch.arange(len(chosen), device=chosen.device)[:, None].expand_as(chosen)
    return torch.stack([channels, chosen], -1).flatten(0, 1)


def _prototype_count(epoch: int, epochs: int, reselect_every: int, first: int, last: int) -> int:
    """Falls linearly over the choices of prototypes, from `first` at the first to `last` at the last one."""
    n_choices = (epochs - 1) // reselect_every
    return round(first + (last - first) * (epoch // reselect_every) / n_choices) if n_choices else last


@torch.no_grad()
def _measured(sequences: Sequence[Tensor], U: Tensor, pairs: Tensor, sign: int = 1) -> tuple[Tensor, Tensor]:
    parts = [pair_purity(sequences, U, batch, sign) for batch in pairs.split(_PAIRS_AT_ONCE)]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _mean_purity(bank: FeatureBank, scheme: Scheme, U: Tensor, n_prototypes: int) -> float:
    return _measured(bank.sequences(scheme), U, _pairs(most_active(bank.means, U, n_prototypes)))[0].mean().item()


def _prototypes(bank: FeatureBank, scheme: Scheme, U: Tensor, n_prototypes: int, sign: int) -> Prototypes:
    chosen = most_active(bank.means, sign * U, n_prototypes)
    purities, peaks = _measured(bank.sequences(scheme), U, _pairs(chosen), sign)
    activations = torch.einsum("kc,kpc->kp", U, bank.means[chosen])
    labels = None if bank.labels is None else bank.labels[chosen.to(bank.labels.device)].cpu()
    peaks, columns = peaks.view(*chosen.shape, -1).cpu(), None
    if bank.columns is not None:
        columns = bank.columns.cpu()[chosen.cpu()]
        peaks = _in_own_grid(peaks, scheme, bank.origin.grid, columns)
    return Prototypes(chosen.cpu(), activations.cpu(), purities.view_as(chosen).cpu(), peaks, labels, columns)


def _in_own_grid(peaks: Tensor, scheme: Scheme, grid: tuple[int, int] | None, columns: Tensor) -> Tensor:
    """Peaks counted in the clips' own grids, not in the bank's, which is as wide as the longest clip's; only cells of `square` differ."""
    if scheme is not Scheme.SQUARE:
        return peaks
    assert grid is not None
    return peaks // grid[1] * columns[..., None] + peaks % grid[1]


def _available(bank: FeatureBank, n_prototypes: tuple[int, int]) -> tuple[int, int]:
    """The numbers of prototypes asked for, or as many as there are clips."""
    first, last = n_prototypes
    if not first >= last >= 1:
        raise ValueError(f"expected `n_prototypes` as (start, end) with start ≥ end ≥ 1, but got {n_prototypes}")
    if bank.n_clips < first:
        warnings.warn(
            f"{bank.n_clips} clips are fewer than {first} prototypes per channel; {bank.n_clips} are used", stacklevel=3
        )
    return min(first, bank.n_clips), min(last, bank.n_clips)
