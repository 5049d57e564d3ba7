"""The contract of a Captum attribution class: calls, targets, shapes, failures, and an unchanged model."""

import copy
import inspect
import random
from functools import partial

import numpy as np
import pytest
import torch
from captum.attr import GradientAttribution, InputXGradient, IntegratedGradients, LayerAttribution, LayerGradCam
from torch import nn

from captum_apex import APEX, SCHEMES, FeatureBank, LayerAPEX, PrototypeBasis, fit_basis
from captum_apex.layers.models import fingerprint
from captum_apex.layers.origin import Origin
from tests.networks import NETWORKS, PoolingHead, bare_basis, build, clips, invertible

METHODS = {
    "layer": LayerAPEX,
    "enlarged": APEX,
    "projected": partial(APEX, projection=IntegratedGradients),
}
# the transformer's grid has one row
CASES = [(name, scheme) for name in NETWORKS for scheme in SCHEMES if name != "tokens" or scheme in ("square", "time")]
EXACT = {"rtol": 0, "atol": 0}


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


@pytest.fixture(params=CASES, ids="-".join)
def case(request):
    return request.param


def make(method, name="pooling after relu", scheme="square", dtype=torch.float64):
    """A method on one of the small networks, with a basis that is neither the identity nor orthogonal."""
    model, layer = build(name, dtype=dtype)
    return method(model, layer, bare_basis(name, scheme))


# --- classes and signatures ---------------------------------------------------


def test_the_classes_are_captums():
    assert issubclass(LayerAPEX, LayerAttribution)
    assert issubclass(LayerAPEX, GradientAttribution)
    assert issubclass(APEX, GradientAttribution)
    assert not issubclass(APEX, LayerAttribution)


@pytest.mark.parametrize("kind", [LayerAPEX, APEX])
def test_signatures_begin_as_those_of_grad_cam(kind):
    ours, theirs = (
        list(inspect.signature(function).parameters.values()) for function in (kind.__init__, LayerGradCam.__init__)
    )
    assert [p.name for p in ours][:3] == [p.name for p in theirs][:3] == ["self", "forward_func", "layer"]
    assert [p.name for p in ours][3:5] == ["basis", "device_ids"]
    assert all(p.default is not p.empty for p in ours[4:])
    ours, theirs = (
        list(inspect.signature(function).parameters.values()) for function in (kind.attribute, LayerGradCam.attribute)
    )
    assert [p.name for p in ours][:5] == [p.name for p in theirs][:5]
    assert all(p.default is not p.empty for p in ours[2:])


def test_constructors_work_by_position():
    model, layer = build("pooling after relu")
    basis = bare_basis("pooling after relu")
    by_position = LayerAPEX(model, layer, basis, [0])
    assert by_position.forward_func is model
    assert by_position.layer is layer
    assert by_position.basis is basis
    assert by_position.device_ids == [0]
    projected = APEX(model, layer, basis, None, InputXGradient, "n c f t")
    by_name = APEX(forward_func=model, layer=layer, basis=basis, projection=InputXGradient)
    torch.testing.assert_close(projected.attribute(clips(), 1), by_name.attribute(clips(), target=1), **EXACT)
    assert (projected.layer, projected.basis, projected.forward_func) == (layer, basis, model)


def test_attribute_works_by_position(method):
    apex, gain = make(method), torch.tensor([[2.0], [1.0], [3.0]], dtype=torch.float64)
    named = apex.attribute(clips(), target=[1, 0, 3], additional_forward_args=gain)
    torch.testing.assert_close(apex.attribute(clips(), [1, 0, 3], gain), named, **EXACT)


def test_attribute_can_be_unwrapped_for_noise_tunnel(method):
    apex = make(method)
    torch.testing.assert_close(
        type(apex).attribute.__wrapped__(apex, clips(), target=1), apex.attribute(clips(), target=1), **EXACT
    )


def test_what_it_says_of_itself(method):
    apex = make(method)
    assert apex.has_convergence_delta() is True
    assert apex.multiplies_by_inputs is True


# --- targets ------------------------------------------------------------------

ONE_TARGET = [
    -2,
    torch.tensor(2),
    torch.tensor([2]),
    [2, 2, 2],
    torch.tensor([2, 2, 2]),
    (2,),
    (-2,),
    [(2,), (2,), (2,)],
]
PER_CLIP = [[1, 0, 3], torch.tensor([1, 0, 3]), [(1,), (0,), (3,)], [(-3,), (-4,), (-1,)]]


@pytest.mark.parametrize("target", ONE_TARGET, ids=str)
def test_every_form_of_one_target(method, target):
    apex = make(method, scheme="time")
    torch.testing.assert_close(
        apex.attribute(clips(), target=target), apex.attribute(clips(), target=2), rtol=0, atol=1e-14
    )


@pytest.mark.parametrize("target", PER_CLIP, ids=str)
def test_every_form_of_a_target_per_clip(method, target):
    apex = make(method, scheme="frequency")
    actual = apex.attribute(clips(), target=target)
    for clip, index in enumerate([1, 0, 3]):
        alone = apex.attribute(clips()[clip : clip + 1], target=index)
        torch.testing.assert_close(actual[clip : clip + 1], alone, rtol=0, atol=1e-12)


class SeveralAxes(PoolingHead):
    """An output (clip, 4, 2, 3), each entry another multiple of the logit."""

    def forward(self, clips):
        factors = torch.arange(1, 7, dtype=clips.dtype).reshape(2, 3)
        return super().forward(clips)[:, :, None, None] * factors


@pytest.mark.parametrize("target", [(2, 1, 0), [(2, 1, 0), (0, 0, 2), (1, 1, 1)]], ids=str)
def test_targets_of_outputs_with_several_axes(method, target):
    plain, layer = build("pooling after relu")
    several = SeveralAxes().double().eval()
    several.load_state_dict(plain.state_dict())
    actual = method(several, several.relu, bare_basis("pooling after relu")).attribute(clips(), target=target)
    simple = method(plain, layer, bare_basis("pooling after relu"))
    for clip, (index, row, column) in enumerate(target if isinstance(target, list) else [target] * 3):
        expected = simple.attribute(clips()[clip : clip + 1], target=index) * (1 + 3 * row + column)
        torch.testing.assert_close(actual[clip : clip + 1], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("keep_axis", [True, False])
def test_a_model_with_one_output_needs_no_target(method, keep_axis):
    model, layer = build("layer norm")
    one = (lambda x: model(x)[:, 2:3]) if keep_axis else (lambda x: model(x)[:, 2])
    actual = method(one, layer, bare_basis("layer norm")).attribute(clips())
    torch.testing.assert_close(
        actual, method(model, layer, bare_basis("layer norm")).attribute(clips(), target=2), **EXACT
    )


BAD_TARGETS = [
    None,
    1.0,
    "1",
    torch.tensor(1.0),
    [0, 1],
    torch.tensor([0, 1]),
    torch.tensor([[0], [1], [2]]),
    [0.0, 1.0, 2.0],
    [(0,), (1,)],
    (0, 0),
    [(0, 0)] * 3,
    4,
    -5,
    (4,),
    [0, 1, 4],
    [0, -1, 1],
    torch.tensor([0, 1, 4]),
    [(0,), (1,), (4,)],
]


@pytest.mark.parametrize("target", BAD_TARGETS, ids=str)
def test_a_bad_target_raises_what_captum_raises(method, target):
    apex = make(method)
    with pytest.raises(Exception) as theirs:  # noqa: PT011 - which one is Captum's matter
        LayerGradCam(apex.forward_func, apex.layer).attribute(clips(), target=target)
    with pytest.raises(theirs.type) as ours:
        apex.attribute(clips(), target=target)
    assert ours.type is theirs.type
    assert str(ours.value) == str(theirs.value)
    assert ours.value.__cause__ is ours.value.__context__ is None


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (None, AssertionError, "Target not provided when necessary"),
        (1.0, AssertionError, "is not valid"),
        ([0, 1], AssertionError, "Target list length does not match output"),
        (torch.tensor([0, 1]), AssertionError, "Tensor target dimension"),
        ((0, 0), AssertionError, "Cannot choose target column"),
        (4, IndexError, "out of bounds"),
    ],
    ids=str,
)
def test_the_documented_errors_of_targets(method, target, error, message):
    with pytest.raises(error, match=message):
        make(method).attribute(clips(), target=target)


# --- what comes out -----------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.float64, 1e-10)], ids=str)
def test_a_batch_gives_what_one_by_one_gives(method, case, dtype, tolerance):
    apex, batch, targets = make(method, *case, dtype=dtype), clips(4, dtype=dtype), [1, 0, 3, 1]
    together, deltas = apex.attribute(batch, target=targets, return_convergence_delta=True, n_channels=2)
    for clip, target in enumerate(targets):
        alone, delta = apex.attribute(
            batch[clip : clip + 1], target=target, return_convergence_delta=True, n_channels=2
        )
        torch.testing.assert_close(together[clip : clip + 1], alone, rtol=0, atol=tolerance)
        torch.testing.assert_close(deltas[clip : clip + 1], delta, rtol=0, atol=tolerance)


def test_the_input_shaped_class_gives_a_tuple_for_a_tuple():
    for kind in ("enlarged", "projected"):
        apex, batch = make(METHODS[kind]), clips()
        alone = apex.attribute(batch, target=1)
        (actual,) = apex.attribute((batch,), target=1)
        torch.testing.assert_close(actual, alone, **EXACT)
        (actual,), delta = apex.attribute((batch,), target=1, return_convergence_delta=True)
        torch.testing.assert_close(actual, alone, **EXACT)
        torch.testing.assert_close(delta, apex.attribute(batch, target=1, return_convergence_delta=True)[1], **EXACT)
        assert alone.shape == batch.shape


def test_the_layers_class_gives_a_tensor_as_grad_cam_does():
    apex, batch = make(LayerAPEX), clips()
    grad_cam = LayerGradCam(apex.forward_func, apex.layer).attribute((batch,), target=1)
    actual = apex.attribute((batch,), target=1)
    assert actual.shape == grad_cam.shape == (3, 1, 4, 5)
    torch.testing.assert_close(actual, apex.attribute(batch, target=1), **EXACT)


def silenced(model, layer, batch, target):
    """The score when the layer gives zeros, on a copy of the model."""
    name = next(name for name, module in model.named_modules() if module is layer)
    model = copy.deepcopy(model)
    model.get_submodule(name).register_forward_hook(lambda *arguments: torch.zeros_like(arguments[2]))
    return model(batch).detach()[range(len(batch)), target]


@pytest.mark.parametrize("n_channels", [1, 3, None])
def test_the_convergence_delta_is_the_maps_total_minus_what_the_layer_adds(case, n_channels):
    model, layer = build(case[0])
    apex, target = LayerAPEX(model, layer, bare_basis(*case)), [1, 0, 3]
    actual, delta = apex.attribute(clips(), target=target, n_channels=n_channels, return_convergence_delta=True)
    added = model(clips()).detach()[range(3), target] - silenced(model, layer, clips(), target)
    assert delta.shape == (3,)
    torch.testing.assert_close(delta, actual.sum((1, 2, 3)) - added, rtol=0, atol=1e-12)
    if n_channels is None and NETWORKS[case[0]].affine_head:
        torch.testing.assert_close(delta, torch.zeros_like(delta), rtol=0, atol=1e-12)
    for kind in ("enlarged", "projected"):  # the delta is the evidence's, however it reaches the input
        other = make(METHODS[kind], *case).attribute(
            clips(), target=target, n_channels=n_channels, return_convergence_delta=True
        )
        torch.testing.assert_close(other[1], delta, rtol=0, atol=1e-12)


def frozen_parameters(apex, batch):
    for parameter in apex.forward_func.parameters():
        parameter.requires_grad_(False)
    return apex.attribute(batch, target=1)


def without_gradients(apex, batch):
    with torch.no_grad():
        return apex.attribute(batch, target=1)


def in_inference_mode(apex, batch):
    with torch.inference_mode():
        return apex.attribute(batch, target=1)


def inputs_from_inference_mode(apex, batch):
    with torch.inference_mode():
        batch = batch.clone()
    return apex.attribute(batch, target=1)


def all_in_inference_mode(apex, batch):
    with torch.inference_mode():
        batch, gain = batch.clone(), torch.ones(len(batch), 1, dtype=batch.dtype)
        return apex.attribute(batch, target=1, additional_forward_args=gain)


def inputs_with_gradients(apex, batch):
    return apex.attribute(batch.clone().requires_grad_(), target=1)


def inputs_in_a_graph(apex, batch):
    return apex.attribute(batch.clone().requires_grad_() * 1, target=1)


CIRCUMSTANCES = [
    frozen_parameters,
    without_gradients,
    in_inference_mode,
    inputs_from_inference_mode,
    all_in_inference_mode,
    inputs_with_gradients,
    inputs_in_a_graph,
]


@pytest.mark.parametrize("circumstances", CIRCUMSTANCES)
@pytest.mark.parametrize(
    "kind", [*METHODS.values(), partial(APEX, projection=InputXGradient)], ids=[*METHODS, "input x gradient"]
)
def test_the_values_do_not_depend_on_how_gradients_are_set(kind, circumstances):
    expected = make(kind).attribute(clips(), target=1)
    actual = circumstances(make(kind), clips())
    assert not actual.requires_grad
    torch.testing.assert_close(actual.clone(), expected, **EXACT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_outputs_are_plain_tensors_of_the_inputs_kind(method, case, dtype):
    batch = clips(dtype=dtype).requires_grad_()
    for actual in make(method, *case, dtype=dtype).attribute(batch, target=1, return_convergence_delta=True):
        assert actual.dtype == dtype
        assert actual.device == batch.device
        assert not actual.requires_grad
        assert actual.grad_fn is None
        assert actual.is_contiguous()
        assert actual.isfinite().all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_what_the_cpu_gives(method):
    apex = make(method, "layer norm", "time")
    expected = apex.attribute(clips(), target=1, return_convergence_delta=True)
    apex.forward_func.cuda()
    for actual, value in zip(
        apex.attribute(clips().cuda(), target=1, return_convergence_delta=True), expected, strict=True
    ):
        assert actual.is_cuda
        torch.testing.assert_close(actual.cpu(), value, rtol=0, atol=1e-10)


def test_calls_repeat_bit_for_bit_and_leave_the_random_numbers_alone(method, case):
    apex = make(method, *case)
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002 - the global state is meant
    actual = [apex.attribute(clips(), target=1, return_convergence_delta=True) for _ in range(2)]
    torch.testing.assert_close(actual[0], actual[1], **EXACT)
    assert torch.equal(torch.get_rng_state(), states[0])
    state = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(now, then) for now, then in zip(state, states[1], strict=True))
    assert random.getstate() == states[2]


# --- the model is left as it was ----------------------------------------------

HOOKS = [name for name in vars(nn.Module()) if name.endswith("_hooks")]


def state(model, *tensors):
    """Everything that a call could change, as values that can be compared."""
    actual = {"grad enabled": torch.is_grad_enabled(), "modules": [name for name, _ in model.named_modules()]}
    for name, module in model.named_modules():
        actual[name, "training"] = module.training
        actual[name, "attributes"] = sorted(vars(module))
        actual |= {(name, hooks): list(getattr(module, hooks).items()) for hooks in HOOKS}
    named = [
        *model.named_parameters(),
        *model.named_buffers(),
        *((str(index), tensor) for index, tensor in enumerate(tensors)),
    ]
    for name, tensor in named:
        actual[name] = (
            id(tensor),
            tensor.requires_grad,
            tensor.tolist(),
            None if tensor.grad is None else tensor.grad.tolist(),
        )
    return actual


def used_model(name="pooling after relu", **options):
    """A model in training mode but for one module, with gradients, one frozen parameter, and hooks of the user."""
    model, layer = build(name, **options)
    model.train()
    model.stem[1].eval()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    model.classifier.bias.requires_grad_(False)
    layer.register_forward_hook(lambda *_: None)
    layer.register_forward_pre_hook(lambda *_: None)
    model.classifier.register_full_backward_hook(lambda *_: None)
    return model, layer


def used_batch():
    batch = clips().requires_grad_()
    batch.grad = torch.ones_like(batch)
    return batch


def test_the_hooks_of_modules_are_all_known():
    assert {"_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"} <= set(HOOKS)


@pytest.mark.parametrize("name", ["pooling", "pooling after relu", "layer norm", "nonlinear"])
def test_a_call_leaves_everything_as_it_was(method, name):
    model, layer = used_model(name)
    batch, gain = used_batch(), torch.full((3, 1), 2.0, dtype=torch.float64, requires_grad=True)
    before = state(model, batch, gain)
    apex = method(model, layer, bare_basis(name))
    apex.attribute(batch, 1, gain, return_convergence_delta=True)
    assert state(model, batch, gain) == before


def test_the_evidence_score_leaves_everything_as_it_was():
    model, layer = used_model()
    batch = used_batch()
    before = state(model, batch)
    apex = APEX(model, layer, bare_basis("pooling after relu"))
    weights = apex.evidence_weights(batch, target=1)
    apex.evidence_score(batch, weights)
    assert state(model, batch) == before


def test_batch_normalisation_that_trains_is_evaluated_and_its_statistics_stay(method):
    model, layer = build("pooling after relu")
    apex = method(model, layer, bare_basis("pooling after relu"))
    expected = apex.attribute(clips(), target=1, return_convergence_delta=True)
    model.train()
    before = state(model)
    torch.testing.assert_close(apex.attribute(clips(), target=1, return_convergence_delta=True), expected, **EXACT)
    assert state(model) == before
    assert model.stem[1].num_batches_tracked.item() == 0


class Careless(PoolingHead):
    """Changes its input in place."""

    def forward(self, clips):
        return super().forward(clips.mul_(2))


@pytest.mark.parametrize("method", [LayerAPEX, APEX])
def test_a_model_that_writes_into_its_inputs_does_not_reach_the_users(method):
    plain, layer = build("pooling")
    model = Careless().double().eval()
    model.load_state_dict(plain.state_dict())
    batch = clips()
    actual = method(model, model.features, bare_basis("pooling")).attribute(
        batch, target=1, return_convergence_delta=True
    )
    assert torch.equal(batch, clips())
    expected = method(plain, layer, bare_basis("pooling")).attribute(
        clips() * 2, target=1, return_convergence_delta=True
    )
    torch.testing.assert_close(actual, expected, **EXACT)


class Failing(PoolingHead):
    """Fails at a given place, before or after the layer."""

    where, error = None, None

    def forward(self, clips, gain=1.0):
        if self.where == "before":
            raise self.error
        output = super().forward(clips, gain)
        if self.where == "after":
            raise self.error
        return output


@pytest.mark.parametrize("where", ["before", "after"])
@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()], ids=repr)
def test_a_model_that_fails_is_left_as_it_was_and_its_error_comes_through(method, where, error):
    model = Failing().double().train()
    model.where, model.error = where, error
    batch = used_batch()
    before = state(model, batch)
    apex = method(model, model.relu, bare_basis("pooling after relu"))
    with pytest.raises(type(error)) as caught:
        apex.attribute(batch, target=1)
    assert caught.value is error
    assert state(model, batch) == before
    model.where = None
    again = apex.attribute(batch, target=1)
    torch.testing.assert_close(
        again, method(model, model.relu, bare_basis("pooling after relu")).attribute(batch, target=1), **EXACT
    )


def test_a_projection_that_fails_leaves_everything_as_it_was():
    def fails(score, inputs, arguments):
        score(inputs.requires_grad_(), *arguments).sum().backward()
        raise KeyboardInterrupt

    model, layer = used_model()
    batch = used_batch()
    before = state(model, batch)
    with pytest.raises(KeyboardInterrupt):
        APEX(model, layer, bare_basis("pooling after relu"), projection=fails).attribute(batch, target=1)
    assert state(model, batch) == before


class Wrong(PoolingHead):
    """Layers that cannot be explained."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()
        self.idle = nn.Conv2d(5, 6, 1)
        self.named = Named()

    def forward(self, clips):
        features = self.relu(self.features(self.stem(clips)))
        features = self.named(self.relu(features))["features"]
        return self.classifier(features.mean((2, 3)))


class Named(nn.Module):
    def forward(self, features):
        return {"features": features}


@pytest.mark.parametrize(
    ("layer", "target", "width", "error", "message"),
    [
        ("relu", 1, 6, ValueError, "expected the layer 'relu' to run once in a forward pass, but it ran again"),
        ("idle", 1, 6, ValueError, "expected the layer 'idle' to run in the forward pass, but it never did"),
        ("named", 1, 6, ValueError, "expected the layer 'named' to give a tensor, or a tuple .*, but got a dict with"),
        ("features", 1, 5, ValueError, "expected the layer 'features' to have the basis's 5 channels, but it gives 6"),
        ("stem.2", 1, 6, ValueError, "expected the layer 'stem.2' to have the basis's 6 channels, but it gives 5"),
        (
            "classifier",
            1,
            6,
            ValueError,
            r"expected 'classifier' to give a tensor that fits .*, but got shape \(3, 4\)",
        ),
        ("features", 9, 6, IndexError, "out of bounds"),
        ("features", None, 6, AssertionError, "Target not provided"),
    ],
)
def test_a_layer_that_cannot_be_explained_is_named_and_the_model_left_as_it_was(
    method, layer, target, width, error, message
):
    model = Wrong().double().train()
    batch = used_batch()
    before = state(model, batch)
    apex = method(model, model.get_submodule(layer), PrototypeBasis(invertible(width), "square"))
    with pytest.raises(error, match=message):
        apex.attribute(batch, target=target, return_convergence_delta=True)
    assert state(model, batch) == before


def test_a_scheme_that_the_grid_does_not_support_is_refused_by_the_layers_name(method):
    with pytest.raises(
        ValueError, match=r"in the scheme 'frequency', but 'encoder' gives 1 frequency row\(s\).*supports: square, time"
    ):
        make(method, "tokens", "frequency").attribute(clips(), target=1)


def test_layers_and_bases_that_do_not_belong_are_refused_at_once(method):
    model, layer = build("pooling after relu")
    other, other_layer = build("pooling after relu", seed=9)
    fitted = PrototypeBasis(invertible(), "square", origin=Origin(layer="relu", fingerprint=fingerprint(model)))
    method(model, layer, fitted)
    for function in (other, other.forward, partial(other, gain=2.0), nn.Sequential(other)):
        with pytest.raises(
            ValueError,
            match=r"expected the model that the basis was fitted on \(layer 'relu'\), but its weights differ",
        ):
            method(function, other_layer, fitted)
    with pytest.raises(ValueError, match="expected `layer` to be part of the model PoolingHead, but this ReLU is not"):
        method(model, other_layer, fitted)
    with pytest.raises(TypeError, match=r"expected `layer` to be a torch\.nn\.Module, but got str"):
        method(model, "relu", fitted)
    with pytest.raises(TypeError, match="expected `basis` to be a PrototypeBasis, but got Tensor"):
        method(model, layer, invertible())


# --- models of every sort -----------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", ["pooling", "pooling after relu", "layer norm"])
def test_relu_in_place_gives_what_its_twin_gives(method, name, scheme):
    model, layer = build(name)
    expected = method(model, layer, bare_basis(name, scheme)).attribute(clips(), target=1)
    assert model.relu.inplace
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    torch.testing.assert_close(
        method(model, layer, bare_basis(name, scheme)).attribute(clips(), target=1), expected, **EXACT
    )


class TupleLayer(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, features):
        return (self.layer(features),)


class FirstOf(nn.Module):
    def forward(self, values):
        return values[0]


def test_a_layer_that_gives_a_tuple_of_one(method):
    model, layer = build("pooling after relu")
    expected = method(model, layer, bare_basis("pooling after relu")).attribute(
        clips(), target=1, return_convergence_delta=True
    )
    model.relu = nn.Sequential(TupleLayer(layer), FirstOf())
    actual = method(model, model.relu[0], bare_basis("pooling after relu")).attribute(
        clips(), target=1, return_convergence_delta=True
    )
    torch.testing.assert_close(actual, expected, **EXACT)


class FrozenTrunk(PoolingHead):
    """A fine-tuned head on a trunk without gradients."""

    def forward(self, clips, gain=1.0):
        with torch.no_grad():
            features = self.relu(self.features(self.stem(clips)))
        return self.classifier(self.dropout(features.mean((2, 3)))) * gain


class Unlearned(PoolingHead):
    @torch.no_grad()
    def forward(self, clips, gain=1.0):
        return super().forward(clips, gain)


@pytest.mark.parametrize("kind", [FrozenTrunk, Unlearned])
@pytest.mark.parametrize("name", ["features", "relu"])
@pytest.mark.parametrize("method", [LayerAPEX, APEX])
def test_a_model_that_switches_gradients_off_itself(method, kind, name):
    plain, _ = build("pooling")
    model = kind().double().eval()
    model.load_state_dict(plain.state_dict())
    basis = bare_basis("pooling")
    expected = method(plain, plain.get_submodule(name), basis).attribute(
        clips(), target=1, return_convergence_delta=True
    )
    actual = method(model, model.get_submodule(name), basis).attribute(clips(), target=1, return_convergence_delta=True)
    torch.testing.assert_close(actual, expected, **EXACT)
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("n_channels", [2, None])
def test_additional_arguments_reach_the_model(method, n_channels):
    """The model multiplies its logits by a positive factor: the map is multiplied too, and the evidence is the same."""
    apex, gain = make(method, scheme="time"), torch.tensor([[2.0], [0.5], [3.0]], dtype=torch.float64)
    plain = apex.attribute(clips(), target=1, n_channels=n_channels)
    actual = apex.attribute(clips(), target=1, additional_forward_args=(gain,), n_channels=n_channels)
    torch.testing.assert_close(actual, plain * gain[:, :, None, None], rtol=0, atol=1e-12)
    actual = apex.attribute(clips(), target=1, additional_forward_args=-2.0, n_channels=None)
    torch.testing.assert_close(actual, apex.attribute(clips(), target=1, n_channels=None) * -2, rtol=0, atol=1e-12)


class TwoInputs(PoolingHead):
    def forward(self, left, right, gain=1.0):
        return super().forward(left + 2 * right, gain)


def test_several_inputs():
    plain, _ = build("pooling")
    model = TwoInputs().double().eval()
    model.load_state_dict(plain.state_dict())
    left, right, gain = clips(seed=3), clips(seed=4), torch.tensor([[2.0], [0.5], [3.0]], dtype=torch.float64)
    expected = LayerAPEX(plain, plain.features, bare_basis("pooling")).attribute(
        left + 2 * right, 1, gain, return_convergence_delta=True
    )
    at_layer = LayerAPEX(model, model.features, bare_basis("pooling"))
    torch.testing.assert_close(
        at_layer.attribute((left, right), 1, gain, return_convergence_delta=True), expected, **EXACT
    )
    at_input = APEX(model, model.features, bare_basis("pooling"))
    with pytest.raises(
        ValueError, match="expected one input tensor, but got 2; pass the others as `additional_forward_args`"
    ):
        at_input.attribute((left, right), target=1)
    single = APEX(plain, plain.features, bare_basis("pooling")).attribute(left + 2 * right, 1)
    torch.testing.assert_close(at_input.attribute(left, 1, (right,)), single, **EXACT)
    through = APEX(model, model.features, bare_basis("pooling"), projection=InputXGradient).attribute(
        left, 1, (right, 1.0)
    )
    score, weights = at_input.evidence_score, at_input.evidence_weights(left, 1, (right, 1.0))
    leaf = left.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(score(leaf, weights, right).sum(), leaf)
    torch.testing.assert_close(through, gradient * left, rtol=0, atol=1e-12)


def function_of(model):
    def forward(clips, gain=1.0):
        return model(clips, gain)

    return forward


class Holder:
    """Not a module; its method is a forward function all the same."""

    def __init__(self, model):
        self.model = model

    def logits(self, clips, gain=1.0):
        return self.model(clips, gain)


FORMS = {
    "function": function_of,
    "bound method of the model": lambda model: model.forward,
    "bound method of something else": lambda model: Holder(model).logits,
    "partial": lambda model: partial(model, gain=1.0),
    "partial of a bound method": lambda model: partial(model.forward, gain=1.0),
    "a module around it": nn.Sequential,
    "parallel": nn.DataParallel,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ["pooling", "layer norm"])
def test_every_form_of_a_forward_function(method, name, form):
    if form == "parallel" and torch.cuda.is_available():
        pytest.skip("nn.DataParallel would move the inputs to the GPU")
    model, layer = build(name)
    bare = bare_basis(name, "time-frequency")
    expected = method(model, layer, bare).attribute(clips(), target=1, return_convergence_delta=True)
    before = state(model)
    actual = method(FORMS[form](model), layer, bare).attribute(clips(), target=1, return_convergence_delta=True)
    torch.testing.assert_close(actual, expected, **EXACT)
    assert state(model) == before


@pytest.mark.parametrize("form", [form for form in FORMS if form != "a module around it"])
def test_a_basis_fitted_on_the_model_fits_every_form_of_it(form):
    model, layer = build("pooling after relu")
    basis = fit_basis(FeatureBank.from_dataset(model, layer, list(clips(6))), "square", epochs=1, n_prototypes=(3, 2))
    expected = LayerAPEX(model, layer, basis).attribute(clips(), target=1)
    torch.testing.assert_close(
        LayerAPEX(FORMS[form](model), layer, basis).attribute(clips(), target=1), expected, **EXACT
    )
