"""The confidence interval of a mean over clips."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["bootstrap_interval"]

_RESAMPLES = 2000


def bootstrap_interval(
    values: ArrayLike, *, over: ArrayLike | None = None, confidence: float = 0.95, seed: int = 0
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Percentile bootstrap interval of the mean over clips, for each column of a table.

    The clips are drawn with replacement 2000 times. Columns with equally many values share these resamples.

    Args:
        values: the values to average, shape (clip, column). A NaN is a missing value; the interval is that of the
            values that the column has.
        over: divisor of each clip, shape (clip,). With it, the interval is that of the ratio of the means of `values`
            and of `over`, whose resamples share their clips. By default the interval of the mean itself.
        confidence: confidence level of the interval, in (0, 1).
        seed: seed of the random number generator that draws the resamples.

    Returns:
        Lower and upper end, each of shape (column,): the value itself where all values of a column are equal; NaN for a
        column without values, and where the mean of `over` is not above zero in every resample.

    Example:
        >>> import numpy as np
        >>> from captum_apex.metrics import bootstrap_interval
        >>> low, high = bootstrap_interval(np.array([[0.0, 5.0], [1.0, 5.0], [2.0, 5.0]]))
        >>> low.tolist(), high.tolist()  # of the columns' means, 1 and 5
        ([0.0, 5.0], [2.0, 5.0])
    """
    values = np.asarray(values, dtype=float)
    divisors = np.ones_like(values) if over is None else _columns_of(over, values.shape)
    present = np.isfinite(values) & np.isfinite(divisors)
    counts = present.sum(0)
    ends = np.full((2, values.shape[1]), np.nan)
    for count in np.unique(counts[counts > 0]):
        columns = np.flatnonzero(counts == count)
        selected = present[:, columns].T
        sample = values[:, columns].T[selected].reshape(-1, count)  # (column, clip)
        means = sample @ _weights(int(count), seed).T  # (column, resample)
        if over is not None:
            means = _ratios(means, divisors[:, columns].T[selected].reshape(-1, count) @ _weights(int(count), seed).T)
        quantiles = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=1)
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
