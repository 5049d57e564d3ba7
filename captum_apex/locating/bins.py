"""A clip as bins over frequency and time that can be replaced."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from captum_apex.audio.regions import Box
from captum_apex.masking.fills import Fill, own_phase
from captum_apex.spectra import InverseSTFT

__all__ = ["Bins", "Rectangle"]

Rectangle = tuple[int, int, int, int]
"""A rectangle of bins: the first row, the row after the last, the first column, the column after the last."""

_LONGEST_TRANSFORM = 1024  # samples
_SHORTEST_TRANSFORM = 16  # samples; with fewer, a waveform is masked sample by sample
_TRANSFORMS_PER_WAVEFORM = 16  # a short waveform gets a shorter transform, so that there are frames to choose from


@dataclass(frozen=True, eq=False)
class Bins:
    """One clip as a tensor over frequency and time, and the way back to the input of the model.

    Args:
        values: the clip, (1, channel, frequency, time); one row where the input has no frequency axis. For a waveform
            the channels are the real and the imaginary part of its short-time Fourier transform.
        layout: axes of the model's input, as in `APEX`.
        inverse: the inverse Fourier transform of a waveform; None for other inputs.

    Example:
        >>> import torch
        >>> from captum_apex.locating.bins import Bins
        >>> bins = Bins.of(torch.zeros(1, 4, 6), "n f t")
        >>> bins.n_rows, bins.n_columns
        (4, 6)
        >>> bins.box((0, 2, 3, 6))
        Box(low=0.0, high=0.5, start=0.5, end=1.0)
    """

    values: Tensor
    layout: str
    inverse: InverseSTFT | None = None

    @classmethod
    def of(cls, inputs: Tensor, layout: str) -> Bins:
        """The bins of an input.

        Args:
            inputs: one clip, with the axes of `layout`; its first axis has size 1.
            layout: axes of the input: `n` clip, `c` channel, `f` frequency, `t` time.
        """
        axes = layout.split()
        canonical = " ".join(axis if axis in axes else "1" for axis in "ncft")
        values = rearrange(inputs, f"{layout} -> {canonical}")
        n_fft = _transform_length(values.shape[3])
        if "f" in axes or values.shape[1] > 2 or n_fft < _SHORTEST_TRANSFORM:
            return cls(values, layout)
        inverse = InverseSTFT(values.shape[3], n_fft, n_fft // 4).to(inputs.device)
        spectra = inverse.spectra(values[0, :, 0])  # (channel, 2, frequency, time)
        return cls(rearrange(spectra, "c p f t -> 1 (c p) f t"), layout, inverse)

    @property
    def n_rows(self) -> int:
        """Number of frequency rows."""
        return self.values.shape[2]

    @property
    def n_columns(self) -> int:
        """Number of time columns."""
        return self.values.shape[3]

    @property
    def levels(self) -> Tensor:
        """The level of each bin, (frequency, time), in dB or in the unit of the input.

        Values that are never negative, such as magnitudes or powers, are taken as linear and given in dB, down to 80 dB
        below the largest.
        """
        if self.inverse is not None:
            parts = rearrange(self.values[0], "(c p) f t -> c p f t", p=2)
            levels = torch.hypot(parts[:, 0], parts[:, 1]).mean(0)
        else:
            levels = self.values[0].mean(0)
        levels = levels.detach().float()
        if levels.min() < 0 or not levels.max() > 0:
            return levels
        return 20 * (levels / levels.max()).clamp_min(1e-4).log10()

    def filled(self, fill: Fill) -> Tensor:
        """What replaces the bins, of the shape of `values`; the phases of a waveform are kept.

        Args:
            fill: function from values (clip, channel, frequency, time) to what replaces them.
        """
        if self.inverse is None:
            return fill(self.values)
        spectra = rearrange(self.values, "1 (c p) f t -> c p f t", p=2)
        return rearrange(own_phase(fill)(spectra), "c p f t -> 1 (c p) f t")

    @property
    def silent(self) -> Tensor:
        """A clip without sound, of the shape of `values`: zeros for a waveform, else the lowest value of each channel.

        An input whose lowest value is not its level without sound has a quiet clip instead.
        """
        if self.inverse is not None:
            return torch.zeros_like(self.values)
        return self.values.amin((2, 3), keepdim=True).expand_as(self.values).contiguous()

    def inputs(self, values: Tensor) -> Tensor:
        """The inputs of the model for altered copies of the clip.

        Args:
            values: the copies, (copy, channel, frequency, time).
        """
        axes = self.layout.split()
        if self.inverse is not None:
            n_copies = len(values)
            waveforms = self.inverse(rearrange(values, "n (c p) f t -> (n c) p f t", p=2))
            values = rearrange(waveforms, "(n c) t -> n c 1 t", n=n_copies)
        canonical = " ".join(axis if axis in axes else "1" for axis in "ncft")
        return rearrange(values, f"{canonical} -> {self.layout}")

    def box(self, rectangle: Rectangle) -> Box:
        """A rectangle of bins as fractions of the axes of the input."""
        low, high, start, end = rectangle
        if self.inverse is None:
            return Box(low / self.n_rows, high / self.n_rows, start / self.n_columns, end / self.n_columns)
        # Bins and frames of a Fourier transform lie around their centres: half of the first is outside the clip.
        hop = self.inverse.hop_length
        n_samples = self.inverse.n_samples
        rows = [_fraction(row - 0.5, self.n_rows - 1, row in (0, self.n_rows)) for row in (low, high)]
        columns = [_fraction((column - 0.5) * hop, n_samples, column in (0, self.n_columns)) for column in (start, end)]
        return Box(*rows, *columns)


def _fraction(position: float, size: float, at_end: bool) -> float:
    """A position as a fraction of an axis, in [0, 1]; the outer edges are the ends of the axis."""
    fraction = min(max(position / size, 0.0), 1.0)
    return round(fraction) * 1.0 if at_end else fraction


def _transform_length(n_samples: int) -> int:
    """The length of the Fourier transform for a waveform, in samples: a power of two."""
    longest = min(max(n_samples // _TRANSFORMS_PER_WAVEFORM, 1), _LONGEST_TRANSFORM)
    return 1 << (longest.bit_length() - 1)
