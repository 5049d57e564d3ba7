"""Region grids, fills, region sums and rankings against slow loops."""

import math

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, ShapleyValueSampling
from scipy.ndimage import gaussian_filter

from captum_apex.masking.fills import (
    FILLS,
    blur_fill,
    masked,
    mean_fill,
    named_fill,
    noise_fill,
    own_phase,
    silence_fill,
)
from captum_apex.masking.grids import GRIDS, check_grid, n_regions, named_grid, region_grid, region_sums
from captum_apex.masking.rankings import check_attributions, ranking

SHAPES = [(16, 25), (64, 501), (33, 127), (17, 26)]


def even_sizes(size, count):
    return sorted([size // count + (interval < size % count) for interval in range(count)])


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
        maps = method.attribute(inputs, feature_mask=grid)  # Captum gives float32 here
        torch.testing.assert_close(maps.double(), expected, rtol=1e-5, atol=1e-5)
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
    with pytest.raises(
        ValueError, match=r"expected `shape` to be \(frequency, time\) or \(sample,\), but got \(1, 8, 8\)"
    ):
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
    assert set(FILLS) == {"silence", "mean", "blur", "noise"}
    assert named_fill("mean", 0.0) is mean_fill
    assert named_fill("blur", 0.0) is blur_fill
    assert named_fill("noise", 0.0) is noise_fill
    with pytest.raises(
        ValueError,
        match=r"expected the fill's name to be one of 'silence', 'mean', 'blur', 'noise', but got 'zero'",
    ):
        named_fill("zero", 0.0)


@pytest.mark.parametrize("name", FILLS)
@pytest.mark.parametrize("shape", [(3, 2, 8, 11), (3, 2, 8, 12), (3, 1, 40), (3, 41)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_every_fill_is_the_same_for_a_clip_alone_and_changes_nothing_else(name, shape, dtype):
    inputs = normal(shape).to(dtype)
    before, state = inputs.clone(), torch.get_rng_state()
    fill = named_fill(name, -3.5)
    fills = fill(inputs)
    assert fills.dtype == dtype
    assert fills.shape == shape
    assert fills.is_contiguous()
    assert torch.equal(fills, fill(inputs))
    assert torch.equal(torch.get_rng_state(), state)
    alone = torch.cat([fill(inputs[clip : clip + 1]) for clip in range(3)])
    torch.testing.assert_close(fills, alone, rtol=0, atol=torch.finfo(dtype).eps * 8)
    fills.add_(1)  # a fill may be written to, and is no view of the inputs
    assert torch.equal(inputs, before)


def normal(shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def mirrored(place, size):
    """The bin that a place outside lies on when the axis is mirrored at both ends again and again."""
    place %= 2 * size
    return place if place < size else 2 * size - 1 - place


@pytest.mark.parametrize("sigma", [(0.25, 0.1), (0.6, 0.4)])
def test_blur_against_a_loop(sigma):
    clip = normal((6, 20))
    filled = blur_fill(clip[None, None], sigma)[0, 0]
    blurred = clip
    for size, share in zip(clip.shape, sigma, strict=True):  # one axis after the other, each time the first
        reach = math.ceil(9 * share * size)
        weights = {step: math.exp(-0.5 * (step / (share * size)) ** 2) for step in range(-reach, reach + 1)}
        total = sum(weights.values())
        blurred = torch.stack(
            [sum(w * blurred[mirrored(i + k, size)] for k, w in weights.items()) / total for i in range(size)]
        ).T
    torch.testing.assert_close(filled, blurred, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 3, 16, 25), (2, 1, 5, 127), (2, 3, 200), (2, 201)])
def test_blur_against_scipy(shape):
    inputs = normal(shape)
    sigma = [0] * len(shape)
    sigma[-1] = 0.1 * shape[-1]
    if len(shape) == 4:
        sigma[-2] = 0.25 * shape[-2]
    expected = torch.from_numpy(gaussian_filter(inputs.numpy(), sigma, mode="reflect", truncate=9))
    torch.testing.assert_close(blur_fill(inputs), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(blur_fill(inputs.float()), expected.float(), rtol=0, atol=1e-6)


def test_blur_keeps_constants_and_means_and_adds_nothing_from_outside():
    inputs = normal((3, 2, 16, 30)) + 50
    blurred = blur_fill(inputs)
    torch.testing.assert_close(blurred.mean((2, 3)), inputs.mean((2, 3)), rtol=0, atol=1e-12)
    assert (blurred >= inputs.amin((2, 3), keepdim=True)).all()
    assert (blurred <= inputs.amax((2, 3), keepdim=True)).all()
    constant = torch.full((1, 1, 4, 6), -7.25)
    torch.testing.assert_close(blur_fill(constant), constant, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("axis", "n_regions_on_axis"), [(2, 4), (3, 10), (2, 16), (3, 25)])
def test_the_default_blur_removes_what_alternates_between_regions(axis, n_regions_on_axis):
    """A cosine with the period of two regions keeps its shape; its height falls to exp(-π² σ² / 2) of what it was."""
    size = 20 * n_regions_on_axis
    wave = torch.cos(math.pi * n_regions_on_axis * (torch.arange(size, dtype=torch.float64) + 0.5) / size)
    inputs = wave[None, None, :, None].expand(1, 1, size, 10) if axis == 2 else wave.expand(1, 1, 8, size)
    share = n_regions_on_axis * (0.25 if axis == 2 else 0.1)  # the standard deviation in regions
    blurred = blur_fill(inputs.contiguous())
    torch.testing.assert_close(blurred, inputs * math.exp(-(math.pi**2) * share**2 / 2), rtol=0, atol=1e-9)
    assert blurred.abs().max() < 0.01


def test_blur_refuses_a_negative_width():
    with pytest.raises(ValueError, match=r"expected `sigma` to be a finite number of at least 0, but got -1"):
        blur_fill(torch.zeros(1, 1, 2, 2), sigma=(0.1, -1))


def test_a_width_of_zero_leaves_the_axis_as_it_is():
    clips = normal((2, 1, 8, 12))
    over_frequency = blur_fill(clips, (0.25, 0.0))
    assert torch.allclose(over_frequency.mean(2), clips.mean(2), atol=1e-5)
    assert not torch.allclose(over_frequency, clips, atol=0.1)
    frame_by_frame = [blur_fill(clips[..., [frame]], (0.25, 1.0)) for frame in range(12)]
    assert torch.allclose(over_frequency, torch.cat(frame_by_frame, -1), atol=1e-5)
    assert torch.equal(blur_fill(clips, (0.0, 0.0)), clips)


def test_noise_keeps_every_value_of_a_band_and_so_its_power():
    decibels = normal((4, 3, 16, 50)) * 20 - 40
    noise = noise_fill(decibels, seed=3)
    assert torch.equal(noise.sort(-1).values, decibels.sort(-1).values)
    torch.testing.assert_close((10 ** (noise / 10)).mean(-1), (10 ** (decibels / 10)).mean(-1), rtol=1e-12, atol=0)
    # A normalisation per band commutes with the shuffle.
    deviations = torch.linspace(10, 30, 16)[:, None]
    normalised = (decibels + 40) / deviations
    torch.testing.assert_close(noise_fill(normalised, seed=3), (noise + 40) / deviations, rtol=1e-12, atol=0)
    assert not torch.equal(noise, noise_fill(decibels, seed=4))


def test_noise_shuffles_each_band_by_itself_and_all_channels_alike():
    frames = torch.arange(200.0).expand(2, 3, 40, 200).contiguous()
    noise = noise_fill(frames)
    assert (noise == noise[:1, :1]).all()
    orders = noise[0, 0].double()
    assert len({tuple(order.tolist()) for order in orders}) == 40
    # Between 40 bands there are 780 correlations, with a standard deviation of 200 ** -0.5.
    correlations = np.corrcoef(orders.numpy())[np.triu_indices(40, 1)]
    assert np.abs(correlations).max() < 4.5 * 200**-0.5
    assert abs(correlations.mean()) < 4 / math.sqrt(780 * 200)
    successive = [np.corrcoef(order[:-1], order[1:])[0, 1] for order in orders.numpy()]  # a rising line before
    assert abs(np.mean(successive)) < 4 / math.sqrt(40 * 200)


@pytest.mark.parametrize("n_samples", [1, 2, 400, 401])
def test_noise_keeps_the_spectrum_and_the_energy_of_a_waveform(n_samples):
    inputs = normal((3, 2, n_samples)) + 0.3
    noise = noise_fill(inputs)
    expected = np.abs(np.fft.fft(inputs.numpy()))
    np.testing.assert_allclose(np.abs(np.fft.fft(noise.numpy())), expected, rtol=0, atol=1e-10)
    torch.testing.assert_close(noise.square().sum(-1), inputs.square().sum(-1), rtol=1e-12, atol=0)
    torch.testing.assert_close(noise.mean(-1), inputs.mean(-1), rtol=0, atol=1e-12)
    assert n_samples < 3 or not torch.allclose(noise, inputs, atol=0.1)


def test_noise_spreads_a_click_over_the_whole_time():
    click = torch.zeros(1, 1, 4000, dtype=torch.float64)
    click[..., 700] = 1
    energy = noise_fill(click, seed=1).square().reshape(8, 500).sum(1)
    assert (energy - 1 / 8).abs().max() < 5 * math.sqrt(2 / 500) / 8  # five standard deviations of white noise
    assert noise_fill(click, seed=1).abs().max() < 5.5 * 4000**-0.5
    equal = click.expand(2, 3, 4000).contiguous()
    assert torch.equal(noise_fill(equal)[0, 0], noise_fill(equal)[1, 2])
    assert not torch.allclose(noise_fill(equal, seed=1), noise_fill(equal, seed=2), atol=1e-3)


def test_attributions_that_cannot_be_ranked_are_refused():
    check_attributions(torch.zeros(2, 3))
    with pytest.raises(TypeError, match="expected `attributions` to be a tensor, but got list"):
        check_attributions([1.0])
    with pytest.raises(ValueError, match=r"expected `attributions` of shape \(batch, ...\), but got \(3,\)"):
        check_attributions(torch.zeros(3))
    damaged = torch.zeros(4, 3, 3)
    damaged[2, 1, 1] = -math.inf
    with pytest.raises(ValueError, match="expected finite `attributions`, but got NaN or infinity in clip 2"):
        check_attributions(damaged)


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


@pytest.mark.parametrize("name", FILLS)
def test_a_fill_of_spectra_is_that_of_their_magnitudes_at_their_own_phases(name):
    spectra = torch.randn(3, 2, 16, 25, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    complex_ = spectra[:, 0].numpy() + 1j * spectra[:, 1].numpy()
    magnitudes = named_fill(name, silence=0.0)(torch.from_numpy(np.abs(complex_))[:, None])[:, 0].numpy()
    expected = magnitudes * np.exp(1j * np.angle(complex_))
    filled = own_phase(named_fill(name, silence=0.0))(spectra)
    np.testing.assert_allclose(filled[:, 0].numpy() + 1j * filled[:, 1].numpy(), expected, atol=1e-12)


def test_bins_without_a_phase_get_one_that_depends_on_nothing_but_the_seed():
    spectra = torch.zeros(2, 2, 40, 50)
    spectra[:, :, :, :10] = torch.randn(2, 2, 40, 10, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    filled = own_phase(mean_fill)(spectra)
    assert torch.equal(torch.get_rng_state(), before)
    # The bins without a phase are as loud as the others.
    torch.testing.assert_close(torch.hypot(*filled.unbind(1)), mean_fill(torch.hypot(*spectra.unbind(1))))
    turns = torch.complex(*filled[:, :, :, 10:].unbind(1)).sgn()
    assert turns.mean((1, 2)).abs().max() < 0.1  # 4 standard deviations: the phases are everywhere
    torch.testing.assert_close(turns[0], turns[1])
    torch.testing.assert_close(own_phase(mean_fill)(spectra[1:]), filled[1:])
    assert not torch.allclose(own_phase(mean_fill, seed=1)(spectra), filled)


def test_only_spectra_have_phases():
    with pytest.raises(
        ValueError, match=r"expected spectra of shape \(batch, 2, frequency, time\), but got \(1, 1, 4, 5\)"
    ):
        own_phase(mean_fill)(torch.zeros(1, 1, 4, 5))
