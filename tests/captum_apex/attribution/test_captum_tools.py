"""Captum's own tools around the classes: NoiseTunnel, metrics, attacks, and the networks of Captum's own tests."""

import copy
from functools import partial
from unittest import TestCase

import pytest
import torch
from captum.attr import InputXGradient, LayerGradCam, LayerGradientXActivation, NoiseTunnel
from captum.metrics import infidelity, infidelity_perturb_func_decorator, sensitivity_max
from captum.robust import FGSM
from captum.testing.helpers.basic import assertTensorTuplesAlmostEqual
from torch import nn

from captum_apex import APEX, SCHEMES, FeatureBank, LayerAPEX, PrototypeBasis, fit_basis
from captum_apex.layers import Layout, Origin
from tests.captum_apex.attribution.test_captum_contract import EXACT, METHODS, make, state
from tests.networks import PoolingHead, bare_basis, clips, invertible

# Captum's convolutional network ends in a softmax.
pytestmark = pytest.mark.filterwarnings("ignore:the scores are probabilities, as a softmax gives them:UserWarning")

with torch.random.fork_rng():
    torch.manual_seed(0)  # the configuration draws its inputs when it is imported
    from captum.testing.attr.helpers.gen_test_utils import get_target_layer
    from captum.testing.attr.helpers.test_config import config
    from captum.testing.helpers.basic_models import BasicModel_ConvNet


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("nt_type", ["smoothgrad", "smoothgrad_sq", "vargrad"])
def test_noise_tunnel(method, nt_type, scheme):
    apex, batch, samples, target = (
        make(method, scheme=scheme, dtype=torch.float32),
        clips(dtype=torch.float32),
        4,
        [1, 0, 3],
    )
    tunnel = partial(NoiseTunnel(apex).attribute, batch, nt_type=nt_type, nt_samples=samples, stdevs=0.3, target=target)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        actual, deltas = tunnel(return_convergence_delta=True)
        torch.manual_seed(5)
        torch.testing.assert_close(tunnel(), actual, **EXACT)
        torch.manual_seed(5)
        noise = torch.normal(0, torch.full((len(batch) * samples, 1, 8, 10), 0.3))
    noisy = (batch[:, None] + noise.reshape(len(batch), samples, 1, 8, 10)).unbind(
        1
    )  # (clip, sample, ...) → sample × (clip, ...)
    expected = [apex.attribute(clip, target=target, return_convergence_delta=True) for clip in noisy]
    maps = torch.stack([attributions for attributions, _ in expected])
    combined = {
        "smoothgrad": maps.mean(0),
        "smoothgrad_sq": maps.square().mean(0),
        "vargrad": maps.var(0, correction=0),
    }
    torch.testing.assert_close(actual, combined[nt_type], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        deltas.reshape(len(batch), samples), torch.stack([delta for _, delta in expected], 1), rtol=1e-4, atol=1e-5
    )


def perturbed(batch):
    """A perturbation without randomness, so that it can be repeated."""
    return batch + 0.05 * (7 * batch).cos()


def as_tuple(apex):
    """Captum's metrics read a bare tensor as one tensor per clip."""
    if isinstance(apex, APEX):
        return apex.attribute
    return lambda inputs, **options: (apex.attribute(inputs, **options),)


def relative_change(first, second):
    return (first - second).flatten(1).norm(dim=1) / first.flatten(1).norm(dim=1)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_sensitivity_max(method, scheme):
    apex, batch, target = make(method, scheme=scheme), clips(), [1, 0, 3]
    actual = sensitivity_max(as_tuple(apex), batch, perturb_func=perturbed, n_perturb_samples=2, target=target)
    expected = relative_change(apex.attribute(batch, target=target), apex.attribute(perturbed(batch), target=target))
    torch.testing.assert_close(actual, expected, rtol=1e-8, atol=1e-10)


def test_sensitivity_to_an_attack_on_the_model(method):
    apex, batch = make(method), clips()
    attack = FGSM(apex.forward_func, loss_func=lambda output, label: -output[:, label])
    actual = sensitivity_max(
        as_tuple(apex),
        batch,
        perturb_func=lambda inputs: attack.perturb(inputs.requires_grad_(), 0.1, target=1),
        n_perturb_samples=1,
        target=1,
    )
    leaf = batch.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(-apex.forward_func(leaf)[:, 1].sum(), leaf)
    attacked = batch + 0.1 * gradient.sign()
    assert (apex.forward_func(attacked)[:, 1] < apex.forward_func(batch)[:, 1]).all()
    torch.testing.assert_close(
        actual,
        relative_change(apex.attribute(batch, target=1), apex.attribute(attacked, target=1)),
        rtol=1e-8,
        atol=1e-10,
    )


def test_fast_gradient_sign_attack_on_the_evidence():
    apex, batch = make(APEX, "pooling"), clips()
    score, weights = apex.evidence_score, apex.evidence_weights(batch, target=[1, 0, 3], n_channels=2)
    attacked = FGSM(score, loss_func=lambda output, _: -output).perturb(
        batch.requires_grad_(), 0.01, target=None, additional_forward_args=(weights,)
    )
    leaf = batch.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(leaf, weights).sum(), leaf)
    torch.testing.assert_close(attacked, batch - 0.01 * gradient.sign(), rtol=0, atol=1e-12)
    assert (score(attacked, weights) < score(batch, weights)).all()


class Linear(PoolingHead):
    """Affine from input to output."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 5, 3, padding=1)
        self.relu = nn.Identity()


def test_infidelity_is_zero_where_the_map_is_exact():
    """In a model that is affine from end to end, gradient × input through all channels predicts every change."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Linear().double().eval()
    apex = APEX(model, model.features, bare_basis("pooling"), projection=InputXGradient)

    @infidelity_perturb_func_decorator(True)
    def drop(inputs):
        return inputs * (inputs > 0.3)

    batch = clips()
    exact = apex.attribute(batch, target=1, n_channels=None)
    torch.testing.assert_close(
        infidelity(model, drop, batch, exact, target=1), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-20
    )
    strongest = apex.attribute(batch, target=1, n_channels=1)
    missing = ((exact - strongest) * (batch <= 0.3)).sum((1, 2, 3)).square()
    torch.testing.assert_close(infidelity(model, drop, batch, strongest, target=1), missing, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", ["enlarged", "projected"])
def test_infidelity(kind, scheme):
    apex, batch, target = make(METHODS[kind], "nonlinear", scheme), clips(), [1, 0, 3]
    attributions = apex.attribute(batch, target=target)

    actual = infidelity(
        apex.forward_func,
        lambda clips: (clips - perturbed(clips), perturbed(clips)),
        batch,
        attributions,
        target=target,
        n_perturb_samples=3,
    )
    fall = (apex.forward_func(batch) - apex.forward_func(perturbed(batch))).detach()[range(3), target]
    torch.testing.assert_close(
        actual, (((batch - perturbed(batch)) * attributions).sum((1, 2, 3)) - fall).square(), rtol=1e-8, atol=1e-14
    )


# --- the networks of Captum's own tests ---------------------------------------

GENERATED = {entry["name"]: entry for entry in config if LayerGradCam in entry["algorithms"]}


def fitted(model, layer, inputs, additional_forward_args=(), scheme="square"):
    """A basis fitted on random inputs of the shapes in Captum's entry; several inputs of a clip are stacked."""
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    generator = torch.Generator().manual_seed(0)
    dataset = [
        torch.stack([torch.randn(tensor.shape[1:], generator=generator) + tensor[0] for tensor in inputs])
        for _ in range(8)
    ]
    single = tuple(value[:1] if isinstance(value, torch.Tensor) else value for value in additional_forward_args)
    layout = None if isinstance(layer, nn.Conv2d | nn.MaxPool2d) else "n c -> n c 1 1"
    bank = FeatureBank.from_dataset(
        lambda stacked: model(*stacked.unbind(1), *single),
        layer,
        dataset,
        schemes=[scheme],
        layout=layout,
        batch_size=1,
    )
    return fit_basis(bank, scheme, orthogonal=False, epochs=2, n_prototypes=(4, 2))


def generated(name):
    entry = copy.deepcopy(GENERATED[name])
    arguments = entry["attribute_args"]
    layer = get_target_layer(entry["model"], entry["layer"])
    return entry["model"], layer, arguments


def test_captum_still_ships_the_entries_that_are_run_here():
    assert set(GENERATED) == {
        "conv_layer_single_target",
        "basic_layer_in_place",
        "basic_layer_multi_output",
        "basic_layer_multi_input",
        "basic_layer_multiple_target",
        "basic_layer_tensor_multiple_target",
        "basic_layer_multiple_tuple_target",
    }


@pytest.mark.parametrize("name", [name for name in GENERATED if name != "basic_layer_multi_output"])
def test_captums_generated_target_test(name):
    """As in Captum's tests/attr/test_targets.py: a batch gives the same as each example with its target."""
    model, layer, arguments = generated(name)
    basis = fitted(model, layer, arguments["inputs"], arguments.get("additional_forward_args", ()))
    apex, before = LayerAPEX(model, layer, basis), state(model)
    targets, inputs = arguments["target"], arguments["inputs"]
    together = apex.attribute(**arguments)
    n_examples = len(inputs[0]) if isinstance(inputs, tuple) else len(inputs)
    for example in range(n_examples):
        one = slice(example, example + 1)
        arguments["inputs"] = tuple(tensor[one] for tensor in inputs) if isinstance(inputs, tuple) else inputs[one]
        if "additional_forward_args" in GENERATED[name]["attribute_args"]:
            arguments["additional_forward_args"] = tuple(
                value[one] if isinstance(value, torch.Tensor) else value
                for value in GENERATED[name]["attribute_args"]["additional_forward_args"]
            )
        forms = [targets] if isinstance(targets, int) else [targets[example], targets[one]]
        for arguments["target"] in forms:
            assertTensorTuplesAlmostEqual(
                TestCase(), together[one], apex.attribute(**arguments), delta=1e-4, mode="max"
            )
    assert state(model) == before


@pytest.mark.parametrize("name", [name for name in GENERATED if name != "basic_layer_multi_output"])
def test_captums_networks_through_all_channels_give_gradient_times_activation(name):
    """On a grid of one position GradCAM is gradient × activation, and so is the sum over any complete basis."""
    model, layer, arguments = generated(name)
    if isinstance(layer, nn.Conv2d):
        layer = model.pool2  # its grid has one position
    basis = fitted(model, layer, arguments["inputs"], arguments.get("additional_forward_args", ()))
    grad_cam = LayerGradCam(model, layer).attribute(**arguments)
    actual = LayerAPEX(model, layer, basis).attribute(**arguments, n_channels=None)
    torch.testing.assert_close(
        actual.flatten(1), grad_cam.flatten(1), rtol=1e-4, atol=1e-5 * grad_cam.abs().max().item()
    )


def test_captums_layer_with_several_outputs_is_explained_by_the_first():
    model, layer, arguments = generated("basic_layer_multi_output")
    expected = LayerGradientXActivation(model, layer).attribute(**arguments)[0].sum(1)
    basis = PrototypeBasis(torch.eye(4), "square", origin=Origin(layout=Layout("n c -> n c 1 1")))
    actual = LayerAPEX(model, layer, basis).attribute(**arguments, n_channels=None)
    assert expected.abs().max() > 0
    torch.testing.assert_close(actual.flatten(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("wrong", [{"target": 12}, {"inputs": torch.zeros(4, 5, 10, 10)}, {"inputs": None}], ids=str)
def test_captums_generated_hook_removal_test(wrong):
    """As in Captum's tests/attr/test_hook_removal.py: no hook stays, neither after a call nor after a failed call."""
    model, layer, arguments = generated("conv_layer_single_target")
    apex = LayerAPEX(model, layer, fitted(model, layer, arguments["inputs"], scheme="time"))
    before = state(model)
    apex.attribute(**arguments)
    assert state(model) == before
    with pytest.raises((RuntimeError, IndexError, AttributeError, AssertionError, TypeError)):
        apex.attribute(**(arguments | wrong))
    assert state(model) == before


def test_captums_convolutional_network_against_grad_cam():
    """Where the gradient is the same on the whole grid, it is GradCAM's mean gradient, and the maps agree."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = BasicModel_ConvNet().double().eval()
        nn.init.normal_(model.fc1.weight)  # Captum's ones make the softmax's gradient vanish
        nn.init.normal_(model.fc2.weight)
    model.pool2 = nn.AvgPool2d(2)
    batch = clips(4, rows=10, columns=10)
    basis = PrototypeBasis(invertible(4), "square")
    for layer in (model.relu2, model.pool2):
        grad_cam = LayerGradCam(model, layer).attribute(batch, target=[1, 0, 7, 3])
        actual = LayerAPEX(model, layer, basis).attribute(batch, target=[1, 0, 7, 3], n_channels=None)
        assert grad_cam.abs().max() > 1e-3
        torch.testing.assert_close(actual, grad_cam, rtol=0, atol=1e-12)
