"""Conversion between the bins and frames of a spectrogram and Hz and seconds.

A *position* counts bins or frames from the start of the axis, as in a picture: bin `i` covers `[i, i + 1]`, and its
centre is `i + 0.5`. So the two ends of a range of bins, `first` and `last + 1`, are converted to Hz one by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor

from captum_apex.audio.frame_times import FrameTimes, Number, float64, like
from captum_apex.audio.frequency_scales import MEL_SCALES, Centres, FrequencyBins, LinearBins, MelBands, Rows
from captum_apex.audio.transform_fields import transform_fields
from captum_apex.choices import one_of
from captum_apex.numbers import real_number, whole_number

__all__ = ["SpectrogramAxes"]

_ROUNDING = 1e-6  # bins, by which the frequency of a bin may differ from a limit that is meant to be the same


@dataclass(frozen=True)
class SpectrogramAxes(FrameTimes):
    """The frequency and the time axis of a spectrogram.

    The fields are the parameters of the transform, with torchaudio's names: mel bands or the bins of a Fourier
    transform. `cqt` and `from_centres` give other frequency axes. What is done to the spectrogram afterwards is said by
    `cropped`, `resized` and `flipped`, in the same order.

    Args:
        sample_rate: sample rate of the waveform, in Hz.
        n_fft: length of the Fourier transform, in samples.
        hop_length: samples between neighbouring frames; any number, because that of a resized picture is no whole one.
        n_mels: number of mel bands; None for a linear, one-sided spectrogram, of whose `n_fft // 2 + 1` bins those from
            `f_min` to `f_max` are kept.
        mel_scale: `"htk"` or `"slaney"`; ignored if `n_mels` is None.
        f_min: lower end of the lowest mel filter, in Hz; of a linear spectrogram, the lowest frequency of a kept bin.
        f_max: upper end of the highest mel filter, in Hz; of a linear spectrogram, the highest frequency of a kept bin;
            None for half the sample rate.
        center: whether frame 0 is centred on the first sample (True) or begins there (False).
        pad: number of samples that the transform adds before the clip; below 0 where it leaves samples out.
        centres: the centres of the bins, which `cqt` and `from_centres` set; None for mel bands and linear bins.
        rows: the rows of the picture on the bins of the transform, which `cropped`, `resized` and `flipped` set; None
            where they are the same.

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

        The same as a picture of 224 × 224 pixels, with high frequencies at the top, from 300 frames:

        >>> picture = cropped.flipped().resized((221, 300), (224, 224))
        >>> picture.n_bins, picture.descending, picture.seconds(112.0)  # half of the width
        (224, True, 0.1495)
    """

    sample_rate: float
    n_fft: int
    hop_length: float
    _: KW_ONLY
    n_mels: int | None = None
    mel_scale: str = "htk"
    f_min: float = 0.0
    f_max: float | None = None
    center: bool = True
    pad: float = 0
    centres: Centres | None = field(default=None, repr=False)  # a wall of numbers
    rows: Rows | None = field(default=None, repr=False)

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
        if self.centres is not None and self.centres.frequencies[-1] > self.nyquist:
            raise ValueError(
                f"expected `centres` up to half the sample rate, {self.nyquist:g} Hz, but got "
                f"{self.centres.frequencies[-1]:g} Hz"
            )
        if self._bins.n_bins < 1:
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
        return cls(**transform_fields(transform, sample_rate))

    @classmethod
    def cqt(
        cls,
        sample_rate: float,
        hop_length: float,
        *,
        f_min: float,
        n_bins: int,
        bins_per_octave: float = 12,
        center: bool = True,
    ) -> Self:
        """The axes of a constant-Q transform, or of another spectrogram with logarithmic frequency.

        Args:
            sample_rate: sample rate of the waveform, in Hz.
            hop_length: samples between neighbouring frames.
            f_min: centre of the lowest bin, in Hz, above 0.
            n_bins: number of bins, at least two.
            bins_per_octave: bins in an octave.
            center: whether frame 0 is centred on the first sample (True) or begins there (False).

        Raises:
            ValueError: if a number is out of its range, or a bin is above half the sample rate.

        Example:
            >>> from captum_apex import SpectrogramAxes
            >>> axes = SpectrogramAxes.cqt(22050, 512, f_min=55.0, n_bins=84)
            >>> [round(hertz, 6) for hertz in axes.bin_centres[::12].tolist()]
            [55.0, 110.0, 220.0, 440.0, 880.0, 1760.0, 3520.0]
        """
        octave = real_number(bins_per_octave, "bins_per_octave")
        lowest = real_number(f_min, "f_min")
        for name, number in (("bins_per_octave", octave), ("f_min", lowest)):
            if not number > 0:
                raise ValueError(f"expected `{name}` to be larger than 0, but got {number}")
        centres = tuple(lowest * 2 ** (bin_ / octave) for bin_ in range(whole_number(n_bins, "n_bins", least=2)))
        return cls(sample_rate, 1, hop_length, center=center, centres=Centres(centres, logarithmic=True))

    @classmethod
    def from_centres(
        cls, sample_rate: float, hop_length: float, centres: Iterable[float], *, center: bool = True, n_fft: int = 1
    ) -> Self:
        """The axes of a filter bank with any centres: of gammatone (ERB) or sinc filters, or a table of frequencies.

        An edge between two bins is half-way between their centres, in Hz.

        Args:
            sample_rate: sample rate of the waveform, in Hz.
            hop_length: samples between neighbouring frames.
            centres: the frequency of each bin in Hz, in the order of the spectrogram: ascending or descending.
            center: whether frame 0 is centred on the first sample (True) or begins there (False).
            n_fft: length of a frame, in samples; it matters only with `center=False`.

        Raises:
            ValueError: if there are fewer than two centres, they neither ascend nor descend, or one is below 0 Hz or
                above half the sample rate.

        Example:
            >>> from captum_apex import SpectrogramAxes
            >>> axes = SpectrogramAxes.from_centres(8000, 80, [50.0, 150.0, 450.0, 1350.0])
            >>> axes.bin_edges.tolist()
            [0.0, 100.0, 300.0, 900.0, 1800.0]
        """
        listed = [float(centre) for centre in centres]
        descends = len(listed) > 1 and listed[0] > listed[-1]
        ascending = tuple(reversed(listed) if descends else listed)
        axes = cls(sample_rate, n_fft, hop_length, center=center, centres=Centres(ascending))
        return axes.flipped() if descends else axes

    def flipped(self) -> Self:
        """The axes of the picture upside down: the bin that was last comes first.

        Example:
            >>> from captum_apex import SpectrogramAxes
            >>> SpectrogramAxes(8000, 8, 4).flipped().bin_centres.tolist()
            [4000.0, 3000.0, 2000.0, 1000.0, 0.0]
        """
        first, step, count = self._rows
        return self._with_rows(Rows(first + step * count, -step, count))

    def cropped(self, first_bin: int = 0, end_bin: int | None = None, first_frame: int = 0) -> Self:
        """The axes of a part of the picture, `spectrogram[first_bin:end_bin, first_frame:]`.

        Args:
            first_bin: the first row that is kept.
            end_bin: the row after the last one that is kept; None for all rows.
            first_frame: the first frame that is kept.

        Raises:
            ValueError: if no row is kept, or a number is below 0.

        Example:
            >>> from captum_apex import SpectrogramAxes
            >>> axes = SpectrogramAxes(8000, 8, 80).cropped(1, 4, first_frame=50)
            >>> axes.bin_centres.tolist(), axes.seconds(0.5)
            ([1000.0, 2000.0, 3000.0], 0.5)
        """
        first, step, count = self._rows
        start = whole_number(first_bin, "first_bin", least=0)
        end = count if end_bin is None else min(whole_number(end_bin, "end_bin", least=0), count)
        if not start < end:
            raise ValueError(f"expected `first_bin` below `end_bin` and {count}, but got {first_bin} and {end_bin}")
        left_out = whole_number(first_frame, "first_frame", least=0) * self.hop_length
        return self._with_rows(Rows(first + step * start, step, end - start), pad=self.pad - left_out)

    def resized(self, size: tuple[int, int], new_size: tuple[int, int]) -> Self:
        """The axes of the picture after it was resized, as by `torch.nn.functional.interpolate`, corners not aligned.

        Args:
            size: bins and frames of the picture before.
            new_size: bins and frames of the picture afterwards.

        Raises:
            ValueError: if a number is below 1, or the axes have another number of bins than `size`.

        Example:
            >>> from captum_apex import SpectrogramAxes
            >>> axes = SpectrogramAxes(16000, 512, 160, n_mels=64).resized((64, 101), (224, 224))
            >>> axes.n_bins, axes.seconds(224.0)  # the end of the picture, half a hop after the last frame's centre
            (224, 1.005)
        """
        first, step, count = self._rows
        n_bins, n_frames = (whole_number(number, "size", least=1) for number in size)
        new_bins, new_frames = (whole_number(number, "new_size", least=1) for number in new_size)
        if n_bins != count:
            raise ValueError(f"expected `size` to begin with the {count} bins of the axes, but got {tuple(size)}")
        hop = self.hop_length * n_frames / new_frames
        pad = self.pad + (self.hop_length - hop) / 2  # the picture begins at the same time, half a hop before a centre
        rows = Rows(first, step * n_bins / new_bins, new_bins)
        return self._with_rows(rows, hop_length=hop, pad=pad)

    @property
    def n_bins(self) -> int:
        """Number of frequency bins."""
        return self._rows.n_rows

    @property
    def descending(self) -> bool:
        """Whether the first bin has the highest frequencies."""
        return self._rows.step < 0

    @property
    def even_span(self) -> tuple[float, float] | None:
        """Where the first bin begins and the last one ends, in Hz, also below 0; None if the bins have unequal widths.

        Example:
            >>> from captum_apex import SpectrogramAxes
            >>> SpectrogramAxes(16000, 8, 4).even_span
            (-1000.0, 9000.0)
        """
        if not isinstance(self._bins, LinearBins):
            return None
        ends = torch.tensor([0.0, self.n_bins], dtype=torch.float64)
        start, end = self._bins.hertz(self._on_transform(ends)).tolist()
        return start, end

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

        An edge lies half-way between two centres: on the mel scale for mel bands, on the logarithmic scale for a
        constant-Q transform, and in Hz otherwise.

        Example:
            >>> from captum_apex import SpectrogramAxes
            >>> SpectrogramAxes(16000, 8, 4).bin_edges.tolist()
            [0.0, 1000.0, 3000.0, 5000.0, 7000.0, 8000.0]
        """
        return self.hertz(torch.arange(self.n_bins + 1))

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
        edges = torch.stack([self.bin_edges[:-1], self.bin_edges[1:]]).sort(0).values  # lower and upper, (2, bin)
        other_edges = torch.stack([other.bin_edges[:-1], other.bin_edges[1:]]).sort(0).values
        upper = torch.minimum(edges[1][:, None], other_edges[1])  # (bin, other bin)
        lower = torch.maximum(edges[0][:, None], other_edges[0])
        return (upper - lower).clamp_min(0) / (other_edges[1] - other_edges[0])

    def hertz(self, position: Number) -> Number:
        """The frequency at a position in bins, clipped to [0, nyquist] Hz.

        Args:
            position: number or tensor; bin `i` covers `[i, i + 1]`, and its centre is `i + 0.5`.

        Returns:
            A float for a number, a float64 tensor of the same shape for a tensor.
        """
        return like(position, self._bins.hertz(self._on_transform(float64(position))).clamp(0, self.nyquist))

    def bin_position(self, hertz: Number) -> Number:
        """The position of a frequency, in bins; outside [0, `n_bins`] if no bin covers the frequency.

        Args:
            hertz: number or tensor, in Hz.

        Returns:
            A float for a number, a float64 tensor of the same shape for a tensor.

        Raises:
            ValueError: if a frequency is outside [0, nyquist].
        """
        frequency = float64(hertz)
        if not ((frequency >= 0) & (frequency <= self.nyquist)).all():
            raise ValueError(f"expected `hertz` in [0, {self.nyquist}], but got {hertz}")
        position = self._bins.position(frequency)
        return like(hertz, position if self.rows is None else (position - self.rows.first) / self.rows.step)

    @property
    def _highest(self) -> float:
        return self.nyquist if self.f_max is None else self.f_max

    @property
    def _bin_width(self) -> float:
        return self.sample_rate / self.n_fft

    @cached_property
    def _bins(self) -> FrequencyBins:
        """The bins of the transform."""
        if self.centres is not None:
            return self.centres
        if self.n_mels is not None:
            return MelBands(self.f_min, self._highest, self.n_mels, self.mel_scale)
        first = math.ceil(self.f_min / self._bin_width - _ROUNDING)  # the lowest bin that is kept
        last = min(self.n_fft // 2, math.floor(self._highest / self._bin_width + _ROUNDING))
        return LinearBins(self._bin_width, first, last + 1 - first)

    @property
    def _rows(self) -> Rows:
        return Rows(0.0, 1.0, self._bins.n_bins) if self.rows is None else self.rows

    def _with_rows(self, rows: Rows, **fields: Any) -> Self:
        """The same axes with other rows; those of the transform are None, so that equal axes compare as equal."""
        return replace(self, rows=None if rows == Rows(0.0, 1.0, self._bins.n_bins) else rows, **fields)

    def _on_transform(self, position: Tensor) -> Tensor:
        """Positions on the picture as positions on the bins of the transform."""
        return position if self.rows is None else self.rows.first + position * self.rows.step
