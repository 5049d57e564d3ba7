"""What the explained layer gave for every clip of a dataset, taken in one pass."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset
from tqdm.auto import tqdm

from captum_apex.bases.collation import Collate
from captum_apex.bases.schemes import SCHEMES, Scheme
from captum_apex.layers.hooks import frozen, watched
from captum_apex.layers.layout import Layout
from captum_apex.layers.models import fingerprint, layer_name, model_of, on_one_device
from captum_apex.layers.origin import Origin
from captum_apex.layers.padding import Columns, checked_columns, column_mask
from captum_apex.layers.values import at_least_float32, check_finite

__all__ = ["FeatureBank"]

_FORMAT = "captum-apex bank 1"


@dataclass(frozen=True, eq=False)
class FeatureBank:
    """The cells of every clip, for the schemes asked for, and each clip's mean over the grid.

    Only what fitting needs is kept: one row of cells per clip for `time` and for `frequency`, the full grid where
    `square` is wanted.

    Args:
        cells: for each sequence (`square`, `time`, `frequency`), (clip, channel, cell); where clips have several lengths, as many cells as
            the longest has, and NaN for those that a shorter one has not.
        means: mean over the clip's grid, (clip, channel).
        labels: (clip,) or (clip, class); None where the dataset has none.
        origin: the layer, the grid and the weights that the features come from.
    """

    cells: dict[Scheme, Tensor]
    means: Tensor
    labels: Tensor | None
    origin: Origin

    @property
    def n_clips(self) -> int:
        """Clips in the dataset."""
        return self.means.shape[0]

    @property
    def n_channels(self) -> int:
        """Width of the layer."""
        return self.means.shape[1]

    def sequences(self, scheme: Scheme | str) -> tuple[Tensor, ...]:
        """The cells of each of a scheme's sequences, (clip, channel, cell) each.

        Raises:
            ValueError: where the grid does not support the scheme, or the bank was made without it.
        """
        scheme = Scheme(scheme)
        if self.origin.grid is not None:
            scheme.check(*self.origin.grid, layer=repr(self.origin.layer))
        missing = [str(sequence) for sequence in scheme.sequences if sequence not in self.cells]
        if missing:
            raise ValueError(
                f"expected a bank with the cells of {str(scheme)!r}, but it was made for {', '.join(map(str, self.cells))}; "
                f"pass schemes=[..., {str(scheme)!r}] to `FeatureBank.from_dataset`"
            )
        return tuple(self.cells[sequence] for sequence in scheme.sequences)

    @cached_property
    def columns(self) -> Tensor | None:
        """How many columns each clip's grid has, int64 (clip,); None where all have as many, or no cells kept tell it."""
        rows = {Scheme.TIME: 1, Scheme.SQUARE: self.origin.grid[0] if self.origin.grid else 1}
        for sequence in rows.keys() & self.cells.keys():
            of_first_channel = self.cells[sequence][:, 0].unflatten(1, (rows[sequence], -1))[:, 0]  # (clip, time)
            columns = of_first_channel.isfinite().sum(1)
            return None if (columns == of_first_channel.shape[1]).all() else columns
        return None

    def to(self, device: torch.device | str) -> FeatureBank:
        """The bank on a device; fitting runs where the bank is."""
        cells = {sequence: tensor.to(device) for sequence, tensor in self.cells.items()}
        labels = None if self.labels is None else self.labels.to(device)
        return FeatureBank(cells, self.means.to(device), labels, self.origin)

    @classmethod
    def from_dataset(
        cls,
        model: Callable,
        layer: nn.Module,
        dataset: Dataset | Sequence,
        *,
        schemes: Iterable[Scheme | str] = SCHEMES,
        layout: Layout | str | tuple | None = None,
        at_input: bool = False,
        batch_size: int = 32,
        collate_fn: Callable | None = None,
        columns: Columns | None = None,
        num_workers: int = 0,
        device: torch.device | str | None = None,
        max_memory: int = 2**32,
        folder: str | os.PathLike | None = None,
        progress: bool = False,
    ) -> FeatureBank:
        """Runs the model once over a map-style dataset, in its order, and keeps what the layer gives.

        Args:
            model: the classifier (or a function around it); held in evaluation mode and left as it was.
            layer: the module to explain, a part of the model.
            dataset: items are `inputs` or `(inputs, label)`; `inputs` of one shape within a batch, or made so by `collate_fn`. With
                `batch_size=1`, clips of any length will do, for every model.
            schemes: what the bank is for.
            layout: for outputs that are not (clip, channel, frequency, time), an einops pattern, or (pattern, axis sizes).
            at_input: take what goes into the layer instead of what comes out.
            batch_size: clips per forward pass.
            collate_fn: makes a batch of items, `inputs` or `(inputs, labels)`; with `columns`, `(inputs, labels, lengths)`.
            columns: for a model that takes batches of padded clips, as `model(inputs, lengths)`, and does not hear the padding: from the
                clips' lengths, int64 (clip,), to how many columns of the layer's grid are their own. Clips are padded with zeros at the
                end of their last axis, unless `collate_fn` does it. Padding is never a peak, and counts in no mean.
            num_workers: loader processes.
            device: where inputs are sent; by default the device of the model's parameters.
            max_memory: bytes that the arrays may take in memory; past it they are memory-mapped files.
            folder: where the mapped files lie, without a name: they go with the bank. By default the system's temporary folder.
            progress: show a progress bar.

        Raises:
            TypeError: for an iterable-style dataset, or items of another kind.
            ValueError: for an empty dataset, a layer that is not part of the model, runs twice, never, or gives several tensors,
                clips of different shape, and NaN or infinity in inputs or features, naming the clip.
        """
        model, device = on_one_device(model), _device(layer, model) if device is None else torch.device(device)
        name = layer_name(model, layer)
        n_clips = _length(dataset)
        writer = _Writer(n_clips, _wanted(schemes), max_memory, folder)
        layout = Layout.of(layout)
        # A generator of its own: a DataLoader otherwise draws a seed from the global one.
        collate = Collate(collate_fn, padded=columns is not None)
        loader = DataLoader(
            cast(Dataset, dataset), batch_size, num_workers=num_workers, collate_fn=collate, generator=torch.Generator()
        )
        shapes = set()
        with (
            torch.no_grad(),
            frozen(model, layer),
            tqdm(total=n_clips, unit="clip", desc="features", disable=not progress) as bar,
        ):
            for inputs, labels, lengths in loader:
                check_finite(inputs, "the inputs", writer.n_written)
                shapes.add(tuple(inputs.shape[1:]))
                own = None if columns is None else columns(lengths)
                # Written while the layer runs: what follows may change its output in place.
                write = partial(
                    writer.write, labels=labels, n_inputs=len(inputs), name=name, layout=layout, columns=own
                )
                with watched(layer, name, write, at_input=at_input):
                    model(inputs.to(device), *(() if lengths is None else (lengths.to(device),)))
                bar.update(len(inputs))
        if writer.n_written != n_clips:
            raise ValueError(
                f"expected `collate_fn` to keep all {n_clips} clips of the dataset, but {writer.n_written} came"
            )
        input_shape = shapes.pop() if len(shapes) == 1 and columns is None else None
        origin = Origin(name, layout, writer.grid, input_shape, fingerprint(model), n_clips, at_input)
        return writer.bank(origin)

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the bank to a folder of .npy arrays and one bank.json, which is written last: without it, nothing is a bank."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bank.json").unlink(missing_ok=True)
        for name, tensor in self._arrays().items():
            beside = (
                folder / f".{name}.npy"
            )  # then renamed: the array may be mapped from the very file that it replaces
            np.save(beside, tensor.cpu().numpy(), allow_pickle=False)
            os.replace(beside, folder / f"{name}.npy")
        about = {"format": _FORMAT, "arrays": list(self._arrays()), "origin": asdict(self.origin)}
        beside = folder / ".bank.json"
        beside.write_text(json.dumps(about))
        os.replace(beside, folder / "bank.json")

    @classmethod
    def load(cls, folder: str | os.PathLike) -> FeatureBank:
        """Maps a bank that `save` wrote into memory; nothing is unpickled, the files are never changed.

        Raises:
            ValueError: naming the folder, where it holds no whole bank.
        """
        folder = Path(folder)
        try:
            about = json.loads((folder / "bank.json").read_text())
            if about["format"] != _FORMAT:
                raise ValueError(f"its format is {about['format']!r}, not {_FORMAT!r}")
            # copy-on-write: torch wants a writable array, the file must stay as it is
            arrays = {
                name: torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False))
                for name in about["arrays"]
            }
            cells = {Scheme(name): tensor for name, tensor in arrays.items() if name not in ("means", "labels")}
            return cls(cells, arrays["means"], arrays.get("labels"), Origin.from_dict(about["origin"]))
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"expected {folder} to hold a feature bank, but it cannot be read: {error}") from error

    def _arrays(self) -> dict[str, Tensor]:
        arrays = {str(sequence): tensor for sequence, tensor in self.cells.items()} | {"means": self.means}
        return arrays if self.labels is None else arrays | {"labels": self.labels}


class _Writer:
    """Fills the bank's arrays batch by batch, in memory or in mapped files."""

    def __init__(
        self, n_clips: int, sequences: Sequence[Scheme], max_memory: int, folder: str | os.PathLike | None
    ) -> None:
        self.n_clips, self.sequences, self.max_memory = n_clips, sequences, max_memory
        self.folder = None if folder is None else os.fspath(folder)
        self.arrays: dict[Scheme, Tensor] = {}  # (clip, channel, row or 1, column or 1)
        self.means = torch.empty(0)
        self.labels: list[Tensor] = []
        self.grid: tuple[int, int] | None = None
        self.n_written = 0

    def write(
        self,
        features: Tensor,
        labels: Tensor | None,
        n_inputs: int,
        name: str,
        layout: Layout,
        columns: Tensor | None = None,
    ) -> None:
        grid = at_least_float32(layout.grid(features, repr(name)))
        if len(grid) != n_inputs or self.n_written + n_inputs > self.n_clips:
            raise ValueError(f"expected {name!r} to give one grid per clip, but got {len(grid)} for {n_inputs} clips")
        own = None if columns is None else column_mask(grid, checked_columns(columns, grid))
        check_finite(grid if own is None else grid.where(own, 0.0), f"the output of {name!r}", self.n_written)
        self._make_room(grid, name)
        rows = slice(self.n_written, self.n_written + len(grid))
        for sequence, array in self.arrays.items():
            cells = sequence.cells(grid, columns)[0].unflatten(2, _sides(sequence, grid)).to("cpu")
            array[rows, :, :, : cells.shape[3]] = cells
            array[rows, :, :, cells.shape[3] :] = torch.nan
        self.means[rows] = (grid.mean((2, 3)) if own is None else grid.where(own, torch.nan).nanmean((2, 3))).to("cpu")
        if labels is not None:
            self.labels.append(labels)
        self.n_written += len(grid)

    def bank(self, origin: Origin) -> FeatureBank:
        labels = torch.cat(self.labels) if self.labels else None
        return FeatureBank(
            {sequence: array.flatten(2) for sequence, array in self.arrays.items()}, self.means, labels, origin
        )

    def _make_room(self, grid: Tensor, name: str) -> None:
        """Arrays for grids of this size; a clip that is longer than all before it makes them wider."""
        n_rows, n_columns = grid.shape[2:]
        if self.grid is None:
            self.means = torch.empty(self.n_clips, grid.shape[1], dtype=grid.dtype)
        elif self.grid[0] != n_rows:
            raise ValueError(
                f"expected {name!r} to give a grid of {self.grid[0]} frequency rows for every clip, but got {n_rows} from clip "
                f"{self.n_written} on"
            )
        if self.grid is None or self.grid[1] < n_columns:
            self.grid = (n_rows, n_columns)
            self._allocate(grid)

    def _allocate(self, grid: Tensor) -> None:
        shapes = {sequence: (self.n_clips, grid.shape[1], *_sides(sequence, grid)) for sequence in self.sequences}
        in_memory = sum(math.prod(shape) for shape in shapes.values()) * grid.element_size() <= self.max_memory
        for sequence, shape in shapes.items():
            narrower = self.arrays.get(sequence)
            if narrower is not None and tuple(narrower.shape) == shape:
                continue
            wider = torch.empty(shape, dtype=grid.dtype) if in_memory else self._map(shape, grid.dtype)
            if narrower is not None:
                wider[: self.n_written, :, :, : narrower.shape[3]] = narrower[: self.n_written]
                wider[: self.n_written, :, :, narrower.shape[3] :] = torch.nan
            self.arrays[sequence] = wider

    def _map(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An array in a file without a name, which the system removes with the last tensor that uses it."""
        with tempfile.TemporaryFile(dir=self.folder) as file:
            return torch.from_numpy(np.memmap(file, torch.empty(0, dtype=dtype).numpy().dtype, "w+", shape=shape))


def _sides(sequence: Scheme, grid: Tensor) -> tuple[int, int]:
    """Rows and columns of a sequence's cells."""
    return (1 if sequence is Scheme.TIME else grid.shape[2], 1 if sequence is Scheme.FREQUENCY else grid.shape[3])


def _wanted(schemes: Iterable[Scheme | str]) -> tuple[Scheme, ...]:
    chosen = [Scheme(schemes)] if isinstance(schemes, str) else [Scheme(scheme) for scheme in schemes]
    sequences = {sequence for scheme in chosen for sequence in scheme.sequences}
    return tuple(sequence for sequence in SCHEMES if sequence in sequences)


def _length(dataset: Dataset | Sequence) -> int:
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise TypeError(
            f"expected a map-style dataset (with __getitem__ and __len__), so that a prototype's index means a clip, but got "
            f"{type(dataset).__name__}; put an iterable one into a list first"
        )
    n_clips = len(dataset)
    if n_clips == 0:
        raise ValueError("expected a dataset with at least one clip, but it is empty")
    return n_clips


def _device(layer: nn.Module, model: Callable) -> torch.device:
    owner = model_of(model) or layer
    return next((tensor.device for tensor in (*owner.parameters(), *owner.buffers())), torch.device("cpu"))
