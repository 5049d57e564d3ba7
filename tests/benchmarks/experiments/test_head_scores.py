"""Scores of trained heads against counts, and the own head, which agrees with itself."""

import math
from unittest.mock import patch

import pytest
import torch
from torch import nn

from benchmarks.classifiers import trained_heads
from benchmarks.classifiers.trained_heads import HEADS, PrototypeHead, TrainedHead
from benchmarks.experiments.head_scores import OWN, head_line
from benchmarks.methods import LEARNERS
from benchmarks.methods.learners import FailedTrainingError, Learner
from benchmarks.methods.trained_head_maps import head_learner
from tests.small import small_subject


@pytest.fixture(scope="module")
def small():
    return small_subject()


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPTUM_APEX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(trained_heads, "STEPS", 5)


def test_the_own_head_agrees_with_itself(small):
    (line,) = head_line(small, OWN).to_dict("records")
    with torch.no_grad():
        predicted = small.model(small.task.test.log_mels).argmax(1)
    assert line["agreement"] == 1
    assert line["top_1"] == (predicted == small.task.test.labels).double().mean().item()
    assert math.isnan(line["seconds"])
    assert math.isnan(line["classes"])
    assert math.isnan(line["equal_error_rate"])


@pytest.mark.parametrize(
    ("name", "n_prototypes"),
    [("AudioProtoPNet, 1 prototype", 8), ("AudioProtoPNet, 10 prototypes, asymmetric loss", 80)],
)
def test_a_trained_head_is_counted_clip_by_clip(small, name, n_prototypes):
    kept = []

    def train(network, clips):
        LEARNERS_BEFORE[head_learner(name)].train(network, clips)
        kept.append(network)

    LEARNERS_BEFORE = dict(LEARNERS)
    with patch.dict(LEARNERS, {head_learner(name): Learner(LEARNERS[head_learner(name)].build, train)}):
        (line,) = head_line(small, name).to_dict("records")
    head = kept[0].eval()
    assert isinstance(head, PrototypeHead)
    hits = agreements = 0
    nearest = {"train": [], "test": []}
    with torch.no_grad():
        for split in nearest:
            for inputs, label in getattr(small.task, split):
                features = small.model.features(inputs[None])
                nearest[split].append((head.similarities(features).amax((3, 4)).flatten().tolist(), label))
                if split == "test":
                    hits += head(features).argmax().item() == label
                    agreements += head(features).argmax().item() == small.model(inputs[None]).argmax().item()
    assert line["top_1"] == pytest.approx(hits / 16)
    assert line["agreement"] == pytest.approx(agreements / 16)
    for split, measure in (("train", "classes"), ("test", "classes_unseen")):
        shares = []
        for prototype in range(n_prototypes):
            first = sorted(nearest[split], key=lambda clip: -clip[0][prototype])[:5]
            labels = [label for _, label in first]
            shares.append(max(labels.count(label) for label in labels) / 5)
        assert line[measure] == pytest.approx(sum(shares) / n_prototypes)
    assert line["seconds"] > 0


def test_the_channel_head_has_no_prototypes(small):
    (line,) = head_line(small, "InfoDisent").to_dict("records")
    assert math.isnan(line["classes"])
    assert 0 <= line["agreement"] <= 1


def test_a_training_that_fails_is_an_error(small):
    name = next(iter(HEADS))

    def train(network, clips):
        raise ValueError("no labels")

    broken = Learner(lambda clips: nn.Linear(1, 1), train)
    with (
        patch.dict(LEARNERS, {head_learner(name): broken}),
        pytest.raises(FailedTrainingError, match=r"^error \(no labels\)$"),
    ):
        head_line(small, name)


def test_the_base_class_asks_for_maps_and_a_penalty():
    with pytest.raises(NotImplementedError):
        TrainedHead().evidence(torch.zeros(1, 1, 1, 1), torch.zeros(1))
    with pytest.raises(NotImplementedError):
        TrainedHead().penalty()
