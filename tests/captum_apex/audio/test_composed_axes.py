"""Axes of other frequencies than those of a Fourier transform, and of cropped, resized and flipped pictures."""

import math
import pickle

import pytest
import torch
from torch.nn.functional import interpolate
from torchaudio.transforms import MelSpectrogram, Spectrogram

from captum_apex.audio.axes import SpectrogramAxes

RATE = 16000
AXES = {
    "linear": SpectrogramAxes(RATE, 510, 160),
    "limits": SpectrogramAxes(RATE, 512, 160, f_min=1000, f_max=6000),
    "mel": SpectrogramAxes(RATE, 512, 160, n_mels=64),
    "not-centred": SpectrogramAxes(RATE, 400, 160, n_mels=40, mel_scale="slaney", center=False, pad=20),
    "cqt": SpectrogramAxes.cqt(RATE, 256, f_min=55.0, n_bins=72),
    "centres": SpectrogramAxes.from_centres(RATE, 160, [40.0, 100.0, 170.0, 1000.0, 2500.0, 4000.0]),
}


@pytest.fixture(params=AXES)
def axes(request):
    return AXES[request.param]


@pytest.mark.parametrize(("bins_per_octave", "n_bins"), [(12, 84), (36, 200), (7.5, 40)])
def test_the_bins_of_a_constant_q_transform_are_notes(bins_per_octave, n_bins):
    axes = SpectrogramAxes.cqt(22050, 512, f_min=32.7, n_bins=n_bins, bins_per_octave=bins_per_octave)
    notes = torch.tensor([32.7 * 2 ** (note / bins_per_octave) for note in range(n_bins)], dtype=torch.float64)
    torch.testing.assert_close(axes.bin_centres, notes, rtol=1e-12, atol=0)
    between = torch.tensor(
        [32.7 * 2 ** ((note - 0.5) / bins_per_octave) for note in range(n_bins + 1)], dtype=torch.float64
    )
    torch.testing.assert_close(axes.bin_edges, between, rtol=1e-12, atol=0)
    torch.testing.assert_close(
        axes.bin_position(notes), torch.arange(n_bins) + 0.5, rtol=1e-10, atol=0, check_dtype=False
    )
    assert axes.n_bins == n_bins


def test_given_centres_are_kept_and_edges_lie_half_way():
    given = [30.0, 60.0, 150.0, 1200.0]
    ascending = SpectrogramAxes.from_centres(8000, 80, given)
    assert ascending.bin_centres.tolist() == given
    assert ascending.bin_edges.tolist() == [15.0, 45.0, 105.0, 675.0, 1725.0]
    descending = SpectrogramAxes.from_centres(8000, 80, torch.tensor(given).flip(0))
    assert descending.bin_centres.tolist() == given[::-1]
    assert (ascending.descending, descending.descending) == (False, True)
    assert descending == ascending.flipped()


def test_positions_come_back(axes):
    for each in (axes, axes.flipped(), axes.cropped(1, 5), axes.resized((axes.n_bins, 100), (224, 224))):
        position = torch.linspace(0.6 if each.n_bins < 100 else 3.0, each.n_bins - 0.6, 50, dtype=torch.float64)
        torch.testing.assert_close(each.bin_position(each.hertz(position)), position, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(each.frame_position(each.seconds(position)), position, rtol=1e-9, atol=1e-9)
        assert pickle.loads(pickle.dumps(each)) == each
        assert hash(each) == hash(pickle.loads(pickle.dumps(each)))


def test_pictures_that_are_cut_and_turned_keep_the_frequency_of_each_row(axes):
    """The oracle is the list of the rows' frequencies, on which a picture's rows are cut and turned."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        made = axes
        hertz = axes.bin_centres
        seconds = torch.arange(100).double() * axes.hop_length / RATE + axes.seconds(0.5)
        for _ in range(4):
            if torch.rand(1, generator=generator) < 0.5:
                made = made.flipped()
                hertz = hertz.flip(0)
            elif len(hertz) > 3:
                first, end, frame = torch.randint(0, 2, (3,), generator=generator).tolist()
                made = made.cropped(first, len(hertz) - end, first_frame=frame)
                hertz = hertz[first : len(hertz) - end]
                seconds = seconds[frame:]
        torch.testing.assert_close(made.bin_centres, hertz, rtol=1e-12, atol=1e-9)
        torch.testing.assert_close(made.frame_centres(len(seconds)), seconds, rtol=1e-12, atol=1e-9)
        assert made.descending == (hertz[0] > hertz[-1]).item()


def test_flipping_twice_changes_nothing(axes):
    assert axes.flipped().flipped() == axes
    assert axes.flipped() != axes
    assert axes.cropped() == axes


@pytest.mark.parametrize("size", [(224, 224), (64, 50), (33, 1000)])
def test_a_resized_picture_has_its_corners_where_they_were(axes, size):
    before = (axes.n_bins, 101)
    resized = axes.resized(before, size)
    assert resized.n_bins == size[0]
    for share in (0.0, 0.2, 0.5, 0.77, 1.0):
        assert resized.hertz(share * size[0]) == pytest.approx(axes.hertz(share * before[0]), rel=1e-9)
        assert resized.seconds(share * size[1]) == pytest.approx(axes.seconds(share * before[1]), abs=1e-12)


@pytest.mark.parametrize("hertz", [500.0, 1810.0, 5200.0])
@pytest.mark.parametrize("name", ["linear", "mel"])
@pytest.mark.parametrize("turned", [False, True])
def test_a_tone_and_a_click_are_where_they_sound_on_a_resized_picture(name, hertz, turned):
    axes = AXES[name]
    transform = (
        Spectrogram(510, hop_length=160) if name == "linear" else MelSpectrogram(RATE, 512, hop_length=160, n_mels=64)
    )
    time = torch.arange(RATE) / RATE
    tone = transform(torch.sin(2 * math.pi * hertz * time))[:, 10:]  # the first 10 frames are left out
    click = torch.zeros(RATE)
    click[round(0.6 * RATE)] = 1.0
    axes = axes.cropped(first_frame=10)
    pictures = torch.stack([tone, transform(click)[:, 10:]])
    if turned:
        axes = axes.flipped()
        pictures = pictures.flip(1)
    resized = axes.resized(tuple(pictures.shape[1:]), (224, 224))
    large = interpolate(pictures[None], (224, 224), mode="bilinear")[0]
    row = large[0].mean(1).argmax().item() + 0.5
    bins = 224 / axes.n_bins  # a bin is several rows
    assert abs(row - resized.bin_position(hertz)) <= 0.5 + bins
    frames = large[1].sum(0)
    column = ((torch.arange(224) + 0.5) * frames).sum() / frames.sum()
    assert abs(column - resized.frame_position(0.6)) < 0.7 * 224 / 91


def test_frames_whose_hop_is_no_whole_number_do_not_drift():
    axes = SpectrogramAxes(22050, 1024, 22050 / 60)
    torch.testing.assert_close(axes.frame_centres(600), torch.arange(600).double() / 60, rtol=1e-12, atol=1e-12)


def test_shares_do_not_depend_on_the_order_of_the_bins():
    axes = AXES["mel"]
    other = AXES["linear"]
    shares = axes.shares_of(other)
    torch.testing.assert_close(axes.flipped().shares_of(other), shares.flip(0))
    torch.testing.assert_close(axes.shares_of(other.flipped()), shares.flip(1))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SpectrogramAxes.from_centres(8000, 80, [100.0]), "at least two frequencies that ascend or descend"),
        (lambda: SpectrogramAxes.from_centres(8000, 80, [1.0, 3.0, 2.0]), "that ascend or descend"),
        (lambda: SpectrogramAxes.from_centres(8000, 80, [-1.0, 3.0]), "all at least 0 Hz"),
        (
            lambda: SpectrogramAxes.from_centres(8000, 80, [1.0, 5000.0]),
            "up to half the sample rate, 4000 Hz",
        ),
        (lambda: SpectrogramAxes.cqt(8000, 80, f_min=0.0, n_bins=12), "`f_min` to be larger than 0, but got 0"),
        (
            lambda: SpectrogramAxes.cqt(8000, 80, f_min=9.0, n_bins=12, bins_per_octave=-1),
            "`bins_per_octave` to be",
        ),
        (lambda: SpectrogramAxes.cqt(8000, 80, f_min=55.0, n_bins=1), "`n_bins` to be an int of at least 2"),
        (
            lambda: AXES["mel"].resized((65, 101), (224, 224)),
            r"the 64 bins of the axes, but got \(65, 101\)",
        ),
        (lambda: AXES["mel"].resized((64, 101), (224, 0)), "`new_size` to be an int of at least 1"),
        (lambda: AXES["mel"].cropped(64), "`first_bin` below `end_bin` and 64, but got 64"),
        (lambda: AXES["mel"].cropped(3, 3), "`first_bin` below `end_bin`"),
        (lambda: AXES["mel"].cropped(-1), "`first_bin` to be an int of at least 0"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
