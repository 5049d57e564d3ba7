"""The axes against torchaudio's filters, and against sounds at known times and frequencies."""

import dataclasses
import math

import pytest
import torch
from torchaudio.functional import melscale_fbanks
from torchaudio.transforms import MFCC, MelSpectrogram, Spectrogram

from captum_apex.audio.axes import SpectrogramAxes

RATE = 16000

TRANSFORMS = {
    "mel-htk": MelSpectrogram(RATE, n_fft=1024, hop_length=160, n_mels=40),
    "mel-slaney": MelSpectrogram(
        RATE, n_fft=1024, hop_length=250, n_mels=40, mel_scale="slaney", norm="slaney", f_min=60, f_max=7000
    ),
    "mel-not-centred": MelSpectrogram(RATE, n_fft=1024, hop_length=160, n_mels=40, center=False, f_min=50),
    "mel-padded": MelSpectrogram(RATE, n_fft=1024, hop_length=160, n_mels=40, center=False, pad=320),
    "linear": Spectrogram(n_fft=512, hop_length=128),
    "linear-not-centred": Spectrogram(n_fft=512, win_length=400, hop_length=128, center=False),
}


@pytest.fixture(params=TRANSFORMS)
def transform(request):
    return TRANSFORMS[request.param]


@pytest.fixture
def axes(transform):
    return SpectrogramAxes.from_transform(transform, sample_rate=RATE)


@pytest.mark.parametrize("scale", ["htk", "slaney"])
@pytest.mark.parametrize(("f_min", "f_max"), [(0.0, None), (125.0, 7600.0), (1500.0, 4000.0)])
def test_mel_centres_are_the_peaks_of_torchaudios_filters(scale, f_min, f_max):
    fine = 160001  # a frequency every 0.05 Hz, so that the peaks are found to that precision
    filters = melscale_fbanks(fine, f_min, f_max or RATE / 2, 24, RATE, mel_scale=scale)
    axes = SpectrogramAxes(RATE, 512, 160, n_mels=24, mel_scale=scale, f_min=f_min, f_max=f_max)
    peaks = filters.argmax(0).double() * (RATE / 2) / (fine - 1)
    torch.testing.assert_close(axes.bin_centres, peaks, rtol=0, atol=0.1)


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_mel_edges_lie_half_way_between_the_centres_in_mel(scale):
    """The edges of n bands are every other centre of 2n + 1 bands over the same range."""
    n = 20
    axes = SpectrogramAxes(RATE, 512, 160, n_mels=n, mel_scale=scale)
    twice = SpectrogramAxes(RATE, 512, 160, n_mels=2 * n + 1, mel_scale=scale)
    torch.testing.assert_close(axes.bin_edges, twice.bin_centres[0::2], rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(axes.bin_centres, twice.bin_centres[1::2], rtol=1e-12, atol=1e-9)


def test_linear_bins_are_the_frequencies_of_the_fourier_transform():
    axes = SpectrogramAxes(RATE, 400, 160)
    frequencies = torch.fft.rfftfreq(400, 1 / RATE, dtype=torch.float64)
    torch.testing.assert_close(axes.bin_centres, frequencies)
    expected = torch.cat([frequencies[:1], (frequencies[1:] + frequencies[:-1]) / 2, frequencies[-1:]])
    torch.testing.assert_close(axes.bin_edges, expected)


def test_every_bin_lies_between_its_edges(axes):
    edges, centres = axes.bin_edges, axes.bin_centres
    assert len(edges) == axes.n_bins + 1
    assert (edges[:-1] <= centres).all()
    assert (centres <= edges[1:]).all()
    assert (edges.diff() > 0).all()
    assert edges[0] >= 0
    assert edges[-1] <= RATE / 2


def test_edges_above_half_the_sample_rate_are_clipped():
    axes = SpectrogramAxes(RATE, 512, 160, n_mels=10, f_max=12000.0)
    assert axes.bin_edges.max() == RATE / 2


@pytest.mark.parametrize("hertz", [300.0, 999.0, 1003.0, 2718.0, 5200.0])
def test_a_tone_lights_the_bin_that_covers_its_frequency(transform, axes, hertz):
    tone = torch.sin(2 * math.pi * hertz * torch.arange(RATE) / RATE)
    lit = int(transform(tone).mean(-1).argmax())
    edges = axes.bin_edges
    tolerance = RATE / transform.n_fft / 2  # a mel filter is sampled at the frequencies of the Fourier transform
    assert edges[lit] - tolerance <= hertz <= edges[lit + 1] + tolerance
    assert abs(axes.bin_position(hertz) - (lit + 0.5)) <= 0.5 + tolerance / float(edges[lit + 1] - edges[lit])


@pytest.mark.parametrize("hertz", [1000.0, 3000.0, 6500.0])
def test_a_tone_at_the_centre_of_a_linear_bin_lights_exactly_this_bin(hertz):
    transform = TRANSFORMS["linear"]
    axes = SpectrogramAxes.from_transform(transform, sample_rate=RATE)
    tone = torch.sin(2 * math.pi * hertz * torch.arange(RATE) / RATE)
    assert int(transform(tone).mean(-1).argmax()) + 0.5 == axes.bin_position(hertz)


@pytest.mark.parametrize("sample", [3000, 6437, 12001])
def test_a_click_lights_the_frame_that_covers_its_time(transform, axes, sample):
    click = torch.zeros(RATE)
    click[sample] = 1
    spectrogram = transform(click)
    lit = int(spectrogram.sum(0).argmax())
    edges, centres = axes.frame_edges(spectrogram.shape[-1]), axes.frame_centres(spectrogram.shape[-1])
    assert edges[lit] <= sample / RATE <= edges[lit + 1]
    assert lit == int((centres - sample / RATE).abs().argmin())
    assert lit == math.floor(axes.frame_position(sample / RATE))


def test_frames_cover_half_a_hop_to_each_side_of_their_centre():
    centred = SpectrogramAxes(1000, 64, 10)
    assert centred.frame_centres(3).tolist() == [0.0, 0.01, 0.02]
    assert centred.frame_edges(3).tolist() == [0.0, 0.005, 0.015, 0.025]  # the first one is clipped at 0
    from_the_start = SpectrogramAxes(1000, 64, 10, center=False)
    assert from_the_start.frame_centres(2).tolist() == [0.032, 0.042]
    assert from_the_start.frame_edges(2).tolist() == [0.027, 0.037, 0.047]


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("pad", [0, 7])
@pytest.mark.parametrize("n_fft", [64, 65])
def test_the_centre_of_a_frame_is_that_of_its_window(n_fft, pad, center):
    """The window is what the power of clicks at all samples gives, and its centre of mass the frame's centre."""
    transform = Spectrogram(n_fft=n_fft, hop_length=10, center=center, pad=pad, pad_mode="constant")
    axes = SpectrogramAxes.from_transform(transform, sample_rate=1000)
    windows = transform(torch.eye(300).double()).sum(1).T[8:16]  # (frame, sample), inner frames only
    samples = torch.arange(300.0).double()
    centres = (windows @ samples) / windows.sum(1)
    # Transforms that centre their frames centre the sample in the middle of an odd window, half a sample away.
    half_a_sample = 0.5 if center and n_fft % 2 else 0.0
    torch.testing.assert_close(axes.frame_centres(16)[8:], (centres - half_a_sample) / 1000, rtol=0, atol=1e-6)


@pytest.mark.parametrize("n_fft", [64, 65])
def test_the_bins_of_an_odd_transform_are_its_frequencies(n_fft):
    frequencies = torch.fft.rfftfreq(n_fft, 1 / RATE, dtype=torch.float64)
    torch.testing.assert_close(SpectrogramAxes(RATE, n_fft, 16).bin_centres, frequencies)


@pytest.mark.parametrize(
    ("f_min", "f_max"), [(10e3, 120e3), (10_001, 119_999), (0, 500), (500, None), (127_900, 300e3)]
)
def test_a_cropped_spectrogram_has_the_bins_between_its_limits(f_min, f_max):
    rate = 256_000
    axes = SpectrogramAxes(rate, 512, 256, f_min=f_min, f_max=f_max)
    frequencies = torch.fft.rfftfreq(512, 1 / rate, dtype=torch.float64)
    kept = frequencies[(frequencies >= f_min) & (frequencies <= (f_max or rate / 2))]
    torch.testing.assert_close(axes.bin_centres, kept)
    assert axes.n_bins == len(kept)
    torch.testing.assert_close(axes.bin_position(kept), torch.arange(len(kept)) + 0.5, check_dtype=False)
    assert axes.hertz(0.0) == pytest.approx(max(kept[0] - 250, 0))


@pytest.mark.parametrize("n_fft", [60, 441, 1000])
def test_a_limit_that_is_the_frequency_of_a_bin_keeps_it(n_fft):
    """Whatever rounding makes of it."""
    rate = 44_100
    frequencies = torch.fft.rfftfreq(n_fft, 1 / rate, dtype=torch.float64).tolist()
    for first in range(0, len(frequencies) - 1, 7):
        axes = SpectrogramAxes(rate, n_fft, 16, f_min=frequencies[first], f_max=frequencies[-2])
        assert axes.n_bins == len(frequencies) - 1 - first


def test_a_tone_in_a_cropped_spectrogram_lights_its_bin():
    time = torch.arange(8192, dtype=torch.float64) / 256_000
    spectrum = Spectrogram(n_fft=512, hop_length=256)(torch.sin(2 * torch.pi * 42_000 * time).float())
    axes = SpectrogramAxes(256_000, 512, 256, f_min=10e3, f_max=120e3)
    cropped = spectrum[20:241]
    assert len(cropped) == axes.n_bins
    brightest = int(cropped.mean(1).argmax())
    assert axes.hertz(brightest) <= 42_000 <= axes.hertz(brightest + 1)


def test_positions_come_back_from_hertz_and_seconds(axes):
    # The outer halves of the first and the last bin may be clipped.
    bins = torch.linspace(0.5, axes.n_bins - 0.5, 301, dtype=torch.float64)
    torch.testing.assert_close(axes.bin_position(axes.hertz(bins)), bins, rtol=0, atol=1e-9)
    frames = torch.linspace(4, 90, 301, dtype=torch.float64)
    torch.testing.assert_close(axes.frame_position(axes.seconds(frames)), frames, rtol=0, atol=1e-9)


def test_hertz_and_seconds_come_back_from_positions(axes):
    hertz = torch.linspace(100, 6900, 301, dtype=torch.float64)
    torch.testing.assert_close(axes.hertz(axes.bin_position(hertz)), hertz, rtol=1e-12, atol=1e-9)
    seconds = torch.linspace(0, 3, 301, dtype=torch.float64)
    torch.testing.assert_close(axes.seconds(axes.frame_position(seconds)), seconds, rtol=0, atol=1e-12)


def test_numbers_and_tensors_give_the_same_in_full_precision(axes):
    """Numbers do not pass through float32."""
    for convert, value in [
        (axes.hertz, 7.3),
        (axes.seconds, 7.3),
        (axes.bin_position, 1234.56789),
        (axes.frame_position, 0.123456789),
    ]:
        assert convert(value) == convert(torch.tensor(value, dtype=torch.float64)).item()


def test_from_transform_reads_what_the_transform_was_built_with():
    assert SpectrogramAxes.from_transform(TRANSFORMS["mel-slaney"]) == SpectrogramAxes(
        RATE, 1024, 250, n_mels=40, mel_scale="slaney", f_min=60.0, f_max=7000.0
    )
    assert SpectrogramAxes.from_transform(TRANSFORMS["mel-padded"]) == SpectrogramAxes(
        RATE, 1024, 160, n_mels=40, f_max=8000.0, center=False, pad=320
    )
    assert SpectrogramAxes.from_transform(TRANSFORMS["linear-not-centred"], 8000) == SpectrogramAxes(
        8000, 512, 128, center=False
    )


def test_axes_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SpectrogramAxes(RATE, 512, 160).n_fft = 3


def test_errors_of_from_transform():
    with pytest.raises(
        TypeError, match="expected a `sample_rate`, because this transform does not store it, but got None"
    ):
        SpectrogramAxes.from_transform(TRANSFORMS["linear"])
    with pytest.raises(ValueError, match="expected `sample_rate` to be that of the transform, 16000, but got 8000"):
        SpectrogramAxes.from_transform(TRANSFORMS["mel-htk"], sample_rate=8000)
    with pytest.raises(ValueError, match="expected a one-sided spectrogram"):
        SpectrogramAxes.from_transform(Spectrogram(onesided=False), sample_rate=RATE)
    sequence = torch.nn.Sequential(TRANSFORMS["mel-htk"])
    for other in (sequence, MFCC(RATE, melkwargs={"n_mels": 40, "n_fft": 1024}), None):
        with pytest.raises(TypeError, match=f"MelSpectrogram or Spectrogram, but got {type(other).__name__}"):
            SpectrogramAxes.from_transform(other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_rate": 0}, "expected `sample_rate` to be larger than 0, but got 0"),
        ({"sample_rate": math.nan}, "expected `sample_rate` to be a finite number, but got nan"),
        ({"n_fft": -2}, "expected `n_fft` to be larger than 0, but got -2"),
        ({"hop_length": 0}, "expected `hop_length` to be larger than 0, but got 0"),
        ({"n_mels": 0}, "expected `n_mels` to be larger than 0, but got 0"),
        ({"mel_scale": "bark"}, r"expected `mel_scale` to be one of 'htk', 'slaney', but got 'bark'"),
        ({"f_min": -1.0}, "expected 0 <= `f_min` < `f_max`, in Hz, but got -1.0 and 8000.0"),
        (
            {"f_min": 101.0, "f_max": 102.0},
            "expected a bin .*, but none of the bins, 31.25 Hz apart, lies from 101",
        ),
        ({"f_min": 500.0, "f_max": 400.0}, "expected 0 <= `f_min` < `f_max`, in Hz, but got 500.0 and 400.0"),
    ],
)
def test_errors_of_the_numbers(changes, message):
    with pytest.raises(ValueError, match=message):
        SpectrogramAxes(**{"sample_rate": RATE, "n_fft": 512, "hop_length": 160} | changes)


def test_errors_of_the_conversions():
    axes = SpectrogramAxes(RATE, 512, 160)
    for hertz in (-1.0, 8000.1, math.nan):
        with pytest.raises(ValueError, match=rf"expected `hertz` in \[0, 8000.0\], but got {hertz}"):
            axes.bin_position(hertz)
    with pytest.raises(ValueError, match=r"expected `seconds` to be at least 0, but got -0.1"):
        axes.frame_position(-0.1)


@pytest.mark.parametrize("name", ["mel-htk", "mel-slaney", "mel-not-centred"])
def test_bands_are_shared_among_the_bins_that_cover_their_hertz(name):
    linear, mel = SpectrogramAxes(RATE, 512, 160), SpectrogramAxes.from_transform(TRANSFORMS[name])
    shares = linear.shares_of(mel)
    for band in range(mel.n_bins):
        low, high = mel.hertz(float(band)), mel.hertz(float(band + 1))
        for bin_ in range(linear.n_bins):
            start, end = linear.hertz(float(bin_)), linear.hertz(float(bin_ + 1))
            assert shares[bin_, band].item() == pytest.approx(
                max(0.0, min(end, high) - max(start, low)) / (high - low), abs=1e-9
            )
    torch.testing.assert_close(shares.sum(0), torch.ones(mel.n_bins, dtype=torch.float64))


def test_a_band_beyond_the_other_axis_keeps_only_what_lies_on_it():
    wide, narrow = SpectrogramAxes(RATE, 512, 160), SpectrogramAxes(RATE / 2, 512, 160)
    shares = narrow.shares_of(wide)
    assert shares.sum(0)[:128].tolist() == pytest.approx([1.0] * 128)
    assert not shares[:, 130:].any()
