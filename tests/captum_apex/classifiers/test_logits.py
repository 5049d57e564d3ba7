"""Scores that are probabilities already are noticed where probabilities are computed from them."""

import warnings

import pytest
import torch
from torch import nn

from captum_apex import Classifier
from captum_apex.classifiers.logits import check_logits


def logits(n_clips, n_classes=5, seed=0):
    return 3 * torch.randn(n_clips, n_classes, generator=torch.Generator().manual_seed(seed))


def classifier(exclusive, n_classes=5):
    names = [f"class {index}" for index in range(n_classes)]
    return Classifier(nn.Linear(9, n_classes), lambda waveform: waveform, 8000, names, exclusive=exclusive)


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("n_classes", [2, 5, 500])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_the_softmax_of_a_softmax_is_refused(exclusive, n_classes, dtype):
    scores = logits(3, n_classes)
    with pytest.raises(ValueError, match="its scores are probabilities, .* without its softmax"):
        classifier(exclusive, n_classes).probabilities(scores.softmax(1).to(dtype).float())
    with pytest.raises(ValueError, match="its scores are probabilities"):
        classifier(exclusive, n_classes).probabilities(scores[0].softmax(0))


def test_the_sigmoid_of_many_sigmoids_gives_a_warning():
    with pytest.warns(UserWarning, match=r"all 20 scores lie between 0 and 1, .* ends in a sigmoid"):
        classifier(False).probabilities(logits(4).sigmoid())


def test_scores_of_exclusive_classes_may_lie_between_0_and_1():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_logits(logits(4).sigmoid(), exclusive=True)


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("scores", [logits(50), logits(1), torch.zeros(1, 20), torch.zeros(0, 5), torch.ones(2, 5)])
def test_logits_are_taken_as_they_are(exclusive, scores):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_logits(scores, exclusive)


def test_one_logit_that_is_1_is_no_probability():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert classifier(None, 1).probabilities(torch.ones(3, 1)).tolist() == [[pytest.approx(0.731, abs=1e-3)]] * 3
