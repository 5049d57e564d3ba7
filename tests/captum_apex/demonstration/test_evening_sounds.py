"""The sounds of the demonstration: always the same, all different, and what their names say."""

import numpy as np
import pytest
import torch

from captum_apex.demonstration import EveningSounds, classifier, truth
from captum_apex.demonstration.evening_sounds import CLASS_NAMES, SAMPLE_RATE


def spectrum(waveform):
    power = torch.stft(waveform, 512, 256, window=torch.hann_window(512), return_complex=True).abs().square()
    return power, torch.linspace(0, SAMPLE_RATE / 2, 257)


def test_a_clip_is_the_same_whenever_it_is_made():
    sounds = EveningSounds("demo")
    first = sounds.waveform(3)
    assert torch.equal(EveningSounds("demo").waveform(3), first)


@pytest.mark.parametrize("part", ["train", "test", "demo"])
def test_a_part_has_clips_of_every_class_that_do_not_clip(part):
    sounds = EveningSounds(part)
    assert len(sounds) == len(sounds.labels) == {"train": 320, "test": 96, "demo": 12}[part]
    assert set(sounds.labels) == set(range(8))
    names = [sounds.name(index) for index in range(len(sounds))]
    assert len(set(names)) == len(names)
    for index in range(0, len(sounds), 7):
        waveform = sounds.waveform(index)
        assert names[index].startswith(CLASS_NAMES[sounds.labels[index]])
        assert waveform.dtype == torch.float32
        assert waveform.shape == (2 * SAMPLE_RATE,)
        assert 0.05 < waveform.abs().max() <= 0.5


def test_no_clip_is_in_two_parts():
    clips = [EveningSounds(part).waveform(0) for part in ("train", "test", "demo")]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.equal(clips[one], clips[other])
    assert len({EveningSounds(part).fingerprint() for part in ("train", "test", "demo")}) == 3


def test_lengths_and_rates():
    sounds = EveningSounds("demo")
    assert torch.equal(sounds.waveform(0, length=100), sounds.waveform(0)[:100])
    longer = sounds.waveform(0, length=40_000)
    assert torch.equal(longer[:32_000], sounds.waveform(0))
    assert not longer[32_000:].any()
    with pytest.raises(ValueError, match="the sample rate 16000, in which the sounds are made, but got 8000"):
        sounds.waveform(0, 8000)
    with pytest.raises(ValueError, match="`part` to be 'train', 'test' or 'demo', but got 'night'"):
        EveningSounds("night")
    with pytest.raises(IndexError):
        sounds.waveform(12)


def test_sounds_lie_where_their_class_has_them():
    """The share of the power between two frequencies, and how much of the clip is silent."""
    sounds = EveningSounds("train")
    bands = {"owl": (250, 1100), "cricket": (3800, 5600), "rain": (1100, 7200), "songbird": (2200, 6500)}
    for name, (low, high) in bands.items():
        power, hertz = spectrum(sounds.waveform(40 * CLASS_NAMES.index(name)))
        inside = (hertz >= low) & (hertz <= high)
        assert power[inside].sum() > 0.8 * power.sum()
    power, _ = spectrum(sounds.waveform(40 * CLASS_NAMES.index("woodpecker")))
    loudness = power.sum(0)
    assert np.mean((loudness < 0.05 * loudness.max()).numpy()) > 0.4


def test_a_scene_has_both_sounds():
    sounds = EveningSounds("demo")
    assert sounds.name(8) == "owl_and_cricket.wav"
    power, hertz = spectrum(sounds.waveform(8))
    hoots, chirps = power[(hertz > 300) & (hertz < 1000)].sum(), power[(hertz > 3800) & (hertz < 5600)].sum()
    assert 0.002 * hoots < chirps < 0.5 * hoots


@pytest.mark.parametrize("index", [3, 8], ids=["owl", "owl and cricket"])
def test_the_sound_of_the_class_is_a_part_of_its_clip(index):
    """What is left without it is the wind, and in a scene the second sound."""
    sounds = EveningSounds("demo")
    rest = sounds.waveform(index) - sounds.class_sound(index)
    power, hertz = spectrum(rest)
    hoots = (hertz > 300) & (hertz < 1000)
    alone, _ = spectrum(sounds.class_sound(index))
    assert power[hoots].sum() < 0.01 * alone[hoots].sum()
    chirps = (hertz > 3800) & (hertz < 5600)
    assert (power[chirps].sum() > power[hoots].sum()) == (index == 8)


@pytest.mark.parametrize("part", ["train", "test", "demo"])
def test_the_truth_is_where_the_class_sounds(part):
    """Bands in Hz from the formulas; outside of the truth the class's sound is soft."""
    bands = {"owl": (200, 1200), "cricket": (3800, 5600), "songbird": (2100, 6500), "siren": (450, 4900)}
    sounds = EveningSounds(part)
    pond = classifier()
    for index in range(0, len(sounds), 5):
        inside = truth(sounds, index)
        assert inside.dtype == torch.bool
        assert inside.shape == pond.inputs(sounds.waveform(index)).shape[1:]
        low, high = bands.get(CLASS_NAMES[sounds.labels[index]], (0, 8000))
        rows = inside.any(1).nonzero()
        assert low <= pond.axes.hertz(rows.min().item())
        assert pond.axes.hertz(rows.max().item() + 1) <= high
        levels = pond.decibels(pond.inputs(sounds.class_sound(index)))
        assert levels[inside].min() >= levels.max() - 25.001
        assert levels[~inside].max() < levels.max() - 24.999


def test_the_truth_of_a_scene_leaves_out_the_second_sound():
    sounds = EveningSounds("demo")
    assert sounds.name(8) == "owl_and_cricket.wav"
    hertz = classifier().axes.bin_centres
    assert not truth(sounds, 8)[hertz > 3800].any()
    assert truth(sounds, 4)[hertz > 3800].any()  # the cricket alone
