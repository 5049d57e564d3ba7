"""Annotated recordings: which classes sound where in each file, with what is left out and why."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Self

from captum_apex.recordings.annotation_files import Annotation, annotation_files, read_annotations
from captum_apex.recordings.class_labels import class_indices, composed
from captum_apex.recordings.folders import Recordings
from captum_apex.recordings.slices import file_duration
from captum_apex.result_tables import counted, listed

__all__ = ["AnnotatedRecordings"]


@dataclass(frozen=True)
class AnnotatedRecordings:
    r"""Recordings, and where the classes sound in each of them.

    Args:
        recordings: the recordings, which are files.
        annotations: the annotations of each recording in the order of their starts, with the names of the classes as
            labels; none for a recording that nothing is annotated in.
        left_out: what is left out and why, in words.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from captum_apex import Recordings, listening
        >>> from captum_apex.recordings import AnnotatedRecordings
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     listening.write(Path(folder, "a.wav"), torch.zeros(16000), 8000)
        ...     _ = Path(folder, "a.txt").write_text("0.5\t1.5\tDog\n1\t2\tfox\n")
        ...     recordings = Recordings(Path(folder), ("a.wav",))
        ...     annotated = AnnotatedRecordings.read(recordings, Path(folder, "a.txt"), ["dog", "rain"])
        >>> [(each.label, each.start, each.end) for each in annotated.annotations[0]]
        [('dog', 0.5, 1.5)]
        >>> annotated.left_out
        ('1 annotation of classes that the model does not have: fox (1)',)
    """

    recordings: Recordings
    annotations: tuple[tuple[Annotation, ...], ...]
    left_out: tuple[str, ...] = ()

    @classmethod
    def read(
        cls,
        recordings: Recordings,
        path: str | os.PathLike,
        class_names: Sequence[str],
        *,
        renamed: Mapping[str, str] | None = None,
        label: str | None = None,
        tier: str | None = None,
        reader: str | None = None,
    ) -> Self:
        """The recordings with the annotations of a file, or of all files of a folder.

        A file of annotations with a column of recordings is about these. A file without one is about the recording of
        its name, such as `a.Table.1.selections.txt` about `a.wav`; or about the only recording.

        Args:
            recordings: the recordings, which are files.
            path: a file of annotations as `read_annotations` reads it, or a folder of such files.
            class_names: names of the classes. Annotations may also name them similarly, as in `Recordings.in_folder`.
            renamed: names in the annotations → names of classes, such as `{"NOCA": "Northern Cardinal"}`.
            label: name of the column of labels, as in `read_annotations`.
            tier: name of the tier of TextGrids, as in `read_annotations`.
            reader: name of a format of crowsetta, as in `read_annotations`.

        Raises:
            FileNotFoundError: there are no such annotations.
            ValueError: a file cannot be read, names several recordings by one name, or no annotation is of one of the
                recordings and classes.
        """
        files = annotation_files(path)
        read: list[Annotation] = []
        for file in files:
            of_file = read_annotations(file, label=label, tier=tier, reader=reader)
            own = _recording_of(file, recordings, only=len(files) == 1)
            read += [replace(each, file=own or file.name) if each.file is None else each for each in of_file]
        return cls.of(recordings, read, class_names, renamed=renamed, source=os.fspath(path))

    @classmethod
    def of(
        cls,
        recordings: Recordings,
        annotations: Iterable[Annotation],
        class_names: Sequence[str],
        *,
        renamed: Mapping[str, str] | None = None,
        source: str = "the annotations",
    ) -> Self:
        """The recordings with annotations, each of which names its recording.

        Args:
            recordings: the recordings, which are files.
            annotations: the annotations; `file` is the path of a recording or the name of its file.
            class_names: names of the classes, as in `read`.
            renamed: names in the annotations → names of classes, as in `read`.
            source: the annotations in words, for messages.

        Raises:
            ValueError: the recordings are no files, an annotation names several of them, or none is of one of the
                recordings and classes.
        """
        if recordings.sounds is not None:
            raise ValueError("expected recordings that are files, but got rows of a data set")
        listed_annotations = list(annotations)
        sorted_out = _SortedOut(recordings, class_names, renamed or {})
        for annotation in listed_annotations:
            sorted_out.add(annotation)
        left_out = sorted_out.texts()
        if not any(sorted_out.kept.values()):
            got = (
                f"of {counted(len(listed_annotations), 'annotation')} none is"
                + "".join(f"; {text}" for text in left_out)
                if listed_annotations
                else "it has no annotations"
            )
            raise ValueError(
                f"expected {source} to have annotations of the {counted(len(recordings), 'recording')} and of the "
                f"classes {listed(list(class_names))}, but {got}"
            )
        kept = [sorted(sorted_out.kept[index], key=lambda each: each.start) for index in range(len(recordings))]
        return cls(recordings, tuple(map(tuple, kept)), tuple(left_out))

    def without_bands(self) -> Self:
        """The same with annotations of all frequencies, for what tells times alone."""
        annotations = tuple(tuple(replace(each, low=None, high=None) for each in own) for own in self.annotations)
        return replace(self, annotations=annotations)


class _SortedOut:
    """Annotations by recordings, and counts of those that are left out."""

    def __init__(self, recordings: Recordings, class_names: Sequence[str], renamed: Mapping[str, str]) -> None:
        self.recordings = recordings
        self.class_names = [str(name) for name in class_names]
        self.renamed = renamed
        self.kept: dict[int, list[Annotation]] = {index: [] for index in range(len(recordings))}
        self.missing: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.points = 0
        self.late: Counter[str] = Counter()
        self._indices: dict[str, int | None] = {}
        self._classes: dict[str, str | None] = {}
        self._durations: dict[int, float] = {}

    def add(self, annotation: Annotation) -> None:
        """Puts an annotation to its recording, or counts why it is left out."""
        index = self._index(annotation)
        name = self._class(annotation.label)
        if index is None:
            self.missing[str(annotation.file)] += 1
        elif name is None:
            self.unknown[annotation.label] += 1
        elif annotation.end == annotation.start:
            self.points += 1
        elif annotation.start >= self._duration(index):
            self.late[self.recordings.names[index]] += 1
        else:
            end = min(annotation.end, self._duration(index))
            self.kept[index].append(replace(annotation, label=name, end=end, file=self.recordings.names[index]))

    def texts(self) -> list[str]:
        """What is left out and why, in words."""
        n_without = sum(not annotations for annotations in self.kept.values())
        numbers = {
            f"of files that are not among the recordings: {_counts(self.missing)}": self.missing.total(),
            f"of classes that the model does not have: {_counts(self.unknown)}": self.unknown.total(),
            "without a duration": self.points,
            f"after the end of their recording: {_counts(self.late)}": self.late.total(),
        }
        texts = [f"{counted(number, 'annotation')} {what}" for what, number in numbers.items() if number]
        return texts + [f"{counted(n_without, 'recording')} without annotations of the classes"] * bool(n_without)

    def _index(self, annotation: Annotation) -> int | None:
        named = str(annotation.file)
        if named not in self._indices:
            self._indices[named] = _recording_index(named, self.recordings, annotation.place)
        return self._indices[named]

    def _class(self, label: str) -> str | None:
        if label not in self._classes:
            name = self.renamed.get(label, label)
            index = class_indices([name], self.class_names).get(name)
            self._classes[label] = None if index is None else self.class_names[index]
        return self._classes[label]

    def _duration(self, index: int) -> float:
        if index not in self._durations:
            self._durations[index] = file_duration(self.recordings.path(index))
        return self._durations[index]


def _counts(counter: Counter[str]) -> str:
    return listed([f"{name} ({number})" for name, number in counter.most_common()])


def _recording_index(named: str, recordings: Recordings, place: str) -> int | None:
    """The recording that an annotation names: by its path, or by so much of its end as the recordings have."""
    path = PurePosixPath(composed(named.replace("\\", "/")))
    names = [PurePosixPath(composed(name)) for name in recordings.names]
    same = [index for index, name in enumerate(names) if name.name == path.name]
    if len(same) > 1:
        within = [index for index in same if path.parts[-len(names[index].parts) :] == names[index].parts]
        same = within or same
    if len(same) > 1:
        several = listed([recordings.names[index] for index in same])
        raise ValueError(f"expected {place} to name one recording, but {named!r} may be any of {several}")
    return same[0] if same else None


def _recording_of(file: Path, recordings: Recordings, *, only: bool) -> str | None:
    """The recording that a file of annotations is about, by its name; the only one where it is the only file."""
    stems = {name: PurePosixPath(name).stem for name in recordings.names}
    fitting = [name for name, stem in stems.items() if composed(file.name).startswith(f"{composed(stem)}.")]
    longest = max((len(stems[name]) for name in fitting), default=0)
    same = [name for name in fitting if len(stems[name]) == longest]
    beside = [
        name for name in same if PurePosixPath(name).parts[:-1] == file.parts[-len(PurePosixPath(name).parts) : -1]
    ]
    if len(same) > 1 and len(beside) != 1:
        raise ValueError(f"expected {file} to be about one recording, but it may be about any of {listed(same)}")
    if same:
        return (beside or same)[0]
    return recordings.names[0] if only and len(recordings) == 1 else None
