"""The sounds in a column of a Hugging Face data set, decoded one by one; the `datasets` library is not imported."""

from __future__ import annotations

import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from captum_apex.recordings.decoding import as_waveform, decode, read

__all__ = ["AudioRows", "label_column"]


@dataclass(frozen=True, eq=False)
class AudioRows:
    """Rows of a data set with a column of sounds.

    Files and encoded bytes are decoded here and only as far as they are needed, so that no other decoder has to be
    installed. A row can also hold a sound that is decoded: a dict with `array` and `sampling_rate`, or an object with
    `get_all_samples()`.

    Args:
        dataset: one split, a `datasets.Dataset` or an object like it.
        column: name of the column of sounds.
        rows: number of each row in the data set.

    Example:
        >>> import numpy as np
        >>> from datasets import Dataset
        >>> from captum_apex.recordings.audio_rows import AudioRows
        >>> sound = {"array": np.array([0.25, -0.5]), "sampling_rate": 8000}
        >>> rows = AudioRows.of(Dataset.from_list([{"audio": sound}]), "audio")
        >>> rows.waveform(0, "row 0", sample_rate=8000, length=3)
        tensor([ 0.2500, -0.5000,  0.0000])
    """

    dataset: Any
    column: str
    rows: Sequence[int]

    @classmethod
    def of(cls, dataset: Any, column: str) -> Self:
        """All rows of a data set.

        Args:
            dataset: one split.
            column: name of the column of sounds.

        Raises:
            TypeError: it is several splits, or is read as a stream.
            ValueError: there is no such column.
        """
        if isinstance(dataset, Mapping):
            raise TypeError(
                f"expected one split of a data set, but got a dict of {', '.join(map(str, dataset))}; choose one"
            )
        if not all(hasattr(dataset, name) for name in ("column_names", "features", "__len__", "__getitem__")):
            raise TypeError(
                "expected a data set of the `datasets` library with a length and rows, but got "
                f"{type(dataset).__name__}; load it without streaming"
            )
        _check_column(dataset, column, "audio")
        if hasattr(dataset, "with_format"):
            dataset = dataset.with_format(None)
        feature = dataset.features[column]
        if hasattr(feature, "decode"):
            dataset = dataset.cast_column(column, replace(feature, decode=False))
        return cls(dataset, column, range(len(dataset)))

    def names(self) -> tuple[str, ...]:
        """The file name of each row where no other row has it, otherwise with the number of the row."""
        paths = self._paths()
        files = [None if path is None else os.path.basename(str(path)) for path in paths]
        counts = Counter(files)
        return tuple(
            f"row {row}" if not file else file if counts[file] == 1 else f"{file} (row {row})"
            for row, file in zip(self.rows, files, strict=True)
        )

    def selected(self, indices: Iterable[int]) -> AudioRows:
        """Some of the rows, by their indices among these rows."""
        return replace(self, rows=tuple(self.rows[index] for index in indices))

    def waveform(
        self, index: int, name: str, sample_rate: int, length: int | None = None, *, convert: bool = True
    ) -> Tensor:
        """The sound of a row as a float32 tensor (sample,).

        Args:
            index: index among these rows.
            name: name of the row, for messages.
            sample_rate: as in `captum_apex.recordings.read`, like the other arguments.
            length: length of the waveform in samples.
            convert: whether another sample rate or several channels are converted.

        Raises:
            TypeError: the row holds something else than a sound.
            ValueError: the row is empty, or its sound cannot be read.
        """
        sound = self.dataset[self.rows[index]][self.column]
        if sound is None:
            raise ValueError(f"expected a sound in the column {self.column!r} of {name}, but there is none")
        if hasattr(sound, "get_all_samples"):
            samples = sound.get_all_samples()
            return as_waveform(samples.data, samples.sample_rate, sample_rate, length, convert=convert, name=name)
        if isinstance(sound, str):
            return read(sound, sample_rate, length, convert=convert)
        if not isinstance(sound, Mapping):
            raise TypeError(
                f"expected a sound with its sample rate in the column {self.column!r} of {name}, but got "
                f"{type(sound).__name__}; cast the column to the feature `Audio`"
            )
        if sound.get("array") is not None:
            samples = torch.from_numpy(np.asarray(sound["array"], dtype=np.float32))
            return as_waveform(samples, sound["sampling_rate"], sample_rate, length, convert=convert, name=name)
        if sound.get("bytes") is not None:
            return decode(io.BytesIO(sound["bytes"]), sample_rate, length, convert=convert, name=name)
        if sound.get("path") is None:
            raise ValueError(f"expected a sound or a path in the column {self.column!r} of {name}, but got neither")
        return read(sound["path"], sample_rate, length, convert=convert)

    def fingerprint(self) -> str:
        """A SHA-256 hash of the rows, by their paths or else by what the data set says of itself; no sound is read."""
        paths = self._paths()
        known = "" if any(path is not None for path in paths) else getattr(self.dataset, "_fingerprint", "")
        names = [None if path is None else os.path.basename(str(path)) for path in paths]
        text = repr((self.column, list(self.rows), names, known))
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()

    def _paths(self) -> list[Any]:
        """The path of the sound of each row, without reading the sound; None where there is none."""
        feature = self.dataset.features[self.column]
        if getattr(feature, "dtype", "") == "string":
            paths = list(self.dataset[self.column][:])
        elif hasattr(feature, "decode") or (isinstance(feature, Mapping) and "path" in feature):
            paths = list(self.dataset.select_columns(self.column).flatten()[f"{self.column}.path"][:])
        else:
            return [None] * len(self.rows)
        return [paths[row] for row in self.rows]


def label_column(dataset: Any, column: str) -> tuple[list[Any], tuple[str, ...] | None]:
    """The values of a column of labels, and the names of the classes where its feature has them.

    Args:
        dataset: one split of a data set.
        column: name of the column.

    Returns:
        The labels: names in place of the indices of a `ClassLabel`, and None in place of its -1, which means no label.
        The names of the classes in the order of the `ClassLabel`, or None.

    Raises:
        ValueError: there is no such column.

    Example:
        >>> from datasets import ClassLabel, Dataset, Features
        >>> from captum_apex.recordings.audio_rows import label_column
        >>> features = Features({"label": ClassLabel(names=["rain", "dog"])})
        >>> label_column(Dataset.from_dict({"label": [1, 0, -1]}, features=features), "label")
        (['dog', 'rain', None], ('rain', 'dog'))
    """
    _check_column(dataset, column, "label")
    values = list(dataset.with_format(None)[column][:] if hasattr(dataset, "with_format") else dataset[column][:])
    feature = dataset.features[column]
    inner = feature[0] if isinstance(feature, (list, tuple)) and feature else getattr(feature, "feature", None)
    names = getattr(feature, "names", None) or getattr(inner, "names", None)
    if names is None:
        return values, None
    return [_named(value, names) for value in values], tuple(names)


def _named(value: Any, names: Sequence[str]) -> Any:
    """The name of a class in place of its index, also in a list."""
    if isinstance(value, (list, tuple)):
        return [_named(each, names) for each in value]
    return None if value is None or value == -1 else names[value]


def _check_column(dataset: Any, column: str, argument: str) -> None:
    if column not in dataset.column_names:
        raise ValueError(
            f"expected a data set with the column {column!r}, but its columns are {', '.join(dataset.column_names)}; "
            f"give the name of the column as `{argument}`"
        )
