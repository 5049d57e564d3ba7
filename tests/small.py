"""A small subject for tests of the benchmark: an untrained network on a few scenes, with bases of one training epoch.

Its scores are meaningless: the tests check how they are computed and stored.
"""

from __future__ import annotations

import torch

from benchmarks.classifiers.networks import PlainCNN
from benchmarks.runs.subject import Subject
from benchmarks.tasks.scenes import make_scenes
from captum_apex import SCHEMES, FeatureBank, fit_basis


def small_subject() -> Subject:
    task = make_scenes(3, train_clips=24, test_clips=16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PlainCNN(len(task.classes)).eval()
    bank = FeatureBank.from_dataset(model, model.features, task.train, places=False)
    bases = {scheme: fit_basis(bank, scheme, epochs=1, n_prototypes=(8, 2)) for scheme in SCHEMES}
    return Subject(task, "cnn", model, bank, bases, seed=0)
