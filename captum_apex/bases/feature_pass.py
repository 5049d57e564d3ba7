"""One pass of a model over a dataset, which gives the features of a layer to a writer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from captum_apex.bases.bank_writer import BankWriter
from captum_apex.bases.clip_loading import ClipLoading
from captum_apex.bases.collation import first_clip, naming_arguments
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

__all__ = ["FeaturePass"]


@dataclass(frozen=True)
class FeaturePass:
    """A pass of a model over a dataset; the arguments are those of `FeatureBank.from_dataset`.

    Args:
        model: the model.
        layer: the explained layer.
        loading: the dataset, and how its clips are loaded.
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
        >>> from captum_apex.bases.clip_loading import ClipLoading
        >>> from captum_apex.bases.feature_pass import FeaturePass
        >>> from captum_apex.layers import Layout
        >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.AdaptiveAvgPool2d(1))
        >>> features = FeaturePass(model, model[0], ClipLoading.of([torch.ones(1, 2, 2)]), "cpu")
        >>> writer = BankWriter(1, [Scheme.TIME], "0", Layout())
        >>> features.write(writer).grid, writer.means
        ((2, 2), tensor([[1.]]))
    """

    model: Callable
    layer: nn.Module
    loading: ClipLoading
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
        with naming_clips(lambda clip: self.loading.name(clips.start + clip)):
            if isinstance(writer, PartWriter):
                inputs, _, arguments = self.loading.first_batch(clips)
                first = first_clip(inputs, arguments)
                writer.check_first(first[0])
                if writer.origin is not None:
                    return writer.origin
            first = self._run_all(writer, clips, first)
        writer.check_complete()
        if self.loading.batch_size > 1:
            warn_of_neighbours(self.model, self.layer, writer, first, self.columns, at_input=self.at_input)
        origin = self._origin(writer, first)
        if isinstance(writer, PartWriter):
            writer.finish(origin)
        return origin

    def _run_all(self, writer: BankWriter | PartWriter, clips: range, first: list[Any]) -> list[Any]:
        """Runs the model over the clips that are not yet written; returns the first clip and its arguments."""
        proposing = _proposing_layout(self.model, self.layer, self.loading.dataset, self.at_input)
        bar = tqdm(
            total=len(clips),
            initial=writer.n_written,
            unit="clip",
            desc="running the model",
            **bar_settings(self.progress),
        )
        first = _on_device(self.device, *first)
        pinned = torch.device(self.device).type == "cuda"
        with bar, torch.no_grad(), proposing:
            is_first = True
            for inputs, labels, arguments in self.loading.batches(clips[writer.n_written :], pinned=pinned):
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

    def _origin(self, writer: BankWriter | PartWriter, first: list[Any]) -> Origin:
        """The record of the features; with the places of the cells, where these are wanted and found."""
        shapes = writer.input_shapes
        input_shape = next(iter(shapes)) if len(shapes) == 1 and self.columns is None else None
        record = (input_shape, self.fingerprint, writer.n_clips, self.at_input, self.loading.fingerprint)
        norm = "" if writer.norm is None else writer.norm.name
        origin = Origin(self.name, writer.layout, writer.grid, *record, norm)
        return _placed(origin, self.model, self.layer, first, self.input_layout) if self.places else origin


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
    onto_gpu = torch.device(device).type == "cuda"  # a copy from a GPU must be waited for
    return [value.to(device, non_blocking=onto_gpu) if isinstance(value, Tensor) else value for value in values]


def _checked_norm(writer: BankWriter | PartWriter) -> AbstractContextManager[None]:
    """Compares the output of the norm with the means that were written; nothing without a norm."""
    if writer.norm is None:
        return nullcontext()
    return watched(writer.norm.module, writer.norm.name, writer.check_norm)
