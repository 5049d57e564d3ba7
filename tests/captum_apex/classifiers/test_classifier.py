"""A model with all that stands between it and a file."""

import dataclasses
import math
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torch import nn

from captum_apex import Classifier, FeatureBank, Recordings, SpectrogramAxes

AXES = SpectrogramAxes(8000, 64, 32)


def spectrogram(waveform):
    return torch.stft(waveform, 64, 32, window=torch.hann_window(64), return_complex=True).abs()[None] + 1e-3


def classifier(**changes):
    settings = {
        "transform": spectrogram,
        "sample_rate": 8000,
        "class_names": ["cat", "dog"],
        "axes": AXES,
        "length": 640,
    }
    settings |= {"decibels": lambda inputs: 20 * inputs[0].log10()}
    return Classifier(nn.Linear(2, 2), **{**settings, **changes})


def put(path, samples=640):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(samples).uniform(-0.5, 0.5, samples).astype("float32")
    soundfile.write(path, noise, 8000, subtype="FLOAT")
    return torch.from_numpy(noise)


def test_the_dataset_gives_what_the_transform_gives_and_the_label(tmp_path):
    sounds = [put(tmp_path / "dog" / "a.wav", 640), put(tmp_path / "cat" / "b.wav", 700)]
    inputs = classifier().dataset(Recordings.in_folder(tmp_path, ["cat", "dog"]))
    assert len(inputs) == 2
    for (transformed, label), sound, expected in zip((inputs[1], inputs[0]), sounds, (1, 0), strict=True):
        assert torch.equal(transformed, spectrogram(sound[:640]))
        assert label == expected


def test_without_labels_the_dataset_gives_inputs_alone(tmp_path):
    sound = put(tmp_path / "a.wav")
    transformed = classifier().dataset(Recordings.in_folder(tmp_path, ["cat", "dog"]))[0]
    assert torch.equal(transformed, spectrogram(sound))


class Several:
    """Two sounds in memory, of which the second is of two classes: the interface that a dataset of one's own needs."""

    labels, class_names = torch.tensor([[0.0, 1.0], [1.0, 1.0]]), ("cat", "dog")

    def __len__(self):
        return 2

    def name(self, index):
        return f"sound {index}"

    def waveform(self, index, sample_rate, length=None, *, convert=True):
        assert (sample_rate, length, convert) == (8000, 640, False)
        return torch.linspace(-0.5, 0.5, 640) * (index + 1)


def test_a_dataset_of_ones_own_can_have_several_labels_to_a_clip():
    inputs = classifier(convert=False).dataset(Several())
    transformed, labels = inputs[1]
    assert torch.equal(transformed, spectrogram(torch.linspace(-1, 1, 640)))
    assert labels.tolist() == [1, 1]
    assert inputs.clip(0).title == "dog, sound 0"
    assert inputs.clip(1).title == "cat, dog, sound 1"
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.AdaptiveAvgPool2d(1))
    assert FeatureBank.from_dataset(model, model[0], inputs).labels.tolist() == [[0, 1], [1, 1]]


def test_a_clip_of_the_dataset_is_drawn_with_its_class(tmp_path):
    sound = put(tmp_path / "dog" / "a.wav")
    clip = classifier().dataset(Recordings.in_folder(tmp_path, ["cat", "dog"])).clip(0)
    assert torch.equal(clip.waveform, sound)
    assert clip.title == "dog, a.wav"
    assert classifier().dataset(Recordings.in_folder(tmp_path / "dog")).clip(0).title == "a.wav"


def test_recordings_of_other_classes_are_refused(tmp_path):
    put(tmp_path / "dog" / "a.wav")
    with pytest.raises(
        ValueError,
        match=r"by the classifier's classes \(cat, dog\), in this order, but got dog, cat; give the recordings",
    ):
        classifier().dataset(Recordings.in_folder(tmp_path, ["dog", "cat"]))


def test_a_classifier_can_refuse_what_it_would_have_to_convert(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(640), 16000)
    with pytest.raises(ValueError, match=r"a\.wav at 8000 Hz with one channel, but got 16000 Hz with 1"):
        classifier(convert=False).waveform(tmp_path / "a.wav")
    with pytest.warns(UserWarning, match="at 16000 Hz are resampled to 8000 Hz"):
        assert len(classifier().waveform(tmp_path / "a.wav")) == 640


def test_files_of_different_length_need_a_length(tmp_path):
    put(tmp_path / "a.wav", 640)
    put(tmp_path / "b.wav", 960)
    inputs = classifier(length=None).dataset(Recordings.in_folder(tmp_path, ["cat", "dog"]))
    with pytest.raises(
        ValueError, match=r"\(1, 33, 31\) for .*b\.wav and \(1, 33, 21\) for .*a\.wav; give the Classifier a `length`"
    ):
        inputs[1]


def test_files_of_different_length_are_left_to_be_padded_where_the_model_takes_them(tmp_path):
    put(tmp_path / "a.wav", 640)
    put(tmp_path / "b.wav", 960)
    inputs = classifier(length=None, columns=lambda lengths: lengths).dataset(
        Recordings.in_folder(tmp_path, ["cat", "dog"])
    )
    assert [inputs[index].shape for index in range(2)] == [(1, 33, 21), (1, 33, 31)]
    settings = {"length": None, "columns": lambda lengths: lengths, "axes": None, "decibels": None}
    other = classifier(transform=lambda waveform: waveform.reshape(-1, 4), **settings)
    with pytest.raises(ValueError, match=r"expected inputs of one shape, but the transform gives \(240, 4\)"):
        other.dataset(Recordings.in_folder(tmp_path, ["cat", "dog"]))[1]


def test_a_clip_that_is_too_short_for_a_column_is_named(tmp_path):
    put(tmp_path / "a.wav", 640)
    put(tmp_path / "b.wav", 96)
    inputs = classifier(length=None, columns=lambda lengths: (lengths - 5) // 2 + 1).dataset(
        Recordings.in_folder(tmp_path)
    )
    assert inputs[0].shape == (1, 33, 21)
    with pytest.raises(ValueError, match=r"long enough for one column of the layer, but .*b\.wav has 4 steps of time"):
        inputs[1]


def test_a_clip_is_drawn_in_decibels_and_heard(tmp_path):
    sound = put(tmp_path / "a.wav")
    clip = classifier().clip(tmp_path / "a.wav", "dog")
    assert torch.equal(clip.waveform, sound)
    assert torch.equal(clip.decibels, 20 * spectrogram(sound)[0].log10())
    assert (clip.axes, clip.title, clip.of_samples) == (AXES, "dog, a.wav", False)


def test_an_input_in_decibels_is_drawn_as_it_is(tmp_path):
    sound = put(tmp_path / "a.wav")
    in_decibels = classifier(decibels=None, transform=lambda waveform: 20 * spectrogram(waveform).log10())
    assert torch.equal(in_decibels.clip(tmp_path / "a.wav").decibels, 20 * spectrogram(sound)[0].log10())


def test_an_input_that_spans_a_few_units_is_drawn_as_it_is_with_a_warning_once(tmp_path):
    """A spectrogram in dB that was normalised by a mean and a deviation, as models of spectrograms often want it."""
    sound = put(tmp_path / "a.wav")
    normalised = classifier(decibels=None, transform=lambda waveform: (20 * spectrogram(waveform).log10() + 30) / 25)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        clips = [normalised.clip(tmp_path / "a.wav") for _ in range(3)]
    assert len(caught) == 1
    message = "the inputs span less than 10 units, .* the Classifier `decibels`, .* inputs\\[0\\] \\* 25 - 30"
    assert re.match(message, str(caught[0].message))
    assert torch.equal(clips[0].decibels, (20 * spectrogram(sound)[0].log10() + 30) / 25)
    back = dataclasses.replace(normalised, decibels=lambda inputs: inputs[0] * 25 - 30)
    torch.testing.assert_close(back.clip(tmp_path / "a.wav").decibels, 20 * spectrogram(sound)[0].log10())
    constant = classifier(decibels=None, transform=lambda waveform: torch.ones_like(spectrogram(waveform)))
    constant.clip(tmp_path / "a.wav")  # silence, of which nothing is known; warnings are errors


def test_a_model_of_waveforms_has_regions_of_samples(tmp_path):
    put(tmp_path / "a.wav")
    clip = classifier(axes=None, transform=lambda waveform: waveform[None]).clip(tmp_path / "a.wav")
    assert clip.of_samples
    assert clip.seconds(0.5) == 0.04


def test_a_transform_that_fails_is_said_with_the_clip(tmp_path):
    put(tmp_path / "a.wav")
    short = classifier(transform=lambda waveform: waveform.reshape(3, 7))
    with pytest.raises(
        ValueError, match=r"the 640 samples of .*a\.wav, but it raised RuntimeError: shape '\[3, 7\]' is invalid"
    ):
        short.dataset(Recordings.in_folder(tmp_path, ["cat", "dog"]))[0]
    with pytest.raises(ValueError, match="give a tensor of floats, but got torch.int64"):
        classifier(transform=lambda waveform: waveform.long()).inputs(torch.zeros(640))
    with pytest.raises(ValueError, match="give a tensor of floats, but got list"):
        classifier(transform=lambda waveform: [waveform]).inputs(torch.zeros(640))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decibels": lambda inputs: inputs[7]}, "IndexError: index 7 is out of bounds"),
        ({"decibels": lambda inputs: inputs.tolist()}, "AttributeError: 'list' object has no attribute 'cpu'"),
        ({"decibels": lambda inputs: inputs}, r"ValueError: expected `decibels` of shape \(\d+, time\)"),
        ({"axes": None, "length": 100}, "ValueError: expected a `waveform` of shape .* of more than 256 samples"),
    ],
)
def test_what_cannot_be_drawn_is_said_with_the_clip(tmp_path, changes, message):
    put(tmp_path / "a.wav")
    with pytest.raises(ValueError, match=rf"a clip that can be drawn, but .*a\.wav gives {message}"):
        classifier(**changes).clip(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"transform": 3}, TypeError, "`transform` to be callable, but got int"),
        ({"sample_rate": 8000.0}, TypeError, r"`sample_rate` to be an int of at least 1, but got float 8000\.0"),
        ({"length": 0}, ValueError, "`length` to be an int of at least 1, but got 0"),
        ({"class_names": "cat"}, TypeError, "such as a list, but got str"),
        ({"class_names": ["cat", "cat"]}, ValueError, r"different strings.*\['cat', 'cat'\]"),
        ({"class_names": []}, ValueError, r"at least one, but got \[\]"),
        ({"sample_rate": 16000}, ValueError, "`axes` with the sample rate 16000, but got 8000"),
        ({"layout": 3}, TypeError, "`layout` to be an einops pattern"),
        ({"layer": "0"}, TypeError, "`layer` to be a torch.nn.Module, but got str"),
        ({"layer": nn.ReLU()}, ValueError, "`layer` to be part of the model Linear, but this ReLU is not"),
    ],
)
def test_what_is_no_classifier_is_refused(changes, error, message):
    with pytest.raises(error, match=message):
        classifier(**changes)


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="`model` to be a torch.nn.Module, but got function"):
        Classifier(lambda x: x, spectrogram, 8000, ["cat", "dog"])


def test_labels_of_recordings_are_read_by_position():
    """The labels of a pandas object are those in their order, whatever its index."""

    class Sounds:
        class_names = ("low", "high")

        def __init__(self, labels):
            self.labels = labels

        def __len__(self):
            return 2

        def name(self, index):
            return f"{index}.wav"

        def waveform(self, index, sample_rate, length=None, *, convert=True):
            return torch.zeros(3)

    classifier = Classifier(torch.nn.Linear(3, 2), torch.square, sample_rate=8000, class_names=["low", "high"])
    dataset = classifier.dataset(Sounds(pd.Series([1, 0], index=[1, 0])))
    assert [int(dataset[index][1]) for index in range(2)] == [1, 0]
    with pytest.raises(ValueError, match="expected one label for each of 2 recordings, but got 3"):
        classifier.dataset(Sounds([0, 1, 1]))


def test_a_classifier_says_what_it_is():
    model = torch.nn.Sequential(torch.nn.Linear(9, 2))
    classifier = Classifier(model, lambda waveform: waveform[:9], 8000, ["cat", "dog"], layer=model[0], length=4000)
    assert repr(classifier).splitlines() == [
        "Classifier with Sequential",
        "  classes: cat, dog (2)",
        "  clips: 0.5 s, at 8000 Hz",
        "  layer: 0",
        "  pictures: spectrograms of the waveforms",
    ]
    many = Classifier(torch.nn.Linear(9, 9), lambda waveform: waveform, 8000, [f"class {i}" for i in range(9)])
    assert "class 5 and 3 more (9)\n  clips: as long as their files are, at 8000 Hz\n  layer: not given" in repr(many)


@pytest.mark.parametrize("scores", [torch.tensor([2.0, -1.0]), torch.tensor([[2.0, -1.0], [0.5, 0.5], [-3.0, 1.0]])])
def test_probabilities_are_those_of_the_loss(scores):
    exclusive = scores.double().exp() / scores.double().exp().sum(-1, keepdim=True)
    together = 1 / (1 + (-scores.double()).exp())
    torch.testing.assert_close(classifier(exclusive=True).probabilities(scores).double(), exclusive)
    torch.testing.assert_close(classifier(exclusive=np.bool_(False)).probabilities(scores).double(), together)


def test_several_classes_have_no_probabilities_unless_the_classifier_says_which():
    message = "`exclusive=None`; give .* `exclusive=True` if .* softmax .* `exclusive=False` if .* sigmoid"
    with pytest.raises(ValueError, match=message):
        classifier().probabilities(torch.zeros(2))


def test_a_single_class_has_a_sigmoid():
    assert classifier(class_names=["cat"]).probabilities(torch.zeros(1)).tolist() == [0.5]
    with pytest.raises(ValueError, match="several classes with `exclusive=True`, but there is one: its softmax is 1"):
        classifier(class_names=["cat"], exclusive=True)


@pytest.mark.parametrize("value", [1, "softmax", 0.0])
def test_exclusive_is_yes_no_or_open(value):
    with pytest.raises(TypeError, match=r"expected `exclusive` to be True, False or None, but got "):
        classifier(exclusive=value)


class Loudness(nn.Module):
    """Score 0 for the first class, 3 less the loudness for the second."""

    def forward(self, inputs):
        loudness = inputs.abs().sum(1)
        return torch.stack([0 * loudness, 3 - loudness], 1)


def test_what_the_classifier_says_of_silence():
    settings = {"transform": lambda waveform: waveform, "axes": None, "exclusive": True}
    loudness = dataclasses.replace(classifier(**settings), model=Loudness())
    heard = loudness.silence_probabilities()
    assert list(heard) == ["dog", "cat"]
    assert heard["dog"] == pytest.approx(1 / (1 + math.exp(-3)))
    assert sum(heard.values()) == pytest.approx(1)
    assert loudness.silence_probabilities(0.5) == heard


def test_silence_is_as_long_as_asked_for():
    lengths = []
    settings = {"transform": lambda waveform: (lengths.append(len(waveform)), waveform[:2])[1], "exclusive": False}
    classifier(**settings).silence_probabilities()
    classifier(**settings).silence_probabilities(1.5)
    assert lengths == [640, 12_000]
    with pytest.raises(ValueError, match="expected `seconds`, or a Classifier with a `length`, but there is neither"):
        classifier(length=None, **settings).silence_probabilities()


def test_a_transform_that_fails_for_silence_says_so():
    normalised = classifier(transform=lambda waveform: (waveform / waveform.std())[:2], exclusive=True)
    with pytest.raises(ValueError, match="expected scores for digital silence that are numbers, but .* gives NaN"):
        normalised.silence_probabilities()
