"""Which Hz each bin of a spectrogram covers, and which seconds each frame.

A *position* counts bins or frames from the start of the axis, as a picture does: bin `i` covers `[i, i + 1]` and its centre is
`i + 0.5`. So a region of a spectrogram, `[first, last + 1]`, turns into Hz and seconds by its two ends.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

Number = TypeVar("Number", float, Tensor)

MEL_SCALES = ("htk", "slaney")

# Slaney's scale is linear up to 1 kHz, 3 mel in 200 Hz, and logarithmic above it, 27 mel for a factor of 6.4.
_SLANEY_HERTZ_PER_MEL = 200 / 3
_SLANEY_BEND_HERTZ = 1000.0
_SLANEY_BEND_MEL = _SLANEY_BEND_HERTZ / _SLANEY_HERTZ_PER_MEL
_SLANEY_LOG_STEP = math.log(6.4) / 27


@dataclass(frozen=True)
class SpectrogramAxes:
    """The frequency and the time axis of a spectrogram.

    The fields are the parameters of the transform, by the names that torchaudio gives them.

    Args:
        sample_rate: samples per second.
        n_fft: length of the Fourier transform, in samples.
        hop_length: samples between neighbouring frames.
        n_mels: number of mel bands; None for a linear, one-sided spectrogram of `n_fft // 2 + 1` bins.
        mel_scale: `"htk"` or `"slaney"`; without meaning where `n_mels` is None.
        f_min: lower end of the lowest mel filter, in Hz.
        f_max: upper end of the highest mel filter, in Hz; None for half the sample rate.
        center: whether frame 0 is centred on the first sample (True) or begins there (False).
        pad: samples put before the clip by the transform.

    Raises:
        ValueError: where a number is out of its range or the mel scale is unknown.

    Example:
        >>> axes = SpectrogramAxes(16000, 512, 160)
        >>> axes.hertz(32.5)  # the centre of bin 32
        1000.0
        >>> axes.seconds(100.5)  # the centre of frame 100
        1.0
        >>> axes.bin_position(1000.0), axes.frame_position(1.0)
        (32.5, 100.5)
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
            if number is not None and not number > 0:
                raise ValueError(f"expected `{name}` to be larger than 0, but got {number}")
        if self.mel_scale not in MEL_SCALES:
            raise ValueError(f"expected `mel_scale` to be one of {MEL_SCALES}, but got {self.mel_scale!r}")
        if not 0 <= self.f_min < self._highest:
            raise ValueError(f"expected 0 <= `f_min` < `f_max`, in Hz, but got {self.f_min} and {self._highest}")

    @classmethod
    def from_transform(cls, transform: Any, sample_rate: float | None = None) -> Self:
        """The axes of what a torchaudio transform gives.

        Args:
            transform: a `torchaudio.transforms.MelSpectrogram` or `Spectrogram`, or a module with the same attributes.
            sample_rate: samples per second; only for a `Spectrogram`, which does not know it.

        Raises:
            TypeError: where the transform is another one, or a `Spectrogram` comes without a sample rate.
            ValueError: where the sample rate contradicts the transform's own, or the spectrogram is two-sided.
        """
        stft, mel = getattr(transform, "spectrogram", transform), getattr(transform, "mel_scale", None)
        if not all(hasattr(stft, name) for name in ("n_fft", "hop_length", "center", "pad", "onesided")):
            raise TypeError(
                "expected `transform` to be a torchaudio MelSpectrogram or Spectrogram, but got "
                f"{type(transform).__name__}; where it holds one, pass that one"
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
        """How many bins the frequency axis has."""
        return self.n_fft // 2 + 1 if self.n_mels is None else self.n_mels

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
        """Where each bin begins and the last one ends, in Hz, float64, shape (frequency + 1,).

        An edge lies half-way between two centres, on the mel scale for mel bands and in Hz otherwise.

        Example:
            >>> SpectrogramAxes(16000, 8, 4).bin_edges.tolist()
            [0.0, 1000.0, 3000.0, 5000.0, 7000.0, 8000.0]
        """
        return self.hertz(torch.arange(self.n_bins + 1))

    def frame_centres(self, n_frames: int) -> Tensor:
        """Centre of each of the first `n_frames` frames in seconds, float64, shape (time,)."""
        return self.seconds(torch.arange(n_frames) + 0.5)

    def frame_edges(self, n_frames: int) -> Tensor:
        """Where each frame begins and the last one ends, in seconds, float64, shape (time + 1,).

        A frame is given the time that is nearer to its centre than to any other, half a hop to each side; its window is longer.
        """
        return self.seconds(torch.arange(n_frames + 1))

    def shares_of(self, other: SpectrogramAxes) -> Tensor:
        """How the bins of another frequency axis lie on the bins of this one: what a map over those bins has to be multiplied by.

        `axes.shares_of(other) @ maps` takes maps (..., other's bin, time) to maps (..., bin, time), at the same Hz. Each bin's value is
        shared among the bins that it covers in proportion to the Hz in common, so the total is kept, but for what lies beyond both ends.

        Returns:
            float64 tensor (bin, other's bin), in [0, 1].

        Example:
            >>> SpectrogramAxes(16000, 8, 4).shares_of(SpectrogramAxes(16000, 4, 4))  # 5 bins, 3 bins
            tensor([[0.5000, 0.0000, 0.0000],
                    [0.5000, 0.2500, 0.0000],
                    [0.0000, 0.5000, 0.0000],
                    [0.0000, 0.2500, 0.5000],
                    [0.0000, 0.0000, 0.5000]], dtype=torch.float64)
        """
        own, others = self.bin_edges[:, None], other.bin_edges
        common = (torch.minimum(own[1:], others[1:]) - torch.maximum(own[:-1], others[:-1])).clamp_min(0)
        return common / others.diff()

    def hertz(self, position: Number) -> Number:
        """The frequency at a position in bins, clipped to [0, nyquist] Hz.

        Args:
            position: number or tensor; bin `i` covers `[i, i + 1]`, its centre is `i + 0.5`.

        Returns:
            A float for a number, a float64 tensor of the same shape for a tensor.
        """
        bins = _float64(position)
        if self.n_mels is None:
            return _like(position, ((bins - 0.5) * self._bin_width).clamp(0, self.nyquist))
        lowest, step = self._mel_line
        return _like(position, _from_mel(lowest + (bins + 0.5) * step, self.mel_scale).clamp(0, self.nyquist))

    def bin_position(self, hertz: Number) -> Number:
        """The position in bins of a frequency; outside [0, `n_bins`] where no bin covers it.

        Raises:
            ValueError: for a frequency outside [0, nyquist].
        """
        frequency = _float64(hertz)
        if not ((frequency >= 0) & (frequency <= self.nyquist)).all():
            raise ValueError(f"expected `hertz` in [0, {self.nyquist}], but got {hertz}")
        if self.n_mels is None:
            return _like(hertz, frequency / self._bin_width + 0.5)
        lowest, step = self._mel_line
        return _like(hertz, (_to_mel(frequency, self.mel_scale) - lowest) / step - 0.5)

    def seconds(self, position: Number) -> Number:
        """The time at a position in frames, in seconds from the first sample of the clip; clipped at 0.

        Args:
            position: number or tensor; frame `t` covers `[t, t + 1]`, its centre is `t + 0.5`.

        Returns:
            A float for a number, a float64 tensor of the same shape for a tensor.
        """
        samples = (_float64(position) - 0.5) * self.hop_length + self._first_centre
        return _like(position, (samples / self.sample_rate).clamp_min(0))

    def frame_position(self, seconds: Number) -> Number:
        """The position in frames of a time; below 0 where no frame covers it.

        Raises:
            ValueError: for a time below 0.
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
    def _first_centre(self) -> float:
        return (0 if self.center else self.n_fft / 2) - self.pad  # in samples of the clip

    @property
    def _mel_line(self) -> tuple[float, float]:
        """The lower end of the lowest filter and the distance of neighbouring centres, in mel.

        Filter `i` is a triangle with its feet at `i` and `i + 2` steps, so its centre is `i + 1` steps above the lower end.
        """
        low, high = _to_mel(torch.tensor([self.f_min, self._highest], dtype=torch.float64), self.mel_scale).tolist()
        return low, (high - low) / (self.n_bins + 1)


def _agreed_sample_rate(own: float | None, given: float | None) -> float:
    if own is not None and given is not None and own != given:
        raise ValueError(f"expected `sample_rate` to be the transform's own, {own}, but got {given}")
    rate = given if own is None else own
    if rate is None:
        raise TypeError("expected a `sample_rate`, because this transform does not know it, but got None")
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
