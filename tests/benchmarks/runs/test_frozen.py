"""Frozen versions: what is compared, each kind of change, and the weights that are published."""

import dataclasses

import numpy as np
import pytest
import torch

from benchmarks.classifiers.networks import NETWORKS
from benchmarks.experiments.frozen_scores import ENTRIES
from benchmarks.runs import frozen
from benchmarks.runs.frozen import FROZEN, Entry, FrozenError, FrozenVersion
from benchmarks.runs.results import digest_of
from benchmarks.runs.stage import Stage
from benchmarks.tasks import ClipDataset, crowded, scenes
from captum_apex.files import read_tensors
from captum_apex.layers.models import fingerprint
from tests.small import small_subject

GRIDS = ("time", "square")
FILLS = ("silence", "mean")


@pytest.fixture(scope="module")
def small():
    return small_subject()


@pytest.fixture(scope="module")
def entry(small):
    return entry_of(small)


def entry_of(subject, **changes):
    stage = dataclasses.replace(Stage.of(subject, 3), **changes)
    return Entry.of(subject, stage, 0.5, GRIDS, FILLS)


def test_the_same_is_the_same_to_the_last_bit(small, entry):
    assert entry.check(entry_of(small))
    assert entry.name == "scenes-cnn-0"
    assert entry.indices == Stage.of(small, 3).indices


def test_clips_that_are_rounded_otherwise_are_the_same_up_to_rounding(small, entry):
    inputs = Stage.of(small, 3).inputs
    assert not entry.check(entry_of(small, inputs=inputs + 1e-5 * torch.randn(inputs.shape)))


def test_training_clips_that_are_rounded_otherwise_are_the_same_up_to_rounding(entry):
    assert not entry.check(dataclasses.replace(entry, training="other"))


def test_another_training_clip_is_noticed_where_the_explained_clips_are_the_same(small, entry):
    train = small.task.train
    for clips in (train.log_mels.roll(1, 0), torch.cat([train.log_mels[:1] + 1, train.log_mels[1:]])):
        task = dataclasses.replace(small.task, train=ClipDataset(clips, train.labels))
        with pytest.raises(FrozenError, match="expected the training clips of scenes-cnn-0 as in the frozen version"):
            entry.check(entry_of(dataclasses.replace(small, task=task)))


def test_another_clip_is_named(small, entry):
    inputs = Stage.of(small, 3).inputs.clone()
    inputs[1] += 0.01
    with pytest.raises(FrozenError, match=f"test clip {entry.indices[1]} of scenes with means of .*recordings, or the"):
        entry.check(entry_of(small, inputs=inputs))
    inputs = Stage.of(small, 3).inputs.clone()
    inputs[2] = inputs[2].mean() + 1.01 * (inputs[2] - inputs[2].mean())
    with pytest.raises(FrozenError, match=f"test clip {entry.indices[2]} of scenes with deviations of"):
        entry.check(entry_of(small, inputs=inputs))


def test_another_weight_is_noticed(small, entry):
    weights = {name: value.clone() for name, value in small.model.state_dict().items()}
    try:
        with torch.no_grad():
            small.model.classifier.bias[0] += 1e-6
        with pytest.raises(FrozenError, match="expected the weights of scenes-cnn-0 as in the frozen version"):
            entry.check(entry_of(small))
    finally:
        small.model.load_state_dict(weights)
    assert entry.check(entry_of(small))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grids": {"time": digest_of(torch.zeros(2)), "square": ""}}, "the grids of scenes-cnn-0"),
        ({"fills": {"silence": "", "mean": ""}}, "the fill silence of scenes-cnn-0"),
        ({"predicted": [7, 7, 7]}, "the predictions of scenes-cnn-0"),
        ({"indices": [0, 1, 2]}, "the indices of scenes-cnn-0"),
        ({"silence": -9.0}, "the silence of scenes-cnn-0"),
        ({"truth": "other"}, "the truth of scenes-cnn-0"),
        ({"inputs": "other", "silence": -9.0}, "the silence of scenes-cnn-0 .*got -9.0000"),
        ({"inputs": "other", "truth_shares": [0.5, 0.5, 0.5]}, "the share of the truth in test clip 0"),
        ({"inputs": "other", "truth_shares": []}, "the truth of scenes-cnn-0"),
        ({"training": "other", "truth": "other"}, "the truth of scenes-cnn-0"),
        ({"training": "other", "training_means": [0.0] * 8}, "the training clips of scenes-cnn-0"),
        ({"training": "other", "training_deviations": [9.0] * 8}, "the training clips of scenes-cnn-0"),
        ({"training": "other", "training_means": []}, "the training clips of scenes-cnn-0"),
        ({"inputs": "", "fill_means": {"silence": -9.0, "mean": 0.0}}, "the fill silence of .*got -9.0000"),
    ],
)
def test_every_other_change_is_named(entry, changes, message):
    with pytest.raises(FrozenError, match=f"expected {message}"):
        entry.check(dataclasses.replace(entry, **changes))


def test_a_version_comes_back_with_the_weights_of_its_networks(small, entry, tmp_path, monkeypatch):
    version = FrozenVersion(tmp_path / "3", 3, GRIDS, FILLS, 7, {entry.name: entry})
    version.save({entry.name: small.model})
    again = FrozenVersion.load(3, tmp_path)
    assert again == version
    given = {}

    def prepare(task, network, *, seed, weights, progress):
        given.update(task=task, network=network, seed=seed, weights=weights)
        return small

    monkeypatch.setattr(frozen, "prepare", prepare)
    subject = again.subject(entry.name)
    assert (given["task"], given["network"], given["seed"]) == ("scenes", "cnn", 0)
    assert all(torch.equal(value, given["weights"][name]) for name, value in small.model.state_dict().items())
    assert again.check(subject, Stage.of(subject, 3))


def test_versions_that_are_missing_or_damaged_say_so(small, entry, tmp_path):
    FrozenVersion(tmp_path / "1", 1, GRIDS, FILLS, 7, {entry.name: entry}).save({entry.name: small.model})
    with pytest.raises(FrozenError, match="expected a frozen version 2, but there are: 1"):
        FrozenVersion.load(2, tmp_path)
    with pytest.raises(FrozenError, match="expected a frozen version 2, but there are: none"):
        FrozenVersion.load(2, tmp_path / "elsewhere")
    weights = tmp_path / "1" / f"{entry.name}.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(FrozenError, match=f"expected the weights of {entry.name} in "):
        FrozenVersion.load(1, tmp_path).subject(entry.name)
    path = tmp_path / "1" / "version.json"
    path.write_text(path.read_text().replace("scenes", "digits"))
    with pytest.raises(FrozenError, match="to hold a frozen version, but it is damaged"):
        FrozenVersion.load(1, tmp_path)


def test_the_digest_depends_on_shape_and_values():
    values = torch.arange(6.0)
    assert digest_of(values) == digest_of(values.clone())
    assert digest_of(values) != digest_of(values.view(2, 3))
    assert digest_of(values.view(2, 3).T) == digest_of(values.view(2, 3).T.contiguous())
    assert digest_of(values) != digest_of(values + 1e-6)


@pytest.mark.parametrize("path", sorted(FROZEN.glob("*/version.json")), ids=lambda path: path.parent.name)
def test_the_published_weights_are_those_of_the_entries(path):
    version = FrozenVersion.load(int(path.parent.name))
    assert list(version.entries) == [f"{task}-{network}-{seed}" for task, network, seed, _ in ENTRIES]
    for (*_, n_clips), (name, entry) in zip(ENTRIES, version.entries.items(), strict=True):
        weights, _ = read_tensors(path.parent / f"{name}.safetensors", {"captum-apex frozen 1": True})
        model = NETWORKS[entry.network](len(weights["classifier.bias"])).eval()
        model.load_state_dict(weights)
        assert fingerprint(model) == entry.weights
        assert len(entry.indices) == len(entry.predicted) == len(entry.means) == n_clips
    assert sum(each.stat().st_size for each in path.parent.iterdir()) < 5e6


MADE = {"scenes": (scenes.scene, scenes.truth), "crowded": (crowded.crowded_scene, crowded.audible_truth)}


@pytest.mark.parametrize("task", MADE)
def test_the_clips_of_the_published_version_are_those_that_its_truth_belongs_to(task):
    """The normalisation, whose training clips are not made here, is a line: its values tell which clips they are of."""
    make, truth = MADE[task]
    entry = FrozenVersion.load(1).entries[f"{task}-cnn-0"]
    clips = [make(0, "test", index) for index in entry.indices]
    levels = [scenes.LOG_MEL.decibels([torch.from_numpy(clip.waveform)[None]]).double().mean().item() for clip in clips]
    means = np.array([entry.silence, *entry.means])
    slope, offset = np.polyfit([scenes.LOG_MEL.floor, *levels], means, 1)
    np.testing.assert_allclose(slope * np.array([scenes.LOG_MEL.floor, *levels]) + offset, means, atol=1e-3)
    shares = [truth(clip).double().mean().item() for clip in clips]
    np.testing.assert_allclose(entry.truth_shares, shares, atol=1e-3)
