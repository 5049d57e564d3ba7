"""Audio files and sounds in memory as waveforms."""

from __future__ import annotations

import math
import os
import warnings
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["as_waveform", "decode", "read", "sound_library"]

_MARGIN = 0.01  # seconds that are read past a clip's end, so that resampling meets sound there and no edge


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
    samples: Tensor,
    rate: int,
    sample_rate: int,
    length: int | None = None,
    *,
    convert: bool = True,
    name: str = "the recording",
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
    if (
        samples.dim() not in (1, 2) or len(samples) > samples.shape[-1] > 0
    ):  # so many channels are samples that come first
        raise ValueError(
            f"expected the samples of {name} of shape (channel, sample) or (sample,), but got {tuple(samples.shape)}"
        )
    channels = torch.atleast_2d(samples.to(torch.float32))  # (sample,) → (channel, sample)
    if not channels.numel() or not channels.isfinite().all():
        raise ValueError(
            f"expected {name} to hold sound, but {'got NaN or infinity' if channels.numel() else 'it is empty'}"
        )
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
