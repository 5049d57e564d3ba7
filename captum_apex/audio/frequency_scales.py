"""The bins of a transform and their frequencies: linear bins, mel bands, and bins with centres that are given.

Each class converts a position in bins (bin `i` covers `[i, i + 1]`, and its centre is `i + 0.5`) to Hz and back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

__all__ = ["MEL_SCALES", "Centres", "FrequencyBins", "LinearBins", "MelBands", "Rows", "from_mel", "to_mel"]

MEL_SCALES = ("htk", "slaney")
"""The mel scales that torchaudio has."""

# Slaney's scale is linear up to 1 kHz, with 3 mel in 200 Hz, and logarithmic above, with 27 mel for a factor of 6.4.
_SLANEY_HERTZ_PER_MEL = 200 / 3
_SLANEY_BEND_HERTZ = 1000.0
_SLANEY_BEND_MEL = _SLANEY_BEND_HERTZ / _SLANEY_HERTZ_PER_MEL
_SLANEY_LOG_STEP = math.log(6.4) / 27
_LOWEST = 1e-3  # Hz; a logarithmic scale has no 0 Hz


def to_mel(hertz: Tensor, scale: str) -> Tensor:
    """Frequencies in Hz as mel, of the same shape.

    Args:
        hertz: frequencies of at least 0 Hz.
        scale: `"htk"` or `"slaney"`.

    Example:
        >>> import torch
        >>> from captum_apex.audio.frequency_scales import to_mel
        >>> to_mel(torch.tensor([0.0, 500.0, 1000.0]), "slaney")
        tensor([ 0.0000,  7.5000, 15.0000])
    """
    if scale == "htk":
        return 2595 * torch.log10(1 + hertz / 700)
    above = _SLANEY_BEND_MEL + torch.log((hertz / _SLANEY_BEND_HERTZ).clamp_min(1)) / _SLANEY_LOG_STEP
    return torch.where(hertz < _SLANEY_BEND_HERTZ, hertz / _SLANEY_HERTZ_PER_MEL, above)


def from_mel(mel: Tensor, scale: str) -> Tensor:
    """Mel as frequencies in Hz, of the same shape; the inverse of `to_mel`.

    Args:
        mel: positions on the mel scale.
        scale: `"htk"` or `"slaney"`.

    Example:
        >>> import torch
        >>> from captum_apex.audio.frequency_scales import from_mel
        >>> round(from_mel(torch.tensor(7.5), "slaney").item(), 3)
        500.0
    """
    if scale == "htk":
        return 700 * (10 ** (mel / 2595) - 1)
    above = _SLANEY_BEND_HERTZ * torch.exp((mel - _SLANEY_BEND_MEL) * _SLANEY_LOG_STEP)
    return torch.where(mel < _SLANEY_BEND_MEL, mel * _SLANEY_HERTZ_PER_MEL, above)


class Rows(NamedTuple):
    """The rows of a picture on the bins of a transform: row `i` begins at the position `first + i · step`.

    Args:
        first: position of the beginning of the first row, in bins.
        step: bins in a row; negative where the first row has the highest frequencies.
        n_rows: number of rows.

    Example:
        >>> from captum_apex import SpectrogramAxes
        >>> SpectrogramAxes(8000, 8, 4).flipped().rows
        Rows(first=5.0, step=-1.0, n_rows=5)
    """

    first: float
    step: float
    n_rows: int


class FrequencyBins(Protocol):
    """The bins of a transform.

    Example:
        >>> from captum_apex.audio.frequency_scales import FrequencyBins, LinearBins
        >>> bins: FrequencyBins = LinearBins(width=1000.0, first=0, n_bins=5)
        >>> bins.n_bins
        5
    """

    @property
    def n_bins(self) -> int:
        """Number of bins."""

    def hertz(self, position: Tensor) -> Tensor:
        """The frequencies in Hz at positions in bins, of the same shape; they are not clipped."""

    def position(self, hertz: Tensor) -> Tensor:
        """The positions of frequencies, in bins, of the same shape."""


@dataclass(frozen=True)
class LinearBins:
    """Bins of a Fourier transform.

    Args:
        width: distance of neighbouring bins, in Hz.
        first: number of the first bin; the centre of bin 0 is at 0 Hz.
        n_bins: number of bins.

    Example:
        >>> import torch
        >>> from captum_apex.audio.frequency_scales import LinearBins
        >>> LinearBins(width=1000.0, first=2, n_bins=5).hertz(torch.tensor([0.5, 1.5]))
        tensor([2000., 3000.])
    """

    width: float
    first: int
    n_bins: int

    def hertz(self, position: Tensor) -> Tensor:
        """The frequencies at positions; below 0 Hz before the centre of bin 0."""
        return (position - 0.5 + self.first) * self.width

    def position(self, hertz: Tensor) -> Tensor:
        """The positions of frequencies."""
        return hertz / self.width + 0.5 - self.first


@dataclass(frozen=True)
class MelBands:
    """Mel bands, filters that are triangles on the mel scale.

    Args:
        f_min: lower end of the lowest filter, in Hz.
        f_max: upper end of the highest filter, in Hz.
        n_bins: number of bands.
        scale: `"htk"` or `"slaney"`.

    Example:
        >>> import torch
        >>> from captum_apex.audio.frequency_scales import MelBands
        >>> MelBands(f_min=0.0, f_max=800.0, n_bins=3, scale="slaney").hertz(torch.tensor([0.5, 1.5, 2.5]))
        tensor([200., 400., 600.])
    """

    f_min: float
    f_max: float
    n_bins: int
    scale: str

    def hertz(self, position: Tensor) -> Tensor:
        """The frequencies at positions."""
        lowest, step = self._line
        return from_mel(lowest + (position + 0.5) * step, self.scale)

    def position(self, hertz: Tensor) -> Tensor:
        """The positions of frequencies."""
        lowest, step = self._line
        return (to_mel(hertz, self.scale) - lowest) / step - 0.5

    @cached_property
    def _line(self) -> tuple[float, float]:
        """The lower end of the lowest filter, and the distance between neighbouring centres, in mel.

        Filter `i` is a triangle from step `i` to step `i + 2`, so its centre is `i + 1` steps above the lower end.
        """
        low, high = to_mel(torch.tensor([self.f_min, self.f_max], dtype=torch.float64), self.scale).tolist()
        return low, (high - low) / (self.n_bins + 1)


@dataclass(frozen=True)
class Centres:
    """The centres of the bins of a frequency axis; frequencies between and beyond them are interpolated.

    Args:
        frequencies: the centres in Hz, at least two, ascending.
        logarithmic: whether the middle of two centres is their geometric mean; otherwise it is their arithmetic mean.

    Raises:
        ValueError: if there are fewer than two centres, they do not ascend, or one is not finite or too low.

    Example:
        >>> import torch
        >>> from captum_apex.audio.frequency_scales import Centres
        >>> Centres((100.0, 400.0, 1600.0)).hertz(torch.tensor([0.5, 1.0, 1.5]))
        tensor([100., 250., 400.])
    """

    frequencies: tuple[float, ...]
    logarithmic: bool = False

    def __post_init__(self) -> None:
        given = self.frequencies
        lowest = _LOWEST if self.logarithmic else 0.0
        is_ascending = all(low < high for low, high in pairwise(given))
        if len(given) < 2 or not is_ascending or given[0] < lowest or not math.isfinite(given[-1]):
            raise ValueError(
                "expected `centres` to be at least two frequencies that ascend or descend, in Hz, all at least "
                f"{lowest:g} Hz, but got {list(given)}"
            )

    @property
    def n_bins(self) -> int:
        """Number of bins."""
        return len(self.frequencies)

    def hertz(self, position: Tensor) -> Tensor:
        """The frequencies at positions; the distance of the outer two centres goes on beyond them."""
        values = self._values(position)
        index = position - 0.5
        left = index.floor().clamp(0, len(values) - 2).long()
        value = values[left] + (index - left) * (values[left + 1] - values[left])
        return value.exp2() if self.logarithmic else value

    def position(self, hertz: Tensor) -> Tensor:
        """The positions of frequencies."""
        values = self._values(hertz)
        value = hertz.clamp_min(_LOWEST).log2() if self.logarithmic else hertz
        left = (torch.searchsorted(values, value.contiguous(), right=True) - 1).clamp(0, len(values) - 2)
        return left + (value - values[left]) / (values[left + 1] - values[left]) + 0.5

    def _values(self, like: Tensor) -> Tensor:
        """The centres on the scale of the interpolation, (bin,)."""
        values = torch.tensor(self.frequencies, dtype=torch.float64)
        return (values.log2() if self.logarithmic else values).to(like)
