"""Audio files in a fixed order, with labels."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from torch import Tensor

from captum_apex.recordings.decoding import read

__all__ = ["SUFFIXES", "AudioDataset", "Recordings", "audio_files"]

SUFFIXES = (".aif", ".aiff", ".au", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav")
"""What counts as an audio file in a folder."""


class AudioDataset(Protocol):
    """Labelled sounds in a fixed order: what `Classifier.dataset` takes, and what every loader gives."""

    @property
    def labels(self) -> Sequence[int] | Tensor | None:
        """The class of each clip as an index, or (clip, class) of 0 and 1 where a clip can have several; None without labels."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the labels."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Of a clip, for messages and titles."""

    def waveform(self, index: int, sample_rate: int, length: int | None = None, *, convert: bool = True) -> Tensor:
        """A clip as float32 (sample,); arguments as in `read`."""

    def fingerprint(self) -> str:
        """Says whether an index means the same clip as before."""


@dataclass(frozen=True)
class Recordings:
    """Audio files in an order that depends on their names alone, so that an index always means the same file.

    Args:
        folder: where they lie.
        names: paths from the folder, with `/` between the parts.
        labels: the class of each, as an index; None for a folder without classes.
        class_names: in the order of the labels.
        groups: what clips of one origin share, such as the source that they were cut from, the speaker or the utterance, where the
            collection says it. No group should be in a training and in a test part.
    """

    folder: Path
    names: tuple[str, ...]
    labels: tuple[int, ...] | None = None
    class_names: tuple[str, ...] = ()
    groups: tuple[str, ...] | None = None

    @classmethod
    def in_folder(cls, folder: str | os.PathLike, class_names: Sequence[str] | None = None) -> Self:
        """A sub-folder of files per class, or files without labels.

        Names that begin with a dot are passed over, and so are files of other kinds.

        Args:
            folder: holds either sub-folders that are named like classes, or audio files.
            class_names: in the order of the labels; the names of the sub-folders, sorted, if left out.

        Raises:
            FileNotFoundError: there is no such folder, or no audio file in it.
            ValueError: there are files beside sub-folders, or a sub-folder is not named like a class.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"expected a folder of audio at {folder}, but there is none")
        flat = audio_files(folder)
        by_class = {
            part.name: files for part in sorted(folder.iterdir()) if _is_seen(part) and (files := audio_files(part))
        }
        if flat and by_class:
            raise ValueError(
                f"expected either a sub-folder per class or files alone, but {folder} has {flat[0]!r} beside {next(iter(by_class))!r}"
            )
        if not flat and not by_class:
            raise FileNotFoundError(
                f"expected audio files ({', '.join(SUFFIXES)}) in {folder} or its sub-folders, but there are none"
            )
        class_names = tuple(by_class if class_names is None else class_names)
        if flat:
            return cls(folder, tuple(flat), class_names=class_names)
        unknown = [name for name in by_class if name not in class_names]
        if unknown:
            raise ValueError(
                f"expected the sub-folders of {folder} to be named like classes ({', '.join(class_names)}), but got {unknown[0]!r}; "
                "without labels, put all files into one folder"
            )
        names = tuple(f"{label}/{name}" for label, files in by_class.items() for name in files)
        return cls(folder, names, tuple(class_names.index(name.partition("/")[0]) for name in names), class_names)

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """The file of this index."""
        return self.folder / self.names[index]

    def name(self, index: int) -> str:
        """The file of this index, for messages."""
        return os.fspath(self.path(index))

    def waveform(self, index: int, sample_rate: int, length: int | None = None, *, convert: bool = True) -> Tensor:
        """The file of this index as float32 (sample,); see `read`."""
        return read(self.path(index), sample_rate, length, convert=convert)

    def twins(self, index: int) -> tuple[int, ...]:
        """The other clips of a clip's group, such as the vocoded twins of a real one; none without groups."""
        if self.groups is None:
            return ()
        return tuple(other for other, group in enumerate(self.groups) if group == self.groups[index] and other != index)

    def fingerprint(self) -> str:
        """A SHA-256 of the names and sizes of all files; it stays when the folder moves, and no sound is read for it."""
        digest = hashlib.sha256()
        for index, name in enumerate(self.names):
            digest.update(
                f"{name}\0{self.path(index).stat().st_size}\0".encode(errors="surrogateescape")
            )  # not every name is Unicode
        return digest.hexdigest()


def audio_files(folder: Path) -> list[str]:
    """Names of the audio files that lie in a folder itself, sorted."""
    if not folder.is_dir():
        return []
    return sorted(
        path.name for path in folder.iterdir() if _is_seen(path) and path.suffix.lower() in SUFFIXES and path.is_file()
    )


def _is_seen(path: Path) -> bool:
    return not path.name.startswith(".")
