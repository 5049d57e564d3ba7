"""A feature bank for many clips, which keeps the cells of those clips alone that may become prototypes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from captum_apex.bases.basis import PrototypeBasis, Prototypes
from captum_apex.bases.features import FeatureBank
from captum_apex.bases.fitting import basis_from_matrix, fit_basis
from captum_apex.bases.part_writer import clips_of_part
from captum_apex.bases.processes import Processes
from captum_apex.bases.schemes import SCHEMES, Scheme
from captum_apex.bases.shared_bank import SharedBank
from captum_apex.numbers import whole_number

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["CandidateBank", "ChosenClips"]


class CandidateBank:
    """The means of all clips of a dataset, and the cells of the candidates: the clips that activate a channel most.

    The first pass of the model over the dataset stores the means alone. They tell which clips activate the channels of
    the layer most. The second pass goes over these candidates and stores their cells, on which bases are fitted. Of
    1,024 channels with 40 candidates each there are at most 40,960, however large the dataset is.

    The prototypes of a basis are those of the whole dataset: its most active clips by the means, candidates or not. A
    third pass, over these few clips, finds their peaks and purities. Only the matrix `U` depends on the candidates.

    The processes of a group share each of the three passes, and the fit. All make the same calls in the same order, and
    get the same basis; an error of a pass in one of them is raised in all.

    Args:
        make: makes the bank of a dataset: `functools.partial(FeatureBank.from_dataset, model, layer)`, with further
            settings of `from_dataset`. It is called with a dataset, and `schemes` and `folder` by name; in a group for
            the first two passes with `part`, too.
        dataset: the clips, as in `FeatureBank.from_dataset`; no `DataLoader`, whose settings are those of `make`.
        schemes: the schemes that bases can be fitted for.
        n_candidates: number of candidates of each channel, at least as many as prototypes at the start of the fit.
        folder: folder that keeps the first two passes, as in `FeatureBank.from_dataset`. A group needs one.
        group: a process group of `torch.distributed`, whose processes each have the whole dataset; None for this
            process alone.

    Attributes:
        whole: the bank of all clips, without cells; in a group the part of this process.
        clips: indices of the candidates in the dataset, in its order, int64 (candidate,).
        candidates: the bank of the candidates; in a group the part of this process.

    Raises:
        TypeError: the dataset is a `DataLoader`.
        ValueError: as in `FeatureBank.from_dataset`; or a group has no folder, or another process of it an error.
        RuntimeError: another process of the group has ended, or does not answer.

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
        group: ProcessGroup | None = None,
    ) -> None:
        if isinstance(dataset, DataLoader):
            raise TypeError(
                "expected `dataset` to be the dataset itself, of which chosen clips are loaded again, but got a "
                "DataLoader; give its settings to `make`, such as batch_size and num_workers"
            )
        if group is not None and folder is None:
            raise ValueError(
                "expected a `folder` that keeps the parts of the processes of the group, but there is none"
            )
        self.make = make
        self.dataset = dataset
        self._processes = Processes(group)
        schemes = [Scheme(schemes)] if isinstance(schemes, str) else list(schemes)
        n_candidates = whole_number(n_candidates, "n_candidates", least=1)
        self.whole = self._made(None, (), _inside(folder, "means"))
        self._shared = SharedBank(self.whole, None, group, {"n_candidates": n_candidates})
        raw = torch.eye(self.whole.n_channels).to(self.whole.means)
        self.clips = self._shared.most_active(raw, min(n_candidates, self._shared.n_clips)).unique().cpu()
        self.candidates = self._made(self.clips, schemes, _inside(folder, f"candidates-{n_candidates}"))

    def fit(
        self, scheme: Scheme | str, fit: Callable[[FeatureBank, Scheme], PrototypeBasis] = fit_basis
    ) -> PrototypeBasis:
        """Fits a basis on the candidates, and finds its prototypes among all clips.

        Args:
            scheme: the scheme of the basis, by name or object.
            fit: function from a bank and a scheme to a basis, such as `functools.partial(fit_basis, epochs=10)`. It is
                called with `group` by name where there is one.

        Returns:
            The basis, with the prototypes of the whole dataset. Its `purity_history` is that of the candidates.
        """
        scheme = Scheme(scheme)
        group = self._processes.group
        fitted = fit(self.candidates.only(scheme), scheme, **({} if group is None else {"group": group}))
        assert fitted.positive is not None
        n_prototypes = fitted.positive.indices.shape[1]
        U = fitted.U.to(self.whole.means)
        clips = torch.cat([self._shared.most_active(sign * U, n_prototypes) for sign in (1, -1)]).unique()
        bank = self._of_prototypes(clips, scheme)
        history = fitted.purity_history
        found = basis_from_matrix(
            bank, scheme, fitted.U, n_prototypes=n_prototypes, purity_history=history, group=group
        )
        positive, negative = (
            self._in_dataset(side, clips.cpu(), found.origin.grid) for side in (found.positive, found.negative)
        )
        return replace(found, positive=positive, negative=negative, origin=self._shared.origin)

    def missing(self, basis: PrototypeBasis, n_prototypes: int = 20) -> float:
        """The share of the most active clips of a basis that are no candidates, so that the fit could not use them.

        Args:
            basis: a basis of this layer.
            n_prototypes: number of clips of each channel.
        """
        U = basis.U.to(self.whole.means)
        chosen = self._shared.most_active(U, min(n_prototypes, self._shared.n_clips)).cpu()
        return 1 - torch.isin(chosen, self.clips).double().mean().item()

    def _made(self, clips: Tensor | None, schemes: Sequence[Scheme | str], folder: Path | None) -> FeatureBank:
        """The bank of some clips or of all, of which each process of a group makes its part."""
        dataset = self.dataset if clips is None else ChosenClips(self.dataset, tuple(clips.tolist()))
        processes = self._processes
        part = {} if processes.group is None else {"part": (processes.rank, processes.number)}
        with processes.failing_together():
            return self.make(dataset, schemes=schemes, folder=folder, **part)

    def _of_prototypes(self, clips: Tensor, scheme: Scheme) -> FeatureBank:
        """The bank of the prototypes; of those that fall to this process, with the means of the first pass.

        These tell the order of the prototypes: the means of other batches may be rounded otherwise.
        """
        processes = self._processes
        means = self._shared.rows(self.whole.means, clips)
        with processes.failing_together():
            share = clips_of_part((processes.rank, processes.number), len(clips), batch_size=1)
            here = slice(share.start, share.stop)
            chosen = ChosenClips(self.dataset, tuple(clips[here].tolist()))
            bank = self.make(chosen, schemes=[scheme], folder=None)
        origin = replace(bank.origin, dataset=self._shared.origin.dataset)  # the shares are those of one bank
        return replace(bank, means=means[here], origin=origin)

    def _in_dataset(self, prototypes: Prototypes | None, clips: Tensor, grid: tuple[int, int] | None) -> Prototypes:
        """Prototypes with the indices of their clips in the dataset."""
        assert prototypes is not None
        columns = prototypes.columns
        if columns is None and grid is not None and grid != self._shared.origin.grid:  # there are longer clips
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
