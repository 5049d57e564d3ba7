"""What attribution objects say of themselves."""

import torch
from captum.attr import IntegratedGradients
from torch import nn

from captum_apex import APEX, LayerAPEX, PrototypeBasis
from tests import explained


def test_the_model_the_layer_and_the_basis_are_named():
    model, layer, _ = explained.network()
    basis = explained.basis("time")
    lines = ["PoolingHead", "  layer: relu, grid of 4 rows and 5 columns", "  basis: 'time', 6 channels"]
    assert repr(LayerAPEX(model, layer, basis)).splitlines() == [f"LayerAPEX of {lines[0]}", *lines[1:]]
    assert repr(APEX(model, layer, basis)).splitlines() == [
        f"APEX of {lines[0]}",
        *lines[1:],
        "  at the input: enlarged linearly",
    ]


def test_settings_and_layers_that_the_basis_does_not_know_are_named():
    model = nn.Sequential(nn.Identity(), nn.ReLU(), nn.Flatten())
    basis = PrototypeBasis(torch.eye(2), "time")
    apex = APEX(model, model[1], basis, projection=IntegratedGradients, input_layout="n c f t", input_layer=model[0])
    assert repr(apex).splitlines() == [
        "APEX of Sequential",
        "  layer: 1",
        "  basis: 'time', 2 channels",
        "  at the input: IntegratedGradients",
        "  input layout: n c f t",
        "  at the output of: 0",
    ]


def test_a_function_is_named():
    model = nn.Sequential(nn.ReLU(), nn.Flatten())

    def run(inputs):
        return model(inputs)

    apex = LayerAPEX(run, model[0], PrototypeBasis(torch.eye(2), "time"))
    assert repr(apex).startswith("LayerAPEX of run\n  layer: ")
