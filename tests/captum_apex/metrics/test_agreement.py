"""Infidelity and correlation against Captum, SciPy and their formulas."""

import math

import captum.metrics
import pytest
import torch
from scipy.stats import pearsonr
from torch import nn

from captum_apex.masking.fills import mean_fill
from captum_apex.masking.grids import named_grid, region_grid, region_sums
from captum_apex.metrics import faithfulness_correlation, infidelity, masked_scores, random_removals

SHAPE = (17, 27)
CLIPS, MASKS = 4, 12


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(
            nn.Conv2d(2, 6, 3), nn.ReLU(), nn.AvgPool2d(3), nn.Flatten(), nn.Linear(6 * 5 * 8, 4), nn.Softmax(1)
        )
        return layers.double().eval()


def random_like(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("name", ["square", "time", "frequency"])
def test_infidelity_is_captums(normalize, name):
    """Captum, handed the same masks: the perturbation of a bin is 1 where it is removed."""
    model, grid, target = network(), named_grid(name, SHAPE), [0, 1, 2, 3]
    inputs, attributions = random_like((CLIPS, 2, *SHAPE)) * 3, random_like((CLIPS, 2, *SHAPE), seed=1)
    attributions[3] = 0
    removed, fills = random_removals(int(grid.max()) + 1, MASKS, seed=5), mean_fill(inputs)

    def replayed(clips):
        gone = (
            removed[:, grid].repeat(CLIPS, 1, 1)[:, None].expand_as(clips)
        )  # Captum repeats each clip for all of its masks
        return gone.to(clips), torch.where(gone, fills.repeat_interleave(MASKS, 0), clips)

    expected = captum.metrics.infidelity(
        model, replayed, inputs, attributions, target=target, n_perturb_samples=MASKS, normalize=normalize
    )
    scores = masked_scores(model, inputs, fills, removed.expand(CLIPS, -1, -1), grid, target)
    whole = model(inputs).detach()[range(CLIPS), target]
    measured = infidelity(whole, scores, removed, region_sums(attributions, grid), normalize=normalize)
    assert (measured > 1e-6).all()
    torch.testing.assert_close(measured, expected.detach(), rtol=1e-5, atol=1e-10)


def example(clips=6, regions=7, seed=0):
    removed = random_removals(regions, MASKS, seed=seed)
    return (
        random_like((clips,), seed),
        random_like((clips, MASKS), seed + 1),
        removed,
        random_like((clips, regions), seed + 2),
    )


def loop(score, masked, removed, sums):
    """What each mask takes away by the map, and by the model; lists of one clip."""
    foretold = [sum(s for s, gone in zip(sums.tolist(), mask, strict=True) if gone) for mask in removed.tolist()]
    return foretold, [score.item() - value for value in masked.tolist()]


def test_infidelity_against_its_formula():
    score, masked, removed, sums = example()
    for normalize in (True, False):
        measured = infidelity(score, masked, removed, sums, normalize=normalize)
        for clip in range(len(score)):
            foretold, fall = loop(score[clip], masked[clip], removed, sums[clip])
            beta = (
                sum(a * b for a, b in zip(foretold, fall, strict=True)) / sum(a * a for a in foretold)
                if normalize
                else 1.0
            )
            expected = sum((beta * a - b) ** 2 for a, b in zip(foretold, fall, strict=True)) / MASKS
            assert measured[clip].item() == pytest.approx(expected, abs=1e-12)


def test_no_other_scale_fits_better():
    score, masked, removed, sums = example()
    best = infidelity(score, masked, removed, sums)
    for factor in (-2.0, 0.0, 0.01, 0.5, 1.0, 3.0):
        assert (infidelity(score, masked, removed, factor * sums, normalize=False) >= best - 1e-12).all()
        if factor:
            torch.testing.assert_close(infidelity(score, masked, removed, factor * sums), best, rtol=1e-9, atol=0)


def test_a_map_of_nothing_scores_the_mean_square_of_the_fall():
    score, masked, removed, sums = example()
    expected = (score[:, None] - masked).square().mean(1)
    for normalize in (True, False):
        torch.testing.assert_close(infidelity(score, masked, removed, 0 * sums, normalize=normalize), expected)


@pytest.mark.parametrize("factor", [1.0, -3.0])
def test_a_linear_model_is_foretold_by_its_own_map(factor):
    inputs, weights, grid = random_like((3, 1, 4, 6)), random_like((1, 1, 4, 6), seed=1), region_grid((4, 6), 2, 3)
    total = lambda clips: (clips * weights).sum((1, 2, 3))  # noqa: E731
    removed = random_removals(6, 20, seed=0)
    scores = masked_scores(total, inputs, torch.zeros_like(inputs), removed.expand(3, -1, -1), grid)
    sums = region_sums(factor * inputs * weights, grid)
    torch.testing.assert_close(
        infidelity(total(inputs), scores, removed, sums), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-24
    )
    correlation = faithfulness_correlation(total(inputs), scores, removed, sums)
    torch.testing.assert_close(
        correlation, torch.full((3,), math.copysign(1, factor), dtype=torch.float64), rtol=0, atol=1e-12
    )
    plain = infidelity(total(inputs), scores, removed, sums, normalize=False)
    expected = (factor - 1) ** 2 * (total(inputs)[:, None] - scores).square().mean(1)
    torch.testing.assert_close(plain, expected, rtol=1e-10, atol=1e-24)


def test_correlation_against_scipy():
    score, masked, removed, sums = example()
    measured = faithfulness_correlation(score, masked, removed, sums)
    for clip in range(len(score)):
        expected = pearsonr(*loop(score[clip], masked[clip], removed, sums[clip])).statistic
        assert measured[clip].item() == pytest.approx(expected, abs=1e-12)


def test_correlation_does_not_exist_for_what_never_changes():
    score, masked, removed, sums = example()
    expected = faithfulness_correlation(score, masked, removed, sums)
    masked[1], sums[2] = 0.1, 0.0
    measured = faithfulness_correlation(score, masked, removed, sums)
    assert measured.isnan().tolist() == [False, True, True, False, False, False]
    torch.testing.assert_close(measured[[0, 3, 4, 5]], expected[[0, 3, 4, 5]], rtol=0, atol=1e-14)
    both = torch.tensor([[True, True, False], [False, False, True]])
    thirds = torch.tensor([[0.1, 0.2, 0.3]], dtype=torch.float64)  # 0.1 + 0.2 is 0.3 but for rounding
    assert thirds[0, 0] + thirds[0, 1] != thirds[0, 2]
    assert faithfulness_correlation(score[:1], masked[:1, :2], both, thirds).isnan().all()


def test_single_precision_is_computed_in_double():
    score, masked, removed, sums = example()
    for measure in (infidelity, faithfulness_correlation):
        measured = measure(score.float(), masked.float().requires_grad_(), removed, sums.float())
        expected = measure(score.float().double(), masked.float().double(), removed, sums.float().double())
        assert not measured.requires_grad
        torch.testing.assert_close(measured, expected, rtol=0, atol=0)


@pytest.mark.parametrize("regions", [2, 3, 10])
def test_every_number_of_regions_and_every_region_is_removed_equally_often(regions):
    removed = random_removals(regions, 6000, seed=1)
    assert removed.dtype == torch.bool
    assert removed.shape == (6000, regions)
    counts = removed.sum(1).bincount(minlength=regions + 1)
    assert counts[0] == counts[regions] == 0
    share = 1 / (regions - 1)
    assert (counts[1:-1] / 6000 - share).abs().max() <= 4.5 * math.sqrt(share * (1 - share) / 6000)
    assert (removed.double().mean(0) - 0.5).abs().max() < 4.5 * math.sqrt(0.25 / 6000)


def test_masks_follow_the_seed_alone():
    before = torch.get_rng_state()
    first = random_removals(9, 30, seed=3)
    assert torch.equal(first, random_removals(9, 30, seed=3))
    assert not torch.equal(first, random_removals(9, 30, seed=4))
    assert torch.equal(torch.get_rng_state(), before)


def test_errors():
    with pytest.raises(
        ValueError, match="expected `n_regions` to be at least 2, so that one can go and one can stay, but got 1"
    ):
        random_removals(1, 3, seed=0)
    with pytest.raises(ValueError, match="expected `n_masks` to be an int of at least 1, but got 0"):
        random_removals(3, 0, seed=0)
    score, masked, removed, sums = example()
    for measure in (infidelity, faithfulness_correlation):
        with pytest.raises(TypeError, match="expected `removed` to be bool, but got torch.float64"):
            measure(score, masked, removed.double(), sums)
        for bad in [
            (score[:2], masked, removed, sums),
            (score, masked[:, :3], removed, sums),
            (score, masked, removed[:, :3], sums),
            (score, masked, removed[None], sums),
            (score, masked, removed, sums[:2]),
        ]:
            with pytest.raises(
                ValueError, match=r"expected `score` \(batch,\), `masked_scores` \(batch, mask\), .*, but got \("
            ):
                measure(*bad)
