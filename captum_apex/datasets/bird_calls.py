"""BirdSet."""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np
import torch
from torch import Tensor

from captum_apex.extras import missing_package
from captum_apex.recordings.decoding import decode

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["BirdSet", "birdset"]

_LABEL_COLUMNS = ("ebird_code_multilabel", "ebird_code")
_EVENT_COLUMNS = ("detected_events", "event_cluster", "start_time", "end_time")


def birdset(source: str | Dataset, split: str = "test_5s") -> BirdSet:
    """BirdSet: bird calls at 32 kHz, with several species in a clip.

    Clips are read with a `length` of 160,000 samples, 5 s.

    Args:
        source: name of a subset, such as "HSN", which the `datasets` library then loads from Hugging Face; or one split
            that is already loaded.
        split: "train" or "test_5s"; ignored if `source` is a loaded split.

    Raises:
        ImportError: if `datasets` is missing.
        TypeError: if the source is neither a name nor one split.
        ValueError: if a column is missing, if the installed version of `datasets` cannot load BirdSet by name, or if
            there is no such subset or split.

    Example:
        >>> from datasets import ClassLabel, Dataset, Features, Sequence, Value
        >>> from captum_apex.datasets import birdset
        >>> audio = {"bytes": Value("binary"), "path": Value("string")}
        >>> species = ClassLabel(names=["gcrfin", "whcspa"])
        >>> features = Features({"audio": audio, "ebird_code_multilabel": Sequence(species)})
        >>> rows = [{"audio": {"bytes": b"", "path": "HSN_001.ogg"}, "ebird_code_multilabel": [1]}]
        >>> birds = birdset(Dataset.from_list(rows, features=features))
        >>> birds.names, birds.class_names, birds.labels
        (('HSN_001.ogg',), ('gcrfin', 'whcspa'), tensor([[0., 1.]]))

    Source: Rauch et al. (arXiv 2403.10380); huggingface.co/datasets/DBD-research-group/BirdSet.
    """
    return BirdSet.from_split(_downloaded(source, split) if isinstance(source, str) else source)


@dataclass(frozen=True, eq=False)
class BirdSet:
    """One split of BirdSet; a sound is decoded when it is read.

    A focal recording of the training split can have any length. Of such a recording, the clip around its first
    detected event is read: the first event in the largest cluster that is not noise, as in BirdSet's own training.

    Args:
        split: the split, with a column `audio` that is not decoded.
        class_names: eBird codes of the species.
        labels: 1 if the species calls, 0 otherwise; float32, shape (clip, class). A clip may have no species.
        names: file name of each clip, without its folder.
        centres: middle of each clip in its recording, in seconds; None if the clip begins with the recording.

    Example:
        >>> import io
        >>> import torch
        >>> from datasets import ClassLabel, Dataset, Features, Sequence, Value
        >>> from captum_apex import listening
        >>> from captum_apex.datasets import BirdSet
        >>> sound = listening.encoded(torch.tensor([0.25, -0.5]), 32_000, "wav")
        >>> audio = {"bytes": Value("binary"), "path": Value("string")}
        >>> species = ClassLabel(names=["gcrfin", "whcspa"])
        >>> features = Features({"audio": audio, "ebird_code_multilabel": Sequence(species)})
        >>> rows = [{"audio": {"bytes": sound, "path": "HSN_001.ogg"}, "ebird_code_multilabel": []}]
        >>> birds = BirdSet.from_split(Dataset.from_list(rows, features=features))
        >>> birds.waveform(0, length=3)
        tensor([ 0.2500, -0.5000,  0.0000])
    """

    split: Dataset
    class_names: tuple[str, ...]
    labels: Tensor
    names: tuple[str, ...]
    centres: tuple[float | None, ...]

    @classmethod
    def from_split(cls, split: Dataset) -> Self:
        """Reads the labels, names and events of a loaded split.

        Args:
            split: one split of BirdSet, with BirdSet's features.

        Raises:
            ImportError: if `datasets` is missing.
            TypeError: if it is not one split.
            ValueError: if a column is missing or has other features.
        """
        library = _library()
        class_names = _class_names(split)
        split = split.with_format(None).cast_column("audio", library.Audio(decode=False))  # decoding needs torchcodec
        columns = [name for name in (*_LABEL_COLUMNS, *_EVENT_COLUMNS) if name in split.column_names]
        rows = list(split.select_columns(columns))
        labels = torch.zeros(len(rows), len(class_names))
        for index, row in enumerate(rows):
            labels[index, _species(row)] = 1
        return cls(split, class_names, labels, _names(split), tuple(_centre(row) for row in rows))

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """The file name of a clip, for messages.

        Args:
            index: index of the clip.
        """
        return self.names[index]

    def waveform(
        self, index: int, sample_rate: int = 32_000, length: int | None = None, *, convert: bool = True
    ) -> Tensor:
        """A clip as a float32 tensor (sample,), with the arguments of `captum_apex.recordings.read`."""
        with self._opened(index) as file:
            return decode(
                file, sample_rate, length, centre=self.centres[index], convert=convert, name=self.names[index]
            )

    def fingerprint(self) -> str:
        """A SHA-256 hash of the names, the places in the recordings and the labels, without reading any sound."""
        digest = hashlib.sha256(repr((self.names, self.centres, self.class_names)).encode())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()

    def _opened(self, index: int) -> BinaryIO:
        audio = self.split[index]["audio"]
        if audio["bytes"] is not None:
            return io.BytesIO(audio["bytes"])
        if audio["path"] is None:
            raise ValueError(f"expected sound or a path for {self.names[index]}, but the column `audio` has neither")
        if not os.path.isfile(audio["path"]):
            raise FileNotFoundError(f"expected a recording of BirdSet at {audio['path']}, but there is none")
        return open(audio["path"], "rb")


def _library() -> ModuleType:
    try:
        import datasets
    except ImportError as error:
        raise missing_package("the `datasets` library, which loads BirdSet", "birdset", error) from error
    return datasets


def _downloaded(name: str, split: str) -> Dataset:
    try:
        return _library().load_dataset("DBD-research-group/BirdSet", name, split=split)
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
        raise ValueError(
            "expected a version of `datasets` before 4, because BirdSet is published as a script, which later versions "
            "do not run; with a later version, load a copy of BirdSet, such as load_dataset('mteb/BirdSet', ...) or "
            "load_from_disk(...), and pass one of its splits"
        ) from error


def _class_names(split: Dataset) -> tuple[str, ...]:
    """The eBird codes of a split, after a check that it is one split of BirdSet."""
    library = _library()
    if not isinstance(split, library.Dataset):
        raise TypeError(
            "expected the name of a subset of BirdSet, or one split of it as a datasets.Dataset, "
            f"but got {_described(split)}"
        )
    missing = [name for name in ("audio", "ebird_code_multilabel") if name not in split.column_names]
    if missing:
        raise ValueError(
            f"expected a split of BirdSet with a column {missing[0]!r}, but got {', '.join(split.column_names)}"
        )
    codes = getattr(split.features["ebird_code_multilabel"], "feature", None)
    if not isinstance(codes, library.ClassLabel):
        raise ValueError(
            "expected lists of class labels in the column 'ebird_code_multilabel', "
            f"but got {codes}; load the split with BirdSet's features"
        )
    return tuple(codes.names)


def _described(source: Any) -> str:
    return f"a dict of {', '.join(map(str, source))}" if isinstance(source, Mapping) else type(source).__name__


def _names(split: Dataset) -> tuple[str, ...]:
    """The file names of all clips, without reading their sound."""
    has_paths = "filepath" in split.column_names
    paths = split["filepath"] if has_paths else split.select_columns("audio").flatten()["audio.path"]
    return tuple(f"clip {index}" if path is None else os.path.basename(path) for index, path in enumerate(paths))


def _species(row: Mapping[str, Any]) -> list[int]:
    """Indices of the species in a clip."""
    if row["ebird_code_multilabel"] is not None:
        return row["ebird_code_multilabel"]
    return [] if row.get("ebird_code") is None else [row["ebird_code"]]


def _centre(row: Mapping[str, Any]) -> float | None:
    """The middle of a clip's event, in seconds: of a detected event, otherwise of the time interval of the row."""
    events = np.array(row.get("detected_events") or [], dtype=float).reshape(-1, 2)
    clusters = np.array(row.get("event_cluster") or [0] * len(events))
    if not len(events):
        interval = [row.get(name, math.nan) for name in ("start_time", "end_time")]
        middle = np.mean(interval, dtype=float)  # None counts as NaN
        return None if np.isnan(middle) else float(middle)
    calls = clusters[clusters >= 0] if (clusters >= 0).any() else clusters  # -1 is noise, but may be all that there is
    values, counts = np.unique(calls, return_counts=True)
    return float(events[clusters == values[counts.argmax()]][0].mean())
