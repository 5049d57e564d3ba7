"""Clips as bins that can be replaced, and back."""

import pytest
import torch

from captum_apex import Box
from captum_apex.locating.bins import Bins
from captum_apex.masking.fills import blur_fill, silence_fill

LAYOUTS = {
    "n c f t": (1, 2, 4, 6),
    "n f t": (1, 4, 6),
    "n t f": (1, 6, 4),
    "n c t f": (1, 2, 6, 4),
    "n t": (1, 600),
    "n c t": (1, 2, 600),
    "n t c": (1, 600, 1),
}


def random(shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_bins_of_an_input_give_the_input_back(layout):
    inputs = random(LAYOUTS[layout])
    bins = Bins.of(inputs, layout)
    torch.testing.assert_close(bins.inputs(bins.values), inputs, rtol=0, atol=1e-9)
    copies = torch.cat([bins.values, 2 * bins.values])
    torch.testing.assert_close(bins.inputs(copies), torch.cat([inputs, 2 * inputs]), rtol=0, atol=1e-9)


@pytest.mark.parametrize("n_samples", [256, 257, 999, 4001, 20000])
def test_waveforms_of_any_length_are_given_back(n_samples):
    waveform = random((1, n_samples))
    bins = Bins.of(waveform, "n t")
    assert bins.inverse is not None
    assert bins.n_columns >= 16
    torch.testing.assert_close(bins.inputs(bins.values), waveform, rtol=0, atol=1e-9)


def test_a_very_short_waveform_is_masked_sample_by_sample():
    bins = Bins.of(random((1, 100)), "n t")
    assert (bins.inverse, bins.n_rows, bins.n_columns) == (None, 1, 100)


def test_the_boxes_of_a_spectrogram_are_its_bins():
    bins = Bins.of(random((1, 1, 5, 8)), "n c f t")
    assert bins.box((1, 3, 2, 6)) == Box(0.2, 0.6, 0.25, 0.75)
    assert bins.box((0, 5, 0, 8)) == Box(0.0, 1.0, 0.0, 1.0)


def test_the_boxes_of_a_waveform_tile_the_clip():
    bins = Bins.of(random((1, 4001)), "n t")
    edges = [bins.box((0, 1, 0, column)).end for column in range(1, bins.n_columns + 1)]
    assert edges == sorted(edges)
    assert edges[-1] == 1.0
    assert all(
        bins.box((0, 1, 0, column)).end == bins.box((0, 1, column, bins.n_columns)).start
        for column in range(1, bins.n_columns)
    )
    assert bins.box((0, bins.n_rows, 0, 1)) == Box(0.0, 1.0, 0.0, edges[0])


@pytest.mark.parametrize(("n_samples", "n_fft", "hop"), [(4096, 256, 64), (4001, 128, 32)])
def test_the_boxes_of_a_waveform_lie_around_the_sound_of_their_bins(n_samples, n_fft, hop):
    """Tones of the bins' frequencies and clicks at the frames' centres, each in the middle of its box."""
    n_fft, hop = (
        128,
        32,
    )  # a transform of the power of two below a sixteenth of the samples, with four overlapping frames
    n_fft, hop = (256, 64) if n_samples == 4096 else (n_fft, hop)
    samples = torch.arange(n_samples, dtype=torch.float64)
    for row in (1, 17, n_fft // 2 - 1):
        bins = Bins.of(torch.cos(2 * torch.pi * row / n_fft * samples)[None], "n t")
        assert (bins.n_rows, bins.inverse.hop_length) == (n_fft // 2 + 1, hop)
        assert int(bins.levels[:, 8:-8].mean(1).argmax()) == row
        box = bins.box((row, row + 1, 3, 4))
        assert (box.low + box.high) / 2 == pytest.approx(row / (n_fft / 2))  # a share of half the sample rate
        assert box.high - box.low == pytest.approx(1 / (n_fft / 2))
    for column in (1, 20, 61):
        click = torch.zeros(1, n_samples, dtype=torch.float64)
        click[0, column * hop] = 1.0
        bins = Bins.of(click, "n t")
        assert int(bins.levels.mean(0).argmax()) == column
        box = bins.box((3, 4, column, column + 1))
        assert (box.start + box.end) / 2 == pytest.approx(column * hop / n_samples)
        assert box.end - box.start == pytest.approx(hop / n_samples)


def test_a_waveform_without_sound_is_zero_and_a_spectrogram_at_its_lowest():
    assert not Bins.of(random((1, 600)), "n t").silent.any()
    inputs = random((1, 2, 4, 6))
    silent = Bins.of(inputs, "n c f t").silent
    for channel in range(2):
        assert silent[0, channel].unique().tolist() == [inputs[0, channel].min().item()]


def test_magnitudes_are_given_in_decibels_and_levels_as_they_are():
    magnitudes = torch.tensor([[[[1.0, 0.1, 0.0]]]])
    torch.testing.assert_close(Bins.of(magnitudes, "n c f t").levels, torch.tensor([[0.0, -20.0, -80.0]]))
    levels = torch.tensor([[[[-3.0, 1.0, 2.0]]]])
    assert torch.equal(Bins.of(levels, "n c f t").levels, levels[0, 0])
    assert torch.equal(Bins.of(0 * levels, "n c f t").levels, torch.zeros(1, 3))


def test_what_fills_a_waveform_keeps_its_phases():
    bins = Bins.of(random((1, 1, 4000)), "n c t")
    filled = bins.filled(lambda spectra: blur_fill(spectra, (0.0, 0.25)))
    assert filled.shape == bins.values.shape
    angles = [torch.atan2(values[0, 1], values[0, 0])[3:-3, 3:-3] for values in (filled, bins.values)]
    torch.testing.assert_close(torch.cos(angles[0] - angles[1]), torch.ones_like(angles[0]), rtol=0, atol=1e-6)
    assert not bins.filled(lambda spectra: silence_fill(spectra, 0.0)).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_bins_have_the_precision_of_the_input(dtype):
    bins = Bins.of(random((1, 1, 4, 6), dtype=dtype), "n c f t")
    filled = bins.filled(lambda values: blur_fill(values, (0.0, 0.25)))
    assert {bins.values.dtype, bins.silent.dtype, filled.dtype, bins.inputs(bins.values).dtype} == {dtype}
