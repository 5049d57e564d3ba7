"""A feature bank for many clips, which keeps the cells of those clips alone that may become prototypes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from captum_apex.bases.basis import PrototypeBasis, Prototypes
from captum_apex.bases.features import FeatureBank
from captum_apex.bases.fitting import basis_from_matrix, fit_basis
from captum_apex.bases.prototype_choice import most_active
from captum_apex.bases.schemes import SCHEMES, Scheme
from captum_apex.numbers import whole_number

__all__ = ["CandidateBank", "ChosenClips"]


class CandidateBank:
    """The means of all clips of a dataset, and the cells of the candidates: the clips that activate a channel most.

    The first pass of the model over the dataset stores the means alone. They tell which clips activate the channels of
    the layer most. The second pass goes over these candidates and stores their cells, on which bases are fitted. Of
    1,024 channels with 40 candidates each there are at most 40,960, however large the dataset is.

    The prototypes of a basis are those of the whole dataset: its most active clips by the means, candidates or not. A
    third pass, over these few clips, finds their peaks and purities. Only the matrix `U` depends on the candidates.

    Args:
        make: makes the bank of a dataset: `functools.partial(FeatureBank.from_dataset, model, layer)`, with further
            settings of `from_dataset`. It is called with a dataset, and `schemes` and `folder` by name.
        dataset: the clips, as in `FeatureBank.from_dataset`; no `DataLoader`, whose settings are those of `make`.
        schemes: the schemes that bases can be fitted for.
        n_candidates: number of candidates of each channel, at least as many as prototypes at the start of the fit.
        folder: folder that keeps the first two passes, as in `FeatureBank.from_dataset`.

    Attributes:
        whole: the bank of all clips, without cells.
        clips: indices of the candidates in the dataset, in its order, int64 (candidate,).
        candidates: the bank of the candidates.

    Raises:
        TypeError: the dataset is a `DataLoader`.
        ValueError: as in `FeatureBank.from_dataset`.

    Example:
        >>> from functools import partial
        >>> import torch
        >>> from captum_apex import FeatureBank, fit_basis
        >>> from captum_apex.bases import CandidateBank
        >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.AdaptiveAvgPool2d(1))
        >>> clips = torch.tensor([[0.0, 1.0], [5.0, 2.0], [2.0, 0.0], [0.0, 4.0]]).view(4, 2, 1, 1).expand(4, 2, 1, 3)
        >>> make = partial(FeatureBank.from_dataset, model, model[0])
        >>> bank = CandidateBank(make, clips, schemes=["time"], n_candidates=1)
        >>> bank.clips.tolist()
        [1, 3]
        >>> bank.fit("time", partial(fit_basis, epochs=0, n_prototypes=(2, 2))).prototype_indices.tolist()
        [[1, 2], [3, 1]]
    """

    def __init__(
        self,
        make: Callable[..., FeatureBank],
        dataset: Dataset | Sequence,
        *,
        schemes: Iterable[Scheme | str] = SCHEMES,
        n_candidates: int = 100,
        folder: str | os.PathLike | None = None,
    ) -> None:
        if isinstance(dataset, DataLoader):
            raise TypeError(
                "expected `dataset` to be the dataset itself, of which chosen clips are loaded again, but got a "
                "DataLoader; give its settings to `make`, such as batch_size and num_workers"
            )
        self.make = make
        self.dataset = dataset
        schemes = [Scheme(schemes)] if isinstance(schemes, str) else list(schemes)
        n_candidates = whole_number(n_candidates, "n_candidates", least=1)
        self.whole = make(dataset, schemes=(), folder=_inside(folder, "means"))
        raw = torch.eye(self.whole.n_channels).to(self.whole.means)
        chosen = most_active(self.whole.means, raw, min(n_candidates, self.whole.n_clips))
        self.clips = chosen.unique().cpu()
        self.candidates = self._made(self.clips, schemes, _inside(folder, f"candidates-{n_candidates}"))

    def fit(
        self, scheme: Scheme | str, fit: Callable[[FeatureBank, Scheme], PrototypeBasis] = fit_basis
    ) -> PrototypeBasis:
        """Fits a basis on the candidates, and finds its prototypes among all clips.

        Args:
            scheme: the scheme of the basis, by name or object.
            fit: function from a bank and a scheme to a basis, such as `functools.partial(fit_basis, epochs=10)`.

        Returns:
            The basis, with the prototypes of the whole dataset. Its `purity_history` is that of the candidates.
        """
        scheme = Scheme(scheme)
        fitted = fit(self.candidates.only(scheme), scheme)
        assert fitted.positive is not None
        U = fitted.U.to(self.whole.means)
        n_prototypes = fitted.positive.indices.shape[1]
        chosen = [most_active(self.whole.means, sign * U, n_prototypes) for sign in (1, -1)]
        clips = torch.cat(chosen).unique().cpu()
        bank = self._made(clips, [scheme], None)
        # The means of the first pass tell the order: those of other batches may be rounded otherwise.
        bank = replace(bank, means=self.whole.means[clips], part=None)
        found = basis_from_matrix(
            bank, scheme, fitted.U, n_prototypes=n_prototypes, purity_history=fitted.purity_history
        )
        assert found.positive is not None
        assert found.negative is not None
        positive, negative = (
            self._in_dataset(side, clips, bank.origin.grid) for side in (found.positive, found.negative)
        )
        return replace(found, positive=positive, negative=negative, origin=self.whole.origin)

    def missing(self, basis: PrototypeBasis, n_prototypes: int = 20) -> float:
        """The share of the most active clips of a basis that are no candidates, so that the fit could not use them.

        Args:
            basis: a basis of this layer.
            n_prototypes: number of clips of each channel.
        """
        U = basis.U.to(self.whole.means)
        chosen = most_active(self.whole.means, U, min(n_prototypes, self.whole.n_clips)).cpu()
        return 1 - torch.isin(chosen, self.clips).double().mean().item()

    def _made(self, clips: Tensor, schemes: Sequence[Scheme | str], folder: Path | None) -> FeatureBank:
        """The bank of some clips."""
        return self.make(ChosenClips(self.dataset, tuple(clips.tolist())), schemes=schemes, folder=folder)

    def _in_dataset(self, prototypes: Prototypes, clips: Tensor, grid: tuple[int, int] | None) -> Prototypes:
        """Prototypes with the indices of their clips in the dataset."""
        columns = prototypes.columns
        if columns is None and grid is not None and grid != self.whole.origin.grid:  # there are longer clips
            columns = torch.full_like(prototypes.indices, grid[1])
        return replace(prototypes, indices=clips[prototypes.indices], columns=columns)


@dataclass(frozen=True)
class ChosenClips(Dataset):
    """Some clips of a dataset.

    Args:
        dataset: the dataset.
        clips: indices of the clips.

    Example:
        >>> from captum_apex.bases.candidate_bank import ChosenClips
        >>> chosen = ChosenClips("abcd", (1, 3))
        >>> len(chosen), chosen[1], chosen.name(1)
        (2, 'd', 'clip 3')
    """

    dataset: Any
    clips: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[self.clips[index]]

    def name(self, index: int) -> str:
        """The name of a clip for messages: what the dataset calls it, or its index in the dataset."""
        name = getattr(self.dataset, "name", None)
        return name(self.clips[index]) if callable(name) else f"clip {self.clips[index]}"

    def fingerprint(self) -> str:
        """A hash of the dataset's fingerprint, where it has one, and of the indices."""
        fingerprint_of = getattr(self.dataset, "fingerprint", None)
        given = fingerprint_of() if callable(fingerprint_of) else ""
        return hashlib.sha256(f"{given} {self.clips}".encode()).hexdigest()


def _inside(folder: str | os.PathLike | None, name: str) -> Path | None:
    return None if folder is None else Path(folder, name)
