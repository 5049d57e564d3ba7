"""The confidence interval of a mean over clips."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["bootstrap_interval"]

_RESAMPLES = 2000


def bootstrap_interval(
    values: ArrayLike, *, over: ArrayLike | None = None, confidence: float = 0.95, seed: int = 0
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Bootstrap interval of the mean over clips, for each column of a table.

    The clips are drawn with replacement 2000 times. Columns with equally many values share these resamples. The
    percentiles of the resampled means are too close to the mean where there are few clips: of 95% intervals of 8 clips,
    89% would hold the true mean. So their distances from the mean are multiplied by
    sqrt(n / (n − 1)) · t / z, where t and z are the quantiles of Student's distribution with n − 1 degrees of freedom
    and of the normal distribution. The factor is 1.29 for 8 clips and 1.02 for 80. The interval can reach beyond the
    range of a bounded score.

    Args:
        values: the values to average, shape (clip, column). A NaN is a missing value; the interval is that of the
            values that the column has.
        over: divisor of each clip, shape (clip,). With it, the interval is that of the ratio of the means of `values`
            and of `over`, whose resamples share their clips. By default the interval of the mean itself.
        confidence: confidence level of the interval, in (0, 1).
        seed: seed of the random number generator that draws the resamples.

    Returns:
        Lower and upper end, each of shape (column,): the value itself where all values of a column are equal; NaN for a
        column with fewer than two values, which say nothing about the spread, and where the mean of `over` is not above
        zero in every resample.

    Raises:
        ValueError: `values` has another shape, or `confidence` is not in (0, 1).

    Example:
        >>> import numpy as np
        >>> from captum_apex.metrics import bootstrap_interval
        >>> low, high = bootstrap_interval(np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0], [3.0, 5.0]]))
        >>> low.round(1).tolist(), high.round(1).tolist()  # of the columns' means, 1.5 and 5
        ([-0.4, 5.0], [3.4, 5.0])

    Source: Hesterberg, "What Teachers Should Know About the Bootstrap", 2015, on the narrowness of percentiles; there
    the factor changes the level of the percentiles, which stay within the range of the values.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 2:
        raise ValueError(f"expected `values` of shape (clip, column), but got {values.shape}")
    if not 0 < confidence < 1:
        raise ValueError(f"expected `confidence` in (0, 1), such as 0.95, but got {confidence}")
    divisors = np.ones_like(values) if over is None else _columns_of(over, values.shape)
    present = np.isfinite(values) & np.isfinite(divisors)
    counts = present.sum(0)
    ends = np.full((2, values.shape[1]), np.nan)
    for count in np.unique(counts[counts > 1]):
        columns = np.flatnonzero(counts == count)
        selected = present[:, columns].T
        sample = values[:, columns].T[selected].reshape(-1, count)  # (column, clip)
        means = sample @ _weights(int(count), seed).T  # (column, resample)
        mean = sample.mean(1)
        if over is not None:
            divisor = divisors[:, columns].T[selected].reshape(-1, count)
            means = _ratios(means, divisor @ _weights(int(count), seed).T)
            mean = _ratios(mean, divisor.mean(1))
        quantiles = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=1)
        quantiles = mean + (quantiles - mean) * _widening(int(count), confidence)
        # Equal values have an interval of no width; the resampled means differ from them by rounding.
        constant = (np.ptp(sample, axis=1) == 0) & (over is None)
        ends[:, columns] = np.where(constant, sample[:, 0], quantiles)
    return ends[0], ends[1]


def _columns_of(over: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.floating]:
    """The divisors (clip,) once for each column, shape (clip, column)."""
    return np.broadcast_to(np.asarray(over, dtype=float)[:, None], shape)


def _ratios(means: NDArray[np.floating], divisors: NDArray[np.floating]) -> NDArray[np.floating]:
    """The quotients, and NaN where the divisor is not above zero."""
    return np.divide(means, divisors, out=np.full_like(means, np.nan), where=divisors > 0)


@lru_cache(maxsize=64)
def _weights(n_clips: int, seed: int) -> NDArray[np.floating]:
    """Weight of each clip in the mean of each resample, shape (resample, clip): clips drawn with replacement."""
    shares = np.full(n_clips, 1 / n_clips)
    return np.random.default_rng(seed).multinomial(n_clips, shares, size=_RESAMPLES) / n_clips


@lru_cache(maxsize=64)
def _widening(n_clips: int, confidence: float) -> float:
    """How many times farther from the mean the ends are than the percentiles."""
    level = (1 + confidence) / 2
    return math.sqrt(n_clips / (n_clips - 1)) * _student_quantile(level, n_clips - 1) / NormalDist().inv_cdf(level)


def _student_quantile(level: float, degrees: int) -> float:
    """Quantile of Student's t distribution: t = √degrees · tan θ, where θ has the density cosᵈᵉᵍʳᵉᵉˢ⁻¹ θ."""
    angles = np.linspace(0, np.pi / 2, 100_001)
    density = np.cos(angles) ** (degrees - 1)
    areas = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(degrees) * math.tan(np.interp(2 * level - 1, areas / areas[-1], angles))
