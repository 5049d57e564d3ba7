"""Who is ahead: the numbers by hand, and headings that say what the intervals say."""

import numpy as np
import pytest

from benchmarks.reports.leads import LEAD_COLUMNS, best_figure, leads, leads_figure
from benchmarks.runs.rows import Row, frame

N_CLIPS = 8
SPREAD = 0.02 * np.arange(N_CLIPS)  # of the clips, the same for all methods


def rows(scores, grids=("square", "time"), fills=("silence", "mean")):
    """Rows with the score of each clip, by method: a number, or one for each clip; None for a clip without a score."""
    return frame(
        Row(method, grid, fill, "ok", clip=clip, deletion=0.1, insertion=0.1 + (value + SPREAD)[clip])
        for method, value in scores.items()
        for grid in grids
        for fill in fills
        for clip in range(N_CLIPS)
        if np.isfinite((value + SPREAD)[clip])
    )


def test_the_lead_is_that_of_the_best_of_apex_over_the_best_of_the_others():
    alternating = 0.3 + 0.1 * np.where(np.arange(N_CLIPS) % 2, 1, -1)
    table = rows(
        {
            "APEX time": 0.5,
            "APEX frequency": 0.4,
            "APEX all, two-sided": 0.9,
            "greedy oracle": 1.0,
            "Saliency": alternating,
            "energy": 0.2,
        }
    )
    found = leads(table)
    assert list(found.columns) == list(LEAD_COLUMNS)
    assert found["regions"].tolist() == ["square", "time"]
    for line in found.itertuples():
        assert (line.first, line.rival, line.clips) == ("APEX time", "Saliency", N_CLIPS)
        assert line.first_mean == pytest.approx(0.5 + SPREAD.mean())
        assert line.lead == pytest.approx(0.2)
        assert 0.1 < line.low < 0.2 < line.high < 0.3


def test_a_control_can_be_the_best_other_and_without_one_there_is_no_lead():
    assert leads(rows({"APEX time": 0.5, "energy": 0.7}))["rival"].tolist() == ["energy"] * 2
    assert list(leads(rows({"APEX time": 0.5, "greedy oracle": 0.7})).columns) == list(LEAD_COLUMNS)
    assert not len(leads(rows({"APEX time": 0.5, "greedy oracle": 0.7})))
    first_half = np.arange(N_CLIPS) < 4
    apart = {"APEX time": np.where(first_half, 0.5, np.nan), "LRP": np.where(first_half, np.nan, 0.4)}
    assert not len(leads(rows(apart)))  # no clip has both


NOISE = np.random.default_rng(0).normal(size=N_CLIPS)
NOISE -= NOISE.mean()


@pytest.mark.parametrize(
    ("scores", "heading"),
    [
        ({"APEX time": 0.5, "Saliency": 0.25, "random": 0.0}, "APEX time is ahead of Saliency by 0.25"),
        ({"APEX time": 0.2, "Saliency": 0.25, "random": 0.0}, "Saliency is ahead of APEX time by 0.05"),
        ({"APEX time": 0.501, "Saliency": 0.5, "random": 0.0}, "APEX time is ahead of Saliency by 0.001"),
        (
            {"APEX time": 0.5, "Saliency": 0.501 + 0.1 * NOISE, "random": 0.0},
            "Saliency and APEX time cannot be told apart",
        ),
        ({"APEX time": 0.01 + 0.1 * NOISE, "Saliency": -0.1}, "No method is shown to be better than random regions"),
        ({"APEX time": 0.31 + NOISE, "Saliency": 0.3}, "APEX time and Saliency cannot be told apart"),
        ({"APEX time": 0.5, "APEX square": 0.4, "random": 0.0}, "APEX time is ahead of APEX square by 0.1"),
        ({"APEX time": 0.5, "APEX square": 0.5}, "APEX time and APEX square cannot be told apart"),
        ({"APEX time": 0.5, "Saliency": 0.3, "energy": 0.7}, "energy, a control, scores higher than every method"),
        ({"APEX time": 0.5, "energy": 0.2}, "APEX time is the only method"),
        ({"energy": 0.5, "random": 0.4}, "Only controls were scored"),
    ],
)
def test_the_heading_of_a_run_says_who_is_ahead_or_why_that_cannot_be_said(scores, heading):
    scores = {"random": 0.0} | scores
    assert best_figure(rows(scores), "LayerGradCam", "scenes, cnn, 8 clips").get_suptitle() == heading


def test_two_clips_have_no_winner():
    table = rows({"APEX time": 0.5, "Saliency": 0.2, "random": 0.6})
    figure = best_figure(table[table["clip"] < 2], "LayerGradCam", "scenes, cnn, 2 clips")
    assert figure.get_suptitle() == "Fewer than 3 clips do not say which method is ahead"


def test_the_figure_of_a_run_shows_few_methods_at_their_means():
    scores = {"APEX time": 0.5, "APEX square": 0.4, "Saliency": 0.6, "LRP": 0.45, "LayerGradCam": 0.3}
    scores |= {"energy": 0.2, "random": 0.0, "blurred random": 0.1, "greedy oracle": 1.0}
    (panel,) = best_figure(rows(scores), "LayerGradCam", "scenes, cnn, 8 clips").axes
    shown = [text.get_text() for text in panel.get_yticklabels()]
    assert shown == ["random", "energy", "LayerGradCam", "APEX time", "Saliency"]
    drawn = [each.get_children()[0].get_xydata()[0] for each in panel.containers]
    expected = [[scores[name] + SPREAD.mean(), place] for place, name in enumerate(shown)]
    np.testing.assert_allclose(drawn, expected, atol=1e-9)
    assert [text.get_text() for text in panel.texts] == [f"{value:.2f}" for value, _ in expected]
    assert panel.get_title() == "scenes, cnn, 8 clips; the best of each family, chosen on these clips"


def test_the_figure_of_a_run_shows_the_best_method_of_the_user():
    scores = {"APEX time": 0.5, "Saliency": 0.6, "mine": 0.3, "mine, twice": 0.35, "random": 0.0}
    (panel,) = best_figure(rows(scores), "LayerGradCam", "", ("mine", "mine, twice", "failed")).axes
    assert [text.get_text() for text in panel.get_yticklabels()] == ["random", "mine, twice", "APEX time", "Saliency"]


def test_there_is_no_figure_where_nothing_can_be_compared():
    assert best_figure(rows({"APEX time": 0.5}), "LayerGradCam", "") is None
    assert leads_figure({"scenes cnn": rows({"APEX time": 0.5, "APEX square": 0.4})}) is None


def test_the_figure_of_runs_counts_who_is_ahead():
    runs = {
        "scenes cnn": rows({"APEX time": 0.5, "Saliency": 0.4}),
        "digits cnn": rows({"APEX time": 0.3, "Saliency": 0.4}, grids=("time",)),
        "vocoded cnn": rows({"APEX time": 0.4, "Saliency": 0.4 + NOISE}, grids=("square",)),
        "spliced cnn": rows({"Saliency": 0.4}),
    }
    figure = leads_figure(runs)
    heading = "APEX is ahead in 2 of 4 comparisons, another method in 1; the others cannot be told apart"
    assert figure.get_suptitle() == heading
    (panel,) = figure.axes
    assert [text.get_text() for text in panel.get_yticklabels()] == ["vocoded cnn", "digits cnn", "scenes cnn"]
    drawn = [each.get_children()[0].get_xydata()[0] for each in panel.containers]
    np.testing.assert_allclose([x for x, _ in drawn], [0, -0.1, 0.1, 0.1], atol=1e-9)
    assert [round(y) for _, y in drawn] == [0, 1, 2, 2]
    assert drawn[2][1] > drawn[3][1]  # square above time
    colours = [each.get_children()[0].get_color() for each in panel.containers]
    assert len(set(colours)) == 3
    assert colours[2] == colours[3]
