"""A clip as people see and hear it: a spectrogram in dB on real axes, and the sound."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from captum_apex.audio.axes import SpectrogramAxes
from captum_apex.audio.regions import Box

__all__ = ["Clip", "ClipLookup", "Place", "level_limits"]

_FLOOR = 1e-10  # of the power, −100 dB
_DEEPEST = 80.0  # dB below the loudest level that still get a colour of their own


class Place(NamedTuple):
    """A rectangle in Hz and seconds."""

    low: float
    high: float
    start: float
    end: float


@dataclass(frozen=True, eq=False)  # a clip equals itself alone
class Clip:
    """A spectrogram to look at, the waveform to listen to where there is one, and how a region of the model's input lies on both.

    Args:
        decibels: the spectrogram, (frequency, time), in dB.
        axes: of the spectrogram; its sample rate is the waveform's.
        waveform: mono, (sample,); None where there is no sound.
        name: of the file or of the clip, for titles.
        label: name of its class, for titles.
        of_samples: whether the model takes the waveform, so that regions are fractions of its samples, not of the frames.

    Raises:
        ValueError: the shapes are others, or a value is NaN or infinite.
    """

    decibels: Tensor
    axes: SpectrogramAxes
    waveform: Tensor | None = None
    name: str = ""
    label: str = ""
    of_samples: bool = False

    def __post_init__(self) -> None:
        if self.decibels.ndim != 2 or self.decibels.shape[0] != self.axes.n_bins or not self.decibels.shape[1]:
            raise ValueError(
                f"expected `decibels` of shape ({self.axes.n_bins}, time), as the axes have it, but got {_shape(self.decibels)}"
            )
        if self.waveform is not None and (self.waveform.ndim != 1 or not len(self.waveform)):
            raise ValueError(f"expected a `waveform` of shape (sample,), mono, but got {_shape(self.waveform)}")
        if self.of_samples and self.waveform is None:
            raise ValueError("expected a `waveform`, because regions are fractions of its samples, but got None")
        for name, values in (("decibels", self.decibels), ("waveform", self.waveform)):
            if values is not None and not values.isfinite().all():
                raise ValueError(f"expected finite `{name}`, but there is NaN or infinity")

    @classmethod
    def from_waveform(
        cls, waveform: Tensor, sample_rate: float, *, n_fft: int = 512, name: str = "", label: str = ""
    ) -> Self:
        """The clip of a model that takes waveforms: its picture is the power spectrogram, at most 80 dB deep.

        Args:
            waveform: mono, (sample,).
            sample_rate: in Hz.
            n_fft: length of the picture's Fourier transform, in samples; the hop is a quarter of it.
            name: for titles.
            label: for titles.

        >>> Clip.from_waveform(torch.ones(4000), 8000).seconds(1.0)
        0.5
        """
        if waveform.ndim != 1 or len(waveform) <= n_fft // 2:
            raise ValueError(
                f"expected a `waveform` of shape (sample,), of more than {n_fft // 2} samples, but got {_shape(waveform)}"
            )
        window = torch.hann_window(n_fft, dtype=waveform.dtype, device=waveform.device)
        spectrum = torch.stft(waveform, n_fft, n_fft // 4, window=window, return_complex=True)
        decibels = 10 * spectrum.abs().square().clamp_min(_FLOOR).log10()
        decibels = decibels.clamp_min(decibels.max().item() - 80)
        return cls(decibels, SpectrogramAxes(sample_rate, n_fft, n_fft // 4), waveform, name, label, of_samples=True)

    @property
    def sample_rate(self) -> float:
        """Of the waveform, in Hz."""
        return self.axes.sample_rate

    @property
    def duration(self) -> float:
        """In seconds: the waveform's, or the last frame's end where there is none."""
        if self.waveform is None:
            return self.axes.seconds(float(self.decibels.shape[1]))
        return len(self.waveform) / self.sample_rate

    @property
    def title(self) -> str:
        """Label and name, whichever there are.

        >>> Clip(torch.zeros(5, 2), SpectrogramAxes(8000, 8, 4), name="7_theo_0.wav", label="seven").title
        'seven, 7_theo_0.wav'
        """
        return ", ".join(part for part in (self.label, Path(os.fspath(self.name)).name) if part)

    def seconds(self, fraction: float) -> float:
        """The time at a fraction of the input's time axis."""
        if self.of_samples:
            return fraction * self.duration
        return self.axes.seconds(fraction * self.decibels.shape[1])

    def hertz(self, fraction: float) -> float:
        """The frequency at a fraction of the input's frequency axis; a waveform has none, its regions reach from 0 to the top."""
        if self.of_samples:
            return fraction * self.axes.nyquist
        return self.axes.hertz(fraction * self.decibels.shape[0])

    def place(self, box: Box) -> Place:
        """Where a box of a region lies.

        Args:
            box: its sides as fractions of the input's axes.
        """
        return Place(self.hertz(box.low), self.hertz(box.high), self.seconds(box.start), self.seconds(box.end))


class ClipLookup(Protocol):
    """Gives the clip at an index of the dataset that the basis was fitted on: a list, a dict, or whatever loads it when asked."""

    def __getitem__(self, index: int, /) -> Clip: ...


def level_limits(clips: Iterable[Clip]) -> tuple[float, float]:
    """The colours' common limits for clips that are compared, in dB: nearly all of their levels, at most 80 dB deep.

    >>> low, high = level_limits([Clip(torch.tensor([[-200.0], [0.0]]), SpectrogramAxes(8000, 2, 1))])
    >>> round(high, 3), round(high - low, 3)
    (-0.2, 80.0)
    """
    levels = np.concatenate([clip.decibels.detach().cpu().double().numpy().ravel() for clip in dict.fromkeys(clips)])
    low, high = np.quantile(levels, [0.01, 0.999]).tolist()
    low = max(low, high - _DEEPEST)
    return (low, high) if high > low else (low - 1, high + 1)


def _shape(values: Tensor) -> tuple[int, ...]:
    return tuple(values.shape)
