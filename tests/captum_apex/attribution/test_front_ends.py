"""A front end inside the model that runs without gradients: maps and regions on its output are those without it."""

import re
from contextlib import nullcontext

import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients, Occlusion
from torch import nn

from captum_apex import APEX, FeatureBank, PrototypeBasis, basis_from_matrix, explain
from tests.captum_apex.attribution.test_captum_contract import state
from tests.networks import invertible

MODES = {"plain": nullcontext, "no_grad": torch.no_grad, "inference_mode": torch.inference_mode}


class Frames(nn.Module):
    """Waveforms (clip, sample) as (clip, 1, 8, 40): eight sines in frames of 8 samples; no gradient within a mode."""

    def __init__(self, mode: str = "plain") -> None:
        super().__init__()
        self.mode = mode
        angles = torch.arange(8.0)[:, None] * torch.arange(8.0) * torch.pi / 8
        self.register_buffer("waves", angles.cos())

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        with MODES[self.mode]():
            return (waveforms.unflatten(1, (-1, 8)) @ self.waves.T).transpose(1, 2)[:, None].square()


class Log(nn.Module):
    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return (values + 1e-3).log()


class Listener(nn.Module):
    """Frames, logarithm, convolution; the modes are those of the frames, of both, and of the logarithm alone."""

    def __init__(self, inside: str = "plain", around: str = "plain", around_log: str = "plain") -> None:
        super().__init__()
        self.modes = {"around": MODES[around], "around_log": MODES[around_log]}
        self.frames = Frames(inside)
        self.log = Log()
        self.features = nn.Sequential(nn.Conv2d(1, 6, 4, stride=2), nn.ReLU())
        self.classifier = nn.Linear(6, 4)

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        with self.modes["around"]():
            frames = self.frames(waveforms)
            with self.modes["around_log"]():
                frames = self.log(frames)
        return self.classifier(self.features(frames.clone()).mean((2, 3)))


def listener(**modes: str) -> Listener:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Listener(**modes).double().eval()


def sounds(n: int = 3) -> torch.Tensor:
    return torch.randn(n, 320, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def occluded(score, inputs, arguments):
    return Occlusion(score).attribute(inputs, (1, 4, 4), strides=(1, 4, 4), additional_forward_args=arguments)


# the front end without gradients, and the modules from whose output on there are gradients all the same
WITHOUT_GRADIENTS = {
    "the module itself": ({"inside": "no_grad"}, ["frames", "log"]),
    "the module itself in inference mode": ({"inside": "inference_mode"}, ["log"]),
    "both modules": ({"around": "no_grad"}, ["frames", "log"]),
    "both modules in inference mode": ({"around": "inference_mode"}, ["log"]),
    "the second module": ({"around_log": "no_grad"}, ["log"]),
}
CASES = [(name, inner) for name, (_, inners) in WITHOUT_GRADIENTS.items() for inner in inners]


@pytest.mark.parametrize("projection", [None, InputXGradient, IntegratedGradients, occluded])
@pytest.mark.parametrize(("name", "inner"), CASES)
def test_maps_are_those_of_the_front_end_with_gradients(name, inner, projection):
    maps = []
    for model in (listener(), listener(**WITHOUT_GRADIENTS[name][0])):
        before = state(model)
        settings = {"projection": projection, "input_layer": model.get_submodule(inner)}
        apex = APEX(model, model.features, PrototypeBasis(invertible(), "square"), **settings)
        maps.append(apex.attribute(sounds(), [1, 0, 3], n_channels=2))
        assert state(model) == before
        assert torch.is_grad_enabled()
    assert maps[0].abs().max() > 1e-3
    torch.testing.assert_close(maps[1], maps[0], rtol=0, atol=1e-12)


def test_the_map_of_all_channels_is_gradient_times_input_from_the_front_end_on():
    """Written out: with every channel, InputXGradient is x · ∂h/∂x for h = Σ G ⊙ φ(x), of the logarithm's output x."""
    model = listener(around="no_grad")
    apex = APEX(
        model, model.features, PrototypeBasis(invertible(), "square"), projection=InputXGradient, input_layer=model.log
    )
    frames = Log()(Frames().double()(sounds())).requires_grad_()
    grid = model.features(frames)
    gradient = torch.autograd.grad(model.classifier(grid.mean((2, 3)))[:, 2].sum(), grid, retain_graph=True)[0]
    expected = frames * torch.autograd.grad((gradient.detach() * grid).sum(), frames)[0]
    actual = apex.attribute(sounds(), 2, n_channels=None)
    torch.testing.assert_close(actual, expected.detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "inner"), CASES)
def test_regions_are_those_of_the_front_end_with_gradients(name, inner):
    found = []
    for model in (listener(), listener(**WITHOUT_GRADIENTS[name][0])):
        bank = FeatureBank.from_dataset(model, model.features, list(sounds(6)))
        basis = basis_from_matrix(bank, "square", invertible(), n_prototypes=2)
        apex = APEX(model, model.features, basis, input_layer=model.get_submodule(inner))
        explanations = explain(apex, sounds(), 1, n_prototypes=2, dataset=list(sounds(6)))
        found.append([[(each.channel, each.region, each.effect) for each in one.evidence] for one in explanations])
    assert found[0][0]
    assert found[1] == found[0]


@pytest.mark.parametrize(
    ("modes", "inner", "module"),
    [({"around_log": "no_grad"}, "frames", "log"), ({"around": "inference_mode"}, "frames", "log")],
)
def test_a_gradient_that_is_lost_behind_the_front_end_is_refused(modes, inner, module):
    model = listener(**modes)
    basis = PrototypeBasis(invertible(), "square")
    apex = APEX(model, model.features, basis, projection=InputXGradient, input_layer=model.get_submodule(inner))
    message = f"from the layer 'features' to what {inner!r} gives, but none does: {module!r} runs under `torch."
    with pytest.raises(ValueError, match=re.escape(message)):
        apex.attribute(sounds(), 1)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
