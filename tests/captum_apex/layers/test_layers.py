"""A frozen model, hooks on a layer, a layer's output as a grid, fingerprints of weights, origins."""

import json
from dataclasses import asdict
from functools import partial

import pytest
import torch
from torch import nn

from captum_apex.layers.hooks import frozen, watched
from captum_apex.layers.layout import Layout
from captum_apex.layers.models import device_of, fingerprint, layer_name, model_of
from captum_apex.layers.origin import Origin
from captum_apex.layers.values import check_finite
from tests.networks import PoolingHead, build, clips


def test_a_layout_puts_tokens_on_their_grid():
    tokens = torch.arange(2 * 6 * 3.0).reshape(2, 6, 3)
    grid = Layout.of(("n (f t) c -> n c f t", {"f": 2})).grid(tokens)
    for row in range(2):
        for column in range(3):
            assert torch.equal(grid[:, :, row, column], tokens[:, row * 3 + column])


def test_class_tokens_are_left_out_of_the_grid():
    tokens = torch.arange(2 * 8 * 3.0).reshape(2, 8, 3)
    grid = Layout("n (f t) c -> n c f t", {"f": 2}, class_tokens=2).grid(tokens)
    for row in range(2):
        for column in range(3):
            assert torch.equal(grid[:, :, row, column], tokens[:, 2 + row * 3 + column])


@pytest.mark.parametrize("class_tokens", [-1, 8, 9])
def test_class_tokens_that_leave_no_cell_are_refused(class_tokens):
    with pytest.raises(
        ValueError, match=f"expected `class_tokens` from 0 to 7, because 'encoder' gives 8 .* but got {class_tokens}"
    ):
        Layout("n t c -> n c 1 t", class_tokens=class_tokens).grid(torch.zeros(2, 8, 3), "'encoder'")


def test_an_output_without_a_layout_is_an_error_that_names_the_layer():
    with pytest.raises(
        ValueError, match=r"expected 'encoder' to give a tensor that fits .* but got shape \(2, 6, 3\); pass `layout`"
    ):
        Layout.of(None).grid(torch.zeros(2, 6, 3), "'encoder'")
    with pytest.raises(ValueError, match="4 axes"):
        Layout.of("n t c -> n c t").grid(torch.zeros(2, 6, 3))
    with pytest.raises(TypeError, match="expected `layout` to be an einops pattern"):
        Layout.of(3)


def test_a_layer_has_the_name_that_its_model_gives_it():
    model, _ = build("pooling")
    assert layer_name(model, model.stem[0]) == "stem.0"
    assert layer_name(model.forward, model.relu) == "relu"
    assert layer_name(partial(model, gain=2.0), model.relu) == "relu"
    with pytest.raises(ValueError, match="expected `layer` to be part of the model PoolingHead, but this ReLU is not"):
        layer_name(model, nn.ReLU())
    with pytest.raises(TypeError, match="expected `layer` to be a torch.nn.Module, but got str"):
        layer_name(model, "relu")
    assert model_of(lambda x: x) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("stem.0", r"but got str 'stem\.0'; give the module of this name: model\.get_submodule\('stem\.0'\)$"),
        ("sten.0", r"but got str 'sten\.0'; give a module, as .* does by one of the names stem\.0, .*…$"),
        ("xyz", r"but got str 'xyz'; give a module, .* of the names [a-z., 0-9]+, …$"),
        (3, "but got int$"),
    ],
)
def test_a_name_in_place_of_a_layer_is_answered_by_its_module_or_the_nearest_names(given, said):
    model, _ = build("pooling")
    for forward_func in (model, model.forward, partial(model, gain=2.0)):
        with pytest.raises(TypeError, match=said):
            layer_name(forward_func, given)
    with pytest.raises(TypeError, match="to be a torch.nn.Module, but got [a-z]+$"):
        layer_name(lambda x: x, given)


def test_frozen_restores_every_flag_after_an_exception():
    model = PoolingHead().train()
    model.dropout.eval()
    model.features.weight.requires_grad_(False)
    before = [m.training for m in model.modules()], [p.requires_grad for p in model.parameters()]
    with pytest.raises(KeyError), frozen(model, model.features):
        assert not any(m.training for m in model.modules())
        assert not any(p.requires_grad for p in model.parameters())
        raise KeyError
    assert before == ([m.training for m in model.modules()], [p.requires_grad for p in model.parameters()])


def test_a_watched_layer_has_its_output_replaced_and_no_hook_afterwards():
    model, layer = build("pooling after relu")
    with watched(layer, "relu", torch.zeros_like):
        silent = model(clips())
    torch.testing.assert_close(silent, model.classifier.bias.expand_as(silent), rtol=0, atol=0)
    assert not layer._forward_hooks


class Gives(nn.Module):
    """A module that gives what a function makes of its input."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, inputs):
        return self.make(inputs)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("twice", "'relu' to run once"),
        ("never", "'relu' to run in the forward pass"),
        ("dict", r"'relu' to give a tensor, or a tuple that begins with one, but got a dict with \['a'\] \(1, 8, 10\)"),
        ("tuple without a tensor", "but got a tuple with .*; choose a layer inside it or after it, or give the tensor"),
        ("nothing", r"but got a NoneType; choose"),
    ],
)
def test_a_layer_that_cannot_be_watched_is_named_in_the_error(wrong, message):
    gives = {
        "dict": lambda inputs: {"a": inputs},
        "tuple without a tensor": lambda inputs: ("a", inputs),
        "nothing": lambda _: None,
    }
    layer = Gives(gives[wrong]) if wrong in gives else nn.ReLU()
    with pytest.raises(ValueError, match=message), watched(layer, "relu", lambda _: None):
        for _ in range({"twice": 2, "never": 0}.get(wrong, 1)):
            layer(torch.zeros(1, 8, 10))
    assert not layer._forward_hooks


def test_finite_values_pass_the_check_even_if_their_sum_overflows():
    large = torch.full((3, 8), 3e38)
    check_finite(large, "the inputs")
    for damage in (torch.nan, torch.inf, -torch.inf):
        with pytest.raises(ValueError, match="the inputs of clip 12 have NaN or infinity"):
            check_finite(large.index_put((torch.tensor(2), torch.tensor(5)), torch.tensor(damage)), "the inputs", 10)


def test_the_fingerprint_depends_on_every_weight_but_not_on_the_precision():
    model, _ = build("pooling", dtype=torch.float32)
    before = fingerprint(model)
    assert fingerprint(model.double()) == before == fingerprint(model.float())
    with torch.no_grad():
        model.stem[1].running_var[0] += 1e-3
    assert fingerprint(model) != before
    assert fingerprint(lambda x: x) == ""


def test_the_same_numbers_in_another_shape_have_another_fingerprint():
    wide = nn.Linear(2, 3, bias=False)
    tall = nn.Linear(3, 2, bias=False)
    tall.weight.data = wide.weight.data.reshape(2, 3).clone()
    assert fingerprint(tall) != fingerprint(wide)


def test_an_origin_is_the_same_after_json():
    origin = Origin("stages.3", Layout("n (f t) c -> n c f t", {"f": 12}, 2), (12, 101), (1, 128, 1024), "abc", 7, True)
    assert Origin.from_dict(json.loads(json.dumps(asdict(origin)))) == origin
    assert Origin.from_dict(json.loads(json.dumps(asdict(Origin())))) == Origin()


def test_the_device_of_a_model_without_parameters_is_that_of_its_buffers():
    """A model of buffers alone, such as a spectrogram transform, must get its inputs on the device of the buffers."""
    model = nn.BatchNorm2d(3, affine=False, device="meta")
    assert not list(model.parameters())
    assert device_of(nn.Sequential(nn.ReLU(), model)) == torch.device("meta")
