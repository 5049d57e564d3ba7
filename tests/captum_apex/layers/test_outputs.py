"""Models that return more than their scores: refused where the output is first read, with a line that helps."""

import re
from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from captum.attr import InputXGradient
from torch import Tensor, nn
from transformers.modeling_outputs import ImageClassifierOutput

from captum_apex import APEX, FeatureBank, LayerAPEX, PrototypeBasis, insert_basis
from captum_apex.layers.values import checked_output
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
    "tuple": (lambda features, scores: (features, scores), "output[1]"),
    "tuple of one": (lambda features, scores: (scores,), "output[0]"),
    "list": (lambda features, scores: [scores, features], "output[0]"),
    "named tuple": (Named, "output.scores"),
    "dict": (lambda features, scores: {"embedding": features, "clipwise_output": scores}, "output['clipwise_output']"),
    "dict with logits": (
        lambda features, scores: {"pooled": features.mean((2, 3)), "logits": scores},
        "output['logits']",
    ),
    "dataclass": (Result, "output.scores"),
    "dataclass with slots": (lambda features, scores: Slots(scores), "output.logits"),
    "object": (lambda features, scores: Plain(scores), "output.scores"),
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
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Several(OUTPUTS[name][0]).double().eval()


def hooked(model, line):
    """Runs the line of code in an error message."""
    code = re.search(r"`(model\.register_forward_hook\(.*\))`", line).group(1)
    return eval(code, {"model": model})


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_bank_says_which_line_of_code_makes_the_model_return_its_scores(name):
    model = several(name)
    with pytest.raises(ValueError, match=re.escape(OUTPUTS[name][1])) as error:
        FeatureBank.from_dataset(model, model.relu, list(clips(4)))
    assert "expected the model Several to return a tensor of scores (clip, class), but got a" in str(error.value)
    expected = model.classifier(model.relu(model.features(model.stem(clips(4)))).mean((2, 3)))
    handle = hooked(model, str(error.value))
    assert torch.equal(model(clips(4)), expected)
    bank = FeatureBank.from_dataset(model, model.relu, list(clips(4)))
    basis = PrototypeBasis(invertible(), "time", origin=bank.origin)
    total = LayerAPEX(model, model.relu, basis).attribute(clips(4), 1, n_channels=None).sum((1, 2, 3))
    torch.testing.assert_close(total, (expected[:, 1] - model.classifier.bias[1]).detach(), rtol=1e-9, atol=1e-12)
    handle.remove()


CALLS = {
    "attribute at the layer": lambda model, basis: LayerAPEX(model, model.relu, basis).attribute(clips(2), 1),
    "attribute at the input": lambda model, basis: APEX(model, model.relu, basis).attribute(clips(2), 1),
    "a projection": lambda model, basis: APEX(model, model.relu, basis, projection=InputXGradient).attribute(
        clips(2), 1
    ),
    "the score without the layer": lambda model, basis: LayerAPEX(model, model.relu, basis).score_without_layer(
        clips(2), 1
    ),
    "the evidence's weights": lambda model, basis: APEX(model, model.relu, basis).evidence_weights(clips(2), 1),
    "insert_basis": lambda model, basis: insert_basis(model, model.relu, basis, clips(2)),
    "curves": lambda model, basis: deletion_insertion(
        model, clips(2), clips(2), 0 * clips(2), grid=torch.arange(80).reshape(8, 10), target=1
    ),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", ["tuple", "dict", "dataclass"])
def test_every_call_that_reads_the_output_says_so(call, name):
    model = several(name)
    with pytest.raises(ValueError, match=rf"to return a tensor of scores .*{re.escape(OUTPUTS[name][1])}"):
        CALLS[call](model, PrototypeBasis(invertible(), "time"))


def test_a_model_of_transformers_is_told_of_its_wrapper():
    output = ImageClassifierOutput(logits=torch.zeros(2, 3))
    with pytest.raises(
        ValueError, match=r"got an ImageClassifierOutput with \['logits'\] \(2, 3\); explain .*LogitsMo"
    ):
        checked_output(output, nn.Flatten())


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
