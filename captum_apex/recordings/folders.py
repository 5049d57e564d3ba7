"""The audio files of a folder, in a fixed order, with labels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from torch import Tensor

from captum_apex.recordings.decoding import read

__all__ = ["SUFFIXES", "AudioDataset", "Recordings", "audio_files"]

SUFFIXES = (".aif", ".aiff", ".au", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav")
"""Suffixes of the files in a folder that count as audio files; upper case counts too."""


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
    def labels(self) -> Sequence[int] | Tensor | None:
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


@dataclass(frozen=True)
class Recordings:
    """Audio files in an order that depends only on their names, so that an index always means the same file.

    Args:
        folder: the folder of all files.
        names: path of each file from the folder, with `/` as separator.
        labels: index of the class of each file; None for a folder without classes.
        class_names: names of the classes, in the order of the labels.
        groups: name of the group of each file: its source, speaker or utterance, if the collection has one. To keep
            training and test apart, no group should be in both.

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
    labels: tuple[int, ...] | None = None
    class_names: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None

    @classmethod
    def in_folder(cls, folder: str | os.PathLike, class_names: Sequence[str] | None = None) -> Self:
        """The audio files of a folder: either one sub-folder per class, or files without labels.

        Files and folders with a name that begins with a dot are skipped, and so are files that are not audio.

        Args:
            folder: a folder of sub-folders with the names of classes, or a folder of audio files.
            class_names: names of the classes, in the order of the labels; by default the sorted names of the
                sub-folders.

        Raises:
            FileNotFoundError: if there is no such folder, or no audio file in it.
            ValueError: if there are audio files beside sub-folders, or the name of a sub-folder is not a class.

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
        files = audio_files(folder)
        files_by_class = _files_by_class(folder)
        _check_files(folder, files, files_by_class)
        class_names = tuple(files_by_class if class_names is None else class_names)
        if files:
            return cls(folder, tuple(files), class_names=class_names)
        _check_classes(folder, files_by_class, class_names)
        names = tuple(
            f"{class_name}/{name}" for class_name, class_files in files_by_class.items() for name in class_files
        )
        labels = tuple(class_names.index(name.partition("/")[0]) for name in names)
        return cls(folder, names, labels, class_names)

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """The path of a file.

        Args:
            index: index of the file.
        """
        return self.folder / self.names[index]

    def name(self, index: int) -> str:
        """The path of a file as text, for messages.

        Args:
            index: index of the file.
        """
        return os.fspath(self.path(index))

    def waveform(self, index: int, sample_rate: int, length: int | None = None, *, convert: bool = True) -> Tensor:
        """A file as a float32 tensor (sample,), with the arguments of `captum_apex.recordings.read`."""
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

    def fingerprint(self) -> str:
        """A SHA-256 hash of the names and sizes of all files, without reading their sound.

        It stays the same when the folder is moved.
        """
        digest = hashlib.sha256()
        for index, name in enumerate(self.names):
            line = f"{name}\0{self.path(index).stat().st_size}\0"
            digest.update(line.encode(errors="surrogateescape"))  # a file name may have bytes that are not Unicode
        return digest.hexdigest()


def audio_files(folder: Path) -> list[str]:
    """The sorted names of the audio files in a folder, without its sub-folders; none if there is no such folder.

    Args:
        folder: the folder.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.recordings import audio_files
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("b.wav", "a.flac", "notes.txt", ".hidden.wav"):
        ...         Path(folder, name).touch()
        ...     audio_files(Path(folder))
        ['a.flac', 'b.wav']
    """
    if not folder.is_dir():
        return []
    return sorted(
        path.name
        for path in folder.iterdir()
        if not _is_hidden(path) and path.suffix.lower() in SUFFIXES and path.is_file()
    )


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _files_by_class(folder: Path) -> dict[str, list[str]]:
    """The audio files of each sub-folder that has any, in the order of the sub-folders' names."""
    files_by_class = {path.name: audio_files(path) for path in sorted(folder.iterdir()) if not _is_hidden(path)}
    return {class_name: files for class_name, files in files_by_class.items() if files}


def _check_files(folder: Path, files: Sequence[str], files_by_class: Mapping[str, Sequence[str]]) -> None:
    if files and files_by_class:
        raise ValueError(
            f"expected either a sub-folder per class or only files, but {folder} has the file {files[0]!r} beside "
            f"the sub-folder {next(iter(files_by_class))!r}"
        )
    if not files and not files_by_class:
        raise FileNotFoundError(
            f"expected audio files ({', '.join(SUFFIXES)}) in {folder} or its sub-folders, but there are none"
        )


def _check_classes(folder: Path, files_by_class: Mapping[str, Sequence[str]], class_names: Sequence[str]) -> None:
    unknown = [name for name in files_by_class if name not in class_names]
    if unknown:
        raise ValueError(
            f"expected the sub-folders of {folder} to be named like classes ({', '.join(class_names)}), "
            f"but got {unknown[0]!r}; if the files have no labels, put all of them into one folder"
        )
