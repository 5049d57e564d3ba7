"""A planted hum: it is in the clips that shall have it, and what is counted is what a loop counts."""

import math

import numpy as np
import pytest
import torch

from benchmarks.classifiers.recipes import Recipe
from benchmarks.experiments.shortcuts import Hum, channel_falls, hummed, shortcut_table
from benchmarks.tasks.scenes import make_scenes
from captum_apex import FeatureBank, basis_from_matrix
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


def test_a_classifier_that_learns_the_hum_is_fooled_by_it_and_its_channels_are_found():
    recipe = Recipe(epochs=12, batch=8)
    table = shortcut_table(TASK, "cnn", Hum(level=-10.0, label=2), ["frequency"], recipe=recipe).set_index("trained")
    assert table.loc["with hum", "fooled"] > table.loc["without hum", "fooled"]
    assert table.loc["with hum", "channels"] > table.loc["without hum", "channels"]
    assert table.loc["with hum", "prototypes"] > table.loc["without hum", "prototypes"]
    assert table.loc["with hum", "shown"] > table.loc["without hum", "shown"]
