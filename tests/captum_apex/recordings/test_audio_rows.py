"""Recordings in a Hugging Face data set, in each of the forms in which its rows hold sound."""

import io
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from datasets import Audio, ClassLabel, Dataset, DatasetDict, Features, List, Value
from torch import nn

from captum_apex import Classifier, Recordings

RATE = 16000
CLASSES = ("dog", "rain")


def sound(index):
    return np.linspace(-0.5, 0.25 * index, 400, dtype="float32")


def encoded(index, suffix="wav"):
    file = io.BytesIO()
    soundfile.write(file, sound(index), RATE, format=suffix, subtype="FLOAT")
    return file.getvalue()


def of_bytes(folder):
    rows = [{"bytes": encoded(index), "path": f"{index}.wav"} for index in range(3)]
    return Dataset.from_dict({"audio": rows}).cast_column("audio", Audio(sampling_rate=8000))


def of_files(folder):
    for index in range(3):
        (folder / f"{index}.wav").write_bytes(encoded(index))
    return Dataset.from_dict({"audio": [str(folder / f"{index}.wav") for index in range(3)]})


def of_audio_files(folder):
    return of_files(folder).cast_column("audio", Audio())


def of_arrays(folder):
    rows = [{"path": f"{index}.wav", "array": sound(index), "sampling_rate": RATE} for index in range(3)]
    return Dataset.from_dict({"audio": rows})


def with_transform(folder):
    return of_bytes(folder).with_transform(lambda rows: 1 / 0)


class Decoders:
    """A data set whose rows hold decoders, as torchcodec's, with two channels."""

    column_names = ("audio", "label")
    features = {"audio": None, "label": None}  # noqa: RUF012
    labels = ("rain", "dog", "rain")

    def __len__(self):
        return 3

    def __getitem__(self, key):
        if key == "label":
            return list(self.labels)
        data = torch.from_numpy(np.stack([sound(key), sound(key)]))
        return {"audio": SimpleNamespace(get_all_samples=lambda: SimpleNamespace(data=data, sample_rate=RATE))}


FORMS = {
    "bytes": of_bytes,
    "paths": of_files,
    "paths as audio": of_audio_files,
    "arrays": of_arrays,
    "a transform": with_transform,
}


def labelled(split, labels=(1, 0, 1), names=CLASSES):
    return split.add_column("label", list(labels)).cast_column("label", ClassLabel(names=list(names)))


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_the_sounds_of_each_form_are_read_one_by_one(tmp_path, form):
    split = labelled(form(tmp_path))
    recordings = Recordings.from_hugging_face(split)
    assert (recordings.labels, recordings.class_names) == ((1, 0, 1), CLASSES)
    assert [recordings.name(index) for index in range(3)] == ["0.wav", "1.wav", "2.wav"]
    for index in range(3):
        assert recordings.waveform(index, RATE).tolist() == sound(index).tolist()
        assert recordings.waveform(index, RATE, 420).tolist() == [*sound(index).tolist(), *[0.0] * 20]


def test_decoders_are_asked_for_all_their_samples():
    recordings = Recordings.from_hugging_face(Decoders())
    assert (recordings.names, recordings.labels, recordings.class_names) == (
        ("row 0", "row 1", "row 2"),
        (1, 0, 1),
        CLASSES,
    )
    with warnings.catch_warnings(action="ignore"):
        assert recordings.waveform(2, RATE).tolist() == sound(2).tolist()
        with pytest.raises(ValueError, match="row 2 at 16000 Hz with one channel, but got 16000 Hz with 2"):
            recordings.waveform(2, RATE, convert=False)


def test_nothing_is_decoded_before_it_is_asked_for(tmp_path):
    split = labelled(Dataset.from_dict({"audio": [{"bytes": b"", "path": "a.wav"}] * 3}).cast_column("audio", Audio()))
    recordings = Recordings.from_hugging_face(split)
    assert len(recordings.fingerprint()) == 64
    assert recordings.names == ("a.wav (row 0)", "a.wav (row 1)", "a.wav (row 2)")
    with pytest.raises(ValueError, match=r"a\.wav \(row 1\)"):
        recordings.waveform(1, RATE)


def test_bad_rows_can_be_left_out(tmp_path):
    rows = [{"bytes": encoded(0), "path": None}, None, {"bytes": b"no", "path": None}, {"bytes": None, "path": None}]
    rows += [{"bytes": encoded(1), "path": None}, {"bytes": None, "path": str(tmp_path / "gone.wav")}]
    split = Dataset.from_dict(
        {"audio": rows}, features=Features({"audio": {"bytes": Value("binary"), "path": Value("string")}})
    )
    recordings = Recordings.from_hugging_face(labelled(split, [0, 0, 0, 0, 1, 1]))
    readable, bad = recordings.readable(lambda index: recordings.waveform(index, RATE))
    assert list(bad) == ["row 1", "row 2", "row 3", "gone.wav"]
    assert "expected a sound in the column 'audio' of row 1, but there is none" in bad["row 1"]
    assert (readable.names, readable.labels) == (("row 0", "row 4"), (0, 1))
    assert readable.waveform(1, RATE).tolist() == sound(1).tolist()
    assert readable.fingerprint() != recordings.fingerprint()
    again, none = readable.readable(lambda index: readable.waveform(index, RATE))
    assert (again.names, again.sounds.rows, none) == (readable.names, (0, 4), {})


@pytest.mark.parametrize("form", [of_bytes, of_arrays])
def test_the_fingerprint_is_that_of_the_order(tmp_path, form):
    split = labelled(form(tmp_path))
    before = Recordings.from_hugging_face(split).fingerprint()
    assert Recordings.from_hugging_face(labelled(form(tmp_path))).fingerprint() == before
    assert Recordings.from_hugging_face(split.select([2, 1, 0])).fingerprint() != before


def test_without_paths_the_fingerprint_is_of_the_state_of_the_data_set():
    def split(order):
        return Dataset.from_dict({"audio": [{"array": sound(index), "sampling_rate": RATE} for index in order]})

    hashes = [
        Recordings.from_hugging_face(split(order), label=None).fingerprint() for order in ([0, 1], [1, 0], [0, 1])
    ]
    assert hashes[0] == hashes[2] != hashes[1]


LABELS = {
    "ClassLabel": ([1, 0, 1], ClassLabel(names=["dog", "rain"])),
    "ClassLabel in another order": ([0, 1, 0], ClassLabel(names=["001_rain", "Dog"])),
    "names": (["rain", "dog", "rain"], Value("string")),
    "indices": ([1, 0, 1], Value("int8")),
    "bools": ([True, False, True], Value("bool")),
    "floats": ([1.0, 0.0, 1.0], Value("float32")),
}


@pytest.mark.parametrize(("labels", "feature"), LABELS.values(), ids=LABELS)
def test_one_label_of_each_kind(tmp_path, labels, feature):
    split = of_bytes(tmp_path).add_column("class", labels).cast_column("class", feature)
    assert Recordings.from_hugging_face(split, label="class", class_names=CLASSES).labels == (1, 0, 1)


@pytest.mark.parametrize(
    ("labels", "feature"),
    [
        ([[0, 1], [], [1]], List(ClassLabel(names=["dog", "rain"]))),
        ([["rain", "dog"], [], ["rain"]], List(Value("string"))),
        ([[1, 1], [0, 0], [0, 1]], List(Value("float32"))),
    ],
)
def test_several_labels_of_a_sound(tmp_path, labels, feature):
    split = of_bytes(tmp_path).add_column("class", labels).cast_column("class", feature)
    recordings = Recordings.from_hugging_face(split, label="class", class_names=CLASSES)
    assert recordings.labels == ((1, 1), (0, 0), (0, 1))


def test_sounds_without_labels(tmp_path):
    split = of_bytes(tmp_path)
    assert Recordings.from_hugging_face(split, label=None).labels is None
    hidden = labelled(split, [-1, -1, -1])
    assert Recordings.from_hugging_face(hidden).labels is None
    with pytest.raises(ValueError, match=r"there is none for 1\.wav and 'dog' for 0\.wav"):
        Recordings.from_hugging_face(labelled(split, [0, -1, 1]))


def test_the_rows_become_inputs_of_a_classifier(tmp_path):
    model = nn.Linear(400, 2)
    classifier = Classifier(model, lambda waveform: waveform, RATE, CLASSES)
    split = labelled(of_bytes(tmp_path), names=("rain", "dog"))
    with pytest.raises(
        ValueError,
        match=r"in this order, but got rain, dog; .*as in Recordings.in_folder\(folder, classifier.class_names\)",
    ):
        classifier.dataset(Recordings.from_hugging_face(split))
    dataset = classifier.dataset(Recordings.from_hugging_face(split, class_names=classifier.class_names))
    inputs, label = dataset[2]
    assert (inputs.tolist(), label) == (sound(2).tolist(), 0)
    assert dataset.clip(1).title == "rain, 1.wav"


def test_the_data_set_is_as_it_was(tmp_path):
    split = with_transform(tmp_path)
    before = (split.features, split.format["type"], split._fingerprint)
    Recordings.from_hugging_face(split, label=None).waveform(0, RATE)
    assert (split.features, split.format["type"], split._fingerprint) == before


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda split: DatasetDict(train=split, test=split),
            TypeError,
            "one split .* a dict of train, test; choose one",
        ),
        (lambda split: split.to_iterable_dataset(), TypeError, "IterableDataset; load it without streaming"),
        (lambda split: "name/of_a_data_set", TypeError, "of the `datasets` library .* but got str"),
        (lambda split: split.rename_column("audio", "sound"), ValueError, "are sound, label; .* as `audio`"),
        (lambda split: split.rename_column("label", "class"), ValueError, "are audio, class; .* as `label`"),
    ],
)
def test_what_is_no_split_with_sounds_is_refused(tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        Recordings.from_hugging_face(change(labelled(of_bytes(tmp_path))))


def test_a_column_without_sounds_is_refused_with_its_row():
    split = Dataset.from_dict({"audio": [[0.5, 0.25]]})
    with pytest.raises(TypeError, match=r"with its sample rate in the column 'audio' of row 0, but got list; cast"):
        Recordings.from_hugging_face(split, label=None).waveform(0, RATE)


@pytest.mark.parametrize("class_names", [["call"], None])
def test_a_background_is_no_class(tmp_path, class_names):
    """Without names, the classes are those of the `ClassLabel` but for the background."""
    split = labelled(of_bytes(tmp_path), names=("no call", "call"))
    recordings = Recordings.from_hugging_face(split, class_names=class_names, background="no call")
    assert (recordings.labels, recordings.class_names) == (((1,), (0,), (1,)), ("call",))
    classifier = Classifier(nn.Linear(400, 1), lambda waveform: waveform, RATE, ["call"], background="no call")
    dataset = classifier.dataset(recordings)
    assert [dataset[index][1].tolist() for index in range(3)] == [[1.0], [0.0], [1.0]]
    assert dataset.clip(1).title == "no call, 1.wav"


def test_a_background_needs_the_names_of_the_classes(tmp_path):
    split = of_bytes(tmp_path).add_column("label", ["call", "no call", "call"])
    with pytest.raises(ValueError, match="expected `class_names` with the background 'no call', but got None"):
        Recordings.from_hugging_face(split, background="no call")
    recordings = Recordings.from_hugging_face(split, class_names=["call"], background="no call")
    assert recordings.labels == ((1,), (0,), (1,))


def test_short_sounds_are_repeated_where_the_classifier_repeats(tmp_path):
    split = labelled(of_bytes(tmp_path))
    classifier = Classifier(nn.Linear(1000, 2), lambda waves: waves, RATE, CLASSES, length=1000, short="repeat")
    inputs, _ = classifier.dataset(Recordings.from_hugging_face(split))[2]
    assert inputs.tolist() == [*sound(2).tolist() * 2, *sound(2)[:200].tolist()]
