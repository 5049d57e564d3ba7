"""Sparseness and complexity against other forms of their definitions."""

import math

import pytest
import torch

from captum_apex.metrics import complexity, sparseness


def random_maps(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def gini(values):
    """Half the mean absolute difference of two values, in units of the mean: another form of the same index."""
    n, total = len(values), sum(values)
    return sum(abs(a - b) for a in values for b in values) / (2 * n * total)


def entropy(values):
    shares = [value / sum(values) for value in values]
    return -sum(share * math.log(share) for share in shares if share > 0)


@pytest.mark.parametrize("shape", [(5, 7), (3, 1, 4, 6), (2, 3, 5), (4, 1)])
def test_against_the_definitions(shape):
    maps = random_maps(shape)
    maps[0].flatten()[: shape[1] // 2] = 0
    for measured, values in zip(
        zip(sparseness(maps), complexity(maps), strict=True), maps.flatten(1).abs().tolist(), strict=True
    ):
        assert measured[0].item() == pytest.approx(gini(values), abs=1e-12)
        assert measured[1].item() == pytest.approx(entropy(values), abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 10, 1000])
def test_the_two_ends(n):
    single, equal = torch.zeros(1, n), torch.full((1, n), -0.3)
    single[0, n // 2] = -4
    assert sparseness(single).item() == pytest.approx(1 - 1 / n, abs=1e-12)
    assert complexity(single).item() == pytest.approx(0, abs=1e-12)
    assert sparseness(equal).item() == pytest.approx(0, abs=1e-12)
    assert complexity(equal).item() == pytest.approx(math.log(n), abs=1e-12)


@pytest.mark.parametrize("measure", [sparseness, complexity])
def test_neither_scale_nor_sign_nor_place_matters(measure):
    maps = random_maps((3, 1, 6, 5))
    for other in (
        maps * 1e-30,
        maps * 1e30,
        -maps,
        maps.flip(3),
        maps.flatten(1)[:, torch.randperm(30, generator=torch.Generator())],
    ):
        torch.testing.assert_close(measure(other), measure(maps), rtol=0, atol=1e-12)


@pytest.mark.parametrize("measure", [sparseness, complexity])
def test_huge_values_do_not_overflow(measure):
    maps = random_maps((2, 8)).abs()
    torch.testing.assert_close(measure(maps / maps.amax() * 1e308), measure(maps), rtol=0, atol=1e-12)


@pytest.mark.parametrize("measure", [sparseness, complexity])
def test_an_empty_map_has_no_value_and_leaves_the_others_theirs(measure):
    maps = random_maps((3, 1, 4, 4))
    expected = measure(maps)
    maps[1] = 0
    measured = measure(maps)
    assert measured[1].isnan()
    torch.testing.assert_close(measured[[0, 2]], expected[[0, 2]], rtol=0, atol=0)


@pytest.mark.parametrize("measure", [sparseness, complexity])
def test_results_are_double_and_detached(measure):
    measured = measure(random_maps((2, 3)).float().requires_grad_())
    assert measured.dtype == torch.float64
    assert not measured.requires_grad


@pytest.mark.parametrize("measure", [sparseness, complexity])
def test_errors(measure):
    with pytest.raises(TypeError, match="expected `attributions` to be a tensor, but got list"):
        measure([1.0])
    with pytest.raises(ValueError, match=r"expected `attributions` of shape \(batch, ...\), but got \(4,\)"):
        measure(torch.ones(4))
    with pytest.raises(ValueError, match="expected finite `attributions`, but got NaN or infinity in clip 1"):
        measure(torch.tensor([[1.0, 2.0], [math.nan, 1.0]]))
