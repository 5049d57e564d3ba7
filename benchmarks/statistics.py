"""What may be said of a run's scores: how sure a mean is, who is ahead and by how much, on which clips."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import wilcoxon

from captum_apex.metrics import bootstrap_interval


def interval(values: NDArray[np.floating], *, confidence: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """A percentile bootstrap interval of the mean over clips.

    Args:
        values: one per clip, (clip,).
        confidence: in (0, 1).
        seed: of the resampling.

    Returns:
        Lower and upper end; the value itself where all are equal.

    >>> interval(np.array([1.0, 1.0, 1.0]))
    (1.0, 1.0)
    """
    low, high = intervals(np.asarray(values)[:, None], confidence=confidence, seed=seed)
    return float(low[0]), float(high[0])


def intervals(
    values: ArrayLike, *, over: ArrayLike | None = None, confidence: float = 0.95, seed: int = 0
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """The same for many columns at once; columns of equally many values share their resamples.

    Args:
        values: (clip, column); NaN where a column has no value for a clip: the interval is that of the values it has.
        over: (clip,); with it, the intervals are of the ratios of the means of `values` and of `over`, resampled together.
        confidence: in (0, 1).
        seed: of the resampling.

    Returns:
        Lower and upper ends, each (column,); NaN for a column without values, and where `over` is not above zero in every resample.
    """
    return bootstrap_interval(values, over=over, confidence=confidence, seed=seed)


def paired_test(values: ArrayLike, reference: ArrayLike) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test: is one side ahead on more clips, and by more?

    Clips where both are equal keep their rank (Pratt): the usual way drops them, so that a method which equals the reference on nearly
    all clips could be found different on the few that are left.

    Args:
        values: one per clip, (clip,).
        reference: of the same clips.

    Returns:
        In [0, 1]; 1 where all are equal, NaN without clips.

    Raises:
        ValueError: the two do not belong to the same clips.

    >>> paired_test([1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 0, 0])
    0.03125
    """
    values, reference = np.asarray(values, dtype=float), np.asarray(reference, dtype=float)
    if values.shape != reference.shape or values.ndim != 1:
        raise ValueError(f"expected two values for each clip, but got shapes {values.shape} and {reference.shape}")
    difference = values - reference
    if not len(difference):
        return float("nan")
    return 1.0 if not difference.any() else float(wilcoxon(difference, zero_method="pratt").pvalue)


def holm(p_values: ArrayLike) -> NDArray[np.floating]:
    """Holm's step-down correction: with it, the chance of any false alarm among all tests stays below the level.

    Args:
        p_values: (test,); NaN where there was no test: it stays NaN and does not count.

    Returns:
        Adjusted p-values, in [0, 1], never smaller than the given ones.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.

    >>> holm([0.01, 0.04, 0.03, float("nan")])
    array([0.03, 0.06, 0.06,  nan])
    """
    adjusted = np.array(p_values, dtype=float)
    tested = np.flatnonzero(np.isfinite(adjusted))
    order = tested[np.argsort(adjusted[tested], kind="stable")]
    adjusted[order] = np.minimum(1, np.maximum.accumulate(adjusted[order] * np.arange(len(order), 0, -1)))
    return adjusted
