"""Crowded scenes: their levels, echoes and truth, and that only the class event depends on the class."""

import numpy as np
import pytest
import torch

from benchmarks.tasks import crowded, load_task, scene_sounds
from benchmarks.tasks.crowded import CHOICE_STREAM, audible_truth, crowded_scene, echoes, make_crowded
from benchmarks.tasks.scenes import CLASSES, LOG_MEL, PERSPECTIVES, Scene

RATE = scene_sounds.RATE


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPTUM_APEX_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def ratios(monkeypatch):
    """Pairs of an event and the level at which it gets into a clip, in the order of the calls."""
    found = []

    def recorded(event, spectrum, ratio):
        found.append((event, ratio))
        return scene_sounds.scaled(event, spectrum, ratio)

    monkeypatch.setattr(crowded, "scaled", recorded)
    return found


def test_the_backdrop_does_not_know_the_class(monkeypatch):
    before = [crowded_scene(2, "train", index) for index in range(16)]
    events = [scene_sounds.CLASS_EVENTS[name] for name in CLASSES]
    monkeypatch.setattr(crowded, "CLASS_EVENTS", dict(zip(CLASSES, events[3:] + events[:3], strict=True)))
    after = [crowded_scene(2, "train", index) for index in range(16)]
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one.backdrop, other.backdrop)
        assert not np.array_equal(one.class_event, other.class_event)


def test_scenes_depend_on_seed_split_index_and_stream_and_on_nothing_else():
    first = crowded_scene(0, "train", 8).waveform
    assert np.array_equal(first, crowded_scene(0, "train", 8).waveform)
    for other in ((1, "train", 8), (0, "test", 8), (0, "train", 16), (0, "train", 8, crowded.CHOICE_STREAM)):
        assert np.corrcoef(first, crowded_scene(*other).waveform)[0, 1] < 0.5


def test_levels_vary_by_thirty_decibels_around_those_of_scenes(ratios):
    for index in range(48):
        crowded_scene(0, "test", index)
    middles = np.array([np.mean(event.levels) for event, _ in ratios])
    differences = np.array([ratio for _, ratio in ratios]) - middles
    assert np.abs(differences).max() <= 15
    assert np.ptp(differences) > 29
    assert abs(differences.mean()) < 2


def test_a_gated_tone_is_apart_from_others_of_its_pitches_and_other_sounds_overlap(ratios):
    overlapping = 0
    for index in range(64):
        ratios.clear()
        crowded_scene(0, "test", index)
        *others, event = [event for event, _ in ratios]  # the class event comes last
        overlapping += any((other.samples != 0)[event.samples != 0].any() for other in others)
        for other in others:
            if event.gate and other.gate and abs(np.log2(event.band[0] / other.band[0])) < 0.6:
                assert event.gate[1] < other.gate[0] or other.gate[1] < event.gate[0]
    assert overlapping > 56


@pytest.mark.parametrize(("seconds", "direct"), [(0.2, 0.0), (0.5, 6.0), (0.8, 10.0)])
def test_echoes_fall_by_sixty_decibels_in_the_reverberation_time(seconds, direct):
    response = echoes(np.random.default_rng(0), seconds, direct).astype(np.float64)
    tail = response[1:]
    assert response[0] == 1
    assert not tail[: round(0.005 * RATE) - 1].any()
    np.testing.assert_allclose(10 * np.log10(np.sum(tail**2)), -direct, atol=1e-5)
    # Schroeder's backward integration; its slope between -5 and -25 dB
    energy = 10 * np.log10(np.cumsum(tail[::-1] ** 2)[::-1] / np.sum(tail**2))
    early = (energy < -5) & (energy > -25)
    slope = np.polyfit(np.arange(len(tail))[early] / RATE, energy[early], 1)[0]
    assert -60 / slope == pytest.approx(seconds, rel=0.1)


def test_every_sound_has_echoes_after_its_end():
    index = CLASSES.index("short low tone")
    scene = crowded_scene(0, "test", index)
    loud = np.flatnonzero(np.abs(scene.class_event) > 0.3 * np.abs(scene.class_event).max())
    after = scene.class_event[loud[-1] + round(0.05 * RATE) :]
    assert np.abs(after).max() > 1e-3 * np.abs(scene.class_event).max()


@pytest.mark.parametrize("name", CLASSES)
def test_the_truth_is_where_the_class_event_is_loudest_and_louder_than_the_rest(name):
    scene = crowded_scene(1, "test", CLASSES.index(name))
    event, rest = (LOG_MEL.transform(torch.from_numpy(sound)).double() for sound in (scene.class_event, scene.backdrop))
    bands, frames = event.shape
    audible = [
        [event[band, frame].item() if event[band, frame] > rest[band, frame] else 0.0 for frame in range(frames)]
        for band in range(bands)
    ]
    power = np.array(audible)
    if PERSPECTIVES[name] == "time":
        power = np.array([[sum(column) / bands for column in zip(*audible, strict=True)]] * bands)
    elif PERSPECTIVES[name] == "frequency":
        power = np.array([[sum(row) / frames] * frames for row in audible])
    expected = 10 * np.log10(np.maximum(power, 1e-300)) > 10 * np.log10(power.max()) - 15
    truth = audible_truth(scene)
    assert truth.any()
    assert (truth.numpy() != expected).mean() < 1e-3  # bins at the very border


def test_a_class_event_that_is_masked_everywhere_has_no_truth():
    sound = crowded_scene(0, "test", 0).backdrop
    assert not audible_truth(Scene(sound, 1e-4 * sound, label=0)).any()
    assert audible_truth(Scene(1e-4 * sound, sound, label=0)).any()


def test_scenes_do_not_clip():
    assert (
        max(
            np.abs(crowded_scene(0, split, index).waveform).max() for split in ("train", "test") for index in range(100)
        )
        < 1
    )


@pytest.mark.usefixtures("own_cache")
def test_the_task_is_registered_and_depends_on_its_seed(monkeypatch):
    task = make_crowded(3, train_clips=16, test_clips=8)
    assert (task.name, task.classes) == ("crowded", CLASSES)
    alone = task.normalisation(LOG_MEL.decibels([torch.from_numpy(crowded_scene(3, "test", 5).waveform)[None]]))
    torch.testing.assert_close(task.test[5][0], alone[0], atol=1e-3, rtol=0)
    assert torch.equal(task.truth(5), audible_truth(crowded_scene(3, "test", 5)))
    assert task.schemes(4) == ("frequency",)
    monkeypatch.setitem(load_task.__globals__["TASKS"], "crowded", lambda seed: ("made", seed))
    assert load_task("crowded", 7) == ("made", 7)


@pytest.mark.usefixtures("own_cache")
def test_clips_of_another_stream_are_not_those_of_the_cache():
    """Also with the same seed and number of clips: the clips of a task are those of its waveforms and of its truth."""
    other = make_crowded(0, train_clips=8, test_clips=8, stream=CHOICE_STREAM)
    task = make_crowded(0, train_clips=8, test_clips=8)
    for each in (task, other, make_crowded(0, train_clips=8, test_clips=8)):
        for split in ("train", "test"):
            made = each.log_mel.decibels([torch.stack([each.waveform(split, index) for index in range(8)])])
            torch.testing.assert_close(getattr(each, split).log_mels, each.normalisation(made))
    assert (task.test.log_mels - other.test.log_mels).abs().mean() > 0.1
