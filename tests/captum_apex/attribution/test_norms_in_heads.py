"""Heads with normalisations: those of torch are held constant, those written by hand are a warning."""

import warnings
from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_apex import LayerAPEX, PrototypeBasis
from captum_apex.attribution.layer_graph import recorded_graph
from captum_apex.layers.layout import Layout
from captum_apex.layers.normalisation import ConstantVariance
from tests.networks import PoolingHead, clips, invertible

BASIS = PrototypeBasis(invertible(), "time")
CLIPS = clips(3, seed=6)


class Normed(PoolingHead):
    """A function of the grid between the layer and the linear classifier of the pooled values."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, inputs):
        features = self.relu(self.features(self.stem(inputs)))
        return self.classifier(self.function(features))


def normed(function):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Normed(function).double().eval()


def pooled(function):
    return lambda grid: function(grid.mean((2, 3)))


def explained(model, inputs=CLIPS):
    return LayerAPEX(model, model.relu, BASIS).attribute(inputs, 1, n_channels=None, return_convergence_delta=True)


def vectors():
    return torch.randn(6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


HELD = {
    "layer": pooled(lambda x: F.layer_norm(x, (6,))),
    "L1": pooled(lambda x: F.normalize(x, p=1)),
    "L2": pooled(F.normalize),
    "maximum": pooled(lambda x: F.normalize(x, p=float("inf"))),
    "RMS": pooled(lambda x: torch.rms_norm(x, (6,))),
    "native": pooled(lambda x: torch.native_layer_norm(x, (6,), None, None, 1e-5)[0]),
    "cosine": pooled(lambda x: F.cosine_similarity(x[:, None], vectors(), dim=2)),
    "cosine module": pooled(lambda x: nn.CosineSimilarity(dim=2)(vectors(), x[:, None])),
    "cosine of every place": lambda x: F.cosine_similarity(x[:, None], vectors()[None, :, :, None, None], dim=2).amax(
        (2, 3)
    ),
    "vmap": pooled(torch.vmap(lambda x: F.layer_norm(x, (6,)))),
    "instance": lambda x: (F.instance_norm(x) * x.new_tensor([1.0, 0.0, 0.0, 0.0, 2.0])).mean((2, 3)),
    "local response": pooled(lambda x: F.local_response_norm(x[..., None], 3, alpha=2.0)[..., 0]),
    "by its norm": pooled(lambda x: x / x.norm(dim=1, keepdim=True).clamp_min(1e-9)),
    "by its norm and a little": pooled(lambda x: torch.div(x, 1e-9 + torch.norm(x, dim=1, keepdim=True))),
    "by its norm of linalg": pooled(lambda x: x / (torch.linalg.vector_norm(x, dim=1).unsqueeze(1) + 1e-9)),
    "by its norm of order 1": pooled(lambda x: x / (x.norm(p=1, dim=1, keepdim=True).expand(-1, 6) + 1e-9)),
    "by its norm, with vmap": pooled(torch.vmap(lambda x: x / x.norm().clamp(min=1e-9))),
}


@pytest.mark.parametrize("name", HELD)
def test_a_normalisation_of_torch_adds_up(name):
    maps, deltas = explained(normed(HELD[name]))
    assert maps.sum((1, 2, 3)).abs().min() > 1e-3
    assert deltas.abs().max() < 1e-9


def test_batch_statistics_are_constants_and_the_delta_counts_their_mean():
    """As documented: the sum counts from the constant mean of the batch."""
    norm = nn.BatchNorm1d(6, track_running_stats=False, affine=False).double().eval()
    model = normed(pooled(norm))
    maps, deltas = explained(model)
    Z = model.relu(model.features(model.stem(CLIPS))).mean((2, 3)).detach()
    scaled = model.classifier.weight[1] * (Z.var(0, correction=0) + norm.eps).rsqrt()
    torch.testing.assert_close(maps.sum((1, 2, 3)), (Z @ scaled).detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(deltas, (Z.mean(0) @ scaled).detach().expand(3), rtol=1e-9, atol=1e-12)


def test_a_length_beside_another_tensor_has_its_gradient():
    """Only the length of the numerator itself is a constant, and only where nothing else is in the divisor."""
    x = torch.tensor([[3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    for function in (
        lambda x: x.norm(dim=1),
        lambda x: x / (2 * x).norm(dim=1, keepdim=True),
        lambda x: x / (x.norm(dim=1, keepdim=True) + x),
        lambda x: x.sum() / x.norm(dim=1),
    ):
        with ConstantVariance():
            (gradient,) = torch.autograd.grad(function(x).sum(), x)
        assert torch.equal(gradient, torch.autograd.grad(function(x).sum(), x)[0])


BY_HAND = {
    "square root": pooled(lambda x: x / (x.square().sum(1, keepdim=True) + 1e-12).sqrt()),
    "sum": pooled(lambda x: x / (x.abs().sum(1, keepdim=True) + 1e-9)),
    "maximum": pooled(lambda x: x / (x.amax(1, keepdim=True) + 1e-9)),
    "standard deviation": pooled(lambda x: (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1e-9)),
    "variance": pooled(lambda x: (x - x.mean(1, keepdim=True)) * (x.var(1, keepdim=True) + 1e-9).rsqrt()),
    "variance with the usual addend": pooled(
        lambda x: (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True) + 1e-5).sqrt()
    ),
    "mean of squares": pooled(lambda x: x * x.square().mean(1, keepdim=True).add(1e-9).rsqrt()),
    "places of a channel": lambda x: (x / (x.square().sum((2, 3), keepdim=True) + 1e-12).sqrt())[..., 0].sum(2),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_a_normalisation_by_hand_is_a_warning(name):
    model = normed(BY_HAND[name])
    with pytest.warns(UserWarning, match=r"channels of 'relu' add up to 0, .* replace it by one of torch"):
        maps, deltas = explained(model)
    score, nothing = model(CLIPS)[:, 1].detach(), model.classifier.bias[1].detach()
    assert (maps.sum((1, 2, 3)).abs() < 1e-3 * (score - nothing).abs()).all()
    torch.testing.assert_close(deltas, nothing - score, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("left", "n_clips", "warned"),
    [(5e-4, 1, False), (5e-4, 2, True), (5e-5, 1, True), (5e-3, 2, False), (-5e-4, 2, True), (-5e-3, 2, False)],
)
def test_one_clip_must_cancel_out_more_closely_than_several(left, n_clips, warned):
    """By chance one clip comes near to a total of 0 more often. `left` is the total, relative to the contributions."""
    layer, weights = nn.Identity(), torch.tensor([1.0, -1.0 + 2 * left], dtype=torch.float64)
    with recorded_graph(layer, "layer") as graph:
        score = (layer(torch.ones(n_clips, 2, 1, 3, dtype=torch.float64)).sum((2, 3)) * weights).sum(1)
    with pytest.warns(UserWarning, match="add up to 0") if warned else nullcontext():
        graph.grids(score, Layout())


def test_one_clip_that_adds_up_or_no_active_one_is_no_warning():
    model = normed(lambda x: torch.cat([pooled(F.normalize)(x[:1]), BY_HAND["square root"](x[1:])]))
    explained(model)  # warnings are errors here
    silent = normed(pooled(lambda x: x * 0))
    explained(silent)


def test_a_dead_clip_beside_those_that_cancel_does_not_hide_the_warning():
    model = normed(lambda x: torch.cat([0 * x[:1].mean((2, 3)), BY_HAND["square root"](x[1:])]))
    with pytest.warns(UserWarning, match="add up to 0"):
        explained(model)


def test_the_warning_comes_once_per_place_and_not_per_class():
    model = normed(BY_HAND["square root"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        list(LayerAPEX(model, model.relu, BASIS).decompose_each(CLIPS, lambda output: range(output.shape[1])))
    assert len(caught) == 1


NORMS = {
    "layer": lambda: nn.GroupNorm(1, 6),
    "group": lambda: nn.GroupNorm(2, 6),
    "instance": lambda: nn.InstanceNorm2d(6),
    "local response": lambda: nn.LocalResponseNorm(2),
}
ACTIVATIONS = {
    "ReLU": nn.ReLU,
    "SiLU": nn.SiLU,
    "Hardswish": nn.Hardswish,
    "LeakyReLU": nn.LeakyReLU,
}


class Residual(nn.Module):
    def __init__(self, in_place):
        super().__init__()
        self.in_place = in_place

    def forward(self, x):
        y = x.detach().abs()
        if self.in_place:
            x += y
            x *= 2
            return x
        return (x + y) * 2


@pytest.mark.parametrize("activation", [*ACTIVATIONS, "residual"])
@pytest.mark.parametrize("norm", NORMS)
def test_an_in_place_operation_after_a_normalisation_is_as_out_of_place(norm, activation):
    maps = []
    for in_place in (True, False):
        after = Residual(in_place) if activation == "residual" else ACTIVATIONS[activation](inplace=in_place)
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = normed(nn.Sequential(NORMS[norm](), after, nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten()))
        maps.append(explained(model))
    for actual, expected in zip(*maps, strict=True):
        assert torch.equal(actual, expected)


def test_timms_residual_network_of_group_norms_is_explained():
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"layers": (1, 1, 1, 1), "channels": (128, 128, 128, 128)}
        model = timm.create_model("resnetv2_50d_gn", num_classes=3, **sizes).eval()
    inputs = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    layer = model.stages[2]
    basis = PrototypeBasis(torch.eye(128), "square")
    map_ = LayerAPEX(model, layer, basis).attribute(inputs, 1, n_channels=None)
    assert map_.isfinite().all()
    assert map_.abs().max() > 0
