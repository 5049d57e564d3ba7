"""The grid of the layer, continued over a recording: columns of equal duration."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_apex.classifiers.classifier import Classifier
from captum_apex.layers.cell_places import WHOLE, CellLine, CellPlaces
from captum_apex.layers.layout import input_axes

__all__ = ["RecordingGrid"]


@dataclass(frozen=True, eq=False)
class RecordingGrid:
    """The grid of the layer, continued over the recording.

    Column `i` of the recording lasts from `offset + i · step` to `offset + (i + 1) · step`, the columns of a layer
    without padding in the middle of what they hear.

    Args:
        offset: time from the start of a window to its first column, in s; negative where that begins in the padding.
        step: duration of a column, in s.
        n_columns: number of columns in a window.
        hertz: edges of the rows, in Hz, in their order, float64 (row + 1,); two values where one row stands for the
            whole band.
        hears: how much of the recording a column hears, in s, where that is about the whole window; None where it is
            less or not known.

    Example:
        >>> import torch
        >>> from captum_apex.explanations.recording_grid import RecordingGrid
        >>> grid = RecordingGrid(offset=0.0, step=0.25, n_columns=8, hertz=torch.tensor([0.0, 4000.0]))
        >>> grid.first_column(1.0), grid.time(6)
        (4, 1.5)
    """

    offset: float
    step: float
    n_columns: int
    hertz: Tensor
    hears: float | None = None

    @classmethod
    def of(
        cls,
        classifier: Classifier,
        duration: float,
        inputs: Tensor,
        maps: Tensor,
        *,
        bands: bool,
        places: CellPlaces | None = None,
    ) -> RecordingGrid:
        """The grid of a recording.

        Args:
            classifier: the classifier, with the axes of its inputs.
            duration: duration of a window, in s.
            inputs: inputs of the model for some windows; the first axis is the window.
            maps: maps of the layer for these inputs, (..., frequency, time).
            bands: whether the rows of the maps stay apart; otherwise one row stands for the whole band.
            places: where the cells of the layer lie on the axes of the input; None where they fill it.
        """
        n_rows, n_columns = maps.shape[-2:]
        places = places or CellPlaces()
        axes = classifier.axes
        n_frames = inputs.shape[
            -1 if classifier.input_layout is None else input_axes(classifier.input_layout).index("t")
        ]
        line = places.columns(n_columns, None if places.time is None else n_frames)
        start = 0.0 if axes is None else axes.seconds(0.0)
        whole = duration if axes is None else axes.seconds(float(n_frames)) - start
        step = whole * line.step / line.size
        offset = start + whole * (line.first - line.step / 2) / line.size
        hears = None if places.time is None else _heard_as_whole(line, whole)
        if axes is None:
            whole_band = torch.tensor([0.0, classifier.sample_rate / 2]).double()
            return cls(offset, step, n_columns, whole_band, hears)
        edges = torch.tensor([0.0, *_ends(places.rows(n_rows))] if bands else [0.0, 1.0]).double() * axes.n_bins
        # Columns that a transform has added by padding are left out; those that it leaves out are filled.
        within = _count_columns((duration - offset if places.time else duration) / step)
        return cls(offset, step, min(within, n_columns) if places.time else within, axes.hertz(edges), hears)

    def first_column(self, start: float) -> int:
        """The first column of a window that begins at `start`, in s."""
        return round(start / self.step)

    def columns_within(self, duration: float) -> int:
        """The number of columns that begin before the end of a recording, from its duration in s."""
        return _count_columns((duration - self.offset) / self.step)

    def time(self, column: int) -> float:
        """The time at which a column begins, in s."""
        return self.offset + column * self.step

    def fitted(self, maps: Tensor) -> Tensor:
        """Maps (..., time) with exactly the columns of a window.

        Columns that a transform has added by padding are cut off; for columns that it leaves out, the last one is
        repeated.
        """
        return maps[..., torch.arange(self.n_columns).clamp(max=maps.shape[-1] - 1)]

    def folded(self, maps: Tensor, duration: float) -> Tensor:
        """Maps (..., time) of a recording that was repeated to the length of a window, on its first run.

        The evidence in each repetition is added to that at the same second of the recording; the total is kept.

        Args:
            maps: the maps, with the columns of a window.
            duration: duration of the recording, in s.
        """
        n_within = min(self.columns_within(duration), maps.shape[-1])
        columns = torch.arange(maps.shape[-1])
        seconds = self.offset + (columns + 0.5) * self.step
        repeated = ((seconds % duration - self.offset) / self.step).floor().long().clamp(0, n_within - 1)
        first_run = torch.where(columns < n_within, columns, repeated)
        return torch.zeros_like(maps).index_add_(-1, first_run.to(maps.device), maps)


def _heard_as_whole(line: CellLine, duration: float) -> float | None:
    """How much a cell hears of a window of a duration, both in s; None where it is less than about all or not known."""
    if not line.exact:
        return duration
    if line.receptive_field is None or line.receptive_field < WHOLE * line.size:
        return None
    return min(line.receptive_field / line.size, 1.0) * duration


def _ends(rows: CellLine) -> list[float]:
    """The upper ends of the rows, as fractions of the input; the last one reaches to its end."""
    return [*(rows.sides(row)[1] for row in range(rows.n_cells - 1)), 1.0]


def _count_columns(columns: float) -> int:
    """A number of columns, rounded up; a fraction that is only a rounding error is no column."""
    return math.ceil(round(columns, 6))
