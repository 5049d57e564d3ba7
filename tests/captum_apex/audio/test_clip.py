"""Clips, and the places of regions in Hz and seconds."""

import dataclasses
import math

import pytest
import torch

from captum_apex.audio import Box, Clip, Place, Region, SpectrogramAxes, level_limits

AXES = SpectrogramAxes(16000, 512, 160, n_mels=40)


def test_a_box_on_bins_and_frames_lies_where_the_axes_say():
    clip = Clip(torch.zeros(40, 101), AXES)
    place = clip.place(Box(low=0.25, high=0.5, start=10 / 101, end=30 / 101))
    assert place == pytest.approx((AXES.hertz(10.0), AXES.hertz(20.0), 0.095, 0.295))


def test_a_box_on_samples_lies_at_its_share_of_the_duration():
    clip = Clip.from_waveform(torch.zeros(8000), 16000)
    assert clip.place(Box(0, 1, 0.5, 0.75)) == Place(0, 8000, 0.25, 0.375)
    assert clip.place(Box(0.25, 0.5, 0.0, 0.1)) == pytest.approx(Place(2000, 4000, 0.0, 0.05))
    assert clip.duration == 0.5


@pytest.mark.parametrize("clip", [Clip(torch.zeros(40, 101), AXES), Clip.from_waveform(torch.zeros(8000), 16000)])
def test_the_box_of_a_place_is_the_box_that_lies_there(clip):
    box = Box(low=0.25, high=0.5, start=0.1, end=0.75)
    assert dataclasses.astuple(clip.box(clip.place(box))) == pytest.approx(dataclasses.astuple(box))


@pytest.mark.parametrize("clip", [Clip(torch.zeros(40, 101), AXES), Clip.from_waveform(torch.zeros(8000), 16000)])
def test_the_box_of_a_place_ends_where_the_clip_does(clip):
    assert clip.box(Place(low=-1.0, high=22050.0, start=-0.5, end=7.0)) == Box(0.0, 1.0, 0.0, 1.0)


def test_a_clip_without_a_waveform_ends_with_its_last_frame():
    """Frame 6 is centred on 0.06 s, and lasts half a hop more."""
    assert Clip(torch.zeros(40, 7), AXES).duration == pytest.approx(0.065)
    from_the_start = dataclasses.replace(AXES, center=False)
    assert Clip(torch.zeros(40, 7), from_the_start).duration == pytest.approx(0.065 + 256 / 16000)


def test_the_picture_of_a_waveform_is_its_power_in_decibels():
    seconds = torch.arange(16000) / 16000
    clip = Clip.from_waveform(torch.sin(2 * math.pi * 1000 * seconds), 16000)
    loudest = clip.decibels[:, 20:-20].argmax(0)
    assert clip.axes.hertz(loudest.float() + 0.5) == pytest.approx(torch.full(loudest.shape, 1000.0).double())
    assert clip.decibels.max().item() == pytest.approx(20 * math.log10(512 / 4), abs=0.01)  # half the window's sum
    assert (clip.decibels.max() - clip.decibels.min()).item() <= 80 + 1e-4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decibels": torch.zeros(39, 5)}, r"`decibels` of shape \(40, time\).*\(39, 5\)"),
        ({"decibels": torch.zeros(40, 5), "waveform": torch.zeros(2, 9)}, r"mono, but got \(2, 9\)"),
        ({"decibels": torch.zeros(40, 5), "of_samples": True}, "fractions of its samples"),
        ({"decibels": torch.full((40, 5), math.nan)}, "finite `decibels`"),
        ({"decibels": torch.zeros(40, 5), "waveform": torch.full((9,), math.inf)}, "finite `waveform`"),
    ],
)
def test_what_is_no_clip_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Clip(axes=AXES, **arguments)


def test_a_waveform_too_short_to_draw_is_refused():
    with pytest.raises(ValueError, match="more than 256 samples"):
        Clip.from_waveform(torch.zeros(200), 16000)


def test_a_clip_is_equal_only_to_itself():
    """Tensors cannot be compared with one truth value, so two clips could not be either."""
    one, other = (Clip(torch.zeros(40, 3), AXES) for _ in range(2))
    assert one in [other, one]
    assert one != other
    assert {one: 1, other: 2}[one] == 1


def test_clips_that_are_compared_have_common_limits_and_each_counts_once():
    quiet, loud = Clip(torch.full((40, 99), -50.0), AXES), Clip(torch.full((40, 1), 0.0), AXES)
    assert level_limits([quiet, loud]) == (-50, 0)
    assert level_limits([quiet, *[loud] * 999]) == (-50, 0)
    assert level_limits([loud]) == (-1, 1)


def test_a_few_extreme_levels_do_not_decide_about_the_colours():
    levels = torch.linspace(-60, 0, 10_000)
    levels[-1] = 40.0
    levels[0] = -200.0
    assert level_limits([Clip(levels.view(40, 250), AXES)]) == pytest.approx((-59.4, -0.06), abs=0.01)


@pytest.mark.parametrize("n_silent", [10, 125, 200])
def test_digital_silence_does_not_decide_about_the_colours(n_silent):
    levels = torch.linspace(-40, 0, 10_000).view(250, 40).T.clone()
    levels[:, :n_silent] = -100.0
    low, high = level_limits([Clip(levels, AXES)])
    first = levels[0, n_silent].item()
    assert low == pytest.approx(0.95 * first, abs=0.1)
    assert high == pytest.approx(0, abs=0.1)


def test_a_region_is_silent_where_no_level_is_above_the_floor():
    levels = torch.full((40, 100), -60.0)
    levels[10:20, 30:50] = -20.0
    clip = Clip(levels, AXES)
    boxes = {
        Box(0.25, 0.5, 0.3, 0.5): False,
        Box(0, 1, 0.49, 0.6): False,
        Box(0, 1, 0.5, 1): True,
        Box(0.5, 1, 0, 1): True,
    }
    assert {box: clip.is_silent(Region((box,))) for box in boxes} == boxes
    assert not clip.is_silent(Region((Box(0, 1, 0.5, 1), Box(0, 1, 0, 0.4))))


def test_a_region_is_silent_where_no_sample_is_and_behind_the_last_one():
    """The levels are loud everywhere: a window reaches into the silence, and padding has levels, too."""
    waveform = torch.cat([torch.ones(8000), torch.zeros(4000)])
    clip = Clip(torch.rand(40, 101), AXES, waveform)  # the input lasts 1 s, the sound 0.75 s
    silent = {start: clip.is_silent(Region((Box(0, 1, start, start + 0.1),))) for start in (0.3, 0.45, 0.6, 0.8)}
    assert silent == {0.3: False, 0.45: False, 0.6: True, 0.8: True}


def filled_clip(value=0.0, n_samples=4000):
    """Half a second of sound in a picture of 1 s whose other half a feature extractor has filled, as Kaldi does."""
    axes = SpectrogramAxes(8000, 200, 80, n_mels=4, center=False)
    n_heard = 1 + (n_samples - 200) // 80
    levels = torch.linspace(-60.0, -20.0, 4 * n_heard).view(4, n_heard)
    decibels = torch.cat([levels, torch.full((4, 100 - n_heard), value)], 1)
    return Clip(decibels, axes, torch.rand(n_samples, generator=torch.Generator().manual_seed(0)))


def test_frames_after_the_end_of_the_sound_are_no_levels_of_it():
    """Frame 48 is the first whose window reaches beyond the last sample, so that Kaldi's transform does not give it."""
    clip = filled_clip(value=0.0)
    assert clip.heard.shape == (4, 48)
    assert torch.equal(clip.heard, clip.decibels[:, :48])
    assert clip.floor == -60.0
    low, high = level_limits([clip])
    assert high == pytest.approx(-20.0, abs=0.2)
    assert low == pytest.approx(-60.0, abs=0.5)


def test_frames_that_hear_the_end_of_the_sound_are_kept():
    """A spectrogram of centred frames ends with one that hears the last samples, and a whole clip has no others."""
    centred = SpectrogramAxes(8000, 16, 80)
    assert Clip(torch.zeros(9, 51), centred, torch.rand(4000)).heard.shape[1] == 51
    assert Clip(torch.zeros(9, 100), centred, torch.rand(4000)).heard.shape[1] == 51
    assert Clip(torch.zeros(9, 100), centred).heard.shape[1] == 100  # without a sound, its end is not known
    levels = torch.rand(9, 100, generator=torch.Generator().manual_seed(0))
    wide = SpectrogramAxes(8000, 16, 80, n_mels=9)
    assert Clip(levels, wide, torch.rand(4000)).heard.shape[1] == 51  # also where the rest has different levels


def test_the_silent_end_of_a_sound_is_not_taken_for_filling():
    axes = SpectrogramAxes(8000, 200, 80, n_mels=4, center=False)
    levels = torch.cat([torch.rand(4, 20), torch.full((4, 80), -100.0)], 1)
    assert Clip(levels, axes, torch.rand(4000)).heard.shape[1] == 48
