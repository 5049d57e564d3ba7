"""Scores on a frozen version, and how one is made."""

import dataclasses

import pandas as pd
import pytest

from benchmarks.experiments import frozen_scores
from benchmarks.experiments.frozen_scores import freeze, frozen_rows, new_version
from benchmarks.runs import frozen
from benchmarks.runs.frozen import FrozenError, FrozenVersion
from benchmarks.runs.results import Results
from benchmarks.runs.runner import Settings, run
from benchmarks.tasks import ClipDataset
from tests.small import small_subject


@pytest.fixture(scope="module")
def small():
    return small_subject()


@pytest.fixture
def version(small, tmp_path, monkeypatch):
    """A version of the small subject, which stands for the one that is prepared from its weights."""
    monkeypatch.setattr(frozen_scores, "prepare", lambda *_, **__: small)
    monkeypatch.setattr(frozen, "prepare", lambda *_, **__: small)
    plan = dataclasses.replace(new_version(4, tmp_path / "frozen"), grids=("time",), fills=("mean",), points=3)
    return freeze(plan, [("scenes", "cnn", 0, 3)])


def test_a_version_is_made_of_what_is_here_and_never_again(version, small):
    assert FrozenVersion.load(4, version.folder.parent) == version
    entry = version.entries["scenes-cnn-0"]
    hits = sum(small.model(inputs[None]).argmax().item() == label for inputs, label in small.task.test)
    assert entry.accuracy == hits / 16
    with pytest.raises(FrozenError, match="is there; a frozen version is never changed"):
        freeze(version, [])


def test_the_rows_are_those_of_a_run(version, small, tmp_path):
    rows, exact = frozen_rows(version, "scenes-cnn-0", ["energy", "random"], tmp_path / "here")
    assert exact
    settings = Settings(("energy", "random"), ("time",), ("mean",), clips=3, points=3)
    about = {"methods": settings.methods, "grids": settings.grids, "fills": settings.fills}
    results = Results.open(
        tmp_path / "run", {"task": "small"}, {**about, "command": "", "reference": None, "sources": {}}
    )
    run(small, settings, results)
    wanted = pd.read_csv(results.collect())
    pd.testing.assert_frame_equal(rows.drop(columns="seconds"), wanted.drop(columns="seconds"))
    again, _ = frozen_rows(version, "scenes-cnn-0", ["energy", "random"], tmp_path / "here")
    pd.testing.assert_frame_equal(again, rows)  # to the second: nothing was computed again


def test_nothing_is_scored_on_other_clips(version, small, tmp_path, monkeypatch):
    clips = small.task.test.log_mels.clone()
    clips[version.entries["scenes-cnn-0"].indices[1]] += 0.1
    test = ClipDataset(clips, small.task.test.labels)
    for change in ({"test": test}, {"silence": small.task.silence - 1}):
        other = dataclasses.replace(small, task=dataclasses.replace(small.task, **change))
        monkeypatch.setattr(frozen, "prepare", lambda *_, subject=other, **__: subject)
        with pytest.raises(FrozenError, match="as in the frozen version"):
            frozen_rows(version, "scenes-cnn-0", ["energy"], tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_other_files_of_methods_are_another_folder(version, tmp_path):
    for digest in ("1f", "2e", "1f"):
        frozen_rows(version, "scenes-cnn-0", ["energy"], tmp_path / "here", sources={"energy": digest})
    assert len(list((tmp_path / "here").iterdir())) == 2


def test_without_methods_there_are_no_rows(version, tmp_path):
    rows, exact = frozen_rows(version, "scenes-cnn-0", [], tmp_path / "here")
    assert exact
    assert rows.empty
