"""Audio files: one of them as a waveform, and a folder of them in a fixed order, with labels."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["SUFFIXES", "Recordings", "read", "sound_library"]

SUFFIXES = (".aif", ".aiff", ".au", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav")
"""What counts as an audio file in a folder."""

_MARGIN = 0.01  # seconds that are read past a clip's end, so that resampling meets sound there and no edge


@dataclass(frozen=True)
class Recordings:
    """The audio files of a folder, in an order that depends on their names alone, so that an index always means the same file.

    Args:
        folder: where they lie.
        names: paths from the folder, with `/` between the parts, sorted.
        labels: the class of each, as an index; None for a folder without classes.
    """

    folder: Path
    names: tuple[str, ...]
    labels: tuple[int, ...] | None = None

    @classmethod
    def in_folder(cls, folder: str | os.PathLike, class_names: Sequence[str]) -> Self:
        """A sub-folder of files per class, or files without labels.

        Names that begin with a dot are passed over, and so are files of other kinds.

        Args:
            folder: holds either sub-folders that are named like classes, or audio files.
            class_names: in the order of the labels.

        Raises:
            FileNotFoundError: there is no such folder, or no audio file in it.
            ValueError: there are files beside sub-folders, or a sub-folder is not named like a class.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"expected a folder of audio at {folder}, but there is none")
        flat = _audio_files(folder)
        by_class = {part.name: files for part in sorted(folder.iterdir()) if _is_seen(part) and (files := _audio_files(part))}
        if flat and by_class:
            raise ValueError(
                f"expected either a sub-folder per class or files alone, but {folder} has {flat[0]!r} beside {next(iter(by_class))!r}"
            )
        if not flat and not by_class:
            raise FileNotFoundError(f"expected audio files ({', '.join(SUFFIXES)}) in {folder} or its sub-folders, but there are none")
        if flat:
            return cls(folder, tuple(flat))
        unknown = [name for name in by_class if name not in class_names]
        if unknown:
            raise ValueError(
                f"expected the sub-folders of {folder} to be named like classes ({', '.join(class_names)}), but got {unknown[0]!r}; "
                "without labels, put all files into one folder"
            )
        names = tuple(f"{label}/{name}" for label, files in by_class.items() for name in files)
        return cls(folder, names, tuple(list(class_names).index(name.partition("/")[0]) for name in names))

    def __len__(self) -> int:
        return len(self.names)

    def path(self, index: int) -> Path:
        """The file of this index."""
        return self.folder / self.names[index]

    def fingerprint(self) -> str:
        """A SHA-256 of the names and sizes of all files; it stays when the folder moves, and no sound is read for it."""
        digest = hashlib.sha256()
        for index, name in enumerate(self.names):
            digest.update(f"{name}\0{self.path(index).stat().st_size}\0".encode(errors="surrogateescape"))  # not every name is Unicode
        return digest.hexdigest()


def read(path: str | os.PathLike, sample_rate: int, length: int | None = None) -> Tensor:
    """A file as a waveform: channels averaged, resampled where its rate is another.

    Args:
        path: of any kind that libsndfile reads.
        sample_rate: of the waveform, in Hz.
        length: in samples; what is longer is cut at its end, what is shorter is padded with zeros. None keeps all of it.

    Returns:
        float32 tensor (sample,).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: naming the file, where it is no audio, is empty, or holds NaN or infinity.
        ImportError: soundfile is missing, or torchaudio where the rate is another.
    """
    soundfile = sound_library()
    if not Path(path).is_file():
        raise FileNotFoundError(f"expected an audio file at {os.fspath(path)}, but there is none")
    try:
        # libsndfile is given the opened file: it cannot open one whose name is not Unicode.
        with open(path, "rb") as opened, soundfile.SoundFile(opened) as file:
            rate = file.samplerate
            frames = -1 if length is None else math.ceil((length / sample_rate + _MARGIN) * rate)
            samples = torch.from_numpy(file.read(frames, dtype="float32", always_2d=True))  # (sample, channel)
    except soundfile.SoundFileError as error:
        raise ValueError(f"expected {os.fspath(path)} to be audio, but it cannot be read: {error}") from error
    if not len(samples) or not samples.isfinite().all():
        raise ValueError(f"expected {os.fspath(path)} to hold sound, but {'it is empty' if not len(samples) else 'got NaN or infinity'}")
    waveform = _resampled(samples.mean(1), rate, sample_rate)[:length]
    return waveform if length is None else pad(waveform, (0, length - len(waveform)))


def sound_library() -> ModuleType:
    """soundfile, or an ImportError that says how to get it."""
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError where its C library is not there
        raise ImportError(
            f"expected soundfile, which reads and writes sound, but it cannot be imported: pip install 'captum-apex[audio]' ({error})"
        ) from error
    return soundfile


def _audio_files(folder: Path) -> list[str]:
    """Names of the audio files that lie in a folder itself, sorted."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if _is_seen(path) and path.suffix.lower() in SUFFIXES and path.is_file())


def _is_seen(path: Path) -> bool:
    return not path.name.startswith(".")


def _resampled(waveform: Tensor, rate: int, wanted: int) -> Tensor:
    if rate == wanted:
        return waveform
    try:
        from torchaudio.functional import resample
    except (ImportError, OSError) as error:
        raise ImportError(
            f"expected torchaudio, which resamples from {rate} to {wanted} Hz, but it cannot be imported: "
            f"pip install 'captum-apex[audio]' ({error})"
        ) from error
    return resample(waveform, rate, wanted)
