"""Conversion between the bins and frames of a spectrogram and Hz and seconds.

A *position* counts bins or frames from the start of the axis, as in a picture: bin `i` covers `[i, i + 1]`, and its
centre is `i + 0.5`. So the two ends of a range of bins, `first` and `last + 1`, are converted to Hz one by one.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, replace
from functools import cached_property
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from captum_apex.choices import one_of
from captum_apex.numbers import real_number

__all__ = ["MEL_SCALES", "SpectrogramAxes"]

Number = TypeVar("Number", float, Tensor)

MEL_SCALES = ("htk", "slaney")
"""The mel scales that torchaudio has."""

# Slaney's scale is linear up to 1 kHz, with 3 mel in 200 Hz, and logarithmic above, with 27 mel for a factor of 6.4.
_SLANEY_HERTZ_PER_MEL = 200 / 3
_SLANEY_BEND_HERTZ = 1000.0
_SLANEY_BEND_MEL = _SLANEY_BEND_HERTZ / _SLANEY_HERTZ_PER_MEL
_SLANEY_LOG_STEP = math.log(6.4) / 27
_ROUNDING = 1e-6  # bins, by which the frequency of a bin may differ from a limit that is meant to be the same


@dataclass(frozen=True)
class SpectrogramAxes:
    """The frequency and the time axis of a spectrogram.

    The fields are the parameters of the transform, with torchaudio's names.

    Args:
        sample_rate: sample rate of the waveform, in Hz.
        n_fft: length of the Fourier transform, in samples.
        hop_length: samples between neighbouring frames.
        n_mels: number of mel bands; None for a linear, one-sided spectrogram, of whose `n_fft // 2 + 1` bins those from
            `f_min` to `f_max` are kept.
        mel_scale: `"htk"` or `"slaney"`; ignored if `n_mels` is None.
        f_min: lower end of the lowest mel filter, in Hz; of a linear spectrogram, the lowest frequency of a kept bin.
        f_max: upper end of the highest mel filter, in Hz; of a linear spectrogram, the highest frequency of a kept bin;
            None for half the sample rate.
        center: whether frame 0 is centred on the first sample (True) or begins there (False).
        pad: number of samples that the transform adds before the clip.

    Raises:
        ValueError: if a number is out of its range, or the mel scale is unknown.

    Example:
        >>> from captum_apex import SpectrogramAxes
        >>> axes = SpectrogramAxes(16000, 512, 160)
        >>> axes.hertz(32.5)  # the centre of bin 32
        1000.0
        >>> axes.seconds(100.5)  # the centre of frame 100
        1.0
        >>> axes.bin_position(1000.0), axes.frame_position(1.0)
        (32.5, 100.5)

        The bins of a spectrogram of bats from 10 to 120 kHz:

        >>> cropped = SpectrogramAxes(256000, 512, 256, f_min=10_000, f_max=120_000)
        >>> cropped.n_bins, cropped.bin_centres[0].item(), cropped.bin_centres[-1].item()
        (221, 10000.0, 120000.0)
    """

    sample_rate: float
    n_fft: int
    hop_length: int
    _: KW_ONLY
    n_mels: int | None = None
    mel_scale: str = "htk"
    f_min: float = 0.0
    f_max: float | None = None
    center: bool = True
    pad: int = 0

    def __post_init__(self) -> None:
        for name in ("sample_rate", "n_fft", "hop_length", "n_mels"):
            number = getattr(self, name)
            if name == "n_mels" and number is None:
                continue
            if not real_number(number, name) > 0:
                raise ValueError(f"expected `{name}` to be larger than 0, but got {number}")
        one_of(self.mel_scale, "`mel_scale`", MEL_SCALES)
        if not 0 <= self.f_min < self._highest:
            raise ValueError(f"expected 0 <= `f_min` < `f_max`, in Hz, but got {self.f_min} and {self._highest}")
        if self.n_bins < 1:
            raise ValueError(
                f"expected a bin from `f_min` to `f_max`, but none of the bins, {self._bin_width:g} Hz apart, "
                f"lies from {self.f_min:g} to {self._highest:g} Hz"
            )

    @classmethod
    def from_transform(cls, transform: Any, sample_rate: float | None = None) -> Self:
        """The axes of the spectrograms that a torchaudio transform computes.

        Args:
            transform: a `torchaudio.transforms.MelSpectrogram` or `Spectrogram`, or a module with the same attributes.
            sample_rate: sample rate in Hz; needed only for a `Spectrogram`, which does not store it.

        Raises:
            TypeError: if the transform is another one, or if the sample rate of a `Spectrogram` is missing.
            ValueError: if the sample rate is not that of the transform, or the spectrogram is two-sided.

        Example:
            >>> from torchaudio.transforms import Spectrogram
            >>> from captum_apex import SpectrogramAxes
            >>> SpectrogramAxes.from_transform(Spectrogram(n_fft=512, hop_length=160), sample_rate=16000).n_bins
            257
        """
        stft = getattr(transform, "spectrogram", transform)
        mel = getattr(transform, "mel_scale", None)
        if not all(hasattr(stft, name) for name in ("n_fft", "hop_length", "center", "pad", "onesided")):
            raise TypeError(
                "expected `transform` to be a torchaudio MelSpectrogram or Spectrogram, but got "
                f"{type(transform).__name__}; if it contains one of them, pass that one"
            )
        if not stft.onesided:
            raise ValueError(
                "expected a one-sided spectrogram, but got onesided=False: half of its bins repeat the others"
            )
        rate = _agreed_sample_rate(getattr(transform, "sample_rate", None), sample_rate)
        linear = cls(rate, stft.n_fft, stft.hop_length, center=stft.center, pad=stft.pad)
        if mel is None:
            return linear
        return replace(linear, n_mels=mel.n_mels, mel_scale=mel.mel_scale, f_min=mel.f_min, f_max=mel.f_max)

    @property
    def n_bins(self) -> int:
        """Number of frequency bins."""
        if self.n_mels is not None:
            return self.n_mels
        last = min(self.n_fft // 2, math.floor(self._highest / self._bin_width + _ROUNDING))
        return last + 1 - self._first_bin

    @property
    def nyquist(self) -> float:
        """Half the sample rate, in Hz."""
        return self.sample_rate / 2

    @property
    def bin_centres(self) -> Tensor:
        """Centre of each bin in Hz, float64, shape (frequency,)."""
        return self.hertz(torch.arange(self.n_bins) + 0.5)

    @property
    def bin_edges(self) -> Tensor:
        """The lower end of each bin and the upper end of the last one, in Hz, float64, shape (frequency + 1,).

        An edge lies half-way between two centres, on the mel scale for mel bands and in Hz otherwise.

        Example:
            >>> from captum_apex import SpectrogramAxes
            >>> SpectrogramAxes(16000, 8, 4).bin_edges.tolist()
            [0.0, 1000.0, 3000.0, 5000.0, 7000.0, 8000.0]
        """
        return self.hertz(torch.arange(self.n_bins + 1))

    def frame_centres(self, n_frames: int) -> Tensor:
        """Centre of each of the first `n_frames` frames in seconds, float64, shape (time,)."""
        return self.seconds(torch.arange(n_frames) + 0.5)

    def frame_edges(self, n_frames: int) -> Tensor:
        """The start of each frame and the end of the last one, in seconds, float64, shape (time + 1,).

        A frame covers half a hop on each side of its centre, although its window is longer.
        """
        return self.seconds(torch.arange(n_frames + 1))

    def shares_of(self, other: SpectrogramAxes) -> Tensor:
        """The share of each bin of another frequency axis that lies on each bin of this one.

        `axes.shares_of(other) @ maps` converts maps (..., other bin, time) to maps (..., bin, time), at the same Hz.
        The value of a bin is divided among the bins that it overlaps, in proportion to the Hz in common. The total
        stays the same, except for values at frequencies outside this axis.

        Args:
            other: the axes of the maps to convert.

        Returns:
            float64 tensor of shape (bin, other bin), in [0, 1].

        Example:
            >>> from captum_apex import SpectrogramAxes
            >>> SpectrogramAxes(16000, 8, 4).shares_of(SpectrogramAxes(16000, 4, 4))  # 5 bins, 3 bins
            tensor([[0.5000, 0.0000, 0.0000],
                    [0.5000, 0.2500, 0.0000],
                    [0.0000, 0.5000, 0.0000],
                    [0.0000, 0.2500, 0.5000],
                    [0.0000, 0.0000, 0.5000]], dtype=torch.float64)
        """
        edges = self.bin_edges[:, None]
        other_edges = other.bin_edges
        upper = torch.minimum(edges[1:], other_edges[1:])  # (bin, other bin)
        lower = torch.maximum(edges[:-1], other_edges[:-1])
        return (upper - lower).clamp_min(0) / other_edges.diff()

    def hertz(self, position: Number) -> Number:
        """The frequency at a position in bins, clipped to [0, nyquist] Hz.

        Args:
            position: number or tensor; bin `i` covers `[i, i + 1]`, and its centre is `i + 0.5`.

        Returns:
            A float for a number, a float64 tensor of the same shape for a tensor.
        """
        bins = _float64(position)
        if self.n_mels is None:
            return _like(position, ((bins - 0.5 + self._first_bin) * self._bin_width).clamp(0, self.nyquist))
        lowest, step = self._mel_line
        return _like(position, _from_mel(lowest + (bins + 0.5) * step, self.mel_scale).clamp(0, self.nyquist))

    def bin_position(self, hertz: Number) -> Number:
        """The position of a frequency, in bins; outside [0, `n_bins`] if no bin covers the frequency.

        Args:
            hertz: number or tensor, in Hz.

        Returns:
            A float for a number, a float64 tensor of the same shape for a tensor.

        Raises:
            ValueError: if a frequency is outside [0, nyquist].
        """
        frequency = _float64(hertz)
        if not ((frequency >= 0) & (frequency <= self.nyquist)).all():
            raise ValueError(f"expected `hertz` in [0, {self.nyquist}], but got {hertz}")
        if self.n_mels is None:
            return _like(hertz, frequency / self._bin_width + 0.5 - self._first_bin)
        lowest, step = self._mel_line
        return _like(hertz, (_to_mel(frequency, self.mel_scale) - lowest) / step - 0.5)

    def seconds(self, position: Number) -> Number:
        """The time at a position in frames, in seconds from the first sample of the clip; clipped at 0.

        Args:
            position: number or tensor; frame `t` covers `[t, t + 1]`, and its centre is `t + 0.5`.

        Returns:
            A float for a number, a float64 tensor of the same shape for a tensor.
        """
        samples = (_float64(position) - 0.5) * self.hop_length + self._first_centre
        return _like(position, (samples / self.sample_rate).clamp_min(0))

    def frame_position(self, seconds: Number) -> Number:
        """The position of a time, in frames; below 0 if the time is before the first frame.

        Args:
            seconds: number or tensor, in seconds from the first sample of the clip.

        Returns:
            A float for a number, a float64 tensor of the same shape for a tensor.

        Raises:
            ValueError: if a time is below 0.
        """
        time = _float64(seconds)
        if not (time >= 0).all():
            raise ValueError(f"expected `seconds` to be at least 0, but got {seconds}")
        return _like(seconds, (time * self.sample_rate - self._first_centre) / self.hop_length + 0.5)

    @property
    def _highest(self) -> float:
        return self.nyquist if self.f_max is None else self.f_max

    @property
    def _bin_width(self) -> float:
        return self.sample_rate / self.n_fft

    @property
    def _first_bin(self) -> int:
        """The number of the lowest kept bin of a linear spectrogram."""
        return math.ceil(self.f_min / self._bin_width - _ROUNDING)

    @property
    def _first_centre(self) -> float:
        """The centre of frame 0, in samples of the clip."""
        return (0 if self.center else self.n_fft / 2) - self.pad

    @cached_property
    def _mel_line(self) -> tuple[float, float]:
        """The lower end of the lowest filter, and the distance between neighbouring centres, in mel.

        Filter `i` is a triangle from step `i` to step `i + 2`, so its centre is `i + 1` steps above the lower end.
        """
        low, high = _to_mel(torch.tensor([self.f_min, self._highest], dtype=torch.float64), self.mel_scale).tolist()
        return low, (high - low) / (self.n_bins + 1)


def _agreed_sample_rate(of_transform: float | None, given: float | None) -> float:
    if of_transform is not None and given is not None and of_transform != given:
        raise ValueError(f"expected `sample_rate` to be that of the transform, {of_transform}, but got {given}")
    rate = given if of_transform is None else of_transform
    if rate is None:
        raise TypeError("expected a `sample_rate`, because this transform does not store it, but got None")
    return rate


def _to_mel(hertz: Tensor, scale: str) -> Tensor:
    if scale == "htk":
        return 2595 * torch.log10(1 + hertz / 700)
    above = _SLANEY_BEND_MEL + torch.log((hertz / _SLANEY_BEND_HERTZ).clamp_min(1)) / _SLANEY_LOG_STEP
    return torch.where(hertz < _SLANEY_BEND_HERTZ, hertz / _SLANEY_HERTZ_PER_MEL, above)


def _from_mel(mel: Tensor, scale: str) -> Tensor:
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    above = _SLANEY_BEND_HERTZ * torch.exp((mel - _SLANEY_BEND_MEL) * _SLANEY_LOG_STEP)
    return torch.where(mel < _SLANEY_BEND_MEL, mel * _SLANEY_HERTZ_PER_MEL, above)


def _float64(value: float | Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


def _like(given: Number, value: Tensor) -> Number:
    return value if isinstance(given, Tensor) else value.item()
