"""Round numbers for the axes of a spectrogram."""

from __future__ import annotations

from matplotlib.ticker import MaxNLocator

from captum_apex.audio.axes import SpectrogramAxes

__all__ = ["hertz_ticks", "second_ticks", "time_locator"]

_OCTAVES = [125.0 * 2**octave for octave in range(10)]
_SMALLEST_DISTANCE = 1 / 12  # between two octaves, as a share of the axis


def hertz_ticks(axes: SpectrogramAxes) -> list[float]:
    """Round frequencies within an axis: even steps where its bins are evenly spaced, octaves on other axes.

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
    low, high = sorted((axes.hertz(0.0), axes.hertz(float(axes.n_bins))))
    even = _even_ticks(MaxNLocator(6, steps=[1, 2, 5, 10]), high, low)
    if axes.even_span is not None:
        return even
    ticks: list[float] = []
    for hertz in reversed([octave for octave in _OCTAVES if low <= octave <= high]):  # low octaves lie close together
        if not ticks or _distance(axes, hertz, ticks[0]) >= axes.n_bins * _SMALLEST_DISTANCE:
            ticks.insert(0, hertz)
    return ticks if len(ticks) > 1 else even


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


def _distance(axes: SpectrogramAxes, hertz: float, other: float) -> float:
    """The distance between two frequencies, in bins."""
    return abs(axes.bin_position(other) - axes.bin_position(hertz))


def _even_ticks(locator: MaxNLocator, end: float, start: float = 0.0) -> list[float]:
    ticks = [float(f"{tick:.9g}") for tick in locator.tick_values(start, end)]  # 0.3 instead of 0.30000000000000004
    return [tick for tick in ticks if start * (1 - 1e-9) <= tick <= end * (1 + 1e-9)]
