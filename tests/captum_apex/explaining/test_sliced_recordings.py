"""Fits on recordings that are longer than the clips of the classifier."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from captum_apex import Classifier, Explainer, FeatureBank, Recordings, fit_basis
from captum_apex.cli.loading import training_recordings
from captum_apex.recordings import Slices

RATE = 8000


@pytest.fixture
def classifier():
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(1, 2, (1, 64), stride=64), nn.ReLU())
    model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2))
    names = ["dog", "rain"]
    return Classifier(
        model, lambda waveform: waveform[None, None], RATE, names, layer=layer, length=4096, input_layout="n c f t"
    )


@pytest.fixture
def folder(tmp_path):
    for index, name in enumerate(["dog/a", "rain/b"]):
        path = tmp_path / f"{name}.wav"
        path.parent.mkdir()
        soundfile.write(path, np.random.default_rng(index).uniform(-0.5, 0.5, 3 * 4096), RATE)
    return tmp_path


def test_a_fit_says_that_files_are_cut_and_how_to_slice_them(classifier, folder):
    recordings = Recordings.in_folder(folder)
    with pytest.warns(UserWarning, match=r"up to 1.54 s only the first 0.512 s .*Slices.of\(recordings, 0.512\)"):
        Explainer.fit(classifier, recordings, ["time"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "6 recordings are few for a fit")
        explainer = Explainer.fit(classifier, Slices.of(recordings, 0.512), ["time"])
    assert len(explainer.training) == 6
    rows = explainer.explain(explainer.training.waveform(1)).rows()
    names = {each["clip"] for row in rows for each in row["prototypes"]}
    assert names
    assert {name.partition(" at ")[2] for name in names} <= {"0 s", "0.512 s", "1.024 s"}


def test_a_fit_on_fewer_clips_than_prototypes_takes_all_and_warns_of_few_once(classifier, folder):
    """As the guides say; `fit_basis` warns of the number, because there the numbers of prototypes are the caller's."""
    with pytest.warns(UserWarning, match="^6 recordings are few for a fit, .* fit on some tens") as caught:
        explainer = Explainer.fit(classifier, Slices.of(Recordings.in_folder(folder), 0.512), ["time"])
    (basis,) = explainer.bases.values()
    assert basis.positive.indices.shape[1] == 5  # of 6 clips
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="6 clips are fewer than 100 prototypes"):
        fit_basis(FeatureBank.from_dataset(classifier.model, classifier.layer, explainer.training), "time", epochs=1)


def test_a_fit_warns_by_the_same_number_as_an_explanation(classifier, tmp_path):
    for n_samples, is_cut in ((4136, False), (4137, True)):
        soundfile.write(tmp_path / "a.wav", np.random.default_rng(0).uniform(-0.5, 0.5, n_samples), RATE)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            Explainer.fit(classifier, Recordings.in_folder(tmp_path), ["time"])
        assert any("are cut" in str(warning.message) for warning in caught) == is_cut


def test_the_command_line_slices_by_the_length_of_the_classifier(classifier, folder, tmp_path_factory):
    assert len(training_recordings(classifier, folder, skip_bad=False)) == 2
    for skip_bad in (False, True):
        assert training_recordings(classifier, folder, skip_bad, sliced=True).labels == (0, 0, 0, 1, 1, 1)
    table = tmp_path_factory.mktemp("tables") / "calls.csv"
    table.write_text("file,start,end,label\na.wav,0.6,0.7,rain\n")
    annotated = training_recordings(classifier, folder, False, annotations=table)
    assert annotated.labels == ((0, 0), (0, 1), (0, 0), (0, 0), (0, 0), (0, 0))


@pytest.mark.parametrize(("short", "n_samples"), [("pad", 4096), ("repeat", 1000), ("keep", 1000)])
def test_a_recording_shorter_than_a_slice_is_read_as_the_classifier_says(classifier, tmp_path, short, n_samples):
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, 1000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype="FLOAT")
    inputs = replace(classifier, short=short).dataset(Slices.of(Recordings.in_folder(tmp_path), 0.512))
    assert len(inputs.sound(0)) == n_samples
    np.testing.assert_array_equal(inputs.sound(0)[:1000], sound)
    assert not inputs.sound(0)[1000:].any()
