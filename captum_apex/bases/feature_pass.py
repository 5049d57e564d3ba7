"""One pass of a model over a dataset, which gives the features of a layer to a writer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset
from tqdm.auto import tqdm

from captum_apex.bases.bank_writer import BankWriter
from captum_apex.bases.collation import Collate, first_clip, naming_arguments
from captum_apex.bases.neighbours import warn_of_neighbours
from captum_apex.bases.part_writer import PartWriter
from captum_apex.caller import warn_caller
from captum_apex.layers.changes import restored
from captum_apex.layers.hooks import frozen, watched
from captum_apex.layers.layout import LayoutError, check_layout
from captum_apex.layers.models import fingerprint, layer_name
from captum_apex.layers.origin import Origin
from captum_apex.layers.padding import Columns
from captum_apex.layers.placing import cell_places
from captum_apex.layers.suggestions import suggested_layout
from captum_apex.layers.values import check_finite, checked_output, naming_clips
from captum_apex.progress import bar_settings

__all__ = ["FeaturePass", "dataset_fingerprint", "dataset_length"]


@dataclass(frozen=True)
class FeaturePass:
    """A pass of a model over a dataset; the arguments are those of `FeatureBank.from_dataset`.

    Args:
        model: the model.
        layer: the explained layer.
        dataset: the clips.
        batch_size: number of clips per forward pass.
        num_workers: number of processes that load clips.
        collate: makes a batch from a list of items.
        device: device of the inputs.
        at_input: whether the features are the layer's input.
        columns: function from lengths to columns for batches of padded clips.
        input_layout: axes of the inputs.
        places: whether the places of the cells are found.
        progress: whether to show a progress bar.

    Example:
        >>> import torch
        >>> from captum_apex import Scheme
        >>> from captum_apex.bases.bank_writer import BankWriter
        >>> from captum_apex.bases.collation import Collate
        >>> from captum_apex.bases.feature_pass import FeaturePass
        >>> from captum_apex.layers import Layout
        >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.AdaptiveAvgPool2d(1))
        >>> features = FeaturePass(model, model[0], [torch.ones(1, 2, 2)], 1, 0, Collate(None, False), "cpu")
        >>> writer = BankWriter(1, [Scheme.TIME], "0", Layout())
        >>> features.write(writer).grid, writer.means
        ((2, 2), tensor([[1.]]))
    """

    model: Callable
    layer: nn.Module
    dataset: Dataset | Sequence
    batch_size: int
    num_workers: int
    collate: Collate
    device: torch.device | str
    at_input: bool = False
    columns: Columns | None = None
    input_layout: str | None = None
    places: bool = True
    progress: bool = False

    @cached_property
    def name(self) -> str:
        """Name of the layer in the model."""
        return layer_name(self.model, self.layer)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the model's weights."""
        return fingerprint(self.model)

    @restored
    def write(self, writer: BankWriter | PartWriter) -> Origin:
        """Runs the model over the clips that are not yet written.

        Args:
            writer: takes the features of each batch. A part that is complete is not changed, and the model is not run.

        Returns:
            The layer, the grid and the weights that the features come from.
        """
        clips = writer.clips if isinstance(writer, PartWriter) else range(writer.n_clips)
        first: list[Any] = []
        with naming_clips(lambda clip: _clip_names(self.dataset)(clips.start + clip)):
            if isinstance(writer, PartWriter):
                inputs, _, arguments = next(iter(self._loader(clips[: self.batch_size], num_workers=0)))
                first = first_clip(inputs, arguments)
                writer.check_first(first[0])
                if writer.origin is not None:
                    return writer.origin
            first = self._run_all(writer, clips, first)
        writer.check_complete()
        if self.batch_size > 1:
            warn_of_neighbours(self.model, self.layer, writer, first, self.columns, at_input=self.at_input)
        origin = self._origin(writer, first)
        if isinstance(writer, PartWriter):
            writer.finish(origin)
        return origin

    def _run_all(self, writer: BankWriter | PartWriter, clips: range, first: list[Any]) -> list[Any]:
        """Runs the model over the clips that are not yet written; returns the first clip and its arguments."""
        advice = _layout_advice(self.model, self.layer, self.dataset, self.at_input)
        bar = tqdm(
            total=len(clips),
            initial=writer.n_written,
            unit="clip",
            desc="running the model",
            **bar_settings(self.progress),
        )
        first = _on_device(self.device, *first)
        with bar, torch.no_grad(), advice:
            is_first = True
            for inputs, labels, arguments in self._loader(clips[writer.n_written :], self.num_workers):
                check_finite(inputs, "the inputs", writer.n_written)
                first = first or _on_device(self.device, *first_clip(inputs, arguments))
                columns = None if self.columns is None else self.columns(arguments[0])
                about = {"labels": labels, "columns": columns, "n_inputs": len(inputs)}
                write = partial(_checked_write, self.layer if is_first else None, writer, about)
                watching = watched(self.layer, self.name, write, at_input=self.at_input)
                with watching, _checked_norm(writer), frozen(self.model, self.layer):
                    self._run(*_on_device(self.device, inputs, *arguments))
                writer.finish_batch(inputs)
                is_first = False
                bar.update(len(inputs))
        return first

    def _run(self, inputs: Tensor, *arguments: Tensor) -> None:
        with naming_arguments(arguments, padded=self.columns is not None):
            checked_output(self.model(inputs, *arguments), self.model)

    def _loader(self, clips: range, num_workers: int) -> DataLoader:
        """Batches of clips in the order of the dataset."""
        return DataLoader(
            cast(Dataset, self.dataset),
            self.batch_size,
            sampler=clips,
            num_workers=num_workers,
            collate_fn=self.collate,
            generator=torch.Generator(),  # without one, a DataLoader draws a seed from the global random state
        )

    def _origin(self, writer: BankWriter | PartWriter, first: list[Any]) -> Origin:
        """The record of the features; with the places of the cells, where these are wanted and found."""
        shapes = writer.input_shapes
        input_shape = next(iter(shapes)) if len(shapes) == 1 and self.columns is None else None
        record = (input_shape, self.fingerprint, writer.n_clips, self.at_input, dataset_fingerprint(self.dataset))
        norm = "" if writer.norm is None else writer.norm.name
        origin = Origin(self.name, writer.layout, writer.grid, *record, norm)
        return _placed(origin, self.model, self.layer, first, self.input_layout) if self.places else origin


def dataset_fingerprint(dataset: Dataset | Sequence) -> str:
    """The fingerprint of a dataset that has one, such as `captum_apex.classifiers.InputDataset`; empty for others.

    Args:
        dataset: the dataset.

    Example:
        >>> from captum_apex.bases.feature_pass import dataset_fingerprint
        >>> dataset_fingerprint([1, 2])
        ''
    """
    fingerprint_of = getattr(dataset, "fingerprint", None)
    given = fingerprint_of() if callable(fingerprint_of) else ""
    return given if isinstance(given, str) else ""


def dataset_length(dataset: Dataset | Sequence) -> int:
    """The number of clips in a dataset, after a check that its items can be indexed.

    Args:
        dataset: the dataset.

    Raises:
        TypeError: the dataset is iterable-style.
        ValueError: it is empty.

    Example:
        >>> from captum_apex.bases.feature_pass import dataset_length
        >>> dataset_length(["a clip"])
        1
    """
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise TypeError(
            "expected a map-style dataset (with __getitem__ and __len__), so that a prototype's index means a clip, "
            f"but got {type(dataset).__name__}; put an iterable one into a list first"
        )
    n_clips = 0 if isinstance(dataset, Tensor) and not dataset.dim() else len(dataset)
    if n_clips == 0:
        raise ValueError("expected a dataset with at least one clip, but it is empty")
    return n_clips


def _clip_names(dataset: Dataset | Sequence) -> Callable[[int], str]:
    """The name of a clip for messages: what the dataset calls it, or its index."""
    name = getattr(dataset, "name", None)
    return name if callable(name) else "clip {}".format


@contextmanager
def _layout_advice(model: Callable, layer: nn.Module, dataset: Dataset | Sequence, at_input: bool) -> Iterator[None]:
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


def _checked_write(
    layer: nn.Module | None, writer: BankWriter | PartWriter, about: dict[str, Any], out: Tensor
) -> None:
    """Writes a batch, after a check that the layout is that of the layer, where the layer is given.

    It is called while the layer runs, because the modules after the layer may change the tensor in place.
    """
    if layer is not None:
        check_layout(writer.layout, layer, out, repr(writer.layer))
    writer.write(out, **about)


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


def _on_device(device: torch.device | str, *values: Any) -> list[Any]:
    return [value.to(device) if isinstance(value, Tensor) else value for value in values]


def _checked_norm(writer: BankWriter | PartWriter) -> AbstractContextManager[None]:
    """Compares the output of the norm with the means that were written; nothing without a norm."""
    if writer.norm is None:
        return nullcontext()
    return watched(writer.norm.module, writer.norm.name, writer.check_norm)
