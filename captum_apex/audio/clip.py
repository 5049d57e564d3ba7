"""One clip for figures and players: a spectrogram in dB with axes in Hz and seconds, and the waveform."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_apex.audio.axes import SpectrogramAxes
from captum_apex.audio.clip_html import clip_html, player_html
from captum_apex.audio.filled_frames import blanked, n_heard_frames
from captum_apex.audio.regions import Box, Place, Region
from captum_apex.texts import encodable

__all__ = ["Clip", "level_limits"]

_FLOOR = 1e-10  # of the power, −100 dB
_DYNAMIC_RANGE = 80.0  # in dB below the loudest level; what is quieter gets the lowest colour
_SAME_LEVEL = 0.1  # in dB: levels that differ by less are the same
_SILENT_SHARE = 0.02  # share of a clip at its lowest level above which this level is digital silence


@dataclass(frozen=True, eq=False, repr=False)  # tensors have no single truth value, so a clip is equal only to itself
class Clip:
    """A spectrogram to draw, the waveform to play, and the place of any region of the model's input.

    Args:
        decibels: the spectrogram in dB, shape (frequency, time).
        axes: axes of the spectrogram; their sample rate is also that of the waveform.
        waveform: the sound with one channel, shape (sample,); None if there is none.
        name: name of the file or of the clip, for titles.
        label: name of the clip's class, for titles.
        of_samples: True if the model takes the waveform, so that regions are fractions of its samples; False if they
            are fractions of the bins and frames of the spectrogram.
        flipped: whether the first row of the model's input has the highest frequencies. With axes that descend it is
            set, and the spectrogram and the axes are turned, so that a picture always begins with low frequencies.
        repeats: duration of the file in seconds where it was repeated to the length of the model's clips; what is in a
            repetition is then shown and heard where it is in the file. None for no repetition.
        ends: second at which the file ends, where the classifier has filled the rest with zeros; None without any.

    Raises:
        ValueError: if a shape is wrong, or a value is NaN or infinite.

    Example:
        >>> import torch
        >>> from captum_apex import Box, Clip, SpectrogramAxes
        >>> clip = Clip(torch.zeros(257, 101), SpectrogramAxes(16000, 512, 160), name="bark.wav", label="dog")
        >>> clip.title
        'dog, bark.wav'
        >>> clip.place(Box(low=0.5, high=1.0, start=0.0, end=0.5))
        Place(low=4000.0, high=8000.0, start=0.0, end=0.5)
    """

    decibels: Tensor
    axes: SpectrogramAxes
    waveform: Tensor | None = None
    name: str = ""
    label: str = ""
    of_samples: bool = False
    flipped: bool = False
    repeats: float | None = None
    ends: float | None = None

    def __post_init__(self) -> None:
        if self.decibels.ndim != 2 or self.decibels.shape[0] != self.axes.n_bins or not self.decibels.shape[1]:
            raise ValueError(
                f"expected `decibels` of shape ({self.axes.n_bins}, time), because the axes have {self.axes.n_bins} "
                f"bins, but got {tuple(self.decibels.shape)}"
            )
        if self.waveform is not None and (self.waveform.ndim != 1 or not len(self.waveform)):
            raise ValueError(
                f"expected a `waveform` of shape (sample,), mono, but got {tuple(self.waveform.shape)}; "
                "take the mean of its channels"
            )
        if self.of_samples and self.waveform is None:
            raise ValueError("expected a `waveform`, because regions are fractions of its samples, but got None")
        for name, values in (("decibels", self.decibels), ("waveform", self.waveform)):
            if values is not None and not values.isfinite().all():
                raise ValueError(f"expected finite `{name}`, but got NaN or infinity")
        if self.axes.descending:
            object.__setattr__(self, "decibels", self.decibels.flip(0))
            object.__setattr__(self, "axes", self.axes.flipped())
            object.__setattr__(self, "flipped", not self.flipped)

    @classmethod
    def from_waveform(
        cls, waveform: Tensor, sample_rate: float, *, n_fft: int = 512, name: str = "", label: str = ""
    ) -> Self:
        """The clip for a model that takes waveforms, with a power spectrogram to draw.

        Levels more than 80 dB below the loudest one are raised to 80 dB below it.

        Args:
            waveform: the sound with one channel, shape (sample,).
            sample_rate: sample rate of the waveform, in Hz.
            n_fft: length of the spectrogram's Fourier transform, in samples; the hop is a quarter of it.
            name: name of the file or of the clip, for titles.
            label: name of the clip's class, for titles.

        Raises:
            ValueError: if the waveform has another shape or is shorter than half the Fourier transform.

        Example:
            >>> import torch
            >>> from captum_apex import Clip
            >>> Clip.from_waveform(torch.ones(4000), 8000).seconds(1.0)
            0.5
        """
        if waveform.ndim != 1 or len(waveform) <= n_fft // 2:
            raise ValueError(
                f"expected a `waveform` of shape (sample,), of more than {n_fft // 2} samples, "
                f"but got {tuple(waveform.shape)}"
            )
        window = torch.hann_window(n_fft, dtype=waveform.dtype, device=waveform.device)
        spectrum = torch.stft(waveform, n_fft, n_fft // 4, window=window, return_complex=True)
        decibels = 10 * spectrum.abs().square().clamp_min(_FLOOR).log10()
        decibels = decibels.clamp_min(decibels.max().item() - _DYNAMIC_RANGE)
        return cls(decibels, SpectrogramAxes(sample_rate, n_fft, n_fft // 4), waveform, name, label, of_samples=True)

    def __repr__(self) -> str:
        n_bins, n_frames = self.decibels.shape
        levels = f"{self.decibels.min():.0f} to {self.decibels.max():.0f} dB"
        sound = "none" if self.waveform is None else f"{len(self.waveform)} samples at {self.sample_rate:g} Hz"
        return "\n".join(
            [
                f"Clip {self.title!r}, {self.duration:.3g} s" if self.title else f"Clip of {self.duration:.3g} s",
                f"  spectrogram: {n_bins} bins and {n_frames} frames, {levels}",
                f"  waveform: {sound}",
            ]
        )

    def _repr_html_(self) -> str | None:
        places = f"0 to {self.seconds(1.0):.3g} s, {self.hertz(0.0):.0f} to {self.hertz(1.0):.0f} Hz"
        levels = blanked(self.decibels, self.heard.shape[1])
        shown = clip_html(f"{self.title or 'clip'} ({places})", levels, level_limits([self]))
        sound = "" if self.waveform is None else player_html(self.waveform, self.sample_rate)
        return None if shown is None else shown + sound

    @property
    def sample_rate(self) -> float:
        """Sample rate of the waveform, in Hz."""
        return self.axes.sample_rate

    @property
    def duration(self) -> float:
        """Duration of the waveform in seconds; without a waveform, the end of the last frame."""
        if self.waveform is None:
            return self.axes.seconds(float(self.decibels.shape[1]))
        return len(self.waveform) / self.sample_rate

    @property
    def title(self) -> str:
        """The label and the name of the file, separated by a comma; empty ones are left out.

        Where the file was repeated, the title says after how many seconds.

        What is no Unicode in a name is shown by replacement characters.

        Example:
            >>> import torch
            >>> from captum_apex import Clip, SpectrogramAxes
            >>> Clip(torch.zeros(5, 2), SpectrogramAxes(8000, 8, 4), name="digits/7_theo_0.wav", label="seven").title
            'seven, 7_theo_0.wav'
        """
        repeated = "" if self.repeats is None else f"repeated after {self.repeats:.3g} s"
        texts = (self.label, Path(os.fspath(self.name)).name, repeated)
        return encodable(", ".join(text for text in texts if text))

    def seconds(self, fraction: float) -> float:
        """The time at a fraction of the input's time axis, in seconds.

        Args:
            fraction: position on the time axis, in [0, 1].
        """
        if self.of_samples:
            return fraction * self.duration
        return self.axes.seconds(fraction * self.decibels.shape[1])

    def hertz(self, fraction: float) -> float:
        """The frequency at a fraction of the input's frequency axis, in Hz.

        Args:
            fraction: position on the frequency axis, in [0, 1]. An input that is a waveform has no such axis; its
                regions reach from 0 to 1, which is 0 Hz to half the sample rate.
        """
        if self.of_samples:
            return fraction * self.axes.nyquist
        return self.axes.hertz((1 - fraction if self.flipped else fraction) * self.decibels.shape[0])

    def place(self, box: Box) -> Place:
        """The place of a box of a region, in Hz and seconds.

        Args:
            box: the box; its sides are fractions of the input's axes.
        """
        box = self.upright(box)
        low, high = (self.hertz(1 - side if self.flipped else side) for side in (box.low, box.high))
        return Place(low, high, self.seconds(box.start), self.seconds(box.end))

    def places(self, region: Region) -> list[Place]:
        """The places of the boxes of a region, in Hz and seconds; those in a repetition are given in the file.

        Args:
            region: a region of the model's input.

        Example:
            >>> import torch
            >>> from captum_apex import Box, Clip, Region
            >>> clip = Clip.from_waveform(torch.ones(4000), 8000)
            >>> clip.places(Region((Box(low=0.5, high=1.0, start=0.0, end=0.5),)))
            [Place(low=2000.0, high=4000.0, start=0.0, end=0.25)]
        """
        return [self.place(box) for box in self.folded(region).boxes]

    def upright(self, box: Box) -> Box:
        """A box with its sides counted from the lowest frequency, which for a flipped input is in the last row.

        Args:
            box: the box; its sides are fractions of the input's axes. The same function leads back.

        Example:
            >>> import torch
            >>> from captum_apex import Box, Clip, SpectrogramAxes
            >>> clip = Clip(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80).flipped())
            >>> clip.upright(Box(low=0.0, high=0.25, start=0.0, end=1.0))
            Box(low=0.75, high=1.0, start=0.0, end=1.0)
        """
        return Box(1 - box.high, 1 - box.low, box.start, box.end) if self.flipped else box

    def box(self, place: Place) -> Box:
        """The box of a place, for instance of an event or of an annotation, to draw it and to listen to it.

        Args:
            place: the place, in Hz and seconds; what lies outside of the clip is cut off.

        Example:
            >>> import torch
            >>> from captum_apex import Clip, Place
            >>> Clip.from_waveform(torch.ones(4000), 8000).box(Place(low=2000.0, high=9000.0, start=0.0, end=0.25))
            Box(low=0.5, high=1.0, start=0.0, end=0.5)
        """
        low, high = (self._row(hertz) for hertz in (place.low, place.high))
        start, end = (self._column(seconds) for seconds in (place.start, place.end))
        return self.upright(Box(low, high, start, end))

    def _row(self, hertz: float) -> float:
        """The fraction of the frequency axis at a frequency, in [0, 1], from the lowest frequency."""
        lowest, highest = sorted((self.hertz(0.0), self.hertz(1.0)))
        if not lowest < hertz < highest:
            return float(hertz >= highest)
        return hertz / highest if self.of_samples else self.axes.bin_position(hertz) / self.decibels.shape[0]

    def _column(self, seconds: float) -> float:
        """The fraction of the input's time axis at a time, in [0, 1]; the inverse of `seconds`."""
        if not 0 < seconds < min(self.duration, self.seconds(1.0)):
            return float(seconds > 0)
        return self._time_fraction(seconds)

    def folded(self, region: Region) -> Region:
        """A region with what lies in a repetition of the file moved to its place in the file.

        Args:
            region: a region of the model's input.

        Example:
            >>> import torch
            >>> from captum_apex import Box, Clip, Region, SpectrogramAxes
            >>> clip = Clip(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80), repeats=0.5)
            >>> [box] = clip.folded(Region((Box(low=0.0, high=1.0, start=0.6, end=0.7),))).boxes
            >>> [round(seconds, 6) for seconds in clip.place(box)[2:]]
            [0.095, 0.195]
        """
        if self.repeats is None:
            return region
        return region.folded(self._time_fraction(self.repeats) - self._time_fraction(0.0), self._time_fraction(0.0))

    def _time_fraction(self, seconds: float) -> float:
        """The fraction of the input's time axis at a time, below 0 or above 1 outside of it."""
        if self.of_samples:
            return seconds / self.duration
        return self.axes.frame_position(seconds) / self.decibels.shape[1]

    def on_picture(self, box: Box) -> Box:
        """A box as fractions of the spectrogram's axes, which for a model that takes waveforms are not the input's.

        Args:
            box: the box; its sides are fractions of the input's axes.
        """
        if not self.of_samples:
            return self.upright(box)
        n_bins, n_frames = self.decibels.shape
        low, high = (self.axes.bin_position(self.hertz(side)) / n_bins for side in (box.low, box.high))
        start, end = (self.axes.frame_position(self.seconds(side)) / n_frames for side in (box.start, box.end))
        return Box(max(low, 0.0), min(high, 1.0), start, min(end, 1.0))

    @cached_property
    def heard(self) -> Tensor:
        """The spectrogram up to the end of the sound, (frequency, time), without what it is filled with afterwards."""
        waveform = self.waveform
        if waveform is not None and self.ends is not None:
            waveform = waveform[: max(1, round(self.ends * self.sample_rate))]
        return self.decibels[:, : n_heard_frames(self.decibels, self.axes, waveform)]

    @property
    def filled_text(self) -> str:
        """What the spectrogram shows after the end of the sound, in words; empty where it ends with the sound.

        Example:
            >>> import torch
            >>> from captum_apex import Clip
            >>> Clip.from_waveform(torch.ones(8000), 8000).filled_text
            ''
        """
        if self.heard.shape[1] == self.decibels.shape[1]:
            return ""
        return "filled by the feature extractor" if self.ends is None else f"filled with zeros after {self.ends:.2f} s"

    @property
    def floor(self) -> float:
        """The level in dB up to which nothing is heard: the lowest level, but at most 80 dB below the loudest one."""
        return max(self.heard.min().item(), self.heard.max().item() - _DYNAMIC_RANGE)

    def is_silent(self, region: Region) -> bool:
        """Whether there is no sound in a region: no level in it is above the floor, or no sample in its time.

        Args:
            region: a region of the model's input.

        Example:
            >>> import torch
            >>> from captum_apex import Box, Clip, Region
            >>> clip = Clip.from_waveform(torch.cat([torch.rand(4000), torch.zeros(4000)]), 8000)
            >>> [clip.is_silent(Region((Box(0, 1, start, start + 0.25),))) for start in (0.0, 0.25, 0.5, 0.75)]
            [False, False, True, True]
        """
        return all(self._is_silent(box) for box in self.folded(region).boxes)

    def _is_silent(self, box: Box) -> bool:
        if self.waveform is not None:
            place = self.place(box)
            first = math.ceil(place.start * self.sample_rate)
            last = math.floor(place.end * self.sample_rate)
            samples = self.waveform[first:last].abs()
            if not len(samples) or samples.max() <= self.waveform.abs().max() * 10 ** (-_DYNAMIC_RANGE / 20):
                return True
        shown = self.on_picture(box)
        n_bins, n_frames = self.decibels.shape
        rows = slice(math.floor(shown.low * n_bins), math.ceil(shown.high * n_bins))
        columns = slice(math.floor(shown.start * n_frames), math.ceil(shown.end * n_frames))
        levels = self.decibels[rows, columns]
        return not levels.numel() or levels.max().item() <= self.floor + _SAME_LEVEL


def level_limits(clips: Iterable[Clip]) -> tuple[float, float]:
    """Common limits of the colours for clips that are compared, in dB, without frames after the end of the sound.

    The limits are the quantiles 0.01 and 0.999 of all levels, and at most 80 dB apart. Where more than 2% of a clip are
    at its lowest level, this level is digital silence and does not count, so that the colours are left to the sound.
    The lower limit is then the quantile 0.05, because windows that reach into silence have all levels down to it.

    Args:
        clips: the clips; a clip that occurs several times counts once.

    Returns:
        Lower and upper limit, in dB.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, SpectrogramAxes
        >>> from captum_apex.audio import level_limits
        >>> levels = torch.tensor([[-200.0, -150.0], [-100.0, 0.0]])
        >>> low, high = level_limits([Clip(levels, SpectrogramAxes(8000, 2, 1))])
        >>> round(high, 3), round(high - low, 3)
        (-0.2, 80.0)
    """
    shown = list(dict.fromkeys(clips))
    levels = np.concatenate([_heard_levels(clip) for clip in shown])
    silence = len(levels) < sum(clip.heard.numel() for clip in shown)
    low, high = np.quantile(levels, [0.05 if silence else 0.01, 0.999]).tolist()
    low = max(low, high - _DYNAMIC_RANGE)
    return (low, high) if high > low else (low - 1, high + 1)


def _heard_levels(clip: Clip) -> NDArray[np.float64]:
    """The levels of a clip without those of digital silence; all levels of a clip that has only one other level."""
    levels = clip.heard.detach().cpu().double().numpy().ravel()
    heard = levels[levels > levels.min() + _SAME_LEVEL]
    silence = 1 - len(heard) / len(levels) > _SILENT_SHARE
    return heard if silence and len(heard) and np.ptp(heard) > _SAME_LEVEL else levels
