"""Long recordings as slices of equal duration, with the labels of their files or those of annotations."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Self

from torch import Tensor

from captum_apex.numbers import real_number
from captum_apex.recordings.audio_file import opened_audio
from captum_apex.recordings.background_labels import labels_with_background
from captum_apex.recordings.class_labels import Labels
from captum_apex.recordings.decoding import decode
from captum_apex.recordings.folders import Recordings
from captum_apex.recordings.tables import END_COLUMNS, START_COLUMNS, chosen_columns, column_named, read_csv

__all__ = ["LONGER", "Slices", "file_duration"]

LONGER = 1.01
"""Sounds longer than this many lengths of the classifier's clips are cut with a warning: more than 1% is left out."""

_ROUNDING = 1e-6  # s; a rest of a file that is shorter is a rounding error


@dataclass(frozen=True, repr=False)
class Slices:
    """Slices of recordings, an `AudioDataset`; each is read from its file when it is asked for.

    A slice begins every `hop` seconds. The last one ends with the recording, so it may overlap the one before it by
    more. A recording shorter than a slice is one slice, with zeros after its end, unless the classifier repeats short
    files or keeps them as they are.

    Args:
        recordings: the recordings.
        places: index of the recording of each slice, and the second at which the slice begins.
        seconds: duration of a slice, in s.
        labels: label of each slice, as in `Recordings`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from captum_apex import Recordings, listening
        >>> from captum_apex.recordings import Slices
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     listening.write(Path(folder, "night.wav"), torch.linspace(0, 0.9, 10), 2)
        ...     slices = Slices.of(Recordings.in_folder(folder), seconds=2.0)
        ...     slices.places, slices.waveform(1, sample_rate=2)
        (((0, 0.0), (0, 2.0), (0, 3.0)), tensor([0.4000, 0.5000, 0.6000, 0.7000]))
    """

    recordings: Recordings
    places: tuple[tuple[int, float], ...]
    seconds: float
    labels: Labels | None

    @classmethod
    def of(
        cls,
        recordings: Recordings,
        seconds: float,
        hop: float | None = None,
        *,
        annotations: Any = None,
        background: str | None = None,
    ) -> Self:
        """The slices of all recordings.

        Args:
            recordings: audio files; without annotations, each slice has the label of its file.
            seconds: duration of a slice, in s, such as `classifier.length / classifier.sample_rate`.
            hop: time from the start of one slice to the start of the next, in s; None for `seconds`.
            annotations: where the classes sound: the path of a CSV file, or a table such as a DataFrame, with a column
                of files, of labels, of starts and of ends, in s. A slice has a class where half of it, or half of an
                annotation of the class, lies in the annotation and the slice. Labels are a 0 or 1 for each class.
            background: label of annotations without any of the classes.

        Raises:
            TypeError: a number is none.
            ValueError: a number is not above 0, `hop` is longer than a slice, the recordings are no files, or an
                annotation names no recording or no class, or ends before it begins.
        """
        seconds = real_number(seconds, "seconds")
        hop = seconds if hop is None else real_number(hop, "hop")
        if not 0 < hop <= seconds:
            raise ValueError(f"expected 0 < `hop` <= `seconds`, in s, but got {hop} and {seconds}")
        if recordings.sounds is not None:
            raise ValueError("expected recordings that are files, but got rows of a data set")
        durations = [file_duration(recordings.path(index)) for index in range(len(recordings))]
        places = tuple(
            (index, start) for index, duration in enumerate(durations) for start in _starts(duration, seconds, hop)
        )
        labels: Labels | None = None
        if annotations is not None:
            labels = _annotated(recordings, places, seconds, _annotations(recordings, annotations, background))
        elif recordings.labels is not None:
            labels = tuple(recordings.labels[index] for index, _ in places)
        return cls(recordings, places, seconds, labels)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""
        return self.recordings.class_names

    def __len__(self) -> int:
        return len(self.places)

    def __repr__(self) -> str:
        return f"{len(self)} slices of {self.seconds:g} s of {self.recordings!r}"

    def name(self, index: int) -> str:
        """The path of the file, and the second at which the slice begins.

        Args:
            index: index of the slice.
        """
        file, start = self.places[index]
        return f"{self.recordings.name(file)} at {start:.6g} s"

    def waveform(self, index: int, sample_rate: int, length: int | None = None, *, convert: bool = True) -> Tensor:
        """A slice as a float32 tensor (sample,); `length` is the number of samples, by default those of the slice."""
        file, start = self.places[index]
        length = max(1, round(self.seconds * sample_rate)) if length is None else length
        path = self.recordings.path(file)
        centre = start + length / sample_rate / 2
        with open(path, "rb") as opened:
            return decode(opened, sample_rate, length, centre=centre, convert=convert, name=self.name(index))

    def unpadded(self, index: int, sample_rate: int, *, convert: bool = True) -> Tensor:
        """A slice without zeros after its end, a float32 tensor (sample,): shorter where its recording is."""
        path = self.recordings.path(self.places[index][0])
        if file_duration(path) >= self.seconds - _ROUNDING:
            return self.waveform(index, sample_rate, convert=convert)
        with open(path, "rb") as opened:
            return decode(opened, sample_rate, convert=convert, name=self.name(index))

    def fingerprint(self) -> str:
        """A hash that changes when an index no longer means the same slice."""
        content = f"{self.recordings.fingerprint()}\0{self.seconds}\0{self.places}\0{self.labels}"
        return hashlib.sha256(content.encode()).hexdigest()


def file_duration(path: str | os.PathLike) -> float:
    """The duration of an audio file in s, as its header says.

    Args:
        path: the file.

    Raises:
        ValueError: it is no audio file.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from captum_apex import listening
        >>> from captum_apex.recordings.slices import file_duration
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     listening.write(Path(folder, "a.wav"), torch.zeros(4000), 8000)
        ...     file_duration(Path(folder, "a.wav"))
        0.5
    """
    with open(path, "rb") as file, opened_audio(file, os.fspath(path)) as sound:
        return sound.n_frames / sound.rate


def _starts(duration: float, seconds: float, hop: float) -> list[float]:
    """The second at which each slice of a file begins."""
    last = duration - seconds
    if last <= _ROUNDING:
        return [0.0]
    starts = [round(index * hop, 9) for index in range(int((last + _ROUNDING) / hop) + 1)]
    return starts if last - starts[-1] <= _ROUNDING else [*starts, round(last, 9)]


class _Annotation(NamedTuple):
    """A stretch of a recording with a 0 or 1 for each class."""

    recording: int
    start: float
    end: float
    present: tuple[int, ...]


def _annotations(recordings: Recordings, annotations: Any, background: str | None) -> list[_Annotation]:
    """The annotations of a CSV file or of a table."""
    columns = annotations
    source = "the annotations"
    if isinstance(annotations, (str, os.PathLike)):
        columns = read_csv(Path(annotations))[0]
        source = os.fspath(annotations)
    names = list(getattr(columns, "columns", columns))
    file, label = chosen_columns(names, None, None, source)
    start = column_named(names, START_COLUMNS, source)
    end = column_named(names, END_COLUMNS, source)
    classes = recordings.class_names
    labels, _ = labels_with_background(columns[label], lambda row: f"row {row} of {source}", classes, background)
    listed = []
    rows = zip(columns[file], columns[start], columns[end], labels or (), strict=True)
    for row, (name, first, last, of_row) in enumerate(rows):
        place = f"row {row} of {source}"
        present = of_row if isinstance(of_row, tuple) else tuple(int(of_row == each) for each in range(len(classes)))
        listed.append(_Annotation(_file_index(recordings, str(name), place), *_bounds(first, last, place), present))
    return listed


def _annotated(
    recordings: Recordings, places: Sequence[tuple[int, float]], seconds: float, annotations: Sequence[_Annotation]
) -> Labels:
    """A 0 or 1 for each class of each slice."""
    by_recording: dict[int, list[_Annotation]] = {}
    for annotation in annotations:
        by_recording.setdefault(annotation.recording, []).append(annotation)
    labels = []
    for recording, begin in places:
        row = [0] * len(recordings.class_names)
        for annotation in by_recording.get(recording, []):
            common = min(annotation.end, begin + seconds) - max(annotation.start, begin)
            shorter = min(seconds, annotation.end - annotation.start)
            if 2 * common >= shorter * (1 - _ROUNDING):
                row = [max(old, new) for old, new in zip(row, annotation.present, strict=True)]
        labels.append(tuple(row))
    return tuple(labels)


def _bounds(first: Any, end: Any, place: str) -> tuple[float, float]:
    try:
        start = float(first)
        stop = float(end)
    except (TypeError, ValueError):
        start = stop = float("nan")
    if not 0 <= start < stop:
        raise ValueError(f"expected 0 <= start < end, in s, in {place}, but got {first!r} and {end!r}")
    return start, stop


def _file_index(recordings: Recordings, name: str, place: str) -> int:
    """The index of the recording that an annotation names, by its path or by the name of its file alone."""
    path = name.replace("\\", "/")
    if path in recordings.names:
        return recordings.names.index(path)
    same = [
        index for index, each in enumerate(recordings.names) if PurePosixPath(each).name == PurePosixPath(path).name
    ]
    if len(same) != 1:
        raise ValueError(f"expected {place} to name one of the recordings, but {len(same)} have the name {name!r}")
    return same[0]
