"""Region grids that differ from clip to clip: the segments of words or phonemes, from the map to the report."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.methods import METHODS
from benchmarks.reports import run_figures
from benchmarks.runs.maps import Map, RegionSums
from benchmarks.runs.results import Results
from benchmarks.runs.runner import Settings, run
from benchmarks.runs.scoring import score_methods
from benchmarks.runs.stage import Stage
from captum_apex.masking import mean_fill, named_grid, region_means, region_sums, segment_grid
from captum_apex.metrics import deletion, insertion, masked_scores
from tests.small import small_subject

TIMES = {0: (0.3, 0.9), 5: (0.5,), 10: (0.1, 0.2, 0.4, 0.8, 1.1, 1.5, 1.6, 1.9), 15: (0.7, 1.3, 1.31)}
QUICK = ("energy", "Saliency", "FeatureAblation", "APEX time, two-sided")


@pytest.fixture(scope="module")
def small():
    subject = small_subject()
    return dataclasses.replace(subject, task=dataclasses.replace(subject.task, segments=TIMES.get))


def rows_of(subject, folder, **settings):
    settings = Settings(QUICK, fills=("mean",), clips=4, points=5, **settings)
    names = {"methods": settings.methods, "grids": settings.grids, "fills": settings.fills}
    about = names | {"command": "run", "reference": "energy", "sources": {}}
    results = Results.open(folder, {"task": "small"}, about)
    run(subject, settings, results)
    return pd.read_csv(results.collect())


@pytest.fixture(scope="module")
def rows(small, tmp_path_factory):
    return rows_of(small, tmp_path_factory.mktemp("runs") / "own", grids=("segments", "segment-means"))


def grid_of(subject, clip):
    return segment_grid((64, 126), [subject.task.axes.frame_position(time) for time in TIMES[clip]])


def probability(subject):
    return lambda inputs: subject.model(inputs).softmax(1)


@pytest.mark.parametrize("grid_name", ["segments", "segment-means"])
def test_every_clip_is_masked_by_its_own_segments(small, rows, grid_name):
    own = rows[rows.grid == grid_name].set_index(["method", "clip"])
    assert set(own.status) == {"ok"}
    for clip in TIMES:
        inputs, grid = small.task.test[clip][0][None], grid_of(small, clip)
        energy = inputs - small.task.silence
        values = region_means(energy, grid) if grid_name == "segment-means" else region_sums(energy, grid)
        ranked = values[:, grid][:, None] / grid.flatten().bincount()[grid]  # a map with these sums over the segments
        row = own.loc["energy", clip]
        settings = {"grid": grid, "target": int(row.predicted), "points": 5, "seed": 0}
        arguments = (probability(small), inputs, ranked, mean_fill(inputs))
        assert row.deletion == pytest.approx(deletion(*arguments, **settings).item(), abs=1e-5)
        assert row.insertion == pytest.approx(insertion(*arguments, **settings).item(), abs=1e-5)
        assert len(row.fraction.split()) == min(5, len(grid.unique()) + 1)


def test_a_method_of_regions_gets_the_segments_of_each_clip(small):
    stage = Stage.of(small, 4)
    query = stage.query(stage.grid("segments"), stage.fill("mean"), ("FeatureAblation",))
    (found,) = METHODS["FeatureAblation"].maps(query)
    sums = RegionSums.of(Map(found, "ok"), stage.grid("segments"), None).sums
    assert sums.shape == (4, 9)
    for i, clip in enumerate(TIMES):
        grid = grid_of(small, clip)
        n = len(grid.unique())
        removed = torch.cat([torch.zeros(1, n), torch.eye(n)]).bool()[None]
        inputs, fill = (each[i : i + 1] for each in (query.inputs, query.fill))
        whole, *without = masked_scores(small.model, inputs, fill, removed, grid, query.target[i : i + 1])[0]
        assert sums[i, :n].tolist() == pytest.approx([(whole - each).item() for each in without], abs=1e-4)
        assert not sums[i, n:].any()


def test_with_the_same_segments_in_all_clips_the_rows_are_those_of_an_even_grid(small, tmp_path):
    """The boundaries are those of the grid `time`, in the middle between the centres of two frames."""
    edges = named_grid("time", (1, 126))[0].diff().nonzero()[:, 0] + 1
    times = small.task.axes.seconds(edges.double()).tolist()
    even = dataclasses.replace(small, task=dataclasses.replace(small.task, segments=lambda _: times))
    found = rows_of(even, tmp_path / "even", grids=("time", "segments", "segment-means")).drop(columns=["seconds"])
    by_grid = dict(list(found.groupby("grid")))
    wanted = by_grid["time"].drop(columns="grid").reset_index(drop=True)
    got = by_grid["segments"].drop(columns="grid").reset_index(drop=True)
    numbers = [name for name in wanted.select_dtypes("number") if name not in ("passes", "memory")]
    np.testing.assert_allclose(got[numbers], wanted[numbers], rtol=1e-4, atol=1e-5)


def test_a_failure_in_one_clip_is_the_row_of_the_method(small):
    stage = Stage.of(small, 4)
    sums = RegionSums.of(Map(stage.inputs, "ok"), stage.grid("segments"), None)
    damaged = dataclasses.replace(sums, sums=sums.sums.clone().index_fill(0, torch.tensor([2]), torch.nan))
    found = score_methods(stage, "segments", "mean", {"energy": sums}, 4)
    assert [row.clip for row in found["energy"]] == list(TIMES)
    found = score_methods(stage, "segments", "mean", {"energy": damaged}, 4)
    (row,) = found["energy"]
    assert row.clip == -1
    assert "NaN in clip 0" in row.status


@pytest.mark.parametrize("times", [(), (0.0, 30.0)])
def test_a_clip_that_is_not_divided_is_refused(small, times):
    undivided = dataclasses.replace(small, task=dataclasses.replace(small.task, segments=lambda _: times))
    with pytest.raises(ValueError, match="expected times that divide test clip 0 into segments"):
        Stage.of(undivided, 4)


def test_segments_are_known_for_test_clips_alone(small):
    with pytest.raises(ValueError, match="expected test clips whose segments are known for the grid 'segments'"):
        Stage.of(small, 2, "train").grid("segments")


def test_curves_with_several_numbers_of_points_have_a_common_mean(rows):
    own = rows[rows.grid == "segments"]
    curves, n_clips = run_figures.mean_curves(own, ["energy"])
    points, mean, _, _ = curves["energy"]["deletion"]
    assert n_clips == 4
    assert points.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    of_clips = [
        np.interp(points, np.array(row.fraction.split(), float), np.array(row.deletion_curve.split(), float))
        for _, row in own[own.method == "energy"].iterrows()
    ]
    assert mean == pytest.approx(np.mean(of_clips, 0))
