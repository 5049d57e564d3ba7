"""The tasks: what their clips are made of, and that only the class event depends on the class."""

import errno
import importlib
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from benchmarks.cache import cache_folder, cache_path, cached, cached_tensors
from benchmarks.reports.contact_sheet import contact_sheet
from benchmarks.tasks import TASKS, ClipDataset, load_task, scene_sounds
from benchmarks.tasks import scenes as scene_module
from benchmarks.tasks.recorded_task import VARIABLE, Recording, read_resampled
from benchmarks.tasks.task import LogMel, Normalisation, cached_decibels
from benchmarks.tasks.task_clips import TaskClips

needs_recordings = pytest.mark.skipif(
    not os.environ.get(VARIABLE), reason=f"{VARIABLE} does not name a folder of recordings"
)
LABELS = range(len(scene_module.CLASSES))


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch, request):
    """Every test has an empty cache, except those of the real recordings, which take long to read."""
    if not request.node.name.startswith("test_real"):
        monkeypatch.setenv("CAPTUM_APEX_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTUM_APEX_CACHE", str(tmp_path_factory.mktemp("cache")))
        return scene_module.make_scenes(3, train_clips=64, test_clips=32)


def class_event_power(scene):
    """Mel power of the class event alone, (mel, frame)."""
    return scene_module.LOG_MEL.transform(torch.from_numpy(scene.class_event))


def scenes_of(name, number=12, seed=5):
    label = scene_module.CLASSES.index(name)
    return [scene_module.scene(seed, "test", label + len(LABELS) * turn) for turn in range(number)]


# Cache


@pytest.mark.parametrize("changed", [0, 3])
def test_clips_of_the_cache_that_are_not_those_of_the_waveforms_are_made_again(changed):
    """A key that lacks what the clips depend on, or a recording that was replaced by one of the same size and time."""
    log_mel = scene_module.LOG_MEL
    waveforms = torch.randn(4, 8000, generator=torch.Generator().manual_seed(0))
    first = cached_decibels("clips", {"seed": 0}, log_mel, waveforms.__getitem__, 4)
    calls = []
    again = cached_decibels("clips", {"seed": 0}, log_mel, lambda index: calls.append(index) or waveforms[index], 4)
    assert torch.equal(first, again)
    assert sorted(calls) == [0, 3]
    others = waveforms.clone()
    others[changed] *= 1.01  # 0.09 dB
    with pytest.warns(
        UserWarning, match=rf"cannot be used \(its clip {changed} is not the one that is made now\); making it ag"
    ):
        made = cached_decibels("clips", {"seed": 0}, log_mel, others.__getitem__, 4)
    assert torch.equal(made, log_mel.decibels([others]))


def test_the_cache_makes_a_thing_once_for_every_key():
    calls = []

    def make():
        calls.append(1)
        return {"a": torch.arange(3.0) + len(calls)}

    first, again, other = (cached_tensors("kind", {"seed": seed}, make)["a"] for seed in (1, 1, 2))
    assert len(calls) == 2
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_cache_lies_where_the_variable_says(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPTUM_APEX_CACHE", str(tmp_path / "elsewhere"))
    cached_tensors("kind", {}, lambda: {"a": torch.zeros(1)})
    assert cache_folder() == tmp_path / "elsewhere"
    assert cache_path("kind", {}).is_relative_to(tmp_path / "elsewhere" / "kind")
    assert cache_path("kind", {}).exists()


def test_a_damaged_cache_file_is_made_again_with_a_warning():
    key = {"seed": 1}
    cached_tensors("kind", key, lambda: {"a": torch.zeros(100)})
    cache_path("kind", key).write_bytes(cache_path("kind", key).read_bytes()[:-50])
    with pytest.warns(UserWarning, match="cannot be used"):
        remade = cached_tensors("kind", key, lambda: {"a": torch.ones(100)})
    assert torch.equal(remade["a"], torch.ones(100))
    assert torch.equal(cached_tensors("kind", key, dict)["a"], torch.ones(100))


def test_one_changed_bit_in_the_cache_is_noticed():
    cached_tensors("kind", {}, lambda: {"a": torch.zeros(100)})
    content = bytearray(cache_path("kind", {}).read_bytes())
    content[-200] ^= 1
    cache_path("kind", {}).write_bytes(content)
    with pytest.warns(UserWarning, match=r"safetensors cannot be used \(its checksum is that of other content"):
        assert torch.equal(cached_tensors("kind", {}, lambda: {"a": torch.ones(100)})["a"], torch.ones(100))


def test_a_cache_file_of_a_version_before_the_checksum_is_taken_if_it_is_finite():
    cache_path("kind", {}).parent.mkdir(parents=True)
    save_file({"a": torch.ones(3), "n": torch.tensor(3)}, cache_path("kind", {}))
    assert torch.equal(cached_tensors("kind", {}, dict)["a"], torch.ones(3))
    save_file({"a": torch.tensor([1.0, torch.nan])}, cache_path("kind", {}))
    with pytest.warns(UserWarning, match=r"cannot be used \(a has NaN or infinity\); making it again"):
        assert torch.equal(cached_tensors("kind", {}, lambda: {"a": torch.ones(2)})["a"], torch.ones(2))


def test_what_cannot_be_stored_is_returned_all_the_same(monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match=r"cannot be stored \(.*No space left on device"):
        assert torch.equal(cached_tensors("kind", {}, lambda: {"a": torch.ones(2)})["a"], torch.ones(2))
    assert not cache_path("kind", {}).exists()


def test_a_cache_that_is_emptied_meanwhile_is_filled_again():
    def make():
        shutil.rmtree(cache_folder())
        return {"a": torch.ones(2)}

    cached_tensors("kind", {"other": 1}, lambda: {"a": torch.zeros(2)})
    assert torch.equal(cached_tensors("kind", {}, make)["a"], torch.ones(2))
    assert cache_path("kind", {}).exists()


def test_a_file_that_is_deleted_while_it_is_opened_is_made_again_without_a_word(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def deleted(path):
        path.unlink()
        return path.read_text()

    assert cached(path, deleted, make=lambda: "new", save=lambda text, path: path.write_text(text)) == "new"


def test_an_interrupted_write_leaves_nothing_behind(monkeypatch):
    def interrupted(path, _content):
        path.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached_tensors("kind", {}, lambda: {"a": torch.zeros(1)})
    assert list(cache_folder().rglob("*.*")) == []


def test_a_key_that_has_no_stable_text_is_refused():
    with pytest.raises(TypeError, match="not JSON serializable"):
        cache_path("kind", {"object": object()})


# Log-mel


@pytest.mark.parametrize("hertz", [300.0, 1000.0, 3000.0])
def test_a_tone_is_loudest_in_the_band_that_the_axes_name(hertz):
    log_mel = scene_module.LOG_MEL
    tone = torch.sin(2 * torch.pi * hertz * torch.arange(32000) / 16000)
    loudest = log_mel.decibels([tone[None]])[0, 0].mean(dim=1).argmax().item()
    assert abs(loudest + 0.5 - log_mel.axes.bin_position(hertz)) <= 1


def test_the_decibels_have_an_absolute_floor_and_rise_by_six_when_the_amplitude_doubles():
    log_mel = LogMel(8000, n_fft=512, window=256, hop=64, lowest=50.0, floor=-60.0)
    noise = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    quiet, loud = log_mel.decibels([noise]), log_mel.decibels([2 * noise])
    torch.testing.assert_close(loud - quiet, torch.full_like(quiet, 20 * np.log10(2)), atol=1e-3, rtol=0)
    torch.testing.assert_close(log_mel.decibels([0 * noise]), torch.full_like(quiet, -60.0))


def test_silence_is_what_a_silent_clip_becomes(task):
    silent = task.normalisation(scene_module.LOG_MEL.decibels([torch.zeros(1, scene_sounds.SAMPLES)]))
    torch.testing.assert_close(silent, torch.full_like(silent, task.silence), atol=1e-5, rtol=0)


def test_the_training_part_alone_is_normalised_and_decibels_come_back(task):
    values = task.train.log_mels.double()
    assert abs(values.mean().item()) < 1e-4
    assert abs(values.std().item() - 1) < 1e-4
    both = Normalisation.of(torch.cat([task.train.log_mels, task.test.log_mels]))
    assert both.mean != pytest.approx(0, abs=1e-6)
    decibels = task.normalisation.decibels(task.test.log_mels)
    torch.testing.assert_close(task.normalisation(decibels), task.test.log_mels, atol=1e-5, rtol=0)


# Clips


def test_a_loader_gives_log_mels_and_labels(task):
    log_mels, labels = next(iter(DataLoader(task.train, 10)))
    assert torch.equal(log_mels, task.train.log_mels[:10])
    assert labels.tolist() == task.train.labels[:10].tolist()
    assert isinstance(task.train[3][1], int)


def test_one_label_per_clip():
    with pytest.raises(ValueError, match="one label per clip, but got 2 labels for 3 clips"):
        ClipDataset(torch.zeros(3, 1, 4, 4), torch.zeros(2))


def test_the_fingerprint_sees_every_value_and_label():
    clips = ClipDataset(torch.zeros(3, 1, 4, 4), torch.zeros(3, dtype=torch.int64))
    before = clips.fingerprint()
    assert ClipDataset(clips.log_mels.clone(), clips.labels.clone()).fingerprint() == before
    clips.log_mels[2, 0, 3, 3] = 1e-6
    after = clips.fingerprint()
    clips.labels[1] = 1
    assert len({before, after, clips.fingerprint()}) == 3


# Scenes


@pytest.mark.parametrize("index", [0, 13, 31])
def test_a_scene_can_be_made_alone(task, index):
    alone = task.normalisation(scene_module.LOG_MEL.decibels([task.waveform("test", index)[None]]))
    torch.testing.assert_close(alone[0], task.test[index][0], atol=1e-3, rtol=0)


def test_scenes_depend_on_seed_part_and_index_and_on_nothing_else():
    first = scene_module.scene(0, "train", 8).waveform
    assert np.array_equal(first, scene_module.scene(0, "train", 8).waveform)
    for other in [(1, "train", 8), (0, "test", 8), (0, "train", 16)]:
        assert np.corrcoef(first, scene_module.scene(*other).waveform)[0, 1] < 0.5


def test_the_backdrop_does_not_know_the_class(monkeypatch):
    """Whatever class a clip is given, its backdrop is the same to the last bit."""
    before = [scene_module.scene(2, "train", index) for index in range(24)]
    class_events = [scene_sounds.CLASS_EVENTS[name] for name in scene_module.CLASSES]
    others = dict(zip(scene_module.CLASSES, class_events[3:] + class_events[:3], strict=True))
    monkeypatch.setattr(scene_module, "CLASS_EVENTS", others)
    after = [scene_module.scene(2, "train", index) for index in range(24)]
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one.backdrop, other.backdrop)
        assert not np.array_equal(one.class_event, other.class_event)


def test_every_class_is_as_frequent_and_every_scheme_has_two(task):
    assert torch.bincount(task.train.labels).tolist() == [8] * 8
    schemes = {task.classes[task.test.labels[index]]: task.schemes(index) for index in range(len(task.test))}
    assert sorted(schemes.values()) == sorted(2 * [("square",), ("time",), ("frequency",), ("time-frequency",)])
    assert set(schemes) == set(task.classes)


@pytest.mark.parametrize("name", scene_module.CLASSES)
def test_the_truth_holds_the_class_event_and_little_else(name):
    for scene in scenes_of(name):
        truth, power = scene_module.truth(scene), class_event_power(scene)
        assert truth.shape == power.shape == (64, 126)
        assert power[truth].sum() > 0.85 * power.sum()
        assert truth.float().mean() < (0.45 if "rhythm" in name else 0.2)


@pytest.mark.parametrize("name", ["even rhythm", "galloping rhythm"])
def test_the_truth_of_a_rhythm_is_whole_columns(name):
    for scene in scenes_of(name):
        truth = scene_module.truth(scene)
        assert torch.equal(truth, truth[:1].expand_as(truth))


@pytest.mark.parametrize("name", ["low band", "high band"])
def test_the_truth_of_a_band_is_whole_rows(name):
    for scene in scenes_of(name):
        truth = scene_module.truth(scene)
        assert torch.equal(truth, truth[:, :1].expand_as(truth))


@pytest.mark.parametrize(("name", "sign"), [("rising chirp", 1), ("falling chirp", -1)])
def test_chirps_go_the_way_that_their_name_says(name, sign):
    for scene in scenes_of(name):
        power = class_event_power(scene)
        loud = power.sum(dim=0) > 0.3 * power.sum(dim=0).max()
        centroids = (power * torch.arange(64.0)[:, None]).sum(dim=0)[loud] / power.sum(dim=0)[loud]
        assert (sign * centroids.diff() > 0).float().mean() > 0.7
        assert 0.06 < loud.sum() * 0.016 < 0.2  # seconds


@pytest.mark.parametrize(("name", "ratio"), [("even rhythm", 1.0), ("galloping rhythm", 1.4 / 0.6)])
def test_rhythms_have_six_bursts_and_their_gaps_the_right_ratio(name, ratio):
    for scene in scenes_of(name):
        sounding = np.flatnonzero(scene.class_event)
        onsets = (
            np.concatenate([sounding[:1], sounding[1:][np.diff(sounding) > 160]]) / 16000
        )  # silent for 10 ms before
        gaps = np.diff(onsets)
        assert len(onsets) == 6
        assert gaps[1::2].mean() / gaps[::2].mean() == pytest.approx(ratio, rel=0.2)


@pytest.mark.parametrize(
    ("name", "band", "seconds"),
    [("short low tone", (620, 820), (0.14, 0.24)), ("long high tone", (2000, 2600), (0.55, 0.75))],
)
def test_tones_have_the_band_and_the_duration_of_their_name(name, band, seconds):
    for scene in scenes_of(name):
        spectrum = np.abs(np.fft.rfft(scene.class_event)) ** 2
        assert band[0] - 5 <= spectrum.argmax() / 2 <= band[1] + 5  # two seconds: half a Hz per bin
        assert seconds[0] - 0.01 <= np.count_nonzero(scene.class_event) / 16000 <= seconds[1] + 0.01


def test_neither_band_nor_duration_alone_makes_a_tone_the_class_event():
    """The other two combinations are distractors, in clips of every class."""
    found = set()
    for index in range(60):
        for event in scene_sounds.distractors(np.random.default_rng([9, index])):
            if event.gate:
                found.add((event.band[0] > 1000, event.gate[1] - event.gate[0] > 0.4))
    assert found == {(False, True), (True, False)}


def test_an_event_has_the_signal_to_noise_ratio_that_it_is_given():
    rng = np.random.default_rng(0)
    noise = scene_sounds._shaped_noise(rng, scene_sounds._PINK)
    event = scene_sounds._tone(rng, scene_sounds.LOW_TONE, scene_sounds.LONG, [])
    heard = scene_sounds.scaled(event, np.abs(np.fft.rfft(noise)) ** 2, 12.0)
    spectrum, hertz = np.fft.rfft(noise), np.fft.rfftfreq(len(noise), 1 / 16000)
    in_band = np.fft.irfft(np.where((hertz >= event.band[0]) & (hertz < event.band[1]), spectrum, 0))
    ratio = np.mean(heard[heard != 0] ** 2) / np.mean(in_band**2)
    assert 10 * np.log10(ratio) == pytest.approx(12.0, abs=0.1)


def test_scenes_do_not_clip_and_the_class_event_is_not_simply_the_loudest():
    loudest_is_class_event = []
    for index in range(96):
        scene = scene_module.scene(0, "test", index)
        assert np.abs(scene.waveform).max() < 1
        decibels = scene_module.LOG_MEL.decibels([torch.from_numpy(scene.waveform)[None]])[0, 0]
        loudest_is_class_event.append(scene_module.truth(scene).flatten()[decibels.argmax()].item())
    assert 0.1 < np.mean(loudest_is_class_event) < 0.5


def test_the_second_time_scenes_come_from_the_cache(task, monkeypatch):
    first = scene_module.make_scenes(4, train_clips=8, test_clips=8)
    made = []
    scene = scene_module.scene
    monkeypatch.setattr(scene_module, "scene", lambda *which: made.append(which) or scene(*which))
    again = scene_module.make_scenes(4, train_clips=8, test_clips=8)
    assert torch.equal(first.train.log_mels, again.train.log_mels)
    assert sorted(made) == [(4, split, index) for split in ("test", "train") for index in (0, 7)]  # the compared ones


# Recordings


def test_an_unknown_task_is_refused():
    with pytest.raises(
        ValueError,
        match="expected `name` to be one of scenes, crowded, digits, environment, vocoded, spliced, but got 'scene'",
    ):
        load_task("scene")


@pytest.mark.parametrize("name", ["digits", "environment", "vocoded", "spliced"])
def test_missing_recordings_are_explained(name, tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(FileNotFoundError, match=f"expected {VARIABLE} to name the folder"):
        load_task(name)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(FileNotFoundError, match="but there is none"):
        load_task(name)


def test_the_key_of_a_recording_knows_that_the_file_was_replaced_by_one_of_the_same_size(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"first")
    os.utime(path, ns=(0, 1))
    first = Recording(path, 0, "train").key
    assert Recording(path, 0, "train").key == first
    path.write_bytes(b"other")
    os.utime(path, ns=(0, 2))
    assert Recording(path, 0, "train").key != first


def test_recordings_are_resampled_padded_and_cut(tmp_path):
    path = tmp_path / "tone.wav"
    soundfile.write(path, 0.5 * np.sin(2 * np.pi * 440 * np.arange(44100) / 44100), 44100)
    longer, shorter = read_resampled(path, 22050, 30000), read_resampled(path, 22050, 10000)
    expected = 0.5 * torch.sin(2 * torch.pi * 440 * torch.arange(22050) / 22050)
    torch.testing.assert_close(longer[100:21900], expected[100:21900], atol=1e-2, rtol=0)
    assert not longer[22050:].any()
    torch.testing.assert_close(shorter, longer[:10000], atol=1e-6, rtol=0)  # less of the file was read and resampled
    assert torch.equal(read_resampled(path, 22050), longer[:22050])


def test_a_recording_that_cannot_be_used_is_named(tmp_path):
    soundfile.write(tmp_path / "bad.wav", np.full(800, np.nan), 8000, subtype="FLOAT")
    with pytest.raises(ValueError, match=r"bad\.wav.* NaN or infinity"):
        read_resampled(tmp_path / "bad.wav", 8000, 800)


def test_resampling_is_expected_and_mixing_channels_gives_a_warning(tmp_path):
    soundfile.write(tmp_path / "mono.wav", np.zeros(800), 16000)
    soundfile.write(tmp_path / "stereo.wav", np.array([[0.5, 0.25]] * 800), 8000, subtype="FLOAT")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_resampled(tmp_path / "mono.wav", 8000)
    with pytest.warns(UserWarning, match="2 channels are mixed down"):
        sound = read_resampled(tmp_path / "stereo.wav", 8000)
    assert torch.equal(sound, torch.full((800,), 0.375))


def test_digits_are_parted_by_take_and_labelled_by_name(tmp_path, monkeypatch):
    (tmp_path / "fsdd").mkdir()
    rng = np.random.default_rng(0)
    for name in ["0_anna_0", "0_anna_5", "7_bert_4", "7_bert_12", "9_anna_49"]:
        soundfile.write(tmp_path / "fsdd" / f"{name}.wav", 0.1 * rng.standard_normal(4000), 8000)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    task = load_task("digits")
    assert task.train.labels.tolist() == [0, 7, 9]  # takes 5, 12 and 49
    assert task.test.labels.tolist() == [0, 7]
    assert task.test[0][0].shape == (1, 64, 126)
    assert task.waveform("test", 1).shape == (8000,)
    torch.testing.assert_close(task.test[0][0][..., -1], torch.full((1, 64), task.silence))


def test_environment_is_parted_by_fold_and_its_classes_named_by_folder(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for folder in ["001_dog_bark", "002_rain"]:
        (tmp_path / "esc10" / folder).mkdir(parents=True)
        for fold in range(1, 6):
            soundfile.write(tmp_path / "esc10" / folder / f"{fold}-10-A.ogg", 0.1 * rng.standard_normal(8820), 44100)
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    task = load_task("environment")
    assert task.classes == ("dog bark", "rain")
    assert task.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert task.test.labels.tolist() == [0, 1]


@needs_recordings
@pytest.mark.parametrize(("name", "train", "test"), [("digits", 225, 25), ("environment", 24, 8)])
def test_real_recordings_are_complete_and_finite(name, train, test):
    task = load_task(name)
    assert torch.bincount(task.train.labels).tolist() == [train] * 10
    assert torch.bincount(task.test.labels).tolist() == [test] * 10
    assert task.train.log_mels.isfinite().all()
    assert task.train.log_mels.min() >= task.silence - 1e-4
    log_mel = importlib.import_module(f"benchmarks.tasks.{name}").LOG_MEL
    own = task.normalisation(log_mel.decibels([task.waveform("test", 7)[None]]))[0]
    torch.testing.assert_close(own, task.test[7][0], atol=1e-4, rtol=0)


# Contact sheet


def test_the_contact_sheet_shows_every_class_with_its_truth(task):
    figure = contact_sheet(task)
    panels = [panel for panel in figure.axes if panel.images]
    assert [panel.get_title() for panel in panels] == list(task.classes)
    for index, panel in enumerate(panels):
        shown = panel.images[0].get_array()
        np.testing.assert_allclose(shown, task.normalisation.decibels(task.test.log_mels[index, 0]), rtol=1e-5)
        rows, columns = np.nonzero(task.truth(index).numpy())
        outline = panel.patches[0].get_path().get_extents()
        assert (outline.y0, outline.y1) == pytest.approx(
            (task.axes.hertz(float(rows.min())), task.axes.hertz(float(rows.max() + 1)))
        )
        seconds = task.axes.seconds(float(columns.min())), task.axes.seconds(float(columns.max() + 1))
        assert (outline.x0, outline.x1) == pytest.approx(seconds)


def test_clips_are_what_the_task_has(task):
    clip = TaskClips(task, "train")[5]
    torch.testing.assert_close(clip.decibels, task.normalisation.decibels(task.train[5][0][0]))
    assert torch.equal(clip.waveform, task.waveform("train", 5))
    assert (clip.axes, clip.label) == (task.axes, task.classes[task.train[5][1]])


def test_a_contact_sheet_needs_a_clip_of_every_class():
    with pytest.raises(ValueError, match="none of 'falling chirp'"):
        contact_sheet(scene_module.make_scenes(0, train_clips=8, test_clips=1))


def test_the_registry_makes_tasks_of_its_names(task):
    assert set(TASKS) == {"scenes", "crowded", "digits", "environment", "vocoded", "spliced"}
    assert TASKS["scenes"](3, train_clips=64, test_clips=32).train.fingerprint() == task.train.fingerprint()
