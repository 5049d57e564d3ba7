"""The bins of annotations against a loop over the centres of bins, in Hz and seconds."""

import math
from dataclasses import replace

import pytest
import torch

from captum_apex import Clip, SpectrogramAxes
from captum_apex.metrics import annotated_bins, time_segments
from captum_apex.recordings import Annotation

RATE = 8000
AXES = {
    "linear": SpectrogramAxes(RATE, 64, 80),
    "mel": SpectrogramAxes(RATE, 512, 80, n_mels=20, f_min=100.0, f_max=3000.0),
    "descending": SpectrogramAxes(RATE, 512, 80, n_mels=20).flipped(),
    "not centred": SpectrogramAxes(RATE, 512, 80, n_mels=20, center=False),
}
FRAMES = 30


def expected(annotations, axes, class_names, start):
    """A loop over all bins; annotations without a bin's centre are not in it."""
    bins = torch.zeros(len(class_names), axes.n_bins, FRAMES, dtype=torch.bool)
    for each in annotations:
        low = 0.0 if each.low is None else each.low
        high = math.inf if each.high is None else each.high
        for row in range(axes.n_bins):
            for column in range(FRAMES):
                # The first frame lies half before the clip, and counts as its beginning.
                second = (column * axes.hop_length + (0 if axes.center else axes.n_fft / 2)) / axes.sample_rate + start
                hertz = axes.hertz(row + 0.5)
                if low <= hertz < high and each.start <= second < each.end:
                    bins[class_names.index(each.label), row, column] = True
    return bins


def random_annotations(n, seed):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(n, 5, dtype=torch.float64, generator=generator).tolist()
    return [
        Annotation(
            "dog" if label < 0.5 else "rain",
            1.0 + 0.25 * start,
            1.0 + 0.25 * start + 0.03 + 0.2 * length,
            None if index % 3 == 0 else 1500 * low,
            None if index % 3 == 0 else 1500 * low + 600 + 3000 * width,
        )
        for index, (label, start, length, low, width) in enumerate(drawn)
    ]


@pytest.mark.parametrize("name", AXES)
def test_against_a_loop_over_centres(name):
    axes = AXES[name]
    clip = Clip(torch.zeros(axes.n_bins, FRAMES), axes)
    for seed in range(12):
        annotations = random_annotations(3, seed)
        bins = annotated_bins(annotations, clip, ["rain", "dog"], start=1.0)
        assert torch.equal(bins, expected(annotations, axes, ["rain", "dog"], 1.0))
        assert bins.any()


def test_what_lies_between_two_centres_has_one_bin():
    axes = AXES["linear"]  # a frame every 10 ms, a bin every 125 Hz
    clip = Clip(torch.zeros(axes.n_bins, FRAMES), axes)
    bins = annotated_bins([Annotation("click", 0.1012, 0.1048, 520.0, 560.0)], clip, ["click"])
    assert bins[0].nonzero().tolist() == [[4, 10]]


def test_what_lies_outside_of_the_clip_has_none():
    clip = Clip(torch.zeros(AXES["mel"].n_bins, FRAMES), AXES["mel"])
    outside = [
        Annotation("dog", 0.0, 0.9),
        Annotation("dog", 1.4, 2.0),
        Annotation("dog", 1.0, 1.2, 3500.0, 3900.0),
        Annotation("dog", 1.0, 1.2, 0.0, 50.0),
    ]
    assert not annotated_bins(outside, clip, ["dog"], start=1.0).any()


def test_other_classes_do_not_count():
    clip = Clip(torch.zeros(AXES["mel"].n_bins, FRAMES), AXES["mel"])
    assert not annotated_bins([Annotation("fox", 0.0, 1.0)], clip, ["dog"]).any()


def test_in_waveforms_they_are_samples():
    clip = Clip.from_waveform(torch.ones(RATE), RATE)
    bins = annotated_bins([Annotation("dog", 2.25, 2.5, 100.0, 200.0)], clip, ["rain", "dog"], start=2.0)
    assert bins.shape == (2, RATE)
    assert bins[1].nonzero().flatten().tolist() == list(range(2000, 4000))


def test_in_a_repeated_file_they_are_repeated():
    clip = replace(Clip(torch.zeros(AXES["linear"].n_bins, FRAMES), AXES["linear"]), repeats=0.1)
    bins = annotated_bins([Annotation("dog", 0.018, 0.048)], clip, ["dog"])
    assert bins[0, 0].nonzero().flatten().tolist() == [2, 3, 4, 12, 13, 14, 22, 23, 24]


@pytest.mark.parametrize("seconds", [0.1, 0.03, 1.0])
@pytest.mark.parametrize("name", AXES)
def test_segments_against_a_loop(name, seconds):
    axes = AXES[name]
    segments = time_segments(Clip(torch.zeros(axes.n_bins, FRAMES), axes), seconds)
    first = 0 if axes.center else axes.n_fft / 2
    assert segments.tolist() == [int((80 * frame + first) / RATE / seconds + 1e-9) for frame in range(FRAMES)]


def test_segments_of_samples():
    segments = time_segments(Clip.from_waveform(torch.ones(RATE), RATE), 0.25)
    assert segments.bincount().tolist() == [2000] * 4
    with pytest.raises(ValueError, match="expected `seconds` to be larger than 0, but got 0"):
        time_segments(Clip.from_waveform(torch.ones(RATE), RATE), 0)
