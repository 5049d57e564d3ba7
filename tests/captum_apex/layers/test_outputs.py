"""Models that return more than their scores: refused where the output is read, with the line that selects them."""

import re
import threading
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial

import pytest
import torch
from captum.attr import InputXGradient
from torch import Tensor, nn

import captum_apex
from captum_apex import APEX, FeatureBank, LayerAPEX, PrototypeBasis, SelectedOutput, insert_basis, suggest_layers
from captum_apex.layers.models import fingerprint, layer_name, model_of, models_of
from captum_apex.layers.values import checked_output, described_output
from captum_apex.metrics import deletion_insertion
from captum_apex.pretrained import LogitsModel
from tests.networks import PoolingHead, clips, invertible

Named = namedtuple("Named", ["features", "scores"])


@dataclass
class Result:
    features: Tensor
    scores: Tensor


@dataclass
class Slots:
    __slots__ = ("logits",)
    logits: Tensor


class Plain:
    def __init__(self, scores):
        self.scores = scores
        self.name = "plain"


OUTPUTS = {
    "tuple": (lambda features, scores: (features, scores), "1"),
    "tuple of one": (lambda features, scores: (scores,), "0"),
    "list": (lambda features, scores: [scores, features], "0"),
    "named tuple": (Named, "'scores'"),
    "dict": (lambda features, scores: {"embedding": features, "clipwise_output": scores}, "'clipwise_output'"),
    "dict with logits": (
        lambda features, scores: {"pooled": features.mean((2, 3)), "logits": scores},
        "'logits'",
    ),
    "dataclass": (Result, "'scores'"),
    "dataclass with slots": (lambda features, scores: Slots(scores), "'logits'"),
    "object": (lambda features, scores: Plain(scores), "'scores'"),
}


class Several(PoolingHead):
    """A classifier that returns its features too, `make(features, scores)`."""

    def __init__(self, make):
        super().__init__()
        self.make = make

    def forward(self, inputs):
        features = self.relu(self.features(self.stem(inputs)))
        return self.make(features, self.classifier(features.mean((2, 3))))


def several(name):
    """A model with an output of this kind; `plain` returns its scores alone."""
    make = (lambda features, scores: scores) if name == "plain" else OUTPUTS[name][0]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Several(make).double().eval()


def selected(model, message):
    """Runs the line of code in an error message."""
    code = re.search(r"`(captum_apex\.SelectedOutput\(model, .*\))`", message).group(1)
    return eval(code, {"model": model, "captum_apex": captum_apex})


def scores_of(model, inputs):
    """What the model computes, written out."""
    features = model.relu(model.features(model.stem(inputs)))
    return model.classifier(features.mean((2, 3))).detach()


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_bank_says_which_line_of_code_selects_the_scores(name):
    model = several(name)
    with pytest.raises(ValueError, match=re.escape(f"(model, {OUTPUTS[name][1]})`")) as error:
        FeatureBank.from_dataset(model, model.relu, list(clips(4)))
    assert "expected the model Several to return a tensor of scores (clip, class), but got a" in str(error.value)
    with_scores = selected(model, str(error.value))
    expected = scores_of(model, clips(4))
    assert torch.equal(with_scores(clips(4)), expected)
    bank = FeatureBank.from_dataset(with_scores, model.relu, list(clips(4)))
    basis = PrototypeBasis(invertible(), "time", origin=bank.origin)
    total = LayerAPEX(with_scores, model.relu, basis).attribute(clips(4), 1, n_channels=None).sum((1, 2, 3))
    torch.testing.assert_close(total, (expected[:, 1] - model.classifier.bias[1]).detach(), rtol=1e-9, atol=1e-12)


CALLS = {
    "attribute at the layer": lambda model, layer, basis: LayerAPEX(model, layer, basis).attribute(clips(2), 1),
    "attribute at the input": lambda model, layer, basis: APEX(model, layer, basis).attribute(clips(2), 1),
    "a projection": lambda model, layer, basis: APEX(model, layer, basis, projection=InputXGradient).attribute(
        clips(2), 1
    ),
    "the score without the layer": lambda model, layer, basis: LayerAPEX(model, layer, basis).score_without_layer(
        clips(2), 1
    ),
    "the evidence's weights": lambda model, layer, basis: APEX(model, layer, basis).evidence_weights(clips(2), 1),
    "insert_basis": lambda model, layer, basis: insert_basis(model, layer, basis, clips(2)),
    "curves": lambda model, _, __: asdict(
        deletion_insertion(model, clips(2), clips(2), 0 * clips(2), grid=torch.arange(80).reshape(8, 10), target=1)
    ),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", ["tuple", "dict", "dataclass"])
def test_every_call_that_reads_the_output_says_so(call, name):
    model = several(name)
    with pytest.raises(ValueError, match=rf"to return a tensor of scores .*\(model, {re.escape(OUTPUTS[name][1])}\)`"):
        CALLS[call](model, model.relu, PrototypeBasis(invertible(), "time"))


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("call", CALLS)
def test_every_call_takes_a_selection_as_it_takes_a_model_of_scores(call, name):
    """The model whose `forward` returns the scores alone is the oracle."""
    model = several(name)
    plain = several("plain")
    basis = PrototypeBasis(invertible(), "time")
    got = CALLS[call](SelectedOutput(model, eval(OUTPUTS[name][1])), model.relu, basis)
    expected = CALLS[call](plain, plain.relu, basis)
    if call == "insert_basis":
        assert type(got) is SelectedOutput
        got = got(clips(3))
        expected = expected(clips(3))
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_a_selection_has_the_names_and_the_fingerprint_of_the_model():
    model = several("dict")
    with_scores = SelectedOutput(model, "clipwise_output")
    assert model_of(with_scores) is model
    assert layer_name(with_scores, model.relu) == "relu"
    assert fingerprint(with_scores) == fingerprint(model) != ""
    assert [layer.name for layer in suggest_layers(with_scores, clips(1).double())] == [
        layer.name for layer in suggest_layers(several("plain"), clips(1).double())
    ]
    assert models_of(lambda inputs: with_scores(inputs)) == [with_scores]


def test_a_basis_of_the_model_fits_its_selection_and_not_another_model():
    model = several("dict")
    bank = FeatureBank.from_dataset(SelectedOutput(model, "clipwise_output"), model.relu, list(clips(4)))
    basis = PrototypeBasis(invertible(), "time", origin=bank.origin)
    by_function = SelectedOutput(model, lambda output: output["clipwise_output"])
    LayerAPEX(by_function, model.relu, basis)
    with torch.no_grad():
        model.classifier.weight.add_(1.0)
    with pytest.raises(ValueError, match="but its weights differ"):
        LayerAPEX(by_function, model.relu, basis)


def test_a_selection_leaves_the_model_as_it_was_and_may_be_wrapped():
    model = several("tuple").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with_scores = SelectedOutput(model, 1)
    assert with_scores.training
    wrappers = (
        with_scores,
        nn.DataParallel(with_scores),
        SelectedOutput(nn.DataParallel(model), 1),
        partial(with_scores),
    )
    for wrapped in wrappers:
        assert model_of(wrapped) is model
        basis = PrototypeBasis(invertible(), "time")
        LayerAPEX(wrapped, model.relu, basis).attribute(clips(2), 1)
        assert all(module.training for module in model.modules())
    assert model_of(with_scores.forward) is model
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("name", "output", "message"),
    [
        ("dict", "logits", r"to return 'logits', but got a dict with \['embedding'\] \(2, 6, 4, 5\), \['clipwise_o"),
        ("tuple", 2, r"to return 2, but got a tuple with \[0\] \(2, 6, 4, 5\), \[1\] \(2, 4\)$"),
        ("dataclass", "logits", r"to return 'logits', but got a Result with \.features .*, \.scores \(2, 4\)$"),
        ("plain", 0, r"to return 0 among others, but got one tensor of shape \(2, 4\); explain the model itself"),
        (
            "plain",
            lambda output: [output],
            r"select one tensor of scores, but it gives a list with \[0\] \(2, 4\); pass a",
        ),
    ],
)
def test_a_selection_that_does_not_fit_lists_what_the_model_gives(name, output, message):
    model = several(name)
    with pytest.raises(ValueError, match=message):
        FeatureBank.from_dataset(SelectedOutput(model, output), model.relu, list(clips(2)))


class Softened(nn.Module):
    """A model that ends in a softmax, works in place behind its logits, and returns two tensors."""

    def __init__(self):
        super().__init__()
        self.model = several("plain")
        self.unused = nn.ReLU()

    def forward(self, inputs):
        scores = self.model.classifier(self.model.relu(self.model.features(self.model.stem(inputs))).mean((2, 3)))
        return inputs, scores.mul_(3).softmax(1)


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_output_of_a_module_inside_are_the_scores(wrapped):
    """The logits of a model that ends in a softmax, everywhere as if the model ended there."""
    model = Softened().double().eval()
    plain = model.model
    with_scores = SelectedOutput(nn.DataParallel(model) if wrapped else model, plain.classifier)
    assert torch.equal(with_scores(clips(3)), plain(clips(3)))
    twice = SelectedOutput(with_scores, lambda scores: 2 * scores)
    assert model_of(twice) is model
    basis = PrototypeBasis(invertible(), "time")
    expected = LayerAPEX(plain, plain.relu, basis).attribute(clips(2), 1)
    for selected, factor in ((with_scores, 1), (twice, 2)):
        actual = LayerAPEX(selected, plain.relu, basis).attribute(clips(2), 1)
        torch.testing.assert_close(actual, factor * expected, rtol=1e-12, atol=1e-12)
    assert not any(module._forward_hooks for module in model.modules())


def test_a_copy_with_a_basis_inside_has_the_same_selection():
    model = Softened().double().eval()
    basis = PrototypeBasis(invertible(), "time")
    twice = SelectedOutput(SelectedOutput(model, model.model.classifier), lambda scores: 2 * scores)
    inserted = insert_basis(twice, model.model.relu, basis, clips(2))
    torch.testing.assert_close(inserted(clips(3)), 2 * model.model(clips(3)), rtol=1e-9, atol=1e-12)
    assert deepcopy(twice)(clips(1)).shape == (1, 4)


class Meeting(nn.Module):
    """A model that waits for another thread before and after its logits."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Linear(2, 2)
        self.barrier = threading.Barrier(2, timeout=60)

    def forward(self, inputs):
        self.barrier.wait()
        logits = self.logits(inputs)
        self.barrier.wait()
        return logits.softmax(1)


def test_threads_get_the_output_of_their_own_runs():
    model = Meeting().eval()
    batches = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0))
    with ThreadPoolExecutor(2) as pool, torch.no_grad():
        scores = list(pool.map(SelectedOutput(model, model.logits), batches))
    torch.testing.assert_close(torch.stack(scores), model.logits(batches))
    assert not model.logits._forward_hooks


def test_a_module_that_runs_twice_is_no_output():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = nn.Linear(2, 2)

        def forward(self, inputs):
            return self.logits(self.logits(inputs)).softmax(1)

    model = Twice()
    with pytest.raises(ValueError, match="'logits' to run once in a pass, but it ran 2 times"):
        SelectedOutput(model, model.logits)(torch.zeros(1, 2))
    assert not model.logits._forward_hooks


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_module_that_does_not_run_once_is_no_output():
    model = Softened().double().eval()
    with pytest.raises(ValueError, match="'unused' to run once in a pass, but it ran 0 times"):
        SelectedOutput(model, model.unused)(clips(1))
    pair = nn.Sequential(several("dict"), nn.Identity())
    with pytest.raises(ValueError, match="'1' to give a tensor, but got a dict with"):
        SelectedOutput(pair, pair[1])(clips(1))
    scripted = nn.Sequential(torch.jit.script(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="takes hooks as `output`, but '0' is TorchScript"):
        SelectedOutput(scripted, scripted[0])


@pytest.mark.parametrize("output", [None, True, 1.5, ["logits"]])
def test_what_is_no_selection_is_refused(output):
    with pytest.raises(TypeError, match="expected `output` to be a key, an index or a function"):
        SelectedOutput(nn.Flatten(), output)
    with pytest.raises(ValueError, match="a module inside the model, but this Linear is not; put a module that"):
        SelectedOutput(nn.Flatten(), nn.Linear(2, 2))
    with pytest.raises(TypeError, match="expected `model` to be a torch.nn.Module, but got function"):
        SelectedOutput(classify, "logits")


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ({"embedding": (2, 8), "clipwise_output": (2, 3), "framewise_output": (2, 9, 3)}, "'clipwise_output'"),
        ({"hidden": (2, 8), "class_scores": (2, 3)}, "'class_scores'"),
        ({"predictions": (2, 9, 3), "pooled": (2, 8)}, "'pooled'"),
        ({"scores": (2, 8), "logits": (2, 9, 3)}, "'logits'"),
        ({"frames": (2, 9, 3)}, "'frames'"),
    ],
)
def test_the_entry_that_is_named_like_scores_is_recommended(output, code):
    tensors = {name: torch.zeros(shape) for name, shape in output.items()}
    with pytest.raises(ValueError, match=re.escape(f"SelectedOutput(model, {code})`")) as error:
        checked_output(tensors, nn.Flatten())
    assert str(error.value).endswith(", if this entry has the scores") == (len(output) > 1)


def test_entries_inside_entries_are_listed():
    nested = {"heads": [torch.zeros(2, 3), torch.zeros(2, 4)], "step": 3}
    assert described_output(nested) == "a dict with ['heads'][0] (2, 3), ['heads'][1] (2, 4), ['step'] int"
    assert described_output({index: torch.zeros(1) for index in range(20)}).endswith("[7] (1,), …")
    assert described_output(torch.zeros(2)) == "a tensor of shape (2,)"


def test_a_model_of_transformers_gives_its_logits():
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(
        num_channels=1, embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic", num_labels=4
    )
    model = ResNetForImageClassification(config).double().eval()
    layer = model.resnet.encoder.stages[-1]
    with pytest.raises(
        ValueError, match=r"got an ImageClass\w+ with \['logits'\] \(4, 4\); explain .*, 'logits'\)`"
    ) as error:
        FeatureBank.from_dataset(model, layer, list(torch.rand(4, 1, 32, 32).double()))
    with_scores = selected(model, str(error.value))
    inputs = torch.rand(4, 1, 32, 32).double()
    assert torch.equal(with_scores(inputs), LogitsModel(model)(inputs))
    assert FeatureBank.from_dataset(with_scores, layer, list(inputs)).origin.layer == "resnet.encoder.stages.0"


def test_a_function_is_told_what_to_return():
    with pytest.raises(
        ValueError, match=r"the model classify to return .* got a tuple with \[0\] \(2, 3\); return the "
    ):
        checked_output((torch.zeros(2, 3),), classify)
    with pytest.raises(ValueError, match="but got a NoneType; return the scores alone$"):
        checked_output(None, nn.Flatten())


def classify():
    pass


def test_a_backbone_without_logits_is_told_so():
    from transformers import ResNetConfig, ResNetModel

    backbone = ResNetModel(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic")).eval()
    with pytest.raises(ValueError, match="expected ResNetModel to give `logits`.* but got .* with last_hidden_state, "):
        LogitsModel(backbone)(torch.zeros(1, 3, 32, 32))
