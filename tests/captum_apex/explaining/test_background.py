"""A detector with one score: its class, and the name of clips without it."""

import dataclasses
import re

import numpy as np
import pytest
import soundfile
import torch
from matplotlib.text import Text
from torch import nn

from captum_apex import Classifier, Explainer, Recordings, figures

RATE = 8000


def detector(**changes):
    """Hears whether a clip is loud."""
    layer = nn.Sequential(nn.Conv1d(1, 2, 64, stride=64, bias=False), nn.ReLU())
    layer[0].weight.data = torch.stack([torch.ones(1, 64), -torch.ones(1, 64)]) / 8
    head = nn.Linear(2, 1)
    head.weight.data.fill_(1.0)
    head.bias.data.fill_(-1.0)
    model = nn.Sequential(layer, nn.AdaptiveAvgPool1d(1), nn.Flatten(), head)
    settings = {
        "sample_rate": RATE,
        "class_names": ["call"],
        "layer": layer,
        "length": 4096,
        "layout": "n c t -> n c 1 t",
    }
    return Classifier(model, lambda waveform: waveform[None], **{**settings, "background": "no call", **changes})


@pytest.fixture
def folder(tmp_path):
    for name, level in {"call/a": 0.8, "call/b": 0.7, "no call/c": 0.01, "no call/d": 0.02}.items():
        path = tmp_path / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, level * np.sin(np.arange(4096) / 40), RATE)
    return tmp_path


def test_clips_of_the_background_are_fitted_and_named(folder):
    classifier = detector()
    recordings = Recordings.in_folder(folder, ["call"], background=classifier.background)
    inputs = classifier.dataset(recordings)
    assert [inputs.label_name(index) for index in range(4)] == ["call", "call", "no call", "no call"]
    assert [inputs[index][1].tolist() for index in range(4)] == [[1.0], [1.0], [0.0], [0.0]]
    explained = Explainer.fit(classifier, recordings, ["time"]).explain(folder)
    assert [page.first_choice for page in explained] == ["call", "call", "no call", "no call"]
    assert [page.right for page in explained] == [True] * 4
    assert {row["explained"] for row in explained.rows()} == {"call"}
    prototypes = {each["label"] for row in explained.rows() for each in row["prototypes"]}
    assert prototypes <= {"call", "no call"}
    assert "call" in prototypes
    page = explained[0]
    figure = figures.explanation(page.explanations[0], page.clip, page.shown_prototypes, class_names=["call"])
    assert any("Why “call”?" in text.get_text() for text in figure.findobj(Text))


def test_a_page_shows_the_background_as_the_first_choice(folder):
    classifier = detector()
    recordings = Recordings.in_folder(folder, ["call"], background="no call")
    explained = Explainer.fit(classifier, recordings, ["time"]).explain(folder / "no call" / "c.wav")
    path = explained.write(folder / "page.html")
    assert re.search(r'"first":\s*"no call"', path.read_text(encoding="utf-8"))


def test_without_a_background_a_single_score_has_no_first_choice(folder):
    classifier = detector(background=None)
    recordings = Recordings.in_folder(folder / "call")
    [page] = Explainer.fit(classifier, dataclasses.replace(recordings, class_names=("call",)), ["time"]).explain(
        folder / "no call" / "c.wav"
    )
    assert (page.first_choice, page.right) == ("", None)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"background": "call"}, ValueError, "another name than those of the classes, but got 'call'"),
        ({"background": ""}, ValueError, "another name than those of the classes, but got ''"),
        ({"background": 3}, TypeError, "`background` to be a string or None, but got int"),
    ],
)
def test_errors(changes, error, message):
    with pytest.raises(error, match=message):
        detector(**changes)


def test_classes_that_exclude_each_other_have_no_background():
    with pytest.raises(ValueError, match="no `background` with `exclusive=True`"):
        Classifier(nn.Linear(2, 2), torch.square, RATE, ["dog", "rain"], exclusive=True, background="nothing")
