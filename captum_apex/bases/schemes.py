"""The four schemes, which look at a grid from four acoustic perspectives: cells, peaks, purity, maps and regions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import EnumType, StrEnum
from typing import Any

import torch
from torch import Tensor

from captum_apex.audio.regions import Box, Region
from captum_apex.choices import one_of
from captum_apex.layers.cell_places import CellLine, CellPlaces
from captum_apex.layers.padding import column_mask

__all__ = ["SCHEMES", "Scheme", "distinct_schemes", "peak_cells", "purity", "sequences_of"]


class _CheckedLookup(EnumType):
    """Refuses what is no string before an enumeration compares it with its members, which fails for an array."""

    def __call__(cls, value: Any) -> Any:  # type: ignore[override]  # with members, no call makes an enumeration
        return super().__call__(one_of(value, "a scheme", list(cls)))


class Scheme(StrEnum, metaclass=_CheckedLookup):
    """One of the four acoustic perspectives on a grid; a member equals its name.

    Raises:
        TypeError: the value is no string, such as an array of names.
        ValueError: the name is none of the four.

    Example:
        >>> from captum_apex import Scheme
        >>> Scheme("time") == "time", Scheme("time-frequency").sequences
        (True, (<Scheme.TIME: 'time'>, <Scheme.FREQUENCY: 'frequency'>))

    Source: APEX (arXiv 2605.10153), the four prototype schemes.
    """

    SQUARE = "square"
    TIME = "time"
    FREQUENCY = "frequency"
    TIME_FREQUENCY = "time-frequency"

    @property
    def sequences(self) -> tuple[Scheme, ...]:
        """The sequences of cells of the scheme: the scheme itself, or time and frequency for `time-frequency`."""
        return (Scheme.TIME, Scheme.FREQUENCY) if self is Scheme.TIME_FREQUENCY else (self,)

    def cells(self, grid: Tensor, columns: Tensor | None = None) -> tuple[Tensor, ...]:
        """The cells of each sequence.

        Args:
            grid: output of the layer as a grid, (clip, channel, frequency, time).
            columns: number of columns that are not padding in each clip's grid, int64 (clip,); None for all columns.

        Returns:
            One tensor (clip, channel, cell) per sequence. `square` has one cell per position of the grid (row by row),
            `time` one per column, `frequency` one per row, and `time-frequency` the sequences of the last two. Cells of
            padding are NaN, and padding does not count in means.

        Example:
            >>> import torch
            >>> from captum_apex import Scheme
            >>> grid = torch.tensor([[[[0.0, 1.0, 2.0], [4.0, 5.0, 6.0]]]])
            >>> Scheme("time-frequency").cells(grid)
            (tensor([[[2., 3., 4.]]]), tensor([[[1., 5.]]]))
        """
        if columns is not None:
            grid = grid.where(column_mask(grid, columns), torch.nan)
        return tuple(_pool(grid, sequence, columns is not None).flatten(2) for sequence in self.sequences)

    def spread(self, relevance: Tensor, columns: Tensor | None = None) -> Tensor:
        """Spreads a relevance map evenly over the axes that the scheme averages; every map keeps its sum.

        Args:
            relevance: relevance on the grid, (clip, frequency, time).
            columns: number of columns that are not padding, as in `cells`; the result is zero in the padding.

        Returns:
            Tensor (clip, frequency, time). For `square` it is the map itself. `time` has the column means in every row,
            `frequency` the row means in every column, and `time-frequency` the mean of these two.

        Example:
            >>> import torch
            >>> from captum_apex import Scheme
            >>> Scheme("time").spread(torch.tensor([[[0.0, 2.0], [4.0, 0.0]]]))
            tensor([[[2., 1.],
                     [2., 1.]]])
        """
        unpadded = None if columns is None else column_mask(relevance, columns)
        if unpadded is not None:
            relevance = relevance.where(unpadded, torch.nan)
        layers = [_pool(relevance, sequence, columns is not None).expand_as(relevance) for sequence in self.sequences]
        spread = torch.stack(layers).mean(0) if len(layers) > 1 else layers[0]
        return spread if unpadded is None else spread.where(unpadded, 0.0)

    def supports(self, n_rows: int, n_columns: int) -> bool:
        """Whether a grid of this size has several cells in the scheme: columns for time, rows for frequency."""
        supported = {Scheme.SQUARE: True, Scheme.TIME: n_columns > 1, Scheme.FREQUENCY: n_rows > 1}
        return all(supported[sequence] for sequence in self.sequences)

    def check(self, n_rows: int, n_columns: int, layer: str = "the layer") -> None:
        """Refuses a grid that does not support the scheme.

        Args:
            n_rows: number of frequency rows of the grid.
            n_columns: number of time columns of the grid.
            layer: name of the layer, for the message.

        Raises:
            ValueError: the grid does not support the scheme; the message lists the schemes that it supports.
        """
        if not self.supports(n_rows, n_columns):
            fitting = [str(scheme) for scheme in Scheme if scheme.supports(n_rows, n_columns)]
            reason = " (a layer over frames has no frequency axis)" if n_rows == 1 and n_columns > 1 else ""
            raise ValueError(
                f"expected several rows for frequency and several columns for time in the scheme {str(self)!r}, but "
                f"{layer} gives {n_rows} frequency row(s) and {n_columns} time column(s){reason}; it supports: "
                f"{', '.join(fitting)}"
            )

    def region(
        self,
        peaks: Sequence[int],
        n_rows: int,
        n_columns: int,
        *,
        intersection: bool = False,
        places: CellPlaces | None = None,
    ) -> Region:
        """The region of the input that the peak cells cover.

        Args:
            peaks: index of the peak cell in each of the scheme's sequences.
            n_rows: number of frequency rows of the layer's grid.
            n_columns: number of time columns of the layer's grid.
            intersection: give the rectangle where column and row of a `time-frequency` scheme meet, instead of the
                cross of both.
            places: where the cells lie on the axes of the input; None where they fill the input.

        Returns:
            One rectangle for `square`, a full-height strip for `time`, a full-width band for `frequency`, the cross of
            strip and band (two boxes) for `time-frequency`.

        Example:
            >>> from captum_apex import Scheme
            >>> Scheme("time").region([3], n_rows=4, n_columns=8).boxes
            (Box(low=0.0, high=1.0, start=0.375, end=0.5),)
        """
        places = places or CellPlaces()
        rows = places.rows(n_rows)
        columns = places.columns(n_columns)
        boxes = tuple(
            _cell_box(sequence, int(peak), rows, columns) for sequence, peak in zip(self.sequences, peaks, strict=True)
        )
        if intersection and len(boxes) > 1:
            boxes = (_meet(boxes),)
        return Region(boxes)


SCHEMES: tuple[Scheme, ...] = tuple(Scheme)


def distinct_schemes(n_rows: int, n_columns: int) -> tuple[Scheme, ...]:
    """The schemes that a grid supports and that have different bases, in the order of `SCHEMES`.

    In a grid of one row, `square` has the cells of `time`, and in a grid of one column those of `frequency`. So the fit
    gives the same basis, with the same prototypes and purities, and `square` is left out.

    Args:
        n_rows: number of frequency rows of the grid.
        n_columns: number of time columns of the grid.

    Example:
        >>> from captum_apex.bases.schemes import distinct_schemes
        >>> [str(scheme) for scheme in distinct_schemes(1, 99)], len(distinct_schemes(4, 10))
        (['time'], 4)
    """
    supported = tuple(scheme for scheme in SCHEMES if scheme.supports(n_rows, n_columns))
    is_line = (n_rows == 1) != (n_columns == 1)
    return tuple(scheme for scheme in supported if not (is_line and scheme is Scheme.SQUARE))


def sequences_of(schemes: Iterable[Scheme | str]) -> tuple[Scheme, ...]:
    """The sequences of cells that schemes need, each once.

    Args:
        schemes: the schemes, or the name of one.

    Raises:
        TypeError: they are no names of schemes.

    Example:
        >>> from captum_apex.bases.schemes import sequences_of
        >>> [str(sequence) for sequence in sequences_of(["time-frequency", "time"])]
        ['time', 'frequency']
    """
    if not isinstance(schemes, Iterable):
        raise TypeError(f"expected `schemes` to be the names of schemes, but got {schemes!r}")
    chosen = [Scheme(schemes)] if isinstance(schemes, str) else [Scheme(scheme) for scheme in schemes]
    sequences = {sequence for scheme in chosen for sequence in scheme.sequences}
    return tuple(sequence for sequence in SCHEMES if sequence in sequences)


def peak_cells(cells: Tensor, directions: Tensor) -> Tensor:
    """Index of the cell with the largest value of the channel, for pairs of a channel and a clip.

    Args:
        cells: cells of each pair's clip in the layer's channels, (pair, channel, cell); or those of one clip for all
            pairs, (channel, cell).
        directions: row of U for each pair's channel, negated for the negative side, (pair, channel).

    Returns:
        int64 tensor (pair,); the first of equal cells, never a cell of padding, which is NaN.

    Example:
        >>> import torch
        >>> from captum_apex.bases.schemes import peak_cells
        >>> cells = torch.tensor([[[1.0, 3.0, 2.0], [5.0, 0.0, 4.0]]])
        >>> peak_cells(cells, torch.tensor([[1.0, 0.0]])), peak_cells(cells, torch.tensor([[1.0, 1.0]]))
        (tensor([1]), tensor([0]))
    """
    one_clip = cells.dim() == 2
    # (pair, cell), or (pair, 1, cell) → (pair, cell)
    levels = directions @ cells if one_clip else torch.bmm(directions[:, None], cells)[:, 0]
    return levels.nan_to_num_(-torch.inf, torch.inf, -torch.inf).argmax(1)


def purity(vectors: Tensor, channels: Tensor) -> Tensor:
    """Share of the pair's channel in the length of its peak vector: `p_k / ‖p‖₂`.

    Args:
        vectors: peak cells in the basis, (pair, channel).
        channels: index of each pair's channel, (pair,).

    Returns:
        Tensor (pair,), in [-1, 1]; 1 where no other channel is active, 0 where the vector is zero.

    Example:
        >>> import torch
        >>> from captum_apex.bases.schemes import purity
        >>> purity(torch.tensor([[3.0, 4.0]]), torch.tensor([1]))
        tensor([0.8000])

    Source: EPIC (arXiv 2505.12897), "Purity of Prototype".
    """
    components = vectors.gather(1, channels[:, None]).squeeze(1)  # (pair, channel) → (pair,)
    return components / vectors.norm(dim=1).clamp_min(torch.finfo(vectors.dtype).tiny)


def _pool(grid: Tensor, sequence: Scheme, padded: bool = False) -> Tensor:
    """The mean over the axis that a sequence averages, which remains with size 1.

    The last two axes of the grid are frequency and time; its padding is NaN.
    """
    if sequence is Scheme.TIME:
        return grid.mean(-2, keepdim=True)
    if sequence is Scheme.FREQUENCY:
        return grid.nanmean(-1, keepdim=True) if padded else grid.mean(-1, keepdim=True)
    return grid


def _cell_box(sequence: Scheme, cell: int, rows: CellLine, columns: CellLine) -> Box:
    """The rectangle of the input that a cell covers."""
    row, column = divmod(cell, columns.n_cells) if sequence is Scheme.SQUARE else (cell, cell)
    height = (0.0, 1.0) if sequence is Scheme.TIME else rows.sides(row)
    width = (0.0, 1.0) if sequence is Scheme.FREQUENCY else columns.sides(column)
    return Box(*height, *width)


def _meet(boxes: Sequence[Box]) -> Box:
    """The intersection of boxes."""
    return Box(
        low=max(box.low for box in boxes),
        high=min(box.high for box in boxes),
        start=max(box.start for box in boxes),
        end=min(box.end for box in boxes),
    )
