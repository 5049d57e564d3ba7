"""Models that switch gradients off inside: explained where a gradient passes, or an error that says where none does."""

import re
from contextlib import nullcontext

import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients, Occlusion
from torch import nn

from captum_apex import APEX, FeatureBank, LayerAPEX, PrototypeBasis
from captum_apex.attribution.layer_graph import gradient_stop
from captum_apex.layers.layout import Layout
from captum_apex.layers.origin import Origin
from tests.networks import PoolingHead, build, clips, invertible

MODES = {"no_grad": torch.no_grad, "inference_mode": torch.inference_mode}
BASIS = PrototypeBasis(invertible(), "time")


class Switched(PoolingHead):
    """A classifier whose parts named in `off` run without gradients: "stem", "features" or "head"."""

    def __init__(self, mode, *off):
        super().__init__()
        self.mode = mode
        self.off = off

    def run(self, name, function, *inputs):
        with self.mode() if name in self.off else nullcontext():
            return function(*inputs)

    def forward(self, inputs):
        stem = self.run("stem", self.stem, inputs * 1)
        features = self.run("features", lambda x: self.relu(self.features(x)), stem)
        return self.run("head", self.classifier, features.mean((2, 3)))


class Rounded(nn.Module):
    def forward(self, x):
        return torch.from_numpy(x.detach().numpy().round(3))


def switched(mode="no_grad", *off):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Switched(MODES[mode], *off).double().eval()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("off", [["stem"], ["features"], ["stem", "features"]])
def test_what_runs_before_the_layer_or_ends_with_it_needs_no_gradient(mode, off):
    model = switched(mode, *off)
    plain = switched()
    expected = LayerAPEX(plain, plain.relu, BASIS).attribute(clips(2), 1, return_convergence_delta=True)
    actual = LayerAPEX(model, model.relu, BASIS).attribute(clips(2), 1, return_convergence_delta=True)
    for values, others in zip(actual, expected, strict=True):
        assert torch.equal(values, others)
        assert not values.is_inference()
    assert FeatureBank.from_dataset(model, model.relu, list(clips(2))).n_clips == 2


def test_a_whole_model_under_no_grad_has_a_gradient_from_the_layer_on():
    model, _ = build("pooling after relu")
    expected = LayerAPEX(model, model.relu, BASIS).attribute(clips(2), 1)
    model.forward = torch.no_grad()(model.forward)
    assert torch.equal(LayerAPEX(model, model.relu, BASIS).attribute(clips(2), 1), expected)


@pytest.mark.parametrize("mode", MODES)
def test_a_head_without_gradients_is_named(mode):
    model = switched(mode, "head")
    message = (
        f"output to depend on the layer 'relu', but no gradient reaches it: 'classifier' runs under `torch.{mode}()`"
    )
    for explain in (LayerAPEX(model, model.relu, BASIS), APEX(model, model.relu, BASIS)):
        with pytest.raises(ValueError, match=re.escape(message)):
            explain.attribute(clips(2), 1)
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("projection", [InputXGradient, IntegratedGradients])
def test_a_projection_without_a_gradient_says_where_it_is_lost(mode, projection):
    model = switched(mode, "stem")
    message = f"from the layer 'relu' to the inputs, but none does: 'stem' runs under `torch.{mode}()`; leave out `proj"
    with pytest.raises(ValueError, match=re.escape(message)):
        APEX(model, model.relu, BASIS, projection=projection).attribute(clips(2), 1)
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("mode", MODES)
def test_a_projection_from_an_inner_module_says_so_too(mode):
    model = switched(mode, "features")
    message = f"from the layer 'relu' to what 'stem' gives, but none does: 'features' runs under `torch.{mode}()`"
    apex = APEX(model, model.relu, BASIS, projection=InputXGradient, input_layer=model.stem, input_layout="n c f t")
    with pytest.raises(ValueError, match=re.escape(message)):
        apex.attribute(clips(2), 1)


@pytest.mark.parametrize("mode", MODES)
def test_a_projection_that_needs_no_gradient_works(mode):
    def occluded(model):
        def project(score, inputs, arguments):
            return Occlusion(score).attribute(inputs, (1, 8, 2), (1, 8, 2), additional_forward_args=arguments)

        return APEX(model, model.relu, BASIS, projection=project).attribute(clips(2), 1)

    assert torch.equal(occluded(switched(mode, "stem")), occluded(switched()))


def test_a_module_that_detaches_is_named():
    model = switched()
    model.dropout = Rounded()
    model.stem = nn.Sequential(model.stem, Rounded())
    with pytest.raises(ValueError, match=r"to the inputs, but none does: 'stem.1' gives a result without a gradient"):
        APEX(model, model.relu, BASIS, projection=InputXGradient).attribute(clips(2), 1)
    model.stem[1] = nn.Identity()
    model.classifier = nn.Sequential(Rounded(), model.classifier)
    with pytest.raises(ValueError, match=r"no gradient reaches it: 'classifier.0' gives a result without a gradient"):
        LayerAPEX(model, model.relu, BASIS).attribute(clips(2), 1)


def test_a_gradient_that_is_lost_between_modules():
    class Detached(PoolingHead):
        def forward(self, inputs):
            return super().forward(inputs).detach()

    model = Detached().double().eval()
    with pytest.raises(ValueError, match="no gradient reaches it: `forward` takes it away between two modules"):
        LayerAPEX(model, model.features, BASIS).attribute(clips(2), 1)
    with pytest.raises(ValueError, match="no gradient reaches it: `forward` takes it away between two modules"):
        LayerAPEX(lambda inputs: Detached.forward(model, inputs), model.features, BASIS).attribute(clips(2), 1)


def test_a_module_before_the_layer_is_not_named():
    class Detached(Switched):
        def forward(self, inputs):
            return super().forward(inputs).detach()

    model = Detached(torch.no_grad, "stem").double().eval()
    with pytest.raises(ValueError, match="no gradient reaches it: `forward` takes it away between two modules"):
        LayerAPEX(model, model.relu, BASIS).attribute(clips(2), 1)


def test_a_module_beside_the_path_is_not_named():
    """A mask that is computed without gradients takes none away."""

    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.mask, self.lost = nn.ReLU(), Rounded()

        def forward(self, x):
            with torch.no_grad():
                mask = self.mask(x.detach())
            return self.lost(x * mask)

    model = Masked()
    stop = gradient_stop(model, lambda: model(torch.ones(1, requires_grad=True)))
    assert stop.startswith("'lost' gives a result without a gradient")


@pytest.mark.filterwarnings("ignore:.*quantiz")
def test_quantised_values_and_heads_are_said_to_have_no_gradient():
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        pytest.skip("this machine has no quantised operators")

    class Quantised(nn.Module):
        def forward(self, x):
            return torch.quantize_per_tensor(x.float(), 0.1, 0, torch.quint8)

    layer = Quantised()
    model = nn.Sequential(layer, torch.ao.nn.quantized.DeQuantize(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match=r"expected '0' to give floating-point values, .* but got torch.quint8"):
        LayerAPEX(model, layer, PrototypeBasis(torch.eye(1), "time")).attribute(clips(2), 0)
    head = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(6, 3)))
    model = nn.Sequential(nn.Conv1d(8, 6, 1), nn.AdaptiveAvgPool1d(1), nn.Flatten(), *head)
    basis = PrototypeBasis(torch.eye(6), "time", origin=Origin(layout=Layout("n c t -> n c 1 t")))
    with pytest.raises(ValueError, match="to depend on the layer '0', but no gradient reaches it"):
        LayerAPEX(model, model[0], basis).attribute(torch.zeros(2, 8, 5), 0)
