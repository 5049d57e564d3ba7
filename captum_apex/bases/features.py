"""The feature bank: the explained layer's output for every clip of a dataset, from one pass over the dataset."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset
from tqdm.auto import tqdm

from captum_apex.bases.bank_folder import check_bank, read_bank, write_bank
from captum_apex.bases.bank_writer import BankWriter
from captum_apex.bases.collation import Collate, first_clip, naming_arguments
from captum_apex.bases.neighbours import warn_of_neighbours
from captum_apex.bases.schemes import SCHEMES, Scheme, sequences_of
from captum_apex.bases.summaries import layer_in_words
from captum_apex.caller import warn_caller
from captum_apex.layers.changes import restored
from captum_apex.layers.hooks import frozen, watched
from captum_apex.layers.layout import Layout, LayoutError, check_layout
from captum_apex.layers.models import device_of, fingerprint, layer_name, model_of, on_one_device
from captum_apex.layers.origin import Origin
from captum_apex.layers.padding import Columns
from captum_apex.layers.placing import cell_places
from captum_apex.layers.pooled_norm import PooledNorm
from captum_apex.layers.suggestions import suggested_layout
from captum_apex.layers.values import check_finite, checked_output, naming_clips
from captum_apex.numbers import whole_number
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

    def to(self, device: torch.device | str) -> FeatureBank:
        """The bank on a device; fitting runs on the device of the bank."""
        cells = {sequence: tensor.to(device) for sequence, tensor in self.cells.items()}
        labels = None if self.labels is None else self.labels.to(device)
        columns = None if self.columns is None else self.columns.to(device)
        return FeatureBank(cells, self.means.to(device), labels, self.origin)._knowing(columns)

    @classmethod
    @restored
    def from_dataset(
        cls,
        model: Callable,
        layer: nn.Module,
        dataset: Dataset | Sequence,
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
                clips of any length serve every model.
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
            num_workers: number of processes that load clips.
            device: device of the inputs; by default the device of the model's parameters.
            max_memory: number of bytes that the arrays may take in memory; larger arrays are memory-mapped files.
            folder: folder of the mapped files, which have no name and are removed with the bank. By default the
                system's temporary folder.
            progress: show a progress bar.

        Raises:
            TypeError: the dataset is iterable-style, or its items are of another kind.
            ValueError: the dataset is empty; the model does not return one tensor; the layer is not a submodule of the
                model, runs twice or never, or gives no tensor; clips differ in shape; inputs or features have NaN
                or infinity (the message names the clip).
        """
        batch_size = whole_number(batch_size, "batch_size", least=1)
        device = device_of(model_of(model) or layer) if device is None else torch.device(device)
        model = on_one_device(model)
        name = layer_name(model, layer)
        settings = (name, Layout.of(layout), max_memory, folder, _pooled_norm(model, norm))
        writer = BankWriter(_length(dataset), sequences_of(schemes), *settings)
        loader = _loader(dataset, batch_size, num_workers, Collate(collate_fn, padded=columns is not None))
        input_shapes: set[tuple[int, ...]] = set()
        first: list[Any] = []
        bar = tqdm(total=writer.n_clips, unit="clip", desc="running the model", disable=not progress)
        proposing = _proposing_layout(model, layer, dataset, at_input)
        with bar, torch.no_grad(), naming_clips(_clip_names(dataset)), proposing:
            for inputs, labels, arguments in loader:
                check_finite(inputs, "the inputs", writer.n_written)
                input_shapes.add(tuple(inputs.shape[1:]))
                first = first or _on_device(device, *first_clip(inputs, arguments))
                about = {"labels": labels, "columns": None if columns is None else columns(arguments[0])}
                write = partial(_checked_write, layer, writer, n_inputs=len(inputs), **about)
                with watched(layer, name, write, at_input=at_input), _checked_norm(writer), frozen(model, layer):
                    _run(model, *_on_device(device, inputs, *arguments))
                bar.update(len(inputs))
        writer.check_complete()
        if batch_size > 1:
            warn_of_neighbours(model, layer, writer, first, columns, at_input=at_input)
        input_shape = _only(input_shapes) if columns is None else None
        record = (input_shape, fingerprint(model), writer.n_clips, at_input, _fingerprint_of(dataset))
        origin = Origin(name, writer.layout, writer.grid, *record, "" if writer.norm is None else writer.norm.name)
        origin = _placed(origin, model, layer, first, input_layout) if places else origin
        return cls(writer.cells, writer.means, writer.labels, origin)._knowing(writer.columns)

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
        """Reads a bank that `save` wrote; nothing is unpickled, and the files are never changed.

        A bank of more than 4 GiB is not read into memory but mapped. Its files may be replaced by another `save` while
        it is in use, but must not be overwritten in place.

        Every file is compared with its checksum. Banks of versions before the checksum load as well; damage in their
        files is noticed only where shapes do not fit or values are not finite.

        Raises:
            ValueError: the folder holds no complete bank, or a damaged one.
        """
        folder = Path(folder)
        try:
            arrays, fields_of_origin = read_bank(folder)
            origin = Origin.from_dict(fields_of_origin)
            check_bank(arrays, origin)
            cells = {Scheme(name): tensor for name, tensor in arrays.items() if name not in ("means", "labels")}
            return cls(cells, arrays["means"], arrays.get("labels"), origin)
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


def _only(shapes: set[tuple[int, ...]]) -> tuple[int, ...] | None:
    """The shape that all inputs have; None where there are several."""
    return next(iter(shapes)) if len(shapes) == 1 else None


def _fingerprint_of(dataset: Dataset | Sequence) -> str:
    """The fingerprint of a dataset that has one, such as `captum_apex.classifiers.InputDataset`; empty for others."""
    fingerprint_of = getattr(dataset, "fingerprint", None)
    given = fingerprint_of() if callable(fingerprint_of) else ""
    return given if isinstance(given, str) else ""


def _clip_names(dataset: Dataset | Sequence) -> Callable[[int], str]:
    """The name of a clip for messages: what the dataset calls it, or its index."""
    name = getattr(dataset, "name", None)
    return name if callable(name) else "clip {}".format


@contextmanager
def _proposing_layout(model: Callable, layer: nn.Module, dataset: Dataset | Sequence, at_input: bool) -> Iterator[None]:
    """Where the layout does not fit the layer, the error proposes one that does."""
    try:
        yield
    except LayoutError as error:
        suggested = None
        with suppress(Exception):  # items that only `collate_fn` understands, for instance
            suggested = None if at_input else suggested_layout(model, layer, dataset[0])
        if suggested is None:
            raise
        raise error.with_layout(*suggested) from error


def _run(model: Callable, inputs: Tensor, *arguments: Tensor) -> None:
    with naming_arguments(arguments):
        checked_output(model(inputs, *arguments), model)


def _checked_write(layer: nn.Module, writer: BankWriter, output: Tensor, **about_batch: Any) -> None:
    """Writes a batch; the first, after a check that the layout is that of the layer.

    It is called while the layer runs, because the modules after the layer may change the tensor in place.
    """
    if writer.n_written == 0:
        check_layout(writer.layout, layer, output, repr(writer.layer))
    writer.write(output, **about_batch)


def _placed(origin: Origin, model: Callable, layer: nn.Module, first: list[Any], input_layout: str | None) -> Origin:
    """The record with the places of the cells; a warning where the model does not take altered copies of a clip.

    Args:
        origin: the record without places.
        model: the model.
        layer: the layer.
        first: the inputs of the first clip, and its further arguments.
        input_layout: axes of the inputs.
    """
    clip, *arguments = first
    layouts: dict[str, Any] = {"layout": origin.layout, "input_layout": input_layout, "at_input": origin.at_input}
    try:
        return replace(origin, places=cell_places(model, layer, clip, arguments=tuple(arguments), **layouts))
    except Exception as error:
        warn_caller(
            "the cells of the layer are taken to fill the input, which is wrong where the layer is not padded, because "
            f"the model does not run on altered copies of the first clip ({type(error).__name__}: {error})"
        )
        return origin


def _on_device(device: torch.device, *values: Any) -> list[Any]:
    return [value.to(device) if isinstance(value, Tensor) else value for value in values]


def _pooled_norm(model: Callable, norm: nn.Module | None) -> PooledNorm | None:
    """The norm with its name, after a check that the name says which module it is."""
    if norm is None:
        return None
    if model_of(model) is None:
        raise ValueError(f"expected `model` to be a module where `norm` is given, but got {type(model).__name__}")
    return PooledNorm(norm, layer_name(model, norm))


def _checked_norm(writer: BankWriter) -> AbstractContextManager[None]:
    """Compares the output of the norm with the means that were written; nothing without a norm."""
    if writer.norm is None:
        return nullcontext()
    return watched(writer.norm.module, writer.norm.name, writer.check_norm)


def _length(dataset: Dataset | Sequence) -> int:
    """The number of clips in a dataset, after a check that its items can be indexed."""
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise TypeError(
            "expected a map-style dataset (with __getitem__ and __len__), so that a prototype's index means a clip, "
            f"but got {type(dataset).__name__}; put an iterable one into a list first"
        )
    n_clips = 0 if isinstance(dataset, Tensor) and not dataset.dim() else len(dataset)
    if n_clips == 0:
        raise ValueError("expected a dataset with at least one clip, but it is empty")
    return n_clips


def _loader(dataset: Dataset | Sequence, batch_size: int, num_workers: int, collate: Collate) -> DataLoader:
    """Batches of clips in the order of the dataset."""
    # Without a generator, a DataLoader draws a seed from the global random state.
    generator = torch.Generator()
    return DataLoader(
        cast(Dataset, dataset), batch_size, num_workers=num_workers, collate_fn=collate, generator=generator
    )
