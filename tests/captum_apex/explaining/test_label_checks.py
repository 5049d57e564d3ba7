"""Labels that contradict the classifier, classes without recordings, and labels that differ from those of the fit."""

import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from captum_apex import Classifier, Explainer, Recordings, listening
from captum_apex.explaining.label_checks import warn_of_few_clips, warn_of_labels

CLASSES = ["zero", "one", "six"]
RATE = 8000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    for index in range(6):
        sound = torch.rand(90, generator=torch.Generator().manual_seed(index))
        listening.write(folder / f"{index}.wav", sound, RATE)
    return folder


@pytest.fixture(scope="module")
def classifier():
    layer = nn.Conv1d(1, 3, 9, stride=9)
    model = nn.Sequential(layer, nn.AdaptiveAvgPool1d(1), nn.Flatten())
    settings = {"layer": layer, "layout": "n c t -> n c 1 t", "input_layout": "n c t", "length": 90}
    return Classifier(model, lambda waveform: waveform[None], RATE, CLASSES, **settings)


def recordings(folder, labels, class_names=CLASSES):
    files = [f"{index}.wav" for index in range(6)]
    return Recordings.from_table({"file": files, "label": labels}, class_names=class_names, folder=folder)


ALL = ["zero", "one", "six", "zero", "one", "six"]
SEVERAL = ["zero", "six, zero", "one", "one, six, zero", "one", "six"]


def test_several_labels_contradict_classes_that_exclude_each_other(classifier, folder):
    exclusive = replace(classifier, exclusive=True)
    given = recordings(folder, SEVERAL)
    with pytest.warns(UserWarning, match=r"2 of 6 recordings .*1\.wav with 'zero, six', but `exclusive=True`"):
        Explainer.fit(exclusive, given, ["time"])
    for each, labels in ((replace(classifier, exclusive=False), SEVERAL), (classifier, SEVERAL), (exclusive, ALL)):
        warn_of_labels(each.dataset(recordings(folder, labels)))  # warnings are errors


@pytest.mark.parametrize("labels", [["one"] * 6, ["one", *SEVERAL[2:3], "one", "one", "one", "one"]])
def test_classes_without_recordings_are_named(classifier, folder, labels):
    with pytest.warns(UserWarning, match=r"no recordings of zero, six: "):
        Explainer.fit(classifier, recordings(folder, labels), ["time"])


def test_the_sub_folder_of_a_class_that_is_missing_is_mentioned(classifier, tmp_path):
    for name in ("zero/a.wav", "one/b.wav"):
        (tmp_path / name).parent.mkdir()
        listening.write(tmp_path / name, torch.rand(90), RATE)
    with pytest.warns(UserWarning, match=r"no recordings of six: "):
        Explainer.fit(classifier, Recordings.in_folder(tmp_path, CLASSES), ["time"])


@pytest.mark.parametrize("labels", [ALL, SEVERAL], ids=["one label", "several"])
def test_another_order_of_classes_than_in_the_fit_is_warned_of(classifier, folder, labels):
    fitted = Explainer.fit(classifier, recordings(folder, labels), ["time"])
    Explainer(classifier, fitted.bases.values(), recordings(folder, labels))  # warnings are errors
    swapped = ["one", "zero", "six"]
    other = replace(classifier, class_names=swapped)
    with pytest.warns(UserWarning, match=r"\('one' was class 1, now 0, 'zero' was class 0, now 1\): check that"):
        Explainer(other, fitted.bases.values(), recordings(folder, labels, swapped))


def test_bases_without_labels_are_not_compared(classifier, folder):
    without = Recordings(folder, tuple(f"{index}.wav" for index in range(6)), class_names=tuple(CLASSES))
    fitted = Explainer.fit(classifier, without, ["time"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Explainer(classifier, fitted.bases.values(), recordings(folder, ALL)).training is not None


@pytest.mark.parametrize(
    ("n_clips", "labels", "said"),
    [
        (39, None, "39 recordings are few for a fit: "),
        (40, None, ""),
        (0, None, "0 recordings are few for a fit: "),
        (49, (0, 1, 2, 3, 4), "49 recordings are few for a fit, some 10 for each class: "),
        (50, (0, 1, 2, 3, 4), ""),
        (50, (0,), ""),
        (59, (0, 1, 2, 3, 4, 5), "59 recordings are few for a fit, some 10 for each class: "),
        (12, (0, 1, 2, 3, 4, 5), "12 recordings are few for a fit, some 2 for each class: "),
        (3, (0, 1, 2, 3, 4, 5), "3 recordings are few for a fit, some 1 for each class: "),
    ],
)
def test_few_recordings_are_warned_of_by_the_classes_that_have_some(n_clips, labels, said):
    """Fewer than 40, or than 10 for each of these classes."""

    class Sounds:
        class_names = tuple("abcdefgh")

        def __init__(self):
            self.labels = None if labels is None else tuple(labels[index % len(labels)] for index in range(n_clips))

        def __len__(self):
            return n_clips

        name = waveform = None

    classifier = Classifier(nn.Linear(9, 8), lambda waveform: waveform[:9], RATE, Sounds.class_names)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_of_few_clips(classifier.dataset(Sounds()))
    assert [str(warning.message).partition("the prototypes")[0] for warning in caught] == ([said] if said else [])
