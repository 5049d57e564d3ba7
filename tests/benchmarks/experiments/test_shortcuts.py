"""A planted sound: it is in the clips that shall have it, and what is counted is what a loop counts."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.classifiers.recipes import Recipe
from benchmarks.classifiers.training import train_classifier
from benchmarks.experiments import shortcuts
from benchmarks.experiments.planted_sounds import Click, Hum, planted
from benchmarks.experiments.shortcuts import COLUMNS, _reliance, channel_falls, shortcut_table
from benchmarks.tasks.scenes import make_scenes
from captum_apex import APEX, FeatureBank, basis_from_matrix, fit_basis
from captum_apex.layers.origin import Origin
from tests import oracles

TASK = make_scenes(3, train_clips=24, test_clips=16)


def test_the_hum_is_a_tone_at_its_level():
    added = Hum(frequency=500.0, level=-20.0).added_to(torch.zeros(8000), 8000)
    spectrum = np.abs(np.fft.rfft(added.numpy())) / 4000
    assert spectrum.argmax() == 500
    assert spectrum.max() == pytest.approx(0.1, rel=1e-4)


def test_the_click_is_a_short_broadband_pulse_at_its_level_and_time():
    added = Click(level=-20.0, start=0.1).added_to(torch.zeros(8000), 8000)
    assert added.abs().max().item() == pytest.approx(0.1)
    assert not added[:800].any()
    power = added.square()
    assert power[800:880].sum() > 0.99 * power.sum()  # in 10 ms
    spectrum = np.abs(np.fft.rfft(added[800:1056].numpy())) ** 2
    quarters = [part.sum() / spectrum.sum() for part in np.array_split(spectrum, 4)]
    assert min(quarters) > 0.1  # of the band up to 4 kHz
    louder = Click(level=0.0, start=0.1).added_to(torch.zeros(8000), 8000)
    torch.testing.assert_close(louder, 10 * added)
    torch.testing.assert_close(Click(level=-20.0, start=0.1).added_to(torch.ones(8000), 8000) - 1, added)


def test_the_click_is_in_all_bands_of_a_few_frames():
    clean = torch.zeros_like(TASK.waveform("train", 0))
    click = Click(level=0.0, start=0.5).added_to(clean, TASK.sample_rate)
    before, after = TASK.log_mel.decibels([torch.stack([clean, click])])
    raised = (after - before)[0] >= 1.0
    frames = raised.any(0).nonzero()[:, 0]
    place = 0.5 * TASK.sample_rate / TASK.log_mel.hop
    assert abs(frames.float().mean().item() - place) < 2
    assert len(frames) <= TASK.log_mel.n_fft / TASK.log_mel.hop + 2
    assert raised[:, round(place)].all()


def test_only_the_chosen_clips_have_it_and_only_at_its_frequency():
    hum = Hum(frequency=1000.0, level=-30.0)
    noisy = planted(TASK, "train", hum, [0, 8])
    changed = (noisy.log_mels != TASK.train.log_mels).flatten(1).any(1).nonzero()[:, 0].tolist()
    assert changed == [0, 8]
    assert torch.equal(noisy.labels, TASK.train.labels)
    rise = (noisy.log_mels - TASK.train.log_mels)[[0, 8]].mean((0, 1, 3))  # of each band
    mel = [2595 * math.log10(1 + hertz / 700) for hertz in (50, 8000, 1000)]
    assert abs(rise.argmax().item() - ((mel[2] - mel[0]) / (mel[1] - mel[0]) * 65 - 1)) <= 1


def test_the_falls_are_those_of_a_loop():
    grids = torch.rand(6, 4, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    clean = grids * torch.linspace(0, 1, 4, dtype=torch.float64)[:, None, None]  # the first channel was all hum
    bank = FeatureBank({"time": grids.mean(2)}, grids.mean((2, 3)), None, Origin("layer", grid=(2, 3), n_clips=6))
    U = torch.linalg.qr(torch.rand(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64))[0]
    for matrix in (torch.eye(4, dtype=torch.float64), U):
        expected = []
        for channel in range(4):
            clips = oracles.prototypes(grids, matrix, channel, 2)
            before = sum(oracles.activation(grids[clip], matrix, channel) for clip in clips)
            after = sum(oracles.activation(clean[clip], matrix, channel) for clip in clips)
            expected.append(1 - after / before if before > 0 else 0.0)
        found = channel_falls(basis_from_matrix(bank, "time", matrix, n_prototypes=2), clean.mean((2, 3)))
        assert found.tolist() == pytest.approx(expected)
    assert channel_falls(basis_from_matrix(bank, "time", torch.eye(4), n_prototypes=2), clean.mean((2, 3)))[0] == 1


def test_the_answers_are_counted_clip_by_clip():
    sound = Click(level=-10.0, label=2)
    noisy = planted(TASK, "test", sound, range(16))
    model = train_classifier(TASK, "cnn", recipe=Recipe(4, batch=8))
    with torch.no_grad():
        clean, clicked = (
            [model(clip[None]).argmax().item() for clip in split.log_mels] for split in (TASK.test, noisy)
        )
    labels = TASK.test.labels.tolist()
    right = [given == label for given, label in zip(clean, labels, strict=True)]
    found = shortcuts._answers(model, TASK.test, noisy, sound)
    assert found["accuracy"] == pytest.approx(sum(right) / 16)
    assert found["recall"] == pytest.approx(sum(right[i] for i in range(16) if labels[i] == 2) / labels.count(2))
    fooled = [clicked[i] == 2 for i in range(16) if labels[i] != 2]
    assert found["fooled"] == pytest.approx(sum(fooled) / len(fooled))


def test_without_a_recipe_the_classifiers_are_those_of_the_cache(monkeypatch):
    trained = []

    def from_cache(task, network, seed):
        trained.append((torch.equal(task.train.log_mels, TASK.train.log_mels), network, seed))
        return train_classifier(TASK, "cnn", recipe=Recipe(1, batch=8))

    monkeypatch.setattr(shortcuts, "trained_classifier", from_cache)
    table = shortcut_table(TASK, "cnn", Click(level=0.0), ["time"], seed=4)
    assert trained == [(False, "cnn", 4), (True, "cnn", 4)]
    assert table["trained"].tolist() == ["with it", "without it"]


def test_a_classifier_that_learns_the_hum_is_fooled_by_it():
    hum = Hum(level=-10.0, label=2)
    recipe = Recipe(epochs=12, batch=8)
    table = shortcut_table(TASK, "cnn", hum, ["frequency"], recipe=recipe).set_index("trained")
    assert table.loc["with it", "fooled"] > table.loc["without it", "fooled"]
    noisy = replace(TASK, train=planted(TASK, "train", hum, [2, 10, 18]))
    for trained, task in {"with it": noisy, "without it": TASK}.items():
        model = train_classifier(task, "cnn", recipe=recipe)
        banks = [FeatureBank.from_dataset(model, model.features, clips.train, places=False) for clips in (noisy, TASK)]
        basis = fit_basis(banks[0], "frequency", method="closed-form", n_prototypes=(20, 5))
        on_hum = []
        for row, clips in zip(basis.U, basis.prototype_indices.tolist(), strict=True):
            before, after = (sum((bank.means[clip] @ row).item() for clip in clips) for bank in banks)
            on_hum.append(before > 0 and 1 - after / before >= 0.5)
        assert table.loc[trained, "channels"] == sum(on_hum)
        of_class = [
            on and clip in (2, 10, 18)
            for on, row in zip(on_hum, basis.prototype_indices.tolist(), strict=True)
            for clip in row
        ]
        assert table.loc[trained, "prototypes"] == pytest.approx(sum(of_class) / len(of_class))
        assert 0 <= table.loc[trained, "shown"] <= (1 if any(on_hum) else 0)
        found = _reliance(
            APEX(model, model.features, basis), TASK, planted(TASK, "test", hum, range(16)), hum, torch.tensor(on_hum)
        )
        assert found == {name: pytest.approx(table.loc[trained, name], nan_ok=True) for name in found}
    assert tuple(table.reset_index()[list(COLUMNS)].columns) == COLUMNS
    assert table.loc["with it", "examples_chance"] == 1 / 8


def test_what_explanations_rest_on_is_counted_clip_by_clip():
    hum = Hum(level=-10.0, label=2)
    noisy = planted(TASK, "test", hum, range(16))
    model = train_classifier(
        replace(TASK, train=planted(TASK, "train", hum, [2, 10, 18])), "cnn", recipe=Recipe(4, batch=8)
    )
    with torch.no_grad():
        model.classifier.bias[2] += 1.0  # so that some clips get the class
    bank = FeatureBank.from_dataset(model, model.features, TASK.train, places=False)
    basis = fit_basis(bank, "time", method="closed-form", n_prototypes=(20, 5))
    on_hum = torch.arange(128) % 3 == 0
    apex = APEX(model, model.features, basis)
    found = _reliance(apex, TASK, noisy, hum, on_hum)
    wanted = {name: [] for name in ("lost", "evidence", "mass", "bins", "examples")}
    for clip, clean in zip(noisy.log_mels, TASK.test.log_mels, strict=True):
        with torch.no_grad():
            before, after = (model(each[None]).softmax(1)[0] for each in (clip, clean))
        if before.argmax() != 2:
            continue
        decomposed = apex.layer_apex.decompose(clip[None], 2)
        contributions = decomposed.contributions[0].tolist()
        positive = [max(value, 0) for value in contributions]
        wanted["lost"].append((before - after)[2].item())
        wanted["evidence"].append(sum(value for k, value in enumerate(positive) if k % 3 == 0) / sum(positive))
        changed = TASK.normalisation.decibels(clip[0]) - TASK.normalisation.decibels(clean[0]) >= 1.0
        attribution = apex.attribute(clip[None], 2, n_channels=5)[0, 0].clamp_min(0)
        wanted["mass"].append((attribution[changed].sum() / attribution.sum()).item())
        wanted["bins"].append(changed.double().mean().item())
        active = [k for k in range(128) if decomposed.activations[0, k] > 0 and contributions[k] > 0]
        strongest = sorted(active, key=lambda k: -contributions[k])[:5]
        labels = basis.positive.labels[strongest]
        wanted["examples"].append((labels == 2).double().mean().item())
    assert 0 < len(wanted["lost"]) < 17
    assert found.pop("clips") == len(wanted["lost"])
    for name, values in wanted.items():
        assert found[name] == pytest.approx(np.mean(values), rel=1e-4, abs=1e-5), name


def test_without_a_clip_that_gets_the_class_nothing_is_known():
    model = train_classifier(TASK, "cnn", recipe=Recipe(1, batch=8))
    with torch.no_grad():
        model.classifier.bias[2] -= 100
    bank = FeatureBank.from_dataset(model, model.features, TASK.train, places=False)
    apex = APEX(model, model.features, basis_from_matrix(bank, "time", torch.eye(128)))
    found = _reliance(apex, TASK, TASK.test, Hum(label=2), torch.zeros(128, dtype=torch.bool))
    assert found.pop("clips") == 0
    assert all(math.isnan(value) for value in found.values())
