"""Scores of classifiers against their definitions, written out in float64."""

import itertools
import math
import sys

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn_metrics

from captum_apex.metrics import auroc, classification_scores, equal_error_rate, mean_average_precision, top_1


def average_precision(scores, truth):
    """Σ over thresholds, from the highest, of the gain in recall times the precision."""
    total, recall_before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        hits = [right for score, right in zip(scores, truth, strict=True) if score >= threshold]
        recall = sum(hits) / sum(truth)
        total += (recall - recall_before) * sum(hits) / len(hits)
        recall_before = recall
    return total


def area(scores, truth):
    """The share of pairs of a positive and a negative that are in the right order; ties are half right."""
    positives = [score for score, right in zip(scores, truth, strict=True) if right]
    negatives = [score for score, right in zip(scores, truth, strict=True) if not right]
    return sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives) / (len(positives) * len(negatives))


def error_rate(scores, truth):
    """Where misses and false alarms are equal, on the straight line between two thresholds."""
    rates = []
    for threshold in [math.inf, *sorted(set(scores), reverse=True)]:
        misses = sum(right and score < threshold for score, right in zip(scores, truth, strict=True)) / sum(truth)
        alarms = sum(not right and score >= threshold for score, right in zip(scores, truth, strict=True)) / (
            len(truth) - sum(truth)
        )
        rates.append((misses, alarms))
    for (misses, alarms), (fewer, more) in itertools.pairwise(rates):
        if fewer <= more:  # misses − alarms is positive at one end, and not at the other
            share = (misses - alarms) / ((misses - alarms) + (more - fewer))
            return misses + share * (fewer - misses)
    raise AssertionError


def class_means(measure, probabilities, truth):
    columns = zip(probabilities.T.tolist(), truth.T.tolist(), strict=True)
    values = [measure(scores, right) for scores, right in columns if any(right)]
    return sum(values) / len(values)


def multi_class(n_clips=60, n_classes=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n_clips) % n_classes
    outputs = torch.randn(n_clips, n_classes, generator=generator) + 1.5 * torch.nn.functional.one_hot(
        labels, n_classes
    )
    return outputs.round(decimals=1), labels  # rounded: with ties


def multi_label(n_clips=80, n_classes=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(n_clips, n_classes, generator=generator) < 0.2).float()
    return (torch.randn(n_clips, n_classes, generator=generator) + labels).round(decimals=1), labels


@pytest.mark.parametrize("seed", range(3))
def test_one_class_per_clip(seed):
    outputs, labels = multi_class(seed=seed)
    probabilities, truth = outputs.double().softmax(1), torch.nn.functional.one_hot(labels)
    scores = classification_scores(outputs, labels)
    right = [row.index(max(row)) == label for row, label in zip(outputs.tolist(), labels.tolist(), strict=True)]
    assert scores["top_1"] == pytest.approx(sum(right) / 60)
    assert scores["mean_average_precision"] == pytest.approx(
        class_means(average_precision, probabilities, truth), abs=1e-6
    )
    assert scores["auroc"] == pytest.approx(class_means(area, probabilities, truth), abs=1e-6)
    assert scores["auroc"] == pytest.approx(
        sklearn_metrics.roc_auc_score(labels, probabilities, multi_class="ovr"), abs=1e-6
    )
    assert "equal_error_rate" not in scores


@pytest.mark.parametrize("seed", range(3))
def test_several_classes_per_clip(seed):
    outputs, labels = multi_label(seed=seed)
    scores = classification_scores(outputs, labels)
    rows = [(row, right) for row, right in zip(outputs.tolist(), labels.tolist(), strict=True) if any(right)]
    assert 0 < len(rows) < 80
    assert scores["top_1"] == pytest.approx(sum(right[row.index(max(row))] for row, right in rows) / len(rows))
    assert scores["mean_average_precision"] == pytest.approx(
        class_means(average_precision, outputs.double(), labels), abs=1e-6
    )
    assert scores["mean_average_precision"] == pytest.approx(
        sklearn_metrics.average_precision_score(labels, outputs), abs=1e-6
    )
    assert scores["auroc"] == pytest.approx(class_means(area, outputs.double(), labels), abs=1e-6)
    assert list(scores) == ["top_1", "mean_average_precision", "auroc"]


@pytest.mark.parametrize("seed", range(5))
def test_a_detector_with_one_or_two_outputs(seed):
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.rand(50, generator=generator) < 0.4).long()
    logits = (torch.randn(50, generator=generator) + labels).round(decimals=2)
    expected = error_rate(logits.tolist(), labels.tolist())
    two = torch.stack([torch.full((50,), 7.0), logits + 7], 1)
    for outputs in (logits, logits[:, None], two):
        assert equal_error_rate(outputs, labels) == pytest.approx(expected, abs=1e-6)
        scores = classification_scores(outputs, labels)
        assert scores["equal_error_rate"] == pytest.approx(expected, abs=1e-6)
        assert scores["auroc"] == pytest.approx(area(logits.tolist(), labels.tolist()), abs=1e-6)
        assert scores["top_1"] == pytest.approx(((logits > 0) == labels).double().mean().item())


def test_the_error_rate_is_low_where_class_1_scores_high():
    labels = torch.tensor([0, 0, 1, 1])
    assert equal_error_rate(torch.tensor([-2.0, -1.0, 1.0, 2.0]), labels) == 0
    assert equal_error_rate(torch.tensor([2.0, 1.0, -1.0, -2.0]), labels) == 1
    assert equal_error_rate(torch.tensor([0.0, 2.0, 1.0, 3.0]), labels) == 0.5
    assert math.isnan(equal_error_rate(torch.randn(3), torch.ones(3, dtype=torch.int64)))


@pytest.mark.parametrize("seed", range(60))
def test_the_error_rate_is_interpolated_and_the_same_from_both_sides(seed):
    """Few clips with many ties, and classes of different sizes."""
    random = np.random.default_rng(seed)
    n_clips = int(random.integers(2, 12))
    labels = torch.tensor([0, 1, *random.integers(0, 2, n_clips)])
    scores = torch.tensor(random.integers(-4, 4, n_clips + 2), dtype=torch.float64)
    expected = error_rate(scores.tolist(), labels.tolist())
    assert equal_error_rate(scores, labels) == pytest.approx(expected, abs=1e-6)
    turned = equal_error_rate(-scores, 1 - labels)
    assert turned == pytest.approx(expected, abs=1e-6)
    assert equal_error_rate(-scores, labels) == pytest.approx(1 - expected, abs=1e-6)
    assert equal_error_rate((scores / 2).exp() - 30, labels) == equal_error_rate(scores, labels)
    twice = torch.arange(len(labels)).repeat(2)
    assert equal_error_rate(scores[twice], labels[twice]) == pytest.approx(expected, abs=1e-6)


def test_one_clip_of_class_1_above_half_of_the_others():
    """At the threshold of clip 2 the miss rate falls from 1 to 0, while half of the others are false alarms."""
    scores = torch.tensor([0.0, 1.0, 2.0, 4.0, 3.0])
    labels = torch.tensor([0, 0, 1, 0, 0])
    assert equal_error_rate(scores, labels) == 0.5
    assert equal_error_rate(-scores, 1 - labels) == 0.5


@pytest.mark.parametrize("outputs", [torch.tensor([50.0, 90.0, 60.0, 100.0]), torch.tensor([0.1, 0.3, 0.2, 0.4])])
def test_large_scores_make_no_ties_and_small_ones_are_no_probabilities(outputs):
    """A sigmoid in float32 is 1 for all of the first; the measures see their order."""
    for logits in (outputs, torch.stack([-outputs, outputs], 1)):
        scores = classification_scores(logits, torch.tensor([0, 1, 0, 1]))
        assert (scores["auroc"], scores["mean_average_precision"], scores["equal_error_rate"]) == (1, 1, 0)


def test_large_scores_of_many_classes_make_no_ties():
    """The first class is all but sure for every clip, and least so where it is not true."""
    outputs = torch.tensor([[90.0, 0.0, 0.0], [80.0, 0.0, 1.0], [70.0, 30.0, 0.0], [60.0, 0.0, 30.0]])
    assert auroc(outputs, torch.tensor([0, 0, 1, 2])) == pytest.approx(1)


def test_what_is_equally_likely_is_a_tie_whatever_the_offset():
    """The softmax is the same for all clips, up to rounding."""
    outputs = (
        torch.tensor([[0.1, 0.2, 0.4]], dtype=torch.float64) + torch.linspace(0, 100, 31, dtype=torch.float64)[:, None]
    )
    assert len(outputs.softmax(1).unique()) > 3
    assert auroc(outputs, torch.arange(31) % 3) == 0.5


def test_classes_without_clips_are_left_out_and_said():
    outputs, labels = multi_label()
    labels[:, 1], labels[:, 4] = 0, 1
    scored_classes = [0, 2, 3, 5]
    with pytest.warns(
        UserWarning, match="^1 of 6 classes are left out of a mean, since none or all of the clips have them: 1$"
    ):
        precision = mean_average_precision(outputs, labels)
    assert precision == pytest.approx(
        mean_average_precision(outputs[:, [*scored_classes, 4]], labels[:, [*scored_classes, 4]])
    )
    with pytest.warns(UserWarning, match="^2 of 6 classes are left out of a mean, .*: 1, 4$"):
        assert auroc(outputs, labels) == pytest.approx(auroc(outputs[:, scored_classes], labels[:, scored_classes]))
    nothing = torch.zeros(80, 6)
    with pytest.warns(UserWarning, match="6 of 6"):
        assert math.isnan(mean_average_precision(outputs, nothing))
    assert math.isnan(top_1(outputs, nothing))


def test_the_outputs_stay_as_they_are():
    outputs, labels = multi_class()
    outputs.requires_grad_()
    before = outputs.detach().clone()
    assert classification_scores(outputs, labels) == classification_scores(before, labels)
    assert torch.equal(outputs, before)


@pytest.mark.parametrize(
    ("outputs", "labels", "error", "message"),
    [
        ([[1.0]], torch.zeros(1), TypeError, "`outputs` to be a tensor of floats, but got list"),
        (
            torch.zeros(2, 2, dtype=torch.int64),
            torch.zeros(2),
            TypeError,
            "`outputs` to be a tensor of floats, but got torch.int64",
        ),
        (torch.zeros(2, 2), [0, 1], TypeError, "`labels` to be a tensor, but got list"),
        (torch.zeros(2, 2), torch.zeros(2, 2) + 1j, TypeError, "of real numbers, but got torch.complex64"),
        (
            torch.zeros(2, 2),
            torch.zeros(2),
            TypeError,
            r"`labels` of shape \(clip,\) to be integers, but got torch.float32",
        ),
        (
            torch.tensor([[0.0, math.nan]]),
            torch.tensor([0]),
            ValueError,
            "`outputs` to be finite, but got NaN or infinity",
        ),
        (torch.zeros(2, 2), torch.tensor([0, 2]), ValueError, "`labels` from 0 to 1, but got 0 to 2"),
        (torch.zeros(2, 3), torch.tensor([0]), ValueError, r"`labels` of shape \(clip,\), but got \(2, 3\) and \(1,\)"),
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), ValueError, r"but got \(0, 3\) and \(0,\)"),
        (
            torch.zeros(2, 3),
            torch.zeros(2, 2),
            ValueError,
            r"of one shape \(clip, class\), but got \(2, 3\) and \(2, 2\)",
        ),
        (torch.zeros(2, 2), torch.full((2, 2), 0.5), ValueError, "to be 0 or 1, but got other numbers"),
    ],
)
def test_what_has_no_scores_is_refused(outputs, labels, error, message):
    with pytest.raises(error, match=message):
        classification_scores(outputs, labels)


def test_an_error_rate_is_of_detectors():
    with pytest.raises(
        ValueError,
        match=r"one or two outputs per clip .* got \(60, 5\) and \(60,\); only a detector has an equal error rate",
    ):
        equal_error_rate(*multi_class())


def test_missing_torchmetrics_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics.functional", None)
    with pytest.raises(ImportError, match=r"expected torchmetrics, .*captum-apex\[classification\]"):
        auroc(*multi_class())
