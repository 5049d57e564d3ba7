"""Intervals, tests and comparisons of the benchmark, against slow re-writings and by hand."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.reports.standings import (
    ALL_FILLS,
    average_ranks,
    can_lead,
    common,
    comparison,
    family,
    front,
    scores,
    share_of_oracle,
    standings,
    summary,
    winners,
)
from benchmarks.statistics import holm, interval, paired_test, smallest_p_value
from captum_apex.metrics import bootstrap_interval


def rows_of(cells):
    """Rows from {(method, grid, fill): {clip: insertion − deletion}}; an empty cell could not be computed."""
    lines = []
    for (method, grid, fill), values in cells.items():
        for clip, value in values.items() or [(-1, math.nan)]:
            status = "ok" if values else "unsupported (no rule)"
            deletion, passes = (0.25, 3.0) if values else (math.nan, math.nan)
            lines.append((method, grid, fill, status, clip, deletion, deletion + value, passes))
    return pd.DataFrame(lines, columns=["method", "grid", "fill", "status", "clip", "deletion", "insertion", "passes"])


def clips(*values):
    return dict(enumerate(values))


def test_the_interval_of_two_values_by_hand():
    """Resampled means of 0 and 1 are 0, 1/2 and 1, a quarter, a half and a quarter of the time."""
    reach = 0.5 * math.sqrt(2) * stats.t.ppf(0.975, 1) / stats.norm.ppf(0.975)
    assert interval(np.array([0.0, 1.0])) == pytest.approx((0.5 - reach, 0.5 + reach))
    assert interval(np.array([0.0, 1.0]), confidence=0.4) == (0.5, 0.5)


def test_intervals_are_those_of_scipys_bootstrap_but_wider():
    values = np.random.default_rng(0).gamma(1.0, 1.0, 30)
    ends = interval(values)
    expected = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1)
    ).confidence_interval
    factor = math.sqrt(30 / 29) * stats.t.ppf(0.975, 29) / stats.norm.ppf(0.975)
    wider = values.mean() + (np.array(expected) - values.mean()) * factor
    assert ends == pytest.approx(tuple(wider), abs=0.02)  # a tenth of the mean's standard error


def test_intervals_cover_the_mean_at_their_rate():
    random = np.random.default_rng(0)
    held = [low <= 1.0 <= high for low, high in (interval(random.normal(1.0, 2.0, 40), seed=i) for i in range(200))]
    assert 0.89 <= np.mean(held) <= 0.99


def test_intervals_of_many_columns_are_those_of_each():
    values = np.random.default_rng(0).normal(size=(9, 4))
    values[2:5, 1] = np.nan
    values[:, 2] = 0.3
    values[:, 3] = np.nan
    low, high = bootstrap_interval(values)
    assert (low[0], high[0]) == pytest.approx(interval(values[:, 0]))
    assert (low[1], high[1]) == pytest.approx(interval(np.delete(values[:, 1], [2, 3, 4])))
    assert (low[2], high[2]) == (0.3, 0.3)
    assert np.isnan([low[3], high[3]]).all()


def test_intervals_of_ratios_resample_both_together():
    """Half of each value is half of each resampled mean; independent resampling would spread."""
    base = np.array([0.2, 0.9, 0.4, 0.6])
    low, high = bootstrap_interval(base[:, None] / 2, over=base)
    assert (low[0], high[0]) == pytest.approx((0.5, 0.5), abs=1e-12)
    low, high = bootstrap_interval(base[:, None] / 2, over=base - 0.5)  # some resampled means are not above zero
    assert np.isnan([low[0], high[0]]).all()


def test_the_signed_rank_test_by_trying_all_signs():
    difference = np.array([0.3, -0.1, 0.7, 0.45, -0.2, 0.9, 0.05, 0.6])
    ranks = stats.rankdata(np.abs(difference))
    sums = [
        sum(rank for rank, sign in zip(ranks, signs, strict=True) if sign)
        for signs in itertools.product((0, 1), repeat=8)
    ]
    own = ranks[difference > 0].sum()
    p = 2 * min(np.mean(np.array(sums) >= own), np.mean(np.array(sums) <= own))
    assert paired_test(difference + 1, np.ones(8)) == pytest.approx(p, abs=1e-9)
    assert paired_test(np.ones(8), difference + 1) == pytest.approx(p, abs=1e-9)


def test_equal_clips_keep_their_rank():
    """With Pratt's treatment of zeros: the two losses are small, but not so small where the equal clips have ranks."""
    values = np.array([0.0] * 30 + [-0.1, -0.2, 0.3, 0.4, 0.5, 0.6, 0.7])
    assert paired_test(values, np.zeros(37)) == pytest.approx(all_signs(values))
    assert paired_test(values, np.zeros(37)) != pytest.approx(all_signs(values[30:]))


def all_signs(difference):
    """The two-sided p-value of the sum of positive ranks, by trying all signs of the differences that are not zero."""
    ranks = stats.rankdata(np.abs(difference))
    signed = ranks[difference != 0]
    signs = itertools.product((0, 1), repeat=len(signed))
    sums = np.array([sum(rank for rank, sign in zip(signed, chosen, strict=True) if sign) for chosen in signs])
    observed = ranks[difference > 0].sum()
    return min(1, 2 * min(np.mean(sums >= observed), np.mean(sums <= observed)))


@pytest.mark.parametrize("seed", range(20))
def test_tied_differences_are_tested_exactly(seed):
    """The normal approximation, which scipy takes for ties from 14 clips on, gives 0.046 for four wins of four."""
    random = np.random.default_rng(seed)
    difference = random.integers(-2, 4, int(random.integers(1, 13))).astype(float)
    padded = np.concatenate([difference, np.zeros(seed)])
    if padded.any():
        assert paired_test(padded, np.zeros(len(padded))) == pytest.approx(all_signs(padded))
    assert paired_test([0.1] * 4 + [0.0] * 10, [0.0] * 14) == 2 / 2**4


def test_many_tied_differences_are_close_to_the_approximation():
    difference = np.round(np.random.default_rng(0).normal(0.3, 1.0, 100), 1)
    exact = paired_test(difference, np.zeros(100))
    assert exact == pytest.approx(stats.wilcoxon(difference, zero_method="pratt").pvalue, rel=0.3)


@pytest.mark.parametrize("n_clips", [1, 2, 5, 8, 14, 60])
def test_no_p_value_is_below_the_smallest(n_clips):
    """Every clip is won, with and without ties."""
    for wins in (np.ones(n_clips), np.arange(1.0, n_clips + 1)):
        found = paired_test(wins, np.zeros(n_clips))
        assert found >= smallest_p_value(n_clips) * (1 - 1e-9)
        assert found == pytest.approx(smallest_p_value(n_clips)) or n_clips > 50
    assert holm([smallest_p_value(8)] * 71)[0] == pytest.approx(smallest_p_value(8, 71))
    assert smallest_p_value(8, 1000) == 1


def test_equal_scores_and_no_scores():
    assert paired_test([0.1, 0.2], [0.1, 0.2]) == 1.0
    assert math.isnan(paired_test([], []))
    with pytest.raises(ValueError, match=r"expected two values for each clip, but got shapes \(2,\) and \(3,\)"):
        paired_test([1, 2], [1, 2, 3])


def test_holm_by_hand():
    """Sorted 0.005, 0.01, 0.03, 0.04 become 0.02, 0.03, 0.06, and 0.06 again: never below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


@pytest.mark.parametrize("level", [0.01, 0.05, 0.1, 0.3])
def test_holm_rejects_what_the_step_down_procedure_rejects(level):
    random = np.random.default_rng(0)
    for _ in range(50):
        p_values = random.beta(0.3, 2.0, 7)
        rejected = set()
        for k, i in enumerate(
            np.argsort(p_values)
        ):  # the smallest first, stop at the first that is not below its own level
            if p_values[i] > level / (7 - k):
                break
            rejected.add(int(i))
        assert set(np.flatnonzero(holm(p_values) <= level).tolist()) == rejected


def test_missing_tests_do_not_count_in_holm():
    adjusted = holm([0.01, math.nan, 0.03])
    assert adjusted[[0, 2]].tolist() == pytest.approx([0.02, 0.03])
    assert math.isnan(adjusted[1])


def test_families_by_name():
    names = [
        "APEX time",
        "APEX frequency, n=3, through IG",
        "APEX all, through IG",
        "APEX time, all",
        "random",
        "blurred random",
        "energy",
        "greedy oracle",
        "IntegratedGradients",
    ]
    assert [family(name) for name in names] == ["APEX"] * 2 + ["controls"] * 6 + ["other methods"]
    led = [name for name in names if can_lead(name)]
    assert led == [*names[:2], "random", "blurred random", "energy", "IntegratedGradients"]


def test_scores_keep_the_order_of_the_rows_and_leave_gaps():
    table = scores(
        rows_of(
            {("B", "time", "silence"): clips(0.5, 0.1), ("A", "time", "silence"): {1: 0.2}, ("A", "time", "mean"): {}}
        )
    )
    assert list(table.columns) == ["B", "A"]
    assert table.loc[("time", "silence", 0)].tolist() == pytest.approx([0.5, math.nan], nan_ok=True)
    assert table.loc[("time", "silence", 1)].tolist() == pytest.approx([0.1, 0.2])
    assert len(table) == 2


def test_a_clip_that_occurs_twice_is_refused():
    rows = rows_of({("A", "time", "mean"): clips(0.1, 0.2)})
    with pytest.raises(
        ValueError, match="expected one row per clip and cell, but got several of clip 1 in A, time, mean"
    ):
        scores(pd.concat([rows, rows.iloc[1:]]))


def test_common_scores_have_no_gaps():
    rows = rows_of(
        {
            ("A", "time", "silence"): clips(1, 2, 3),
            ("A", "time", "mean"): clips(1, 2, 3),
            ("B", "time", "silence"): {1: 5, 2: 6},  # lacks clip 0
            ("B", "time", "mean"): clips(4, 5, 6),
            ("C", "time", "silence"): clips(7, 8, 9),  # lacks the mean fill: left out
            ("C", "time", "mean"): {},
            ("A", "time", "noise"): clips(1, 2, 3),  # one of three methods: does not count
            ("D", "time", "silence"): {},
        }
    )
    part = common(scores(rows))
    assert list(part.columns) == ["A", "B"]
    assert list(part.index) == [
        ("time", "silence", 1),
        ("time", "silence", 2),
        ("time", "mean", 1),
        ("time", "mean", 2),
    ]
    assert part.notna().all().all()


def test_comparison_of_known_differences():
    reference = clips(0.1, 0.2, 0.3, 0.4)
    rows = rows_of(
        {
            ("R", "time", "silence"): reference,
            ("better", "time", "silence"): {0: 0.2, 1: 0.4, 2: 0.6, 3: 0.8},
            ("same", "time", "silence"): {clip: value + 1e-9 for clip, value in reference.items()},
            ("few", "time", "silence"): {2: 0.2, 3: 0.5, 4: 9.0},  # clip 4 has no reference
            ("none", "time", "silence"): {},
        }
    )
    found = comparison(rows, "difference", "R").set_index("method")
    assert list(found.index) == ["better", "same", "few", "none"]
    assert found["clips"].tolist() == [4, 4, 2, 0]
    assert found["difference"].tolist() == pytest.approx([0.25, 0.0, 0.0, math.nan], nan_ok=True)
    assert found["mean"].tolist() == pytest.approx([0.5, 0.25, 0.35, math.nan], nan_ok=True)
    assert found[["wins", "ties", "losses"]].to_numpy().tolist() == [[4, 0, 0], [0, 4, 0], [1, 0, 1], [0, 0, 0]]
    assert found["coverage"].tolist() == pytest.approx([0.8, 0.8, 0.6, 0.0])
    p = stats.wilcoxon([0.1, 0.2, 0.3, 0.4]).pvalue
    assert found["p"].tolist() == pytest.approx([p, 1.0, 1.0, math.nan], nan_ok=True)
    assert found["p_holm"].tolist() == pytest.approx([3 * p, 1.0, 1.0, math.nan], nan_ok=True)
    assert (found.loc["better", "low"], found.loc["better", "high"]) == pytest.approx(
        interval(np.array([0.1, 0.2, 0.3, 0.4]))
    )
    assert (found.loc["same", "low"], found.loc["same", "high"]) == (0.0, 0.0)


def test_each_grid_and_fill_is_corrected_by_itself():
    cells = {}
    for fill in ("silence", "mean"):
        cells |= {
            (name, "time", fill): clips(*(np.arange(6) * scale + 0.01))
            for name, scale in (("R", 0.1), ("A", 0.2), ("B", 0.3))
        }
    found = comparison(rows_of(cells), "difference", "R")
    assert len(found) == 4
    assert found["p_holm"].tolist() == pytest.approx((2 * found["p"]).tolist())


def test_where_lower_is_better_the_lower_wins():
    rows = rows_of({("R", "time", "mean"): clips(0.1, 0.1), ("A", "time", "mean"): clips(0.1, 0.1)})
    rows.loc[rows["method"] == "A", "deletion"] = [0.05, 0.35]
    found = comparison(rows, "deletion", "R").iloc[0]
    assert (found["difference"], found["wins"], found["losses"]) == (pytest.approx(-0.05), 1, 1)
    rows.loc[rows["method"] == "A", "deletion"] = 0.05
    assert average_ranks(rows, "deletion")["method"].tolist() == ["A", "R"]


def test_an_unknown_reference_is_named():
    with pytest.raises(ValueError, match="expected `reference` to be a method of the run, but got 'Magic'"):
        comparison(rows_of({("A", "time", "mean"): clips(1.0)}), "difference", "Magic")


def test_average_ranks_by_hand():
    """Clip 0 ranks A, B, C 1 2 3 and 1½ 1½ 3, clip 1 3 2 1 twice: a clip counts by its mean."""
    rows = rows_of(
        {
            ("A", "time", "silence"): clips(0.9, 0.1),
            ("B", "time", "silence"): clips(0.5, 0.2),
            ("C", "time", "silence"): clips(0.1, 0.3),
            ("A", "time", "mean"): clips(0.4, 0.0),
            ("B", "time", "mean"): clips(0.4, 0.5),
            ("C", "time", "mean"): clips(0.3, 0.6),
            ("partly", "time", "mean"): clips(0.9, 0.9),
        }
    )
    found = average_ranks(rows).set_index("method")
    assert found["rank"].to_dict() == pytest.approx({"B": 1.875, "C": 2.0, "A": 2.125})
    assert (found["clips"] == 2).all()
    assert (found.loc["A", "low"], found.loc["A", "high"]) == interval(np.array([1.25, 3.0]))


def test_ranks_against_a_slow_loop():
    random = np.random.default_rng(0)
    cells = {
        (name, "time", fill): clips(*random.normal(size=5)) for name in "ABCD" for fill in ("silence", "mean", "blur")
    }
    found = average_ranks(rows_of(cells)).set_index("method")["rank"]
    for own in "ABCD":
        places = [
            1 + sum(cells[other, "time", fill][clip] > cells[own, "time", fill][clip] for other in "ABCD")
            for fill in ("silence", "mean", "blur")
            for clip in range(5)
        ]
        assert found[own] == pytest.approx(sum(places) / 15)


def test_winners_and_the_best_of_another_family():
    rows = rows_of(
        {
            ("APEX time", "time", "silence"): clips(0.5, 0.7),
            ("APEX square", "time", "silence"): clips(0.5, 0.6),
            ("Saliency", "time", "silence"): clips(0.4, 0.4),
            ("energy", "time", "silence"): clips(0.3, 0.3),
            ("greedy oracle", "time", "silence"): {0: 0.9},
            ("APEX time", "time", "mean"): clips(0.1, 0.1),
            ("APEX square", "time", "mean"): clips(0.0, 0.0),
            ("Saliency", "time", "mean"): clips(0.0, 0.1),
            ("energy", "time", "mean"): clips(0.3, 0.3),
            ("greedy oracle", "time", "mean"): {0: 0.9},
        }
    )
    found = winners(rows).set_index("fill")
    assert list(found.index) == ["silence", "mean", ALL_FILLS]
    assert found["method"].tolist() == ["APEX time", "energy", "APEX time"]
    assert found["family"].tolist() == ["APEX", "controls", "APEX"]
    assert found["rival"].tolist() == ["Saliency", "APEX time", "energy"]  # of two others, the one whose mean is higher
    assert found["mean"].tolist() == pytest.approx([0.6, 0.3, 0.35])
    assert found["difference"].tolist() == pytest.approx([0.2, 0.2, 0.05])
    assert (found.loc["silence", "difference_low"], found.loc["silence", "difference_high"]) == pytest.approx(
        interval(np.array([0.1, 0.3]))
    )
    assert (found["clips"] == 2).all()


def test_all_channels_of_apex_neither_win_nor_are_the_rival_of_the_method_that_they_coincide_with():
    """On a linear head they are two-sided occlusion, to the last digit, and stand before it in the tables."""
    cells = {
        ("APEX time, two-sided", "time", "mean"): clips(0.5, 0.4),
        ("APEX all, two-sided", "time", "mean"): clips(0.7, 0.6),
        ("APEX square, all", "time", "mean"): clips(0.9, 0.9),
        ("two-sided occlusion", "time", "mean"): clips(0.7, 0.6),
    }
    (line,) = winners(rows_of(cells)).to_dict("records")
    assert (line["method"], line["family"]) == ("two-sided occlusion", "other methods")
    assert (line["rival"], line["rival_family"]) == ("APEX time, two-sided", "APEX")
    assert line["difference"] == pytest.approx(0.2)


def test_the_share_of_the_oracle_is_on_its_own_clips():
    rows = rows_of(
        {
            ("A", "time", "mean"): clips(0.1, 0.2, 5.0),
            ("B", "time", "mean"): {1: 0.4},
            ("greedy oracle", "time", "mean"): clips(0.2, 0.4),
            ("A", "time", "blur"): clips(0.1),
            ("greedy oracle", "time", "blur"): clips(-0.1),
        }
    )
    found = share_of_oracle(rows)
    assert found["method"].tolist() == ["A", "B"]
    assert found["share"].tolist() == pytest.approx([0.5, 1.0])
    assert found["clips"].tolist() == [2, 1]
    assert found[["low", "high"]].to_numpy().tolist()[0] == pytest.approx([0.5, 0.5])
    assert found[["low", "high"]].iloc[1].isna().all()  # of a single clip
    assert not len(share_of_oracle(rows[rows["method"] != "greedy oracle"]))


def test_the_summary_holds_means_and_intervals():
    rows = rows_of({("A", "time", "mean"): clips(0.1, 0.2, 0.6), ("B", "time", "mean"): {}, ("A", "time", "blur"): {}})
    cells = summary(rows).set_index(["method", "fill"])
    own = cells.loc[("A", "mean")]
    assert own["difference"] == pytest.approx(0.3)
    assert (own["low"], own["high"]) == pytest.approx(interval(np.array([0.1, 0.2, 0.6])))
    assert (own["clips"], own["deletion"], own["insertion"], own["passes"]) == (
        3,
        pytest.approx(0.25),
        pytest.approx(0.55),
        3.0,
    )
    assert cells["status"].tolist() == ["ok", "unsupported (no rule)", "unsupported (no rule)"]
    assert cells.loc[("B", "mean"), ["difference", "low", "high", "deletion"]].isna().all()


def test_incomplete_methods_come_after_the_others_and_unscored_ones_last():
    cells = {
        (name, "time", fill): clips(value)
        for name, value in (("A", 0.1), ("B", 0.2), ("C", 0.3))
        for fill in ("mean", "blur")
    }
    cells[("C", "time", "blur")] = {}
    cells[("D", "time", "mean")] = {}
    found = standings(summary(rows_of(cells)))
    assert list(found.index) == ["B", "A", "C", "D"]
    assert found["complete"].tolist() == [True, True, False, False]
    assert found["mean"].tolist() == pytest.approx([0.2, 0.1, 0.3, math.nan], nan_ok=True)


def test_a_run_without_any_score():
    rows = rows_of({("A", "time", "mean"): {}, ("B", "time", "mean"): {}})
    assert summary(rows)["difference"].isna().all()
    assert list(standings(summary(rows)).index) == ["A", "B"]
    assert not any(
        len(found)
        for found in (winners(rows), share_of_oracle(rows), average_ranks(rows), comparison(rows, "difference", "A"))
    )


def test_the_front_is_what_no_other_point_beats():
    random = np.random.default_rng(0)
    price, score = random.integers(0, 5, 40).astype(float), random.integers(0, 5, 40).astype(float)
    score[3] = np.nan
    for i, on_it in enumerate(front(price, score)):
        beaten = any(
            (price[j] <= price[i] and score[j] >= score[i]) and (price[j] < price[i] or score[j] > score[i])
            for j in range(40)
            if j != 3
        )
        assert on_it == (i != 3 and not beaten)
