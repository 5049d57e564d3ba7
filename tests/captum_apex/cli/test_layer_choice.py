"""The layers of a classifier, in messages of the command line."""

import pytest
import torch
from torch import nn

from captum_apex import Classifier
from captum_apex.cli.layer_choice import layers_of, layers_to_choose_from
from captum_apex.cli.loading import chosen_layer


def over_time(transform=lambda waveform: waveform[None], **about):
    model = nn.Sequential(nn.Conv1d(1, 4, 9), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2))
    return Classifier(model, transform, 8000, ["dog", "rain"], **about)


def test_a_layer_that_needs_a_layout_is_listed_with_it():
    listed = '; those that can be explained, the best first: 1 (with layout="n c t -> n c 1 t" in the Classifier)'
    classifier = over_time(length=800)
    assert layers_to_choose_from(classifier) == listed
    for name in (None, "seven"):
        with pytest.raises(ValueError, match="there are: 0, 1, 2, 3, 4; those that can be explained") as error:
            chosen_layer(classifier, name)
        assert str(error.value).endswith(listed)
    assert chosen_layer(classifier, "0") is classifier.model[0]


def test_where_the_transform_fails_the_names_of_the_modules_are_left():
    def fails(waveform):
        raise KeyError("mel")

    classifier = over_time(fails)
    assert layers_to_choose_from(classifier) == ""
    with pytest.raises(ValueError, match="there are: 0, 1, 2, 3, 4$"):
        chosen_layer(classifier, None)


def test_a_clip_or_noise_of_the_length_of_a_clip_is_the_example():
    assert layers_of(over_time(length=800))[0].grid == (1, 792)
    assert layers_of(over_time())[0].grid == (1, 5 * 8000 - 8)
    assert layers_of(over_time(length=800), torch.zeros(200))[0].grid == (1, 192)
