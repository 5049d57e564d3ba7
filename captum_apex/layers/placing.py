"""Finds where the cells of a layer lie on the axes of the input, by sounds that begin or end anywhere on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from time import monotonic

import torch
from torch import Tensor, nn

from captum_apex.layers.cell_places import CellLine, CellPlaces
from captum_apex.layers.hooks import captured, frozen
from captum_apex.layers.layout import Layout, default_axes
from captum_apex.layers.models import layer_name

__all__ = ["cell_line", "cell_places"]

_LOUDNESS = 10.0  # of the sound, in standard deviations of the clip
_HEARD = 1e-5  # share of a cell's largest change from which on it counts as changed; at least 100 rounding errors
_SHARES = (0.3, 0.7)  # of the cells, those that are placed first: padding cuts off the outer ones
_WIDE = 0.8  # share of the input from which on a receptive field is compared with those of further cells
_FEW = 3  # cells from which on receptive fields of one width are whole
_BESIDE = 0.5  # steps that a centre may lie beside the line through the others
_NEARLY = 0.9  # share of the widest receptive field from which on one with faint ends counts as whole
_ABOUT = 0.02  # the same as a share of the input, for receptive fields with faint ends
_DIGITS = 6  # of places, in steps
_N_CENTRAL = 8  # cells in the middle, which are placed where the former are not enough
_N_WINDOWS = 48  # largest number of windows where every cell hears the whole input
_UNSURE = 0.15  # difference from cells that fill the input, as a share, from which on such windows say nothing
_INNER = 0.2  # share of the cells at each end that do not count there


def cell_places(
    model: Callable,
    layer: nn.Module,
    clip: Tensor,
    *,
    layout: Layout | None = None,
    input_layout: str | None = None,
    at_input: bool = False,
    arguments: tuple[Tensor, ...] = (),
    until: float = math.inf,
) -> CellPlaces:
    """Finds where the cells of a layer lie on the axes of the input, by altered copies of one clip.

    The copies, about 60 for an axis of 100 steps and 110 for one of 600, run up to the layer. An axis stays unknown
    where the model gives other values when it is run a second time.

    Args:
        model: the classifier, or a function that runs it.
        layer: the layer.
        clip: inputs of one clip; the first axis has size 1.
        layout: layout of the layer's output, where it is not (clip, channel, frequency, time).
        input_layout: axes of the inputs, such as `"n f t"`; None derives them from the shape, and finds no places where
            they are ambiguous.
        at_input: whether the layer's input is explained instead of its output.
        arguments: further arguments of the model for the clip, each with one row.
        until: the end of the search, on the clock of `time.monotonic`.

    Raises:
        TimeoutError: the search has not ended by then.

    Example:
        >>> import torch
        >>> from captum_apex.layers.placing import cell_places
        >>> _ = torch.manual_seed(0)
        >>> layer = torch.nn.Conv2d(1, 4, (3, 9), stride=(1, 4), padding=(1, 0))
        >>> places = cell_places(torch.nn.Sequential(layer, torch.nn.Flatten()), layer, torch.zeros(1, 1, 20, 100))
        >>> places.frequency.fills, places.time.first, places.time.step
        (True, 4.5, 4.0)
    """
    name = layer_name(model, layer)

    @torch.no_grad()
    def grid(copies: Tensor) -> Tensor:
        grids = []
        for copy in copies.split(1):  # some models take one clip at a time
            if monotonic() > until:
                raise TimeoutError("the cells were not placed in time")
            with captured(layer, name, at_input=at_input, prepare=torch.clone, stop=True) as capture:
                model(copy.clone(), *arguments)  # a model may work in place
            grids.append((layout or Layout()).grid(capture.value, name))
        return torch.cat(grids)

    with frozen(model, layer):
        usual = grid(clip)
        axes = default_axes(clip, usual.shape[2]) if input_layout is None else input_layout.split()
        if axes is None or not clip.is_floating_point() or not _repeats(usual, grid(clip)):
            return CellPlaces()
        lines = {
            "f": lambda axis: cell_line(lambda copies: grid(copies).transpose(2, 3).flatten(1, 2), clip, axis),
            "t": lambda axis: cell_line(lambda copies: grid(copies).flatten(1, 2), clip, axis),
        }
        frequency, time = (line(axes.index(name)) if name in axes else None for name, line in lines.items())
    return CellPlaces(frequency, time)


def _repeats(once: Tensor, twice: Tensor) -> bool:
    """Whether two passes of a clip give the same, up to rounding."""
    rounding = 10 * torch.finfo(once.dtype).eps
    return bool((twice - once).abs().max() <= rounding * once.abs().max())


def cell_line(respond: Callable[[Tensor], Tensor], clip: Tensor, axis: int) -> CellLine | None:
    """Finds where the cells of a layer lie along an axis of the input.

    A loud noise is put on all steps before a place, and on all behind it. The last place at which a cell does not hear
    the former, and the first at which it does not hear the latter, are the ends of its receptive field; both are found
    by bisection. Padding cuts off the receptive fields at the border, so that only the widest ones count.

    A cell of a recurrent or another causal layer hears everything before it. It is placed at the last step, or steps,
    that it hears and the cell before it does not; a cell that hears everything behind it likewise. Where cells hear the
    whole input, the noise is put on one window after another instead, and a cell lies at the mean of the windows to
    which it responds more than to most.

    Args:
        respond: function from altered copies of the clip to the cells of the layer along the axis, (copy, entry, cell).
        clip: one clip with a clip axis of size 1.
        axis: the axis of the clip.

    Returns:
        The places of the cells; None where there is one cell, or twice as many cells as steps, where no cell hears the
        clip, or where cells that hear the whole input do not lie about as far apart as they must to fill it.

    Example:
        >>> import torch
        >>> from captum_apex.layers.placing import cell_line
        >>> _ = torch.manual_seed(0)
        >>> layer = torch.nn.Conv1d(1, 4, kernel_size=9, stride=4)  # without padding
        >>> cell_line(layer, torch.zeros(1, 1, 100), axis=2)
        CellLine(first=4.5, step=4.0, size=100, n_cells=23, exact=True, receptive_field=9)
    """
    probe = _Probe(respond, clip, axis)
    # Nothing can be heard of places between two steps of the input.
    if len(probe.cells) < 2 or probe.n_cells >= 2 * probe.size:
        return None
    for cells in (probe.spread, probe.cells):
        line = _through_all(probe.whole(cells), _BESIDE)
        if line is not None:
            return CellLine(*line, probe.size, probe.n_cells, receptive_field=probe.widest)
    line = _through_all(probe.nearly_whole(), _ABOUT * probe.size)
    if line is None:
        line = probe.by_their_ends()
    if line is None:
        line = _nearest(probe.loudest())
        if abs(line[1] * probe.n_cells / probe.size - 1) > _UNSURE:
            return None
    return CellLine(*line, probe.size, probe.n_cells, exact=False, receptive_field=probe.widest)


class _Probe:
    """A clip with noise on the steps before or behind a place, and the change of the cells."""

    def __init__(self, respond: Callable[[Tensor], Tensor], clip: Tensor, axis: int) -> None:
        self.respond = respond
        self.clip = clip
        self.size = clip.shape[axis]
        spread = float(clip.double().std(correction=0)) or 1.0
        noise = torch.randn((2, *clip.shape[1:]), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        noise = _LOUDNESS * spread * noise
        # An activation function may let only one sign through, and a pooling may hide a noise: the others confirm.
        self.noises = [noise[:1].to(clip), torch.cat([-noise[:1], noise[1:], -noise[1:]]).to(clip)]
        self.steps = torch.arange(self.size, device=clip.device).reshape(
            [-1 if i == axis else 1 for i in range(clip.dim())]
        )
        self.usual = respond(clip)
        self.least = max(_HEARD, 100 * torch.finfo(self.usual.dtype).eps)  # share of the largest change
        self.changes: dict[bool, dict[int, Tensor]] = {True: {}, False: {}}  # from the begin or the end: place → change
        self.confirmed: dict[bool, set[int]] = {True: set(), False: set()}
        self.largest = self._change(self.size, True)
        self.n_cells = n_cells = self.usual.shape[-1]
        least = self.least * self.largest.max().item()
        heard = [cell for cell in range(n_cells) if self.largest[cell] > least]
        self.spread = [heard[round(share * (len(heard) - 1))] for share in _SHARES] if heard else []
        self.central = sorted(heard, key=lambda cell: abs(cell - n_cells // 2))[:_N_CENTRAL]
        self.cells = sorted({*self.spread, *self.central})
        self.widest = self.size  # receptive field of those that were placed last

    def whole(self, cells: Sequence[int]) -> list[tuple[int, float]]:
        """The cells whose receptive field is not cut off, as far as the others show, and its middle."""
        fields = self._fields(cells)
        widths = {cell: end - begin for cell, (begin, end) in fields.items()}
        widest = max(widths.values())
        whole = [cell for cell, width in widths.items() if width == widest]
        if len(fields) < _FEW or len(whole) < len(fields):  # two cells may be cut off alike, on different sides
            whole = [cell for cell in whole if self._inside(*fields[cell])]
        if widest == self.size or (widest > _WIDE * self.size and len(fields) < _FEW):
            return []
        self.widest = widest
        return [(cell, sum(fields[cell]) / 2) for cell in whole]

    def nearly_whole(self) -> list[tuple[int, float]]:
        """The same for receptive fields with faint ends, whose widths differ a little; none where they are too wide."""
        fields = {cell: field for cell, field in self._fields(self.cells).items() if self._inside(*field)}
        widest = max((end - begin for begin, end in fields.values()), default=self.size)
        if widest > _WIDE * self.size:
            return []
        self.widest = widest
        whole = {cell: field for cell, field in fields.items() if field[1] - field[0] >= _NEARLY * widest}
        return [(cell, sum(field) / 2) for cell, field in whole.items()] if len(whole) >= _FEW else []

    def by_their_ends(self) -> tuple[float, float] | None:
        """The line of cells that hear the input from its begin, or up to its end; None where they are no such cells."""
        self.widest = self.size
        fields = self._fields(self.cells)
        begins = [(cell, float(begin)) for cell, (begin, _) in fields.items()]
        ends = [(cell, float(end)) for cell, (_, end) in fields.items()]
        sides = [side for side in (begins, ends) if any(0 < place < self.size for _, place in side)]
        line = _through_all(sides[0], _BESIDE) if len(sides) == 1 and len(fields) >= _FEW else None
        if line is None:
            return None
        return line[0] + (0.5 if sides[0] is begins else -0.5) * line[1], line[1]

    def _fields(self, cells: Sequence[int]) -> dict[int, tuple[int, int]]:
        return {cell: (self.place(cell, True), self.place(cell, False)) for cell in cells}

    def _inside(self, begin: int, end: int) -> bool:
        return begin > 0 and end < self.size

    def _change(self, place: int, from_begin: bool) -> Tensor:
        """How much each cell changes when there is noise on all steps before a place, or on all from it, (cell,)."""
        changes = self.changes[from_begin]
        if place not in changes:
            changes[place] = self._change_of(self._loud(place, from_begin))
        return changes[place]

    def _confirmed_change(self, place: int, from_begin: bool) -> Tensor:
        """The same with the other noises, too."""
        if place not in self.confirmed[from_begin]:
            self.confirmed[from_begin].add(place)
            other = self._change_of(self._loud(place, from_begin), other=True)
            self.changes[from_begin][place] = torch.maximum(self._change(place, from_begin), other)
        return self.changes[from_begin][place]

    def _loud(self, place: int, from_begin: bool) -> Tensor:
        return self.steps < place if from_begin else self.steps >= place

    def _change_of(self, loud: Tensor, other: bool = False) -> Tensor:
        """How much each cell changes when there is the first noise on some steps, or one of the others, (cell,)."""
        altered = self.respond(self.clip + self.noises[other] * loud)
        return (altered - self.usual).double().norm(dim=(0, 1)).cpu()

    def loudest(self) -> list[tuple[int, float]]:
        """The inner cells, each at the mean of the windows to which it responds more than to most."""
        self.widest = self.size
        n_cells = self.n_cells
        n_windows = min(2 * n_cells, _N_WINDOWS, self.size)
        edges = [round(window * self.size / n_windows) for window in range(n_windows + 1)]
        sides = list(pairwise(edges))
        changes = torch.stack([self._change_of((begin <= self.steps) & (self.steps < end)) for begin, end in sides])
        above = (changes - changes.median(0).values).clamp_min(0.0)  # without what a cell hears of all windows alike
        middles = torch.tensor(sides, dtype=torch.float64).mean(1)
        centres = (above.square() * middles[:, None]).sum(0) / above.square().sum(0).clamp_min(1e-300)
        outer = min(math.ceil(_INNER * n_cells), (n_cells - 2) // 2)
        return [(cell, centres[cell].item()) for cell in range(outer, n_cells - outer)]

    def place(self, cell: int, from_begin: bool) -> int:
        """The last place at which a cell does not hear the noise, from one side."""
        near = 0 if from_begin else self.size
        low = near
        high = self.size - near
        while True:  # at `low` it hears nothing, at `high` the noise
            known = sorted(self.changes[from_begin], reverse=not from_begin)  # of other cells, from `near` on
            middle = next((each for each in known if low < each < high or high < each < low), (low + high) // 2)
            if middle not in (low, high):
                if self._hears(cell, self._change(middle, from_begin)):
                    high = middle
                else:
                    low = middle
            elif low != near and self._hears(cell, self._confirmed_change(low, from_begin)):
                high = low
                low = near
            else:
                return low

    def _hears(self, cell: int, change: Tensor) -> bool:
        return bool(change[cell] >= self.least * self.largest[cell])


def _through_all(centres: Sequence[tuple[int, float]], beside: float) -> tuple[float, float] | None:
    """The centre of the first cell and the step of the line through the centres; None where there is no such line.

    Args:
        centres: cells and their centres.
        beside: number of steps that a centre may lie beside the line.
    """
    if len(centres) < 2:
        return None
    first, step = _nearest(centres)
    on_line = all(abs(first + step * cell - centre) <= beside for cell, centre in centres)
    return (first, step) if on_line and step > 0 else None


def _nearest(centres: Sequence[tuple[int, float]]) -> tuple[float, float]:
    """The same for the line that is nearest to the centres, with rounding errors taken away."""
    points = torch.tensor(centres, dtype=torch.float64)
    design = torch.stack([torch.ones(len(points), dtype=torch.float64), points[:, 0]], 1)
    first, step = torch.linalg.lstsq(design, points[:, 1:]).solution[:, 0].tolist()
    return round(first, _DIGITS), round(step, _DIGITS)
