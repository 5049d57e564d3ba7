"""A model that is held for several runs: its modules are looked at once, and everything else is as for one run."""

import pytest
import torch
from captum.attr import Occlusion
from torch import nn

from captum_apex import APEX, FeatureBank, LayerAPEX, RegionSearch, basis_from_matrix, explain, explain_classes
from captum_apex.layers import holding, still_models
from captum_apex.layers.changes import THREAD
from captum_apex.layers.hooks import captured
from captum_apex.layers.still_models import frozen, held, prepared
from tests.captum_apex.layers.test_holding import flags, in_thread, nothing_is_left
from tests.networks import Tokens, build, clips, invertible


@pytest.fixture
def walks(monkeypatch):
    """One entry for each time that all modules of a model were looked at."""
    seen = []

    def noting(models, holder):
        seen.append(models)
        holding.hold(models, holder)

    monkeypatch.setattr(still_models, "hold", noting)
    return seen


def subject(**settings):
    model, layer = build("pooling")
    bank = FeatureBank.from_dataset(model, layer, list(clips(6, seed=5)))
    return APEX(model, layer, basis_from_matrix(bank, "time", invertible(), n_prototypes=2), **settings)


def test_an_attribution_looks_at_the_modules_once(walks):
    apex = subject()
    walks.clear()
    apex.attribute(clips(2, seed=6), 1)
    assert len(walks) == 1


@pytest.mark.parametrize("window", [2, 5])
def test_a_perturbation_looks_at_the_modules_once_in_an_outer_call(walks, window):
    """Windows of 2 × 2 bins are six times as many as those of 5 × 5; one look is for the weights."""

    def occluded(score, inputs, arguments):
        return Occlusion(score).attribute(inputs, (1, window, window), window, additional_forward_args=arguments)

    apex = subject(projection=occluded)
    walks.clear()
    apex.attribute(clips(2, seed=6), 1)
    assert len(walks) == 2


def test_an_explanation_looks_at_the_modules_once(walks):
    """It runs the model twice."""
    apex = subject()
    walks.clear()
    explain(apex, clips(2, seed=6), 1, n_channels=3, n_prototypes=1, search=None)
    assert len(walks) == 1


def test_other_threads_need_not_wait_for_a_search(monkeypatch):
    """A search may take minutes; each of its passes holds a model in training mode for itself."""
    apex = subject()
    model = apex.forward_func.train()
    during = []
    scores = RegionSearch.locate

    def locate(*arguments, **settings):
        during.append(model.training)
        return scores(*arguments, **settings)

    monkeypatch.setattr(RegionSearch, "locate", locate)
    every = torch.ones(1, 4, dtype=torch.bool)
    explain(apex, clips(1, seed=6), 1, n_channels=2, n_prototypes=1)
    explain_classes(apex, clips(1, seed=6), every, n_channels=2, n_prototypes=1)
    assert len(during) > 1
    assert all(during)


def test_an_evidence_score_looks_at_the_modules_once(walks):
    apex = subject()
    inputs = clips(2, seed=6)
    weights = apex.evidence_weights(inputs, 1)
    walks.clear()
    apex.evidence_score(inputs, weights)
    assert len(walks) == 1


def test_a_model_in_training_mode_is_held_until_the_end_of_the_outer_block():
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2))
    with prepared(model):
        for _ in range(2):
            with frozen(model):
                assert flags(model) == [False, False, False]
                model(torch.ones(3, 2))  # does not wait for this thread
            assert flags(model) == [False, False, False]
        model(torch.ones(3, 2))
    assert flags(model) == [True, True, True]
    assert nothing_is_left()
    assert not THREAD.prepared


def test_another_thread_does_not_join():
    model = nn.Sequential(nn.Dropout())
    others = []

    def enter():
        with held(model):
            others.append(list(holding._HELD.values())[-1].holders.copy())

    with prepared(model):
        in_thread(enter)
        assert flags(model) == [False, False]
    assert len(others[0]) == 2
    assert nothing_is_left()


def test_training_that_begins_inside_is_an_error_of_the_inner_block():
    model = nn.Sequential(nn.Dropout())
    with (
        prepared(model),
        pytest.raises(RuntimeError, match="expected the model to stay in evaluation mode"),
        held(model),
    ):
        in_thread(model.train)
    assert nothing_is_left()


@pytest.mark.parametrize("outer", [prepared, held])
def test_a_module_that_comes_between_two_runs_is_held_too(outer):
    model = nn.Sequential(nn.Dropout(), nn.Sequential())
    with outer(model):
        model[1].append(nn.Dropout())
        assert model[1][0].training
        with frozen(model):
            assert flags(model) == [False] * 4
        model[1][0] = nn.Dropout()  # as many as before
        with frozen(model):
            assert flags(model) == [False] * 4
    assert flags(model) == [True] * 4
    assert nothing_is_left()


def test_training_that_begins_between_two_runs_ends_for_the_next_run():
    """As without the outer block, which does not see a model in evaluation mode change."""
    model = nn.Sequential(nn.Dropout()).eval()
    with prepared(model):
        with frozen(model):
            pass
        in_thread(model.train)
        with frozen(model):
            assert flags(model) == [False, False]
        assert flags(model) == [True, True]
    assert flags(model) == [True, True]
    assert nothing_is_left()


def test_a_function_that_gets_another_model_holds_that_one():
    models = [nn.Dropout(), nn.Dropout()]
    current = models[0]

    def run(inputs):
        return current(inputs)

    with prepared(run):
        current = models[1]
        with frozen(run):
            assert [model.training for model in models] == [False, False]
        assert [model.training for model in models] == [False, True]
    assert nothing_is_left()


def test_a_function_whose_modules_are_not_known_is_held_for_each_layer():
    layers = [nn.Dropout(), nn.Dropout()]
    functions = {"both": lambda inputs: layers[0](layers[1](inputs))}

    def run(inputs):
        return functions["both"](inputs)

    with prepared(run, layers[0]), frozen(run, layers[0]), frozen(run, layers[1]):
        assert [layer.training for layer in layers] == [False, False]
    assert [layer.training for layer in layers] == [True, True]


def test_hooks_around_the_block_see_the_run_inside():
    layer = nn.ReLU()
    with captured(layer, "relu") as capture, prepared(layer), frozen(layer):
        output = layer(torch.tensor([-1.0, 2.0]))
    assert torch.equal(capture.value, output)


def test_an_explanation_inside_the_model_is_another_run():
    """The inner attribution joins the outer hold; the hooks of the outer one do not see it."""
    apexes = []

    class Explaining(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(1, 6, 3)
            self.is_inside = False

        def forward(self, inputs):
            features = self.layer(inputs)
            if not self.is_inside and apexes:
                self.is_inside = True
                apexes[0].attribute(-inputs, 0)
                self.is_inside = False
            return features.mean((2, 3))

    torch.manual_seed(0)
    model = Explaining().double()
    bank = FeatureBank.from_dataset(model, model.layer, list(clips(6, seed=5)))
    apex = LayerAPEX(model, model.layer, basis_from_matrix(bank, "time", invertible(), n_prototypes=2))
    alone = apex.attribute(clips(2, seed=6), 1)
    apexes.append(apex)
    assert torch.equal(apex.attribute(clips(2, seed=6), 1), alone)


def test_the_mode_of_plain_paths_is_entered_once_and_left_at_the_end():
    model = Tokens().eval()
    before = len(torch.overrides._get_current_function_mode_stack())
    with held(model):
        inside = len(torch.overrides._get_current_function_mode_stack())
        with held(model):
            assert len(torch.overrides._get_current_function_mode_stack()) == inside
        assert len(torch.overrides._get_current_function_mode_stack()) == inside
    assert len(torch.overrides._get_current_function_mode_stack()) == before
    assert inside == before + 1
