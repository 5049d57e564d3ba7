"""Sounds in memory: their rates, names and classes come through wherever a classifier takes sounds."""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.text import Text
from torch import nn

from captum_apex import Classifier, Clip, Explainer, Recordings, SpectrogramAxes, examine, listening
from captum_apex.classifiers.sounds_in_memory import SoundInMemory, SoundsInMemory
from captum_apex.texts import short_names

RATE = 8000
CLASSES = ["dog", "rain"]
SHARED = {"n_prototypes": 2, "search": None}
RESAMPLED = "ignore:recordings at 11025 Hz"


def tone(hertz, seconds=0.5, rate=RATE, seed=0):
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(int(rate * seconds)) / rate
    return 0.3 * torch.sin(2 * torch.pi * hertz * time) + 0.01 * torch.randn(len(time), generator=generator)


def transform(waveform):
    """(sample,) → (1, frequency, time)."""
    spectrum = torch.stft(waveform, 256, 128, window=torch.hann_window(256), return_complex=True)
    return 0.5 * spectrum.abs().clamp_min(1e-2).log10()[None]


@pytest.fixture(scope="module")
def classifier():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.Sequential(nn.Conv2d(1, 6, 5, stride=4, padding=2), nn.ReLU())
        model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)).eval()
    axes = SpectrogramAxes(RATE, 256, 128)
    return Classifier(model, transform, RATE, CLASSES, axes, length=RATE // 2, layer=layer, exclusive=True)


@pytest.fixture(scope="module")
def clips():
    sounds = [(tone(400 * (1 + index), rate=11025, seed=index), CLASSES[index % 2]) for index in range(6)]
    return {f"{name} {i}": Clip.from_waveform(wave, 11025, label=name) for i, (wave, name) in enumerate(sounds)}


@pytest.fixture(scope="module")
def explainer(classifier, clips):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Explainer.fit(classifier, clips, ["time"])


@pytest.mark.filterwarnings(RESAMPLED)
def test_clips_in_memory_give_the_bases_of_their_files(classifier, clips, explainer, tmp_path):
    for name, clip in clips.items():
        folder = tmp_path / clip.label
        folder.mkdir(exist_ok=True)
        listening.write(folder / f"{name}.wav", clip.waveform, 11025)
    recordings = Recordings.in_folder(tmp_path, CLASSES)
    inputs = classifier.dataset([clips[recordings.names[index].split("/")[1][:-4]] for index in range(6)])
    files = classifier.dataset(recordings)
    assert list(inputs.labels) == list(files.labels)
    for index in range(6):
        torch.testing.assert_close(inputs.input(index), files.input(index), rtol=0, atol=5e-3)  # of 16 bits
        assert inputs.clip(index).duration == files.clip(index).duration
    assert [explainer.training.name(index) for index in range(6)] == list(clips)
    assert [explainer.training.label_name(index) for index in range(6)] == CLASSES * 3


@pytest.mark.filterwarnings(RESAMPLED, "ignore:recordings with 2 channels")
def test_a_pair_and_a_clip_are_resampled_as_their_file_is(explainer, tmp_path):
    waveform = tone(700, rate=11025)
    path = tmp_path / "new.wav"
    listening.write(path, waveform, 11025)
    expected = explainer.explain(path, **SHARED)[0]
    heard = expected.clip.waveform
    forms = [(waveform, 11025), (waveform.numpy(), np.int64(11025)), (waveform[None], 11025.0)]
    forms += [Clip.from_waveform(waveform, 11025)]
    for form in [*forms, [forms[0]], [forms[3]], {"a": forms[0]}]:
        page = explainer.explain(form, **SHARED)[0]
        torch.testing.assert_close(page.clip.waveform, heard, rtol=0, atol=1e-4)  # of 16 bits
        assert page.explanations[0].score == pytest.approx(expected.explanations[0].score, abs=1e-4)
    as_if = explainer.explain(waveform[:4000], **SHARED)[0]  # at the rate of the classifier: another sound
    assert abs(as_if.explanations[0].score - expected.explanations[0].score) > 5e-3
    stereo = explainer.explain((torch.stack([waveform, -waveform / 2]), 11025), **SHARED)
    torch.testing.assert_close(stereo[0].clip.waveform, heard / 4, rtol=0, atol=1e-4)


@pytest.mark.filterwarnings(RESAMPLED)
def test_names_reach_print_page_tables_and_figures(explainer, tmp_path):
    clip = Clip.from_waveform(tone(500), RATE, name="AM13, 07:00", label="rain")
    named = {"AM12, 06:00": tone(500), "dusk/AM12": (tone(700), RATE), "renamed": clip}
    explained = explainer.explain(named, **SHARED)
    assert [page.clip.name for page in explained] == list(named)
    assert [page.clip.label for page in explained] == ["", "", "rain"]
    assert all(f"  {name}: " in repr(explained) for name in short_names(list(named)))
    assert next(row["clip"] for row in explained.rows()) == "AM12, 06:00"
    for written in (explained.write_csv(tmp_path / "a.csv"), explained.write(tmp_path / "page.html")):
        text = written.read_text()
        assert all(name in text or name.split("/")[1] in text for name in named)
    rows = json.loads(explained.write_json(tmp_path / "a.json").read_text())
    assert {each["clip"] for row in rows for each in row["prototypes"]} <= {
        explainer.training.name(index) for index in range(6)
    }
    shown = explainer.explain([clip, tone(300)], **SHARED)
    assert [page.clip.name for page in shown] == ["AM13, 07:00", "clip 2"]
    assert any("AM13, 07:00" in text.get_text() for text in shown[0].figure().findobj(Text))
    with pytest.raises(ValueError, match="expected AM12 to hold sound, but got NaN"):
        explainer.explain({"AM12": torch.full((4000,), torch.nan)})


def test_what_is_ambiguous_is_refused(classifier, explainer):
    clip = Clip.from_waveform(tone(500), RATE, name="a")
    for taking in (explainer.explain, classifier.dataset):
        with pytest.raises(
            ValueError, match="expected a name of its own for each sound in memory, but 2 are named 'a'"
        ):
            taking([clip, clip])
    with pytest.raises(TypeError, match="from the name of each clip to its file or its sound, but got list for 'dog'"):
        explainer.explain({"dog": [tone(500), tone(600)]})
    with pytest.raises(TypeError, match="but got Tensor for 0; give several clips as a list"):
        explainer.explain({0: tone(500)})
    with pytest.raises(TypeError, match=r"but got list for 'dog'; the class .* label: .* label='dog'\)"):
        classifier.dataset({"dog": [tone(500), tone(600)]})
    with pytest.raises(TypeError, match=r"but got str for 'clip 1'; the files of a folder are Recordings.in"):
        classifier.dataset(["a.wav"])
    for nothing in ([], {}):
        with pytest.raises(ValueError, match="expected at least one recording, but got none"):
            classifier.dataset(nothing)
    with pytest.raises(ValueError, match="expected a Clip with a `waveform`, but that of a is None"):
        explainer.explain(Clip(clip.decibels, clip.axes, name="a"))
    with pytest.raises(TypeError, match="samples of clip 1 as a tensor of floats, but got torch.int16; divide 16-bit"):
        explainer.explain((torch.zeros(4000, dtype=torch.int16), RATE))
    labelled = Clip.from_waveform(tone(500), RATE, name="b", label="cat")
    with pytest.raises(ValueError, match="'cat'"):
        classifier.dataset([labelled])


def test_an_array_without_a_rate_is_said_to_be_at_the_classifiers(explainer):
    message = r"first 0.5 s are explained; .*without a sample rate is taken to be at the 8000 Hz .* `\(array, rate\)`"
    with pytest.warns(UserWarning, match=message):
        explainer.explain(tone(500, seconds=2), **SHARED)
    with pytest.warns(UserWarning, match=r"first 0.5 s are explained; .*events\)$"):
        explainer.explain((tone(500, seconds=2), RATE), **SHARED)
    assert repr(explainer.explain(tone(500)[:2000], **SHARED)).endswith("at 8000 Hz, filled with zeros after 0.25 s")


def test_samples_far_above_1_give_a_warning(explainer):
    """Those of 16 bits that were converted to floats; 75 is not like them."""
    explainer.explain(250 * tone(500), **SHARED)
    for clip in (32768 * tone(500), (32768 * tone(500), RATE)):
        with pytest.warns(UserWarning, match="samples above 100, .* divide those of 16 bits by 32768"):
            explainer.explain(clip, **SHARED)
    with pytest.warns(UserWarning, match="samples above 100"):
        explainer.explain_recording(32768 * tone(500, seconds=2))


@pytest.mark.filterwarnings(RESAMPLED)
def test_a_recording_in_memory_is_resampled(explainer, tmp_path):
    waveform = torch.cat([tone(400 + 300 * index, rate=11025, seed=index) for index in range(6)])
    listening.write(tmp_path / "night.wav", waveform, 11025)
    expected = explainer.explain_recording(tmp_path / "night.wav", threshold=0.3)
    assert len(expected.events)
    for form in ((waveform, 11025), (waveform.numpy(), 11025), Clip.from_waveform(waveform, 11025)):
        found = explainer.explain_recording(form, threshold=0.3)
        assert found.duration == pytest.approx(expected.duration, abs=1.5 / RATE)  # the last sample is rounded away
        assert [each.name for each in found.events] == [each.name for each in expected.events]
        for one, other in zip(found.events, expected.events, strict=True):
            assert (one.start, one.end) == pytest.approx((other.start, other.end), abs=1.5 / RATE)


def test_a_clip_of_an_explanation_can_be_explained_again(classifier, explainer):
    """It is shown with the zeros that fill it, or repeated; both are taken away."""
    for short in ("pad", "repeat"):
        shown = replace(classifier, short=short).drawn_whole(tone(500)[:1500])
        again = SoundInMemory.of(shown, "")
        assert torch.equal(again.samples, tone(500)[:1500])
    page = explainer.explain(explainer.explain(tone(500)[:1500], **SHARED)[0].clip, **SHARED)[0]
    assert page.clip.ends == 1500 / RATE


@pytest.mark.filterwarnings(RESAMPLED)
def test_examine_takes_a_pair(classifier):
    one = examine(classifier, (tone(700, rate=11025), 11025), n_layers=0)
    assert one.scores == examine(classifier, [Clip.from_waveform(tone(700, rate=11025), 11025)], n_layers=0).scores
    assert one.scores != examine(classifier, tone(700, rate=11025), n_layers=0).scores


def test_the_fingerprint_changes_with_names_rates_and_samples():
    prints = {
        SoundsInMemory.of({name: (samples, rate)}, CLASSES).fingerprint()
        for name, samples, rate in (
            ("a", tone(500), RATE),
            ("b", tone(500), RATE),
            ("a", tone(500), 11025),
            ("a", tone(500) + 1e-6, RATE),
        )
    }
    assert len(prints) == 4


def test_sounds_without_labels_and_of_no_class():
    clips = {"a": tone(500), "b": tone(600)}
    assert SoundsInMemory.of(clips, CLASSES).labels is None
    labelled = [Clip.from_waveform(tone(500), RATE, label=label) for label in ("dog", "quiet")]
    assert SoundsInMemory.of(labelled, CLASSES, "quiet").labels == ((1, 0), (0, 0))
