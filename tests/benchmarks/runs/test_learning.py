"""Networks that methods learn: which are trained, on what, how often, and what happens if the training fails."""

import dataclasses
import pickle
from functools import partial
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from benchmarks.methods import LEARNERS, METHODS, learner, load_methods, method, registry
from benchmarks.methods.learners import FailedTrainingError, LearnedNetwork, Learner
from benchmarks.runs.learning import LEARNED, learned_networks, training_clips
from benchmarks.runs.maps import run_method
from benchmarks.runs.results import Results
from benchmarks.runs.runner import Settings, run
from benchmarks.runs.stage import Stage
from tests.small import small_subject


@pytest.fixture(autouse=True)
def own_registries(tmp_path, monkeypatch):
    """The registries of this test alone, and an empty cache."""
    monkeypatch.setenv("CAPTUM_APEX_CACHE", str(tmp_path / "cache"))
    with patch.dict(METHODS), patch.dict(LEARNERS), patch.dict(registry._LOADED):
        yield


@pytest.fixture(scope="module")
def small():
    return small_subject()


@pytest.fixture
def calls():
    """The training clips of each call of a learner of the mean clip, for a method that is the difference from it."""
    found = []

    @learner("mean clip", build=lambda clips: nn.BatchNorm1d(clips.inputs[0].numel(), momentum=None, affine=False))
    def train(network, clips):
        found.append(clips)
        network.train()(clips.inputs.flatten(1))

    @method("difference from the mean", learned=["mean clip"])
    def explain(query):
        mean = query.network("mean clip").running_mean.view(query.inputs.shape[1:])
        return query.inputs - mean

    return found


def scores(subject, folder, methods, **options):
    settings = Settings(methods, grids=("time",), fills=("mean",), clips=3, points=3, **options)
    about = {"methods": settings.methods, "grids": settings.grids, "fills": settings.fills, "command": "run"}
    results = Results.open(folder, {"task": "small"}, {**about, "reference": "energy", "sources": {}})
    run(subject, settings, results)
    return pd.read_csv(results.collect())


def test_a_network_is_trained_once_on_all_training_clips_with_a_copy_of_the_model(small, calls):
    networks = learned_networks(small, ["mean clip", "mean clip"])
    again = learned_networks(small, ["mean clip"])
    assert len(calls) == 1
    clips = calls[0]
    assert torch.equal(clips.inputs, small.task.train.log_mels)
    assert torch.equal(clips.labels, small.task.train.labels)
    with torch.no_grad():
        assert torch.equal(clips.target, small.model(small.task.train.log_mels).argmax(1))
    assert clips.model is not small.model
    assert clips.layer is clips.model.features
    assert not any(parameter.requires_grad for parameter in clips.model.parameters())
    assert all(parameter.requires_grad for parameter in small.model.parameters())
    mean = small.task.train.log_mels.double().mean(0).flatten()
    for each in (networks["mean clip"], again["mean clip"], pickle.loads(pickle.dumps(networks["mean clip"]))):
        network = each.network("mean clip", clips)
        torch.testing.assert_close(network.running_mean.double(), mean, atol=1e-5, rtol=1e-5)
        assert not network.training
        assert each.seconds == networks["mean clip"].seconds > 0


def test_the_weights_depend_on_the_seed_and_on_nothing_that_was_drawn_before(small, tmp_path, monkeypatch):
    @learner("noise", build=lambda clips: nn.Linear(3, 3))
    def train(network, clips):
        network.weight.data += torch.rand(3, 3)

    found = []
    for seed, folder in ((0, "a"), (0, "b"), (1, "c")):
        monkeypatch.setenv("CAPTUM_APEX_CACHE", str(tmp_path / folder))
        torch.rand(5)
        state = torch.get_rng_state()
        found.append(learned_networks(dataclasses.replace(small, seed=seed), ["noise"])["noise"].weights["weight"])
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_run_trains_what_its_methods_need_and_writes_how_long_it_took(small, calls, tmp_path):
    rows = scores(small, tmp_path / "without", ("energy",))
    assert not calls
    assert not (tmp_path / "without" / LEARNED).exists()
    rows = scores(small, tmp_path / "with", ("energy", "difference from the mean"))
    assert len(calls) == 1
    assert set(rows.status) == {"ok"}
    table = pd.read_csv(tmp_path / "with" / LEARNED)
    assert table.learner.tolist() == ["mean clip"]
    assert table.status.tolist() == ["ok"]
    assert table.seconds[0] > 0
    stage = Stage.of(small, 3)
    wanted = run_method(
        METHODS["energy"], stage.query(stage.grid("time"), stage.fill("mean"))
    )  # another method is as before
    assert wanted["energy"].status == "ok"


def test_a_method_gets_its_network_in_another_process(small, calls, tmp_path):
    one = scores(small, tmp_path / "one", ("difference from the mean",))
    stage = pickle.loads(
        pickle.dumps(dataclasses.replace(Stage.of(small, 3), learned=learned_networks(small, ["mean clip"])))
    )
    query = stage.query(stage.grid("time"), stage.fill("mean"), ("difference from the mean",))
    found = run_method(METHODS["difference from the mean"], query)["difference from the mean"]
    torch.testing.assert_close(
        found.attributions, stage.inputs - small.task.train.log_mels.mean(0), atol=1e-5, rtol=1e-4
    )
    assert found.status == "ok"
    assert set(one.status) == {"ok"}


def test_a_training_that_fails_is_the_status_of_the_methods_that_need_it(small, tmp_path):
    @learner("broken", build=lambda clips: nn.Linear(1, 1))
    def train(network, clips):
        raise NotImplementedError("no twins")

    @method("needs it", learned=["broken"])
    def explain(query):
        return query.network("broken").weight * query.inputs  # without a call of the network

    rows = scores(small, tmp_path / "run", ("needs it", "energy"))
    assert set(rows[rows.method == "needs it"].status) == {"unsupported (no twins)"}
    assert set(rows[rows.method == "energy"].status) == {"ok"}
    assert pd.read_csv(tmp_path / "run" / LEARNED).status.tolist() == ["unsupported (no twins)"]
    with pytest.raises(FailedTrainingError, match=r"^unsupported \(no twins\)$"):
        LearnedNetwork(failure="unsupported (no twins)").network("broken", Stage.of(small, 1))


def test_a_network_that_fits_the_training_clips_alone_is_a_failure_of_its_methods(small, tmp_path):
    @learner("memory", build=lambda clips: nn.Embedding(len(clips.inputs), 3))
    def train(network, clips):
        pass

    @method("remembers", learned=["memory"])
    def explain(query):
        return query.network("memory").weight.sum() * query.inputs

    rows = scores(small, tmp_path / "run", ("remembers", "energy"))
    assert rows[rows.method == "remembers"].status.str.startswith("error (Error(s) in loading state_dict").all()
    assert set(rows[rows.method == "energy"].status) == {"ok"}


def test_a_training_has_one_thread_and_seeded_generators(small, tmp_path, monkeypatch):
    seen = []

    @learner("noise", build=lambda clips: nn.Linear(1, 1))
    def train(network, clips):
        seen.append((torch.get_num_threads(), np.random.rand(), torch.rand(1).item()))  # noqa: NPY002

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for folder in ("a", "b"):
            monkeypatch.setenv("CAPTUM_APEX_CACHE", str(tmp_path / folder))
            np.random.rand()  # noqa: NPY002
            learned_networks(small, ["noise"])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen[0] == seen[1]
    assert seen[0][0] == 1


def test_what_a_network_depends_on_trains_it_again(small, calls):
    learned_networks(small, ["mean clip"])
    bases = {scheme: dataclasses.replace(basis, U=basis.U.flip(0)) for scheme, basis in small.bases.items()}
    learned_networks(dataclasses.replace(small, bases=bases), ["mean clip"])
    assert len(calls) == 2
    for steps in (1, 2):
        LEARNERS["mean clip"] = Learner(LEARNERS["mean clip"].build, partial(count_steps, steps=steps, calls=calls))
        learned_networks(small, ["mean clip"])
    assert len(calls) == 4


def count_steps(network, clips, steps, calls):
    calls.append(steps)


def test_the_table_of_networks_keeps_those_of_earlier_commands(small, calls, tmp_path):
    @learner("second", build=lambda clips: nn.Linear(1, 1))
    def train(network, clips):
        pass

    method("second method", learned=["second"])(lambda query: query.inputs)
    scores(small, tmp_path / "run", ("difference from the mean",))
    scores(small, tmp_path / "run", ("second method",))
    scores(small, tmp_path / "run", ("second method", "energy"))
    assert pd.read_csv(tmp_path / "run" / LEARNED).learner.tolist() == ["mean clip", "second"]
    assert len(calls) == 1


def test_a_method_outside_of_a_run_says_that_only_a_run_trains(small, calls):
    stage = Stage.of(small, 2)
    query = stage.query(stage.grid("time"), stage.fill("mean"), ("difference from the mean",))
    with pytest.raises(ValueError, match="by the learner 'mean clip', which only a run trains.* there are: none"):
        METHODS["difference from the mean"].maps(query)


def test_names_of_learners_are_checked_where_they_are_registered(calls):
    with pytest.raises(ValueError, match="expected a new name for a learner, but 'mean clip' is registered already"):
        learner("mean clip", build=nn.Identity)(print)
    with pytest.raises(ValueError, match="expected names of learners, such as .*mean clip, but got 'median clip'"):
        method("new", learned=["median clip"])(print)
    assert "new" not in METHODS


def test_a_file_can_register_a_learner_and_a_broken_one_leaves_none(tmp_path):
    text = """
from torch import nn
from benchmarks.methods import learner, method

@learner("scale", build=lambda clips: nn.Linear(1, 1, bias=False))
def train(network, clips):
    network.weight.data.fill_(2.0)

@method("scaled", learned=["scale"])
def explain(query):
    return query.network("scale")(query.inputs[..., None])[..., 0]
"""
    broken = tmp_path / "broken.py"
    broken.write_text(text + "1 / 0\n")
    with pytest.raises(ValueError, match="raises ZeroDivisionError"):
        load_methods(broken)
    assert "scale" not in LEARNERS
    whole = tmp_path / "whole.py"
    whole.write_text(text)
    assert load_methods(whole) == ["scaled"]
    small = small_subject()
    stage = dataclasses.replace(Stage.of(small, 2), learned=learned_networks(small, ["scale"]))
    query = stage.query(stage.grid("time"), stage.fill("mean"), ("scaled",))
    assert torch.equal(run_method(METHODS["scaled"], query)["scaled"].attributions, 2 * stage.inputs)


def test_training_clips_have_the_twins_of_the_training_part(small):
    assert training_clips(small).twins is None
    swapped = dataclasses.replace(small, task=dataclasses.replace(small.task, twin=lambda index: index ^ 1))
    twins = training_clips(swapped).twins
    log_mels = small.task.train.log_mels
    assert torch.equal(twins[[0, 1, 6]], log_mels[[1, 0, 7]])
    stage = Stage.of(swapped, 4)
    for i, index in enumerate(stage.indices):
        assert torch.equal(stage.twins[i], small.task.test.log_mels[index ^ 1])
    assert torch.equal(stage.query(stage.grid("time"), stage.fill("mean")).clips(slice(1, 2)).twins, stage.twins[1:2])
    assert stage.clips(slice(0, 2)).twins is None


def test_other_code_that_a_learner_names_means_a_new_training(small, calls):
    mean_clip = LEARNERS["mean clip"]
    learned_networks(small, ["mean clip"])
    LEARNERS["mean clip"] = dataclasses.replace(mean_clip, code=(registry,))
    learned_networks(small, ["mean clip"])
    learned_networks(small, ["mean clip"])
    assert len(calls) == 2
