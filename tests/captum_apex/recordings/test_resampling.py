"""Resampling between any two rates, against a slow sum over all samples in float64."""

import math
import sys
import warnings

import pytest
import torch
from torchaudio import functional

from captum_apex.recordings import as_waveform, resampling
from captum_apex.recordings.resampling import filter_reach, resampled

pytestmark = pytest.mark.filterwarnings("ignore:recordings at .* Hz are resampled")


def noise(samples):
    return torch.randn(samples, generator=torch.Generator().manual_seed(0))


def slow(waveform, rate, new_rate):
    """Σ_j x_j · c · sinc(c (j − t)) · cos²(π c (j − t) / 12) within 6 zero crossings, at the times t of the result."""
    cutoff = 0.99 * min(rate, new_rate) / rate
    times = torch.arange(math.ceil(len(waveform) * new_rate / rate)).double() * rate / new_rate
    zeros = (torch.arange(len(waveform)) - times[:, None]) * cutoff
    window = torch.where(zeros.abs() < 6, torch.cos(zeros * math.pi / 12) ** 2, 0.0)
    return (waveform.double() * cutoff * torch.sinc(zeros) * window).sum(1)


COPRIME = [(16001, 16000), (16000, 16001), (22255, 16000), (44101, 16000), (384002, 16000), (15999, 48000)]


@pytest.mark.parametrize(("rate", "new_rate"), [*COPRIME, (22050, 16000), (44100, 48000)])
def test_any_pair_of_rates_gives_the_sum_of_the_formula(rate, new_rate):
    waveform = noise(1511)
    result = resampled(waveform, rate, new_rate)
    expected = slow(waveform, rate, new_rate).float()
    assert result.shape == expected.shape
    # torchaudio's kernel, in float32, is less exact
    torch.testing.assert_close(result, expected, rtol=0, atol=2e-6 if (rate, new_rate) in COPRIME else 2e-4)


@pytest.mark.parametrize("weights_at_once", [1, 1000])
@pytest.mark.parametrize("largest_kernel", [1, 2**23])
def test_blocks_and_kept_weights_do_not_matter(monkeypatch, weights_at_once, largest_kernel):
    waveform = noise(300)
    whole = resampled(waveform, 16001, 16000)
    monkeypatch.setattr(resampling, "_WEIGHTS_AT_ONCE", weights_at_once)
    monkeypatch.setattr(resampling, "_LARGEST_KERNEL", largest_kernel)
    torch.testing.assert_close(resampled(waveform, 16001, 16000), whole, rtol=0, atol=1e-7)


@pytest.mark.parametrize("rate", [44100, 22050, 48000, 8000, 11025, 192000, 250000, 256000, 384000, 500000])
@pytest.mark.parametrize("new_rate", [16000, 22050, 32000, 44100])
def test_common_rates_are_resampled_by_torchaudio(rate, new_rate):
    waveform = noise(rate // 50)
    assert torch.equal(resampled(waveform, rate, new_rate), functional.resample(waveform, rate, new_rate))


@pytest.mark.parametrize(("rate", "new_rate"), [*COPRIME, (44100, 16000)])
def test_weights_are_made_once_for_a_pair_of_rates(monkeypatch, rate, new_rate):
    waveform = noise(2000)
    resampled(waveform, rate, new_rate)

    def again(*_):
        raise AssertionError("the weights are made again")

    monkeypatch.setattr(resampling._Filters, "_computed", again)
    monkeypatch.setattr("torchaudio.transforms.Resample.__init__", again)
    resampled(waveform, rate, new_rate)


def test_weights_made_in_inference_mode_serve_afterwards():
    """A tensor that is made in inference mode can never be used where gradients are computed."""
    for rate in (16003, 14700):
        with torch.inference_mode():
            resampled(noise(100), rate, 16000)
        waveform = noise(100).requires_grad_()
        resampled(waveform, rate, 16000).sum().backward()
        assert waveform.grad.isfinite().all()


@pytest.mark.parametrize(("rate", "new_rate"), [(441, 160), (16001, 16000), (100, 160), (384002, 16000)])
def test_no_sample_beyond_the_reach_of_the_filter_counts(rate, new_rate):
    waveform = noise(20 * rate // 10 + 200)
    reach = math.ceil(filter_reach(rate, new_rate) * rate)
    middle = len(waveform) // 2
    other = waveform.clone()
    other[middle + reach :] = 9.0
    until = math.floor(middle * new_rate / rate)
    assert torch.equal(resampled(waveform, rate, new_rate)[:until], resampled(other, rate, new_rate)[:until])


@pytest.mark.parametrize("rate", [15, 1, 2**31 - 1])
def test_a_rate_of_another_order_is_refused(rate):
    with pytest.raises(ValueError, match=rf"a.wav at a sample rate that can become 16000 Hz, .* but got {rate} Hz"):
        as_waveform(noise(100), rate, 16000, name="a.wav")


def test_a_missing_torchaudio_is_named_for_every_rate(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchaudio.functional", None)
    for rate in (44100, 16001):
        with warnings.catch_warnings(), pytest.raises(ImportError, match="torchaudio, which resamples from"):
            resampled(noise(10), rate, 16000)
