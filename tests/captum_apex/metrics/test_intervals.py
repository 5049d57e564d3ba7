"""The bootstrap interval against a slow resampling clip by clip, and against scipy's."""

import numpy as np
import pytest
from scipy import stats

from captum_apex.metrics import bootstrap_interval


def slow_interval(values, over=None, confidence=0.95, seed=0):
    """The quantiles of the means of 2000 resamples, each mean summed clip by clip."""
    clips = [clip for clip, value in enumerate(values) if not np.isnan(value)]
    random, means = np.random.default_rng(seed), []
    for draws in random.multinomial(len(clips), [1 / len(clips)] * len(clips), size=2000):
        mean = sum(draw * values[clip] for draw, clip in zip(draws, clips, strict=True)) / len(clips)
        if over is not None:
            mean /= sum(draw * over[clip] for draw, clip in zip(draws, clips, strict=True)) / len(clips)
        means.append(mean)
    return np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist()


def table():
    values = np.random.default_rng(0).normal(size=(9, 4))
    values[2:5, 1] = np.nan
    values[:, 2] = 0.3
    values[:, 3] = np.nan
    return values


@pytest.mark.parametrize(("confidence", "seed"), [(0.95, 0), (0.95, 3), (0.4, 0)])
def test_every_column_has_the_interval_of_its_values(confidence, seed):
    low, high = bootstrap_interval(table(), confidence=confidence, seed=seed)
    for column in (0, 1):
        expected = slow_interval(table()[:, column], confidence=confidence, seed=seed)
        assert [low[column], high[column]] == pytest.approx(expected, abs=1e-12)
    assert (low[2], high[2]) == (0.3, 0.3)
    assert np.isnan([low[3], high[3]]).all()


def test_the_ratio_of_two_means_is_resampled_clip_by_clip():
    over = np.random.default_rng(1).random(9) + 0.1
    low, high = bootstrap_interval(table(), over=over)
    for column in (0, 1):
        assert [low[column], high[column]] == pytest.approx(slow_interval(table()[:, column], over), abs=1e-12)
    low, high = bootstrap_interval(table(), over=over - over.max())  # no resampled mean is above zero
    assert np.isnan([low, high]).all()


def test_two_values_by_hand():
    """Resampled means of 0 and 1 are 0, 1/2 and 1, a quarter, a half and a quarter of the time."""
    values = np.array([[0.0], [1.0]])
    assert [end.tolist() for end in bootstrap_interval(values)] == [[0.0], [1.0]]
    assert [end.tolist() for end in bootstrap_interval(values, confidence=0.4)] == [[0.5], [0.5]]


def test_the_interval_is_that_of_scipys_bootstrap():
    values = np.random.default_rng(0).gamma(1.0, 1.0, 30)
    low, high = bootstrap_interval(values[:, None])
    random = np.random.default_rng(1)
    expected = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=random)
    tenth_of_the_standard_error = 0.02
    assert [low[0], high[0]] == pytest.approx([*expected.confidence_interval], abs=tenth_of_the_standard_error)
