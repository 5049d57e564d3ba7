"""Long recordings as slices, with the labels of their files or of annotations."""

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torch import nn

from captum_apex import Classifier, Recordings
from captum_apex.recordings import Slices

RATE = 1000


def put(folder, seconds_of):
    for name, seconds in seconds_of.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        samples = np.arange(round(seconds * RATE), dtype="float32") / 2**15
        soundfile.write(folder / name, samples, RATE, subtype="FLOAT")


@pytest.mark.parametrize(
    ("duration", "hop", "starts"),
    [
        (10.0, None, [0.0, 4.0, 6.0]),
        (8.0, None, [0.0, 4.0]),
        (4.0, None, [0.0]),
        (2.5, None, [0.0]),
        (9.0, 2.0, [0.0, 2.0, 4.0, 5.0]),
        (9.0, 2.5, [0.0, 2.5, 5.0]),
    ],
)
def test_slices_cover_a_recording_and_hold_its_samples(tmp_path, duration, hop, starts):
    put(tmp_path, {"a.wav": duration})
    slices = Slices.of(Recordings.in_folder(tmp_path), 4.0, hop)
    assert [start for _, start in slices.places] == starts
    whole = torch.arange(round(duration * RATE)) / 2**15
    for index, start in enumerate(starts):
        expected = torch.zeros(4 * RATE)
        section = whole[round(start * RATE) :][: 4 * RATE]
        expected[: len(section)] = section
        for length in (None, 4 * RATE):
            assert torch.equal(slices.waveform(index, RATE, length), expected)


@pytest.mark.parametrize("short", ["pad", "repeat"])
def test_a_recording_shorter_than_a_slice_is_filled_as_the_classifier_says(tmp_path, short):
    put(tmp_path, {"dog/a.wav": 1.5, "dog/b.wav": 6.0})
    slices = Slices.of(Recordings.in_folder(tmp_path), 4.0)
    classifier = Classifier(nn.Linear(4000, 1), lambda waves: waves, RATE, ["dog"], length=4 * RATE, short=short)
    dataset = classifier.dataset(slices)
    ramp = torch.arange(6 * RATE) / 2**15
    first = torch.arange(4 * RATE)
    filled = ramp[first % 1500] if short == "repeat" else torch.where(first < 1500, ramp[first], 0.0)
    for index, expected in enumerate([filled, ramp[:4000], ramp[2000:]]):
        assert torch.equal(dataset.input(index), expected)


def test_slices_have_the_labels_and_the_names_of_their_files(tmp_path):
    put(tmp_path, {"dog/a.wav": 5.0, "rain/b.wav": 8.0})
    recordings = Recordings.in_folder(tmp_path)
    slices = Slices.of(recordings, 4.0)
    assert slices.labels == (0, 0, 1, 1)
    assert slices.class_names == ("dog", "rain")
    assert slices.name(1) == f"{recordings.name(0)} at 1 s"
    assert Slices.of(Recordings.in_folder(tmp_path / "dog"), 4.0).labels is None


ROWS = {
    "file": ["a.wav", "b.wav", "sub/b.wav", "a.wav"],
    "start": [1.0, 4.5, 0.0, 9.0],
    "end": [1.5, 7.0, 12.0, 9.5],
    "label": ["dog", "rain", "dog", "nothing"],
}


def annotated(folder, annotations, **settings):
    put(folder, {"a.wav": 12.0, "c.wav": 4.0})
    put(folder / "more", {"sub/b.wav": 12.0})
    names = ("a.wav", "c.wav", "more/sub/b.wav")
    recordings = Recordings(folder, names, class_names=("dog", "rain"))
    return Slices.of(recordings, 4.0, annotations=annotations, background="nothing", **settings)


def test_a_slice_has_the_classes_of_which_half_lies_in_it(tmp_path):
    slices = annotated(tmp_path, {**ROWS, "file": ["a.wav", "b.wav", "more/sub/b.wav", "a.wav"]})
    assert slices.labels == ((1, 0), (0, 0), (0, 0), (0, 0), (1, 0), (1, 1), (1, 0))


def test_raven_tables_and_data_frames_give_the_same(tmp_path):
    rows = {**ROWS, "file": ["a.wav", "b.wav", "more/sub/b.wav", "a.wav"]}
    names = {"file": "File", "start": "Begin Time (s)", "end": "End Time (s)", "label": "Species"}
    frame = pd.DataFrame(rows, index=[7, 3, 9, 1]).rename(columns=names)
    frame.to_csv(tmp_path / "table.txt", sep="\t", index=False)
    expected = annotated(tmp_path, rows).labels
    assert annotated(tmp_path, frame).labels == expected
    assert annotated(tmp_path, tmp_path / "table.txt").labels == expected


def test_the_fingerprint_says_which_slices_they_are(tmp_path):
    put(tmp_path, {"dog/a.wav": 5.0, "rain/b.wav": 8.0})
    recordings = Recordings.in_folder(tmp_path)
    prints = [
        Slices.of(recordings, seconds, hop).fingerprint() for seconds, hop in ((4.0, None), (2.0, None), (4.0, 1.0))
    ]
    assert len({*prints, recordings.fingerprint()}) == 4
    assert Slices.of(Recordings.in_folder(tmp_path), 4.0).fingerprint() == prints[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": ["d.wav"]}, "row 0 of the annotations to name one of the recordings, but 0 have the name 'd.wav'"),
        ({"start": [3.0], "end": [2.0]}, "0 <= start < end, in s, in row 0 of the annotations, but got 3.0 and 2.0"),
        ({"start": ["soon"]}, "0 <= start < end"),
        ({"label": ["cat"]}, "among the classes"),
    ],
)
def test_errors_of_annotations(tmp_path, changes, message):
    rows = {"file": ["a.wav"], "start": [1.0], "end": [2.0], "label": ["dog"], **changes}
    with pytest.raises(ValueError, match=message):
        annotated(tmp_path, rows)


def test_errors_of_columns_and_numbers(tmp_path):
    with pytest.raises(ValueError, match="to have a column 'start', but its columns are file, label"):
        annotated(tmp_path, {"file": ["a.wav"], "label": ["dog"]})
    with pytest.raises(ValueError, match=r"0 < `hop` <= `seconds`, in s, but got 5.0 and 4.0"):
        annotated(tmp_path, None, hop=5.0)
