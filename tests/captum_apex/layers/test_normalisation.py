"""Normalisations with a constant variance: the model's values, the gradient of a fixed scaling."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_apex.layers.normalisation import ConstantVariance

torchvision_norm = pytest.importorskip("torchvision.models.convnext").LayerNorm2d
timm_norm = pytest.importorskip("timm.layers").LayerNorm2d


class L2Norm(nn.Module):
    """The first step of a cosine similarity."""

    def forward(self, x):
        return F.normalize(x, dim=-1)


NORMS = {
    "layer norm": (lambda: nn.LayerNorm(6), (5, 6)),
    "layer norm over two axes": (lambda: nn.LayerNorm((4, 6)), (5, 4, 6)),
    "layer norm without weights": (lambda: nn.LayerNorm(6, elementwise_affine=False), (5, 6)),
    "rms norm": (lambda: nn.RMSNorm(6), (5, 6)),
    "rms norm with its own epsilon": (lambda: nn.RMSNorm(6, eps=1e-2), (5, 6)),
    "group norm": (lambda: nn.GroupNorm(2, 6), (5, 6, 3, 4)),
    "group norm of vectors": (lambda: nn.GroupNorm(2, 6), (5, 6)),
    "instance norm": (lambda: nn.InstanceNorm2d(6, affine=True), (5, 6, 3, 4)),
    "L2 norm": (L2Norm, (5, 6)),
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
    direction = torch.randn(x.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def gradient_times_input():
        return (torch.autograd.grad((norm(x) * direction).sum(), x)[0] * x).sum().item()

    with ConstantVariance():
        constant = gradient_times_input()
    expected = ((norm(x) - norm(torch.zeros_like(x))) * direction).sum().item()
    assert constant == pytest.approx(expected, abs=1e-9)
    assert abs(gradient_times_input()) < 0.1 * abs(expected)


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
