"""All collections as inputs of a model."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from captum_apex import Classifier, FeatureBank
from captum_apex.datasets import birdset, esc50, fsdd, wavefake
from captum_apex.datasets.collection import checked_choice
from tests.captum_apex.datasets.tiny_collections import RATE, segments, write_digits, write_esc50, write_wavefake


def test_every_collection_becomes_a_models_inputs_and_a_bank(tmp_path):
    """The model gets the transform of each sound, in the order of the collection, with its label."""
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1))
    collections = [fsdd(write_digits(tmp_path / "fsdd")), esc50(write_esc50(tmp_path / "esc")), birdset(segments())]
    collections.append(wavefake(*write_wavefake(tmp_path / "wavefake"), "train"))
    for collection in collections:
        rate = RATE if isinstance(collection.labels, torch.Tensor) else 8000
        classifier = Classifier(
            model, lambda waveform: waveform.reshape(1, 8, 20), rate, collection.class_names, length=160
        )
        inputs = classifier.dataset(collection)
        assert torch.equal(inputs[1][0].flatten(), collection.waveform(1, rate, 160))
        bank = FeatureBank.from_dataset(model, model[0], inputs)
        assert bank.labels.tolist() == torch.as_tensor(collection.labels).tolist()
        assert len(collection.fingerprint()) == 64


@pytest.mark.parametrize("give", [list, tuple, set, np.array, pd.Series, dict.fromkeys])
def test_a_choice_is_taken_in_any_container(give):
    assert checked_choice("folds", give([2, 1]), known=[1, 2, 5]) == {1, 2}
    with pytest.raises(ValueError, match="expected `folds` among 1, 2, 5, but got 7$"):
        checked_choice("folds", give([1, 7]), known=[1, 2, 5])
    with pytest.raises(ValueError, match="expected `folds` among 1, 2, 5, but got "):
        checked_choice("folds", give([]), known=[1, 2, 5])


def test_one_number_is_no_choice():
    with pytest.raises(ValueError, match="expected `folds` among 1, 2, 5, but got 1"):
        checked_choice("folds", 1, known=[1, 2, 5])
