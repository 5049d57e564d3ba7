"""Sounds as waveforms, and audio files in a fixed order, with labels."""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import BinaryIO, Protocol, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["SUFFIXES", "AudioDataset", "Recordings", "as_waveform", "audio_files", "decode", "read", "sound_library"]

SUFFIXES = (".aif", ".aiff", ".au", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav")
"""What counts as an audio file in a folder."""

_MARGIN = 0.01  # seconds that are read past a clip's end, so that resampling meets sound there and no edge


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
        by_class = {part.name: files for part in sorted(folder.iterdir()) if _is_seen(part) and (files := audio_files(part))}
        if flat and by_class:
            raise ValueError(
                f"expected either a sub-folder per class or files alone, but {folder} has {flat[0]!r} beside {next(iter(by_class))!r}"
            )
        if not flat and not by_class:
            raise FileNotFoundError(f"expected audio files ({', '.join(SUFFIXES)}) in {folder} or its sub-folders, but there are none")
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
            digest.update(f"{name}\0{self.path(index).stat().st_size}\0".encode(errors="surrogateescape"))  # not every name is Unicode
        return digest.hexdigest()


def read(path: str | os.PathLike, sample_rate: int, length: int | None = None, *, convert: bool = True) -> Tensor:
    """A file as a waveform: channels averaged, resampled where its rate is another.

    Args:
        path: of any kind that libsndfile reads.
        sample_rate: of the waveform, in Hz.
        length: in samples; what is longer is cut at its end, what is shorter is padded with zeros. None keeps all of it.
        convert: what becomes of a file of another rate or with several channels. True converts it with a warning, False refuses it.

    Returns:
        float32 tensor (sample,).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: naming the file, where it is no audio, is empty, holds NaN or infinity, or would have to be converted and must not.
        ImportError: soundfile is missing, or torchaudio where the rate is another.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"expected an audio file at {os.fspath(path)}, but there is none")
    with open(path, "rb") as file:  # libsndfile is given the opened file: it cannot open one whose name is not Unicode
        return decode(file, sample_rate, length, convert=convert, name=os.fspath(path))


def decode(
    file: BinaryIO,
    sample_rate: int,
    length: int | None = None,
    *,
    centre: float | None = None,
    convert: bool = True,
    name: str = "the file",
) -> Tensor:
    """An opened file as a waveform; what is not said here is as in `read`.

    Args:
        file: opened in binary mode, or bytes in a `io.BytesIO`.
        sample_rate: of the waveform, in Hz.
        length: in samples.
        centre: the time in the file, in s, that the waveform has in its middle, as far as the file reaches on both sides; without it, or
            without a `length`, the waveform begins where the file does.
        convert: False refuses another rate and several channels.
        name: for messages.
    """
    soundfile = sound_library()
    seconds = math.inf if length is None else length / sample_rate
    try:
        with soundfile.SoundFile(file) as sound:
            rate = sound.samplerate
            if centre is not None and length is not None:
                sound.seek(round(rate * max(0.0, min(centre - seconds / 2, sound.frames / rate - seconds))))
            frames = -1 if length is None else math.ceil((seconds + _MARGIN) * rate)
            samples = torch.from_numpy(sound.read(frames, dtype="float32", always_2d=True).T)  # (channel, sample)
    except soundfile.SoundFileError as error:
        raise ValueError(f"expected {name} to be audio, but it cannot be read: {error}") from error
    return as_waveform(samples, rate, sample_rate, length, convert=convert, name=name)


def as_waveform(
    samples: Tensor, rate: int, sample_rate: int, length: int | None = None, *, convert: bool = True, name: str = "the recording"
) -> Tensor:
    """A sound in memory as a waveform: channels averaged, resampled where its rate is another.

    Args:
        samples: floats (channel, sample) or (sample,).
        rate: of the samples, in Hz.
        sample_rate: of the waveform, in Hz.
        length: in samples of the waveform; what is longer is cut at its end, what is shorter is padded with zeros. None keeps all of it.
        convert: True converts another rate or several channels with a warning, False refuses them.
        name: for messages.

    Returns:
        float32 tensor (sample,).

    Raises:
        TypeError: the samples are no tensor of floats.
        ValueError: they have another shape, are none, hold NaN or infinity, or would have to be converted and must not.
        ImportError: torchaudio is missing, and the rate is another.

    >>> as_waveform(torch.tensor([0.5, -0.5]), 8000, sample_rate=8000, length=3)
    tensor([ 0.5000, -0.5000,  0.0000])
    """
    if not isinstance(samples, Tensor) or not samples.is_floating_point():
        raise TypeError(
            f"expected the samples of {name} as a tensor of floats, but got {getattr(samples, 'dtype', type(samples).__name__)}"
        )
    if samples.dim() not in (1, 2) or len(samples) > samples.shape[-1] > 0:  # so many channels are samples that come first
        raise ValueError(f"expected the samples of {name} of shape (channel, sample) or (sample,), but got {tuple(samples.shape)}")
    channels = torch.atleast_2d(samples.to(torch.float32))  # (sample,) → (channel, sample)
    if not channels.numel() or not channels.isfinite().all():
        raise ValueError(f"expected {name} to hold sound, but {'got NaN or infinity' if channels.numel() else 'it is empty'}")
    if not convert and (rate != sample_rate or len(channels) > 1):
        raise ValueError(
            f"expected {name} at {sample_rate} Hz with one channel, but got {rate} Hz with {len(channels)}; "
            "convert it, or allow it by convert=True"
        )
    waveform = _resampled(_mixed_down(channels), rate, sample_rate)[:length]
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


def audio_files(folder: Path) -> list[str]:
    """Names of the audio files that lie in a folder itself, sorted."""
    if not folder.is_dir():
        return []
    return sorted(path.name for path in folder.iterdir() if _is_seen(path) and path.suffix.lower() in SUFFIXES and path.is_file())


def _is_seen(path: Path) -> bool:
    return not path.name.startswith(".")


# The warnings name no file, so that Python shows each of them once and not once per recording.
def _mixed_down(channels: Tensor) -> Tensor:
    if len(channels) > 1:
        warnings.warn(f"recordings with {len(channels)} channels are mixed down to one, their mean", stacklevel=3)
    return channels.mean(0)


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
    warnings.warn(f"recordings at {rate} Hz are resampled to {wanted} Hz", stacklevel=3)
    return resample(waveform, rate, wanted)
