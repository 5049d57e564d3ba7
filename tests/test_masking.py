"""Region grids, fills, region sums and rankings against slow loops."""

import pytest
import torch
from captum.attr import FeatureAblation, ShapleyValueSampling

from captum_apex.masking import (
    FILLS,
    GRIDS,
    check_grid,
    masked,
    mean_fill,
    n_regions,
    named_fill,
    named_grid,
    ranking,
    region_grid,
    region_sums,
    silence_fill,
)

SHAPES = [(16, 25), (64, 501), (33, 127), (17, 26)]


def even_sizes(size, parts):
    return sorted([size // parts + (part < size % parts) for part in range(parts)])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", GRIDS)
def test_regions_are_blocks_of_even_size_in_reading_order(shape, name):
    rows, columns = GRIDS[name]
    grid = named_grid(name, shape)
    assert grid.shape == shape
    assert grid.dtype == torch.int64
    assert sorted(grid.unique().tolist()) == list(range(rows * columns))
    row, column = grid // columns, grid % columns
    assert (row == row[:, :1]).all()
    assert (column == column[:1]).all()
    assert (row[:, 0].diff() >= 0).all()
    assert (column[0].diff() >= 0).all()
    assert sorted(row[:, 0].bincount().tolist()) == even_sizes(shape[0], rows)
    assert sorted(column[0].bincount().tolist()) == even_sizes(shape[1], columns)


def test_a_waveform_is_cut_in_time():
    assert region_grid((7,), rows=1, columns=3).tolist() == [0, 0, 0, 1, 1, 2, 2]
    assert named_grid("time", (100,)).bincount().tolist() == [4] * 25


def test_the_grid_is_a_feature_mask_for_captum():
    """On a model that sums its input, each bin's ablation and Shapley value are the sum of its region."""
    inputs = torch.randn(3, 1, 8, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    grid = region_grid((8, 10), 2, 5)
    expected = region_sums(inputs, grid)[:, grid][:, None]  # (clip, region) → (clip, 1, frequency, time)
    total = lambda clips: clips.sum((1, 2, 3))  # noqa: E731
    for method in (FeatureAblation(total), ShapleyValueSampling(total)):
        found = method.attribute(inputs, feature_mask=grid)  # Captum gives float32 here
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    waveforms = torch.randn(3, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    grid = region_grid((20,), 1, 4)
    maps = FeatureAblation(lambda clips: clips.sum(1)).attribute(waveforms, feature_mask=grid)
    torch.testing.assert_close(maps, region_sums(waveforms, grid)[:, grid])


def test_errors_of_the_grid():
    with pytest.raises(ValueError, match="expected `rows` between 1 and the axis' 8 bins, but got 16"):
        named_grid("frequency", (8, 100))
    with pytest.raises(ValueError, match="expected `columns` between 1 and the axis' 20 bins, but got 25"):
        named_grid("time", (8, 20))
    with pytest.raises(ValueError, match="expected `rows` between 1 and the axis' 1 bins, but got 16"):
        named_grid("frequency", (16000,))
    with pytest.raises(ValueError, match="expected `rows` between 1 and the axis' 8 bins, but got 0"):
        region_grid((8, 8), 0, 2)
    with pytest.raises(ValueError, match=r"expected `shape` to be \(frequency, time\) or \(samples,\), but got \(1, 8, 8\)"):
        region_grid((1, 8, 8), 2, 2)
    with pytest.raises(ValueError, match=r"expected the grid's name to be one of .*'square'.*, but got 'tiles'"):
        named_grid("tiles", (64, 100))
    with pytest.raises(TypeError, match=r"expected `grid` to be an int64 tensor, but got torch.float32"):
        check_grid(torch.zeros(3, 3))
    with pytest.raises(TypeError, match="expected `grid` to be an int64 tensor, but got list"):
        check_grid([0, 1])
    with pytest.raises(ValueError, match="expected `grid` to number its regions from 0, but got -1"):
        check_grid(torch.tensor([0, -1]))
    with pytest.raises(ValueError, match="expected `grid` to number its regions from 0, but got none"):
        check_grid(torch.zeros(0, 3, dtype=torch.int64))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 1, 7), (2, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_fills_against_loops(shape, dtype):
    inputs = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(0))
    before = inputs.clone()
    silent, mean = named_fill("silence", -3.5)(inputs), named_fill("mean", -3.5)(inputs)
    for fill in (silent, mean):
        assert fill.dtype == dtype
        assert fill.shape == inputs.shape
    assert (silent == -3.5).all()
    for clip_band, filled in zip(inputs.reshape(-1, shape[-1]), mean.reshape(-1, shape[-1]), strict=True):
        for value in filled:
            assert value.item() == pytest.approx(sum(clip_band.tolist()) / shape[-1], abs=1e-6)
    silent.add_(1), mean.add_(1)  # a fill may be written to, and is no view of the inputs
    assert torch.equal(inputs, before)


def test_silence_may_differ_between_bands():
    silence = torch.tensor([[-1.0], [-2.0]])
    filled = silence_fill(torch.zeros(2, 1, 2, 3, dtype=torch.float64), silence)
    assert filled.tolist() == [[[[-1.0] * 3, [-2.0] * 3]]] * 2


def test_fills_by_name():
    assert set(FILLS) == {"silence", "mean"}
    assert named_fill("mean", 0.0) is mean_fill
    with pytest.raises(ValueError, match=r"expected the fill's name to be one of \['mean', 'silence'\], but got 'zero'"):
        named_fill("zero", 0.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_region_sums_against_a_loop(shape):
    attributions = torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(1))
    grid = region_grid(shape, 3, 4)
    sums = region_sums(attributions, grid)
    for clip in range(2):
        for region in range(12):
            expected = attributions[clip].double()[:, grid == region].sum()
            assert sums[clip, region].item() == pytest.approx(expected.item(), abs=1e-10)


def test_region_sums_do_not_lose_small_values_beside_large_ones():
    attributions = torch.ones(1, 1, 1, 10001)
    attributions[..., 0] = 2**26
    assert region_sums(attributions, region_grid((1, 10001), 1, 1)).item() == 2**26 + 10000


def test_region_sums_without_a_channel_axis_and_of_any_partition():
    attributions, grid = torch.arange(12.0).reshape(2, 2, 3), torch.tensor([[0, 2, 0], [1, 1, 0]])
    assert region_sums(attributions, grid).tolist() == [[0 + 2 + 5, 3 + 4, 1], [6 + 8 + 11, 9 + 10, 7]]
    assert n_regions(grid) == 3


@pytest.mark.parametrize("shape", [(2, 1, 3, 4), (3, 5), (2, 1, 1, 3, 5), ()])
def test_errors_of_region_sums(shape):
    with pytest.raises(ValueError, match=r"expected `attributions` of shape \(batch, channel, 3, 5\), but got"):
        region_sums(torch.zeros(shape), region_grid((3, 5), 1, 1))


def test_ranking_sorts_and_breaks_ties_by_the_seed_alone():
    scores = torch.randint(0, 4, (6, 30), generator=torch.Generator().manual_seed(3)).double()
    ranks = ranking(scores, seed=5)
    assert torch.equal(ranks.sort(1).values, torch.arange(30).expand(6, -1))
    assert (scores.gather(1, ranks).diff(dim=1) <= 0).all()
    assert torch.equal(ranks, torch.cat([ranking(one[None], seed=5) for one in scores]))
    assert not torch.equal(ranks, ranking(scores, seed=6))


def test_ties_are_shuffled_evenly():
    """Every region of a constant map comes first about equally often."""
    first = torch.stack([ranking(torch.zeros(1, 4), seed)[0, 0] for seed in range(400)])
    assert (first.bincount(minlength=4) - 100).abs().max() < 40  # 4.6 standard deviations


def test_ranking_leaves_the_global_random_state():
    before = torch.get_rng_state()
    ranking(torch.zeros(2, 9), seed=1)
    assert torch.equal(torch.get_rng_state(), before)


def test_ranking_refuses_nan_and_names_the_clip():
    scores = torch.zeros(4, 3)
    scores[2, 1] = torch.nan
    with pytest.raises(ValueError, match="expected scores without NaN, but got NaN in clip 2"):
        ranking(scores, seed=0)


def test_masked_takes_the_fill_where_the_mask_is_true():
    inputs, fills = torch.arange(12.0).reshape(2, 2, 1, 3), -torch.ones(2, 2, 1, 3)
    mask = torch.tensor([[True, False, False], [False, True, True]])[:, None, None]
    assert masked(inputs, fills, mask).tolist() == [[[[-1, 1, 2]], [[-1, 4, 5]]], [[[6, -1, -1]], [[9, -1, -1]]]]
    with pytest.raises(TypeError, match=r"expected `mask` to be bool, but got torch.float32"):
        masked(inputs, fills, mask.float())
