"""What each epoch of a fit takes: the prototypes, the cells, and when prototypes are chosen anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from captum_apex.bases.features import FeatureBank
from captum_apex.bases.peak_search import thinned
from captum_apex.defaults import CLIPS_PER_PROTOTYPE, FIT_PROTOTYPES, KEPT_PROTOTYPES
from captum_apex.numbers import whole_number

__all__ = ["Epoch", "checked_prototypes", "default_prototypes", "planned_epochs", "prototype_count"]

_THINNED_EPOCHS = 0.6  # share of the epochs that take some of the cells of a very fine grid


@dataclass(frozen=True)
class Epoch:
    """What an epoch takes.

    Attributes:
        n_prototypes: number of prototypes per channel.
        n_following: number of prototypes per channel that are chosen after the epoch; 0 where the same ones stay.
        n_pairs: number of (channel, prototype) pairs.
        sequences: cells that the steps look for peaks in, each (clip, channel, cell).
        n_measured: number of cells that are compared to measure the purity after the epoch.

    Example:
        >>> import torch
        >>> from captum_apex.bases.fit_plan import Epoch
        >>> Epoch(n_prototypes=5, n_following=0, n_pairs=10, sequences=(torch.ones(9, 2, 4),), n_measured=8).n_compared
        48
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


def checked_prototypes(n_prototypes: Any) -> tuple[int, int]:
    """The numbers of prototypes at the start of a fit and in the basis, after a check.

    Args:
        n_prototypes: what a caller gave.

    Raises:
        TypeError: it is no pair of whole numbers.
        ValueError: the second number is larger than the first, or below 1.

    Example:
        >>> from captum_apex.bases.fit_plan import checked_prototypes
        >>> checked_prototypes([100, 5])
        (100, 5)
    """
    if not isinstance(n_prototypes, Sequence) or len(n_prototypes) != 2:
        raise TypeError(f"expected `n_prototypes` as (start, end), but got {n_prototypes!r}")
    first, last = (whole_number(number, "n_prototypes") for number in n_prototypes)
    if not first >= last >= 1:
        raise ValueError(f"expected `n_prototypes` as (start, end) with start ≥ end ≥ 1, but got {n_prototypes}")
    return first, last


def default_prototypes(method: str, n_clips: int) -> tuple[int, int]:
    """The numbers of prototypes of a channel at the start of a fit, and in the basis, where none are asked for.

    In closed form they are a sixteenth of the clips, from 5 to 20: if the channels have most clips in common, their
    mean vectors hardly differ, and neither do the channels.

    Args:
        method: method of the fit.
        n_clips: number of clips of the bank.

    Example:
        >>> from captum_apex.bases.fit_plan import default_prototypes
        >>> [default_prototypes("closed-form", n_clips) for n_clips in (40, 160, 2_000)]
        [(5, 5), (10, 5), (20, 5)]
    """
    first = FIT_PROTOTYPES[method]
    if method == "closed-form":
        first = min(first, max(KEPT_PROTOTYPES, n_clips // CLIPS_PER_PROTOTYPE))
    return first, KEPT_PROTOTYPES


def planned_epochs(
    bank: FeatureBank, sequences: tuple[Tensor, ...], counts: Sequence[int], reselect_every: int
) -> list[Epoch]:
    """What each epoch of a fit takes.

    Args:
        bank: features of the clips.
        sequences: cells of each of the scheme's sequences, each (clip, channel, cell).
        counts: numbers of prototypes per channel in the epochs, and in the basis.
        reselect_every: number of epochs between two choices of prototypes.

    Example:
        >>> import torch
        >>> from captum_apex import FeatureBank
        >>> from captum_apex.bases.fit_plan import planned_epochs
        >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.AdaptiveAvgPool2d(1))
        >>> bank = FeatureBank.from_dataset(model, model[0], torch.ones(9, 1, 2, 2), schemes=["time"])
        >>> plan = planned_epochs(bank, bank.sequences("time"), counts=[9, 9, 5, 5, 5], reselect_every=2)
        >>> [(epoch.n_prototypes, epoch.n_following) for epoch in plan]
        [(9, 0), (9, 5), (5, 0), (5, 5)]
    """
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
        plan.append(Epoch(counts[epoch], n_following, counts[epoch] * bank.n_channels, taken, n_measured))
    return plan


def prototype_count(epoch: int, epochs: int, reselect_every: int, first: int, last: int) -> int:
    """The number of prototypes per channel, which falls linearly over the choices of prototypes.

    Args:
        epoch: index of the epoch.
        epochs: number of epochs.
        reselect_every: number of epochs between two choices of prototypes.
        first: number of prototypes per channel at the start.
        last: number of prototypes per channel at the end.

    Example:
        >>> from captum_apex.bases.fit_plan import prototype_count
        >>> [prototype_count(epoch, 6, 2, 100, 5) for epoch in range(6)]
        [100, 100, 52, 52, 5, 5]
    """
    n_choices = (epochs - 1) // reselect_every
    return round(first + (last - first) * (epoch // reselect_every) / n_choices) if n_choices else last
