"""Regions to the ear: a clip's part alone, the clip without it, and the files and players to hear them by.

A part is cut out of the short-time Fourier transform with the clip's own phase. Its edges are raised cosines that lie *outside* the region,
so that the region itself is whole. A window of τ seconds resolves 4 / τ Hz and 5/8 τ seconds; each box of a region gets its own τ:

- a strip fades in half of its own length, within 5 to 20 ms: long enough not to click, short enough to keep neighbours out;
- a band fades in half of its own width, within 40 to 200 Hz;
- a box with edges of both kinds fades in the same share of its length and of its width.

Beyond the fade, what is outside of the region is at least 40 dB down. Levels stay as they are: nothing is normalised. A clip that begins or
ends in the midst of a loud tone has a click of its own there, and the part of it that lies in a band is kept: a tick of some milliseconds.
"""

from __future__ import annotations

import io
import math
import os
import warnings
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_apex.audio.clip import Clip, Place
from captum_apex.audio.regions import Box, Region
from captum_apex.files import replaced
from captum_apex.recordings.decoding import sound_library

__all__ = ["MEDIA_TYPES", "MP3_RATES", "encoded", "isolate", "player", "remove", "write"]

MEDIA_TYPES = {"mp3": "audio/mpeg", "ogg": "audio/ogg", "flac": "audio/flac", "wav": "audio/wav"}
"""Formats of `encoded`, and what a web page calls them."""

MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
"""Sample rates that MP3 knows, in Hz."""

_CODECS = {
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "ogg": ("OGG", "VORBIS"),
    "flac": ("FLAC", "PCM_16"),
    "wav": ("WAV", "PCM_16"),
}
_FILES = {".wav": "WAV", ".flac": "FLAC"}
_FRAMES_AT_ONCE = 2**14  # libsndfile's Vorbis encoder takes a long write on its stack, and dies of it

# Where the mask falls, outside of the region: in time after 1/8 window and over 1/4, in frequency over 3 bins. The Hann window, used twice,
# blurs both a little, so that 40 dB are reached 5/8 window and 4 bins away, and at the region's edge less than 0.5 dB is lost.
_LEAD, _FALL, _BINS = 1 / 8, 1 / 4, 3.0
_REACH_WINDOWS, _REACH_BINS = 5 / 8, 4.0
_FADE_SECONDS = (0.005, 0.02)
_FADE_HERTZ = (40.0, 200.0)
_OVERLAP = 8  # windows over each sample; the fades in time are then smooth
_SHORTEST = 16  # samples


def isolate(clip: Clip, region: Region) -> Tensor:
    """The sound of a region alone, at its own level and time; `isolate + remove` is the clip.

    A side of a box that lies at the end of the model's input reaches to the end of the sound: 0 Hz, half the sample rate, the first and
    the last sample. What is outside of all boxes fades to nothing. A box that is smaller than a fade is still whole, fades around it.

    Args:
        clip: with a waveform.
        region: of the model's input, such as an evidence's or a prototype's.

    Returns:
        Tensor (sample,), as long as the clip's waveform; silence for a region without boxes.

    Raises:
        ValueError: the clip has no waveform, or one of less than 16 samples.

    >>> clip = Clip.from_waveform(torch.ones(8000), 8000)
    >>> part = isolate(clip, Region((Box(low=0.0, high=1.0, start=0.5, end=0.75),)))
    >>> [round(part[int(seconds * 8000)].item(), 6) for seconds in (0.25, 0.6, 0.9)]
    [0.0, 1.0, 0.0]
    """
    return _waveform(clip) - remove(clip, region)


def remove(clip: Clip, region: Region) -> Tensor:
    """The clip without the sound of a region; see `isolate`.

    Returns:
        Tensor (sample,), as long as the clip's waveform.
    """
    rest = _waveform(clip)
    # Bands before strips: so a band does not ring into the gap that a strip has left.
    for box in sorted(region.boxes, key=lambda box: box.end - box.start, reverse=True):
        rest = rest - _Cut.of(clip, box)(rest, clip.sample_rate)
    return rest


def write(path: str | os.PathLike, waveform: Tensor, sample_rate: float) -> None:
    """Writes a wav or flac file of 24 bits, beside the target first, then renamed: an interruption leaves the old file whole.

    Args:
        path: its suffix decides.
        waveform: mono, (sample,). Where its peak is above full scale, 1, it is scaled down to it, with a warning that says by how much.
        sample_rate: in Hz, a whole number.

    Raises:
        ValueError: for another suffix, and what is no waveform.
        OSError: there is no such folder, or it cannot be written to.
        ImportError: soundfile is missing.
    """
    path = Path(path)
    if path.suffix.lower() not in _FILES:
        raise ValueError(f"expected a path that ends in {' or '.join(_FILES)}, but got {os.fspath(path)!r}")
    samples = _samples(waveform)
    with replaced(path) as beside, open(beside, "w+b") as file:  # libsndfile would not say why it cannot open a file
        _encode(file, samples, sample_rate, _FILES[path.suffix.lower()], "PCM_24")


def encoded(waveform: Tensor, sample_rate: float, format: str = "mp3") -> bytes:  # noqa: A002 - the field's word
    """A sound file in memory, for a web page.

    MP3 is the default because every browser plays it, Safari of any age too, where Ogg came late. The encoder's delay is written into it,
    so that the decoded sound begins and ends where the waveform does. It knows only the nine usual sample rates up to 48 kHz; for any
    other, `"flac"` is played everywhere as well, and is larger.

    Args:
        waveform: mono, (sample,); scaled down as in `write` where its peak is above 1.
        sample_rate: in Hz, a whole number.
        format: a name in `MEDIA_TYPES`; `"ogg"` is Vorbis, and `"flac"` and `"wav"` have 16 bits.

    Raises:
        ValueError: for another format, a sample rate that MP3 does not know, and what is no waveform.
        ImportError: soundfile is missing.
    """
    if format not in _CODECS:
        raise ValueError(f"expected `format` to be one of {', '.join(map(repr, _CODECS))}, but got {format!r}")
    if format == "mp3" and sample_rate not in MP3_RATES:
        raise ValueError(
            f"expected a sample rate that MP3 knows, one of {MP3_RATES}, but got {sample_rate}; take 'flac'"
        )
    buffer = io.BytesIO()
    _encode(buffer, _samples(waveform), sample_rate, *_CODECS[format])
    return buffer.getvalue()


def player(waveform: Tensor, sample_rate: float) -> Any:
    """A player in a notebook, an `IPython.display.Audio`; not normalised, so that two players can be compared by ear.

    Args:
        waveform: mono, (sample,); scaled down as in `write` where its peak is above 1.
        sample_rate: in Hz, a whole number.

    Raises:
        ImportError: IPython is missing.
    """
    try:
        from IPython.display import Audio
    except ImportError as error:
        raise ImportError(
            "expected IPython, which plays sound in a notebook, but it is missing: pip install ipython"
        ) from error
    return Audio(_samples(waveform), rate=_whole(sample_rate), normalize=False)


class _Cut(NamedTuple):
    """A box in Hz and seconds, infinite where it reaches to the end, and the window that it is cut by, in seconds."""

    place: Place
    window: float

    @classmethod
    def of(cls, clip: Clip, box: Box) -> _Cut:
        low, high, start, end = clip.place(box)
        bounded_in_time, bounded_in_frequency = box.start > 0 or box.end < 1, box.low > 0 or box.high < 1
        window = _window(end - start if bounded_in_time else math.inf, high - low if bounded_in_frequency else math.inf)
        place = Place(
            low if box.low > 0 else -math.inf,
            high if box.high < 1 else math.inf,
            start if box.start > 0 else -math.inf,
            end if box.end < 1 else math.inf,
        )
        return cls(place, window)

    def __call__(self, waveform: Tensor, sample_rate: float) -> Tensor:
        """The part of a waveform (sample,) in the box."""
        hop = max(1, min(round(self.window * sample_rate), len(waveform)) // _OVERLAP)
        n_fft = hop * _OVERLAP  # no longer than the clip
        window = torch.hann_window(n_fft, dtype=waveform.dtype, device=waveform.device)
        spectrum = torch.stft(waveform, n_fft, hop, window=window, return_complex=True)
        hertz = torch.arange(spectrum.shape[0], dtype=torch.float64) * (sample_rate / n_fft)
        seconds = torch.arange(spectrum.shape[1], dtype=torch.float64) * (hop / sample_rate)
        length = n_fft / sample_rate
        rows = _fade(hertz, self.place.low, self.place.high, 0.0, _BINS / length)
        columns = _fade(seconds, self.place.start, self.place.end, _LEAD * length, _FALL * length)
        mask = (rows[:, None] * columns).to(waveform)  # (frequency, time)
        return torch.istft(spectrum * mask, n_fft, hop, window=window, length=len(waveform))


def _window(seconds: float, hertz: float) -> float:
    """The length of the window for a box of this size, in seconds; a side is infinite where the box has no edge."""
    if math.isinf(hertz):
        return _within(seconds / 2, _FADE_SECONDS) / _REACH_WINDOWS
    if math.isinf(seconds):
        return _REACH_BINS / _within(hertz / 2, _FADE_HERTZ)
    balanced = math.sqrt(_REACH_BINS / _REACH_WINDOWS * seconds / max(hertz, _FADE_HERTZ[0]))
    return _within(balanced, (_FADE_SECONDS[0] / _REACH_WINDOWS, _REACH_BINS / _FADE_HERTZ[0]))


def _within(value: float, bounds: tuple[float, float]) -> float:
    return min(max(value, bounds[0]), bounds[1])


def _fade(positions: Tensor, low: float, high: float, lead: float, width: float) -> Tensor:
    """1 from `low − lead` to `high + lead`, and a raised cosine to 0 over `width` on either side."""
    outside = torch.maximum(low - positions, positions - high)
    return 0.5 + 0.5 * torch.cos(math.pi * ((outside - lead) / width).clamp(0, 1))


def _waveform(clip: Clip) -> Tensor:
    if clip.waveform is None:
        raise ValueError(f"expected a clip with a waveform, but {clip.title or 'this one'} has none")
    if len(clip.waveform) < _SHORTEST:
        raise ValueError(f"expected a waveform of at least {_SHORTEST} samples, but got {len(clip.waveform)}")
    return clip.waveform.to(
        torch.promote_types(clip.waveform.dtype, torch.float32)
    )  # half precision has no Fourier transform on a CPU


def _samples(waveform: Tensor) -> NDArray[np.floating]:
    """The waveform for a file: checked, and never above full scale, which would be clipped."""
    if waveform.ndim != 1 or not len(waveform) or not waveform.is_floating_point():
        raise ValueError(
            f"expected a `waveform` of floats, (sample,), but got {waveform.dtype} of shape {tuple(waveform.shape)}"
        )
    if not waveform.isfinite().all():
        raise ValueError("expected a finite `waveform`, but there is NaN or infinity")
    samples = waveform.detach().to("cpu", torch.promote_types(waveform.dtype, torch.float32)).numpy()
    peak = np.abs(samples).max()
    if peak > 1:
        warnings.warn(
            f"the peak is {20 * math.log10(peak):.2f} dB above full scale; the sound is scaled down by as much",
            stacklevel=3,
        )
        samples = samples / peak
    return samples


def _encode(target: BinaryIO, samples: NDArray, sample_rate: float, container: str, codec: str) -> None:
    with sound_library().SoundFile(target, "w", _whole(sample_rate), 1, format=container, subtype=codec) as file:
        for first in range(0, len(samples), _FRAMES_AT_ONCE):
            file.write(samples[first : first + _FRAMES_AT_ONCE])


def _whole(sample_rate: float) -> int:
    if sample_rate != int(sample_rate) or sample_rate < 1:
        raise ValueError(f"expected `sample_rate` to be a whole number of Hz, but got {sample_rate}")
    return int(sample_rate)
