"""The prototypes of channels, as a basis keeps them: read for many channels at once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, partial

import torch
from torch import Tensor

from captum_apex.attribution.decomposition import check_sides
from captum_apex.bases.basis import PrototypeBasis, Prototypes
from captum_apex.explanations.evidence import Prototype
from captum_apex.explanations.prototype_regions import stored_regions
from captum_apex.numbers import whole_number

__all__ = ["ChannelPrototypes", "check_prototypes", "prototypes_of"]


def prototypes_of(
    basis: PrototypeBasis, channel: int, n_prototypes: int, *, side: int = 1, cross: bool = False
) -> tuple[Prototype, ...]:
    """The prototypes of a channel, best first.

    Args:
        basis: the basis, with prototypes.
        channel: index of the channel in the basis.
        n_prototypes: number of prototypes, from 1 to the number that the basis has.
        side: 1, or −1 for the clips with the most negative activation.
        cross: whether a peak cell of the scheme `time-frequency` is the cross of a column and a row, instead of the
            rectangle in which they meet.

    Raises:
        ValueError: the basis has no prototypes for the side, or fewer than `n_prototypes`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex import FeatureBank, basis_from_matrix
        >>> from captum_apex.explanations import prototypes_of
        >>> layer = nn.ReLU()
        >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> clips = torch.arange(24.0).reshape(3, 2, 2, 2)  # (clip, channel, frequency, time)
        >>> bank = FeatureBank.from_dataset(model, layer, list(clips))
        >>> basis = basis_from_matrix(bank, "time", torch.eye(2), n_prototypes=2)
        >>> [(prototype.index, prototype.activation) for prototype in prototypes_of(basis, 0, 2)]
        [(2, 17.5), (1, 9.5)]
    """
    check_prototypes(basis, n_prototypes, "positive" if side > 0 else "both")
    return ChannelPrototypes(basis, n_prototypes, cross=cross).of([(channel, side)])[channel, side]


class ChannelPrototypes:
    """The prototypes of channels, each of which is read once.

    Args:
        basis: the basis, with prototypes for the sides that are asked for.
        n_prototypes: number of prototypes per channel.
        cross: whether a peak cell of `time-frequency` is a cross, as in `prototypes_of`.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex import FeatureBank, basis_from_matrix
        >>> from captum_apex.explanations.channel_prototypes import ChannelPrototypes
        >>> layer = nn.ReLU()
        >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> clips = torch.arange(24.0).reshape(3, 2, 2, 2)  # (clip, channel, frequency, time)
        >>> bank = FeatureBank.from_dataset(model, layer, list(clips))
        >>> basis = basis_from_matrix(bank, "time", torch.eye(2), n_prototypes=2)
        >>> read = ChannelPrototypes(basis, 1).of([(0, 1), (1, 1)])
        >>> [(place, [prototype.index for prototype in prototypes]) for place, prototypes in read.items()]
        [((0, 1), [2]), ((1, 1), [2])]
    """

    def __init__(self, basis: PrototypeBasis, n_prototypes: int, *, cross: bool = False) -> None:
        self.basis = basis
        self.n_prototypes = int(n_prototypes)
        self._cell = cache(partial(basis.region, intersection=not cross))  # many prototypes have one peak cell
        self._read: dict[tuple[int, int], tuple[Prototype, ...]] = {}

    def of(self, channels: Iterable[tuple[int, int]]) -> dict[tuple[int, int], tuple[Prototype, ...]]:
        """The prototypes of channels on a side, best first.

        Args:
            channels: index of each channel, and its side, 1 or −1.
        """
        wanted = dict.fromkeys(channels)
        for side, stored in ((1, self.basis.positive), (-1, self.basis.negative)):
            missing = [channel for channel, its in wanted if its == side and (channel, side) not in self._read]
            if missing:
                assert stored is not None
                rows = _rows(stored, missing, self.n_prototypes)
                self._read |= {(each, side): self._prototypes(row) for each, row in zip(missing, rows, strict=True)}
        return {place: self._read[place] for place in wanted}

    def _prototypes(self, row: list[tuple]) -> tuple[Prototype, ...]:
        grid = self.basis.origin.grid
        assert grid is not None
        prototypes = []
        for index, label, activation, purity, peaks, columns, located in row:
            n_columns = grid[1] if columns is None else columns
            region = self._cell(tuple(peaks), grid[0], n_columns) if located is None else located.region
            effect = None if located is None else located.effect
            prototypes.append(Prototype(index, label, activation, purity, region, effect))
        return tuple(prototypes)


def _rows(stored: Prototypes, channels: list[int], n_prototypes: int) -> list[list[tuple]]:
    """What a side of a basis keeps of each prototype of some channels, as numbers and lists."""
    rows = torch.tensor(channels)

    def listed(values: Tensor | None) -> list[list]:
        if values is None:
            return [[None] * n_prototypes] * len(channels)
        return values[rows.to(values.device), :n_prototypes].tolist()

    kept = (stored.indices, stored.labels, stored.activations, stored.purities, stored.peaks, stored.columns)
    values = (*map(listed, kept), stored_regions(stored, channels, n_prototypes))
    return [list(zip(*of_channel, strict=True)) for of_channel in zip(*values, strict=True)]


def check_prototypes(basis: PrototypeBasis, n_prototypes: int, sides: str) -> None:
    """Refuses a basis without the prototypes that are to be shown.

    Args:
        basis: the basis.
        n_prototypes: number of prototypes per channel.
        sides: `"positive"`, or `"both"` where the negative side is shown too.

    Raises:
        ValueError: the basis has no prototypes for the sides, or fewer than `n_prototypes`.

    Example:
        >>> import torch
        >>> from captum_apex import PrototypeBasis
        >>> from captum_apex.explanations.channel_prototypes import check_prototypes
        >>> try:
        ...     check_prototypes(PrototypeBasis(torch.eye(2), "time"), 1, "positive")
        ... except ValueError as error:
        ...     print(str(error).partition(",")[0])
        expected a basis with prototypes
    """
    check_sides(sides)
    if basis.positive is None or basis.origin.grid is None or (sides == "both" and basis.negative is None):
        raise ValueError(
            "expected a basis with prototypes, but there are none for this side; make one with `fit_basis` or "
            "`basis_from_matrix`"
        )
    available = basis.positive.indices.shape[1]
    n_prototypes = whole_number(n_prototypes, "n_prototypes")
    if not 1 <= n_prototypes <= available:
        raise ValueError(
            f"expected `n_prototypes` from 1 to the {available} that the basis keeps per channel, but got "
            f"{n_prototypes}"
        )
