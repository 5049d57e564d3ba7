"""The pictures and sounds of a page, each stored once."""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from captum_apex import listening
from captum_apex.clip import Clip
from captum_apex.schemes import Region

__all__ = ["Level", "Media"]

LEVELS = "magma"  # rises evenly in lightness: it reads in grey and without colour vision
SIGNED = "PuOr_r"  # reads without colour vision; zero is nearly white
DEPTH = 80.0  # dB
AROUND = 0.15  # seconds of quiet kept before and after the sound of a region
MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # in Hz; other rates are kept as FLAC


class Level(NamedTuple):
    """What the ends of the colour scale stand for, in dB."""

    low: float
    high: float

    @classmethod
    def of(cls, clips: Sequence[Clip]) -> Level:
        """One scale for all clips, so that a colour is the same level everywhere; at most 80 dB deep."""
        values = np.concatenate([clip.decibels.detach().cpu().numpy().ravel() for clip in clips])
        low, high = np.quantile(values, [0.01, 0.999]).tolist()
        return cls(max(low, high - DEPTH), high) if high > low else cls(low, low + 1)


class Media:
    """Pictures as data URIs and sounds in base64, by a name that follows from what is in them.

    Args:
        level: of the colour scale.
    """

    def __init__(self, level: Level) -> None:
        self.level = level
        self.pictures: dict[str, str] = {}
        self.sounds: dict[str, dict[str, str]] = {}
        self._heard: dict[tuple[Any, ...], dict[str, Any]] = {}

    def spectrogram(self, clip: Clip) -> str:
        """The name of a clip's picture: a pixel per bin, the highest frequency on top."""
        low, high = self.level
        return self._picture((clip.decibels.detach().cpu().double().numpy() - low) / (high - low), LEVELS)

    def map(self, values: Tensor, clip: Clip) -> str:
        """The name of an attribution map's picture, zero in the middle of its colours; averaged where it is finer than the clip's."""
        values = values.detach().cpu().double()
        rows, columns = (min(own, clips) for own, clips in zip(values.shape, clip.decibels.shape, strict=True))
        values = adaptive_avg_pool2d(values[None], (rows, columns))[0]
        return self._picture((0.5 + values / (2 * values.abs().max().clamp_min(1e-300))).numpy(), SIGNED)

    def whole(self, clip: Clip) -> dict[str, Any] | None:
        """A clip's sound: its name, and the second at which it begins; None where it has none."""
        return self._sound(clip, None, "whole")

    def region(self, clip: Clip, region: Region) -> dict[str, Any] | None:
        """The sound of a region alone, cut to the time that it takes, with a little quiet around."""
        return self._sound(clip, region, "region")

    def without(self, clip: Clip, region: Region) -> dict[str, Any] | None:
        """The sound of a clip without a region."""
        return self._sound(clip, region, "without")

    def _picture(self, shares: NDArray[np.float64], colours: str) -> str:
        image = Image.fromarray(np.clip(np.round(shares[::-1] * 255), 0, 255).astype(np.uint8))
        image.putpalette(mpl.colormaps[colours](np.arange(256), bytes=True)[:, :3].tobytes())
        file = io.BytesIO()
        image.save(file, "PNG", optimize=True)
        name = _digest(file.getvalue())
        self.pictures[name] = f"data:image/png;base64,{_base64(file.getvalue())}"
        return name

    def _sound(self, clip: Clip, region: Region | None, kind: str) -> dict[str, Any] | None:
        if clip.waveform is None:
            return None
        samples = clip.waveform.detach().cpu()
        key = (_digest(samples.numpy().tobytes()), clip.axes, clip.decibels.shape, clip.of_samples, region, kind)
        if key not in self._heard:
            waveform, start = _waveform(clip, samples, region, kind)
            full_scale = samples.abs().max().clamp_min(1)  # one gain for all sounds of a clip
            name = self._store((waveform / full_scale).clamp(-1, 1), clip.sample_rate)
            self._heard[key] = {"sound": name, "start": start}
        return self._heard[key]

    def _store(self, waveform: Tensor, sample_rate: float) -> str:
        kind = "mp3" if sample_rate in MP3_RATES else "flac"
        content = listening.encoded(waveform, sample_rate, kind)
        name = _digest(content)
        self.sounds[name] = {"type": listening.MEDIA_TYPES[kind], "data": _base64(content)}
        return name


def colours(name: str, n: int = 11) -> list[str]:
    """Colours of a map from its low to its high end, for a legend."""
    return [mpl.colors.to_hex(mpl.colormaps[name](share)) for share in np.linspace(0, 1, n)]


def _waveform(clip: Clip, samples: Tensor, region: Region | None, kind: str) -> tuple[Tensor, float]:
    """The samples to hear, and the second of the clip at which they begin."""
    if region is None:
        return samples, 0.0
    if kind == "without":
        return listening.remove(clip, region).detach().cpu(), 0.0
    places, rate = [clip.place(box) for box in region.boxes], clip.sample_rate
    last = math.ceil((max(place.end for place in places) + AROUND) * rate)
    first = int((min(place.start for place in places) - AROUND) * rate)
    first = max(0, min(first, len(samples) - int(2 * AROUND * rate)))  # a padded input reaches past the sound
    return listening.isolate(clip, region).detach().cpu()[first:last], first / rate


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
