"""Inputs with a frequency axis, and what the classifier says of it."""

import warnings

import pytest
import torch
from torch import nn

from captum_apex import Classifier, SpectrogramAxes
from captum_apex.classifiers.spectrogram_inputs import warn_of_missing_axes

AXES = SpectrogramAxes(8000, 256, 80, n_mels=40)


def inputs(*shape, input_layout=None):
    given = torch.zeros(shape)
    classifier = Classifier(nn.Identity(), lambda waveform: given, 8000, ["a"], AXES, input_layout=input_layout)
    return classifier.inputs(torch.zeros(8000), "new.wav")


@pytest.mark.parametrize(
    ("shape", "given", "advice"),
    [((101, 40), None, "n t f"), ((1, 101, 40), None, "n c t f"), ((101, 40), "n f t", "n t f")],
)
def test_time_in_the_place_of_frequency_is_refused_with_the_layout_that_fits(shape, given, advice):
    with pytest.raises(ValueError, match=f'40 bins .*for new.wav, .*input_layout="{advice}"'):
        inputs(*shape, input_layout=given)
    assert inputs(*shape, input_layout=advice).shape == shape


@pytest.mark.parametrize(
    ("shape", "given"),
    [((40, 101), None), ((1, 40, 101), None), ((40, 40), None), ((3, 40, 101), None), ((8000,), None)],
)
def test_other_inputs_are_taken_as_they_are(shape, given):
    assert inputs(*shape, input_layout=given).shape == shape


@pytest.mark.parametrize(("shape", "layout"), [((1, 224, 224), None), ((224, 64), "n t f")])
def test_another_number_of_bins_than_the_axes_is_refused_with_what_to_say(shape, layout):
    with pytest.raises(ValueError, match=r"40 bins .*for new.wav, with (224|64) bins; .*axes\.resized.*axes\.cropped"):
        inputs(*shape, input_layout=layout)


@pytest.mark.parametrize(("shape", "layout"), [((1, 64, 216), None), ((216, 64), "n t f")])
def test_bins_without_axes_are_warned_of(shape, layout):
    with pytest.warns(UserWarning, match="64 bins for frequency, but the Classifier has no `axes`.* 0 to 8000 Hz"):
        warn_of_missing_axes(shape, layout, 16_000)


@pytest.mark.parametrize(
    ("shape", "layout"), [((8000,), None), ((1, 8000), None), ((1, 1, 8000), None), ((64, 8000), "n c t")]
)
def test_waveforms_need_no_axes(shape, layout):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_missing_axes(shape, layout, 16_000)
