"""The bootstrap interval against a slow resampling clip by clip, against scipy's, and by how often it covers."""

import math

import numpy as np
import pytest
from scipy import stats

from captum_apex.metrics import bootstrap_interval


def slow_interval(values, over=None, confidence=0.95, seed=0):
    """The quantiles of the means of 2000 resamples, each mean summed clip by clip, moved away from the mean."""
    clips = [clip for clip, value in enumerate(values) if not np.isnan(value)]
    random, means = np.random.default_rng(seed), []
    for draws in random.multinomial(len(clips), [1 / len(clips)] * len(clips), size=2000):
        mean = sum(draw * values[clip] for draw, clip in zip(draws, clips, strict=True)) / len(clips)
        if over is not None:
            mean /= sum(draw * over[clip] for draw, clip in zip(draws, clips, strict=True)) / len(clips)
        means.append(mean)
    quantiles = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    center = np.mean([values[clip] for clip in clips])
    if over is not None:
        center /= np.mean([over[clip] for clip in clips])
    return (center + (quantiles - center) * factor(len(clips), confidence)).tolist()


def factor(n_clips, confidence=0.95):
    level = (1 + confidence) / 2
    return math.sqrt(n_clips / (n_clips - 1)) * stats.t.ppf(level, n_clips - 1) / stats.norm.ppf(level)


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
        assert [low[column], high[column]] == pytest.approx(expected, abs=1e-8)
    assert (low[2], high[2]) == (0.3, 0.3)
    assert np.isnan([low[3], high[3]]).all()


def test_the_ratio_of_two_means_is_resampled_clip_by_clip():
    over = np.random.default_rng(1).random(9) + 0.1
    low, high = bootstrap_interval(table(), over=over)
    for column in (0, 1):
        assert [low[column], high[column]] == pytest.approx(slow_interval(table()[:, column], over), abs=1e-8)
    low, high = bootstrap_interval(table(), over=over - over.max())  # no resampled mean is above zero
    assert np.isnan([low, high]).all()


def test_two_values_by_hand():
    """Resampled means of 0 and 1 are 0, 1/2 and 1, a quarter, a half and a quarter of the time.

    Student's distribution with one degree of freedom is Cauchy's: its 97.5% quantile is tan(0.475 π).
    """
    values = np.array([[0.0], [1.0]])
    reach = 0.5 * math.sqrt(2) * math.tan(0.475 * math.pi) / stats.norm.ppf(0.975)
    assert np.concatenate(bootstrap_interval(values)).tolist() == pytest.approx([0.5 - reach, 0.5 + reach])
    assert [end.tolist() for end in bootstrap_interval(values, confidence=0.4)] == [[0.5], [0.5]]


@pytest.mark.parametrize("n_clips", [2, 3, 5, 8, 24])
@pytest.mark.parametrize("draw", ["normal", "uniform"])
def test_the_interval_holds_the_mean_as_often_as_it_says(n_clips, draw):
    """4000 samples: three standard errors are 0.01. Percentiles alone would cover 0.51, 0.75, 0.84, 0.89 and 0.93."""
    random = np.random.default_rng(n_clips)
    values = random.normal(size=(n_clips, 4000)) if draw == "normal" else random.uniform(-1, 1, (n_clips, 4000))
    low, high = bootstrap_interval(values)
    assert np.mean((low <= 0) & (high >= 0)) == pytest.approx(0.95, abs=0.02 if n_clips > 3 else 0.05)


def test_a_ratio_is_held_as_often_as_it_is_said():
    """The ratio of the means is 1/2; the values and their divisors vary together."""
    random, held = np.random.default_rng(0), []
    for _ in range(400):
        over = random.uniform(0.5, 1.5, 8)
        low, high = bootstrap_interval(over[:, None] / 2 + random.normal(0, 0.2, (8, 1)), over=over)
        held.append(low[0] <= 0.5 <= high[0])
    assert np.mean(held) == pytest.approx(0.95, abs=0.035)


def test_one_clip_says_nothing_about_the_spread():
    low, high = bootstrap_interval(np.array([[0.4, 0.4], [np.nan, 0.4]]))
    assert np.isnan([low[0], high[0]]).all()
    assert (low[1], high[1]) == (0.4, 0.4)


def test_the_interval_is_that_of_scipys_bootstrap_but_wider():
    values = np.random.default_rng(0).gamma(1.0, 1.0, 30)
    low, high = bootstrap_interval(values[:, None])
    random = np.random.default_rng(1)
    expected = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=random)
    tenth_of_the_standard_error = 0.02
    wider = values.mean() + (np.array(expected.confidence_interval) - values.mean()) * factor(30)
    assert [low[0], high[0]] == pytest.approx(wider.tolist(), abs=tenth_of_the_standard_error)


def test_what_has_no_interval_is_refused():
    with pytest.raises(ValueError, match=r"expected `values` of shape \(clip, column\), but got \(3,\)"):
        bootstrap_interval([0.0, 1.0, 2.0])
    for confidence in (0, 1, 95, float("nan")):
        with pytest.raises(ValueError, match=rf"`confidence` in \(0, 1\), such as 0.95, but got {confidence}"):
            bootstrap_interval([[0.0], [1.0]], confidence=confidence)
