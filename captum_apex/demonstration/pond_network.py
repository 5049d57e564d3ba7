"""The classifier of the demonstration: a small convolutional network on spectrograms, with its trained weights."""

from __future__ import annotations

from importlib.resources import files
from itertools import pairwise

import torch
from safetensors.torch import load
from torch import Tensor, nn

from captum_apex.audio.axes import SpectrogramAxes
from captum_apex.classifiers.classifier import Classifier
from captum_apex.demonstration.evening_sounds import CLASS_NAMES, SAMPLE_RATE, SECONDS, EveningSounds

__all__ = ["PondNetwork", "classifier", "pond_classifier", "spectrogram", "truth"]

AXES = SpectrogramAxes(SAMPLE_RATE, n_fft=256, hop_length=128)
WEIGHTS = "weights.safetensors"
_FLOOR = -80.0  # dB
_SCALE = 20.0  # dB
_MIDDLE = -50.0  # dB
_TRUTH_RANGE = 25.0  # dB below the loudest bin of a sound, down to which a bin belongs to it


class PondNetwork(nn.Module):
    """Four convolutions, the mean over the grid, and a linear layer: spectrograms (clip, 1, frequency, time) to logits.

    Example:
        >>> import torch
        >>> from captum_apex.demonstration import PondNetwork
        >>> PondNetwork()(torch.zeros(2, 1, 129, 251)).shape
        torch.Size([2, 8])
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 16, 32, 48, 64)
        blocks: list[nn.Module] = []
        for before, after in pairwise(widths):
            blocks += [nn.Conv2d(before, after, 3, stride=2 if after < 64 else 1, padding=1, bias=False)]
            blocks += [nn.BatchNorm2d(after), nn.ReLU()]
        self.features = nn.Sequential(*blocks)
        self.classifier = nn.Linear(widths[-1], len(CLASS_NAMES))

    def forward(self, spectrograms: Tensor) -> Tensor:
        """The logits, (clip, class)."""
        return self.classifier(self.features(spectrograms).mean((2, 3)))


def classifier() -> Classifier:
    """The trained classifier of the demonstration, also as `--model captum_apex.demonstration:classifier`.

    Example:
        >>> from captum_apex.demonstration import EveningSounds, classifier
        >>> pond = classifier()
        >>> scores = pond.scores(pond.inputs(EveningSounds("demo").waveform(3)))
        >>> pond.class_names[scores.index(max(scores))]
        'owl'
    """
    network = PondNetwork()
    network.load_state_dict(load(files("captum_apex.demonstration").joinpath(WEIGHTS).read_bytes()))
    return pond_classifier(network.eval())


def pond_classifier(network: PondNetwork) -> Classifier:
    """A network with all that leads from a sound to its input.

    Args:
        network: the network.

    Example:
        >>> from captum_apex.demonstration import PondNetwork
        >>> from captum_apex.demonstration.pond_network import pond_classifier
        >>> pond_classifier(PondNetwork()).class_names[3]
        'owl'
    """
    return Classifier(
        network,
        spectrogram,
        SAMPLE_RATE,
        CLASS_NAMES,
        AXES,
        decibels=lambda inputs: inputs[0] * _SCALE + _MIDDLE,
        length=int(SAMPLE_RATE * SECONDS),
        layer=network.features,
        exclusive=True,
    )


def spectrogram(waveform: Tensor) -> Tensor:
    """The input of the network: a waveform (sample,) as levels (1, frequency, time), about 0 ± 1.

    Args:
        waveform: samples at 16 kHz.

    Example:
        >>> import torch
        >>> from captum_apex.demonstration.pond_network import spectrogram
        >>> spectrogram(torch.zeros(32000))[0, 0, 0].item()  # silence is at the floor
        -1.5
    """
    window = torch.hann_window(AXES.n_fft)
    spectrum = torch.stft(waveform, AXES.n_fft, int(AXES.hop_length), window=window, return_complex=True)
    decibels = 20 * (spectrum.abs() / window.sum()).clamp_min(10 ** (_FLOOR / 20)).log10()
    return (decibels[None] - _MIDDLE) / _SCALE


def truth(sounds: EveningSounds, index: int) -> Tensor:
    """Where the sound of a clip's class lies in the input of the network, known because the sound is made.

    A bin belongs to the sound if the sound alone is at most 25 dB below its loudest bin there.

    Args:
        sounds: the clips.
        index: index of the clip.

    Returns:
        bool tensor (frequency, time).

    Example:
        >>> from captum_apex.demonstration import EveningSounds, classifier, truth
        >>> sounds = EveningSounds("demo")
        >>> hoots = truth(sounds, 3)
        >>> hoots.shape == classifier().inputs(sounds.waveform(3)).shape[1:]
        True
        >>> classifier().axes.hertz(hoots.any(1).nonzero().max().item() + 1)  # an owl hoots below
        968.75
    """
    levels = spectrogram(sounds.class_sound(index))[0]
    return levels >= levels.max() - _TRUTH_RANGE / _SCALE
