"""Spliced digits: that the part alone is changed, that it keeps its energy, and that the truth is where it lies."""

import math
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from benchmarks.tasks import load_task
from benchmarks.tasks import spliced as module
from benchmarks.tasks.digits import LOG_MEL, RATE, SAMPLES
from benchmarks.tasks.recorded_task import VARIABLE
from benchmarks.tasks.spliced import CROSS_FADE, ITERATIONS, SCHEMES, SLOPE, Part, SplicedTwin, chosen_part, spliced
from benchmarks.tasks.vocoded import LEVEL, N_FFT, vocoded
from tests.benchmarks.tasks.test_vocoded import LENGTHS, last_sound, speech_like, write_recordings

needs_recordings = pytest.mark.skipif(
    not os.environ.get(VARIABLE), reason=f"{VARIABLE} does not name a folder of recordings"
)
SOUND = torch.tensor(speech_like(4_000, seed=3), dtype=torch.float32)
PARTS = {
    "time": Part(1_000, 2_500),
    "band": Part(0, 4_000, 500.0, 1_500.0),
    "rectangle": Part(1_000, 2_500, 500.0, 1_500.0),
}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = write_recordings(tmp_path_factory.mktemp("recordings"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTUM_APEX_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv(VARIABLE, str(folder))
        return load_task("spliced")


def power_by_frequency(sound):
    return np.abs(np.fft.rfft(np.asarray(sound, dtype=float), 2**14)) ** 2, np.fft.rfftfreq(2**14, 1 / RATE)


@pytest.mark.parametrize("kind", SCHEMES)
def test_nothing_but_the_part_is_changed(kind):
    part = PARTS[kind]
    change = (spliced(SOUND, part, 2, seed=5) - SOUND).double()
    outside = torch.ones(len(SOUND), dtype=torch.bool)
    outside[max(0, part.start - CROSS_FADE) : part.end + CROSS_FADE] = False
    assert outside.any() == (kind != "band")
    assert not change[outside].any()
    power, hertz = power_by_frequency(change)
    beside = (hertz < part.low - 2 * SLOPE) | (hertz > part.high + 2 * SLOPE)
    if beside.any():
        assert power[beside].sum() < 2e-3 * power.sum()
    assert change.norm() > 0.1 * SOUND.norm()


@pytest.mark.parametrize("kind", SCHEMES)
def test_the_middle_of_the_part_is_the_vocoded_sound_with_one_gain(kind):
    part = PARTS[kind]
    mixed = spliced(SOUND, part, 2, seed=5)
    other = vocoded(SOUND, 2, seed=5)
    inside = slice(part.start + CROSS_FADE, part.end - CROSS_FADE)
    if kind == "time":
        ratio = mixed[inside] / other[inside]
        assert ratio.std() < 1e-3 * ratio.abs().mean()
    else:
        mixed, other = (part.of(each)[inside] for each in (mixed, other))
        assert np.corrcoef(mixed, other)[0, 1] > 0.97  # the slopes of the band mix both


@pytest.mark.parametrize("kind", SCHEMES)
def test_the_part_keeps_its_energy(kind):
    part = PARTS[kind]
    before, other = part.of(SOUND), part.of(vocoded(SOUND, 2, seed=5))
    put_in = spliced(SOUND, part, 2, seed=5).double() - SOUND.double() + before
    assert put_in.square().sum().item() == pytest.approx(before.square().sum().item(), rel=1e-4)
    assert np.corrcoef(put_in, other)[0, 1] > 0.999


def test_the_part_of_a_sound_is_half_at_its_borders_and_whole_where_it_has_none():
    weights = Part(1_000, 2_500).in_time(4_000)
    assert weights[999:1_001].mean() == pytest.approx(0.5, abs=1e-3)
    assert weights[2_499:2_501].mean() == pytest.approx(0.5, abs=1e-3)
    assert torch.all(weights[1_000 + CROSS_FADE : 2_500 - CROSS_FADE] == 1)
    assert torch.all(weights[: 1_000 - CROSS_FADE] == 0)
    assert torch.all(Part(0, 4_000).in_time(4_000) == 1)
    hertz = torch.tensor([0.0, 400.0, 500.0, 1_000.0, 1_500.0, 1_600.0], dtype=torch.float64)
    expected = torch.tensor([0, 0, 0.5, 1, 0.5, 0], dtype=torch.float64)
    assert torch.allclose(PARTS["band"].in_frequency(hertz), expected)
    assert torch.all(Part(0, 4_000).in_frequency(hertz) == 1)
    assert torch.allclose(Part(0, 4_000).of(SOUND), SOUND.double(), atol=1e-9)


def test_a_part_of_tones_has_the_tones_within_it():
    seconds = torch.arange(4_000) / RATE
    low, high = (torch.sin(2 * torch.pi * frequency * seconds) for frequency in (1_000.0, 3_000.0))
    found = PARTS["band"].of(low + high)[500:3_500]  # without the ends of the tones
    assert torch.allclose(found, low[500:3_500].double(), atol=0.02)


@pytest.mark.parametrize("kind", SCHEMES)
def test_a_place_is_random_and_not_faint(kind):
    parts = [chosen_part(SOUND, kind, seed=seed) for seed in range(40)]
    assert parts[3] == chosen_part(SOUND, kind, seed=3)
    assert len(set(parts)) > 30
    for part in parts:
        assert 0 <= part.start < part.end <= len(SOUND)
        assert (kind == "band") == (part.end - part.start == len(SOUND))
        assert kind == "band" or 0.29 < (part.end - part.start) / len(SOUND) < 0.51
        assert (kind == "time") == math.isinf(part.high)
        assert kind == "time" or module.LOWEST <= part.low < part.high <= module.HIGHEST + 1e-6
    silent = SOUND.clone()
    silent[1_500:] = 0  # the word is at the beginning
    assert all(chosen_part(silent, "time", seed=seed).start < 1_500 for seed in range(40))


def test_both_twins_have_the_same_level_steps_and_length(task):
    lengths = [min(LENGTHS[name], SAMPLES) for name in sorted(LENGTHS) if int(name.split("_")[2]) < 5]
    for i, length in enumerate(lengths):
        for index in (2 * i, 2 * i + 1):
            clip = task.waveform("test", index)
            assert clip.square().sum().item() == pytest.approx(length * LEVEL**2, rel=1e-3)
            assert torch.equal(clip * 2**15, (clip * 2**15).round())
            assert length - 10 < last_sound(clip) <= length


def test_the_truth_is_where_the_twins_differ(task):
    for index in range(1, len(task.test), 2):
        truth = task.truth(index)
        real, other = (task.normalisation.decibels(task.test.log_mels[i, 0]) for i in (index - 1, index))
        louder = torch.maximum(real, other)
        difference = (real - other).abs() * (louder > louder.max() - 40)
        assert truth.any()
        assert difference[truth].mean() > 3 * difference[~truth].mean()
        assert not task.truth(index - 1).any()  # nothing in a real clip was changed
        assert task.twin(index) == index - 1


def test_the_truth_is_a_rectangle_of_the_kind_of_the_part(task):
    for index in range(1, len(task.test), 2):
        truth = task.truth(index)
        rows, columns = truth.any(1), truth.any(0)
        assert torch.equal(truth, rows[:, None] & columns)
        assert ("time" in task.schemes(index) and len(task.schemes(index)) == 1) == bool(rows.all())
        assert set(task.schemes(index)) <= {"square", "time", "frequency", "time-frequency"}


def test_a_truth_lies_at_the_seconds_and_hertz_of_its_part():
    twin = SplicedTwin(Path("a.wav"), 1, "test", "rectangle", 2)
    twin.__dict__["part"] = Part(2_000, 4_000, 1_000.0, 2_000.0)
    truth = module._truth([twin])(0)
    columns = truth.any(0).nonzero().flatten() * LOG_MEL.hop / RATE
    assert columns[0] == pytest.approx(0.25, abs=LOG_MEL.hop / RATE)
    assert columns[-1] == pytest.approx(0.5, abs=LOG_MEL.hop / RATE)
    hertz = LOG_MEL.axes.bin_centres[truth.any(1)]
    assert hertz[0] == pytest.approx(1_000, abs=60)
    assert hertz[-1] == pytest.approx(2_000, abs=90)


def test_kinds_and_iterations_are_as_frequent_in_both_parts():
    twins = [
        twin for digit in range(10) for take in range(50) for twin in module._twins(Path(f"{digit}_anna_{take}.wav"))
    ]
    for split, recordings in (("test", 50), ("train", 200)):
        pairs = [(twin.kind, twin.iterations) for twin in twins if twin.split == split and twin.label == 1]
        assert len(pairs) == recordings
        for kind in SCHEMES:
            for iterations in ITERATIONS:
                assert abs(pairs.count((kind, iterations)) - recordings / 9) < 1


def test_recordings_that_cannot_be_vocoded_are_named(tmp_path):
    folder = tmp_path / "fsdd"
    folder.mkdir()
    soundfile.write(folder / "0_anna_0.wav", np.zeros(4_000), RATE)
    soundfile.write(folder / "0_anna_1.wav", SOUND[:N_FFT].numpy(), RATE)
    for name, message in (("0_anna_0", "with sound in it"), ("0_anna_1", f"more than {N_FFT} samples")):
        with pytest.raises(ValueError, match=f"{message}, but .*{name}.wav"):
            SplicedTwin(folder / f"{name}.wav", 1, "test", "time", 2).waveform(RATE, SAMPLES)


@needs_recordings
def test_real_digits_differ_on_their_part():
    path = sorted(Path(os.environ[VARIABLE], "fsdd").glob("7_*_0.wav"))[0]
    for kind in SCHEMES:
        real, other = (SplicedTwin(path, label, "test", kind, 2 * label) for label in (0, 1))
        truth = module._truth([other])(0)
        log_mels = [LOG_MEL.decibels([each.waveform(RATE, SAMPLES)[None]])[0, 0] for each in (real, other)]
        difference = (log_mels[0] - log_mels[1]).abs()
        assert difference[truth].mean() > 3 * difference[~truth].mean()
