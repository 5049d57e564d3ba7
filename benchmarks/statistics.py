"""Statistics of a run's scores: bootstrap intervals over clips, a paired test, and its correction for many tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata, wilcoxon

from captum_apex.metrics import bootstrap_interval

_EXACT_CLIPS = 100  # up to this number of clips, tied differences are tested exactly


def interval(values: NDArray[np.floating], *, confidence: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Bootstrap interval of the mean over clips, see `captum_apex.metrics.bootstrap_interval`.

    Each of 2000 resamples draws `len(values)` clips with replacement; the interval is wider than the middle 95% of
    their means, so that it covers where there are few clips.

    Args:
        values: scores, one per clip, (clip,).
        confidence: confidence level of the interval, in (0, 1).
        seed: seed of the random number generator.

    Returns:
        Lower and upper end of the interval; NaN for fewer than two clips.

    Example:
        Two clips say little about the mean:

        >>> import numpy as np
        >>> from benchmarks.statistics import interval
        >>> [round(end, 1) for end in interval(np.array([0.0, 1.0]))]
        [-4.1, 5.1]
        >>> interval(np.array([0.5, 0.5, 0.5]))
        (0.5, 0.5)
    """
    low, high = bootstrap_interval(np.asarray(values)[:, None], confidence=confidence, seed=seed)
    return float(low[0]), float(high[0])


def paired_test(values: ArrayLike, reference: ArrayLike) -> float:
    """Two-sided p-value of Wilcoxon's signed-rank test for two methods' scores of the same clips.

    The p-value is small if one method is ahead on most clips, above all on those with the largest differences. Clips
    with equal scores keep their rank (Pratt's treatment of zeros). The usual treatment drops them; a method that equals
    the reference on nearly all clips could then be called different because of the few that are left. Up to 100 clips,
    the p-value is exact also where differences are tied or zero: every combination of signs of the differences that are
    not zero is equally likely.

    Args:
        values: scores of a method, one per clip, (clip,).
        reference: scores of the other method, on the same clips, (clip,).

    Returns:
        The p-value, in [0, 1]; 1 if all differences are zero, NaN without clips.

    Raises:
        ValueError: the two arrays do not have the same shape (clip,).

    Example:
        Six clips of six are ahead; of all 2⁶ combinations of signs, two are as extreme:

        >>> from benchmarks.statistics import paired_test
        >>> paired_test([0.5, 0.7, 0.4, 0.9, 0.6, 0.8], [0.1, 0.1, 0.1, 0.1, 0.1, 0.1])
        0.03125
        >>> paired_test([0.5, 0.7, 0.4, 0.9, 0.6, 0.8], [0.6, 0.6, 0.6, 0.6, 0.6, 0.6])
        0.5625

    Source: Pratt, "Remarks on zeros and ties in the Wilcoxon signed rank procedures", 1959.
    """
    values = np.asarray(values, dtype=float)
    reference = np.asarray(reference, dtype=float)
    if values.shape != reference.shape or values.ndim != 1:
        raise ValueError(f"expected two values for each clip, but got shapes {values.shape} and {reference.shape}")
    difference = values - reference
    if not len(difference):
        return float("nan")
    if not difference.any():
        return 1.0
    sizes = np.abs(difference)
    tied = len(np.unique(sizes)) < len(sizes) or not sizes.all()
    if tied and len(difference) <= _EXACT_CLIPS:
        return _exact_p_value(difference, rankdata(sizes))
    return float(wilcoxon(difference, zero_method="pratt").pvalue)


def _exact_p_value(difference: NDArray[np.floating], ranks: NDArray[np.floating]) -> float:
    """Two-sided p-value of the sum of the ranks of positive differences among all combinations of signs."""
    doubled = np.rint(2 * ranks).astype(int)  # tied ranks are halves
    signed = np.sort(doubled[difference != 0])
    probabilities = np.zeros(signed.sum() + 1)  # of each sum of ranks, from 0 on
    probabilities[0] = 1
    largest = 0  # sum so far
    for rank in signed:
        probabilities[: largest + 1] /= 2
        probabilities[rank : rank + largest + 1] += probabilities[: largest + 1].copy()
        largest += rank
    observed = doubled[difference > 0].sum()
    return float(min(1, 2 * min(probabilities[: observed + 1].sum(), probabilities[observed:].sum())))


def smallest_p_value(n_clips: int, n_tests: int = 1) -> float:
    """The smallest p-value that `paired_test` can give, corrected by `holm`.

    A method that is ahead on every clip has one combination of signs of 2ⁿ on its side, and the test is two-sided. A
    comparison of few clips with many methods can therefore never be significant.

    Args:
        n_clips: number of clips.
        n_tests: number of tests that are corrected together.

    Returns:
        In (0, 1].

    Example:
        >>> from benchmarks.statistics import smallest_p_value
        >>> smallest_p_value(8), smallest_p_value(8, 71)
        (0.0078125, 0.5546875)
    """
    return min(1.0, n_tests * 2.0 ** (1 - n_clips))


def holm(p_values: ArrayLike) -> NDArray[np.floating]:
    """Holm's step-down correction of p-values for the number of tests.

    If all tests with an adjusted p-value below 0.05 are called significant, the probability of even one false positive
    among them is below 0.05.

    Args:
        p_values: p-value of each test, (test,); NaN where there was no test, which is not counted and stays NaN.

    Returns:
        Adjusted p-values, (test,), in [0, 1], never smaller than the given ones.

    Example:
        The smallest of three p-values is multiplied by 3, the next one by 2, the last one by 1, and none becomes
        smaller than the one before it:

        >>> from benchmarks.statistics import holm
        >>> holm([0.01, 0.04, 0.03, float("nan")])
        array([0.03, 0.06, 0.06,  nan])

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.
    """
    adjusted = np.array(p_values, dtype=float)
    tested = np.flatnonzero(np.isfinite(adjusted))
    order = tested[np.argsort(adjusted[tested], kind="stable")]
    adjusted[order] = np.minimum(1, np.maximum.accumulate(adjusted[order] * np.arange(len(order), 0, -1)))
    return adjusted
