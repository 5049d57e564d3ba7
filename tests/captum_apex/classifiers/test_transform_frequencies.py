"""Transforms with the frequencies that the axes say, and with others."""

import pytest
import torch
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

from captum_apex import SpectrogramAxes
from captum_apex.classifiers.transform_frequencies import check_frequencies

RATE = 8000
MEL = MelSpectrogram(RATE, 256, hop_length=80, n_mels=32)
AXES = SpectrogramAxes.from_transform(MEL)
DECIBELS = AmplitudeToDB(top_db=80)


def log_mel(waveform):
    return DECIBELS(MEL(waveform))[None]


def normalised(inputs):
    return (inputs - inputs.mean()) / inputs.std()


def fails(waveform):
    raise RuntimeError("no tones, please")


@pytest.mark.parametrize(
    ("transform", "axes", "layout"),
    [
        (log_mel, AXES, None),
        (lambda waveform: normalised(log_mel(waveform)), AXES, None),
        (lambda waveform: log_mel(waveform)[0].T, AXES, "n t f"),
        (lambda waveform: log_mel(waveform).flip(1), AXES.flipped(), None),
        (lambda waveform: log_mel(waveform)[:, 4:], AXES.cropped(4), None),
        (lambda waveform: -log_mel(waveform), AXES, None),
        (fails, AXES, None),
        (lambda waveform: torch.zeros(1, 32, 10), AXES, None),
    ],
)
def test_tones_lie_where_the_axes_say(transform, axes, layout):
    check_frequencies(transform, 8000, RATE, axes, layout)


@pytest.mark.parametrize(
    ("transform", "axes", "layout", "message"),
    [
        (lambda waveform: log_mel(waveform).flip(1), AXES, None, r"reverse order: give the Classifier axes=axes.flip"),
        (log_mel, SpectrogramAxes(RATE, 62, 80), None, "the bins are elsewhere: compare the parameters"),
        (log_mel, AXES.flipped(), None, "reverse order"),
    ],
)
def test_tones_that_lie_elsewhere_are_an_error(transform, axes, layout, message):
    with pytest.raises(ValueError, match=message):
        check_frequencies(transform, 8000, RATE, axes, layout)
