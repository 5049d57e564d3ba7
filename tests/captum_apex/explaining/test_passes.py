"""How often the model runs on a clip: once for its scores and all that is explained with them."""
# ruff: noqa: F401, F811 - fixtures of another module

from dataclasses import replace

import pytest
import torch
from torch import nn

from captum_apex import SCHEMES, Explainer, LayerAPEX, PrototypeBasis
from captum_apex.attribution.recorded_pass import shared_passes
from captum_apex.cli.layer_choice import layers_of
from tests.captum_apex.explaining.test_explainer import classifier, explainer, folder, recordings, sound
from tests.operations import passes

WITHOUT_SEARCH = {"search": None, "n_prototypes": 2}


def runs(explainer, **settings):
    """The clips that the model runs on, in an explanation of one clip."""
    return passes(explainer.classifier.model, lambda: explainer.explain(sound(1000, seed=20), **settings))


def test_all_schemes_and_classes_of_a_clip_take_one_pass_and_one_without_the_layer(explainer):
    assert len(explainer.apexes) == len(SCHEMES)
    runs(explainer, **WITHOUT_SEARCH)  # the first explanation also asks once what the model says of silence
    assert len(runs(explainer, **WITHOUT_SEARCH)) == 2
    assert len(runs(explainer, target=["dog", "siren"], **WITHOUT_SEARCH)) == 2
    assert len(runs(explainer, threshold=0.0, **WITHOUT_SEARCH)) == 2


def test_a_search_runs_the_clip_itself_no_further_time(explainer):
    whole = runs(explainer, n_channels=2, n_prototypes=1)
    clip = whole[0]
    assert sum(torch.equal(each, clip) for each in whole) == 2
    assert len(whole) > 10  # its altered copies


def test_each_clip_has_passes_of_its_own(explainer):
    sounds = [sound(1000, seed=20), sound(1400, seed=21), sound(1000, seed=20)]
    together = explainer.explain(sounds, **WITHOUT_SEARCH)
    assert len(passes(explainer.classifier.model, lambda: explainer.explain(sounds, **WITHOUT_SEARCH))) == 6
    for clip, page in zip(sounds, together, strict=True):
        alone = explainer.explain(clip, **WITHOUT_SEARCH)[0]
        assert page.explanations == alone.explanations
        assert page.scores == alone.scores == explainer.classifier.scores(explainer.classifier.inputs(clip))


def test_bases_of_two_layers_take_a_pass_for_each(classifier, recordings):
    conv = replace(classifier, layer=classifier.layer[0])
    bases = [
        Explainer.fit(classifier, recordings, ["time"]).bases["time"],
        Explainer.fit(conv, recordings, ["square"]).bases["square"],
    ]
    both = Explainer(classifier, bases, recordings)
    runs(both, **WITHOUT_SEARCH)  # asks once what the model says of silence
    assert len(runs(both, **WITHOUT_SEARCH)) == 4
    alone = Explainer(classifier, bases[1:], recordings).explain(sound(1000, seed=20), **WITHOUT_SEARCH)
    shown = both.explain(sound(1000, seed=20), **WITHOUT_SEARCH)
    assert alone[0].explanations[0] in shown[0].explanations


@pytest.mark.parametrize("change", ["inputs", "target", "argument"])
def test_a_pass_serves_no_other_inputs(change, explainer):
    fitted = explainer.apexes["time"].layer_apex
    model = nn.Sequential(fitted.forward_func)
    model.forward = lambda clips, gain: fitted.forward_func(clips) * gain
    apex = LayerAPEX(model, fitted.layer, fitted.basis)
    first = torch.rand(2, 1, 129, 32, generator=torch.Generator().manual_seed(0))
    arguments = {
        "inputs": (first + 1e-6, 1, torch.ones(2, 1)),
        "target": (first, 2, torch.ones(2, 1)),
        "argument": (first, 1, 2 * torch.ones(2, 1)),
    }[change]
    alone = apex.attribute(*arguments, n_channels=None)
    with shared_passes():
        former = apex.attribute(first, 1, torch.ones(2, 1), n_channels=None)
        assert torch.equal(apex.attribute(*arguments, n_channels=None), alone)
        assert torch.equal(apex.attribute(first, 1, torch.ones(2, 1), n_channels=None), former)
    assert not torch.equal(former, alone)


def test_an_explanation_inside_the_model_shares_nothing_with_the_one_around_it():
    """The same inputs, but the inner run is another one."""

    class Explaining(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(1, 3, 3)
            self.n_runs = 0
            self.apex = []

        def forward(self, clips):
            self.n_runs += 1
            if self.n_runs % 2:
                self.apex[0].attribute(clips, 0)
            return self.layer(clips).mean((2, 3))

    model = Explaining()
    model.apex.append(LayerAPEX(model, model.layer, PrototypeBasis(torch.eye(3), "time")))
    with shared_passes():
        for _ in range(2):
            model.apex[0].attribute(torch.rand(1, 1, 5, 6, generator=torch.Generator().manual_seed(0)), 0)
    assert model.n_runs == 2


def test_the_layers_are_listed_by_altered_clips_alone(classifier):
    seen = passes(classifier.model, lambda: layers_of(classifier))
    assert len(seen) == 2
    assert len(seen[0]) > 1


def test_layers_of_a_model_with_another_number_of_classes_are_refused(classifier):
    with pytest.raises(ValueError, match="one score for each of the 2 classes"):
        layers_of(replace(classifier, class_names=["dog", "rain"]))
