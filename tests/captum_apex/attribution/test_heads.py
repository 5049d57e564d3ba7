"""Heads and outputs of classifiers: when contributions add up to the score, the difference, and its sign."""

import pytest
import torch
from torch import nn

from captum_apex import APEX, FeatureBank, LayerAPEX, PrototypeBasis, basis_from_matrix, explain, explain_classes
from tests import oracles
from tests.networks import PoolingHead, bare_basis, build, clips, invertible

CLIPS = clips(4, seed=6)


def delta_by_hand(model, inputs, target):
    """Gradient × features at the layer, less what the layer adds to the score."""
    deltas = []
    for clip in inputs:
        Z = model.relu(model.features(model.stem(clip[None]))).detach().clone().requires_grad_()
        scores = []
        for features in (Z, torch.zeros_like(Z)):
            handle = model.relu.register_forward_hook(lambda *_, features=features: features)
            scores.append(model(clip[None])[0, target])
            handle.remove()
        gradient = torch.autograd.grad(scores[0], Z)[0]
        deltas.append(((gradient * Z).sum() - scores[0] + scores[1]).item())
    return deltas


@pytest.mark.parametrize("name", ["pooling after relu", "attention pooling", "statistics pooling"])
def test_the_delta_says_what_the_contributions_miss(name):
    model, layer = build(name)
    apex = LayerAPEX(model, layer, bare_basis(name))
    _, deltas = apex.attribute(CLIPS, 1, n_channels=None, return_convergence_delta=True)
    assert deltas.tolist() == pytest.approx(delta_by_hand(model, CLIPS, 1), abs=1e-12)


def test_mean_and_standard_deviation_add_up():
    """A standard deviation is homogeneous of degree one: gradient × features is the deviation itself (Euler)."""
    model, layer = build("statistics pooling")
    apex = LayerAPEX(model, layer, bare_basis("statistics pooling"))
    attributions, deltas = apex.attribute(CLIPS, 1, n_channels=None, return_convergence_delta=True)
    score, bias = model(CLIPS)[:, 1], model.classifier.bias[1]
    torch.testing.assert_close(attributions.sum((1, 2, 3)), (score - bias).detach(), rtol=1e-9, atol=1e-12)
    assert deltas.abs().max() < 1e-12


def test_attention_weights_are_what_the_delta_of_attention_pooling_is_made_of():
    """With constant weights the head would be linear: the delta is the gradient through the weights."""
    model, layer = build("attention pooling")
    _, deltas = LayerAPEX(model, layer, bare_basis("attention pooling")).attribute(
        CLIPS, 1, n_channels=None, return_convergence_delta=True
    )
    assert deltas.abs().min() > 1e-6
    for clip, delta in zip(CLIPS, deltas.tolist(), strict=True):
        Z = model.relu(model.features(model.stem(clip[None]))).detach().clone().requires_grad_()
        weights = model.attention(Z).flatten(2).softmax(-1)
        score = model.classifier((Z.detach().flatten(2) * weights).sum(-1))[0, 1]
        through_weights = (torch.autograd.grad(score, Z)[0] * Z).sum().item()
        assert delta == pytest.approx(through_weights, abs=1e-12)


class Detector(PoolingHead):
    """One logit: above 0 for "vocoded", below 0 for "real"."""

    def __init__(self, squeezed=False):
        super().__init__(classes=1)
        self.squeezed = squeezed

    def forward(self, inputs):
        logits = super().forward(inputs)
        return logits[:, 0] if self.squeezed else logits


class Negated(nn.Module):
    def __init__(self, detector):
        super().__init__()
        self.detector = detector

    def forward(self, inputs):
        return -self.detector(inputs)


def detector(squeezed):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Detector(squeezed).double().eval()


@pytest.mark.parametrize("squeezed", [False, True])
def test_a_single_logit_needs_no_target_and_its_sign_is_kept(squeezed):
    """Evidence pushes the logit up; that of the other side is the evidence for the negated logit, on the same basis."""
    model = detector(squeezed)
    bank = FeatureBank.from_dataset(model, model.relu, list(clips(15, seed=5)))
    basis = basis_from_matrix(bank, "time", invertible(), n_prototypes=2)
    up = explain(LayerAPEX(model, model.relu, basis), CLIPS, n_prototypes=2, n_channels=6)
    down = explain(LayerAPEX(Negated(model), model.relu, basis), CLIPS, n_prototypes=2, n_channels=6)
    Z = model.relu(model.features(model.stem(CLIPS))).detach()
    gradient = (model.classifier.weight[0] / 20)[:, None, None].expand(6, 4, 5).detach()
    for i, (for_logit, for_negated) in enumerate(zip(up, down, strict=True)):
        assert for_logit.target is None
        assert for_logit.score == pytest.approx(model(CLIPS).flatten()[i].item(), abs=1e-12)
        assert for_negated.score == pytest.approx(-for_logit.score, abs=1e-12)
        contributions = oracles.relevance(Z[i], gradient, invertible()).sum((1, 2))
        for explanation, sign in ((for_logit, 1), (for_negated, -1)):
            actual = {evidence.channel: evidence.contribution for evidence in explanation.evidence}
            active = [k for k in range(6) if oracles.activation(Z[i], invertible(), k) > 0]
            assert actual == pytest.approx(
                {k: sign * contributions[k].item() for k in active if sign * contributions[k] > 0}, abs=1e-12
            )
    assert any(first.evidence and second.evidence for first, second in zip(up, down, strict=True))


def test_a_detector_of_two_logits_is_a_classifier_of_two_classes():
    """The evidence for one class is not the evidence against the other: only the difference of logits decides."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PoolingHead(classes=2).double().eval()
    apex = APEX(model, model.relu, PrototypeBasis(invertible(), "time"))
    by_class = [apex.attribute(CLIPS, target, n_channels=None) for target in (0, 1)]

    class Difference(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, inputs):
            return self.model(inputs).diff(dim=1)

    difference = APEX(Difference(), model.relu, PrototypeBasis(invertible(), "time")).attribute(CLIPS, n_channels=None)
    torch.testing.assert_close(difference, by_class[1] - by_class[0], rtol=1e-9, atol=1e-12)


def test_a_multi_label_model_is_explained_for_each_label_that_it_gives():
    """Logits, not their sigmoid: contributions add up to the logit."""
    model, layer = build("pooling after relu")
    bank = FeatureBank.from_dataset(model, layer, list(clips(15, seed=5)))
    apex = LayerAPEX(model, layer, basis_from_matrix(bank, "time", invertible(), n_prototypes=2))
    actual = explain_classes(apex, CLIPS, lambda logits: logits.sigmoid() > 0.5, n_prototypes=2)
    for explanations, logits in zip(actual, model(CLIPS), strict=True):
        assert [explanation.target for explanation in explanations] == (logits.sigmoid() > 0.5).nonzero()[:, 0].tolist()
        for explanation in explanations:
            assert explanation.total == pytest.approx(
                (logits[explanation.target] - model.classifier.bias[explanation.target]).item(), abs=1e-12
            )
