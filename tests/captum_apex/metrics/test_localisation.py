"""Pointing game and relevance mass against loops, and on maps whose score is known."""

import math

import pytest
import torch

from captum_apex.metrics import pointing_game, relevance_mass

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
