"""Normalisations with a constant variance: the model's values, the gradient of a fixed scaling."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_apex.layers import normalisation
from captum_apex.layers.normalisation import ConstantVariance

torchvision_norm = pytest.importorskip("torchvision.models.convnext").LayerNorm2d
timm_norm = pytest.importorskip("timm.layers").LayerNorm2d


OTHER = torch.tensor([1.0, -2.0, 0.5, 3.0, 0.2, -0.7], dtype=torch.float64)


class Call(nn.Module):
    """A call of torch as a module."""

    def __init__(self, function, *arguments, **settings):
        super().__init__()
        self.function = partial(function, **settings)
        self.arguments = arguments

    def forward(self, x):
        value = self.function(x, *self.arguments)
        return value[0] if isinstance(value, tuple) else value


class Similarity(nn.CosineSimilarity):
    def forward(self, x):
        return super().forward(OTHER, x)


def cosine(x, **settings):
    return F.cosine_similarity(x, OTHER, **settings)


NORMS = {
    "layer norm": (lambda: nn.LayerNorm(6), (5, 6)),
    "layer norm over two axes": (lambda: nn.LayerNorm((4, 6)), (5, 4, 6)),
    "layer norm without weights": (lambda: nn.LayerNorm(6, elementwise_affine=False), (5, 6)),
    "rms norm": (lambda: nn.RMSNorm(6), (5, 6)),
    "rms norm with its own epsilon": (lambda: nn.RMSNorm(6, eps=1e-2), (5, 6)),
    "group norm": (lambda: nn.GroupNorm(2, 6), (5, 6, 3, 4)),
    "group norm of vectors": (lambda: nn.GroupNorm(2, 6), (5, 6)),
    "instance norm": (lambda: nn.InstanceNorm2d(6, affine=True), (5, 6, 3, 4)),
    "instance norm without weights": (lambda: nn.InstanceNorm1d(6), (5, 6, 4)),
    **{f"L{p} norm": (partial(Call, F.normalize, p=p, dim=-1), (5, 6)) for p in (0.5, 1, 1.5, 2, 3, float("inf"))},
    "L2 norm over channels": (partial(Call, F.normalize), (5, 6, 3, 4)),
    "cosine similarity": (partial(Call, cosine, dim=-1), (5, 6)),
    "cosine similarity with a gradient in the second place": (partial(Similarity, dim=-1), (5, 6)),
    "torch.layer_norm": (partial(Call, torch.layer_norm, (6,)), (5, 6)),
    "torch.native_layer_norm": (partial(Call, torch.native_layer_norm, (6,), OTHER, -OTHER, 1e-5), (5, 6)),
    "torch.rms_norm": (partial(Call, torch.rms_norm, (6,), OTHER), (5, 6)),
    "torch.group_norm": (partial(Call, torch.group_norm, 2, OTHER, -OTHER), (5, 6, 4)),
    "torch.native_group_norm": (
        partial(Call, torch.native_group_norm, OTHER, -OTHER, 5, 6, 4, 2, 1e-5),
        (5, 6, 4),
    ),
    "aten.layer_norm": (partial(Call, torch.ops.aten.layer_norm.default, (6,), OTHER, -OTHER), (5, 6)),
    "aten.native_layer_norm": (
        partial(Call, torch.ops.aten.native_layer_norm, (6,), OTHER, -OTHER, 1e-5),
        (5, 6),
    ),
    "aten.cosine_similarity": (partial(Call, torch.ops.aten.cosine_similarity, OTHER, dim=-1), (5, 6)),
    "timm's": (lambda: timm_norm(6), (5, 6, 3, 4)),
    "torchvision's": (lambda: torchvision_norm(6), (5, 6, 3, 4)),
}


def build(name):
    make, shape = NORMS[name]
    norm, generator = make().double(), torch.Generator().manual_seed(0)
    for parameter in norm.parameters():
        parameter.data.normal_(generator=generator)
    return norm, torch.randn(shape, generator=generator, dtype=torch.float64).add(0.5).requires_grad_()


@pytest.mark.parametrize("name", NORMS)
def test_values_are_the_models_bit_for_bit(name):
    norm, x = build(name)
    plain = norm(x)
    with ConstantVariance():
        assert torch.equal(norm(x), plain)
    assert torch.equal(norm(x), plain)


@pytest.mark.parametrize("name", NORMS)
def test_the_gradient_is_that_of_a_fixed_scaling(name):
    """The normalisation is then affine, so gradient · x = f(x) − f(0); with the true gradient it is about 0."""
    norm, x = build(name)
    direction = torch.randn(norm(x).shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def gradient_times_input():
        return (torch.autograd.grad((norm(x) * direction).sum(), x)[0] * x).sum().item()

    with ConstantVariance():
        constant = gradient_times_input()
    expected = ((norm(x) - norm(torch.zeros_like(x))) * direction).sum().item()
    assert constant == pytest.approx(expected, abs=1e-9)
    assert abs(gradient_times_input()) < 0.1 * abs(expected)


def gradient_at(function, x):
    """The gradient of a weighted sum of the values, with constant variances."""
    with ConstantVariance():
        value = function(x)
        direction = torch.randn(value.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        return torch.autograd.grad((value * direction).sum(), x)[0]


@pytest.mark.parametrize("name", NORMS)
def test_a_value_may_be_changed_in_place(name):
    """As the activations and sums after a normalisation do it: the gradient is that of the same without `_`."""
    norm, x = build(name)
    for change in (lambda y: y.relu_(), lambda y: y.mul_(2).add_(1), lambda y: F.hardswish(y, inplace=True)):
        torch.testing.assert_close(
            gradient_at(lambda x, change=change: change(norm(x)), x),
            gradient_at(lambda x, change=change: change(norm(x) + 0), x),
            rtol=1e-12,
            atol=1e-12,
        )


@pytest.mark.parametrize("name", [name for name in NORMS if "native_group" not in name])
def test_a_normalisation_under_vmap_has_the_same_gradient(name):
    """`torch.vmap` over the clips; native group normalisation is told the number of clips."""
    norm, x = build(name)
    torch.testing.assert_close(
        gradient_at(torch.vmap(lambda clip: norm(clip[None])[0]), x), gradient_at(norm, x), rtol=1e-12, atol=1e-12
    )


NO_NORMALISATIONS = {
    *("norm", "native_norm", "frobenius_norm", "nuclear_norm", "norm_except_dim"),  # lengths, for a hand-written one
    *("normal", "set_flush_denormal", "embedding_renorm_", "cosine_embedding_loss"),
    "renorm",  # named in the guide as not held
    "quantized_batch_norm",  # without gradients
}


def test_every_normalisation_of_torch_is_known():
    """A new version of torch may have one more."""
    names = {name for place in (torch, F) for name in dir(place) if "norm" in name or name == "cosine_similarity"}
    public = {name for name in names if not name.startswith(("_", "cudnn", "miopen", "batch_norm_"))}
    held = {function for function in normalisation._WITH_CONSTANT_VARIANCE if not hasattr(function, "overloadpacket")}
    assert {name for name in public if getattr(torch, name, None) not in held} - NO_NORMALISATIONS == {
        "local_response_norm",
        "normalize",
    }
    assert {
        F.local_response_norm,
        F.normalize,
        F.layer_norm,
        F.rms_norm,
        F.group_norm,
        F.instance_norm,
        F.batch_norm,
    } <= held


def test_the_smallest_norm_that_divides_is_constant_too():
    """Below `eps` torch divides by `eps`; a clip of zeros must not give NaN."""
    x = torch.tensor([[3.0, 4.0], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    with ConstantVariance():
        gradients = [
            torch.autograd.grad(F.normalize(x, p=p, dim=1, eps=100.0).sum(), x)[0] for p in (1, 2, float("inf"))
        ]
        cosine = torch.autograd.grad(F.cosine_similarity(x, 50 * torch.ones_like(x), eps=100.0).sum(), x)[0]
    for gradient in gradients:
        assert torch.equal(gradient, torch.full_like(x, 0.01))
    torch.testing.assert_close(cosine, torch.full_like(x, 50 / 100 / 100), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("p", "norm"), [(1, 7.0), (2, 5.0), (float("inf"), 4.0)])
def test_the_norm_has_the_order_of_the_call(p, norm):
    x = torch.tensor([[3.0, -4.0]], dtype=torch.float64, requires_grad=True)
    with ConstantVariance():
        gradient = torch.autograd.grad(F.normalize(x, p=p, dim=1).sum(), x)[0]
    torch.testing.assert_close(gradient, torch.full_like(x, 1 / norm), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("shape", [(2, 6, 4), (2, 6, 3, 4)])
def test_local_response_normalisation_has_a_constant_divisor(size, shape):
    """Not scale-invariant, so it is checked against the formula instead of a total of zero."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    norm = nn.LocalResponseNorm(size, alpha=0.7, beta=0.6, k=1.3)
    gradient = gradient_at(norm, x)
    direction = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(gradient * x, norm(x) * direction, rtol=1e-12, atol=1e-12)
    with ConstantVariance():
        assert torch.equal(norm(x), nn.LocalResponseNorm(size, alpha=0.7, beta=0.6, k=1.3)(x.detach()))


def batch_norm_calls(weight, bias):
    statistics = (torch.zeros(6, dtype=torch.float64), torch.ones(6, dtype=torch.float64))
    return {
        "module": lambda x: unstored(weight, bias)(x),
        "functional": lambda x: F.batch_norm(x, None, None, weight, bias, training=True),
        "torch": lambda x: torch.batch_norm(x, weight, bias, None, None, True, 0.1, 1e-5, False),
        "native": lambda x: torch.native_batch_norm(x, weight, bias, None, None, True, 0.1, 1e-5)[0],
        "with stored statistics too": lambda x: F.batch_norm(x, *(s.clone() for s in statistics), weight, bias, True),
    }


def unstored(weight, bias):
    norm = nn.BatchNorm2d(6, track_running_stats=False).double().eval()
    norm.weight.data, norm.bias.data = weight, bias
    return norm


@pytest.mark.parametrize("call", batch_norm_calls(None, None))
def test_batch_normalisation_with_the_statistics_of_the_batch_has_those_of_a_stored_one(call):
    x = torch.randn(5, 6, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    function = batch_norm_calls(OTHER, -OTHER)[call]
    stored = nn.BatchNorm2d(6).double().eval()
    stored.weight.data, stored.bias.data = OTHER, -OTHER
    stored.running_mean, stored.running_var = x.detach().mean((0, 2, 3)), x.detach().var((0, 2, 3), correction=0)
    torch.testing.assert_close(gradient_at(function, x), gradient_at(stored, x), rtol=1e-12, atol=1e-12)
    with ConstantVariance():
        value = function(x)
    assert torch.equal(value, function(x))


def test_instance_normalisation_with_stored_statistics_keeps_its_gradient():
    norm = nn.InstanceNorm2d(3, track_running_stats=True, affine=True).double().eval()
    norm.running_mean.fill_(0.5)
    norm.running_var.fill_(4.0)
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    torch.testing.assert_close(
        gradient_at(norm, x), gradient_at(lambda x: (x - 0.5) / 4.00001**0.5, x), rtol=1e-12, atol=1e-12
    )


def test_a_normalised_weight_is_not_a_normalised_input():
    """The layer does not reach the weights, so `weight_norm` leaves a linear layer linear."""
    linear = torch.nn.utils.parametrizations.weight_norm(nn.Linear(6, 4)).double()
    x = torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()
    assert torch.equal(gradient_at(linear, x), gradient_at(lambda x: F.linear(x, linear.weight.detach()), x))


def test_layer_norm_against_the_formula_with_its_variance_detached():
    norm, x = build("layer norm")
    direction = torch.randn(x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    variance = ((x - x.mean(1, keepdim=True)) ** 2).mean(1, keepdim=True).detach()
    slow = (x - x.mean(1, keepdim=True)) / (variance + norm.eps).sqrt() * norm.weight + norm.bias
    expected = torch.autograd.grad((slow * direction).sum(), x)[0]
    with ConstantVariance():
        actual = torch.autograd.grad((norm(x) * direction).sum(), x)[0]
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_functional_calls_are_intercepted_too():
    x = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for call in (
        lambda: F.layer_norm(x, (5,)),
        lambda: torch.layer_norm(x, (5,)),
        lambda: F.layer_norm(input=x, normalized_shape=(5,)),
    ):
        with ConstantVariance():
            gradient = torch.autograd.grad(call().square().sum(), x)[0]
        assert (gradient * x).sum().abs() > 1


def test_torchs_instance_norm_has_another_order_of_arguments():
    x = torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    weight, bias = torch.tensor([[1.0, -2.0, 3.0, 0.5], [0.1, 0.2, 0.3, 0.4]], dtype=torch.float64)
    with ConstantVariance():
        ours = torch.instance_norm(x, weight, bias, None, None, True, 0.1, 1e-5, False)
        expected = F.instance_norm(x, weight=weight, bias=bias)
        gradients = [torch.autograd.grad(value.square().sum(), x)[0] for value in (ours, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_has_the_scale_of_the_model(dtype):
    """torch takes float32's epsilon for an RMSNorm of half precision without one; small features show it."""
    x = (0.05 * torch.randn(4, 6, generator=torch.Generator().manual_seed(0))).to(dtype).requires_grad_()
    with ConstantVariance():
        value = F.rms_norm(x, (6,))
        gradient = torch.autograd.grad(value.sum(), x)[0]
    torch.testing.assert_close(gradient * x, value, rtol=0.02, atol=1e-3)


def test_batch_normalisation_in_evaluation_mode_keeps_its_gradient():
    norm = nn.BatchNorm2d(3).double().eval()
    norm.running_var.fill_(4.0)
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    with ConstantVariance():
        constant = torch.autograd.grad(norm(x).square().sum(), x)[0]
    assert torch.equal(constant, torch.autograd.grad(norm(x).square().sum(), x)[0])


def test_the_mode_ends_after_an_exception():
    norm, x = build("layer norm")
    with pytest.raises(KeyError), ConstantVariance():
        raise KeyError
    assert abs((torch.autograd.grad(norm(x).square().sum(), x)[0] * x).sum()) < 0.05
