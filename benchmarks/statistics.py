"""How sure a mean over clips is."""

from __future__ import annotations

import numpy as np
from scipy.stats import bootstrap


def interval(values: np.ndarray, *, confidence: float = 0.95, seed: int = 0) -> tuple[float, float]:
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
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    result = bootstrap(
        (values,), np.mean, confidence_level=confidence, n_resamples=2000, method="percentile", rng=np.random.default_rng(seed)
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)
