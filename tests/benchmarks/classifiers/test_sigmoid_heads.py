"""Heads for several labels: the asymmetric loss class by class, the published penalty, and planted pairs of classes."""

import math

import pytest
import torch

from benchmarks.classifiers import trained_heads
from benchmarks.classifiers.sigmoid_heads import SIGMOID_HEADS, SigmoidHead, asymmetric_loss, train_sigmoid_head
from captum_apex.metrics import classification_scores

SETTINGS = [
    {},
    {"gamma_positive": 0.0, "gamma_negative": 0.0, "margin": 0.0},
    {"gamma_positive": 2.0, "gamma_negative": 3.0, "margin": 0.2},
    {"gamma_positive": 0.0, "gamma_negative": 4.0},
]


def loss_by_the_paper(logits, labels, gamma_positive=1.0, gamma_negative=4.0, margin=0.05):
    """Equations 5 to 7 of Ridnik et al., one clip and class after another."""
    losses = []
    for of_clip, known in zip(logits.tolist(), labels.tolist(), strict=True):
        for logit, y in zip(of_clip, known, strict=True):
            p = 1 / (1 + math.exp(-logit))
            shifted = max(p - margin, 0)
            if y:
                losses.append(-((1 - p) ** gamma_positive) * math.log(max(p, 1e-8)))
            else:
                losses.append(-(shifted**gamma_negative) * math.log(max(1 - shifted, 1e-8)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_loss_is_that_of_the_paper(settings):
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(5, 7, generator=generator, dtype=torch.float64)
    logits[0, :2] = torch.tensor([40.0, -40.0])  # probabilities that are cut at the smallest one
    labels = (torch.rand(5, 7, generator=generator) < 0.4).long()
    labels[0, :2] = torch.tensor([0, 1])
    assert asymmetric_loss(logits, labels, **settings).item() == pytest.approx(
        loss_by_the_paper(logits, labels, **settings), rel=1e-10
    )


def test_without_focus_it_is_the_binary_cross_entropy():
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels = torch.tensor([[1, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])
    found = asymmetric_loss(logits, labels, gamma_positive=0, gamma_negative=0, margin=0)
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels.double())
    torch.testing.assert_close(found, wanted)


def test_the_gradient_is_finite_and_that_of_differences():
    logits = torch.tensor([[-3.0, 0.5, 2.0, -60.0, 60.0]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[0, 1, 0, 0, 1]])
    assert torch.autograd.gradcheck(lambda values: asymmetric_loss(values, labels), logits)


def test_absent_classes_below_the_margin_do_not_count():
    logits = torch.tensor([[math.log(0.04 / 0.96)]])
    assert asymmetric_loss(logits, torch.tensor([[0]])).item() == 0
    assert asymmetric_loss(logits, torch.tensor([[0]]), margin=0.03).item() > 0


def test_indices_of_classes_are_refused():
    with pytest.raises(ValueError, match=r"logits of shape \(4, 3\), but got labels of shape \(4,\); pass .*one_hot"):
        asymmetric_loss(torch.zeros(4, 3), torch.zeros(4))


def test_the_penalty_is_a_norm_over_all_classes():
    head = SigmoidHead(5, 3, per_class=2).double()
    total = 0.0
    for of_class in head.prototypes.tolist():
        for a, one in enumerate(of_class):
            for b, other in enumerate(of_class):
                dot = sum(x * y for x, y in zip(one, other, strict=True))
                total += (dot / math.hypot(*one) / math.hypot(*other) - (a == b)) ** 2
    assert head.penalty().item() == pytest.approx(math.sqrt(total) / 12, rel=1e-9)


def test_prototypes_start_in_clips_that_have_their_class():
    features = torch.rand(4, 5, 2, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 1]])
    head = SigmoidHead(5, 4, per_class=6)
    before = head.prototypes.clone()
    head.start(features, labels)
    loudest = [max(clip.flatten(1).T.tolist(), key=lambda cell: math.hypot(*cell)) for clip in features]
    for label, clips in ((0, (0, 3)), (1, (0, 1)), (3, (3,))):
        of_class = [pytest.approx(loudest[clip]) for clip in clips]
        assert all(any(prototype == one for one in of_class) for prototype in head.prototypes[label].tolist())
    assert torch.equal(head.prototypes[2], before[2])  # no clip has the class
    assert head.bias.tolist() == [-2.0] * 4
    assert (head.weights == 1).all()


@pytest.mark.parametrize("name", SIGMOID_HEADS)
def test_clips_with_two_classes_one_or_none_are_learned(name, monkeypatch):
    monkeypatch.setattr(trained_heads, "STEPS", 400)
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(160, 3, generator=generator) < 0.4).long()
    features = 0.3 * torch.randn(160, 6, 3, 5, generator=generator).abs()
    for clip, label in labels.nonzero().tolist():  # every class that a clip has sounds in a cell of its own
        features[clip, label, label, torch.randint(5, (1,), generator=generator)] += 2
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = SIGMOID_HEADS[name](6, 3)
        train_sigmoid_head(head, features[:120], labels[:120])
    with torch.no_grad():
        found = head(features[120:])
    scores = classification_scores(found, labels[120:])
    assert min(scores.values()) > 0.95
    # The loss lifts all probabilities, so they are compared within a clip, and not with 0.5.
    apart = [
        logits[known > 0].min() > logits[known == 0].max()
        for logits, known in zip(found, labels[120:], strict=True)
        if 0 < known.sum() < 3
    ]
    assert sum(apart) > 0.9 * len(apart)
    assert {0, 1, 2} <= set(labels[120:].sum(1).tolist())
