"""Grad-CAM++, LayerCAM and EigenCAM against their formulas, cell by cell, in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from captum_apex.attribution import projection
from captum_apex.layers.cell_places import CellPlaces
from captum_apex.layers.layout import Layout
from tests.benchmarks.methods.queries import maps, query_of, random_query


class Pooled(nn.Module):
    """A layer with or without a ReLU, and a head that squares the means, so that no two cells count alike by design."""

    def __init__(self, relu):
        super().__init__()
        convolution = nn.Conv2d(1, 3, 3, padding=1)
        self.layer = nn.Sequential(convolution, nn.ReLU()) if relu else convolution
        self.cells = nn.Parameter(torch.rand(3, 4, 5))
        self.head = nn.Linear(3, 2)

    def forward(self, inputs):
        means = (self.layer(inputs) * self.cells).mean((2, 3))
        return self.head(means + means**2)


def query_of_cells(relu, seed=0):
    torch.manual_seed(seed)
    model = Pooled(relu).double().eval()
    inputs = torch.randn(2, 1, 4, 5, dtype=torch.float64)
    grid = torch.arange(20).reshape(4, 5)
    return query_of(model, model.layer, inputs, torch.tensor([1, 0]), torch.zeros_like(inputs), grid, {})


def cells_and_gradients(query, clip):
    """The activations and the gradients of a clip, as arrays (channel, frequency, time), by the chain rule."""
    model = query.model
    with torch.no_grad():
        activations = model.layer(query.inputs[clip : clip + 1])[0]
        means = (activations * model.cells).mean((1, 2))
        outer = model.head.weight[query.target[clip]] * (1 + 2 * means)
        gradients = outer[:, None, None] * model.cells / 20
    return activations.numpy(), gradients.numpy()


def plus_plus(activations, gradients):
    """The map of Grad-CAM++ with its three derivatives of exp(logit) without the common factor exp(logit)."""
    wanted = np.zeros(activations.shape[1:])
    for activation, gradient in zip(activations, gradients, strict=True):
        weight = 0.0
        for g in gradient.flatten():
            denominator = 2 * g**2 + max(activation.sum(), 0) * g**3
            weight += g**2 / denominator * max(g, 0) if g > 0 else 0.0
        wanted += weight * activation
    return wanted


class ChannelsLast(nn.Module):
    """The same model with a layer that gives (clip, row, column, channel)."""

    def __init__(self, pooled):
        super().__init__()
        self.pooled = pooled
        self.layer = nn.Sequential(pooled.layer, Permuted(0, 2, 3, 1))

    def forward(self, inputs):
        means = (self.layer(inputs).permute(0, 3, 1, 2) * self.pooled.cells).mean((2, 3))
        return self.pooled.head(means + means**2)


class Permuted(nn.Module):
    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, features):
        return features.permute(self.axes)


@pytest.mark.parametrize("name", ["LayerGradCam", "GradCAM++", "LayerCAM", "EigenCAM"])
def test_channels_on_the_last_axis_give_the_map_of_channels_on_the_first(name):
    query = query_of_cells(False)
    last = ChannelsLast(query.model)
    other = replace(query, model=last, layer=last.layer, layout=Layout("n f t c -> n c f t"))
    torch.testing.assert_close(maps(name, other)[0], maps(name, query)[0])


@pytest.mark.parametrize("relu", [True, False])
def test_grad_cam_plus_plus_is_its_formula_cell_by_cell(relu):
    query = query_of_cells(relu)
    got = maps("GradCAM++", query)[0]
    for clip in range(2):
        wanted = plus_plus(*cells_and_gradients(query, clip))
        torch.testing.assert_close(got[clip, 0], torch.from_numpy(wanted), rtol=1e-10, atol=1e-13)


def test_grad_cam_plus_plus_has_no_pole_where_a_channel_is_negative():
    """By the paper's formula the weight of a channel whose sum is −2/g would be infinite."""
    features = torch.full((1, 3, 4, 5), -1.0, dtype=torch.float64)
    gradient = 1 / 10  # of the sum over ten: 2 + g · ΣA = 2 − 20 / 10 = 0
    layer = nn.Identity()
    model = nn.Sequential(layer, _Sums()).eval()
    query = query_of(model, layer, features, torch.tensor([0]), features, torch.arange(20).reshape(4, 5), {})
    expected = 3 * 20 * gradient / 2 * -1.0  # three channels, α = 1/2 in each of 20 cells
    torch.testing.assert_close(maps("GradCAM++", query)[0], torch.full((1, 1, 4, 5), expected, dtype=torch.float64))


class _Sums(nn.Module):
    def forward(self, features):
        return features.sum((1, 2, 3))[:, None] / 10


@pytest.mark.parametrize("relu", [True, False])
def test_layer_cam_weights_each_cell_by_its_positive_gradient(relu):
    query = query_of_cells(relu, seed=1)
    got = maps("LayerCAM", query)[0]
    for clip in range(2):
        activations, gradients = cells_and_gradients(query, clip)
        wanted = sum(np.maximum(g, 0) * a for a, g in zip(activations, gradients, strict=True))
        torch.testing.assert_close(got[clip, 0], torch.from_numpy(wanted), rtol=1e-10, atol=1e-13)


def test_the_norm_of_a_convnext_is_a_constant_scaling_for_layer_cam():
    """Through the norm of its head, gradient × activation would add up to zero."""
    query = random_query("convnext", torch.float64)
    norm, linear = query.model.head.norm, query.model.head.fc
    with torch.no_grad():
        features = query.layer(_before(query))
        means = features.mean((2, 3))
        deviation = (means.var(1, correction=0) + norm.eps).sqrt()
        outer = linear.weight[query.target] * norm.weight  # (clip, channel)
        gradient = (outer - outer.mean(1, keepdim=True)) / deviation[:, None] / features[0, 0].numel()
        wanted = (gradient.clamp_min(0)[:, :, None, None] * features).sum(1)
    large = projection.enlarged(wanted, query.inputs, "n c f t", CellPlaces())
    torch.testing.assert_close(maps("LayerCAM", query)[0], large, rtol=1e-8, atol=1e-12)


def _before(query):
    """What the explained layer gets."""
    seen = []
    handle = query.layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    query.model(query.inputs)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("relu", [True, False])
def test_eigen_cam_is_the_first_component_of_the_cells(relu):
    query = query_of_cells(relu, seed=2)
    got = maps("EigenCAM", query)[0]
    for clip in range(2):
        cells = cells_and_gradients(query, clip)[0].reshape(3, 20).T  # (cell, channel)
        values, vectors = np.linalg.eigh(cells.T @ cells)
        assert values[2] > 1.5 * values[1]
        component = cells @ vectors[:, 2]
        wanted = component * np.sign(component.sum())
        torch.testing.assert_close(got[clip, 0].flatten(), torch.from_numpy(wanted), rtol=1e-8, atol=1e-12)
