"""One audio file, or one sound in memory, as a waveform."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor
from torch.nn.functional import pad

from captum_apex.caller import warn_caller
from captum_apex.numbers import full_scale, real_number, whole_number
from captum_apex.recordings.audio_file import opened_audio
from captum_apex.recordings.resampling import filter_reach, resampled

__all__ = ["as_waveform", "decode", "read"]

_MARGIN = 0.01  # seconds read after the end of a clip, so that the resampling filter gets real samples there


def read(path: str | os.PathLike, sample_rate: int, length: int | None = None, *, convert: bool = True) -> Tensor:
    """Reads an audio file as a waveform.

    The channels are averaged; a file with another sample rate is resampled.

    Args:
        path: an audio file in any format that libsndfile reads.
        sample_rate: sample rate of the waveform, in Hz.
        length: length of the waveform, in samples. A longer sound is cut at its end, a shorter one is padded with
            zeros. None gives the whole sound.
        convert: whether a file with another sample rate or with several channels is converted, with a warning. False
            raises an error instead.

    Returns:
        float32 tensor of shape (sample,).

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not audio, is empty, has NaN or infinity, or would need a conversion although
            `convert` is False. The error names the file.
        ImportError: if soundfile is missing, or torchaudio, which resamples.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from captum_apex import listening
        >>> from captum_apex.recordings import read
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "sound.wav")
        ...     listening.write(path, torch.tensor([0.5, -0.5]), 8000)
        ...     read(path, sample_rate=8000, length=3)
        tensor([ 0.5000, -0.5000,  0.0000])
    """
    if Path(path).is_dir():
        raise IsADirectoryError(f"expected an audio file at {os.fspath(path)}, but it is a folder; name its files")
    if not Path(path).is_file():
        raise FileNotFoundError(f"expected an audio file at {os.fspath(path)}, but there is none")
    with open(path, "rb") as file:  # Python opens it, because libsndfile cannot open a file with a name outside Unicode
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
    """Reads an opened audio file as a waveform.

    Args:
        file: a file opened in binary mode, or its bytes in an `io.BytesIO`.
        sample_rate: sample rate of the waveform, in Hz.
        length: length of the waveform, in samples, as in `read`.
        centre: time in the file, in seconds, at the middle of the waveform. Near an end of the file, the waveform
            begins or ends with the file instead. Without `centre` or `length`, the waveform begins with the file.
        convert: whether another sample rate or several channels are converted, as in `read`.
        name: name of the file, for error messages.

    Returns:
        float32 tensor of shape (sample,).

    Raises:
        ValueError: if the file is not audio, is empty, has NaN or infinity, or would need a conversion although
            `convert` is False.
        ImportError: if soundfile is missing, or torchaudio, which resamples.

    Example:
        >>> import io
        >>> import torch
        >>> from captum_apex import listening
        >>> from captum_apex.recordings import decode
        >>> sound = listening.encoded(torch.tensor([0.0, 0.25, 0.5, 0.25]), 8000, "wav")
        >>> decode(io.BytesIO(sound), sample_rate=8000, length=2)
        tensor([0.0000, 0.2500])
    """
    sample_rate, length = _checked_settings(sample_rate, length)
    seconds = math.inf if length is None else length / sample_rate
    with opened_audio(file, name) as sound:
        rate = sound.rate
        first = 0
        n_frames = None
        if length is not None:
            n_frames = math.ceil((seconds + max(_MARGIN, filter_reach(rate, sample_rate))) * rate)
        if centre is not None and length is not None:
            first = round(rate * max(0.0, min(centre - seconds / 2, sound.n_frames / rate - seconds)))
        samples = sound.read(first, n_frames)
        if not samples.numel():
            place = f" at {first / rate:g} s" if first else ""
            raise ValueError(f"expected {name} to hold sound{place}, but {sound.what_is_missing()}")
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
    """Converts a sound in memory to a waveform.

    The channels are averaged; a sound with another sample rate is resampled.

    Args:
        samples: floats of shape (channel, sample) or (sample,).
        rate: sample rate of the samples, in Hz.
        sample_rate: sample rate of the waveform, in Hz.
        length: length of the waveform, in samples. A longer sound is cut at its end, a shorter one is padded with
            zeros. None gives the whole sound.
        convert: whether another sample rate or several channels are converted, with a warning. False raises an error
            instead.
        name: name of the sound, for error messages.

    Returns:
        float32 tensor of shape (sample,).

    Raises:
        TypeError: if the samples are not a tensor of floats.
        ValueError: if the samples have another shape, are empty, have NaN or infinity, or would need a conversion
            although `convert` is False.
        ImportError: if torchaudio, which resamples, is needed and missing.

    Example:
        >>> import torch
        >>> from captum_apex.recordings import as_waveform
        >>> as_waveform(torch.tensor([0.5, -0.5]), 8000, sample_rate=8000, length=3)
        tensor([ 0.5000, -0.5000,  0.0000])
    """
    sample_rate, length = _checked_settings(sample_rate, length)
    _check_samples(samples, name)
    if not real_number(rate, "rate", low=0).is_integer():
        raise ValueError(f"expected {name} at a sample rate of a whole number of Hz, but got {rate:g}")
    channels = torch.atleast_2d(samples.to(torch.float32))  # (sample,) → (channel, sample)
    if not channels.numel():
        raise ValueError(f"expected {name} to hold sound, but it is empty")
    if not channels.isfinite().all():
        raise ValueError(f"expected {name} to hold sound, but got NaN or infinity")
    if not convert and (rate != sample_rate or len(channels) > 1):
        raise ValueError(
            f"expected {name} at {sample_rate} Hz with one channel, but got {rate:g} Hz with {len(channels)}; "
            "convert it, or allow it by convert=True"
        )
    waveform = _mean_of_channels(channels)
    waveform = resampled(waveform, int(rate), sample_rate, name=name)[:length]
    return waveform if length is None else pad(waveform, (0, length - len(waveform)))


def _checked_settings(sample_rate: int, length: int | None) -> tuple[int, int | None]:
    rate = whole_number(sample_rate, "sample_rate", least=1)
    return rate, None if length is None else whole_number(length, "length", least=1)


def _check_samples(samples: Tensor, name: str) -> None:
    if not isinstance(samples, Tensor) or not samples.is_floating_point():
        got = getattr(samples, "dtype", type(samples).__name__)
        raise TypeError(f"expected the samples of {name} as a tensor of floats, but got {got}{full_scale(got)}")
    # More channels than samples means that the two axes are swapped.
    if samples.dim() not in (1, 2) or len(samples) > samples.shape[-1] > 0:
        raise ValueError(
            f"expected the samples of {name} of shape (channel, sample) or (sample,), but got {tuple(samples.shape)}"
        )


# The warning names no file, so that Python shows it once and not for every recording.
def _mean_of_channels(channels: Tensor) -> Tensor:
    if len(channels) > 1:
        warn_caller(f"recordings with {len(channels)} channels are mixed down to one, their mean")
    return channels.mean(0)
