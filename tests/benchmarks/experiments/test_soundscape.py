"""Recordings with known sounds: the clips are at their places, and events are scored by the sounds that they meet."""

import math

import pytest
import torch

from benchmarks.experiments.soundscape import (
    THRESHOLDS,
    Sound,
    classifier_of,
    event_scores,
    soundscape,
    soundscape_picture,
    soundscape_table,
)
from captum_apex import Event
from tests.small import small_subject


def event(start, end, label):
    return Event(start, end, None, None, label, "", 0.9, 1.0)


def test_the_clips_are_at_their_places_with_silence_between_them():
    task = small_subject().task
    waveform, sounds = soundscape(task, 4)
    rate, length = task.sample_rate, len(task.waveform("test", 0))
    clips = [(task.waveform("test", index), int(task.test.labels[index])) for index in range(len(task.test))]
    heard, left = torch.zeros(len(waveform), dtype=torch.bool), waveform.clone()
    for sound in sounds:
        own = slice(round(sound.start * rate), round(sound.end * rate))
        assert any(label == sound.label and torch.equal(waveform[own], clip) for clip, label in clips)
        assert not heard[own].any()
        heard[own], left[own] = True, 0
    assert int(heard.sum()) == 4 * length
    assert not left.any()
    assert len(waveform) == 4 * length + 5 * round(0.8 * length)


def test_the_classifier_of_a_subject_makes_its_inputs():
    subject = small_subject()
    classifier = classifier_of(subject)
    made = classifier.inputs(subject.task.waveform("test", 3))
    torch.testing.assert_close(made, subject.task.test[3][0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        classifier.drawn(subject.task.waveform("test", 3)).decibels, subject.task.normalisation.decibels(made[0])
    )


def test_events_are_scored_by_the_sounds_that_they_meet():
    sounds = [Sound(1.0, 2.0, 0), Sound(3.0, 4.0, 1), Sound(5.0, 6.0, 0)]
    events = [event(0.5, 1.5, 0), event(1.9, 2.1, 1), event(2.2, 2.8, 1), event(3.0, 3.5, 1)]
    assert event_scores(events, sounds) == pytest.approx(
        {
            "events": 4,
            "precision": 2 / 4,
            "in silence": 1 / 4,
            "in others": 1 / 4,
            "recall": 2 / 3,
            "time": (0.5 + 0.5) / (1.0 + 0.5),
        }
    )


def test_shares_of_no_events_are_nan():
    found = event_scores([], [Sound(1.0, 2.0, 0)])
    assert (found["events"], found["recall"]) == (0, 0.0)
    assert math.isnan(found["precision"])
    assert math.isnan(found["time"])


def test_the_table_has_a_row_per_scheme_and_threshold():
    subject = small_subject()
    table = soundscape_table(subject, 3)
    assert table["threshold"].tolist() == list(THRESHOLDS) * 4
    assert table["scheme"].tolist() == [str(scheme) for scheme in subject.bases for _ in THRESHOLDS]


def test_the_picture_names_the_sounds():
    subject = small_subject()
    waveform, sounds = soundscape(subject.task, 5)
    drawn = soundscape_picture(subject)
    assert all(
        subject.task.classes[sound.label] in drawn.axes[0].get_title().replace("\n", " ") for sound in sounds[:2]
    )
    assert drawn.axes[0].get_xlim()[1] == pytest.approx(len(waveform) / subject.task.sample_rate, rel=0.01)
