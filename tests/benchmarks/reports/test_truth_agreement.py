"""Whether faithful methods lie on the truth: against SciPy's correlation, and by cases whose answer is known."""

import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks.__main__ import main
from benchmarks.reports.truth_agreement import (
    AGREEMENT_COLUMNS,
    agreement,
    agreement_figure,
    agreement_table,
    picture,
)
from benchmarks.runs.results import Results
from benchmarks.runs.rows import Cell, Row, frame

METHODS = ("APEX time", "Saliency", "Occlusion", "DeepLift", "LayerGradCam")


def rows(score, pointing, n_clips=6, fills=("mean",), methods=METHODS):
    """Rows with the score and the pointing of each (method, clip)."""
    return frame(
        Row(
            method,
            "square",
            fill,
            "ok",
            clip=clip,
            deletion=0.0,
            insertion=score(m, clip),
            pointing=pointing(m, clip),
            relevance_mass=pointing(m, clip) / 2,
        )
        for fill in fills
        for m, method in enumerate(methods)
        for clip in range(n_clips)
    )


def test_it_is_the_rank_correlation_of_the_means_over_clips():
    random = np.random.default_rng(0)
    values, truths = random.random((2, len(METHODS), 6))
    found = agreement(rows(lambda m, clip: values[m, clip], lambda m, clip: truths[m, clip]))
    assert found["truth"].tolist() == ["pointing game", "relevance mass"]
    expected = spearmanr(values.mean(1), truths.mean(1)).statistic
    assert found["correlation"].to_numpy() == pytest.approx(expected, abs=1e-12)
    assert (found["low"] <= found["correlation"]).all()
    assert (found["correlation"] <= found["high"]).all()
    assert (found["methods"].tolist(), found["clips"].tolist()) == ([5, 5], [6, 6])


@pytest.mark.parametrize("sign", [1, -1])
def test_methods_in_the_same_or_the_opposite_order_agree_in_every_resample(sign):
    found = agreement(rows(lambda m, clip: m + clip, lambda m, _: sign * float(m)))
    for name in ("correlation", "low", "high"):
        assert found[name].to_numpy() == pytest.approx(sign, abs=1e-12)


def test_the_interval_is_that_of_a_slow_bootstrap_over_clips():
    random = np.random.default_rng(1)
    values, truths = random.random((2, len(METHODS), 12))
    found = agreement(rows(lambda m, clip: values[m, clip], lambda m, clip: truths[m, clip], n_clips=12))
    slow = []
    for _ in range(2_000):
        chosen = random.integers(0, 12, 12)
        slow.append(spearmanr(values[:, chosen].mean(1), truths[:, chosen].mean(1)).statistic)
    assert found["low"][0] == pytest.approx(np.percentile(slow, 2.5), abs=0.1)
    assert found["high"][0] == pytest.approx(np.percentile(slow, 97.5), abs=0.1)


def test_controls_clips_without_a_truth_and_methods_with_gaps_do_not_take_part():
    table = rows(lambda m, _: float(m), lambda m, _: float(m), methods=(*METHODS, "random", "energy", "Lime"))
    table.loc[table["method"] == "random", "insertion"] = 100.0  # would change the order
    table.loc[(table["method"] == "Lime") & (table["clip"] == 0), "insertion"] = np.nan
    table.loc[table["clip"] == 5, ["pointing", "relevance_mass"]] = np.nan
    found = agreement(table)
    assert found["correlation"].tolist() == pytest.approx([1, 1])
    assert (found["methods"].tolist(), found["clips"].tolist()) == ([5, 5], [5, 5])


def test_without_a_truth_or_with_two_methods_there_are_no_lines():
    unknown = rows(lambda m, _: float(m), lambda *_: np.nan)
    few = rows(lambda m, _: float(m), lambda m, _: float(m), methods=METHODS[:2])
    for table in (unknown, few):
        found = agreement(table)
        assert len(found) == 0
        assert list(found.columns) == list(AGREEMENT_COLUMNS)


def test_all_maps_alike_have_no_correlation():
    found = agreement(rows(lambda m, _: float(m), lambda *_: 1.0))
    assert found[["correlation", "low", "high"]].isna().all(axis=None)


def test_settings_of_apex_do_not_hide_that_the_other_methods_disagree():
    """Six settings of APEX agree with the truth, four other methods are in the opposite order."""
    settings = [f"APEX time, n={n}" for n in range(1, 7)]
    others = ["Saliency", "Occlusion", "DeepLift", "LayerGradCam"]
    truths = [*range(1, 7), *(1.3, 1.2, 1.1, 1.0), 100.0]
    table = rows(
        lambda m, _: [*range(1, 7), *(0.1, 0.2, 0.3, 0.4), 200.0][m],
        lambda m, _: truths[m],
        methods=(*settings, *others, "energy"),
    )
    table.loc[(table["method"] == "Occlusion") & (table["clip"] == 0), "relevance_mass"] = np.nan
    (line,) = agreement_table({"a run": table}).to_dict("records")
    whole = spearmanr([0.1, 0.2, 0.3, 0.4, *range(1, 7)], [1.3, 1.2, 1.1, 1.0, *range(1, 7)]).statistic
    assert (line["run"], line["regions"], line["fill"]) == ("a run", "square", "mean")
    assert line["pointing game"].startswith(f"{whole:.2f} [")
    assert whole > 0.6
    assert line["pointing game, others"] == line["relevance mass, others"] == "-1.00 [-1.00, -1.00]"
    assert (line["methods"], line["methods, others"], line["clips"]) == ("10 / 9", "4 / 3", "6")


def test_where_two_other_methods_are_left_only_all_methods_have_a_correlation():
    table = rows(lambda m, _: float(m), lambda m, _: float(m), methods=("APEX time", "Saliency", "Occlusion"))
    (line,) = agreement_table({"a run": table}).to_dict("records")
    assert line["pointing game"] == "1.00 [1.00, 1.00]"
    assert (line["pointing game, others"], line["methods, others"]) == ("–", "– / –")


def test_the_command_draws_who_is_ahead_and_the_truth_where_it_is_known(tmp_path, capsys):
    settings = {
        "methods": list(METHODS),
        "grids": ["square"],
        "fills": ["mean"],
        "network": "cnn",
        "part": "test",
        "clips": 6,
        "test_clips": 6,
        "accuracy": 1.0,
    }
    for name, pointing in (("known", lambda m, _: m / 5), ("unknown", lambda *_: np.nan)):
        (tmp_path / name / "cells").mkdir(parents=True)
        (tmp_path / name / "run.json").write_text(json.dumps({"key": {}, "settings": settings | {"task": name}}))
        results = Results(tmp_path / name)
        for cell, part in rows(lambda m, clip: 0.1 * m + 0.01 * clip, pointing).groupby(["method", "grid", "fill"]):
            part.to_csv(results._path(Cell(*cell)), index=False)
        results.collect()
    folder = tmp_path / "new" / "pictures"
    assert main(["overview", str(tmp_path / "known"), str(tmp_path / "unknown"), "--pictures", str(folder)]) == 0
    assert {path.name for path in folder.iterdir()} == {"leads.png", "faithfulness_and_truth.png"}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.iterdir())
    printed = capsys.readouterr().out
    assert "Faithfulness and truth" in printed
    assert str(folder / "leads.png") in printed
    folder = tmp_path / "without"
    assert main(["overview", str(tmp_path / "unknown"), "--pictures", str(folder)]) == 0
    assert [path.name for path in folder.iterdir()] == ["leads.png"]


def test_the_figure_of_the_correlations_counts_their_signs_without_apex():
    methods = ("APEX time", "APEX square", "APEX frequency", *(f"method {number}" for number in range(10)))
    score = lambda m, clip: 0.1 * m + 0.01 * clip  # noqa: E731
    rising = rows(score, lambda m, _: m / 13 if m > 2 else 1 - m / 13, fills=("mean", "silence"), methods=methods)
    falling = rows(score, lambda m, _: 1 - m / 13 if m > 2 else m / 13, methods=methods)
    figure = agreement_figure({"one cnn": rising, "other cnn": falling})
    assert figure.get_suptitle() == "Methods that score higher point more at the sound in 2 of 3 cases, less in 1"
    (panel,) = figure.axes
    assert [text.get_text() for text in panel.get_yticklabels()] == ["other cnn", "one cnn"]
    drawn = [each.get_children()[0].get_xydata().round(3).tolist() for each in panel.containers]
    assert sorted(x for points in drawn for x, _ in points) == [-1.0, 1.0, 1.0]
    (above, below), (only,) = ([y for _, y in points] for points in drawn)
    assert (round(above), round(below), round(only)) == (1, 0, 1)  # one run above the other
    assert "over 10 methods" in panel.get_title()
    unknown = rows(score, lambda *_: np.nan, methods=methods)
    constant = rows(score, lambda *_: 1.0, methods=methods)
    few = rising[rising["method"] != "method 9"]
    assert agreement_figure({"unknown": unknown, "constant": constant, "few": few}) is None


def test_runs_without_a_known_truth_have_no_panel():
    known = rows(lambda m, _: float(m), lambda m, _: m / 5)
    unknown = rows(lambda m, _: float(m), lambda *_: np.nan)
    assert [panel.get_title() for panel in picture({"unknown": unknown, "known": known}).axes] == ["known"]
    assert picture({"unknown": unknown}) is None


def test_the_picture_has_a_point_for_each_method_at_its_means():
    table = rows(lambda m, clip: 0.1 * m + 0.01 * clip, lambda m, _: m / 5, fills=("mean", "silence"))
    figure = picture({"scenes cnn": table, "vocoded cnn": table[table["method"] != "Occlusion"]})
    one, other = figure.axes
    points = np.concatenate([np.asarray(each.get_offsets()) for each in one.collections])
    expected = [[0.1 * m + 0.025, m / 5] for m in range(len(METHODS))]
    np.testing.assert_allclose(np.sort(points, axis=0), expected, atol=1e-9)
    assert sum(len(each.get_offsets()) for each in other.collections) == len(METHODS) - 1
    assert {text.get_text() for text in one.texts} <= set(METHODS)
    assert one.texts
