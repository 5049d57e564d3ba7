"""Vocoded digits: that nothing but the vocoder tells the twins apart, and that the truth is where they differ."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from benchmarks.tasks import load_task
from benchmarks.tasks import vocoded as module
from benchmarks.tasks.digits import LOG_MEL, SAMPLES
from benchmarks.tasks.recorded_task import VARIABLE
from benchmarks.tasks.vocoded import CLASSES, FADE, HOP, ITERATIONS, LEVEL, N_FFT, Twin, difference, finished, vocoded

needs_recordings = pytest.mark.skipif(
    not os.environ.get(VARIABLE), reason=f"{VARIABLE} does not name a folder of recordings"
)

LENGTHS = {  # samples; no two alike, so that a length says which recording a clip comes from
    "0_anna_0": 2000, "0_anna_5": 2100, "0_anna_30": 2200,
    "3_bert_1": 3001, "3_bert_6": 3100,
    "7_anna_4": 9500, "7_anna_24": 2800,
    "9_bert_2": 600, "9_bert_10": 1777,
}  # fmt: skip


def speech_like(length, seed):
    """A gliding tone with harmonics, coming and going, in faint noise, with an offset."""
    rng = np.random.default_rng(seed)
    phase = 2 * np.pi * np.cumsum(np.linspace(120, 180, length)) / 8000
    tones = sum(np.sin(k * phase) / k for k in range(1, 15))
    return 0.1 * tones * np.sin(np.pi * np.arange(length) / length) ** 2 + 0.002 * rng.standard_normal(length) + 0.01


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPTUM_APEX_CACHE", str(tmp_path / "cache"))


def write_recordings(folder, names=tuple(LENGTHS)):
    (folder / "fsdd").mkdir()
    for seed, name in enumerate(names):
        soundfile.write(folder / "fsdd" / f"{name}.wav", speech_like(LENGTHS[name], seed), 8000, subtype="PCM_16")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_recordings(tmp_path_factory.mktemp("recordings"))


@pytest.fixture(scope="module")
def task(folder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTUM_APEX_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv(VARIABLE, str(folder))
        return load_task("vocoded")


def pairs(task):
    """Real and vocoded test clips as they sound, with the index of the vocoded one."""
    return [(task.waveform("test", i - 1), task.waveform("test", i), i) for i in range(1, len(task.test), 2)]


def last_sound(waveform):
    return int(waveform.nonzero().max()) + 1


def magnitudes(sound):
    """Slow short-time Fourier transform with a Hann window, without margins: shape (frame, bin)."""
    sound = sound.double().numpy()
    window = np.sin(np.pi * np.arange(400) / 400) ** 2
    return np.stack(
        [np.abs(np.fft.rfft(window * sound[start : start + 400])) for start in range(0, len(sound) - 400, 100)]
    )


# Splits


def test_every_recording_of_a_part_gives_a_real_and_a_vocoded_clip(task):
    assert task.name == "vocoded"
    assert task.classes == CLASSES == ("real", "vocoded")
    assert task.test.labels.tolist() == 4 * [0, 1]  # takes 0 to 4
    assert task.train.labels.tolist() == 4 * [0, 1]  # takes 5 to 24; take 30 is in neither
    assert task.test[0][0].shape == (1, 64, 126)
    assert task.schemes is None


def test_both_twins_come_from_one_recording_and_lie_in_one_part(task):
    """Seen by what is heard: each length belongs to one recording."""
    expected = {
        "test": ["0_anna_0", "3_bert_1", "7_anna_4", "9_bert_2"],
        "train": ["0_anna_5", "3_bert_6", "7_anna_24", "9_bert_10"],
    }
    for split, names in expected.items():
        for place, name in enumerate(names):
            for index in (2 * place, 2 * place + 1):
                heard = last_sound(task.waveform(split, index))
                assert min(LENGTHS[name], SAMPLES) - 10 < heard <= min(LENGTHS[name], SAMPLES)


def test_the_twin_is_the_other_class_of_the_same_recording(task):
    for index in range(len(task.test)):
        twin = task.twin(index)
        assert task.twin(twin) == index
        assert {int(task.test.labels[index]), int(task.test.labels[twin])} == {0, 1}
        distances = (task.test.log_mels - task.test.log_mels[index]).flatten(1).norm(dim=1)
        distances[index] = float("inf")
        assert int(distances.argmin()) == twin


def test_every_count_of_iterations_is_as_frequent_in_both_parts():
    twins = [
        twin for digit in range(10) for take in range(50) for twin in module._twins(Path(f"{digit}_anna_{take}.wav"))
    ]
    for split, recordings in (("test", 50), ("train", 200)):
        counts = [twin.iterations for twin in twins if twin.split == split]
        assert counts.count(0) == recordings
        for iterations in ITERATIONS:
            assert abs(counts.count(iterations) - recordings / len(ITERATIONS)) <= 1


# What both classes share


def test_both_classes_have_the_same_level_mean_steps_ends_and_padding(task):
    lengths = [min(LENGTHS[name], SAMPLES) for name in sorted(LENGTHS) if int(name.split("_")[2]) < 5]
    for (real, fake, _), length in zip(pairs(task), lengths, strict=True):
        for clip in (real, fake):
            assert clip.shape == (SAMPLES,)
            assert clip.dtype == torch.float32
            assert clip.square().sum().item() == pytest.approx(length * LEVEL**2, rel=1e-3)
            assert abs(clip.double().sum().item() / length) < 1e-5
            assert torch.equal(clip * 2**15, (clip * 2**15).round())
            assert clip[0] == 0
            assert length - 10 < last_sound(clip) <= length  # the last samples of a fade may round to zero


def test_padding_is_silence_in_both_classes(task):
    for real, fake, index in pairs(task):
        after = last_sound(real) + 128 + 64  # half a window and a hop behind the last sample
        frames = slice(-(-after // 64), 126)
        assert torch.all(task.test.log_mels[[index - 1, index]][..., frames] <= task.silence + 1e-4)
        assert torch.equal(real[after:], fake[after:])


def test_the_real_clip_is_the_recording_but_for_mean_fades_level_and_steps(task, folder):
    sound, _ = soundfile.read(folder / "fsdd" / "3_bert_1.wav")
    gain = np.ones(len(sound))
    for i in range(FADE):
        gain[i] = gain[-1 - i] = np.sin(np.pi / 2 * i / (FADE - 1)) ** 2
    sound = gain * (sound - np.average(sound, weights=gain))
    sound *= LEVEL / np.sqrt(np.mean(sound**2))
    heard = task.waveform("test", 2).double().numpy()
    np.testing.assert_allclose(heard[: len(sound)], sound, atol=0.51 / 2**15, rtol=0)
    assert not heard[len(sound) :].any()


@pytest.mark.parametrize("iterations", [0, 16])
def test_the_offset_of_a_recording_changes_nothing(iterations, tmp_path):
    clips = []
    for offset in (0.0, 0.25):
        soundfile.write(tmp_path / "0_anna_0.wav", speech_like(2000, 0) + offset, 8000, subtype="FLOAT")
        clips.append(Twin(tmp_path / "0_anna_0.wav", 0, "test", iterations).waveform(8000, 8000))
    torch.testing.assert_close(clips[0], clips[1], atol=2e-3, rtol=0)


def test_loud_peaks_are_cut_at_16_bits():
    click = torch.zeros(4000)
    click[2000] = 1.0
    assert finished(click).max() == (2**15 - 1) / 2**15


def test_the_transform_and_its_inverse_give_the_recording_back():
    """So the real clip needs no re-synthesis with its own phases: it would be the same."""
    sound, window = torch.from_numpy(speech_like(3001, 0)), torch.hann_window(N_FFT, dtype=torch.float64)
    spectrum = torch.stft(sound, N_FFT, HOP, window=window, return_complex=True)
    torch.testing.assert_close(torch.istft(spectrum, N_FFT, HOP, window=window, length=3001), sound, atol=1e-12, rtol=0)


def test_the_vocoder_is_as_loud_at_both_ends_as_inside():
    """If frames end at the ends, the sound is too loud there, and a detector could learn the ends, not the vocoder."""
    noises = torch.randn(48, 1500, generator=torch.Generator().manual_seed(0))
    fakes = torch.stack([vocoded(noise, 4, seed=seed) for seed, noise in enumerate(noises)])
    for place in (slice(0, 64), slice(-64, None), slice(700, 764)):
        gain = 10 * torch.log10(fakes[:, place].square().mean() / noises[:, place].square().mean()).item()
        assert gain == pytest.approx(0, abs=1)


# The vocoder


def test_more_iterations_come_closer_to_the_magnitudes():
    sound = torch.from_numpy(speech_like(4000, 0) - 0.01).float()
    wanted = magnitudes(sound)
    errors = [
        np.linalg.norm(magnitudes(vocoded(sound, n, seed=1)) - wanted) / np.linalg.norm(wanted)
        for n in (1, *ITERATIONS)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.25


def test_a_vocoded_tone_has_its_frequency_and_level_but_not_its_phase():
    tone = torch.sin(2 * torch.pi * 500 * torch.arange(4000) / 8000)
    fakes = torch.stack([vocoded(tone, 64, seed=seed)[1000:3000] for seed in range(4)])
    spectra = torch.fft.rfft(fakes * torch.hann_window(2000))
    assert spectra.abs().argmax(dim=1).tolist() == 4 * [500 * 2000 // 8000]
    torch.testing.assert_close(fakes.square().mean(dim=1), torch.full((4,), 0.5), atol=0.05, rtol=0)
    phases = spectra[:, 500 * 2000 // 8000].angle()
    assert (phases - phases[0]).cos().min() < 0.9


def test_the_task_is_the_same_whatever_the_random_state_and_leaves_it_alone(task, folder, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(folder))
    torch.manual_seed(123)
    before = torch.get_rng_state()
    again = load_task("vocoded")  # the cache of this test is empty
    assert torch.equal(torch.get_rng_state(), before)
    assert again.train.fingerprint() == task.train.fingerprint()
    assert again.test.fingerprint() == task.test.fingerprint()


def test_what_is_heard_is_what_is_classified(task):
    for index in range(len(task.test)):
        heard = task.normalisation(LOG_MEL.decibels([task.waveform("test", index)[None]]))[0]
        torch.testing.assert_close(heard, task.test.log_mels[index], atol=1e-4, rtol=0)


def test_recordings_get_phases_of_their_own():
    sound = torch.from_numpy(speech_like(2000, 0)).float()
    assert not torch.equal(vocoded(sound, 4, seed=1), vocoded(sound, 4, seed=2))
    assert torch.equal(vocoded(sound, 4, seed=1), vocoded(sound, 4, seed=1))


def test_the_second_time_vocoded_clips_come_from_the_cache(folder, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(folder))
    first = load_task("vocoded")
    made = []
    vocoded = module.vocoded
    monkeypatch.setattr(module, "vocoded", lambda *given, **more: made.append(given) or vocoded(*given, **more))
    assert load_task("vocoded").test.fingerprint() == first.test.fingerprint()
    assert len(made) == 2  # the last clip of each split, which is compared; the first one is real
    assert len(first.train) // 2 + len(first.test) // 2 > 2


@pytest.mark.parametrize("name", ["N_FFT", "HOP", "FADE", "LEVEL"])
def test_a_cache_entry_knows_how_its_clips_were_made(name, folder, monkeypatch):
    path = folder / "fsdd" / "0_anna_0.wav"
    keys = [Twin(path, 1, "test", 4).key, Twin(path, 1, "test", 16).key]
    monkeypatch.setattr(module, name, 2 * getattr(module, name))
    keys.append(Twin(path, 1, "test", 4).key)
    assert keys[0] != keys[1]
    assert keys[0] != keys[2]


# Truth


def test_the_truth_is_where_the_twins_differ_by_more_than_3_db_within_40_db_of_the_loudest(task):
    for real, fake, index in pairs(task):
        levels = [LOG_MEL.decibels([clip[None]])[0, 0].tolist() for clip in (real, fake)]
        loudest = max(max(row) for level in levels for row in level)
        truth, wrong = task.truth(index), 0
        assert truth.shape == (64, 126)
        assert truth.dtype == torch.bool
        for band in range(64):
            for frame in range(126):
                first, second = levels[0][band][frame], levels[1][band][frame]
                distances = (abs(first - second) - 3, max(first, second) - (loudest - 40))
                expected = distances[0] > 0 and distances[1] > 0
                if min(abs(distance) for distance in distances) > 1e-3:  # rounding decides nearer than that
                    wrong += expected != bool(truth[band, frame])
        assert wrong == 0
        assert 0.002 < truth.float().mean() < 0.4


def test_a_real_clip_has_no_truth(task):
    for index in range(0, len(task.test), 2):
        assert not task.truth(index).any()
        assert task.truth(task.twin(index)).any()


def test_the_difference_is_the_vocoded_twins_level_less_the_real_ones(task):
    for real, fake, index in pairs(task):
        expected = LOG_MEL.decibels([fake[None]])[0, 0] - LOG_MEL.decibels([real[None]])[0, 0]
        torch.testing.assert_close(difference(task, index), expected, atol=2e-3, rtol=0)
        assert torch.equal(difference(task, index), difference(task, task.twin(index)))
        assert torch.all(difference(task, index)[task.truth(index)].abs() > 3)


# Errors


@pytest.mark.parametrize("missing", ["train", "test"])
def test_a_part_without_recordings_is_named(missing, tmp_path, monkeypatch):
    names = {"train": ["0_anna_0", "0_anna_30"], "test": ["0_anna_5"]}[missing]
    monkeypatch.setenv(VARIABLE, str(write_recordings(tmp_path, names)))
    with pytest.raises(
        FileNotFoundError, match=f"expected recordings for the {missing} split of vocoded, but found none"
    ):
        load_task("vocoded")


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        (0.1 * np.ones(512), r"expected a recording of more than 512 samples, but .*0_anna_0\.wav has 512"),
        (0.1 * np.ones(1000), r"expected a recording with sound in it, but .*0_anna_0\.wav is silent"),
    ],
)
def test_recordings_that_cannot_be_vocoded_are_named(sound, message, tmp_path):
    soundfile.write(tmp_path / "0_anna_0.wav", sound, 8000)
    for iterations in (0, 4):
        with pytest.raises(ValueError, match=message):
            Twin(tmp_path / "0_anna_0.wav", 0, "test", iterations).waveform(8000, 8000)


# Real recordings


@needs_recordings
def test_real_twins_differ_in_a_small_share_of_the_clip(tmp_path, monkeypatch):
    (tmp_path / "fsdd").mkdir()
    for name in ["0_george_0", "3_jackson_1", "5_theo_2", "6_lucas_3", "8_nicolas_4", "1_george_5"]:
        shutil.copy(Path(os.environ[VARIABLE]) / "fsdd" / f"{name}.wav", tmp_path / "fsdd")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    task = load_task("vocoded")
    for real, fake, index in pairs(task):
        assert fake.abs().max() < 1
        assert fake.square().sum().item() == pytest.approx(real.square().sum().item(), rel=1e-3)
        assert 0.01 < task.truth(index).float().mean() < 0.2
        assert abs(difference(task, index)[task.truth(index)].mean()) < 3  # it is not a matter of level
