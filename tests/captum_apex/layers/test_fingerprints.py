"""The fingerprint of models whose state is more than floating-point tensors: it never fails, and sees the weights."""

import hashlib

import numpy as np
import pytest
import torch
from torch import nn

from captum_apex import FeatureBank, LayerAPEX, PrototypeBasis
from captum_apex.layers.models import fingerprint
from tests.networks import NETWORKS, build, clips

pytestmark = pytest.mark.filterwarnings(  # of torch, about kinds of tensors
    *("ignore:.*quantiz", "ignore:.*Sparse", "ignore:.*[Nn]ested", "ignore:.*torch.jit")
)
VALUES = torch.arange(1.0, 10.0).reshape(3, 3)


class Extra(nn.Linear):
    """A linear layer with an extra state."""

    def __init__(self, extra):
        super().__init__(3, 2)
        nn.init.ones_(self.weight)
        nn.init.ones_(self.bias)
        self.extra = extra

    def get_extra_state(self):
        if isinstance(self.extra, Exception):
            raise self.extra
        return self.extra

    def set_extra_state(self, extra):
        self.extra = extra


class Stored(nn.Module):
    """A module with one buffer."""

    def __init__(self, buffer):
        super().__init__()
        self.register_buffer("buffer", buffer)


class Renamed(nn.Sequential):
    """Its `state_dict` is the user's own, and has neither weights nor the usual arguments."""

    def state_dict(self):
        return {"config": {"width": 3}, "weights": list(self)}


def by_state_dict(model):
    """The fingerprint of a model of floating-point tensors, as saved bases have it."""
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.float().numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_usual_model_has_the_fingerprint_that_saved_bases_have(name):
    model, _ = build(name)
    assert fingerprint(model) == by_state_dict(model)


def test_shared_modules_and_parametrised_weights_have_it_too():
    linear = nn.Linear(3, 3)
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
    for model in (nn.Sequential(linear, nn.ReLU(), linear), normed, nn.LSTM(3, 4), torch.jit.script(linear)):
        assert fingerprint(model) == by_state_dict(model)


@pytest.mark.parametrize(
    "extra",
    [
        None,
        {},
        {"version": 3, "name": "a", "hook": print},
        b"bytes",
        pytest.param(object(), id="object"),
        np.array(["a"], dtype=object),
        RuntimeError("no state"),
    ],
    ids=repr,
)
def test_an_extra_state_without_numbers_is_skipped(extra):
    assert fingerprint(Extra(extra)) == fingerprint(Extra(None))
    changed = Extra(extra)
    changed.weight.data[0, 0] += 1
    assert fingerprint(changed) != fingerprint(Extra(extra))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda values: values,
        lambda values: {"a": {"b": values}},
        lambda values: [None, (values, "c")],
        lambda values: values.numpy(),
        lambda values: {"scale": values.sum().item()},
        lambda values: {"scale": np.float32(values.sum().item())},
    ],
    ids=["tensor", "dict", "list", "array", "float", "scalar"],
)
def test_an_extra_state_with_numbers_counts(wrap):
    assert fingerprint(Extra(wrap(VALUES))) == fingerprint(Extra(wrap(VALUES.clone())))
    assert len({fingerprint(Extra(wrap(values))) for values in (VALUES, VALUES + 1)} | {fingerprint(Extra(None))}) == 3


BUFFERS = {
    "float16": lambda values: values.half(),
    "float8": lambda values: values.to(torch.float8_e4m3fn),
    "complex": lambda values: torch.complex(values, values),
    "conjugated": lambda values: torch.complex(values, values).conj(),
    "imaginary part of a conjugated one": lambda values: torch.complex(values, values).conj().imag,
    "quantised": lambda values: torch.quantize_per_tensor(values, 0.1, 0, torch.qint8),
    "quantised per channel": lambda values: torch.quantize_per_channel(
        values, values[0], torch.zeros(3), 0, torch.quint8
    ),
    "packed in int8": lambda values: values.to(torch.int8),
    "packed in int32": lambda values: values.int(),
    "sparse": lambda values: values.diag().to_sparse(),
    "sparse rows": lambda values: values.to_sparse_csr(),
    "nested": lambda values: torch.nested.nested_tensor([values, values[:2]]),
    "jagged": lambda values: torch.nested.nested_tensor([values, values[:2]], layout=torch.jagged),
    "scalar": lambda values: values.sum(),
}


@pytest.mark.parametrize("name", BUFFERS)
def test_a_buffer_of_any_kind_counts(name):
    first, same, changed = (fingerprint(Stored(BUFFERS[name](values))) for values in (VALUES, VALUES, VALUES + 1))
    assert first == same
    assert first != changed


def test_the_place_of_a_sparse_value_counts():
    first, second = (torch.sparse_coo_tensor([[i], [i]], [1.0], (3, 3)) for i in (0, 1))
    assert fingerprint(Stored(first)) != fingerprint(Stored(second))


@pytest.mark.parametrize("buffer", [torch.tensor(3), torch.arange(4), torch.ones(2, 2, dtype=torch.bool)], ids=repr)
def test_counters_indices_and_masks_are_skipped(buffer):
    assert fingerprint(Stored(buffer)) == fingerprint(Stored(buffer.clone() * 0))


@pytest.mark.parametrize("make", [lambda: nn.Linear(3, 2, device="meta"), lambda: nn.LazyLinear(2)])
def test_tensors_without_values_are_skipped(make):
    assert fingerprint(nn.Sequential(make(), nn.Linear(3, 2, device="meta"))) == fingerprint(nn.ReLU())


@pytest.mark.parametrize("parameter", ["0.weight", "0.bias", "1.weight_hh_l0"])
def test_a_quantised_module_counts(parameter):
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        pytest.skip("this machine has no quantised operators")
    model = nn.Sequential(nn.Linear(3, 3), nn.LSTM(3, 3))
    before, same = (fingerprint(torch.ao.quantization.quantize_dynamic(model)) for _ in range(2))
    assert before == same
    model.get_parameter(parameter).data.add_(1)
    assert fingerprint(torch.ao.quantization.quantize_dynamic(model)) != before


def test_a_state_dict_of_the_users_own_is_not_called():
    linear = nn.Linear(3, 2)
    assert fingerprint(Renamed(linear)) == fingerprint(nn.Sequential(linear))
    before = fingerprint(Renamed(linear))
    linear.weight.data[0, 0] += 1
    assert fingerprint(Renamed(linear)) != before


def test_such_a_model_is_banked_and_explained():
    model, layer = build("pooling after relu")
    model.classifier = Extra({"calls": 3}).double()
    model.classifier.weight.data = torch.ones(2, 6, dtype=torch.float64)
    bank = FeatureBank.from_dataset(model, layer, list(clips(2)))
    basis = PrototypeBasis(torch.eye(6), "time", origin=bank.origin)
    map_ = LayerAPEX(model, layer, basis).attribute(clips(2), target=0, n_channels=None)
    torch.testing.assert_close(map_.sum((1, 2, 3)), model(clips(2))[:, 0].detach() - 1, rtol=1e-9, atol=1e-9)
    model.classifier.extra = {"calls": 3.0}
    with pytest.raises(ValueError, match="its weights differ"):
        LayerAPEX(model, layer, basis)
