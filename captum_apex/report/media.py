"""The pictures and sounds of a page, each stored once."""

from __future__ import annotations

import base64
import hashlib
import io
import math
from typing import Any

import matplotlib as mpl
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from captum_apex import listening
from captum_apex.audio.clip import Clip
from captum_apex.audio.regions import Region
from captum_apex.figures.signed_maps import map_scale, signed_map

__all__ = ["Media", "colours"]

LEVELS = "magma"  # rises evenly in lightness: it reads in grey and without colour vision
SIGNED = "RdBu_r"  # reads without colour vision; zero is nearly white
AROUND = 0.15  # seconds of quiet kept before and after the sound of a region


class Media:
    """Pictures as data URIs and sounds in base64, by a name that follows from what is in them.

    Args:
        level: what the ends of the colour scale stand for, in dB.
    """

    def __init__(self, level: tuple[float, float]) -> None:
        self.level = level
        self.pictures: dict[str, str] = {}
        self.sounds: dict[str, dict[str, str]] = {}
        self._heard: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._waveforms: dict[Clip, str] = {}

    def spectrogram(self, clip: Clip) -> str:
        """The name of a clip's picture: a pixel per bin, the highest frequency on top."""
        low, high = self.level
        return self._picture((clip.decibels.detach().cpu().double().numpy() - low) / (high - low), LEVELS)

    def map(self, values: ArrayLike | Tensor, name: str, clip: Clip) -> str:
        """The name of an attribution map's picture, zero in the middle of its colours; averaged where it is finer than the clip's."""
        own = torch.from_numpy(signed_map(values, name, clip))
        rows, columns = (min(given, shown) for given, shown in zip(own.shape, clip.decibels.shape, strict=True))
        shown = adaptive_avg_pool2d(own[None], (rows, columns))[0].numpy()
        return self._picture(0.5 + shown / (2 * (map_scale(shown) or 1.0)), SIGNED)

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
        if clip not in self._waveforms:
            self._waveforms[clip] = _digest(samples.numpy().tobytes())
        key = (self._waveforms[clip], clip.axes, clip.decibels.shape, clip.of_samples, region, kind)
        if key not in self._heard:
            waveform, start = _waveform(clip, samples, region, kind)
            full_scale = samples.abs().max().clamp_min(1)  # one gain for all sounds of a clip
            name = self._store((waveform / full_scale).clamp(-1, 1), clip.sample_rate)
            self._heard[key] = {"sound": name, "start": start}
        return self._heard[key]

    def _store(self, waveform: Tensor, sample_rate: float) -> str:
        kind = "mp3" if sample_rate in listening.MP3_RATES else "flac"
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
