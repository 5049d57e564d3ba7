"""Round numbers for the axes of a picture, and where they stand."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from captum_apex.clip import Clip

__all__ = ["Tick", "hertz_ticks", "second_ticks"]


class Tick(NamedTuple):
    """A round number on an axis.

    Args:
        value: in Hz or seconds.
        at: fraction of the picture, from the bottom or from the left.
    """

    value: float
    at: float


def hertz_ticks(clip: Clip, *, apart: float = 0.12) -> list[Tick]:
    """Round frequencies: 1, 2 and 5 times powers of ten on a mel axis, evenly spaced on a linear one.

    Args:
        clip: whose picture.
        apart: at least so far from each other, as a fraction of the picture.
    """
    axes = clip.axes
    if axes.n_mels is None:
        step = _round_up(axes.nyquist * apart)
        values = [step * count for count in range(1 + int(axes.nyquist / step))]
    else:
        values = [digit * 10.0**power for power in range(1, 6) for digit in (1, 2, 5)]
    inside = (Tick(value, axes.bin_position(value) / axes.n_bins) for value in values if value <= axes.nyquist)
    return _spaced(inside, apart)


def second_ticks(clip: Clip, *, apart: float = 0.12) -> list[Tick]:
    """Round times, evenly spaced, from 0 on.

    Args:
        clip: whose picture.
        apart: at least so far from each other, as a fraction of the picture.
    """
    frames = clip.decibels.shape[1]
    end = clip.axes.seconds(float(frames))
    step = _round_up(end * apart)
    values = (step * count for count in range(1 + int(end / step)))
    return _spaced((Tick(value, clip.axes.frame_position(value) / frames) for value in values), apart)


def _round_up(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is not below.

    >>> _round_up(0.3), _round_up(0.1), _round_up(600.0)
    (0.5, 0.1, 1000.0)
    """
    unit = 10.0 ** math.floor(math.log10(least))
    return next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= least * (1 - 1e-9))


def _spaced(ticks: Iterable[Tick], apart: float) -> list[Tick]:
    kept: list[Tick] = []
    for tick in ticks:
        if 0 <= tick.at <= 1 and (not kept or tick.at - kept[-1].at >= apart * (1 - 1e-6)):
            kept.append(tick)
    return kept
