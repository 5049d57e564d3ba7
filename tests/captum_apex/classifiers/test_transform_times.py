"""Transforms that keep the times of a sound, and transforms that do not."""

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate, pad
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram, Resample

from captum_apex import Box, Classifier, Region, SpectrogramAxes
from captum_apex.classifiers.transform_times import check_times

RATE = 8000
MEL = MelSpectrogram(RATE, 256, hop_length=80, n_mels=32)
AXES = SpectrogramAxes.from_transform(MEL)
DECIBELS = AmplitudeToDB(top_db=80)


def log_mel(waveform):
    return DECIBELS(MEL(waveform))[None]


def repeated(waveform, length=16000):
    return waveform.repeat(-(-length // len(waveform)))[:length]


def centred(waveform, length):
    return waveform[(len(waveform) - length) // 2 :][:length]


def normalised(inputs):
    return (inputs - inputs.mean()) / inputs.std()


def check(transform, n_samples, axes=AXES, input_layout=None):
    check_times(transform, n_samples, RATE, axes, input_layout)


@pytest.mark.parametrize("n_samples", [4000, 8000, 24000])
@pytest.mark.parametrize(
    ("transform", "axes", "layout"),
    [
        (log_mel, AXES, None),
        (lambda waveform: normalised(log_mel(waveform)), AXES, None),
        (lambda waveform: log_mel(pad(waveform, (0, max(0, 16000 - len(waveform)))))[..., :201], AXES, None),
        (lambda waveform: log_mel(waveform)[0].T, AXES, "n t f"),
        (lambda waveform: waveform / waveform.abs().max(), None, None),
        (Resample(RATE, 2000), None, None),
        (lambda waveform: interpolate(log_mel(waveform)[None], (224, 224))[0], None, None),
        (lambda waveform: pad(log_mel(waveform), (7, 0)), SpectrogramAxes(RATE, 256, 80, n_mels=32, pad=560), None),
    ],
)
def test_padding_cutting_and_resampling_keep_the_times(transform, axes, layout, n_samples):
    check(transform, n_samples, axes, layout)


@pytest.mark.parametrize(
    ("transform", "axes", "message"),
    [
        (
            lambda waveform: log_mel(repeated(waveform)),
            AXES,
            r"at 0.125 s of a clip of 1 s appears at 0.1\d+ and 1.1\d+ s",
        ),
        (repeated, None, "appears at 0.0"),
        (lambda waveform: log_mel(centred(waveform, 4000)), AXES, "does not appear"),
        (lambda waveform: log_mel(pad(waveform, (4000, 0))), AXES, "appears at 0.6"),
        (lambda waveform: log_mel(waveform.flip(0)), AXES, "appears at 0.8"),
        (lambda waveform: pad(waveform, (0, 8000)), None, "appears at 0.0"),
        (lambda waveform: waveform[:4000], None, "appears at 0.2"),
        (lambda waveform: interpolate(log_mel(waveform)[None], (32, 200))[0], AXES, "appears at 0.2"),
    ],
)
def test_other_transforms_are_refused_with_what_to_give_the_classifier(transform, axes, message):
    with pytest.raises(ValueError, match=rf'{message}.*give it the `length` .*short="repeat"'):
        check(transform, 8000, axes)


@pytest.mark.parametrize(("transform", "layout"), [(lambda waveform: waveform[None], None), (torch.clone, "n t")])
def test_axes_of_a_model_that_takes_the_waveform_are_refused(transform, layout):
    """The length of the clips has nothing to do with it."""
    with pytest.raises(ValueError, match="the input is the waveform; leave `axes` and `decibels` out"):
        classifier(transform, length=16000, input_layout=layout).drawn(torch.rand(16000))


def failing(waveform):
    raise RuntimeError(f"no {len(waveform)} samples")


@pytest.mark.parametrize(
    "transform", [failing, lambda waveform: waveform[:4], torch.zeros_like, lambda waveform: waveform * float("nan")]
)
def test_nothing_is_said_where_nothing_can_be_found_out(transform):
    check(transform, 8000, None)


def classifier(transform=log_mel, **settings):
    return Classifier(nn.Identity(), transform, RATE, ["a"], **{"axes": AXES, **settings})


def test_a_clip_that_the_transform_repeats_is_not_drawn_until_the_classifier_repeats_it():
    transform = lambda waveform: log_mel(repeated(waveform))  # noqa: E731
    sound = torch.rand(6000)
    with pytest.raises(ValueError, match='short="repeat"'):
        classifier(transform).drawn(sound, "a.wav")
    clip = classifier(transform, length=16000, short="repeat").drawn(sound, "a.wav")
    assert (clip.duration, clip.repeats) == (2.0, 0.75)
    assert torch.equal(clip.waveform, torch.cat([sound, sound, sound])[:16000])


def test_a_whole_clip_is_drawn_by_a_transform_that_would_repeat_short_ones():
    assert classifier(lambda waveform: log_mel(repeated(waveform))).drawn(torch.rand(16000)).repeats is None


def test_the_transform_is_tried_with_clicks_for_few_lengths_only():
    lengths = []

    def padded(waveform):
        lengths.append(len(waveform))
        return log_mel(pad(waveform, (0, max(0, 24000 - len(waveform)))))

    padding = classifier(padded)
    for n_samples in range(8000, 12000, 100):
        padding.drawn(torch.rand(n_samples))
    assert len(lengths) <= 40 + 8 * 4


@pytest.mark.parametrize("of_samples", [False, True])
def test_regions_in_a_repetition_are_given_at_the_second_of_the_file(of_samples):
    settings = {"axes": None, "transform": lambda waveform: waveform[None]} if of_samples else {}
    repeating = classifier(length=16000, short="repeat", **settings)
    clip = repeating.drawn(torch.rand(6000))  # 0.75 s, which begin at 0, 0.75 and 1.5 s

    def times(start, end):
        shares = [seconds / 2 if of_samples else AXES.frame_position(seconds) / 201 for seconds in (start, end)]
        places = clip.places(Region((Box(0.25, 0.5, *shares),)))
        assert {(place.low, place.high) for place in places} == {(places[0].low, places[0].high)}
        return [(round(place.start, 6), round(place.end, 6)) for place in places]

    assert times(0.1, 0.3) == [(0.1, 0.3)]
    assert times(0.85, 1.05) == [(0.1, 0.3)]
    assert times(1.6, 1.8) == [(0.1, 0.3)]
    assert times(0.65, 0.85) == [(0.0, 0.1), (0.65, 0.75)]
    assert times(0.3, 1.9) == [(0.0, 0.75)]


def test_boxes_of_several_repetitions_that_overlap_in_the_file_are_one():
    clip = classifier(length=16000, short="repeat").drawn(torch.rand(6000), "a.wav")
    assert clip.title == "a.wav, repeated after 0.75 s"
    seconds = [(0.1, 0.3), (0.95, 1.15), (1.75, 1.8), (0.55, 0.65)]
    shares = [[AXES.frame_position(time) / 201 for time in span] for span in seconds]
    region = Region((*(Box(0.25, 0.5, *span) for span in shares), Box(0.5, 0.75, *shares[0])))
    places = [(round(place.start, 6), round(place.end, 6)) for place in clip.places(region)]
    assert places == [(0.1, 0.4), (0.1, 0.3), (0.55, 0.65)]


def test_a_clip_that_is_not_repeated_has_its_regions_as_they_are():
    region = Region((Box(0.0, 1.0, 0.5, 0.7),))
    assert classifier(length=16000, short="repeat").drawn(torch.rand(16000)).folded(region) is region
    assert classifier(length=16000).drawn(torch.rand(16000)).folded(region) is region


def test_short_is_one_of_two():
    with pytest.raises(ValueError, match="`short` to be one of 'pad', 'repeat', 'keep', but got 'loop'"):
        classifier(short="loop")
