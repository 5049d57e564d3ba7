"""Waveforms as spectra and back, against a transform that is written from the definition."""

import numpy as np
import pytest
import torch

from captum_apex.spectra import InverseSTFT


def noise(*shape, dtype=torch.float64, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def slow_spectra(waveform, n_fft, hop, window):
    """Frame by frame and bin by bin: the sum over the window around `t · hop`, with zeros outside the clip."""
    n_frames = 1 + -(-len(waveform) // hop)
    frames = np.zeros((n_fft // 2 + 1, n_frames), complex)
    for t in range(n_frames):
        for k in range(n_fft // 2 + 1):
            for n in range(n_fft):
                place = t * hop + n - n_fft // 2
                if 0 <= place < len(waveform):
                    frames[k, t] += (
                        waveform[place] * slow_window(n, n_fft, window) * np.exp(-2j * np.pi * k * n / n_fft)
                    )
    return frames


def slow_window(n, n_fft, length):
    """The Hann window in the middle of the transform; 0 outside."""
    n = n - (n_fft - length) // 2
    return np.sin(np.pi * n / length) ** 2 if 0 <= n < length else 0.0


def slow_inverse(frames, n_samples, n_fft, hop, window):
    """Equation 6 of Griffin and Lim: the sum of the windowed frames over the sum of the squared windows."""
    total, weight = np.zeros(n_samples), np.zeros(n_samples)
    for t in range(frames.shape[1]):
        for n in range(n_fft):
            place = t * hop + n - n_fft // 2
            if 0 <= place < n_samples:
                sample = frames[0, t].real + frames[-1, t].real * (-1) ** n  # n_fft is even here
                sample += 2 * sum(
                    (frames[k, t] * np.exp(2j * np.pi * k * n / n_fft)).real for k in range(1, n_fft // 2)
                )
                total[place] += slow_window(n, n_fft, window) * sample / n_fft
                weight[place] += slow_window(n, n_fft, window) ** 2
    return total / weight


@pytest.mark.parametrize("n_samples", [1, 7, 63, 64, 65, 1000, 8000])
@pytest.mark.parametrize(
    ("n_fft", "hop_length", "win_length"), [(512, 64, 256), (64, 32, None), (66, 16, 64), (64, 1, 2)]
)
def test_untouched_spectra_give_the_waveform_back(n_samples, n_fft, hop_length, win_length):
    inverse = InverseSTFT(n_samples, n_fft, hop_length, win_length)
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 1e-5)):
        waveforms = noise(2, n_samples, dtype=dtype)
        again = inverse(inverse.spectra(waveforms))
        assert again.dtype == dtype
        assert (again - waveforms).abs().max() <= tolerance * waveforms.abs().max()


@pytest.mark.parametrize("n_samples", [37, 40])
def test_spectra_and_the_waveform_of_a_masked_spectrum_follow_the_definition(n_samples):
    inverse, waveform = InverseSTFT(n_samples, n_fft=16, hop_length=4, win_length=12), noise(1, n_samples)
    spectra = inverse.spectra(waveform)
    expected = slow_spectra(waveform[0].numpy(), 16, 4, 12)
    np.testing.assert_allclose(torch.complex(*spectra[0]).numpy(), expected, atol=1e-12)
    mask = noise(*expected.shape, seed=1) > 0
    masked = inverse(spectra * mask)
    slow = slow_inverse(expected * mask.numpy(), n_samples, 16, 4, 12)
    np.testing.assert_allclose(masked[0].numpy(), slow, atol=1e-12)
    assert not torch.allclose(masked, waveform, atol=0.1)


def test_removing_a_band_removes_its_energy_and_nothing_else():
    rate, seconds = 8000, torch.arange(8000, dtype=torch.float64) / 8000
    low, high = (torch.sin(2 * torch.pi * hertz * seconds + 1)[None] for hertz in (700.0, 2300.0))
    inverse = InverseSTFT(8000, n_fft=512, hop_length=64, win_length=256)
    spectra = inverse.spectra(low + high)
    hertz = torch.arange(257) * rate / 512
    spectra[:, :, (hertz > 1500) & (hertz < 3000)] = 0
    # The high tone is gone; the low tone has the same time, level and phase.
    error = inverse(spectra) - low
    assert error.square().mean() < 1e-4 * low.square().mean()


def test_removing_columns_removes_their_time_and_nothing_else():
    inverse, waveform = InverseSTFT(8000, n_fft=512, hop_length=64, win_length=256), noise(1, 8000)
    spectra = inverse.spectra(waveform)
    spectra[..., 40:80] = 0  # frames centred on the samples 2560 to 5056
    left = inverse(spectra)
    window = 256
    assert (left[0, 2560 + window // 2 : 5056 - window // 2] == 0).all()
    outside = torch.cat([left[0, : 2560 - window // 2], left[0, 5056 + window // 2 :]])
    torch.testing.assert_close(
        outside, torch.cat([waveform[0, : 2560 - window // 2], waveform[0, 5056 + window // 2 :]])
    )


def test_a_model_of_spectra_has_the_scores_and_the_weights_of_the_model_of_waveforms():
    model = torch.nn.Sequential(torch.nn.Linear(1000, 3)).double()
    inverse, waveforms = InverseSTFT(1000, n_fft=128, hop_length=32), noise(4, 1000)
    whole = torch.nn.Sequential(inverse, model)
    torch.testing.assert_close(whole(inverse.spectra(waveforms)), model(waveforms))
    assert [name for name in whole.state_dict() if not name.startswith("1.")] == []


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ((0, 64, 16, None), "expected `n_samples` to be at least 1, but got 0"),
        ((100, 64, 0, None), "expected `hop_length` to be at least 1, but got 0"),
        ((100, 65, 16, None), "expected `n_fft` to be even, but got 65"),
        ((100, 64, 33, None), "expected `win_length` between twice the hop and `n_fft`, 66 and 64, but got 64"),
        ((100, 64, 16, 65), "expected `win_length` between twice the hop and `n_fft`, 32 and 64, but got 65"),
    ],
)
def test_windows_that_leave_gaps_are_refused(lengths, message):
    with pytest.raises(ValueError, match=message):
        InverseSTFT(*lengths)


def test_other_shapes_are_refused():
    inverse = InverseSTFT(100, 64, 16)
    with pytest.raises(ValueError, match=r"expected `waveforms` of shape \(clip, 100\), but got \(1, 1, 100\)"):
        inverse.spectra(torch.zeros(1, 1, 100))
    with pytest.raises(ValueError, match=r"expected `spectra` of shape \(clip, 2, 33, 8\), but got \(1, 1, 33, 8\)"):
        inverse(torch.zeros(1, 1, 33, 8))
