"""A feature bank of which each process of a group has a part, as one bank."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captum_apex.bases.collation import batch_labels
from captum_apex.bases.features import FeatureBank
from captum_apex.bases.processes import Processes, check_same
from captum_apex.bases.prototype_choice import CLIPS_AT_ONCE, activations_of, strongest
from captum_apex.bases.schemes import Scheme
from captum_apex.layers.origin import Origin

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = ["SharedBank"]

_OF_PART = ("n_clips", "grid", "input_shape", "places")  # fields of the origin that may differ between parts
_IN_WORDS = {"fingerprint": "weights of the model", "at_input": "`at_input`", "dataset": "fingerprint of the dataset"}


class SharedBank:
    """A feature bank of which each process of a group has a part; without a group, a whole bank.

    The parts are contiguous clips of the dataset, in the order of the processes. The cells of a clip are read only by
    the process that has it. What is exchanged grows with the numbers of channels and prototypes, not with that of
    clips. All processes call the same methods in the same order.

    Args:
        bank: the bank of this process.
        scheme: the scheme of the fit; None for the means alone, without `sequences`.
        group: the process group of `torch.distributed`; None for this process alone.
        settings: what has to be the same in all processes, by name, as JSON can hold it.

    Attributes:
        processes: the processes of the group.
        sequences: cells of each of the scheme's sequences in this process, each (clip, channel, cell).
        means: mean over each clip's grid, of the clips of this process, (clip, channel).
        start: index in the dataset of the first clip of this process.
        n_clips: number of clips of all processes.
        origin: the record of the dataset.

    Raises:
        ValueError: in one of the processes, the bank has no cells for the scheme, or is of other features or settings,
            or is no part of its own. The error comes in all processes.

    Example:
        >>> import torch
        >>> from captum_apex import FeatureBank
        >>> from captum_apex.bases.shared_bank import SharedBank
        >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.AdaptiveAvgPool2d(1))
        >>> bank = FeatureBank.from_dataset(model, model[0], torch.tensor([[[[1.0, 3.0]]], [[[5.0, 7.0]]]]))
        >>> shared = SharedBank(bank, "time")
        >>> shared.most_active(torch.eye(1), 2).tolist(), shared.activations(torch.eye(1), torch.tensor([[1]])).tolist()
        ([[1, 0]], [[6.0]])
    """

    def __init__(
        self,
        bank: FeatureBank,
        scheme: Scheme | str | None,
        group: ProcessGroup | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.processes = Processes(group)
        scheme = None if scheme is None else Scheme(scheme)
        parts = _checked_parts(self.processes, bank, scheme, settings or {})
        self.bank = bank
        self.sequences = () if scheme is None else bank.sequences(scheme)
        self.means = bank.means
        counts = [part["n_clips"] for part in parts]
        self.start = sum(counts[: self.processes.rank])
        self.n_clips = sum(counts)
        self.origin = bank.origin if group is None else _joined_origin(parts)
        self._has_columns = any(part["columns"] for part in parts) or len({part["width"] for part in parts}) > 1

    def most_active(self, U: Tensor, n_prototypes: int) -> Tensor:
        """The clips of all processes with the largest activation of each channel, as `most_active` gives them.

        Args:
            U: matrix of the basis, (channel, channel); negated for the negative side.
            n_prototypes: number of clips per channel.

        Returns:
            Indices of the clips in the dataset, best first, int64 (channel, prototype).
        """
        levels, chosen = strongest(self.means, U, min(n_prototypes, len(self.means)))
        if self.processes.group is None:
            return chosen
        n_missing = n_prototypes - chosen.shape[1]  # a part may have fewer clips than there are prototypes
        levels = torch.nn.functional.pad(levels, (0, n_missing), value=-torch.inf)
        chosen = torch.nn.functional.pad(chosen + self.start, (0, n_missing))
        levels = torch.cat(self.processes.gathered(levels), 1)
        return torch.cat(self.processes.gathered(chosen), 1).gather(1, levels.topk(n_prototypes, dim=1).indices)

    def most_active_again(self, U: Tensor, chosen: Tensor, n_prototypes: int) -> Tensor:
        """The clips with the largest activation after a small change of the matrix; of many clips, among those before.

        Args:
            U: the matrix after the change, (channel, channel).
            chosen: clips that were chosen before it, int64 (channel, prototype).
            n_prototypes: number of clips per channel, at most as many as were chosen.

        Returns:
            Indices of the clips, best first, int64 (channel, prototype): of all clips in a bank of at most 8192, else
            of the chosen ones. To compare many clips costs more than an epoch of the fit.
        """
        if self.n_clips <= CLIPS_AT_ONCE:
            return self.most_active(U, n_prototypes)
        return chosen.gather(1, self.activations(U, chosen).topk(n_prototypes, dim=1).indices)

    def activations(self, U: Tensor, chosen: Tensor) -> Tensor:
        """The activation of each channel in clips of the dataset, (channel, prototype).

        Args:
            U: matrix of the basis, (channel, channel).
            chosen: indices of clips in the dataset, int64 (channel, prototype).
        """
        here = self.here(chosen)
        return self.processes.total(activations_of(self.means, U, here.clamp_min(0)).where(here >= 0, 0.0))

    def here(self, chosen: Tensor) -> Tensor:
        """Indices of the chosen clips in the arrays of this process; −1 for clips that another process has.

        Args:
            chosen: indices of clips in the dataset, int64 (...).
        """
        indices = chosen - self.start
        return indices.where((indices >= 0) & (indices < len(self.means)), -1)

    def rows(self, array: Tensor, chosen: Tensor) -> Tensor:
        """The rows of the chosen clips, each from the process that has the clip, on the device of the means.

        Args:
            array: an array of the clips of this process, (clip, ...).
            chosen: indices of clips in the dataset, int64 (channel, prototype).

        Returns:
            Tensor (channel, prototype, ...).
        """
        here = self.here(chosen).to(array.device)
        found = array[here.clamp_min(0)]
        found[here < 0] = 0
        is_flag = found.dtype == torch.bool
        total = self.processes.total((found.long() if is_flag else found).to(self.means.device))
        return total.bool() if is_flag else total

    def columns(self, chosen: Tensor) -> Tensor | None:
        """Number of columns of the grids of the chosen clips, int64 (channel, prototype); None where all are equal."""
        if not self._has_columns:
            return None
        columns = self.bank.columns
        return self.widths(chosen) if columns is None else self.rows(columns, chosen)

    def widths(self, chosen: Tensor) -> Tensor:
        """Number of columns, with padding, in the arrays of the processes that have the clips, (channel, prototype)."""
        return self.rows(torch.full((len(self.means),), _width(self.bank.origin)), chosen)


def _width(origin: Origin) -> int:
    return origin.grid[1] if origin.grid else 1


def _checked_parts(
    processes: Processes, bank: FeatureBank, scheme: Scheme | None, settings: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What each process says of its part, after a check that the parts are those of one bank."""
    problem = _problem(processes, bank, scheme)
    about = {} if problem is not None else _about(bank, settings)
    if processes.group is not None:
        about["digest"] = _digest(bank.means)
    parts = processes.records(about, problem, bank.means.device)
    check_same([part["same"] for part in parts], _IN_WORDS)
    if len({part.get("digest") for part in parts}) < len(parts):
        raise ValueError(
            "expected each process of the group to have its own part of the bank, but two have the same features; "
            "make them with `FeatureBank.from_dataset(..., part=(rank, number of processes))`"
        )
    return parts


def _problem(processes: Processes, bank: FeatureBank, scheme: Scheme | None) -> Exception | None:
    """What is wrong with the bank of this process; it is raised when all processes know of it."""
    try:
        if scheme is not None:
            bank.sequences(scheme)
        if bank.labels is not None:
            batch_labels(bank.labels, bank.n_clips)
    except (TypeError, ValueError) as error:
        return error
    part = (processes.rank, processes.number)
    if processes.group is not None and bank.part is not None and bank.part != part:
        return ValueError(f"expected part {part} of the dataset, but got {bank.part}")
    return None


def _about(bank: FeatureBank, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a process says of its part; the entries of `same` are those of all parts."""
    origin = asdict(bank.origin)
    rows = bank.origin.grid[0] if bank.origin.grid else 1
    labels = None if bank.labels is None else [str(bank.labels.dtype), *bank.labels.shape[1:]]
    of_origin = {name: value for name, value in origin.items() if name not in _OF_PART}
    same = {
        "channels": bank.n_channels,
        "rows of the grid": rows,
        "kind of labels": labels,
        "dtype": str(bank.means.dtype),
    }
    return {
        "same": {**settings, **same, **of_origin},
        "n_clips": bank.n_clips,
        "width": _width(bank.origin),
        "columns": bank.columns is not None,
        "origin": origin,
    }


def _joined_origin(parts: list[dict[str, Any]]) -> Origin:
    """The record of the dataset: that of the first part, with what differs between the parts."""
    first = Origin.from_dict(parts[0]["origin"])
    shapes = [part["origin"]["input_shape"] for part in parts]
    shape = first.input_shape if all(each == shapes[0] for each in shapes) else None
    grid = None if first.grid is None else (first.grid[0], max(part["width"] for part in parts))
    return replace(first, n_clips=sum(part["n_clips"] for part in parts), grid=grid, input_shape=shape)


def _digest(means: Tensor) -> str:
    return hashlib.sha256(means.detach().cpu().contiguous().view(torch.uint8).numpy().data).hexdigest()
