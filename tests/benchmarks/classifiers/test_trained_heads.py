"""Trained heads: their logits, penalties and maps against loops, and that they learn what is planted."""

import math

import pytest
import torch
from torch import nn

from benchmarks.classifiers import trained_heads
from benchmarks.classifiers.trained_heads import HEADS, ChannelHead, PrototypeHead, train_head

SHAPE = (3, 5, 2, 4)  # clip, channel, row, column


@pytest.fixture
def features():
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def prototype_head():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        head = PrototypeHead(5, 3, per_class=2).double()
        for parameter in head.parameters():
            nn.init.normal_(parameter)
    return head


@pytest.fixture
def channel_head():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        head = ChannelHead(5, 3).double()
        for parameter in head.parameters():
            nn.init.normal_(parameter)
    return head


def cosine(one, other):
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return dot / math.sqrt(sum(a * a for a in one) * sum(b * b for b in other))


def cells(clip):
    """The vector of each cell of a clip, in the order of rows and columns."""
    return clip.permute(1, 2, 0).flatten(0, 1).tolist()


def test_a_prototype_counts_by_the_most_similar_cell_and_a_weight_that_is_not_negative(features, prototype_head):
    head = prototype_head
    found = head(features)
    for i, clip in enumerate(features):
        for label in range(3):
            wanted = head.bias[label].item()
            for j in range(2):
                best = max(max(cosine(cell, head.prototypes[label, j].tolist()), 0) for cell in cells(clip))
                wanted += max(head.weights[label, j].item(), 0) * best
            assert found[i, label].item() == pytest.approx(wanted, rel=1e-9)


def test_the_map_of_a_class_is_the_weighted_similarity_to_its_prototypes(features, prototype_head):
    head, target = prototype_head, torch.tensor([2, 0, 1])
    found = head.evidence(features, target)
    assert found.shape == (3, 2, 4)
    for i, clip in enumerate(features):
        for place, cell in enumerate(cells(clip)):
            wanted = sum(
                max(head.weights[target[i], j].item(), 0) * max(cosine(cell, head.prototypes[target[i], j].tolist()), 0)
                for j in range(2)
            )
            assert found[i].flatten()[place].item() == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_the_penalty_is_zero_for_orthogonal_prototypes_and_counts_each_pair_twice(prototype_head):
    wanted = 0.0
    for of_class in prototype_head.prototypes.tolist():
        for a, one in enumerate(of_class):
            for b, other in enumerate(of_class):
                wanted += (cosine(one, other) - (a == b)) ** 2
    assert prototype_head.penalty().item() == pytest.approx(0.01 * wanted, rel=1e-9)
    prototype_head.prototypes.data = torch.eye(5, dtype=torch.float64)[:2].repeat(3, 1, 1) * 4
    assert prototype_head.penalty().item() == pytest.approx(0, abs=1e-12)


def test_prototypes_start_at_the_cells_with_the_largest_norm_of_clips_of_their_class(features):
    head = PrototypeHead(5, 3, per_class=4).double()
    head.start(features, torch.tensor([0, 2, 0]))
    for label, clips in ((0, (0, 2)), (2, (1,))):
        of_class = [max(cells(features[clip]), key=lambda cell: sum(value**2 for value in cell)) for clip in clips]
        assert all(prototype in of_class for prototype in head.prototypes[label].tolist())


def test_a_channel_is_its_largest_and_its_smallest_value(features, channel_head):
    head = channel_head
    U = torch.linalg.matrix_exp(head.angles - head.angles.T)
    torch.testing.assert_close(U @ U.T, torch.eye(5, dtype=torch.float64))
    found = head(features)
    for i, clip in enumerate(features):
        rotated = [[sum(U[k, c].item() * cell[c] for c in range(5)) for cell in cells(clip)] for k in range(5)]
        values = [max(max(channel), 0) - max(max(-value for value in channel), 0) for channel in rotated]
        for label in range(3):
            wanted = sum(max(head.weights[label, k].item(), 0) * values[k] for k in range(5))
            assert found[i, label].item() == pytest.approx(wanted, rel=1e-9)
    assert head.penalty().item() == pytest.approx(1e-4 * head.weights.detach().clamp_min(0).sum().item())


def test_the_map_of_the_channels_adds_up_to_the_logit_and_lies_in_the_cells_that_count(features, channel_head):
    target = torch.tensor([2, 0, 1])
    found = channel_head.evidence(features, target)
    logits = channel_head(features)
    torch.testing.assert_close(found.sum((1, 2)), logits[torch.arange(3), target])
    changed = features.clone()
    unused = (found[0] == 0).nonzero()
    for row, column in unused.tolist():
        changed[0, :, row, column] *= 0.9
    torch.testing.assert_close(channel_head(changed)[0, target[0]], logits[0, target[0]])


@pytest.mark.parametrize("name", HEADS)
def test_a_head_learns_classes_that_differ_in_one_cell(name, monkeypatch):
    monkeypatch.setattr(trained_heads, "STEPS", 400)
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(96) % 3
    features = 0.3 * torch.randn(96, 6, 3, 5, generator=generator).abs()
    places = torch.randint(15, (96,), generator=generator)
    for clip, (label, place) in enumerate(zip(labels, places, strict=True)):
        features[clip, label, place // 5, place % 5] += 2
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = HEADS[name](6, 3)
        train_head(head, features, labels)
    with torch.no_grad():
        assert (head(features).argmax(1) == labels).double().mean() > 0.95
        strongest = head.evidence(features, labels).flatten(1).argmax(1)
    # A prototype that began in the background is similar to cells everywhere; chance is 1/15.
    assert (strongest == places).double().mean() > (0.9 if name == "InfoDisent" else 0.4)


def test_training_does_not_depend_on_more_than_the_seed(features):
    heads = []
    for _ in range(2):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            head = PrototypeHead(5, 3, per_class=2)
            train_head(head, features.float(), torch.tensor([0, 1, 2]))
        heads.append(head)
    assert torch.equal(heads[0].prototypes, heads[1].prototypes)
