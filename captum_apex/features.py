"""What the explained layer gave for every clip of a dataset, taken in one pass."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate
from tqdm.auto import tqdm

from captum_apex.layers import (
    Layout,
    Origin,
    at_least_float32,
    check_finite,
    fingerprint,
    frozen,
    layer_name,
    model_of,
    on_one_device,
    watched,
)
from captum_apex.schemes import SCHEMES, Scheme

__all__ = ["FeatureBank"]

_FORMAT = "captum-apex bank 1"


@dataclass(frozen=True, eq=False)
class FeatureBank:
    """The cells of every clip, for the schemes asked for, and each clip's mean over the grid.

    Only what fitting needs is kept: one row of cells per clip for `time` and for `frequency`, the full grid where
    `square` is wanted.

    Args:
        cells: for each sequence (`square`, `time`, `frequency`), (clip, channel, cell).
        means: mean over the grid, (clip, channel).
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
            dataset: items are `inputs` or `(inputs, label)`; `inputs` of one shape, or made so by `collate_fn`.
            schemes: what the bank is for.
            layout: for outputs that are not (clip, channel, frequency, time), an einops pattern, or (pattern, axis sizes).
            at_input: take what goes into the layer instead of what comes out.
            batch_size: clips per forward pass.
            collate_fn: makes a batch of items, `inputs` or `(inputs, labels)`.
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
        model = on_one_device(model)
        name = layer_name(model, layer)
        n_clips = _length(dataset)
        writer = _Writer(n_clips, _wanted(schemes), max_memory, folder)
        layout = Layout.of(layout)
        # A generator of its own: a DataLoader otherwise draws a seed from the global one.
        loader = DataLoader(
            cast(Dataset, dataset), batch_size, num_workers=num_workers, collate_fn=_Collate(collate_fn), generator=torch.Generator()
        )
        device = _device(layer, model) if device is None else torch.device(device)
        input_shape: tuple[int, ...] | None = None
        with torch.no_grad(), frozen(model, layer), tqdm(total=n_clips, unit="clip", desc="features", disable=not progress) as bar:
            for inputs, labels in loader:
                check_finite(inputs, "the inputs", writer.n_written)
                input_shape = tuple(inputs.shape[1:])
                # Written while the layer runs: what follows may change its output in place.
                write = partial(writer.write, labels=labels, n_inputs=len(inputs), name=name, layout=layout)
                with watched(layer, name, write, at_input=at_input):
                    model(inputs.to(device))
                bar.update(len(inputs))
        if writer.n_written != n_clips:
            raise ValueError(f"expected `collate_fn` to keep all {n_clips} clips of the dataset, but {writer.n_written} came")
        origin = Origin(name, layout, writer.grid, input_shape, fingerprint(model), n_clips, at_input)
        return writer.bank(origin)

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the bank to a folder of .npy arrays and one bank.json, which is written last: without it, nothing is a bank."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "bank.json").unlink(missing_ok=True)
        for name, tensor in self._arrays().items():
            beside = folder / f".{name}.npy"  # then renamed: the array may be mapped from the very file that it replaces
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
                name: torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False)) for name in about["arrays"]
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

    def __init__(self, n_clips: int, sequences: Sequence[Scheme], max_memory: int, folder: str | os.PathLike | None) -> None:
        self.n_clips, self.sequences, self.max_memory = n_clips, sequences, max_memory
        self.folder = None if folder is None else os.fspath(folder)
        self.cells: dict[Scheme, Tensor] = {}
        self.means = torch.empty(0)
        self.labels: list[Tensor] = []
        self.grid: tuple[int, int] | None = None
        self.n_written = 0

    def write(self, features: Tensor, labels: Tensor | None, n_inputs: int, name: str, layout: Layout) -> None:
        grid = at_least_float32(layout.grid(features, repr(name)))
        if len(grid) != n_inputs or self.n_written + n_inputs > self.n_clips:
            raise ValueError(f"expected {name!r} to give one grid per clip, but got {len(grid)} for {n_inputs} clips")
        check_finite(grid, f"the output of {name!r}", self.n_written)
        size = (grid.shape[2], grid.shape[3])
        if self.grid is None:
            self._allocate(grid)
            self.grid = size
        if self.grid != size:
            raise ValueError(
                f"expected {name!r} to give a grid of {self.grid} for every clip, but got {size} from clip {self.n_written} on; "
                "pad or cut the clips to one length in `collate_fn`"
            )
        rows = slice(self.n_written, self.n_written + len(grid))
        for sequence in self.sequences:
            self.cells[sequence][rows] = sequence.cells(grid)[0].to("cpu")
        self.means[rows] = grid.mean((2, 3)).to("cpu")
        if labels is not None:
            self.labels.append(labels)
        self.n_written += len(grid)

    def bank(self, origin: Origin) -> FeatureBank:
        labels = torch.cat(self.labels) if self.labels else None
        return FeatureBank(self.cells, self.means, labels, origin)

    def _allocate(self, grid: Tensor) -> None:
        n_channels, n_rows, n_columns = grid.shape[1:]
        n_cells = {Scheme.SQUARE: n_rows * n_columns, Scheme.TIME: n_columns, Scheme.FREQUENCY: n_rows}
        shapes = {sequence: (self.n_clips, n_channels, n_cells[sequence]) for sequence in self.sequences}
        in_memory = sum(math.prod(shape) for shape in shapes.values()) * grid.element_size() <= self.max_memory
        for sequence, shape in shapes.items():
            self.cells[sequence] = torch.empty(shape, dtype=grid.dtype) if in_memory else self._map(shape, grid.dtype)
        self.means = torch.empty(self.n_clips, n_channels, dtype=grid.dtype)

    def _map(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An array in a file without a name, which the system removes with the last tensor that uses it."""
        with tempfile.TemporaryFile(dir=self.folder) as file:
            return torch.from_numpy(np.memmap(file, torch.empty(0, dtype=dtype).numpy().dtype, "w+", shape=shape))


class _Collate:
    """Makes `(inputs, labels)` of a list of items, labels None where there are none; a class so that workers can have it."""

    def __init__(self, collate_fn: Callable | None) -> None:
        self.collate_fn = collate_fn

    def __call__(self, items: list[Any]) -> tuple[Tensor, Tensor | None]:
        if self.collate_fn is None:
            _check_shapes(items)
        batch = (self.collate_fn or default_collate)(items)
        if isinstance(batch, Tensor):
            return batch, None
        inputs, labels = batch if isinstance(batch, (tuple, list)) and len(batch) == 2 else (None, None)
        if not isinstance(inputs, Tensor):
            raise TypeError(
                "expected the dataset's items to be `inputs` or `(inputs, label)` with `inputs` a tensor, "
                f"but got {_described(items[0])}; pass a `collate_fn` that returns (inputs, labels)"
            )
        return inputs, _label_tensor(labels)


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


def _check_shapes(items: list[Any]) -> None:
    clips = [item[0] if isinstance(item, (tuple, list)) and item else item for item in items]
    shapes = [tuple(clip.shape) for clip in clips if hasattr(clip, "shape")]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"expected clips of one shape, but got {shapes[0]} and {next(s for s in shapes if s != shapes[0])}; pass a `collate_fn`"
        )


def _label_tensor(labels: Any) -> Tensor:
    try:
        return torch.as_tensor(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"expected labels to be numbers or tensors, but got {_described(labels)}; map class names to indices first"
        ) from error


def _described(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__} ({', '.join(type(part).__name__ for part in value)})"
    return type(value).__name__
