"""Round numbers for the axes of a spectrogram."""

from __future__ import annotations

from matplotlib.ticker import MaxNLocator

from captum_apex.audio.axes import SpectrogramAxes

__all__ = ["hertz_ticks", "second_ticks", "time_locator"]

_OCTAVES = [125.0 * 2**octave for octave in range(10)]
_SMALLEST_DISTANCE = 1 / 12  # between two octaves, as a share of the axis


def hertz_ticks(axes: SpectrogramAxes) -> list[float]:
    """Round frequencies within an axis: octaves on a mel axis, even steps on a linear axis.

    Args:
        axes: the axes of the spectrogram.

    Returns:
        Frequencies in Hz, far enough from each other that their numbers can be read.

    Example:
        >>> from captum_apex import SpectrogramAxes
        >>> from captum_apex.figures.ticks import hertz_ticks
        >>> hertz_ticks(SpectrogramAxes(16000, 512, 160, n_mels=64))
        [250.0, 500.0, 1000.0, 2000.0, 4000.0]
        >>> hertz_ticks(SpectrogramAxes(16000, 512, 160))
        [0.0, 2000.0, 4000.0, 6000.0, 8000.0]
    """
    low = axes.hertz(0.0)
    high = axes.hertz(float(axes.n_bins))
    if axes.n_mels is None:
        return _even_ticks(MaxNLocator(6, steps=[1, 2, 5, 10]), high)
    ticks: list[float] = []
    for hertz in reversed([octave for octave in _OCTAVES if low <= octave <= high]):  # low octaves lie close together
        if not ticks or axes.bin_position(ticks[0]) - axes.bin_position(hertz) >= axes.n_bins * _SMALLEST_DISTANCE:
            ticks.insert(0, hertz)
    return ticks


def second_ticks(end: float) -> list[float]:
    """Round times from 0 to an end, evenly spaced.

    Args:
        end: the end of the axis in seconds.

    Example:
        >>> from captum_apex.figures.ticks import second_ticks
        >>> second_ticks(1.005)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    return _even_ticks(time_locator(8), end)


def time_locator(most: int) -> MaxNLocator:
    """The locator of a time axis.

    Args:
        most: the largest number of steps between ticks.

    Example:
        >>> from captum_apex.figures.ticks import time_locator
        >>> time_locator(4).tick_values(0, 10).tolist()
        [0.0, 2.5, 5.0, 7.5, 10.0]
    """
    return MaxNLocator(most, steps=[1, 2, 2.5, 5, 10])


def _even_ticks(locator: MaxNLocator, end: float) -> list[float]:
    ticks = [float(f"{tick:.9g}") for tick in locator.tick_values(0, end)]  # 0.3 instead of 0.30000000000000004
    return [tick for tick in ticks if tick <= end * (1 + 1e-9)]
