"""Scores of frames, and scores that are probabilities: what to pass, and what is said."""

import warnings
from functools import partial

import pytest
import torch
from torch import nn

from captum_apex import (
    APEX,
    Classifier,
    FeatureBank,
    LayerAPEX,
    SelectedOutput,
    basis_from_matrix,
    explain,
    explain_classes,
)
from tests.networks import PoolingHead, clips, invertible

EXACT = {"rtol": 1e-9, "atol": 1e-12}
TRAINING = clips(12, seed=5)
QUERIES = clips(3, seed=6)


class Frames(PoolingHead):
    """Scores of frames, (clip, frame, class), which `order` brings into another order of axes."""

    def __init__(self, order=lambda scores: scores):
        super().__init__()
        self.order = order

    def forward(self, inputs):
        columns = self.relu(self.features(self.stem(inputs))).mean(2).transpose(1, 2)  # (clip, frame, channel)
        return self.order(self.classifier(columns))


ORDERS = {
    "frame, class": (lambda scores: scores, (2, 1), "output.mean(1)"),
    "class, frame": (lambda scores: scores.transpose(1, 2), (1, 2), "output.mean(2)"),
    "class, 1, frame": (lambda scores: scores.transpose(1, 2)[:, :, None], (1, 0, 2), "output.mean((2, 3))"),
    "1, frame, class": (lambda scores: scores[:, None], (0, 2, 1), "output.mean((1, 2))"),
}


def made(order=None, last_step=None):
    """A network in evaluation mode, and a basis of its layer."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = (PoolingHead() if order is None else Frames(ORDERS[order][0])).double().eval()
    whole = model if last_step is None else nn.Sequential(model, last_step)
    bank = FeatureBank.from_dataset(whole, model.relu, list(TRAINING))
    return model, basis_from_matrix(bank, "time", invertible(), n_prototypes=3)


@pytest.mark.parametrize("order", ORDERS)
def test_a_target_for_each_axis_explains_one_frame(order):
    model, basis = made(order)
    target = ORDERS[order][1]
    maps = LayerAPEX(model, model.relu, basis).attribute(QUERIES, target, n_channels=None)
    features = model.relu(model.features(model.stem(QUERIES))).mean(2)  # (clip, channel, frame)
    expected = features[:, :, 2].detach() @ model.classifier.weight[1].detach()
    torch.testing.assert_close(maps.sum((1, 2, 3)), expected, **EXACT)
    assert not maps[..., [0, 1, 3, 4]].any()
    explanations = explain(APEX(model, model.relu, basis), QUERIES, target, n_prototypes=2, dataset=list(TRAINING))
    assert [explanation.target for explanation in explanations] == [target] * 3
    totals = torch.tensor([explanation.total for explanation in explanations], dtype=torch.float64)
    torch.testing.assert_close(totals, expected, **EXACT)


@pytest.mark.parametrize("target", [None, 1, [1, 2, 0]])
@pytest.mark.parametrize("order", ORDERS)
def test_scores_of_frames_without_such_a_target_are_refused_with_the_line_to_write(order, target):
    model, basis = made(order)
    axes = model(QUERIES).dim() - 1
    guess = "output.mean(1)" if axes == 2 else "output.mean((2, 3))"  # where the number of classes is not known
    for call in (
        lambda apex: apex.attribute(QUERIES, target),
        lambda apex: explain(apex, QUERIES, target, n_prototypes=1),
    ):
        with pytest.raises(AssertionError, match="expected `target` to select one number of the") as error:
            call(LayerAPEX(model, model.relu, basis))
        assert f"pass an index for each axis, such as {(0,) * axes}" in str(error.value)
        assert f"`captum_apex.SelectedOutput(model, lambda output: {guess})`" in str(error.value)
    with pytest.raises(ValueError, match=r"expected the model to give one score per class, \(clip, class\), but got"):
        explain_classes(LayerAPEX(model, model.relu, basis), QUERIES, lambda output: output > 0, n_prototypes=1)


@pytest.mark.parametrize("order", ORDERS)
def test_a_classifier_refuses_scores_of_frames_with_the_line_that_reduces_them(order):
    model, basis = made(order)
    classifier = partial(Classifier, transform=lambda waveform: waveform.view(1, 8, 10), sample_rate=80, length=80)
    names = ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="one score for each of the 4 classes, but got shape") as error:
        classifier(model, class_names=names).scores(QUERIES[0])
    code = f"captum_apex.SelectedOutput(model, lambda output: {ORDERS[order][2]})"
    assert f"explain the model `{code}`" in str(error.value)
    with_scores = eval(code.replace("captum_apex.", ""), {"model": model, "SelectedOutput": SelectedOutput})
    plain, _ = made()
    torch.testing.assert_close(with_scores(QUERIES), plain(QUERIES), **EXACT)
    scores = classifier(with_scores, class_names=names).scores(QUERIES[0])
    assert scores == pytest.approx(plain(QUERIES[:1])[0].tolist(), rel=1e-9)
    maps = [
        LayerAPEX(each, layer, basis).attribute(QUERIES, 2)
        for each, layer in ((with_scores, model.relu), (plain, plain.relu))
    ]
    torch.testing.assert_close(*maps, **EXACT)


def test_scores_with_axes_of_one_entry_are_refused_with_flatten():
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1))
    classifier = Classifier(model, lambda waveform: waveform, 8000, ["a", "b", "c", "d"])
    with pytest.raises(ValueError, match=r"got shape \(1, 4, 1, 1\); .*lambda output: output\.flatten\(1\)\)`"):
        classifier.scores(torch.zeros(1, 8, 8))


class Reduced(nn.Module):
    """Probabilities of frames, of which the clip has the largest or the mean."""

    def __init__(self, reduce):
        super().__init__()
        self.reduce = reduce

    def forward(self, scores):
        return self.reduce(torch.stack([scores, scores - 1], 1).sigmoid())


WARNED = {
    "softmax": (nn.Softmax(1), "probabilities, as a softmax gives them, .* without its softmax"),
    "log-softmax": (nn.LogSoftmax(1), "logarithms of probabilities, .* without its softmax"),
    "sigmoid": (nn.Sigmoid(), r"what a sigmoid gives, .* `captum_apex.SelectedOutput\(model, torch.logit\)`"),
    "largest frame": (Reduced(lambda frames: frames.amax(1)), "what a sigmoid gives"),
    "largest frame, by max": (Reduced(lambda frames: frames.max(1).values), "what a sigmoid gives"),
    "mean over frames": (Reduced(lambda frames: frames.mean(1)), "what a sigmoid gives"),
    "within limits": (Reduced(lambda frames: frames[:, 0].clamp(1e-6, 1 - 1e-6)), "what a sigmoid gives"),
}


@pytest.mark.parametrize("last_step", WARNED)
def test_contributions_to_probabilities_give_a_warning(last_step):
    module, message = WARNED[last_step]
    model, basis = made(last_step=module)
    apex = LayerAPEX(nn.Sequential(model, module), model.relu, basis)
    for call in (
        lambda: apex.attribute(QUERIES[:1], 1),
        lambda: explain(apex, QUERIES, n_prototypes=1),
        lambda: explain_classes(apex, QUERIES, torch.ones(3, 4, dtype=torch.bool), n_prototypes=1),
    ):
        with pytest.warns(UserWarning, match=f"the scores are {message}") as caught:
            call()
        assert len(caught) == 1


NOT_WARNED = {
    "logits": nn.Identity(),
    "logits between 0 and 1": Reduced(lambda frames: 0.1 + 0 * frames[:, 0]),
    "logits below 0": nn.LogSigmoid(),
    "a hyperbolic tangent": nn.Tanh(),
    "a sigmoid that is scaled": Reduced(lambda frames: 3 * frames[:, 0]),
}


@pytest.mark.parametrize("last_step", NOT_WARNED)
def test_other_scores_give_no_warning(last_step):
    module = NOT_WARNED[last_step]
    model, basis = made(last_step=module)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        LayerAPEX(nn.Sequential(model, module), model.relu, basis).decompose(QUERIES, 1)


def test_the_logit_of_a_sigmoid_has_the_contributions_to_the_logit():
    model, basis = made()
    expected = LayerAPEX(model, model.relu, basis).attribute(QUERIES, 1, return_convergence_delta=True)
    by_logit = SelectedOutput(nn.Sequential(model, nn.Sigmoid()), torch.logit)
    actual = LayerAPEX(by_logit, model.relu, basis).attribute(QUERIES, 1, return_convergence_delta=True)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)
