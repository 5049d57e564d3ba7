"""Recordings in a fixed order, with labels: the audio files of a folder or of a table, or a Hugging Face data set."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from captum_apex.caller import warn_caller
from captum_apex.recordings.audio_rows import AudioRows, label_column
from captum_apex.recordings.background_labels import labels_with_background
from captum_apex.recordings.class_labels import Labels, composed, named_class
from captum_apex.recordings.decoding import read
from captum_apex.recordings.folder_files import FolderContents
from captum_apex.recordings.tables import Table
from captum_apex.result_tables import counted, listed

__all__ = ["AudioDataset", "Recordings"]


class AudioDataset(Protocol):
    """A dataset of sounds in a fixed order, for `Classifier.dataset`.

    `Recordings` and the readers in `captum_apex.datasets` have these methods.

    Example:
        >>> from pathlib import Path
        >>> from captum_apex import Recordings
        >>> from captum_apex.recordings import AudioDataset
        >>> sounds: AudioDataset = Recordings(Path("sounds"), ("a.wav", "b.wav"))
        >>> len(sounds), sounds.name(1)
        (2, 'sounds/b.wav')
    """

    @property
    def labels(self) -> Sequence[Any] | Tensor | None:
        """Index of the class of each clip, shape (clip,); None without labels.

        If a clip can have several classes: 0 and 1, shape (clip, class).
        """

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the labels."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """The name of a clip, for messages and titles."""

    def waveform(self, index: int, sample_rate: int, length: int | None = None, *, convert: bool = True) -> Tensor:
        """A clip as a float32 tensor (sample,), with the arguments of `captum_apex.recordings.read`."""

    def fingerprint(self) -> str:
        """A hash that changes when an index no longer means the same clip."""


@dataclass(frozen=True, repr=False)
class Recordings:
    """Recordings in a fixed order, so that an index always means the same one; each is read when it is asked for.

    Args:
        folder: the folder of all files.
        names: path of each file from the folder, with `/` as separator.
        labels: index of the class of each file; or, for files of several classes, a 0 or 1 for each class, (file,
            class); None for files without labels.
        class_names: names of the classes, in the order of the labels.
        groups: name of the group of each file: its source, speaker or utterance, if the collection has one. To keep
            training and test apart, no group should be in both.
        sounds: rows of a Hugging Face data set, in place of files; `names` are then the names of the rows.

    Example:
        >>> from pathlib import Path
        >>> from captum_apex import Recordings
        >>> names = ("dog/a.wav", "dog/b.wav", "rain/c.wav")
        >>> recordings = Recordings(Path("sounds"), names, labels=(0, 0, 1), class_names=("dog", "rain"))
        >>> recordings.name(2), recordings.class_names[recordings.labels[2]]
        ('sounds/rain/c.wav', 'rain')
    """

    folder: Path
    names: tuple[str, ...]
    labels: Labels | None = None
    class_names: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None
    sounds: AudioRows | None = None

    @classmethod
    def in_folder(
        cls, folder: str | os.PathLike, class_names: Sequence[str] | None = None, *, background: str | None = None
    ) -> Self:
        """The audio files of a folder: either one sub-folder per class, or files without labels.

        Folders may be nested: a recording is of the class of the outermost sub-folder that it is in. Files and folders
        with a name that begins with a dot are skipped. A warning says what else is left out: files with other suffixes
        than `SUFFIXES`, sub-folders without recordings, and links to nothing. Names are compared and sorted in
        Unicode's composed form (NFC), because some systems store them in the decomposed one.

        Args:
            folder: a folder of sub-folders with the names of classes, or a folder of audio files.
            class_names: names of the classes, in the order of the labels, such as `classifier.class_names`. A
                sub-folder may then also be named similarly, as long as this means only one class: in upper or lower
                case, with `_`, `-` or spaces, and with a number before the name: `001_dog_bark` for "dog bark". By
                default the sorted names of the sub-folders, as they are.
            background: name of the sub-folder of recordings without any of the classes, such as
                `classifier.background`; labels are then a 0 or 1 for each class. None for no such sub-folder.

        Raises:
            FileNotFoundError: if there is no such folder, or no audio file in it.
            ValueError: if there are audio files beside sub-folders, the name of a sub-folder is not a class or could
                mean several, two sub-folders mean the same class, or without `class_names`, if the classes may be
                folders inside of the sub-folders.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from captum_apex import Recordings
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     for name in ("rain/b.wav", "dog/a.wav"):
            ...         Path(folder, name).parent.mkdir()
            ...         Path(folder, name).touch()
            ...     recordings = Recordings.in_folder(folder)
            >>> recordings.names, recordings.labels, recordings.class_names
            (('dog/a.wav', 'rain/b.wav'), (0, 1), ('dog', 'rain'))
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"expected a folder of audio at {folder}, but there is none")
        contents = FolderContents.of(folder)
        contents.check(has_classes=class_names is not None)
        said = contents.left_out()
        if said:
            warn_caller(f"left out of {folder}: {said}")
        names_of_folders = (name for name in map(composed, contents.by_class) if name != background)
        class_names = tuple(names_of_folders if class_names is None else map(named_class, class_names))
        if contents.files:
            return cls(folder, tuple(contents.files), class_names=class_names)
        names = tuple(path for files in contents.by_class.values() for path in files)
        return cls(folder, names, contents.labels(class_names, background), class_names)

    @classmethod
    def from_csv(
        cls,
        path: str | os.PathLike,
        file: str | None = None,
        label: str | None = None,
        class_names: Sequence[str] | None = None,
        *,
        folder: str | os.PathLike | None = None,
        skip_missing: bool = False,
        background: str | None = None,
    ) -> Self:
        r"""The audio files of a CSV file with a column of files and a column of labels, in the order of its rows.

        Args:
            path: a file in UTF-8 whose first line names the columns, with commas, semicolons, tabs or `|` between them.
            file: name of the column of files; by default the first of the usual ones that is there, such as "file",
                "filename" or "path".
            label: name of the column of labels; by default the first of the usual ones that is there, such as "label",
                "class" or "category". A file with one column has no labels.
            class_names: names of the classes, in the order of the labels, such as `classifier.class_names`; by default
                the different labels, sorted. Labels may be their names, or names that are similar as in `in_folder`;
                their indices; or several names with `,`, `;`, `|` or spaces between them. Without a column of labels,
                there may be a column of 0 and 1 for each class, named like it.
            folder: the folder of relative paths; by default that of the CSV file.
            skip_missing: leave out missing files, with a warning, instead of stopping at them.
            background: label of files without any of the classes, such as `classifier.background`; labels are then a 0
                or 1 for each class. It needs `class_names`. None for no such label.

        Raises:
            FileNotFoundError: if there is no such CSV file, or if an audio file is missing; the message gives the line.
            ValueError: if it is no such table, a file occurs twice, or a label is no class (see `from_table`).

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from captum_apex import Recordings
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     Path(folder, "a.wav").touch()
            ...     _ = Path(folder, "sounds.csv").write_text("file,species\na.wav,Turdus merula\n")
            ...     recordings = Recordings.from_csv(Path(folder, "sounds.csv"), label="species")
            >>> recordings.names, recordings.labels, recordings.class_names
            (('a.wav',), (0,), ('Turdus merula',))
        """
        table = Table.of_csv(Path(path), None if folder is None else Path(folder))
        return cls(table.folder, *table.labelled_files(file, label, class_names, skip_missing, background))

    @classmethod
    def from_table(
        cls,
        table: Any,
        file: Any = None,
        label: Any = None,
        class_names: Sequence[str] | None = None,
        *,
        folder: str | os.PathLike = ".",
        skip_missing: bool = False,
        background: str | None = None,
    ) -> Self:
        """The audio files of a table in memory, such as a pandas DataFrame, in the order of its rows.

        Args:
            table: columns by their names; a DataFrame, or a dict of lists or arrays.
            file: name of the column of files, as in `from_csv`.
            label: name of the column of labels, as in `from_csv`. A label is the name of a class or, with
                `class_names`, its index, False or True for two classes, a list of names or indices, or a list of a 0 or
                1 for each class. None and NaN mean no label, which then no file may have.
            class_names: names of the classes, as in `from_csv`; by default the categories of the column if it has them.
            folder: the folder of relative paths.
            skip_missing: leave out missing files, with a warning, instead of stopping at them.
            background: label of files without any of the classes, such as `classifier.background`; labels are then a 0
                or 1 for each class. It needs `class_names`. None for no such label.

        Raises:
            FileNotFoundError: if an audio file is missing; the message gives the number of the row, from 0.
            TypeError: if a file is no path, or a label of another kind.
            ValueError: if there is no such column, a file occurs twice, a label is no class or could mean two, or only
                some files have a label.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> import pandas as pd
            >>> from captum_apex import Recordings
            >>> table = pd.DataFrame({"file": ["a.wav", "b.wav"], "label": ["rain", "dog"]})
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     for name in table["file"]:
            ...         Path(folder, name).touch()
            ...     recordings = Recordings.from_table(table, folder=folder)
            >>> recordings.names, recordings.labels, recordings.class_names
            (('a.wav', 'b.wav'), (1, 0), ('dog', 'rain'))
        """
        rows = Table(table, Path(folder))
        return cls(rows.folder, *rows.labelled_files(file, label, class_names, skip_missing, background))

    @classmethod
    def from_hugging_face(
        cls,
        dataset: Any,
        audio: str = "audio",
        label: str | None = "label",
        class_names: Sequence[str] | None = None,
        background: str | None = None,
    ) -> Self:
        """The sounds of a Hugging Face data set, in the order of its rows; each is decoded when it is asked for.

        Args:
            dataset: one split, a `datasets.Dataset`. Its format and its transform are not applied.
            audio: name of the column of sounds: of the feature `Audio`, of paths, or of decoded sounds.
            label: name of the column of labels, of any kind that `from_table` takes; None for no labels.
            class_names: names of the classes, such as `classifier.class_names`; by default those of the feature
                `ClassLabel`, otherwise the different labels, sorted.
            background: label of sounds without any of the classes, as in `from_table`.

        Raises:
            TypeError: if it is not one split with a length, or a label is of another kind.
            ValueError: if there is no such column, a label is no class or could mean two, or only some rows have one.

        Example:
            >>> from captum_apex import Recordings
            >>> from datasets import ClassLabel, Dataset, Features
            >>> sounds = [{"array": [0.25, -0.5], "sampling_rate": 8000}] * 2
            >>> split = Dataset.from_dict({"audio": sounds, "label": [1, 0]})
            >>> split = split.cast_column("label", ClassLabel(names=["rain", "dog"]))
            >>> recordings = Recordings.from_hugging_face(split)
            >>> recordings.names, recordings.labels, recordings.class_names
            (('row 0', 'row 1'), (1, 0), ('rain', 'dog'))
            >>> recordings.waveform(0, sample_rate=8000)
            tensor([ 0.2500, -0.5000])
        """
        sounds = AudioRows.of(dataset, audio)
        names = sounds.names()
        if label is None:
            return cls(Path(), names, class_names=tuple(class_names or ()), sounds=sounds)
        values, names_of_feature = label_column(dataset, label)
        names_of_classes = [name for name in names_of_feature or () if name != background] or None
        about_labels = (names.__getitem__, class_names or names_of_classes, background)
        return cls(Path(), names, *labels_with_background(values, *about_labels), sounds=sounds)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        folder = "the current folder" if self.folder == Path() else os.fspath(self.folder)
        place = "a data set" if self.sounds is not None else folder
        lines = [f"{counted(len(self), 'recording')} of {place}"]
        lines.append(f"  classes: {listed(self._counts())}" if self.labels is not None else "  classes: none")
        if self.groups is not None:
            lines.append(f"  groups: {len(set(self.groups))}")
        return "\n".join(lines)

    def _counts(self) -> list[str]:
        """Each class with the number of its recordings."""
        labels = torch.as_tensor(self.labels)
        of_class = labels.bool().sum(0) if labels.dim() == 2 else labels.bincount(minlength=len(self.class_names))
        return [f"{name} ({n})" for name, n in zip(self.class_names, of_class.tolist(), strict=False)]

    def path(self, index: int) -> Path:
        """The path of a file; the rows of a Hugging Face data set have none.

        Args:
            index: index of the file.
        """
        return self.folder / self.names[index]

    def name(self, index: int) -> str:
        """The path of a file as text, or the name of a row of a Hugging Face data set, for messages.

        Args:
            index: index of the file.
        """
        return os.fspath(self.path(index)) if self.sounds is None else self.names[index]

    def waveform(self, index: int, sample_rate: int, length: int | None = None, *, convert: bool = True) -> Tensor:
        """A file as a float32 tensor (sample,), with the arguments of `captum_apex.recordings.read`."""
        if self.sounds is not None:
            return self.sounds.waveform(index, self.name(index), sample_rate, length, convert=convert)
        return read(self.path(index), sample_rate, length, convert=convert)

    def twins(self, index: int) -> tuple[int, ...]:
        """The other files of a file's group, such as the vocoded versions of a real utterance.

        Args:
            index: index of the file.

        Returns:
            Indices of the other files; none if the collection has no groups.

        Example:
            >>> from pathlib import Path
            >>> from captum_apex import Recordings
            >>> recordings = Recordings(Path("speech"), ("a.wav", "a_fake.wav", "b.wav"), groups=("a", "a", "b"))
            >>> recordings.twins(0)
            (1,)
        """
        if self.groups is None:
            return ()
        return tuple(other for other, group in enumerate(self.groups) if group == self.groups[index] and other != index)

    def readable(self, attempt: Callable[[int], Any]) -> tuple[Self, dict[str, str]]:
        """The files that can be read, so that one bad file among thousands does not stop the work on the others.

        Args:
            attempt: function that reads the file with an index, and raises an error if the file is bad, such as
                `classifier.dataset(recordings).input`.

        Returns:
            The recordings without those for which `attempt` raises a ValueError or an OSError, and the message of the
            error for each of those, by the path of the file as text. Labels and groups stay with their files, and the
            indices of the files after a bad one change.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> import torch
            >>> from captum_apex import Recordings, listening
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     _ = Path(folder, "a.wav").write_text("no sound")
            ...     listening.write(Path(folder, "b.wav"), torch.zeros(100), 8000)
            ...     recordings = Recordings.in_folder(folder)
            ...     readable, bad = recordings.readable(lambda index: recordings.waveform(index, sample_rate=8000))
            >>> readable.names, [Path(name).name for name in bad]
            (('b.wav',), ['a.wav'])
        """
        good = []
        bad = {}
        for index in range(len(self)):
            try:
                attempt(index)
                good.append(index)
            except (ValueError, OSError) as error:
                bad[self.name(index)] = str(error)
        labels = None if self.labels is None else tuple(self.labels[index] for index in good)
        groups = None if self.groups is None else tuple(self.groups[index] for index in good)
        names = tuple(self.names[index] for index in good)
        sounds = None if self.sounds is None else self.sounds.selected(good)
        return replace(self, names=names, labels=labels, groups=groups, sounds=sounds), bad

    def fingerprint(self) -> str:
        """A SHA-256 hash of the names and sizes of all files, without reading their sound.

        It stays the same when the folder is moved. The rows of a Hugging Face data set have no sizes: the hash is of
        their numbers and paths, or of what the data set calls its state where there are no paths.
        """
        if self.sounds is not None:
            return self.sounds.fingerprint()
        digest = hashlib.sha256()
        for index, name in enumerate(self.names):
            line = f"{composed(name)}\0{self.path(index).stat().st_size}\0"
            digest.update(line.encode(errors="surrogateescape"))  # a file name may have bytes that are not Unicode
        return digest.hexdigest()
