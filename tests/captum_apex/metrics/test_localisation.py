"""Measures of localisation against loops, and on maps whose score is known."""

import math
from fractions import Fraction

import pytest
import torch
from sklearn.metrics import roc_auc_score

from captum_apex.metrics import (
    best_iou,
    bin_auroc,
    chance_by_shifts,
    frame_f1,
    pointing_game,
    relevance_mass,
    segment_auroc,
    threshold_iou,
)

SHAPE = (6, 9)


def random_maps(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def random_truth(clips, seed=0):
    return torch.rand(clips, *SHAPE, generator=torch.Generator().manual_seed(seed)) < 0.3


def bins():
    return [(i, j) for i in range(SHAPE[0]) for j in range(SHAPE[1])]


def expected_pointing(values, truth):
    largest = max(values[i, j].item() for i, j in bins())
    hits = [truth[i, j].item() for i, j in bins() if values[i, j].item() == largest]
    return sum(hits) / len(hits)


def expected_mass(values, truth):
    inside = sum(max(0.0, values[i, j].item()) for i, j in bins() if truth[i, j])
    return inside / sum(max(0.0, values[i, j].item()) for i, j in bins())


@pytest.mark.parametrize("channels", [1, 3])
def test_against_loops(channels):
    maps, truth = random_maps((40, channels, *SHAPE)), random_truth(40)
    pointing, mass = pointing_game(maps, truth[:, None]), relevance_mass(maps, truth[:, None])
    assert pointing.dtype == mass.dtype == torch.float64
    assert set(pointing.tolist()) == {0.0, 1.0}
    for clip in range(40):
        assert pointing[clip].item() == expected_pointing(maps[clip].sum(0), truth[clip])
        assert mass[clip].item() == pytest.approx(expected_mass(maps[clip].sum(0), truth[clip]), abs=1e-12)


def test_ties_are_a_fair_draw():
    maps, truth = (
        random_maps((20, 1, *SHAPE)).round(),
        random_truth(20),
    )  # whole numbers: the largest is often there twice
    measured = pointing_game(maps, truth)
    assert ((measured > 0) & (measured < 1)).sum() >= 3
    for clip in range(20):
        assert measured[clip].item() == pytest.approx(expected_pointing(maps[clip, 0], truth[clip]), abs=1e-12)


@pytest.mark.parametrize("value", [1.0, 0.0, -2.0])
def test_a_constant_map_scores_chance(value):
    truth = random_truth(5)
    chance = truth.double().mean((1, 2))
    constant = torch.full((5, 1, *SHAPE), value)
    torch.testing.assert_close(pointing_game(constant, truth), chance, rtol=0, atol=1e-12)
    if value > 0:
        torch.testing.assert_close(relevance_mass(constant, truth), chance, rtol=0, atol=1e-12)
    else:
        assert relevance_mass(constant, truth).isnan().all()


def test_the_truth_itself_scores_everything_and_its_complement_nothing():
    truth = random_truth(5)
    for measure in (pointing_game, relevance_mass):
        assert measure(truth.float()[:, None], truth).tolist() == [1.0] * 5
        assert measure((~truth).float()[:, None], truth).tolist() == [0.0] * 5
    assert (
        relevance_mass(truth.float()[:, None] - 0.5 * (~truth).float()[:, None], truth).tolist() == [1.0] * 5
    )  # negative is no relevance


def test_where_nothing_is_true_there_is_nothing_to_find():
    maps, truth = random_maps((3, 1, *SHAPE)), random_truth(3)
    expected = {measure: measure(maps, truth) for measure in (pointing_game, relevance_mass)}
    truth[1] = False
    for measure, before in expected.items():
        measured = measure(maps, truth)
        assert measured[1].isnan()
        assert torch.equal(measured[[0, 2]], before[[0, 2]])


def test_every_shape_of_map_and_truth():
    maps, truth = random_maps((3, 1, *SHAPE)), random_truth(3)
    for measure in (pointing_game, relevance_mass):
        expected = measure(maps, truth)
        assert torch.equal(measure(maps[:, 0], truth), expected)
        assert torch.equal(measure(maps[:, 0], truth[:, None]), expected)
        assert torch.equal(measure(maps.requires_grad_(), truth[:, None]), expected)
        assert not measure(maps, truth).requires_grad


@pytest.mark.parametrize("measure", [pointing_game, relevance_mass])
def test_errors(measure):
    maps, truth = random_maps((3, 1, *SHAPE)), random_truth(3)
    with pytest.raises(TypeError, match="expected `attributions` to be a tensor, but got NoneType"):
        measure(None, truth)
    with pytest.raises(TypeError, match=r"expected `truth` to be a bool tensor, but got torch.float32"):
        measure(maps, truth.float())
    with pytest.raises(TypeError, match="expected `truth` to be a bool tensor, but got list"):
        measure(maps, [True])
    for bad in (truth[:2], truth[:, :5], truth[:, None].expand(3, 2, *SHAPE)):
        with pytest.raises(
            ValueError,
            match=r"expected `attributions` of shape .* and `truth` of shape .*, but got \(3, 1, 6, 9\) and \(",
        ):
            measure(maps, bad)
    maps[2, 0, 1, 1] = math.inf
    with pytest.raises(ValueError, match="expected finite `attributions`, but got NaN or infinity in clip 2"):
        measure(maps, truth)


SEGMENTS = torch.tensor([0, 0, 1, 1, 1, 5, 5, 5, 7])  # of unequal durations, numbered with gaps
IN_TIME = lambda maps, truth: segment_auroc(maps, truth, SEGMENTS)  # noqa: E731 - a row of the table below
MEASURES = {
    "bins": bin_auroc,
    "segments": IN_TIME,
    "threshold": threshold_iou,
    "best": best_iou,
    "frames": frame_f1,
    "pointing": pointing_game,
    "mass": relevance_mass,
}


def expected_area(scores, inside):
    """How often a positive beats a negative; a tie is half."""
    pairs = [
        (a, b)
        for a, is_a in zip(scores, inside, strict=True)
        if is_a
        for b, is_b in zip(scores, inside, strict=True)
        if not is_b
    ]
    return sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs) / len(pairs)


def expected_in_segments(values, truth):
    rows, columns = values.shape
    scores = []
    inside = []
    for segment in sorted(set(SEGMENTS.tolist())):
        frames = [frame for frame in range(columns) if SEGMENTS[frame] == segment]
        own = [(row, frame) for row in range(rows) for frame in frames]
        scores.append(Fraction(sum(int(values[place].item() * 4) for place in own), len(own)))
        inside.append(any(truth[place].item() for place in own))
    return expected_area(scores, inside)


def expected_overlap(values, truth, threshold):
    chosen = {place for place in bins() if values[place].item() > 0 and values[place].item() >= threshold}
    inside = {place for place in bins() if truth[place]}
    return len(chosen & inside) / len(chosen | inside)


def expected_f1(values, truth):
    largest = values.max().item()
    tp = fp = fn = 0
    for frame in range(SHAPE[1]):
        found = any(0 < values[row, frame].item() >= 0.5 * largest for row in range(SHAPE[0]))
        there = any(truth[row, frame].item() for row in range(SHAPE[0]))
        tp += found and there
        fp += found and not there
        fn += there and not found
    return tp / (tp + (fp + fn) / 2)


def maps_and_truth(clips=30):
    """Maps in quarters, so that there are ties, and truths of a few frames each."""
    maps = (4 * random_maps((clips, 1, *SHAPE), seed=3)).round() / 4
    truth = random_truth(clips, seed=4)
    truth[:, :, 3:] &= torch.arange(3, 9) == 6  # frames 3 to 8 but the sixth are free, and with them segments
    return maps, truth


def test_areas_and_overlaps_against_loops():
    maps, truth = maps_and_truth()
    measured = {name: measure(maps, truth) for name, measure in MEASURES.items()}
    assert all(values.dtype == torch.float64 for values in measured.values())
    for clip in range(len(maps)):
        values = maps[clip, 0]
        own = truth[clip]
        expected = {
            "bins": expected_area([values[place].item() for place in bins()], [own[place] for place in bins()]),
            "segments": expected_in_segments(values, own),
            "threshold": expected_overlap(values, own, 0.5 * values.max().item()),
            "best": max(expected_overlap(values, own, threshold) for threshold in values[values > 0].tolist()),
            "frames": expected_f1(values, own),
        }
        for name, value in expected.items():
            assert measured[name][clip].item() == pytest.approx(value, abs=1e-12), name


def test_areas_against_scikit_learn():
    maps, truth = maps_and_truth()
    for clip in range(len(maps)):
        expected = roc_auc_score(truth[clip].flatten(), maps[clip].flatten())
        assert bin_auroc(maps, truth)[clip].item() == pytest.approx(expected, abs=1e-12)


def test_tiny_and_huge_maps_have_the_areas_of_their_order():
    maps, truth = maps_and_truth()
    for scale in (1e-60, 1e60):
        for measure in MEASURES.values():
            torch.testing.assert_close(measure(scale * maps, truth), measure(maps, truth), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", MEASURES)
def test_the_truth_scores_1_and_its_inverse_0(name):
    frames = torch.zeros(4, *SHAPE, dtype=torch.bool)  # all frequencies, as of annotations without any
    for clip, last in enumerate((2, 5, 8, 2)):
        frames[clip, :, clip:last] = True
    frames[3, :, 5:] = True
    truths = torch.cat([frames, frames & (torch.arange(SHAPE[0]) < 4)[:, None]])
    measure = MEASURES[name]
    assert measure(truths.double()[:, None], truths).tolist() == [1.0] * 8
    assert measure((-1.0 * truths.double())[:, None] + 1, truths)[:4].tolist() == [0.0] * 4
    inverse = measure((~truths).double()[:, None], truths)[4:].tolist()
    if name == "frames":  # the inverse of a box is in all frames
        shares = truths[4:].any(1).double().mean(1)
        assert inverse == pytest.approx((2 * shares / (1 + shares)).tolist(), abs=1e-12)
    else:
        assert inverse == [0.0] * 4


@pytest.mark.parametrize("name", ["bins", "pointing", "mass"])
def test_the_mean_over_all_shifts_is_chance(name):
    maps, truth = maps_and_truth(6)
    maps = maps.abs() + 0.25  # a mass needs a positive map
    shifts = [(row, column) for row in range(SHAPE[0]) for column in range(SHAPE[1])]
    mean = sum(MEASURES[name](maps.roll(shift, (2, 3)), truth) for shift in shifts) / len(shifts)
    chance = torch.full((6,), 0.5, dtype=torch.float64) if name == "bins" else truth.double().mean((1, 2))
    torch.testing.assert_close(mean, chance, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", MEASURES)
def test_chance_by_shifts_is_the_mean_of_shifted_maps(name):
    maps, truth = maps_and_truth(5)
    measure = MEASURES[name]
    shifts = [(row, column) for row in range(SHAPE[0]) for column in range(SHAPE[1])]
    exact = torch.stack([measure(maps.roll(shift, (2, 3)), truth) for shift in shifts])
    drawn = chance_by_shifts(measure, maps, truth, n_shifts=300, seed=1)
    assert ((drawn - exact.mean(0)).abs() <= 4 * exact.std(0) / 300**0.5).all()
    assert torch.equal(drawn, chance_by_shifts(measure, maps, truth, n_shifts=300, seed=1))


@pytest.mark.parametrize("name", MEASURES)
def test_random_maps_are_at_chance(name):
    """The mean of 400 random maps lies within four standard errors of the chance of their shifts."""
    maps = random_maps((400, 1, *SHAPE), seed=9).abs()
    truth = maps_and_truth(400)[1]
    above = MEASURES[name](maps, truth) - chance_by_shifts(MEASURES[name], maps, truth, n_shifts=20)
    assert above.mean().abs() < 4 * above.std() / 20


@pytest.mark.parametrize("name", MEASURES)
def test_waveforms_are_maps_of_one_row(name):
    maps, truth = maps_and_truth()
    row = maps[:, :, :1].contiguous()
    own = truth.any(1)
    measure = MEASURES[name]
    torch.testing.assert_close(measure(row[:, :, 0], own), measure(row, own[:, None]), equal_nan=True, rtol=0, atol=0)
    torch.testing.assert_close(measure(row[:, 0, 0], own), measure(row, own[:, None]), equal_nan=True, rtol=0, atol=0)


def test_measures_that_are_not_defined_are_nan():
    maps = random_maps((2, 1, *SHAPE)).abs()
    truth = torch.stack([torch.zeros(SHAPE, dtype=torch.bool), torch.ones(SHAPE, dtype=torch.bool)])
    for name, measure in MEASURES.items():
        values = measure(maps, truth)
        assert values[0].isnan(), name
        assert values[1].isnan() == (name in ("bins", "segments")), name
    nothing = torch.zeros(1, 1, *SHAPE)
    assert [measure(nothing, truth[1:]).item() for measure in (threshold_iou, best_iou, frame_f1)] == [0.0] * 3


@pytest.mark.parametrize("threshold", [0, -0.5, 1.5, math.nan])
@pytest.mark.parametrize("measure", [threshold_iou, frame_f1])
def test_thresholds_out_of_range(measure, threshold):
    with pytest.raises(ValueError, match=r"threshold` (in \(0, 1\]|to be)"):
        measure(torch.ones(1, 1, *SHAPE), random_truth(1), threshold)


def test_there_is_one_segment_for_each_frame():
    with pytest.raises(ValueError, match=r"expected `segments` of shape \(9,\), one for each frame, but got \(8,\)"):
        segment_auroc(torch.ones(1, 1, *SHAPE), random_truth(1), torch.arange(8))
