"""Where the cells of a layer lie along an axis of the input, found by sounds that begin or end anywhere on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["CellLine", "cell_line"]

_LOUDNESS = 10.0  # of the sound, in standard deviations of the clip
_HEARD = 1e-4  # share of a cell's largest change from which on it counts as changed
_N_NOISES = 2  # each with both signs
_SHARES = (0.3, 0.5, 0.7)  # of the cells, those that are placed: padding cuts off the outer ones
_N_CENTRAL = 8  # cells in the middle, which are placed where the former are not enough


@dataclass(frozen=True)
class CellLine:
    """The places of the cells along an axis of the input, in steps of the input; step `i` covers `[i, i + 1]`.

    Args:
        first: centre of the first cell. It may lie before the input, where the layer pads it.
        step: steps of the input from one cell to the next.
        exact: whether the receptive fields of cells were seen from end to end. Otherwise each cell hears the whole
            input, and its centre is where half of its change has come.

    Example:
        >>> from captum_apex.layers.cell_places import CellLine
        >>> line = CellLine(first=4.5, step=4.0)
        >>> line.centre(2), line.sides(2)
        (12.5, (10.5, 14.5))
    """

    first: float
    step: float
    exact: bool = True

    def centre(self, cell: float) -> float:
        """The centre of a cell."""
        return self.first + cell * self.step

    def sides(self, cell: float) -> tuple[float, float]:
        """The two ends of a cell, half a step before and behind its centre."""
        return self.centre(cell) - self.step / 2, self.centre(cell) + self.step / 2


def cell_line(respond: Callable[[Tensor], Tensor], clip: Tensor, axis: int) -> CellLine | None:
    """Finds where the cells of a layer lie along an axis of the input.

    A loud noise is put on all steps before a place, and on all behind it. The last place at which a cell does not hear
    the former, and the first at which it does not hear the latter, are the ends of its receptive field; both are found
    by bisection. Padding cuts off the receptive fields at the border, so that only the widest ones count.

    Args:
        respond: function from altered copies of the clip to the cells of the layer along the axis, (copy, entry, cell).
        clip: one clip with a clip axis of size 1.
        axis: the axis of the clip.

    Returns:
        The places of the cells; None where there is one cell, or where no cell hears the clip.

    Example:
        >>> import torch
        >>> from captum_apex.layers.cell_places import cell_line
        >>> _ = torch.manual_seed(0)
        >>> layer = torch.nn.Conv1d(1, 4, kernel_size=9, stride=4)  # without padding
        >>> cell_line(layer, torch.zeros(1, 1, 100), axis=2)
        CellLine(first=4.5, step=4.0, exact=True)
    """
    probe = _Probe(respond, clip, axis)
    if len(probe.cells) < 2:
        return None
    whole: list[tuple[int, float]] = []
    for cells in (probe.spread, probe.central):
        whole = probe.whole(cells)
        if len(whole) > 1:
            return _line(whole, exact=True)
    halves = [(cell, (probe.place(cell, 0.5, True) + probe.place(cell, 0.5, False)) / 2) for cell in probe.cells]
    return _line(halves, exact=False)


class _Probe:
    """A clip with noise on the steps before or behind a place, and the change of the cells."""

    def __init__(self, respond: Callable[[Tensor], Tensor], clip: Tensor, axis: int) -> None:
        self.respond = respond
        self.clip = clip
        self.size = clip.shape[axis]
        spread = float(clip.double().std(correction=0)) or 1.0
        shape = (_N_NOISES, *clip.shape[1:])
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        # Each noise comes with both signs, because an activation function may let only one of them through.
        self.noise = (_LOUDNESS * spread * torch.cat([noise, -noise])).to(clip)
        self.steps = torch.arange(self.size, device=clip.device).reshape(
            [-1 if i == axis else 1 for i in range(clip.dim())]
        )
        self.usual = respond(clip)
        self.changes: dict[bool, dict[int, Tensor]] = {True: {}, False: {}}  # from the begin or the end: place → change
        self.largest = self._change(self.size, True)
        n_cells = self.usual.shape[-1]
        heard = [cell for cell in range(n_cells) if self.largest[cell] > 0]
        self.spread = [heard[round(share * (len(heard) - 1))] for share in _SHARES] if heard else []
        self.central = sorted(heard, key=lambda cell: abs(cell - n_cells // 2))[:_N_CENTRAL]
        self.cells = sorted({*self.spread, *self.central})

    def whole(self, cells: Sequence[int]) -> list[tuple[int, float]]:
        """The cells whose receptive field is not cut off, as far as the others show, and its middle."""
        fields = {cell: (self.place(cell, _HEARD, True), self.place(cell, _HEARD, False)) for cell in sorted({*cells})}
        widest = max(end - begin for begin, end in fields.values())
        middles = {cell: (begin + end) / 2 for cell, (begin, end) in fields.items() if end - begin == widest}
        return list(middles.items()) if widest < self.size else []

    def _change(self, place: int, from_begin: bool) -> Tensor:
        """How much each cell changes when there is noise on all steps before a place, or on all from it, (cell,)."""
        changes = self.changes[from_begin]
        if place not in changes:
            loud = self.steps < place if from_begin else self.steps >= place
            altered = self.respond(self.clip + self.noise * loud)
            changes[place] = (altered - self.usual).double().norm(dim=(0, 1)).cpu()
        return changes[place]

    def place(self, cell: int, share: float, from_begin: bool) -> int:
        """The last place at which a cell changes by less than a share of its largest change, from one side."""
        low, high = (0, self.size) if from_begin else (self.size, 0)
        known = sorted(self.changes[from_begin], reverse=not from_begin)  # of other cells, from `low` to `high`
        while True:  # at `low` it changes less, at `high` as much
            middle = next((each for each in known if low < each < high or high < each < low), (low + high) // 2)
            if middle in (low, high):
                return low
            heard = self._change(middle, from_begin)[cell] >= share * self.largest[cell]
            low, high = (low, middle) if heard else (middle, high)


def _line(centres: list[tuple[int, float]], exact: bool) -> CellLine:
    """The line through the centres of the outer cells, or the nearest line where they are not exact."""
    if exact:
        (cell, centre), (last, last_centre) = centres[0], centres[-1]
        step = (last_centre - centre) / (last - cell)
        return CellLine(centre - step * cell, step, exact)
    points = torch.tensor(centres, dtype=torch.float64)
    design = torch.stack([torch.ones(len(points), dtype=torch.float64), points[:, 0]], 1)
    first, step = torch.linalg.lstsq(design, points[:, 1:]).solution[:, 0].tolist()
    return CellLine(first, step, exact)
