"""Where the cells of a layer lie on the axes of the input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

__all__ = ["WHOLE", "CellLine", "CellPlaces"]

WHOLE = 0.9
"""Share of the input from which on a cell is said to hear all of it."""


@dataclass(frozen=True)
class CellLine:
    """The places of the cells along an axis of the input, in steps of the input; step `i` covers `[i, i + 1]`.

    Args:
        first: centre of the first cell. It may lie before the input, where the layer pads it.
        step: steps of the input from one cell to the next.
        size: number of steps of the input in which the places were found.
        n_cells: number of cells that the layer gives for that input.
        exact: whether the receptive fields of cells were seen from end to end. Otherwise each cell hears the whole
            input, as behind attention or squeeze-excitation, and its centre is where it hears most, to about a step.
        receptive_field: number of steps that a cell hears, from end to end; None where that was not measured.

    Example:
        >>> from captum_apex.layers.cell_places import CellLine
        >>> line = CellLine(first=4.5, step=4.0, size=100, n_cells=23)  # 9 taps, 4 steps apart, without padding
        >>> line.centre(2), line.sides(2)
        (12.5, (0.105, 0.145))
    """

    first: float
    step: float
    size: float
    n_cells: int
    exact: bool = True
    receptive_field: float | None = None

    @classmethod
    def spread(cls, n_cells: int) -> CellLine:
        """Cells of one length that fill the axis; a step is the length of a cell.

        Example:
            >>> from captum_apex.layers.cell_places import CellLine
            >>> CellLine.spread(4).sides(1)
            (0.25, 0.5)
        """
        return cls(first=0.5, step=1.0, size=n_cells, n_cells=n_cells)

    @property
    def fills(self) -> bool:
        """Whether cells of one length fill the axis."""
        return self.step * self.n_cells == self.size and 2 * self.first == self.step

    def of(self, n_cells: int, size: float | None = None) -> CellLine:
        """The line for another input.

        Args:
            n_cells: number of cells that the layer gives for it.
            size: its number of steps; None where it is not known. If the other number of cells does not account for
                the number of steps, its steps are of another length, and the line is stretched with them.

        Example:
            >>> from captum_apex.layers.cell_places import CellLine
            >>> line = CellLine(first=4.5, step=4.0, size=100, n_cells=23)
            >>> line.of(22).size, line.of(22, 98).size, line.of(23, 50).step
            (96.0, 98, 2.0)
        """
        expected = self.size + (n_cells - self.n_cells) * self.step
        if size is None or size == expected:
            return replace(self, size=expected, n_cells=n_cells)
        if abs(size - expected) < self.step:
            return replace(self, size=size, n_cells=n_cells)
        scale = size / expected
        field = None if self.receptive_field is None else scale * self.receptive_field
        first = scale * self.first
        step = scale * self.step
        return replace(self, first=first, step=step, size=size, n_cells=n_cells, receptive_field=field)

    def centre(self, cell: float) -> float:
        """The centre of a cell, in steps."""
        return self.first + cell * self.step

    def sides(self, cell: float, end: float | None = None) -> tuple[float, float]:
        """The begin of a cell and the end of it, or of the cell before `end`, as fractions of the input.

        A cell begins half of the distance to its neighbour before its centre. What lies in the padding is cut off; of a
        cell that lies in it as a whole, the edge of the input remains.
        """
        last = cell if end is None else end - 1
        start = (self.centre(cell) - self.step / 2) / self.size
        stop = (self.centre(last) + self.step / 2) / self.size
        least = min(self.step / 2 / self.size, 1.0)
        return min(max(start, 0.0), 1 - least), max(min(stop, 1.0), least)

    def shares(self, n_bins: int) -> Tensor:
        """The share of each cell that lies in each of some bins that fill the axis, (cell, bin); rows add up to 1."""
        sides = torch.tensor([self.sides(cell) for cell in range(self.n_cells)], dtype=torch.float64) * n_bins
        bins = torch.arange(n_bins, dtype=torch.float64)
        overlap = torch.minimum(sides[:, 1:], bins + 1) - torch.maximum(sides[:, :1], bins)
        overlap = overlap.clamp_min(0.0)
        return overlap / overlap.sum(1, keepdim=True)


@dataclass(frozen=True)
class CellPlaces:
    """The places of the cells of a layer on both axes of the input.

    Args:
        frequency: the rows; None where the layer has one, the input has no frequency axis, or the places are not known.
        time: the columns; None likewise.

    Example:
        >>> from captum_apex.layers.cell_places import CellLine, CellPlaces
        >>> places = CellPlaces(time=CellLine(first=4.5, step=4.0, size=100, n_cells=23))
        >>> places.columns(23).sides(0), places.rows(4).sides(0)  # the rows are not known: they fill the axis
        ((0.025, 0.065), (0.0, 0.25))
    """

    frequency: CellLine | None = None
    time: CellLine | None = None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CellPlaces:
        """The inverse of `dataclasses.asdict`.

        Args:
            values: the fields by name, each a dictionary of the fields of a line, or None.
        """
        return cls(**{name: None if line is None else CellLine(**line) for name, line in values.items()})

    def rows(self, n_rows: int, n_bins: int | None = None) -> CellLine:
        """The rows of a grid.

        Args:
            n_rows: their number.
            n_bins: number of bins of the input, where it is known.
        """
        return CellLine.spread(n_rows) if self.frequency is None else self.frequency.of(n_rows, n_bins)

    def columns(self, n_columns: int, n_frames: int | None = None) -> CellLine:
        """The columns of a grid.

        Args:
            n_columns: their number.
            n_frames: number of time steps of the input, where it is known.
        """
        return CellLine.spread(n_columns) if self.time is None else self.time.of(n_columns, n_frames)
