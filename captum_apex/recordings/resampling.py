"""Another sample rate for a waveform, for any pair of rates."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from captum_apex.caller import warn_caller
from captum_apex.extras import missing_package

if TYPE_CHECKING:
    from torchaudio.transforms import Resample

__all__ = ["filter_reach", "resampled"]

_ZEROS = 6  # zero crossings of the sinc on either side, as in torchaudio
_ROLLOFF = 0.99  # the cut-off frequency as a share of half the smaller rate, as in torchaudio
_LARGEST_KERNEL = (
    2**23
)  # weights, 32 MB, enough from 500 to 22.05 kHz; from 16001 to 16000 Hz there would be 256 million
_WEIGHTS_AT_ONCE = 2**20
_LARGEST_RATIO = 1000  # between two rates of recordings; a ratio above it means that a header is damaged


def resampled(waveform: Tensor, rate: int, sample_rate: int, *, name: str = "the recording") -> Tensor:
    """The waveform at another sample rate, by interpolation with a windowed sinc.

    The time and the memory that it takes are proportional to the lengths of the two waveforms, whatever the rates are.

    Args:
        waveform: floats of shape (sample,).
        rate: sample rate of the waveform, in Hz.
        sample_rate: the sample rate of the result, in Hz.
        name: name of the sound, for error messages.

    Returns:
        Tensor of shape (sample,), with `ceil(samples · sample_rate / rate)` samples.

    Raises:
        ValueError: if one of the rates is more than 1000 times the other.
        ImportError: if torchaudio is missing.

    Example:
        >>> import torch, warnings
        >>> from captum_apex.recordings.resampling import resampled
        >>> with warnings.catch_warnings(action="ignore"):  # it says that it resamples
        ...     waveform = resampled(torch.ones(16001), 16001, 16000)
        >>> waveform.shape, round(waveform[8000].item(), 2)
        (torch.Size([16000]), 1.0)

    Source: torchaudio's `functional.resample`, which computes the common ratios here.
    """
    if rate == sample_rate:
        return waveform
    if not 1 / _LARGEST_RATIO <= rate / sample_rate <= _LARGEST_RATIO:
        raise ValueError(
            f"expected {name} at a sample rate that can become {sample_rate} Hz, {sample_rate / _LARGEST_RATIO:g} to "
            f"{sample_rate * _LARGEST_RATIO} Hz, but got {rate} Hz; if it is a file, its header may be damaged"
        )
    try:
        import torchaudio.functional  # noqa: F401 - for every rate, so that all rates need the same packages
    except (ImportError, OSError) as error:
        package = f"torchaudio, which resamples from {rate} to {sample_rate} Hz"
        raise missing_package(package, "audio", error) from error
    # The warning names no file, so that Python shows it once and not for every recording.
    missing = f"; they have nothing above {rate / 2:g} Hz, which other clips may have" if rate < sample_rate else ""
    warn_caller(f"recordings at {rate} Hz are resampled to {sample_rate} Hz{missing}")
    if _kernel_size(rate, sample_rate) <= _LARGEST_KERNEL:
        return _kernel(rate, sample_rate, waveform.dtype, waveform.device)(waveform)
    return _interpolated(waveform, rate, sample_rate)


def filter_reach(rate: int, sample_rate: int) -> float:
    """How far the filter reaches before and after a sample of the result, in seconds.

    Args:
        rate: sample rate of the waveform, in Hz.
        sample_rate: the sample rate of the result, in Hz.

    Example:
        >>> from captum_apex.recordings.resampling import filter_reach
        >>> round(filter_reach(44100, 16000), 6)
        0.000424
    """
    return _ZEROS / (_ROLLOFF * min(rate, sample_rate)) + 2 / rate


def _kernel_size(rate: int, sample_rate: int) -> int:
    """The number of weights of torchaudio's kernel, which holds a filter for each phase between the two rates."""
    common_rate = math.gcd(rate, sample_rate)
    step = rate // common_rate
    n_phases = sample_rate // common_rate
    width = math.ceil(_ZEROS * step / (_ROLLOFF * min(step, n_phases)))
    return n_phases * (2 * width + step)


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _kernel(rate: int, sample_rate: int, dtype: torch.dtype, device: torch.device) -> Resample:
    """The resampling of torchaudio, whose kernel is made once for a pair of rates and not for every window."""
    from torchaudio.transforms import Resample

    return Resample(rate, sample_rate, dtype=dtype).to(device)


def _interpolated(waveform: Tensor, rate: int, sample_rate: int) -> Tensor:
    """The interpolation of torchaudio's kernel, without the zeros that most of the kernel is for such rates."""
    filters = _Filters(rate, sample_rate)
    n_samples = -(-len(waveform) * sample_rate // rate)
    n_rows = max(1, _WEIGHTS_AT_ONCE // filters.n_taps)
    padded = pad(waveform, (filters.reach, filters.reach + 2))
    taps = torch.arange(filters.n_taps)
    blocks = []
    for first in range(0, n_samples, n_rows):
        # The times are whole samples and a remainder, so that they are exact after hours too.
        ticks = torch.arange(first, min(first + n_rows, n_samples)) * filters.step
        places = (ticks // filters.n_phases)[:, None] + taps
        weights = filters.weights(ticks % filters.n_phases)  # (sample, tap)
        blocks.append((padded[places.to(waveform.device)] * weights.to(waveform)).sum(1))
    return torch.cat(blocks)


class _Filters:
    """The filters of the phases between two rates: weights of the samples around each sample of the result.

    Args:
        rate: sample rate of the waveform, in Hz.
        sample_rate: the sample rate of the result, in Hz.
    """

    def __init__(self, rate: int, sample_rate: int) -> None:
        common_rate = math.gcd(rate, sample_rate)
        self.step = rate // common_rate  # from one sample of the result to the next, in 1 / n_phases samples
        self.n_phases = sample_rate // common_rate
        self.cutoff = _ROLLOFF * min(rate, sample_rate) / rate  # zero crossings per sample of the waveform
        self.reach = math.ceil(_ZEROS / self.cutoff)
        self.n_taps = 2 * self.reach + 2

    def weights(self, phases: Tensor) -> Tensor:
        """The weights for some phases, from 0 to `n_phases`, (phase, tap)."""
        if self.n_phases * self.n_taps > _LARGEST_KERNEL:
            return self._computed(phases)
        return _all_weights(self.step, self.n_phases)[phases]

    def _computed(self, phases: Tensor) -> Tensor:
        taps = torch.arange(-self.reach, self.reach + 2)
        zeros = ((taps - phases[:, None].double() / self.n_phases) * self.cutoff).clamp(-_ZEROS, _ZEROS)
        return (self.cutoff * torch.sinc(zeros) * torch.cos(zeros * (math.pi / 2 / _ZEROS)).square()).float()


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _all_weights(step: int, n_phases: int) -> Tensor:
    """The weights for all phases, which are computed once for a pair of rates, (phase, tap)."""
    return _Filters(step, n_phases)._computed(torch.arange(n_phases))
