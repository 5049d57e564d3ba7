"""The feature bank: the explained layer's output for every clip of a dataset, from one pass over the dataset."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from captum_apex.bases.bank_folder import check_bank, read_bank, write_bank
from captum_apex.bases.bank_writer import BankWriter
from captum_apex.bases.clip_loading import ClipLoading
from captum_apex.bases.feature_pass import FeaturePass
from captum_apex.bases.joined_parts import has_parts, read_parts
from captum_apex.bases.part_writer import PartWriter, clips_of_part, opened_part
from captum_apex.bases.schemes import SCHEMES, Scheme, sequences_of
from captum_apex.bases.summaries import layer_in_words
from captum_apex.layers.layout import Layout
from captum_apex.layers.models import device_of, layer_name, model_of, on_one_device
from captum_apex.layers.origin import Origin
from captum_apex.layers.padding import Columns
from captum_apex.layers.pooled_norm import PooledNorm
from captum_apex.result_tables import counted, html_table

__all__ = ["FeatureBank"]


@dataclass(frozen=True, eq=False, repr=False)
class FeatureBank:
    """The cells of every clip for the requested schemes, and the mean over each clip's grid.

    The bank stores what fitting needs: one sequence of cells per clip for `time` and for `frequency`, and the full grid
    for `square`.

    Args:
        cells: cells of each sequence (`square`, `time`, `frequency`), each (clip, channel, cell). Where clips have
            several lengths, there are as many cells as the longest clip has, and NaN in place of the missing cells of
            shorter clips.
        means: mean over the clip's grid, (clip, channel).
        labels: labels of the clips, (clip,) or (clip, class); None where the dataset has none.
        origin: the layer, the grid and the weights that the features come from.
        part: (i, n) where the clips are the i-th of n parts of a dataset, as in `from_dataset`.

    Example:
        >>> import torch
        >>> from captum_apex import FeatureBank
        >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.AdaptiveAvgPool2d(1))
        >>> clips = [torch.tensor([[[0.0, 1.0], [2.0, 3.0]]]), torch.ones(1, 2, 2)]
        >>> bank = FeatureBank.from_dataset(model, model[0], clips)
        >>> bank.means.tolist()
        [[1.5], [1.0]]
        >>> bank.sequences("time")[0].tolist()
        [[[1.0, 2.0]], [[1.0, 1.0]]]
    """

    cells: dict[Scheme, Tensor]
    means: Tensor
    labels: Tensor | None
    origin: Origin
    part: tuple[int, int] | None = None

    @property
    def n_clips(self) -> int:
        """Number of clips in the dataset."""
        return self.means.shape[0]

    @property
    def n_channels(self) -> int:
        """Number of channels of the layer."""
        return self.means.shape[1]

    def sequences(self, scheme: Scheme | str) -> tuple[Tensor, ...]:
        """The cells of each of a scheme's sequences, each (clip, channel, cell).

        Raises:
            ValueError: the grid does not support the scheme, or the bank has no cells for it.
        """
        scheme = Scheme(scheme)
        if self.origin.grid is not None:
            scheme.check(*self.origin.grid, layer=repr(self.origin.layer))
        missing = [str(sequence) for sequence in scheme.sequences if sequence not in self.cells]
        if missing:
            raise ValueError(
                f"expected a bank with the cells of {str(scheme)!r}, but it was made for "
                f"{', '.join(map(str, self.cells))}; pass schemes=[..., {str(scheme)!r}] to `FeatureBank.from_dataset`"
            )
        return tuple(self.cells[sequence] for sequence in scheme.sequences)

    @cached_property
    def columns(self) -> Tensor | None:
        """Number of columns of each clip's grid, int64 (clip,).

        None where all clips have the same number, or where the bank has only the cells of `frequency`, which do not
        depend on it.
        """
        sequence = next((each for each in (Scheme.TIME, Scheme.SQUARE) if each in self.cells), None)
        if sequence is None:
            return None
        n_rows = self.origin.grid[0] if sequence is Scheme.SQUARE and self.origin.grid else 1
        first_row = self.cells[sequence][:, 0].unflatten(1, (n_rows, -1))[:, 0]  # (clip, cell) → (clip, time)
        columns = first_row.isfinite().sum(1)
        return None if (columns == first_row.shape[1]).all() else columns

    def _knowing(self, columns: Tensor | None) -> FeatureBank:
        vars(self)["columns"] = columns  # the cached property, which would read the cells
        return self

    def only(self, scheme: Scheme | str) -> FeatureBank:
        """The bank with the cells of one scheme; nothing is copied.

        Raises:
            ValueError: as in `sequences`.
        """
        cells = dict(zip(Scheme(scheme).sequences, self.sequences(scheme), strict=True))
        return FeatureBank(cells, self.means, self.labels, self.origin, self.part)._knowing(self.columns)

    def to(self, device: torch.device | str) -> FeatureBank:
        """The bank on a device; fitting runs on the device of the bank."""
        cells = {sequence: tensor.to(device) for sequence, tensor in self.cells.items()}
        labels = None if self.labels is None else self.labels.to(device)
        bank = FeatureBank(cells, self.means.to(device), labels, self.origin, self.part)
        if "columns" not in vars(self):
            return bank
        return bank._knowing(None if self.columns is None else self.columns.to(device))

    @classmethod
    def from_dataset(
        cls,
        model: Callable,
        layer: nn.Module,
        dataset: Dataset | Sequence | DataLoader,
        *,
        schemes: Iterable[Scheme | str] = SCHEMES,
        layout: Layout | str | tuple | None = None,
        at_input: bool = False,
        input_layout: str | None = None,
        places: bool = True,
        norm: nn.Module | None = None,
        batch_size: int = 32,
        collate_fn: Callable | None = None,
        columns: Columns | None = None,
        num_workers: int = 0,
        device: torch.device | str | None = None,
        max_memory: int = 2**32,
        folder: str | os.PathLike | None = None,
        part: tuple[int, int] | None = None,
        dtype: torch.dtype | None = None,
        progress: bool = False,
    ) -> FeatureBank:
        """Runs the model once over a map-style dataset, in its order, and stores the layer's output.

        Args:
            model: the classifier, or a function that runs it; set to evaluation mode meanwhile and restored. One that
                returns more than its scores is given as a `SelectedOutput`.
            layer: the module to explain, a submodule of the model. Where it gives a tuple, as a recurrent layer does,
                the first tensor is explained.
            dataset: the clips; its items are `inputs` or `(inputs, label)`, or `(inputs, label, argument, ...)` with
                further arguments of the model for the clip, such as its attention mask; the label is None where there
                is none. The inputs of a batch have one shape, or `collate_fn` brings them to one. With `batch_size=1`,
                clips of any length serve every model. A `DataLoader` that goes through such a dataset in its order
                brings `batch_size`, `num_workers` and `collate_fn`.
            schemes: the schemes that bases can be fitted for.
            layout: an einops pattern, or (pattern, axis sizes), for outputs that are not (clip, channel, frequency,
                time).
            at_input: take the input of the layer instead of its output.
            input_layout: axes of the inputs, such as `"n f t"`, as in `APEX`; None derives them from the shape.
            places: find where the cells of the layer lie in the input, for `Origin.places`: some 60 to 250 altered
                copies of the first clip run up to the layer. Without it, or where the axes of the inputs are ambiguous,
                the cells are taken to fill the input.
            norm: the norm between the pooling and the classifier, a layer normalisation or a batch normalisation. It is
                then applied to the grid before the pooling (see `captum_apex.layers.PooledNorm`), and bases of this
                bank explain the normalised grid. It is for models that take the mean over the grid, the norm and a
                linear layer, such as ConvNeXt. By default the grid of the layer itself.
            batch_size: number of clips per forward pass. There is a warning where the features of the first clip are
                others in its batch than alone, as in models that normalise with the statistics of the batch.
            collate_fn: function that makes a batch from a list of items: `inputs`, `(inputs, labels)` or
                `(inputs, labels, argument, ...)`; with `columns`, the lengths are the first of these arguments.
            columns: function from the clips' lengths, int64 (clip,), to the number of columns that each clip has in the
                layer's grid, int64 (clip,). It is for a model that takes batches of padded clips, as
                `model(inputs, lengths)`, and ignores the padding. Clips are padded with zeros at the end of their last
                axis, unless `collate_fn` pads them. Padding is never a peak and does not count in means.
            num_workers: number of processes that load clips, in pinned memory for a GPU.
            device: device of the inputs; by default the device of the model's parameters.
            max_memory: number of bytes that the arrays may take in memory; larger arrays are memory-mapped files in the
                system's temporary folder, which have no name and are removed with the bank.
            folder: folder that keeps the features while they are made. After an interruption or a kill, the same call
                goes on at the clip that it had come to, and when all are there it runs the model no more. The
                arrays of the bank are mapped files of this folder. `FeatureBank.load` reads it.
            part: (i, n) to make the i-th of n contiguous parts of the dataset, counted from 0, for instance in a
                process or on a machine of its own, with the same `folder` and settings. `FeatureBank.load` joins the
                parts, and `fit_basis` takes the part of each process of a group. Otherwise the bank of a part is that
                of a dataset of its own.
            dtype: `torch.float16` to store cells in half precision, which takes half of the room. Fits compute in the
                precision of the means, which stays. A purity in an orthogonal basis then changes by at most 0.001,
                unless another cell becomes the peak. By default the precision of the features, at least float32.
            progress: show a progress bar.

        Raises:
            TypeError: the dataset is iterable-style, or its items are of another kind.
            OSError: the disk has no room for the arrays.
            ValueError: the dataset is empty; the folder has features of another model, layer, layout, dataset or dtype,
                as the message says; the model does not return one tensor; the layer is not a submodule of the
                model, runs twice or never, or gives no tensor; clips differ in shape; inputs or features have NaN
                or infinity (the message names the clip).
        """
        collating = {"padded": columns is not None, "complete": folder is not None}
        loading = ClipLoading.of(dataset, batch_size, num_workers, collate_fn, **collating)
        device = device_of(model_of(model) or layer) if device is None else torch.device(device)
        model = on_one_device(model)
        about: dict[str, Any] = {"at_input": at_input, "columns": columns, "input_layout": input_layout}
        features = FeaturePass(model, layer, loading, device, **about, places=places, progress=progress)
        settings = {"layer": features.name, "layout": Layout.of(layout), "norm": _pooled_norm(model, norm)}
        settings |= {"sequences": sequences_of(schemes), "dtype": dtype}
        with _writer(features, settings, max_memory, folder, part) as writer:
            origin = features.write(writer)
        bank = cls(writer.cells, writer.means, writer.labels, origin, None if part is None else (part[0], part[1]))
        return bank if columns is not None else bank._knowing(writer.columns)

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the bank to a folder: an .npy file per array, and bank.json with their names and checksums.

        A bank that the folder holds is replaced as a whole: a save that is interrupted, also by a kill or a full disk,
        leaves the old bank. The files that belong to no bank are deleted by the next save, other files stay.

        Raises:
            OSError: a file cannot be written; the error names it.
            ValueError: the arrays do not fit each other, or have NaN or infinity.
        """
        arrays = self._arrays()
        check_bank(arrays, self.origin)
        write_bank(Path(folder), arrays, asdict(self.origin))

    @classmethod
    def load(cls, folder: str | os.PathLike) -> FeatureBank:
        """Reads a bank that `save` wrote, or the parts of one; nothing is unpickled, and the files are never changed.

        A bank of more than 4 GiB is not read into memory but mapped. Its files may be replaced by another `save` while
        it is in use, but must not be overwritten in place.

        The parts that `from_dataset` has written to a `folder` are joined; all must be there. Where they have more than
        4 GiB, and there are several or clips of several lengths, each call makes a copy in files without a name in the
        folder; `save` keeps it for later calls.

        Every file is compared with its checksum. Banks of versions before the checksum load as well; damage in their
        files is noticed only where shapes do not fit or values are not finite.

        Raises:
            ValueError: the folder holds no complete bank, or a damaged one.
        """
        folder = Path(folder)
        try:
            arrays, origin, is_even = _read(folder)
            cells = {Scheme(name): tensor for name, tensor in arrays.items() if name not in ("means", "labels")}
            bank = cls(cells, arrays["means"], arrays.get("labels"), origin)
            return bank._knowing(None) if is_even else bank
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"expected {folder} to hold a feature bank, but it cannot be read: {error}") from error

    def __repr__(self) -> str:
        return "\n".join([self._title(), *(f"  {name}: {text}" for name, text in self._summary())])

    def _repr_html_(self) -> str:
        return html_table([], self._summary(), self._title())

    def _title(self) -> str:
        return f"FeatureBank of {counted(self.n_clips, 'clip')}, {counted(self.n_channels, 'channel')}"

    def _summary(self) -> list[tuple[str, str]]:
        schemes = [str(each) for each in SCHEMES if all(sequence in self.cells for sequence in each.sequences)]
        labels = "none"
        if self.labels is not None:
            labels = "one per clip" if self.labels.dim() == 1 else f"{self.labels.shape[1]} classes per clip"
        n_bytes = sum(array.nbytes for array in self._arrays().values())
        return [
            ("layer", layer_in_words(self.origin)),
            ("schemes", ", ".join(schemes)),
            ("labels", labels),
            ("size", f"{n_bytes / 1e6:.1f} MB" if n_bytes > 1e6 else f"{n_bytes / 1e3:.1f} kB"),
        ]

    def _arrays(self) -> dict[str, Tensor]:
        """The tensors of the bank by the names of their files."""
        arrays = {str(sequence): tensor for sequence, tensor in self.cells.items()} | {"means": self.means}
        return arrays if self.labels is None else arrays | {"labels": self.labels}


def _read(folder: Path) -> tuple[dict[str, Tensor], Origin, bool]:
    """The arrays and the origin of a bank that was saved, or of its parts; and whether no cell is known as padding."""
    if has_parts(folder) and not (folder / "bank.json").exists():
        return read_parts(folder)  # their values were checked when they were written, and their files now
    arrays, fields_of_origin = read_bank(folder)
    origin = Origin.from_dict(fields_of_origin)
    check_bank(arrays, origin)
    return arrays, origin, False


def _pooled_norm(model: Callable, norm: nn.Module | None) -> PooledNorm | None:
    """The norm with its name, after a check that the name says which module it is."""
    if norm is None:
        return None
    if model_of(model) is None:
        raise ValueError(f"expected `model` to be a module where `norm` is given, but got {type(model).__name__}")
    return PooledNorm(norm, layer_name(model, norm))


def _writer(
    features: FeaturePass,
    settings: dict[str, Any],
    max_memory: int,
    folder: str | os.PathLike | None,
    part: tuple[int, int] | None,
) -> AbstractContextManager[BankWriter | PartWriter]:
    """What the features are written to: arrays of their own, or the files of a part where a folder keeps them."""
    n_clips = features.loading.n_clips
    if folder is None:
        if part is not None:
            raise ValueError(f"expected a `folder` that keeps the part {part}, but there is none")
        return nullcontext(BankWriter(n_clips, max_memory=max_memory, **settings))
    part = (0, 1) if part is None else part
    clips = clips_of_part(part, n_clips, features.loading.batch_size)
    about = {
        "n_clips": n_clips,
        "layer": features.name,
        "layout": asdict(settings["layout"]),
        "at_input": features.at_input,
        "norm": "" if settings["norm"] is None else settings["norm"].name,
        "weights": features.fingerprint,
        "dataset": features.loading.fingerprint,
        "dtype": "" if settings["dtype"] is None else str(settings["dtype"]),
        "padded": features.columns is not None,
    }
    return opened_part(folder, part, clips, about, settings, max_memory)
