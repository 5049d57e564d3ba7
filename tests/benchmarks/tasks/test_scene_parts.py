"""The parts of scenes: they are the sounds of which the clip is made, and they lie where the truth lies."""

import numpy as np
import pytest
import torch

from benchmarks.tasks import crowded, scene_sounds
from benchmarks.tasks.scene_parts import crowded_events_of, crowded_parts_of, events_of, parts_of, region_of
from benchmarks.tasks.scene_sounds import SAMPLES, Event
from benchmarks.tasks.scenes import CLASSES, LOG_MEL, PERSPECTIVES, scene, truth

DISTRACTORS = {"low tone", "high tone", "middle band", "pip or arch", "single burst"}


@pytest.mark.parametrize("index", range(16))
def test_the_sounds_are_those_of_the_clip(index):
    """The backdrop is the background with all distractors, and the class event is that of the clip."""
    clip = scene(3, "test", index)
    *distractors, (name, event) = events_of(3, "test", index)
    assert name == CLASSES[clip.label]
    cosine = np.dot(event.samples, clip.class_event)
    assert cosine / np.linalg.norm(event.samples) / np.linalg.norm(clip.class_event) == pytest.approx(1, abs=1e-5)
    assert {kind for kind, _ in distractors} <= DISTRACTORS
    stream = np.random.default_rng([scene_sounds.STREAM, 3, 1, index, 0])
    background = scene_sounds.background(stream, scene_sounds.talkers(3, "test"))
    columns = np.stack([background, *(other.samples for _, other in distractors)], axis=1).astype(float)
    weights = np.linalg.lstsq(columns, clip.backdrop.astype(float), rcond=None)[0]
    assert weights.min() > 0
    np.testing.assert_allclose(columns @ weights, clip.backdrop, atol=1e-5 * np.abs(clip.backdrop).max())


@pytest.mark.parametrize("index", range(16))
def test_the_class_event_lies_on_the_truth(index):
    clip = scene(3, "test", index)
    name = CLASSES[clip.label]
    mask = parts_of(3, "test", index)[name].mask(LOG_MEL.bands, SAMPLES // LOG_MEL.hop + 1)
    bins = truth(clip)
    if PERSPECTIVES[name] == "time":  # whole columns; the part has only the bands of the bursts
        bins = bins & mask.any(1, keepdim=True)
    assert (mask & bins).sum().item() / bins.sum().item() > 0.6
    if PERSPECTIVES[name] == "time":
        assert (mask & bins).sum().item() / mask.sum().item() > 0.3
    else:  # one box, which has the sides of the truth
        for axis in (0, 1):
            sides = [each.any(axis).nonzero()[[0, -1], 0].tolist() for each in (mask, bins)]
            np.testing.assert_allclose(*sides, atol=3)


def test_a_tone_lies_at_its_time_and_its_frequency():
    seconds = np.arange(SAMPLES) / 16_000
    tone = np.where((seconds >= 0.5) & (seconds < 1.0), np.sin(2 * np.pi * 1000 * seconds + 0.5), 0).astype(np.float32)
    (box,) = region_of(Event(tone, (900.0, 1100.0), (10, 20))).boxes
    n_frames = SAMPLES // LOG_MEL.hop + 1
    assert box.start * n_frames == pytest.approx(0.5 * 16_000 / LOG_MEL.hop + 0.5, abs=0.1)
    assert box.end * n_frames == pytest.approx(1.0 * 16_000 / LOG_MEL.hop + 0.5, abs=0.1)
    centres = torch.linspace(*(2595 * np.log10(1 + f / 700) for f in (50, 8000)), LOG_MEL.bands + 2)[1:-1]
    nearest = (centres - 2595 * np.log10(1 + 1000 / 700)).abs().argmin().item()
    assert box.low * LOG_MEL.bands <= nearest < box.high * LOG_MEL.bands
    assert (box.high - box.low) * LOG_MEL.bands <= 6


def test_bursts_are_boxes_of_one_part():
    rhythm = next(index for index in range(16) if CLASSES[index % 8] == "even rhythm")
    assert len(parts_of(3, "test", rhythm)["even rhythm"].boxes) == 6


@pytest.mark.parametrize("index", range(12))
def test_the_sounds_of_a_crowded_scene_are_those_that_it_is_made_of(index, monkeypatch):
    heard = []
    dry = crowded._heard

    def recorded(rng, event, *others):
        heard.append(event)
        return dry(rng, event, *others)

    monkeypatch.setattr(crowded, "_heard", recorded)
    clip = crowded.crowded_scene(3, "test", index)
    named = list(crowded_events_of(3, "test", index))
    assert [name for name, _ in named][-1] == CLASSES[clip.label]
    assert len(named) == len(heard)
    for (name, event), other in zip(named, heard, strict=True):
        np.testing.assert_array_equal(event.samples, other.samples)
        assert (name == "talker") == (other.levels == crowded.TALKER_LEVELS)
    assert {name for name, _ in named[:-1]} <= DISTRACTORS | {"talker"}
    assert set(crowded_parts_of(3, "test", index)) == {name for name, _ in named}
