"""The audio files of a folder, in a fixed order, with labels."""

from __future__ import annotations

import hashlib
import os
import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

from torch import Tensor

from captum_apex.recordings.decoding import read

__all__ = ["SUFFIXES", "AudioDataset", "Recordings", "audio_files"]

SUFFIXES = (".aif", ".aiff", ".au", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav")
"""Suffixes of the files in a folder that count as audio files; upper case counts too."""

_N_EXAMPLES = 3  # names of left-out files in a warning


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

        Files and folders with a name that begins with a dot are skipped. A warning says what else is left out: files
        with other suffixes than `SUFFIXES`, sub-folders without recordings, folders inside of sub-folders, and links to
        nothing. Names are compared and sorted in Unicode's composed form (NFC), because some systems store them in the
        decomposed one.

        Args:
            folder: a folder of sub-folders with the names of classes, or a folder of audio files.
            class_names: names of the classes, in the order of the labels; by default the sorted names of the
                sub-folders.

        Raises:
            FileNotFoundError: if there is no such folder, or no audio file in it.
            ValueError: if there are audio files beside sub-folders, the name of a sub-folder is not a class, or two
                sub-folders have the same name in Unicode's composed form.

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
        files_by_folder = _files_by_folder(folder)
        left_out = _left_out(folder)
        _check_files(folder, files, files_by_folder, left_out)
        if left_out:
            warnings.warn(f"left out of {folder}: {left_out}", stacklevel=2)
        class_names = tuple(map(_composed, files_by_folder) if class_names is None else class_names)
        if files:
            return cls(folder, tuple(files), class_names=class_names)
        labels_by_name = {_composed(name): label for label, name in enumerate(class_names)}
        labels_by_name |= {name: label for label, name in enumerate(class_names)}
        _check_classes(folder, files_by_folder, class_names)
        names = tuple(f"{name}/{file}" for name, folder_files in files_by_folder.items() for file in folder_files)
        folders = [name.partition("/")[0] for name in names]
        labels = tuple(labels_by_name[name if name in labels_by_name else _composed(name)] for name in folders)
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
        return replace(self, names=names, labels=labels, groups=groups), bad

    def fingerprint(self) -> str:
        """A SHA-256 hash of the names and sizes of all files, without reading their sound.

        It stays the same when the folder is moved.
        """
        digest = hashlib.sha256()
        for index, name in enumerate(self.names):
            line = f"{_composed(name)}\0{self.path(index).stat().st_size}\0"
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
    return [path.name for path in _listed(folder) if path.suffix.lower() in SUFFIXES and path.is_file()]


def _composed(name: str) -> str:
    """A name in Unicode's composed form: macOS gives a folder that is typed as 'ö' the name 'o' with an accent."""
    return unicodedata.normalize("NFC", name)


def _listed(folder: Path) -> list[Path]:
    """What is in a folder, sorted by name, without hidden files and folders."""
    shown = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return sorted(shown, key=lambda path: (_composed(path.name), path.name))


def _files_by_folder(folder: Path) -> dict[str, list[str]]:
    """The audio files of each sub-folder that has any, in the order of the sub-folders' names."""
    files_by_folder = {path.name: audio_files(path) for path in _listed(folder)}
    return {name: files for name, files in files_by_folder.items() if files}


def _left_out(folder: Path) -> str:
    """What is in a folder and its sub-folders, but is not read: how much of each kind, with examples."""
    kinds: dict[str, list[str]] = {}
    for path in _listed(folder):
        inner = _listed(path) if path.is_dir() else []
        if path.is_dir() and not audio_files(path):
            kinds.setdefault("sub-folders without recordings", []).append(path.name)
        for each in (path, *inner):
            kind = _kind(each, is_inner=each is not path)
            if kind:
                kinds.setdefault(kind, []).append(each.relative_to(folder).as_posix())
    return "; ".join(
        f"{kind} ({len(names)}: {', '.join(names[:_N_EXAMPLES])}{', …' if len(names) > _N_EXAMPLES else ''})"
        for kind, names in kinds.items()
    )


def _kind(path: Path, is_inner: bool) -> str:
    """The kind of files or folders that a path belongs to if it is left out; empty if it is not."""
    if path.is_dir():
        return "folders inside of sub-folders" if is_inner else ""
    if not path.exists():
        return "links to nothing"
    if not path.is_file():
        return "entries that are no files"
    return "" if path.suffix.lower() in SUFFIXES else "files with other suffixes"


def _check_files(
    folder: Path, files: Sequence[str], files_by_folder: Mapping[str, Sequence[str]], left_out: str
) -> None:
    if files and files_by_folder:
        raise ValueError(
            f"expected either a sub-folder per class or only files, but {folder} has the file {files[0]!r} beside "
            f"the sub-folder {next(iter(files_by_folder))!r}"
        )
    if not files and not files_by_folder:
        found = f"only {left_out}" if left_out else "it is empty"
        raise FileNotFoundError(
            f"expected audio files ({', '.join(SUFFIXES)}) in {folder} or its sub-folders, but there are none: {found}"
        )
    composed = [_composed(name) for name in files_by_folder]
    twice = [name for name in composed if composed.count(name) > 1]
    if twice:
        raise ValueError(
            f"expected sub-folders of {folder} with different names, but {twice[0]!r} is there composed and decomposed "
            "(NFC and NFD); put the files of both into one"
        )


def _check_classes(folder: Path, files_by_folder: Mapping[str, Sequence[str]], class_names: Sequence[str]) -> None:
    known = set(map(_composed, class_names))
    unknown = [name for name in files_by_folder if _composed(name) not in known]
    if unknown:
        raise ValueError(
            f"expected the sub-folders of {folder} to be named like classes ({', '.join(class_names)}), "
            f"but got {unknown[0]!r}; if the files have no labels, put all of them into one folder"
        )
