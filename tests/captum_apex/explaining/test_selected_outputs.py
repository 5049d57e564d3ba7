"""A classifier whose model returns more than its scores, from the fit to the explanations of a long recording."""

import warnings

import pytest
import torch
from torch import nn

from captum_apex import Classifier, Explainer, Recordings, SelectedOutput, listening
from captum_apex.cli.loading import chosen_layer
from captum_apex.layers.models import layer_name

RATE = 800
CLASSES = ["dog", "rain", "siren"]


class Network(nn.Module):
    """A recurrent layer over windows of ten samples; it returns what `make` makes of the features and the scores."""

    def __init__(self, make):
        super().__init__()
        self.make = make
        self.windows = nn.Conv1d(1, 8, 10, stride=10)
        self.recurrent = nn.GRU(8, 6, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, waveforms):
        frames, _ = self.recurrent(self.windows(waveforms[:, None]).relu().transpose(1, 2))
        return self.make(frames, self.head(frames))  # the scores are (clip, frame, class)


OUTPUTS = {
    "dictionary": (lambda frames, scores: {"frames": frames, "clip": scores.mean(1)}, "clip"),
    "tuple": (lambda frames, scores: (frames, scores.mean(1)), 1),
    "scores of frames": (lambda frames, scores: scores, lambda output: output.mean(1)),
    "frames in a tuple": (lambda frames, scores: (frames, [scores]), lambda output: output[1][0].mean(1)),
}


def classifier(make, output=None):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Network(make).eval()
    return Classifier(
        model if output is None else SelectedOutput(model, output),
        lambda waveform: waveform,
        RATE,
        CLASSES,
        length=RATE,
        layer=model.recurrent,
        layout="n t c -> n c 1 t",
        exclusive=True,
    )


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    time = torch.arange(RATE) / RATE
    for index in range(9):
        path = folder / CLASSES[index % 3] / f"{index}.wav"
        path.parent.mkdir(exist_ok=True)
        listening.write(path, 0.3 * torch.sin(2 * torch.pi * (40 + 30 * index) * time), RATE)
    return Recordings.in_folder(folder, CLASSES)


@pytest.fixture(scope="module")
def expected(recordings):
    """The explanations of the model whose `forward` returns the scores alone."""
    return results(classifier(lambda frames, scores: scores.mean(1)), recordings)[1]


def results(used, recordings):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few recordings
        explainer = Explainer.fit(used, recordings, ["time"])
    sound = torch.sin(torch.arange(RATE) / 3)
    events = explainer.explain_recording(torch.cat([sound, 0 * sound]), scheme="time", threshold=0.3)
    return explainer, (explainer.explain(sound, n_prototypes=2)[0].explanations, events.events)


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_selection_gives_the_explanations_of_a_model_that_returns_its_scores(name, recordings, expected, tmp_path):
    used = classifier(*OUTPUTS[name])
    explainer, (explanations, events) = results(used, recordings)
    assert explanations == expected[0]
    assert events == expected[1]
    assert len(events) > 0
    assert explainer.bases["time"].origin.layer == "recurrent" == layer_name(used.model, used.layer)
    explainer.save(tmp_path / "bases")
    loaded = Explainer.load(tmp_path / "bases", used, recordings)
    assert loaded.explain(torch.sin(torch.arange(RATE) / 3), n_prototypes=2)[0].explanations == explanations
    assert "Explainer of Network, " in repr(loaded)
    assert "Classifier with Network\n" in repr(used)
    assert chosen_layer(used, "recurrent") is used.layer


@pytest.mark.parametrize("name", OUTPUTS)
def test_a_classifier_without_the_selection_says_which_line_is_missing(name, recordings):
    used = classifier(OUTPUTS[name][0])
    with pytest.raises(ValueError, match=r"explain the model `captum_apex.SelectedOutput\(model, "):
        Explainer.fit(used, recordings, ["time"])


def test_a_layer_that_does_not_exist_is_listed_by_the_names_of_the_model():
    used = classifier(*OUTPUTS["tuple"])
    with pytest.raises(ValueError, match="there are: recurrent, …"):
        chosen_layer(used, "recurent")
