"""TorchScript, programs of torch.export, and layers that run several times: the errors, and what they recommend."""

import warnings

import pytest
import torch
from torch import nn

from captum_apex import APEX, Classifier, FeatureBank, LayerAPEX, PrototypeBasis, suggest_layers
from captum_apex.layers import Layout, Origin
from captum_apex.metrics import mixed_outputs
from tests.networks import invertible

LAYOUT = "n c t -> n c 1 t"
CLIPS = torch.randn(3, 1, 20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Network(nn.Module):
    """Two convolutions, the second with a ReLU that is a function call."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv1d(1, 4, 3, padding=1), nn.ReLU())
        self.second = nn.Conv1d(4, 6, 3, padding=1)
        self.classifier = nn.Linear(6, 3)

    def forward(self, clips):
        return self.classifier(torch.relu(self.second(self.first(clips))).mean(2))


class Parent(nn.Module):
    """The recipe: the parts of a scripted model, called in Python, with an identity where the layer is."""

    def __init__(self, script):
        super().__init__()
        self.script = script
        self.layer = nn.Identity()

    def forward(self, clips):
        features = self.layer(torch.relu(self.script.second(self.script.first(clips))))
        return self.script.classifier(features.mean(2))


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network().double().eval()


def scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that TorchScript is deprecated
        return torch.jit.script(network())


def exported():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(network(), (CLIPS,), dynamic_shapes=({0: torch.export.Dim("clip")},))


def contributions(model, layer):
    basis = PrototypeBasis(invertible(), "time", origin=Origin(layout=Layout(LAYOUT)))
    return LayerAPEX(model, layer, basis).decompose(CLIPS, 1).contributions


def expected_contributions():
    model = network()
    features = torch.relu(model.second(model.first(CLIPS)))
    gradient = model.classifier.weight[1] / 20
    U = invertible()
    in_basis = torch.einsum("kc,nct->nkt", U, features)
    return (in_basis * (torch.linalg.inv(U).T @ gradient)[:, None]).sum(2).detach()


def test_a_layer_inside_torchscript_is_refused_with_the_recipe():
    model = scripted()
    with pytest.raises(
        ValueError, match=r"'second' is TorchScript; put it .* write a module whose `forward` calls its"
    ):
        FeatureBank.from_dataset(model, model.second, list(CLIPS), layout=LAYOUT)
    assert "write a module whose `forward` calls its parts" in suggest_layers(model, CLIPS).left_out["the model"]


def test_the_recipe_for_torchscript_gives_the_contributions():
    parent = Parent(scripted())
    torch.testing.assert_close(parent(CLIPS), network()(CLIPS))
    torch.testing.assert_close(contributions(parent, parent.layer), expected_contributions(), rtol=1e-9, atol=1e-12)
    assert suggest_layers(parent, CLIPS)[0].name == "layer"


CALLS = {
    "bank": lambda program, layer: FeatureBank.from_dataset(program, layer, list(CLIPS), layout=LAYOUT),
    "at the layer": lambda program, layer: LayerAPEX(program, layer, PrototypeBasis(invertible(), "time")),
    "at the input": lambda program, layer: APEX(program, layer, PrototypeBasis(invertible(), "time")),
    "classifier": lambda program, _: Classifier(program, lambda waveform: waveform, 8000, ["a", "b", "c"]),
    "suggestions": lambda program, _: suggest_layers(program, CLIPS),
    "measures": lambda program, _: mixed_outputs(program, CLIPS, 0 * CLIPS, torch.tensor(0.5)),
}


@pytest.fixture(scope="module")
def program():
    return exported()


@pytest.mark.parametrize("call", CALLS)
def test_a_program_of_torch_export_is_refused_with_the_recipe(call, program):
    with pytest.raises(
        TypeError, match=r"got an ExportedProgram .*; explain the model `torch.export.unflatten\(program\)`"
    ):
        CALLS[call](program, nn.ReLU())


def test_the_graph_of_a_program_is_refused_with_the_recipe(program):
    graph = program.module()
    with pytest.raises(
        ValueError, match=r"but it never did: it only holds weights, .* `torch.export.unflatten\(program\)`"
    ):
        FeatureBank.from_dataset(graph, graph.second, list(CLIPS), layout=LAYOUT)
    assert "torch.export.unflatten(program)" in suggest_layers(graph, CLIPS).left_out["the model"]


def test_the_recipe_for_torch_export_gives_the_contributions(program):
    model = torch.export.unflatten(program)
    features = nn.Sequential(model.second, nn.ReLU())
    basis = PrototypeBasis(invertible(), "time", origin=Origin(layout=Layout(LAYOUT)))
    Z = features(model.first(CLIPS)).detach()
    # The ReLU is a function call, so the layer is the convolution before it: gradient × output is the same.
    maps = LayerAPEX(model, model.second, basis).attribute(CLIPS, 1, n_channels=None)
    expected = torch.einsum("nct,c->nt", Z, network().classifier.weight[1].detach()) / 20
    torch.testing.assert_close(maps[:, 0, 0], expected, rtol=1e-9, atol=1e-12)
    names = [layer.name for layer in suggest_layers(model, CLIPS)]
    assert names[0] == "second"
    assert FeatureBank.from_dataset(model, model.second, list(CLIPS), layout=LAYOUT).origin.layer == "second"


class Cell(nn.Module):
    """A recurrent cell that runs once for each frame; its runs can be stacked, as the error recommends."""

    def __init__(self, stacked):
        super().__init__()
        self.cells = nn.ModuleDict({"gru": nn.GRUCell(1, 6)})
        self.states = nn.Identity() if stacked else None
        self.classifier = nn.Linear(6, 3)

    def forward(self, clips):
        state = None
        states = []
        for frame in clips.unbind(2):
            state = self.cells["gru"](frame, state)
            states.append(state)
        along_time = torch.stack(states, -1)  # (clip, channel, time)
        return self.classifier((along_time if self.states is None else self.states(along_time)).mean(2))


def test_a_layer_that_runs_for_each_frame_is_refused_with_the_recipe_which_works():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Cell(stacked=True).double().eval()
    message = r"'cells.gru' to run once .* module around it \('cells'\); .* each frame or window, stack what it gives"
    basis = PrototypeBasis(invertible(), "time", origin=Origin(layout=Layout(LAYOUT)))
    with pytest.raises(ValueError, match=message):
        LayerAPEX(model, model.cells["gru"], basis).attribute(CLIPS, 1)
    maps, delta = LayerAPEX(model, model.states, basis).attribute(
        CLIPS, 1, n_channels=None, return_convergence_delta=True
    )
    state = torch.zeros(3, 6, dtype=torch.float64)
    for column, frame in enumerate(CLIPS.unbind(2)):
        state = model.cells["gru"](frame, state)
        expected = state @ model.classifier.weight[1] / 20
        torch.testing.assert_close(maps[:, 0, 0, column], expected.detach(), rtol=1e-9, atol=1e-12)
    assert delta.abs().max() < 1e-12
    suggestions = suggest_layers(model, CLIPS)
    assert suggestions[0].name == "states"
