"""The sound of a region: the region alone, the clip without it, and audio files and notebook players for both.

A region is cut out of the short-time Fourier transform of the clip, with the clip's phase, as
`captum_apex.audio.cutting` describes. The edges fade over 5 to 20 ms, or over 40 to 200 Hz, outside the region, so that
the region itself is complete. Beyond the fades, the sound outside the region is attenuated by at least 40 dB. Nothing
is normalised, so levels can be compared. If a clip begins or ends in the middle of a loud tone, the cut is a click in
the clip itself; in the sound of a band, the click is audible as far as it lies in the band, for a few milliseconds.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_apex.audio.clip import Clip
from captum_apex.audio.cutting import cuts, sound_of
from captum_apex.audio.regions import Region
from captum_apex.caller import warn_caller
from captum_apex.choices import one_of
from captum_apex.files import replaced
from captum_apex.numbers import full_scale
from captum_apex.recordings.libsndfile import library_file, sound_library

__all__ = ["MEDIA_TYPES", "MP3_RATES", "encoded", "isolate", "playable_format", "player", "remove", "write"]

MEDIA_TYPES = {"mp3": "audio/mpeg", "ogg": "audio/ogg", "flac": "audio/flac", "wav": "audio/wav"}
"""The formats of `encoded`, with the media type of each for a web page."""

MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
"""The sample rates that MP3 supports, in Hz."""

_CODECS = {
    "mp3": ("MP3", "MPEG_LAYER_III"),  # with `_FINE`
    "ogg": ("OGG", "VORBIS"),
    "flac": ("FLAC", "PCM_16"),
    "wav": ("WAV", "PCM_16"),
}
_FINE = {"compression_level": 0.2, "bitrate_mode": "VARIABLE"}  # because regions are cut out of what is decoded
_CONTAINERS = {".wav": "WAV", ".flac": "FLAC"}
_SAMPLES_AT_ONCE = 2**14  # libsndfile's Vorbis encoder puts a whole write on the stack, so a long one crashes
_BYTES_BEHIND_END = 2**16


def isolate(clip: Clip, region: Region) -> Tensor:
    """The sound of a region alone, at its level and time in the clip; `isolate + remove` is the clip.

    A side of a box at the end of the model's input reaches to the end of the sound: 0 Hz, half the sample rate, the
    first or the last sample. The sound outside all boxes fades to silence. A box smaller than a fade is still complete,
    with fades around it.

    Args:
        clip: a clip with a waveform.
        region: a region of the model's input, such as that of an `Evidence` or of a `Prototype`.

    Returns:
        Tensor of shape (sample,), as long as the clip's waveform; silence for a region without boxes.

    Raises:
        ValueError: if the clip has no waveform, or one of less than 16 samples.

    Example:
        >>> import torch
        >>> from captum_apex import Box, Clip, Region
        >>> from captum_apex.listening import isolate
        >>> clip = Clip.from_waveform(torch.ones(8000), 8000)
        >>> sound = isolate(clip, Region((Box(low=0.0, high=1.0, start=0.5, end=0.75),)))
        >>> [round(sound[int(seconds * 8000)].item(), 6) for seconds in (0.25, 0.6, 0.9)]
        [0.0, 1.0, 0.0]
    """
    return sound_of(clip) - remove(clip, region)


def remove(clip: Clip, region: Region) -> Tensor:
    """The clip without the sound of a region; the opposite of `isolate`.

    Args:
        clip: a clip with a waveform.
        region: a region of the model's input, such as that of an `Evidence` or of a `Prototype`.

    Returns:
        Tensor of shape (sample,), as long as the clip's waveform.

    Raises:
        ValueError: if the clip has no waveform, or one of less than 16 samples.

    Example:
        >>> import torch
        >>> from captum_apex import Box, Clip, Region
        >>> from captum_apex.listening import remove
        >>> clip = Clip.from_waveform(torch.ones(8000), 8000)
        >>> rest = remove(clip, Region((Box(low=0.0, high=1.0, start=0.5, end=0.75),)))
        >>> [abs(round(rest[int(seconds * 8000)].item(), 6)) for seconds in (0.25, 0.6, 0.9)]
        [1.0, 0.0, 1.0]
    """
    rest = sound_of(clip)
    for cut in cuts(clip, region):
        rest = rest - cut(rest, clip.sample_rate)
    return rest


def write(path: str | os.PathLike, waveform: Tensor, sample_rate: float) -> None:
    """Writes a wav or flac file of 24 bits; if it is interrupted, an old file stays as it was.

    Args:
        path: the file to write; its suffix, `.wav` or `.flac`, decides the format.
        waveform: the sound with one channel, shape (sample,). If its peak is above full scale, 1, it is scaled down to
            full scale, and a warning says by how much.
        sample_rate: sample rate in Hz, a whole number.

    Raises:
        ValueError: if the suffix is another one, the format does not support the sample rate, or the waveform has
            another shape or dtype, NaN or infinity.
        OSError: if the folder cannot be made or written to.
        ImportError: if soundfile is missing.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from captum_apex import recordings
        >>> from captum_apex.listening import write
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "region.wav")
        ...     write(path, torch.tensor([0.0, 0.5, -0.5]), sample_rate=8000)
        ...     recordings.read(path, sample_rate=8000)
        tensor([ 0.0000,  0.5000, -0.5000])
    """
    path = Path(path)
    if path.suffix.lower() not in _CONTAINERS:
        raise ValueError(f"expected a path that ends in {' or '.join(_CONTAINERS)}, but got {os.fspath(path)!r}")
    samples = _samples(waveform)
    container = _CONTAINERS[path.suffix.lower()]
    rate = _checked_rate(container.lower(), sample_rate)
    # Python opens the file, because libsndfile would not say why it cannot open it.
    with replaced(path) as temporary, open(temporary, "w+b") as file:
        _encode(file, samples, rate, container, "PCM_24")


def encoded(waveform: Tensor, sample_rate: float, format: str = "mp3") -> bytes:  # noqa: A002 - the field's word
    """An audio file in memory, for a web page.

    MP3 is the default because every browser plays it, also old versions of Safari, which cannot play Ogg. The decoded
    sound begins and ends with the waveform, because the file states the delay of the encoder. MP3 supports only the
    sample rates in `MP3_RATES`. For any other rate take `playable_format`, usually `"flac"`, which is larger.

    Args:
        waveform: the sound with one channel, shape (sample,); scaled down as in `write` if its peak is above 1.
        sample_rate: sample rate in Hz, a whole number.
        format: a name in `MEDIA_TYPES`; `"ogg"` is Vorbis, and `"flac"` and `"wav"` have 16 bits.

    Returns:
        The bytes of the file.

    Raises:
        TypeError: if the format is no string.
        ValueError: if the format or its sample rate is not supported, or the waveform has another shape or dtype, NaN
            or infinity.
        ImportError: if soundfile is missing.

    Example:
        >>> import torch
        >>> from captum_apex.listening import encoded
        >>> file = encoded(torch.zeros(8000), 8000, "wav")
        >>> file[:4], len(file)  # a header of 44 bytes, then 2 bytes per sample
        (b'RIFF', 16044)
    """
    one_of(format, "`format`", _CODECS)
    rate = _checked_rate(format, sample_rate)
    # A file on the disk, because libsndfile drops exceptions, such as an interruption, that it meets in Python.
    with tempfile.TemporaryFile() as file:
        _encode(file, _samples(waveform), rate, *_CODECS[format])
        file.seek(0)
        return file.read()


def playable_format(sample_rate: int) -> str:
    """The smallest format of `encoded` that supports a sample rate, and that every browser plays.

    Args:
        sample_rate: sample rate in Hz, a whole number.

    Returns:
        `"mp3"` for the rates of MP3, `"flac"` for rates up to 65,535 Hz and multiples of 10 Hz up to 655,350 Hz,
        `"wav"` for others.

    Example:
        >>> from captum_apex.listening import playable_format
        >>> [playable_format(rate) for rate in (16_000, 384_000, 1_000_000)]
        ['mp3', 'flac', 'wav']
    """
    return next((kind for kind in ("mp3", "flac") if _supports(kind, sample_rate)), "wav")


def player(waveform: Tensor, sample_rate: float) -> Any:
    """A player in a notebook, without normalisation, so that the levels of two players can be compared.

    Args:
        waveform: the sound with one channel, shape (sample,); scaled down as in `write` if its peak is above 1.
        sample_rate: sample rate in Hz, a whole number.

    Returns:
        An `IPython.display.Audio`, which a notebook shows.

    Raises:
        ValueError: if the waveform has another shape or dtype, NaN or infinity.
        ImportError: if IPython is missing.

    Example:
        >>> import torch
        >>> from captum_apex.listening import player
        >>> player(torch.zeros(8000), 8000).mimetype
        'audio/wav'
    """
    try:
        from IPython.display import Audio
    except ImportError as error:
        raise ImportError(
            "expected IPython, which plays sound in a notebook, but it is missing: pip install ipython"
        ) from error
    return Audio(_samples(waveform), rate=_whole_number(sample_rate), normalize=False)


def _samples(waveform: Tensor) -> NDArray[np.floating]:
    """The checked samples for a file, scaled down to full scale if necessary, because a file would clip them."""
    if waveform.ndim != 1 or not len(waveform) or not waveform.is_floating_point():
        raise ValueError(
            f"expected a `waveform` of floats, (sample,), but got {waveform.dtype} of shape {tuple(waveform.shape)}"
            f"{full_scale(waveform.dtype)}"
        )
    samples = waveform.detach().to("cpu", torch.promote_types(waveform.dtype, torch.float32)).numpy()
    if not np.isfinite(samples).all():
        raise ValueError("expected a finite `waveform`, but got NaN or infinity")
    peak = np.abs(samples).max()
    if peak > 1:
        excess = 20 * math.log10(peak)
        warn_caller(f"the peak is {excess:.2f} dB above full scale; the sound is scaled down by as much")
        samples = samples / peak
    return samples


def _supports(kind: str, sample_rate: int) -> bool:
    """Whether a format can hold a sample rate; libsndfile crashes for some that it cannot, and fails late for others.

    Source: RFC 9639, section 9.1.2 (FLAC); libvorbisenc's table of bit rates ends at 200 kHz.
    """
    if kind == "mp3":
        return sample_rate in MP3_RATES
    if kind == "ogg":
        return sample_rate <= 200_000
    if kind == "flac":
        return sample_rate < 2**16 or (sample_rate % 10 == 0 and sample_rate <= 655_350)
    return sample_rate < 2**31


def _checked_rate(kind: str, sample_rate: float) -> int:
    rate = _whole_number(sample_rate)
    if _supports(kind, rate):
        return rate
    if not _supports("wav", rate):
        raise ValueError(f"expected a sample rate below {2**31} Hz, but got {rate}")
    supported = f"{kind.upper()} supports" + (f", one of {MP3_RATES}" if kind == "mp3" else "")
    raise ValueError(f"expected a sample rate that {supported}, but got {rate}; take {playable_format(rate)!r}")


def _encode(target: BinaryIO, samples: NDArray, sample_rate: int, container: str, codec: str) -> None:
    settings: dict[str, Any] = {"samplerate": sample_rate, "channels": 1, "format": container, "subtype": codec}
    if container == "MP3":
        settings |= _FINE
    library = sound_library()
    try:
        # libsndfile has a descriptor of its own: where an interruption leaves its file open, what it writes when it is
        # closed at last does not get into another file, which has the number of the target's descriptor by then.
        opened = library_file(target)
        own = isinstance(opened, int)
        opened = os.dup(opened) if isinstance(opened, int) else opened
        with _disk_errors(target), library.SoundFile(opened, "w", closefd=own, **settings) as file:
            for first in range(0, len(samples), _SAMPLES_AT_ONCE):
                file.write(samples[first : first + _SAMPLES_AT_ONCE])
    except (library.SoundFileError, AssertionError) as error:  # soundfile asserts that all samples were written
        raise OSError(f"expected to write a sound of {len(samples)} samples, but the file cannot take it") from error


@contextmanager
def _disk_errors(target: BinaryIO) -> Iterator[None]:
    """Raises the system's error where the disk did not take the whole file.

    On a full disk libsndfile raises an error without a reason, and for FLAC none: the sound would end too early. So
    more is written behind the end, and taken away again.
    """
    try:
        yield
    finally:
        if not target.closed:  # as after an interruption, where Python ends this only when it collects garbage
            _check_space(target)


def _check_space(target: BinaryIO) -> None:
    try:
        end = target.seek(0, os.SEEK_END)
        behind = bytes(_BYTES_BEHIND_END)
        while behind:  # not by `target`, which would keep them and try again when it is closed
            behind = behind[os.write(target.fileno(), behind) :]
        target.truncate(end)
    except OSError as error:
        named = isinstance(getattr(target, "name", None), str)  # a number, or none, for a temporary file
        raise OSError(error.errno, error.strerror, target.name if named else tempfile.gettempdir()) from error


def _whole_number(sample_rate: float) -> int:
    if sample_rate != int(sample_rate) or sample_rate < 1:
        raise ValueError(f"expected `sample_rate` to be a whole number of Hz, but got {sample_rate}")
    return int(sample_rate)
