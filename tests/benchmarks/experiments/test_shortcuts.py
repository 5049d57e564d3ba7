"""A planted hum: it is in the clips that shall have it, and what is counted is what a loop counts."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.classifiers.recipes import Recipe
from benchmarks.classifiers.training import train_classifier
from benchmarks.experiments.shortcuts import Hum, channel_falls, hummed, shortcut_table
from benchmarks.tasks.scenes import make_scenes
from captum_apex import FeatureBank, basis_from_matrix, fit_basis
from captum_apex.layers.origin import Origin
from tests import oracles

TASK = make_scenes(3, train_clips=24, test_clips=16)


def test_the_hum_is_a_tone_at_its_level():
    added = Hum(frequency=500.0, level=-20.0).added_to(torch.zeros(8000), 8000)
    spectrum = np.abs(np.fft.rfft(added.numpy())) / 4000
    assert spectrum.argmax() == 500
    assert spectrum.max() == pytest.approx(0.1, rel=1e-4)


def test_only_the_chosen_clips_have_it_and_only_at_its_frequency():
    hum = Hum(frequency=1000.0, level=-30.0)
    noisy = hummed(TASK, "train", hum, [0, 8])
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


def test_a_classifier_that_learns_the_hum_is_fooled_by_it():
    hum = Hum(level=-10.0, label=2)
    recipe = Recipe(epochs=12, batch=8)
    table = shortcut_table(TASK, "cnn", hum, ["frequency"], recipe=recipe).set_index("trained")
    assert table.loc["with hum", "fooled"] > table.loc["without hum", "fooled"]
    noisy = replace(TASK, train=hummed(TASK, "train", hum, [2, 10, 18]))
    for trained, task in {"with hum": noisy, "without hum": TASK}.items():
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
