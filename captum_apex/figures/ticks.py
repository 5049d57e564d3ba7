"""Round numbers for the axes of a picture."""

from __future__ import annotations

import math

from captum_apex.audio.axes import SpectrogramAxes

__all__ = ["hertz_ticks", "second_ticks"]

_APART = 1 / 12  # of the axis
_OCTAVES = [125.0 * 2**octave for octave in range(10)]


def hertz_ticks(axes: SpectrogramAxes) -> list[float]:
    """Round frequencies within the axis, far enough from each other to be read: octaves on a mel axis, even steps on a linear one.

    >>> hertz_ticks(SpectrogramAxes(16000, 512, 160, n_mels=64)), hertz_ticks(SpectrogramAxes(16000, 512, 160))
    ([250.0, 500.0, 1000.0, 2000.0, 4000.0], [0.0, 2000.0, 4000.0, 6000.0, 8000.0])
    """
    low, high = axes.hertz(0.0), axes.hertz(float(axes.n_bins))
    if axes.n_mels is None:
        return _even(high, 2 * _APART)
    kept: list[float] = []
    for hertz in reversed([octave for octave in _OCTAVES if low <= octave <= high]):  # the low ones lie close together
        if not kept or axes.bin_position(kept[0]) - axes.bin_position(hertz) >= axes.n_bins * _APART:
            kept.insert(0, hertz)
    return kept


def second_ticks(end: float) -> list[float]:
    """Round times from 0 to the end, evenly spaced.

    >>> second_ticks(1.005)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    return _even(end, 0.12)


def _even(end: float, apart: float) -> list[float]:
    """Steps from 0 of 1, 2 or 5 times a power of ten: the smallest ones that are a share of the whole apart."""
    power = math.floor(math.log10(end * apart))
    # of whole numbers, so that 3 steps of 0.1 are 0.3
    digit = next(digit for digit in (1, 2, 5, 10) if digit * 10.0**power >= end * apart * (1 - 1e-9))
    count = 1 + math.floor(end / (digit * 10.0**power) * (1 + 1e-9))
    return [float(digit * step * 10**power) if power >= 0 else digit * step / 10**-power for step in range(count)]
