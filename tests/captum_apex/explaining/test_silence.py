"""A class that digital silence gets as well is said to be such, wherever it is explained; the model runs once more."""

import csv
import warnings
from dataclasses import replace

import pytest
import torch
from matplotlib.text import Text
from torch import nn

from captum_apex import Classifier, Clip, Explainer, SpectrogramAxes, examine
from captum_apex.demonstration import EveningSounds
from captum_apex.demonstration import explainer as pond_explainer

RATE = 8000
CLASSES = ["dog", "rain", "siren"]
SHARED = {"n_prototypes": 2, "search": None}
WARNING = "digital silence gets 'rain' \\(probability 0.9[0-9]\\): what is explained for such a class"


def tone(hertz, seconds=0.5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(int(RATE * seconds)) / RATE
    return 0.3 * torch.sin(2 * torch.pi * hertz * time) + 0.01 * torch.randn(len(time), generator=generator)


def transform(waveform):
    """(sample,) → (1, frequency, time); 0 for silence."""
    spectrum = torch.stft(waveform, 256, 128, window=torch.hann_window(256), return_complex=True)
    return spectrum.abs()[None] / 40


class Counting(nn.Module):
    """A network that counts its passes over zeros; its bias prefers a class."""

    def __init__(self, bias):
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(1, 6, 5, stride=4, padding=2, bias=False), nn.ReLU())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3))
        nn.init.constant_(self.head[2].bias, 0.0)
        self.head[2].bias.data[1] = bias
        self.n_silent = 0

    def forward(self, clips):
        self.n_silent += int(not clips.any())
        return self.head(self.layer(clips))


def classifier_of(bias, exclusive=True):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Counting(bias).eval()
    axes = SpectrogramAxes(RATE, 256, 128)
    kinds = {"layer": model.layer, "exclusive": exclusive, "decibels": decibels}
    return Classifier(model, transform, RATE, CLASSES, axes, length=RATE // 2, **kinds)


def decibels(inputs):
    return 20 * inputs[0].clamp_min(1e-5).log10()


@pytest.fixture(scope="module")
def explainer():
    clips = [Clip.from_waveform(tone(400 * (1 + i), seed=i), RATE, label=CLASSES[i % 3]) for i in range(6)]
    with pytest.warns(UserWarning, match=WARNING):
        return Explainer.fit(classifier_of(4.0), clips, ["time", "frequency"])


def test_the_explained_class_of_silence_is_doubted_in_every_form(explainer, tmp_path):
    model = explainer.classifier.model
    again = Explainer(explainer.classifier, explainer.bases.values(), explainer.training.recordings)
    model.n_silent = 0
    with pytest.warns(UserWarning, match=WARNING) as caught:
        explained = again.explain({"a": tone(500), "b": tone(800)}, ["rain", "dog"], **SHARED)
    assert len(caught) == 1
    assert model.n_silent == 1
    silent = transform(torch.zeros(RATE // 2))
    with torch.no_grad():
        expected = model(silent[None])[0].double().softmax(0)
    for page, label in zip(explained, [1, 0] * 2, strict=True):
        assert page.silence_probability == pytest.approx(expected[label].item(), rel=1e-5)
    page, other = explained[0], explained[1]
    doubt = f"digital silence gets this class too (probability {expected[1]:.2f}; this clip {page.probability:.2f})"
    assert (page.silence_doubt, page.heard_in_silence, other.heard_in_silence) == (doubt, True, False)
    assert f"\n    {doubt}\n" in repr(explained)
    assert doubt in explained.write(tmp_path / "page.html").read_text()
    for scheme in (None, "time"):
        words = " ".join(text.get_text().replace("\n", " ") for text in page.figure(scheme).findobj(Text))
        assert doubt in words
    rows = explained.rows()
    assert rows[0]["silence_probability"] == pytest.approx(expected[1].item(), rel=1e-5)
    with open(explained.write_csv(tmp_path / "a.csv"), newline="") as file:
        lines = list(csv.DictReader(file))
    assert [float(line["silence_probability"]) for line in lines] == [row["silence_probability"] for row in rows]


def test_a_class_that_silence_gets_as_much_as_the_clip_is_doubted_without_a_warning(explainer):
    """Silence has 0.02 of "dog" or "siren"; a clip that has less of one of them gets it as much."""
    page = explainer.explain(tone(500), "dog", **SHARED)[0]
    weaker = replace(page, scores=[page.silence[0] - 1.0, *page.silence[1:]])
    assert weaker.silence_doubt.startswith("digital silence gets this class as much (probability 0.02; this clip 0.0")
    stronger = replace(page, scores=[page.silence[0] + 1.0, *page.silence[1:]])
    assert stronger.silence_doubt == ""
    unknown = replace(page, silence=())
    assert (unknown.silence_doubt, unknown.silence_probability, unknown.heard_in_silence) == ("", None, False)
    of_scores = replace(weaker, exclusive=None)
    assert of_scores.silence_doubt.startswith("digital silence gets this class as much (score ")


@pytest.mark.parametrize("exclusive", [True, False])
def test_a_model_that_prefers_no_class_in_silence_is_not_doubted(exclusive):
    clips = [Clip.from_waveform(tone(400 * (1 + i), seed=i), RATE, label=CLASSES[i % 3]) for i in range(6)]
    classifier = classifier_of(0.0, exclusive)  # 1/3 or 1/2 of each class
    explained = Explainer.fit(classifier, clips, ["time"]).explain(tone(500), **SHARED)  # warnings are errors
    assert not explained[0].heard_in_silence
    assert "Digital silence" not in repr(examine(classifier, n_layers=0))


def test_examine_says_which_class_silence_gets():
    for bias, exclusive, probability in ((4.0, True, "0.96"), (4.0, False, "0.98")):
        examination = examine(classifier_of(bias, exclusive), n_layers=0)
        assert next(iter(examination.silence)) == "rain"
        assert f"Digital silence gets 'rain' (probability {probability}): what is explained for it" in repr(examination)


def test_a_model_that_fails_on_silence_is_explained_all_the_same():
    def failing(waveform):
        if not waveform.any():
            raise RuntimeError("no sound")
        return transform(waveform)

    clips = [Clip.from_waveform(tone(400 * (1 + i), seed=i), RATE) for i in range(6)]
    for broken in (failing, lambda waveform: transform(waveform) / waveform.abs().max()):  # an error, and NaN
        explainer = Explainer.fit(replace(classifier_of(4.0), transform=broken), clips, ["time"])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            page = explainer.explain(tone(500), **SHARED)[0]
        assert (page.silence_doubt, page.silence_probability) == ("", None)
        assert examine(replace(classifier_of(4.0), transform=broken), n_layers=0).silence == {}


def test_the_demonstration_is_not_doubted():
    sounds = EveningSounds("demo")
    clips = [sounds.waveform(index) for index in range(len(sounds))]
    for page in pond_explainer().explain(clips, n_channels=1, n_prototypes=1, search=None):
        assert page.silence_doubt == ""
