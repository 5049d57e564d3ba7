"""The evidence of a batch as numbers: computed for all its clips and channels at once, and read once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from captum_apex.attribution.decomposition import Decomposition
from captum_apex.bases.schemes import Scheme
from captum_apex.explanations.evidence import side_of

__all__ = ["ChannelNumbers", "ClipNumbers", "PeakCells", "evidence_numbers"]


@dataclass(frozen=True)
class ChannelNumbers:
    """One channel of the evidence in one clip.

    Args:
        channel: index of the channel in the basis.
        side: 1, or −1 where the channel supports the class by a negative activation.
        contribution: `c_k`, the amount that the channel adds to the score.
        activation: `a_k`, the mean of the channel over the grid of the clip.
        peaks: index of the peak cell in each of the scheme's sequences.
        purity: mean purity of these cells.

    Example:
        >>> from captum_apex.explanations.evidence_numbers import ChannelNumbers
        >>> ChannelNumbers(17, side=1, contribution=2.5, activation=0.5, peaks=(3,), purity=0.9).peaks
        (3,)
    """

    channel: int
    side: int
    contribution: float
    activation: float
    peaks: tuple[int, ...]
    purity: float


@dataclass(frozen=True)
class ClipNumbers:
    """The evidence of one clip.

    Args:
        score: output of the model for the explained class.
        score_without_layer: the same where the layer gives zeros.
        total: sum of the contributions of all channels.
        grid: number of rows and columns of the layer's grid, without padding.
        channels: the channels of the evidence, largest contribution first.

    Example:
        >>> from captum_apex.explanations.evidence_numbers import ClipNumbers
        >>> ClipNumbers(4.0, score_without_layer=0.5, total=3.5, grid=(4, 10), channels=()).total
        3.5
    """

    score: float
    score_without_layer: float
    total: float
    grid: tuple[int, int]
    channels: tuple[ChannelNumbers, ...]


class PeakCells:
    """The peak cells of channels in the clips of a batch, for every class that is explained in these clips.

    Args:
        scheme: the scheme of the basis.
        features: the grid of the layer in the channels of the basis, (clip, channel, frequency, time).
        columns: number of columns of each clip without padding, int64 (clip,); None where no clip is padded.

    Attributes:
        features: the grid of the layer in the channels of the basis.
        grids: number of rows and columns of each clip's grid, without padding.

    Example:
        >>> import torch
        >>> from captum_apex import Scheme
        >>> from captum_apex.explanations.evidence_numbers import PeakCells
        >>> features = torch.tensor([[[[0.0, 3.0]], [[0.0, 4.0]]]])  # a clip with two channels
        >>> peaks, purity = PeakCells(Scheme.TIME, features).at([(0, 1, 1)])[0]  # channel 1 of clip 0, positive side
        >>> peaks, round(purity, 3)
        ((1,), 0.8)
    """

    def __init__(self, scheme: Scheme, features: Tensor, columns: Tensor | None = None) -> None:
        self.features = features
        n_clips, _, n_rows, n_columns = features.shape
        lengths = [n_columns] * n_clips if columns is None else columns.tolist()
        self.grids = [(n_rows, length) for length in lengths]
        together: dict[int, list[int]] = {}  # clips without padding of one length: their cells are those of each alone
        for clip, length in enumerate(lengths):
            together.setdefault(length, []).append(clip)
        self._place = {clip: (length, row) for length, clips in together.items() for row, clip in enumerate(clips)}
        self._cells = {
            length: [(cells, cells.norm(dim=1)) for cells in scheme.cells(_rows(features, clips)[..., :length])]
            for length, clips in together.items()
        }

    def at(self, pairs: Sequence[tuple[int, int, int]]) -> list[tuple[tuple[int, ...], float]]:
        """The peak cell in each of the scheme's sequences, and the mean purity of these cells.

        Args:
            pairs: clip, channel and side of each pair.
        """
        members: dict[int, list[int]] = {}
        for number, (clip, _, _) in enumerate(pairs):
            members.setdefault(self._place[clip][0], []).append(number)
        if not members:
            return []
        found = [self._of_length(length, [pairs[i] for i in numbers]) for length, numbers in members.items()]
        peaks = torch.cat([each[0] for each in found], 1).T.tolist()  # (sequence, pair) → (pair, sequence)
        purities = torch.cat([each[1] for each in found], 1).T.tolist()
        result: list[tuple[tuple[int, ...], float]] = [((), 0.0)] * len(pairs)
        for number, cells, shares in zip(chain(*members.values()), peaks, purities, strict=True):
            side = pairs[number][2]
            result[number] = (tuple(cells), sum(side * share for share in shares) / len(shares))
        return result

    def _of_length(self, length: int, pairs: Sequence[tuple[int, int, int]]) -> tuple[Tensor, Tensor]:
        """The peak cells of pairs whose clips have one length, and the share of the channel, both (sequence, pair)."""
        places = [(self._place[clip][1], channel, side) for clip, channel, side in pairs]
        rows, channels, sides = torch.tensor(places, device=self.features.device).unbind(1)
        peaks = []
        shares = []
        for cells, lengths in self._cells[length]:
            peak = (sides[:, None] * cells[rows, channels]).argmax(1)  # (pair, cell) → (pair,)
            peaks.append(peak)
            shares.append(cells[rows, channels, peak] / lengths[rows, peak].clamp_min(torch.finfo(cells.dtype).tiny))
        return torch.stack(peaks), torch.stack(shares)


def evidence_numbers(
    decomposition: Decomposition,
    without_layer: Tensor,
    selected: Tensor,
    peak_cells: PeakCells,
    clips: Sequence[int] | None = None,
) -> dict[int, ClipNumbers]:
    """The numbers of the evidence of each clip.

    Args:
        decomposition: the decomposition of the batch for one class.
        without_layer: score of each clip where the layer gives zeros, (clip,).
        selected: the channels of the evidence, bool (clip, channel).
        peak_cells: the peak cells of the batch.
        clips: indices of the clips; None for all of them.

    Example:
        >>> import torch
        >>> from captum_apex import Scheme
        >>> from captum_apex.attribution import Decomposition
        >>> from captum_apex.explanations.evidence_numbers import PeakCells, evidence_numbers
        >>> features = torch.tensor([[[[0.0, 2.0]], [[1.0, 1.0]]]])
        >>> gradient = torch.full_like(features, 0.5)
        >>> output = torch.tensor([[2.0]])
        >>> decomposition = Decomposition(features, gradient * features, gradient, output, 0, output[:, 0])
        >>> selected = torch.tensor([[True, False]])
        >>> numbers = evidence_numbers(decomposition, torch.zeros(1), selected, PeakCells(Scheme.TIME, features))
        >>> numbers[0].total, [(channel.channel, channel.peaks) for channel in numbers[0].channels]
        (2.0, [(0, (1,))])
    """
    contributions = decomposition.contributions
    channels = _ordered(contributions, selected)
    chosen = range(len(channels)) if clips is None else clips
    pairs = [(clip, channel) for clip in chosen for channel in channels[clip]]
    rows, columns = torch.tensor(pairs, dtype=torch.int64, device=contributions.device).reshape(-1, 2).unbind(1)
    adds = contributions[rows, columns].tolist()
    levels = decomposition.activations[rows, columns].tolist()
    sided = [(clip, channel, side_of(level)) for (clip, channel), level in zip(pairs, levels, strict=True)]
    in_clip: dict[int, list[ChannelNumbers]] = {clip: [] for clip in chosen}
    for (clip, channel, side), add, level, (peaks, purity) in zip(
        sided, adds, levels, peak_cells.at(sided), strict=True
    ):
        in_clip[clip].append(ChannelNumbers(channel, side, add, level, peaks, purity))
    scores, without, totals = (each.tolist() for each in (decomposition.score, without_layer, contributions.sum(1)))
    return {
        clip: ClipNumbers(scores[clip], without[clip], totals[clip], peak_cells.grids[clip], tuple(in_clip[clip]))
        for clip in chosen
    }


def _ordered(contributions: Tensor, selected: Tensor) -> list[list[int]]:
    """The selected channels of each clip, largest contribution first."""
    counts = selected.sum(1).tolist()
    order = contributions.where(selected, -torch.inf).argsort(dim=1, descending=True, stable=True)
    ordered = order[:, : max(counts)].tolist()
    return [channels[:count] for channels, count in zip(ordered, counts, strict=True)]


def _rows(features: Tensor, clips: list[int]) -> Tensor:
    """The features of some clips, without a copy where they are all."""
    return features if len(clips) == len(features) else features[torch.tensor(clips, device=features.device)]
