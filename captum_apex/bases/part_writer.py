"""Writes a part of a feature bank: contiguous clips of a dataset, in a folder that keeps what is finished."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captum_apex.bases.bank_writer import BankWriter, known_columns
from captum_apex.bases.joined_parts import differences, joined_arrays, joined_size
from captum_apex.bases.part_files import PartFiles
from captum_apex.bases.schemes import Scheme
from captum_apex.files import locked
from captum_apex.layers.input_summaries import input_summary, is_same_input
from captum_apex.layers.layout import Layout
from captum_apex.layers.origin import Origin
from captum_apex.layers.pooled_norm import PooledNorm
from captum_apex.layers.values import NotFiniteError
from captum_apex.numbers import part_of

__all__ = ["PartWriter", "clips_of_part", "opened_part"]


def clips_of_part(part: tuple[int, int], n_clips: int, batch_size: int) -> range:
    """The indices of a part's clips, which are the same number for all parts, or nearly so.

    Parts have whole batches, so that each clip runs in the batch in which it would run without parts. Where there are
    more parts than batches, they have smaller ones.

    Args:
        part: index of the part and number of parts.
        n_clips: number of clips in the dataset.
        batch_size: number of clips per forward pass.

    Raises:
        TypeError: the part is no pair of integers.
        ValueError: there is no such part, or there are more parts than clips.

    Example:
        >>> from captum_apex.bases.part_writer import clips_of_part
        >>> [clips_of_part((i, 3), n_clips=20, batch_size=4) for i in range(3)]
        [range(0, 4), range(4, 12), range(12, 20)]
    """
    index, n_parts = part_of(part, n_clips)
    n_batches = math.ceil(n_clips / batch_size)
    unit = batch_size if n_batches >= n_parts else 1
    n_units = math.ceil(n_clips / unit)
    return range(unit * (index * n_units // n_parts), min(unit * ((index + 1) * n_units // n_parts), n_clips))


class PartWriter:
    """Writes the layer's output for one batch of clips after the other into the files of a part.

    Args:
        files: the files of the part.
        clips: indices of the part's clips in the dataset.
        batch: settings of the `BankWriter` of each batch: the sequences, the name of the layer, the layout, the norm
            and the dtype.
        max_memory: number of bytes that padded copies of the arrays may take in memory.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from captum_apex import Scheme
        >>> from captum_apex.bases.part_writer import opened_part
        >>> from captum_apex.layers import Layout
        >>> settings = {"sequences": (Scheme.TIME,), "layer": "layer", "layout": Layout()}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with opened_part(folder, (0, 1), range(1), {"n_clips": 1}, settings) as writer:
        ...         writer.write(torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]]), labels=None, n_inputs=1)
        ...         writer.finish_batch(torch.zeros(1, 2, 2))
        ...     writer.cells, writer.means
        ({<Scheme.TIME: 'time'>: tensor([[[1., 2.]]])}, tensor([[1.5000]]))
    """

    def __init__(self, files: PartFiles, clips: range, batch: Mapping[str, Any], max_memory: int) -> None:
        self.files = files
        self.clips = clips
        self.n_clips = len(clips)
        self.sequences: tuple[Scheme, ...] = batch["sequences"]
        self.layer: str = batch["layer"]
        self.layout: Layout = batch["layout"]
        self.norm: PooledNorm | None = batch.get("norm")
        self.max_memory = max_memory
        self._settings = batch
        self._batch = BankWriter(1, **batch)
        self._arrays: dict[str, Tensor] = {}

    @property
    def n_written(self) -> int:
        """Number of clips of the part whose batches are finished."""
        return self.files.n_written

    @property
    def input_shapes(self) -> set[tuple[int, ...]]:
        """Shapes that the inputs have; no more than two are kept."""
        return set(map(tuple, self.files.details.get("input_shapes", [])))

    @property
    def origin(self) -> Origin | None:
        """The record of a part that is complete; None of others."""
        fields = self.files.details.get("origin")
        return None if fields is None else Origin.from_dict(fields)

    @property
    def grid(self) -> tuple[int, int] | None:
        """Size of the grid of the widest clip, (frequency, time); None before the first."""
        return (self.files.details["grid_rows"], self.files.widest) if self.n_written else None

    @property
    def cells(self) -> dict[Scheme, Tensor]:
        """The cells of each sequence, (clip, channel, cell)."""
        arrays = self._all_arrays()
        return {sequence: arrays[str(sequence)] for sequence in self.sequences}

    @property
    def means(self) -> Tensor:
        """The mean over each clip's grid, (clip, channel)."""
        return self._all_arrays()["means"]

    @property
    def columns(self) -> Tensor | None:
        """Number of columns of each clip's grid, as `FeatureBank.columns` gives it, where no clip is padded."""
        return known_columns(self.sequences, torch.from_numpy(self.files.columns))

    @property
    def labels(self) -> Tensor | None:
        """The labels of the clips, (clip,) or (clip, class); None where the dataset has none."""
        return self._all_arrays().get("labels")

    def check_first(self, inputs: Tensor) -> None:
        """Compares the inputs of the part's first clip with those that the part was begun with.

        Args:
            inputs: the inputs of the clip, (1, ...).

        Raises:
            ValueError: they differ by more than rounding.
        """
        now = input_summary(inputs[0])
        former = self.files.details.setdefault("first_input", now)
        if not is_same_input(former, now):
            raise ValueError(
                f"expected the inputs of clip {self.clips.start} that {self.files.folder} was begun with, of shape "
                f"{former['shape']}, with the mean {former['mean']:.4g}, but got {now['shape']}, with the mean "
                f"{now['mean']:.4g}: the recording or the transform is another one, or is random; name another `folder`"
            )

    def write(self, features: Tensor, labels: Tensor | None, n_inputs: int, columns: Tensor | None = None) -> None:
        """Takes the layer's output for a batch, which `finish_batch` then writes; arguments as in `BankWriter.write`.

        Raises:
            ValueError: as in `BankWriter.write`.
        """
        self._batch = BankWriter(n_inputs, **self._settings)
        try:
            self._batch.write(features, labels, n_inputs, columns)
        except NotFiniteError as error:
            raise NotFiniteError(error.what, error.clip + self.n_written) from None
        assert self._batch.grid is not None
        n_rows = self._batch.grid[0]
        former = self.files.details.setdefault("grid_rows", n_rows)
        if n_rows != former:
            raise ValueError(
                f"expected {self.layer!r} to give a grid of {former} frequency rows for every clip, but got {n_rows} "
                f"from clip {self.clips.start + self.n_written} on"
            )

    def check_norm(self, output: Tensor) -> None:
        """Compares the means of the last batch with what the norm gives in the model; as in `BankWriter`."""
        self._batch.check_norm(output)

    def finish_batch(self, inputs: Tensor) -> None:
        """Writes the batch to the files, after the model has run on it to its end.

        Args:
            inputs: the inputs of the batch.
        """
        shapes = self.input_shapes | {tuple(inputs.shape[1:])}
        self.files.details["input_shapes"] = sorted(shapes)[:2]
        assert self._batch.grid is not None
        arrays = {str(sequence): cells for sequence, cells in self._batch.cells.items()}
        arrays = {name: cells.unflatten(2, self._sides(name)) for name, cells in arrays.items()}
        arrays["means"] = self._batch.means
        arrays["columns"] = torch.full((len(self._batch.means),), self._batch.grid[1])
        if self._batch.labels is not None:
            arrays["labels"] = self._batch.labels
        self.files.append({name: array.numpy() for name, array in arrays.items()})

    def check_complete(self) -> None:
        """Raises a ValueError where fewer clips were written than the part has; see `Collate.complete`."""
        if self.n_written != self.n_clips:
            raise ValueError(f"expected all {self.n_clips} clips of the part, but {self.n_written} came")

    def finish(self, origin: Origin) -> None:
        """Marks the part as complete.

        Args:
            origin: the record of the layer, the model and the dataset.
        """
        self.files.details["origin"] = asdict(origin)
        self.files.count()

    def _sides(self, name: str) -> tuple[int, int]:
        n_rows = 1 if name == Scheme.TIME else self.files.details["grid_rows"]
        return n_rows, -1

    def _all_arrays(self) -> dict[str, Tensor]:
        """The arrays by name: mapped files, or padded copies where clips have several lengths."""
        if not self._arrays:
            in_memory = not self.files.is_even and joined_size([self.files]) <= self.max_memory
            self._arrays = joined_arrays([self.files], in_memory, self.files.folder)
        return self._arrays


@contextmanager
def opened_part(
    folder: str | os.PathLike,
    part: tuple[int, int],
    clips: range,
    about: Mapping[str, Any],
    batch: Mapping[str, Any],
    max_memory: int = 2**32,
) -> Iterator[PartWriter]:
    """Opens a part for writing; at the end of the block, also after an exception, the finished batches are counted.

    A part that another process writes is waited for.

    Args:
        folder: folder of the bank, which is made if it is missing.
        part: index of the part and number of parts.
        clips: indices of the part's clips.
        about: what the features depend on, by name. A part that was begun with something else is refused.
        batch: settings of the `BankWriter` of each batch, see `PartWriter`. A part that was begun with more sequences
            is continued with these.
        max_memory: number of bytes that padded copies of the arrays may take in memory.

    Raises:
        ValueError: the part was begun with something else, is damaged, or the folder holds a bank of `save`.

    Example:
        >>> import tempfile
        >>> from captum_apex import Scheme
        >>> from captum_apex.bases.part_writer import opened_part
        >>> from captum_apex.layers import Layout
        >>> settings = {"sequences": (Scheme.TIME,), "layer": "layer", "layout": Layout()}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with opened_part(folder, (0, 2), range(4), {"n_clips": 8}, settings) as writer:
        ...         writer.n_written, writer.n_clips
        (0, 4)
    """
    if Path(folder, "bank.json").exists():
        raise ValueError(f"expected a `folder` without a bank of `FeatureBank.save`, but {folder} holds one")
    path = Path(folder, f"part-{part[0]}-of-{part[1]}")
    path.mkdir(parents=True, exist_ok=True)
    with locked(path):
        files = _begun(path, {**about, "clips": [clips.start, clips.stop]}, batch["sequences"], len(clips))
        sequences = tuple(map(Scheme, files.about["sequences"]))
        try:
            yield PartWriter(files, clips, {**batch, "sequences": sequences}, max_memory)
        finally:
            files.close()
            with suppress(OSError):  # it has files
                path.rmdir()


def _begun(path: Path, about: Mapping[str, Any], sequences: Sequence[Scheme], n_rows: int) -> PartFiles:
    """The files of a part that was begun with the same settings, or new ones."""
    now = json.loads(json.dumps({**about, "sequences": sequences}))  # as it will be read
    try:
        files = PartFiles.read(path)
    except FileNotFoundError:
        return PartFiles(path, now, n_rows)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"expected {path} to hold a part of a feature bank, but it cannot be read: {error}; delete the folder to "
            "make the part again"
        ) from error
    if set(now["sequences"]) <= set(files.about["sequences"]):
        now["sequences"] = files.about["sequences"]
    differing = differences(files.about, now)
    if differing:
        raise ValueError(
            f"expected what {path} was begun with, but {differing}; name another `folder`, or delete this one"
        )
    return files
