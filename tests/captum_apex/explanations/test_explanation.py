"""Explanations against the slow formulas: channels, contributions, regions and prototypes."""

import dataclasses
import inspect

import pytest
import torch
from torch import nn

from captum_apex import (
    APEX,
    SCHEMES,
    FeatureBank,
    LayerAPEX,
    RegionSearch,
    basis_from_matrix,
    explain,
    explain_classes,
    explain_recording,
)
from captum_apex.attribution.decomposition import N_CHANNELS, select_channels
from tests import explained, oracles
from tests.networks import PoolingHead, bare_basis, build, clips, invertible

TRAINING = clips(15, seed=5)
QUERIES = clips(4, seed=6)


def subject(scheme, name="pooling"):
    model, layer = build(name)
    bank = FeatureBank.from_dataset(model, layer, [(clip, i % 3) for i, clip in enumerate(TRAINING)])
    return model, layer, basis_from_matrix(bank, scheme, invertible(), n_prototypes=4)


def grids(model, layer, inputs):
    captured = []
    handle = layer.register_forward_hook(lambda _, __, output: captured.append(output.detach().clone()))
    model(inputs)
    handle.remove()
    return captured[0]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("sides", ["positive", "both"])
@pytest.mark.parametrize("target", [2, 3])
def test_explanations_follow_the_formulas(scheme, sides, target):
    """Among the channels of class 3 are some of the negative side, in another order than that of their indices."""
    model, layer, basis = subject(scheme)
    U, training, queries = invertible(), grids(model, layer, TRAINING), grids(model, layer, QUERIES)
    apex = LayerAPEX(model, layer, basis)
    explanations = explain(apex, QUERIES, target, n_channels=3, n_prototypes=2, sides=sides, search=None)
    for clip, explanation in enumerate(explanations):
        leaf = queries[clip].clone().requires_grad_()
        score = model.classifier(leaf.relu().mean((1, 2)))[target]
        R = oracles.relevance(queries[clip], torch.autograd.grad(score, leaf)[0], U)
        assert (explanation.scheme, explanation.target) == (scheme, target)
        assert explanation.score == pytest.approx(score.item(), abs=1e-12)
        assert explanation.score_without_layer == pytest.approx(model.classifier.bias[target].item(), abs=1e-12)
        assert explanation.total == pytest.approx(R.sum().item(), abs=1e-12)
        assert explanation.completeness == pytest.approx(
            R.sum().item() - score.item() + model.classifier.bias[target].item(), abs=1e-12
        )
        assert [evidence.channel for evidence in explanation.evidence] == oracles.evidence(
            R, queries[clip], U, 3, sides
        )
        for evidence in explanation.evidence:
            sign = 1 if oracles.activation(queries[clip], U, evidence.channel) > 0 else -1
            peaks, purity = oracles.peaks_and_purity(queries[clip], U, evidence.channel, scheme, sign)
            assert evidence.side == sign
            assert evidence.contribution == pytest.approx(R[evidence.channel].sum().item(), abs=1e-12)
            assert evidence.purity == pytest.approx(purity, abs=1e-12)
            expected = oracles.region_mask(peaks, scheme, (4, 5), (8, 10), intersection=True)
            assert torch.equal(evidence.region.mask(8, 10), expected)
            assert (evidence.cell, evidence.effect, evidence.map) == (evidence.region, None, None)
            assert [p.index for p in evidence.prototypes] == oracles.prototypes(training, U, evidence.channel, 2, sign)
            for prototype in evidence.prototypes:
                peaks, purity = oracles.peaks_and_purity(training[prototype.index], U, evidence.channel, scheme, sign)
                assert prototype.label == prototype.index % 3
                assert prototype.purity == pytest.approx(purity, abs=1e-12)
                expected = oracles.region_mask(peaks, scheme, (4, 5), (8, 10), intersection=True)
                assert torch.equal(prototype.region.mask(8, 10), expected)


def test_the_steps_from_the_score_without_the_layer_add_up_to_the_score():
    """For a head that is not affine, too: the evidence, the other channels, and what no channel explains."""
    model, layer, basis = subject("square", "attention pooling")
    for explanation in explain(LayerAPEX(model, layer, basis), QUERIES, 2, n_channels=2):
        contributions = [evidence.contribution for evidence in explanation.evidence]
        assert explanation.other_channels == pytest.approx(explanation.total - sum(contributions), abs=1e-12)
        change = explanation.score - explanation.score_without_layer
        assert explanation.unexplained == pytest.approx(change - explanation.total, abs=1e-12)
        assert abs(explanation.unexplained) > 1e-3
        steps = [*contributions, explanation.other_channels, explanation.unexplained]
        assert explanation.score_without_layer + sum(steps) == pytest.approx(explanation.score, abs=1e-12)


def test_both_sides_and_several_orders_occur():
    """Makes sure that the test of the formulas covers negative sides, and channels that must be sorted."""
    model, layer, basis = subject("square")
    explanations = explain(LayerAPEX(model, layer, basis), QUERIES, 3, sides="both", n_channels=3)
    assert {evidence.side for explanation in explanations for evidence in explanation.evidence} == {1, -1}
    orders = [[evidence.channel for evidence in explanation.evidence] for explanation in explanations]
    assert any(order != sorted(order) for order in orders)


@pytest.mark.parametrize(
    "function",
    [
        LayerAPEX.attribute,
        LayerAPEX.selected_channels,
        APEX.attribute,
        APEX.evidence_weights,
        select_channels,
        explain,
        explain_classes,
        explain_recording,
    ],
)
def test_the_evidence_has_the_same_number_of_channels_everywhere(function):
    assert inspect.signature(function).parameters["n_channels"].default == N_CHANNELS == 5


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_map_of_a_clip_is_that_of_the_channels_in_its_explanation(scheme):
    model, layer, basis = subject(scheme)
    apex = APEX(model, layer, basis)
    maps = apex.attribute(QUERIES, 2, sides="both")
    explanations = explain(apex, QUERIES, 2, sides="both")
    for clip, explanation in enumerate(explanations):
        channels = [evidence.channel for evidence in explanation.evidence]
        alone = apex.attribute(QUERIES[clip : clip + 1], 2, channels=channels)
        torch.testing.assert_close(maps[clip : clip + 1], alone, rtol=1e-12, atol=1e-15)
    assert max(len(explanation.evidence) for explanation in explanations) > 3


def test_without_a_target_the_predicted_class_is_explained():
    model, layer, basis = subject("time")
    explanations = explain(APEX(model, layer, basis), QUERIES)
    assert [e.target for e in explanations] == model(QUERIES).argmax(1).tolist()
    for clip, explanation in enumerate(explanations):
        assert explanation.score == pytest.approx(model(QUERIES)[clip].max().item(), abs=1e-12)


def test_the_predicted_class_has_the_largest_logit_where_all_are_negative():
    model, layer = build("pooling")
    model.classifier.bias.data -= 10
    bank = FeatureBank.from_dataset(model, layer, list(TRAINING))
    basis = basis_from_matrix(bank, "time", invertible(), n_prototypes=4)
    targets = [explanation.target for explanation in explain(LayerAPEX(model, layer, basis), QUERIES, search=None)]
    assert model(QUERIES).max() < 0
    assert targets == model(QUERIES).argmax(1).tolist()


def test_a_model_of_one_logit_has_no_class_to_predict():
    """Its only output is no class 0, which `class_names` would name as the first class."""
    model = PoolingHead(classes=1).double().eval()
    bank = FeatureBank.from_dataset(model, model.relu, list(TRAINING))
    basis = basis_from_matrix(bank, "time", invertible(), n_prototypes=4)
    explanations = explain(LayerAPEX(model, model.relu, basis), QUERIES, search=None)
    assert [explanation.target for explanation in explanations] == [None] * 4
    assert [explanation.score for explanation in explanations] == pytest.approx(model(QUERIES)[:, 0].tolist())


@pytest.mark.parametrize(
    "target", [1, [1, 2, 0, 3], torch.tensor([1, 2, 0, 3]), [(1,), (2,), (0,), (3,)], torch.tensor(1), -1]
)
def test_a_batch_gives_what_its_clips_give_alone(target):
    model, layer, basis = subject("frequency")
    apex = LayerAPEX(model, layer, basis)
    together = explain(apex, QUERIES, target)
    for clip in range(len(QUERIES)):
        of_clip = (
            [target[clip]]
            if isinstance(target, list)
            else target[clip : clip + 1]
            if torch.is_tensor(target) and target.dim()
            else target
        )
        alone = explain(apex, QUERIES[clip : clip + 1], of_clip)[0]
        assert [e.channel for e in alone.evidence] == [e.channel for e in together[clip].evidence]
        assert alone.score == pytest.approx(together[clip].score, abs=1e-10)
        assert [e.region for e in alone.evidence] == [e.region for e in together[clip].evidence]


def test_an_explanation_with_peak_cells_takes_two_forward_passes():
    model, layer, basis = subject("time")
    seen = []
    handle = model.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    explain(LayerAPEX(model, layer, basis), QUERIES, search=None)
    handle.remove()
    assert seen == [4, 4]


def test_a_peak_cell_for_time_frequency_is_a_rectangle_or_a_cross():
    model, layer, basis = subject("time-frequency")
    apex = LayerAPEX(model, layer, basis)
    rectangle = explain(apex, QUERIES)[0].evidence[0].cell.mask(8, 10)
    cross = explain(apex, QUERIES, search=RegionSearch(cross=True))[0].evidence[0].cell.mask(8, 10)
    assert rectangle.sum() == 4
    assert (cross & rectangle).sum() == 4
    assert cross.sum() == 8 * 2 + 10 * 2 - 4


def test_labels_may_be_missing_or_many():
    model, layer = build("pooling")
    for items, label in ((list(TRAINING), None), ([(clip, torch.tensor([1.0, 0.0])) for clip in TRAINING], [1.0, 0.0])):
        bank = FeatureBank.from_dataset(model, layer, items)
        explanations = explain(LayerAPEX(model, layer, basis_from_matrix(bank, "time", invertible())), QUERIES)
        assert explanations[0].evidence[0].prototypes[0].label == label


def test_a_basis_without_prototypes_or_with_too_few_is_refused():
    model, layer, basis = subject("time")
    with pytest.raises(ValueError, match="expected a basis with prototypes, but there are none for this side"):
        explain(LayerAPEX(model, layer, bare_basis("pooling")), QUERIES)
    with pytest.raises(
        ValueError, match="expected `n_prototypes` from 1 to the 4 that the basis keeps per channel, but got 5"
    ):
        explain(LayerAPEX(model, layer, basis), QUERIES, n_prototypes=5)


def test_a_basis_with_positive_prototypes_only_explains_the_positive_side():
    model, layer, basis = subject("time")
    half = dataclasses.replace(basis, negative=None)
    assert explain(LayerAPEX(model, layer, half), QUERIES) == explain(LayerAPEX(model, layer, basis), QUERIES)
    with pytest.raises(ValueError, match="there are none for this side"):
        explain(LayerAPEX(model, layer, half), QUERIES, sides="both")


def test_several_classes_of_a_clip_are_each_explained_as_alone():
    model, layer, basis = subject("time-frequency")
    apex = LayerAPEX(model, layer, basis)
    expected = torch.tensor([[True, False, True, False], [False] * 4, [True] * 4, [False, False, False, True]])
    explanations = explain_classes(apex, QUERIES, expected, sides="both")
    assert [[e.target for e in of_clip] for of_clip in explanations] == [[0, 2], [], [0, 1, 2, 3], [3]]
    for clip, of_clip in enumerate(explanations):
        for explanation in of_clip:
            alone = explain(apex, QUERIES[clip : clip + 1], explanation.target, sides="both")[0]
            assert explanation.score == pytest.approx(alone.score, abs=1e-12)
            assert explanation.score_without_layer == pytest.approx(alone.score_without_layer, abs=1e-12)
            assert explanation.total == pytest.approx(alone.total, abs=1e-12)
            assert [e.channel for e in explanation.evidence] == [e.channel for e in alone.evidence]
            assert [e.region for e in explanation.evidence] == [e.region for e in alone.evidence]


def test_the_evidence_of_several_classes_costs_no_more_passes_than_that_of_one():
    model, layer, basis = subject("time")
    seen = []
    handle = model.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    explanations = explain_classes(LayerAPEX(model, layer, basis), QUERIES, lambda logits: logits > 0.16, search=None)
    handle.remove()
    assert seen == [4, 4]
    logits = model(QUERIES)
    expected = [mask.nonzero()[:, 0].tolist() for mask in logits > 0.16]
    assert [[e.target for e in of_clip] for of_clip in explanations] == expected
    assert len({len(labels) for labels in expected}) > 1


def test_a_batch_without_any_class_has_no_explanations():
    model, layer, basis = subject("time")
    assert explain_classes(LayerAPEX(model, layer, basis), QUERIES, lambda logits: logits > 1e9) == [[], [], [], []]


@pytest.mark.parametrize("classes", [torch.ones(4, 3, dtype=torch.bool), torch.ones(4, 4), lambda _: [0, 1], [0, 1]])
def test_classes_that_are_no_mask_are_refused(classes):
    model, layer, basis = subject("time")
    with pytest.raises(ValueError, match=r"expected `classes` as bool \(clip, class\) of shape \(4, 4\), but got"):
        explain_classes(LayerAPEX(model, layer, basis), QUERIES, classes)


def test_channels_of_equal_contributions_come_in_their_order():
    """As many as an unstable sort needs to change their order."""
    layer = nn.ReLU()
    model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(200, 1, bias=False))
    nn.init.ones_(model[3].weight)
    clips = torch.ones(2, 200, 2, 3)
    bank = FeatureBank.from_dataset(model, layer, list(clips))
    apex = LayerAPEX(model, layer, basis_from_matrix(bank, "time", torch.eye(200), n_prototypes=1))
    (explanation,) = explain(apex, clips[:1], n_channels=200, n_prototypes=1, search=None)
    assert [evidence.channel for evidence in explanation.evidence] == list(range(200))


def test_an_explanation_says_what_it_is_in_few_lines():
    explanation = explained.explained("time", n_channels=5)
    first, *_ = explanation.evidence
    lines = repr(explanation).splitlines()
    assert lines[0] == f"Explanation of class 2 for 'time': score {explanation.score:.3g}"
    assert lines[1] == (
        f"  channel {first.channel}: {first.contribution:+.3g}, purity {first.purity:.2f}, 3 prototypes"
    )
    n_others = len(explanation.evidence) - 3
    rest = sum(each.contribution for each in explanation.evidence[3:])
    assert lines[4] == f"  {n_others} more channel{'s' * (n_others > 1)} of the evidence: {rest:+.3g}"
    assert lines[5:] == [f"  all other channels: {explanation.other_channels:+.3g}"]
