"""Fills the arrays of a feature bank batch by batch, in memory or in memory-mapped files."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import torch
from torch import Tensor

from captum_apex.bases.mapped_arrays import nameless_array
from captum_apex.bases.schemes import Scheme
from captum_apex.layers.layout import Layout
from captum_apex.layers.padding import checked_columns, column_mask
from captum_apex.layers.pooled_norm import PooledNorm, explained_grid
from captum_apex.layers.values import NotFiniteError, at_least_float32, check_finite
from captum_apex.numbers import real_number

__all__ = ["BankWriter", "known_columns"]

_GROWTH = 1.5  # of the arrays, where clips are longer than those before


class BankWriter:
    """Writes the layer's output for one batch of clips after the other.

    Args:
        n_clips: number of clips in the dataset.
        sequences: the sequences of cells to store.
        layer: name of the layer, for messages.
        layout: layout of the layer's output.
        max_memory: number of bytes that the arrays may take in memory; larger arrays are memory-mapped files.
        folder: folder of the mapped files; by default the system's temporary folder.
        norm: the norm to apply to the grid; None for the grid of the layer itself.
        dtype: dtype of the cells, `torch.float16`; None for that of the layer's output, at least float32.

    Example:
        >>> import torch
        >>> from captum_apex import Scheme
        >>> from captum_apex.layers import Layout
        >>> from captum_apex.bases.bank_writer import BankWriter
        >>> writer = BankWriter(1, [Scheme.TIME], "layer", Layout())
        >>> writer.write(torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]]), labels=None, n_inputs=1)
        >>> writer.cells, writer.means
        ({<Scheme.TIME: 'time'>: tensor([[[1., 2.]]])}, tensor([[1.5000]]))
    """

    def __init__(
        self,
        n_clips: int,
        sequences: Sequence[Scheme],
        layer: str,
        layout: Layout,
        max_memory: int = 2**32,
        folder: str | os.PathLike | None = None,
        norm: PooledNorm | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.n_clips = n_clips
        self.sequences = sequences
        self.layer = layer
        self.layout = layout
        self.max_memory = real_number(max_memory, "max_memory", low=0)
        self.folder = None if folder is None else os.fspath(folder)
        self.norm = norm
        self.dtype = _checked_dtype(dtype)
        self.grid: tuple[int, int] | None = None
        self.n_written = 0
        self.input_shapes: set[tuple[int, ...]] = set()
        self.means = torch.empty(0)
        self._arrays: dict[Scheme, Tensor] = {}  # (clip, channel, row or 1, column or 1)
        self._width = 0  # columns that the arrays have room for
        self._labels: list[Tensor] = []
        self._widths: list[Tensor] = []  # columns of each clip's grid, padded or not
        self._feature_dtype = torch.float32

    @property
    def cells(self) -> dict[Scheme, Tensor]:
        """The cells of each sequence, (clip, channel, cell)."""
        n_columns = 0 if self.grid is None else self.grid[1]
        return {sequence: array[..., :n_columns].flatten(2) for sequence, array in self._arrays.items()}

    @property
    def columns(self) -> Tensor | None:
        """Number of columns of each clip's grid, as `FeatureBank.columns` gives it, where no clip is padded."""
        return known_columns(self.sequences, torch.cat(self._widths))

    @property
    def labels(self) -> Tensor | None:
        """The labels of the clips, (clip,) or (clip, class); None where the dataset has none."""
        return torch.cat(self._labels) if self._labels else None

    def write(self, features: Tensor, labels: Tensor | None, n_inputs: int, columns: Tensor | None = None) -> None:
        """Writes the next batch of clips.

        Args:
            features: output of the layer.
            labels: labels of the clips, (clip,) or (clip, class); None for a dataset without labels.
            n_inputs: number of clips in the batch.
            columns: number of columns that are not padding in each clip's grid, int64 (clip,); None for all.

        Raises:
            ValueError: the layout does not fit the output, the layer does not give one grid per clip, grids differ in
                their number of rows, or a value is not finite (the message names the clip).
        """
        grid = at_least_float32(explained_grid(features, self.layout, self.norm, self.layer, columns))
        self._feature_dtype = features.dtype
        if len(grid) != n_inputs or self.n_written + n_inputs > self.n_clips:
            raise ValueError(
                f"expected {self.layer!r} to give one grid per clip, but got {len(grid)} for {n_inputs} clips"
            )
        unpadded = None if columns is None else column_mask(grid, checked_columns(columns, grid))
        values = grid if unpadded is None else grid.where(unpadded, 0.0)
        check_finite(values, f"the output of {self.layer!r}", self.n_written)
        self._make_room(grid)
        clips = slice(self.n_written, self.n_written + len(grid))
        for sequence, array in self._arrays.items():
            cells = sequence.cells(grid, columns)[0].unflatten(2, _sides(sequence, *grid.shape[2:])).to("cpu")
            array[clips, :, :, : cells.shape[3]] = self._stored(cells)
            array[clips, :, :, cells.shape[3] :] = torch.nan
        means = grid.mean((2, 3)) if unpadded is None else grid.where(unpadded, torch.nan).nanmean((2, 3))
        self.means[clips] = means.to("cpu")
        self._widths.append(torch.full((len(grid),), grid.shape[3]))
        self._add_labels(labels)
        self.n_written += len(grid)

    def _stored(self, cells: Tensor) -> Tensor:
        """The cells as they are stored; an error where the smaller range of half precision does not hold them."""
        if self.dtype is None:
            return cells
        stored = cells.to(self.dtype)
        beyond = stored.isinf().flatten(1).any(1)  # (clip,)
        if beyond.any():
            largest = f"{torch.finfo(self.dtype).max:,.0f}"
            what = f"the features of {self.layer!r} in half precision (up to {largest}; leave out `dtype`)"
            raise NotFiniteError(what, self.n_written + int(beyond.nonzero()[0]))
        return stored

    def _add_labels(self, labels: Tensor | None) -> None:
        """Adds the labels of a batch; all clips have a label, or none has."""
        kinds = [None if each is None else each.shape[1:] for each in (*self._labels[:1], labels)]
        if self.n_written and not self._labels:
            kinds.insert(0, None)
        if kinds[0] != kinds[-1]:
            raise ValueError(
                f"expected labels of one kind for all clips, but clip {self.n_written} has {_kind(kinds[-1])} and the "
                f"clips before it {_kind(kinds[0])}"
            )
        if labels is not None:
            self._labels.append(labels)

    def rounding(self, usual: float, of_half: float) -> float:
        """One of two tolerances: the second where the layer gives half precision."""
        return of_half if torch.finfo(self._feature_dtype).bits == 16 else usual

    def check_norm(self, output: Tensor) -> None:
        """Compares the means of the last batch with what the norm gives in the model.

        Args:
            output: output of the norm for the last batch, (clip, channel) with further axes of size 1.

        Raises:
            ValueError: they differ by more than rounding.
        """
        assert self.norm is not None
        last = self.means[self.n_written - len(output) : self.n_written]
        self.norm.check(last, output, self.layer, self._feature_dtype)

    def finish_batch(self, inputs: Tensor) -> None:
        """Notes the shape of the inputs of a batch, after the model has run on it to its end.

        Args:
            inputs: the inputs of the batch.
        """
        self.input_shapes.add(tuple(inputs.shape[1:]))

    def check_complete(self) -> None:
        """Gives up unused room; raises a ValueError where fewer clips were written than the dataset has."""
        if self.n_written != self.n_clips:
            raise ValueError(
                f"expected `collate_fn` to keep all {self.n_clips} clips of the dataset, but {self.n_written} came"
            )
        assert self.grid is not None
        for sequence, array in self._arrays.items():
            if array.shape[3] > self.grid[1]:
                self._arrays[sequence] = _moved_together(array, self.grid[1])
        self._width = self.grid[1]

    def _make_room(self, grid: Tensor) -> None:
        """Allocates arrays for grids of this size; a clip that is longer than all clips before it makes them wider."""
        n_rows, n_columns = grid.shape[2:]
        if self.grid is None:
            self.means = torch.empty(self.n_clips, grid.shape[1], dtype=grid.dtype)
        elif self.grid[0] != n_rows:
            raise ValueError(
                f"expected {self.layer!r} to give a grid of {self.grid[0]} frequency rows for every clip, but got "
                f"{n_rows} from clip {self.n_written} on"
            )
        if self.grid is None or self.grid[1] < n_columns:
            self.grid = (n_rows, n_columns)
        if self._width < n_columns:
            self._widen(n_columns)

    def _widen(self, n_columns: int) -> None:
        """Makes the arrays wider, with room for clips that are still longer, so that few lengths make a copy."""
        width = max(n_columns, math.ceil(_GROWTH * self._width))
        unused = self.max_memory - self._n_bytes(n_columns)
        if 0 <= unused < self._n_bytes(width) - self._n_bytes(n_columns):  # only as much room as keeps them in memory
            width = n_columns + int(unused // (self._n_bytes(1) - self._n_bytes(0)))
        try:
            self._allocate(width)
        except OSError:  # no room on the disk for more than is needed
            self._allocate(n_columns)

    def _allocate(self, width: int) -> None:
        """Makes arrays of this width, with what the former ones hold."""
        in_memory = self._n_bytes(width) <= self.max_memory
        for sequence, shape in self._shapes(width).items():
            narrower = self._arrays.get(sequence)
            if narrower is not None and tuple(narrower.shape) == shape:
                continue
            wider = self._array(shape, in_memory)
            if narrower is not None:
                wider[: self.n_written, :, :, : narrower.shape[3]] = narrower[: self.n_written]
                wider[: self.n_written, :, :, narrower.shape[3] :] = torch.nan
            self._arrays[sequence] = wider
        self._width = width

    def _array(self, shape: tuple[int, ...], in_memory: bool) -> Tensor:
        dtype = self.means.dtype if self.dtype is None else self.dtype
        return torch.empty(shape, dtype=dtype) if in_memory else nameless_array(shape, dtype, self.folder)

    def _n_bytes(self, width: int) -> int:
        """The number of bytes that arrays of this width take."""
        dtype = self.means.dtype if self.dtype is None else self.dtype
        return sum(map(math.prod, self._shapes(width).values())) * dtype.itemsize

    def _shapes(self, width: int) -> dict[Scheme, tuple[int, ...]]:
        assert self.grid is not None
        shape = (self.n_clips, self.means.shape[1])
        return {sequence: (*shape, *_sides(sequence, self.grid[0], width)) for sequence in self.sequences}


def known_columns(sequences: Sequence[Scheme], widths: Tensor) -> Tensor | None:
    """What `FeatureBank.columns` gives, from the widths of grids without padding.

    Args:
        sequences: the sequences of cells of the bank.
        widths: number of columns of each clip's grid, int64 (clip,).

    Example:
        >>> import torch
        >>> from captum_apex import Scheme
        >>> from captum_apex.bases.bank_writer import known_columns
        >>> known_columns([Scheme.TIME], torch.tensor([3, 5])), known_columns([Scheme.TIME], torch.tensor([5, 5]))
        (tensor([3, 5]), None)
    """
    depends = Scheme.TIME in sequences or Scheme.SQUARE in sequences
    return widths if depends and (widths != widths.max()).any() else None


def _moved_together(array: Tensor, n_columns: int) -> Tensor:
    """The first columns of an array (clip, channel, row, column), in the same memory: there may be no room for two."""
    moved = array.flatten()[: array[..., :n_columns].numel()].view(*array.shape[:3], n_columns)
    for clip, target in zip(array, moved, strict=True):
        target.copy_(clip[..., :n_columns].clone())  # it ends before the next clip begins
    return moved


def _checked_dtype(dtype: torch.dtype | None) -> torch.dtype | None:
    if dtype not in (None, torch.float16):
        raise ValueError(
            f"expected `dtype` to be torch.float16, or None for the precision of the features, but got {dtype}"
        )
    return dtype


def _kind(shape: Sequence[int] | None) -> str:
    """The kind of a label from its shape, in words."""
    if shape is None:
        return "no label"
    return f"{shape[0]} numbers" if len(shape) else "one index"


def _sides(sequence: Scheme, n_rows: int, n_columns: int) -> tuple[int, int]:
    """The numbers of rows and columns of a sequence's cells in a grid."""
    return 1 if sequence is Scheme.TIME else n_rows, 1 if sequence is Scheme.FREQUENCY else n_columns
