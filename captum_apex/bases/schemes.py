"""The four acoustic perspectives: how a layer's grid becomes cells, peaks, maps and regions."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import torch
from torch import Tensor

from captum_apex.audio.regions import Box, Region
from captum_apex.layers.padding import column_mask

__all__ = ["SCHEMES", "Scheme", "peak_cells", "purity"]


class Scheme(StrEnum):
    """One perspective. A member equals its name: `Scheme("time") == "time"`.

    Raises:
        ValueError: for a name that is none of the four.

    Source: APEX (arXiv 2605.10153), the four prototype schemes.
    """

    SQUARE = "square"
    TIME = "time"
    FREQUENCY = "frequency"
    TIME_FREQUENCY = "time-frequency"

    @classmethod
    def _missing_(cls, value: object) -> Scheme:
        raise ValueError(f"expected a scheme among {', '.join(map(repr, map(str, cls)))}, but got {value!r}")

    @property
    def sequences(self) -> tuple[Scheme, ...]:
        """The sequences of cells that the scheme looks at: itself, or time and frequency for `time-frequency`."""
        return (Scheme.TIME, Scheme.FREQUENCY) if self is Scheme.TIME_FREQUENCY else (self,)

    def cells(self, grid: Tensor, columns: Tensor | None = None) -> tuple[Tensor, ...]:
        """The cells of each sequence.

        Args:
            grid: (clip, channel, frequency, time).
            columns: how many columns of each clip are its own, int64 (clip,), where shorter clips are padded; None for all.

        Returns:
            One tensor (clip, channel, cell) per sequence: frequency·time cells for `square` (row by row), one per
            column for `time`, one per row for `frequency`, the last two for `time-frequency`. Cells of padding are NaN, and no mean
            knows of them.

        >>> [cells.shape[-1] for cells in Scheme("time-frequency").cells(torch.zeros(1, 3, 4, 15))]
        [15, 4]
        """
        if columns is not None:
            grid = grid.where(column_mask(grid, columns), torch.nan)
        return tuple(_pool(grid, sequence, columns is not None).flatten(2) for sequence in self.sequences)

    def spread(self, relevance: Tensor, columns: Tensor | None = None) -> Tensor:
        """Lays a relevance map out as the scheme sees it; the total of every map is kept.

        Args:
            relevance: (clip, frequency, time).
            columns: as in `cells`; the map is zero in the others.

        Returns:
            Tensor of the same shape: as it is for `square`, column means in every row for `time`, row means in every
            column for `frequency`, the mean of these two for `time-frequency`.
        """
        own = None if columns is None else column_mask(relevance, columns)
        relevance = relevance if own is None else relevance.where(own, torch.nan)
        layers = [_pool(relevance, sequence, own is not None).expand_as(relevance) for sequence in self.sequences]
        laid_out = torch.stack(layers).mean(0) if len(layers) > 1 else layers[0]
        return laid_out if own is None else laid_out.where(own, 0.0)

    def supports(self, n_rows: int, n_columns: int) -> bool:
        """Whether a grid of this size has anything to tell apart: several columns for time, several rows for frequency."""
        return all(
            {Scheme.SQUARE: True, Scheme.TIME: n_columns > 1, Scheme.FREQUENCY: n_rows > 1}[part]
            for part in self.sequences
        )

    def check(self, n_rows: int, n_columns: int, layer: str = "the layer") -> None:
        """Raises a ValueError that names the schemes a grid of this size supports, where it does not support this one."""
        if not self.supports(n_rows, n_columns):
            fitting = [str(scheme) for scheme in Scheme if scheme.supports(n_rows, n_columns)]
            reason = " (a layer over frames has no frequency axis)" if n_rows == 1 and n_columns > 1 else ""
            raise ValueError(
                f"expected several rows for frequency and several columns for time in the scheme {str(self)!r}, but {layer} gives "
                f"{n_rows} frequency row(s) and {n_columns} time column(s){reason}; it supports: {', '.join(fitting)}"
            )

    def region(self, peaks: Sequence[int], n_rows: int, n_columns: int, *, intersection: bool = False) -> Region:
        """Where on the input the peak cells lie.

        Args:
            peaks: index of the peak cell in each of the scheme's sequences.
            n_rows: frequency rows of the layer's grid.
            n_columns: time columns of the layer's grid.
            intersection: for `time-frequency`, the rectangle where column and row meet instead of the cross of both.

        Returns:
            One rectangle for `square`, a full-height strip for `time`, a full-width band for `frequency`, the cross of the
            last two (two boxes) for `time-frequency`.

        >>> Scheme("time").region([3], n_rows=4, n_columns=15).boxes
        (Box(low=0.0, high=1.0, start=0.2, end=0.26666666666666666),)
        """
        boxes = tuple(
            _cell_box(sequence, int(peak), n_rows, n_columns)
            for sequence, peak in zip(self.sequences, peaks, strict=True)
        )
        if intersection and len(boxes) > 1:
            boxes = (_meet(boxes),)
        return Region(boxes)

    def grown_region(self, relevance: Tensor, quantile: float, *, intersection: bool = False) -> Region:
        """The smallest box around the cells whose relevance reaches a quantile of the channel's own map.

        Args:
            relevance: one channel's map on the grid, (frequency, time).
            quantile: in [0, 1]; the cells at or above it are kept, so 1 keeps the largest cell alone.
            intersection: as in `region`.

        Raises:
            ValueError: for a quantile outside [0, 1].

        Source: AudioProtoPNet's prototype boxes; per sequence here, so that `time` grows along time alone.
        """
        if not 0 <= quantile <= 1:
            raise ValueError(f"expected `quantile` in [0, 1], but got {quantile}")
        n_rows, n_columns = relevance.shape
        boxes = []
        for sequence in self.sequences:
            cells = _pool(relevance[None], sequence)[0]  # (1 or frequency, 1 or time)
            kept = (cells >= torch.quantile(cells.double().flatten(), quantile).to(cells.dtype)).expand(
                n_rows, n_columns
            )
            rows, columns = kept.any(1).nonzero(), kept.any(0).nonzero()
            boxes.append(
                Box(
                    rows.min().item() / n_rows,
                    (rows.max().item() + 1) / n_rows,
                    columns.min().item() / n_columns,
                    (columns.max().item() + 1) / n_columns,
                )
            )
        return Region((_meet(boxes),) if intersection else tuple(boxes))


SCHEMES: tuple[Scheme, ...] = tuple(Scheme)


def peak_cells(cells: Tensor, directions: Tensor) -> Tensor:
    """Index of the cell where each pair's channel is largest.

    Args:
        cells: the raw cells of each pair's clip, (pair, channel, cell).
        directions: the row of U that reads each pair's channel (negated for its negative side), (pair, channel).

    Returns:
        int64 tensor (pair,); the first of equal cells, never one of padding, which is NaN.
    """
    levels = torch.bmm(directions[:, None], cells)[:, 0]  # (pair, 1, cell) → (pair, cell)
    return levels.nan_to_num_(-torch.inf, torch.inf, -torch.inf).argmax(1)


def purity(vectors: Tensor, channels: Tensor) -> Tensor:
    """How much of each peak vector lies on its own channel.

    Args:
        vectors: peak cells in the basis, (pair, channel).
        channels: the channel that each pair belongs to, (pair,).

    Returns:
        Tensor (pair,), in [-1, 1]; 1 where no other channel is active, 0 where the vector is zero.

    Source: EPIC (arXiv 2505.12897), "Purity of Prototype".

    >>> purity(torch.tensor([[3.0, 4.0]]), torch.tensor([1]))
    tensor([0.8000])
    """
    own = vectors.gather(1, channels[:, None]).squeeze(1)  # (pair, channel) → (pair,)
    return own / vectors.norm(dim=1).clamp_min(torch.finfo(vectors.dtype).tiny)


def _pool(grid: Tensor, sequence: Scheme, padded: bool = False) -> Tensor:
    """The mean over the axis that a sequence does not see, kept with size 1; the last two axes are frequency and time, padding is NaN."""
    if sequence is Scheme.TIME:
        return grid.mean(-2, keepdim=True)
    if sequence is Scheme.FREQUENCY:
        return grid.nanmean(-1, keepdim=True) if padded else grid.mean(-1, keepdim=True)
    return grid


def _cell_box(sequence: Scheme, cell: int, n_rows: int, n_columns: int) -> Box:
    row, column = divmod(cell, n_columns) if sequence is Scheme.SQUARE else (cell, cell)
    low, high = (0.0, 1.0) if sequence is Scheme.TIME else (row / n_rows, (row + 1) / n_rows)
    start, end = (0.0, 1.0) if sequence is Scheme.FREQUENCY else (column / n_columns, (column + 1) / n_columns)
    return Box(low, high, start, end)


def _meet(boxes: Sequence[Box]) -> Box:
    return Box(
        max(b.low for b in boxes), min(b.high for b in boxes), max(b.start for b in boxes), min(b.end for b in boxes)
    )
