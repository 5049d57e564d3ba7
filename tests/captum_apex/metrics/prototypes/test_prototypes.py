"""Measures of prototypes: each beside a slow re-implementation, and on cases with a known answer."""

import itertools
import math
import random

import pytest
import torch

from captum_apex import Box, FeatureBank, Region, basis_from_matrix
from captum_apex.layers.origin import Origin
from captum_apex.metrics.prototypes import (
    PartHits,
    chance_class_share,
    chance_overlap,
    channels_needed,
    class_share,
    matched_channels,
    matched_prototypes,
    part_consistency,
    part_hits,
    part_purity,
    part_stability,
    prototype_jaccard,
    prototype_overlap,
    prototype_votes,
    purity_gap,
    vote_agreement,
)
from tests import oracles

GENERATOR = torch.Generator().manual_seed(0)
GRIDS = torch.randn(12, 5, 3, 4, generator=GENERATOR, dtype=torch.float64).relu() + 0.01
U = torch.linalg.qr(torch.randn(5, 5, generator=GENERATOR, dtype=torch.float64))[0]
LABELS = torch.randint(0, 4, (7, 6), generator=GENERATOR)
INDICES = torch.stack([torch.randperm(14, generator=GENERATOR)[:5] for _ in range(6)])
OTHERS = torch.stack([torch.randperm(14, generator=GENERATOR)[:4] for _ in range(6)])


def close(found, expected):
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), equal_nan=True, rtol=0, atol=1e-12)


# Purity


def test_the_gap_is_between_the_purest_clips_of_two_banks():
    def purities(grids):
        bank = FeatureBank({"time": grids.mean(2)}, grids.mean((2, 3)), None, Origin("layer", grid=(3, 4)))
        return basis_from_matrix(bank, "time", U, n_prototypes=3).positive.purities

    expected = []
    for channel in range(5):
        means = []
        for grids in (GRIDS[:7], GRIDS[7:]):
            clips = oracles.prototypes(grids, U, channel, 3)
            means.append(sum(oracles.peaks_and_purity(grids[clip], U, channel, "time")[1] for clip in clips) / 3)
        expected.append(means[0] - means[1])
    close(purity_gap(purities(GRIDS[:7]), purities(GRIDS[7:])), expected)


def test_the_gap_of_the_same_clips_is_zero_and_its_sign_says_which_are_purer():
    one = torch.tensor([[0.5, 0.25], [1.0, 1.0]])
    close(purity_gap(one, one), [0, 0])
    close(purity_gap(one, torch.zeros(2, 3)), [0.375, 1])
    close(purity_gap(torch.zeros(2, 3), one), [-0.375, -1])


def test_purities_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="expected the same channels twice, but got 1 and 2"):
        purity_gap(torch.ones(1, 2), torch.ones(2, 2))
    with pytest.raises(ValueError, match=r"expected `unseen` of shape \(channel, prototype\), but got \(2,\)"):
        purity_gap(torch.ones(2, 2), torch.ones(2))
    with pytest.raises(ValueError, match="`training` of clip 0 have NaN"):
        purity_gap(torch.full((2, 2), torch.nan), torch.ones(2, 2))


# Classes


def test_class_share_is_that_of_a_count():
    expected = [max(row.count(label) for label in row) / len(row) for row in LABELS.tolist()]
    close(class_share(LABELS), expected)
    assert len(set(expected)) > 1
    close(class_share(torch.tensor([[3, 3, 3], [3, 1, 2]])), [1, 1 / 3])


@pytest.mark.parametrize("counts", [(3, 2, 4), (1, 1, 1, 1), (7,), (5, 1)])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_chance_of_one_class_is_the_mean_over_all_selections(counts, n):
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    shares = [max(chosen.count(label) for label in chosen) / n for chosen in itertools.combinations(labels, n)]
    found = chance_class_share(torch.tensor(labels), n)
    assert found == pytest.approx(sum(shares) / len(shares), abs=1e-12)
    if len(counts) == 1 or n == 1:
        assert found == 1


def test_labels_that_are_not_one_class_per_clip_are_refused():
    with pytest.raises(ValueError, match="of clips with several labels, choose one"):
        class_share(torch.zeros(2, 3, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="integers .clip,. of at least 4 clips"):
        chance_class_share(torch.tensor([0, 1, 1]), 4)
    with pytest.raises(ValueError, match="but got torch.float32"):
        chance_class_share(torch.zeros(5), 4)


# Parts


def random_region(rng, n_boxes):
    """Boxes whose ends are multiples of 1/12, so that a grid of 12 bins has their exact areas."""
    boxes = []
    for _ in range(n_boxes):
        low, high = sorted(rng.sample(range(13), 2))
        start, end = sorted(rng.sample(range(13), 2))
        boxes.append(Box(low / 12, high / 12, start / 12, end / 12))
    return Region(tuple(boxes))


def slow_hit(region, part, least):
    """The overlap by the bins of a grid of 12 rows and columns."""
    inside = []
    for boxes in (region.boxes, part.boxes):
        bins = set()
        for box in boxes:
            rows = range(round(box.low * 12), round(box.high * 12))
            bins |= set(itertools.product(rows, range(round(box.start * 12), round(box.end * 12))))
        inside.append(bins)
    return len(inside[0] & inside[1]) / min(map(len, inside)) >= least - 1e-9


@pytest.fixture(scope="module")
def annotated():
    """Regions of 8 channels with 5 prototypes each, and clips with some of four parts."""
    rng = random.Random(3)
    regions = [[random_region(rng, rng.choice((1, 1, 2))) for _ in range(5)] for _ in range(8)]
    names = ("call", "drum", "song", "wind")
    parts = [{name: random_region(rng, rng.choice((1, 2))) for name in names if rng.random() < 0.6} for _ in range(14)]
    indices = torch.tensor([rng.sample(range(14), 5) for _ in range(8)])
    return regions, indices, parts


@pytest.mark.parametrize("least", [0.3, 0.5, 1.0])
def test_part_measures_are_those_of_loops_over_bins(annotated, least):
    regions, indices, parts = annotated
    found = part_hits(regions, indices, parts, least=least)
    shares = []
    for channel, clips in enumerate(indices.tolist()):
        of_parts = []
        for name in found.names:
            shown = [
                slow_hit(regions[channel][rank], parts[clip][name], least)
                for rank, clip in enumerate(clips)
                if name in parts[clip]
            ]
            of_parts += [sum(shown) / len(shown)] if shown else []
        shares.append(max(of_parts))
    close(part_purity(found), shares)
    close(part_consistency(found), [float(share >= 0.8) for share in shares])
    close(part_consistency(found, 0.3), [float(share >= 0.3) for share in shares])
    assert 0 < found.hits.sum() < found.present.sum()


def test_a_channel_that_shows_one_part_is_pure_and_one_that_shows_none_is_not():
    call = Region((Box(0.2, 0.4, 0.2, 0.4),))
    clip = {"call": call, "wind": Region((Box(0.8, 1.0, 0.0, 1.0),))}
    elsewhere = Region((Box(0.5, 0.7, 0.5, 0.7),))
    regions = [[call, call], [call, elsewhere], [elsewhere, None], [Region(()), Region((Box(0, 1, 0, 1),))]]
    found = part_hits(regions, torch.zeros(4, 2, dtype=torch.int64), [clip])
    close(part_purity(found), [1, 0.5, 0, 0.5])
    close(part_consistency(found), [1, 0, 0, 0])
    moved = part_hits([[call, elsewhere], *regions[1:]], torch.zeros(4, 2, dtype=torch.int64), [clip])
    close(part_stability(found, found), [1, 1, 1, 1])
    close(part_stability(found, moved), [0.5, 1, 1, 1])


def test_a_part_inside_a_region_and_a_region_inside_a_part_are_both_shown():
    small = Region((Box(0.45, 0.55, 0.45, 0.55),))
    large = Region((Box(0.0, 1.0, 0.4, 0.6),))
    one = torch.zeros(1, 1, dtype=torch.int64)
    for region, part in ((small, large), (large, small)):
        assert part_hits([[region]], one, [{"part": part}], least=1.0).hits.all()
    beside = Region((Box(0.0, 1.0, 0.6, 0.7),))
    assert not part_hits([[large]], one, [{"part": beside}], least=0.01).hits.any()


def test_boxes_of_a_region_that_overlap_count_once():
    double = Region((Box(0, 1, 0, 0.5), Box(0, 1, 0.25, 0.5)))
    part = Region((Box(0, 1, 0.25, 0.75),))  # half of each is in the other
    one = torch.zeros(1, 1, dtype=torch.int64)
    assert part_hits([[double]], one, [{"part": part}], least=0.5).hits.all()
    assert not part_hits([[double]], one, [{"part": part}], least=0.51).hits.any()


def test_the_share_of_a_part_counts_only_clips_that_have_it():
    hits = torch.tensor([[[True, False], [False, True], [False, False]]])
    present = torch.tensor([[[True, True], [False, True], [False, True]]])
    close(part_purity(PartHits(("call", "wind"), hits, present)), [1])
    close(part_purity(PartHits(("call", "wind"), hits & present, torch.ones_like(present))), [1 / 3])


def test_clips_without_parts_say_nothing():
    region = Region((Box(0, 1, 0, 1),))
    indices = torch.tensor([[0, 0], [0, 1]])
    found = part_hits([[region, region]] * 2, indices, [{}, {"call": region}])
    close(part_purity(found), [math.nan, 1])
    close(part_consistency(found), [math.nan, 1])
    close(part_purity(part_hits([[region, region]], indices[:1], [{}])), [math.nan])


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="expected one region for each of"):
        part_hits([[None]], torch.tensor([[0, 1]]), [{}, {}])
    with pytest.raises(KeyError):
        part_hits([[None]], torch.tensor([[5]]), {0: {}})
    one = PartHits(("a",), torch.ones(1, 1, 1, dtype=torch.bool), torch.ones(1, 1, 1, dtype=torch.bool))
    with pytest.raises(ValueError, match="expected the same parts of the same prototypes twice"):
        part_stability(one, PartHits(("b",), one.hits, one.present))
    with pytest.raises(ValueError, match="for 2 parts"):
        PartHits(("a", "b"), one.hits, one.present)


# Number of channels, and overlap of prototypes


@pytest.mark.parametrize("share", [0.5, 0.9, 1.0])
def test_channels_needed_is_the_smallest_number_that_suffices(share):
    contributions = torch.randn(20, 9, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    expected = []
    for row in contributions.tolist():
        positive = sorted((max(value, 0) for value in row), reverse=True)
        expected.append(next(n for n in range(1, 10) if sum(positive[:n]) >= share * sum(positive) - 1e-9))
    close(channels_needed(contributions, share), expected)


def test_one_channel_can_suffice_and_equal_ones_all_count():
    rows = [[0.0, 5.0, 0.0, -9.0], [1.0, 1.0, 1.0, 1.0], [-1.0, 0.0, -2.0, -3.0]]
    close(channels_needed(torch.tensor(rows)), [1, 4, math.nan])
    close(channels_needed(torch.ones(1, 100, dtype=torch.float32) / 3), [90])
    with pytest.raises(ValueError, match="`share` to be a finite number of at least 0|in .0, 1."):
        channels_needed(torch.ones(1, 2), 1.5)


def slow_jaccard(one, other):
    return len(set(one) & set(other)) / len(set(one) | set(other))


def test_overlap_is_the_mean_of_the_jaccard_indices_with_other_channels():
    rows = INDICES.tolist()
    expected = [
        sum(slow_jaccard(row, other) for number, other in enumerate(rows) if number != channel) / (len(rows) - 1)
        for channel, row in enumerate(rows)
    ]
    close(prototype_overlap(INDICES), expected)
    close(prototype_overlap(torch.tensor([[4, 5], [5, 4], [4, 5]])), [1, 1, 1])
    close(prototype_overlap(torch.arange(6).view(3, 2)), [0, 0, 0])
    close(prototype_overlap(torch.tensor([[4, 5]])), [math.nan])


@pytest.mark.parametrize(("n_clips", "n_prototypes"), [(6, 3), (7, 2), (4, 4), (5, 1)])
def test_chance_of_an_overlap_is_the_mean_over_all_pairs_of_selections(n_clips, n_prototypes):
    chosen = list(itertools.combinations(range(n_clips), n_prototypes))
    pairs = [slow_jaccard(one, other) for one in chosen for other in chosen]
    assert chance_overlap(n_clips, n_prototypes) == pytest.approx(sum(pairs) / len(pairs), abs=1e-12)


def test_more_prototypes_than_clips_are_refused():
    with pytest.raises(ValueError, match="`n_clips` to be an int of at least 3, but got 2"):
        chance_overlap(2, 3)


# Agreement of two fits


def best_permutation(similarity):
    def total(order):
        return sum(similarity[row][column] for row, column in enumerate(order))

    return max(itertools.permutations(range(len(similarity))), key=total)


def test_channels_are_paired_as_the_best_of_all_permutations_pairs_them():
    other = torch.randn(5, 5, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    cosines = [[(u @ v / u.norm() / v.norm()).item() for v in other] for u in U]
    order = best_permutation(cosines)
    match, found = matched_channels(U, other)
    assert match.tolist() == list(order)
    close(found, [cosines[row][column] for row, column in enumerate(order)])


def test_the_same_channels_in_another_order_and_of_other_lengths_are_found():
    order = torch.tensor([3, 0, 4, 1, 2])
    other = torch.empty(5, 5, dtype=torch.float64)
    other[order] = U * torch.tensor([[1.0], [2.0], [0.5], [3.0], [1.0]], dtype=torch.float64)
    match, cosines = matched_channels(U, other)
    assert torch.equal(match, order)
    close(cosines, [1.0] * 5)
    match, cosines = matched_channels(torch.eye(2), -torch.eye(2))
    close(cosines, [0, 0])  # rather than −1 twice


def test_prototypes_are_paired_as_the_best_of_all_permutations_pairs_them():
    similarity = [[slow_jaccard(one, other) for other in OTHERS.tolist()] for one in INDICES.tolist()]
    order = best_permutation(similarity)
    match, found = matched_prototypes(INDICES, OTHERS)
    assert found.sum().item() == pytest.approx(sum(similarity[row][column] for row, column in enumerate(order)))
    close(found, [similarity[row][column] for row, column in enumerate(match.tolist())])
    close(prototype_jaccard(INDICES, OTHERS), [similarity[row][row] for row in range(6)])
    shuffled = INDICES.flip(1)[[2, 0, 1, 5, 4, 3]]
    match, found = matched_prototypes(shuffled, INDICES)
    assert match.tolist() == [2, 0, 1, 5, 4, 3]
    close(found, [1.0] * 6)


def test_bases_that_do_not_fit_each_other_are_refused():
    with pytest.raises(ValueError, match="expected two matrices .channel, channel. of one layer"):
        matched_channels(torch.eye(2), torch.eye(3))
    with pytest.raises(ValueError, match="as many channels, but got 6 and 2"):
        matched_prototypes(INDICES, OTHERS[:2])
    with pytest.raises(ValueError, match="as many channels in both, but got 6 and 2"):
        prototype_jaccard(INDICES, OTHERS[:2])
    with pytest.raises(ValueError, match="expected indices of clips, integers"):
        prototype_overlap(torch.rand(2, 2))


# Votes


def test_votes_are_those_of_a_loop_over_prototypes():
    weights = torch.randn(9, 7, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    expected = []
    for row in weights.tolist():
        votes = [0.0] * 4
        for channel, weight in enumerate(row):
            for label in LABELS[channel].tolist():
                votes[label] += max(weight, 0) / LABELS.shape[1]
        expected.append([vote / sum(votes) for vote in votes])
    votes = prototype_votes(weights, LABELS, 4)
    close(votes, expected)
    predicted = torch.arange(9) % 4
    agreement = [
        float(max(range(4), key=row.__getitem__) == label) for row, label in zip(expected, predicted, strict=True)
    ]
    close(vote_agreement(votes, predicted), agreement)


def test_pure_channels_agree_and_channels_without_a_class_agree_by_chance():
    weights = torch.eye(3)
    pure = prototype_votes(weights, torch.tensor([[0, 0, 0], [1, 1, 1], [2, 2, 2]]), 3)
    close(vote_agreement(pure, torch.tensor([0, 1, 2])), [1, 1, 1])
    mixed = prototype_votes(weights, torch.tensor([[0, 1, 2]] * 3), 3)
    close(vote_agreement(mixed, torch.tensor([0, 1, 2])), [1 / 3] * 3)
    nothing = prototype_votes(-weights[:1], torch.zeros(3, 2, dtype=torch.int64), 3)
    assert nothing.isnan().all()
    close(vote_agreement(nothing, torch.tensor([0])), [1 / 3])


def test_labels_that_are_no_class_are_refused():
    with pytest.raises(ValueError, match="expected labels from 0 to 1, but got .0, 2."):
        prototype_votes(torch.ones(1, 2), torch.tensor([[0], [2]]), 2)
    with pytest.raises(ValueError, match="expected `weights` of shape .clip, channel."):
        prototype_votes(torch.ones(1, 3), torch.tensor([[0], [1]]), 2)
    with pytest.raises(ValueError, match="expected `votes` of shape .clip, class."):
        vote_agreement(torch.ones(2, 2), torch.tensor([0]))
