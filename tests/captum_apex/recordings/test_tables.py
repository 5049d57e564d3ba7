"""Files and labels from a CSV file and from tables in memory."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torch import nn

from captum_apex import Classifier, FeatureBank, Recordings
from captum_apex.recordings.tables import FILE_COLUMNS, LABEL_COLUMNS

CLASSES = ("dog bark", "rain")
EXPECTED = (("a.wav", "deep/b.wav", "c.wav"), (1, 0, 1), CLASSES)


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, np.full(400, 0.25, dtype="float32"), 16000, format="wav")


def table_in(folder, text, encoding="utf-8", name="sounds.csv"):
    (folder / name).write_bytes(text.encode(encoding))
    return folder / name


TEXTS = {
    "commas": ("file,label\na.wav,rain\ndeep/b.wav,dog bark\nc.wav,rain\n", "utf-8"),
    "a byte order mark": ("file,label\na.wav,rain\ndeep/b.wav,dog bark\nc.wav,rain\n", "utf-8-sig"),
    "semicolons and Windows": ("file;label\r\na.wav;rain\r\ndeep\\b.wav;dog bark\r\nc.wav;rain\r\n", "utf-8-sig"),
    "tabs in UTF-16": ("file\tlabel\na.wav\train\ndeep/b.wav\tdog bark\nc.wav\train\n", "utf-16"),
    "bars": ("file|label\na.wav|rain\ndeep/b.wav|dog bark\nc.wav|rain", "utf-8"),
    "quotes": ('"file","label","note"\n"a.wav","rain","a, b;\nc"\n"deep/b.wav","dog bark",""\nc.wav,rain,\n', "utf-8"),
    "an index of pandas": (",file,label\n0,a.wav,rain\n1,deep/b.wav,dog bark\n2,c.wav,rain\n", "utf-8"),
    "empty lines and spaces": ("file , label\n\n a.wav, rain\n,,\n./deep/b.wav , dog bark\nc.wav,rain\n\n", "utf-8"),
    "a comma at the end": ("file,label\na.wav,rain,\ndeep/b.wav,dog bark,\nc.wav,rain,\n", "utf-8"),
    "indices": ("file,label\na.wav,1\ndeep/b.wav,0\nc.wav,1\n", "utf-8"),
    "similar names": ("file,label\na.wav,002-Rain\ndeep/b.wav,dog_bark\nc.wav,002-Rain\n", "utf-8"),
}


@pytest.mark.parametrize(("text", "encoding"), TEXTS.values(), ids=TEXTS)
def test_a_csv_file_of_any_dialect_gives_the_files_and_their_labels(tmp_path, text, encoding):
    put(tmp_path, *EXPECTED[0])
    recordings = Recordings.from_csv(table_in(tmp_path, text, encoding), class_names=CLASSES)
    assert (recordings.names, recordings.labels, recordings.class_names) == EXPECTED
    assert recordings.waveform(1, 16000).tolist() == [0.25] * 400
    assert recordings.name(1) == str(tmp_path / "deep" / "b.wav")


TABLES = {
    "dict": dict,
    "DataFrame": lambda columns: pd.DataFrame(columns, index=[5, 5, 0]),
    "DataFrame of categories": lambda columns: pd.DataFrame(columns).astype({"label": "category"}),
    "arrays": lambda columns: {name: np.array(values) for name, values in columns.items()},
    "paths": lambda columns: columns | {"file": [Path(name) for name in columns["file"]]},
}


@pytest.mark.parametrize("form", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("class_names", [None, CLASSES])
def test_a_table_in_memory_gives_the_files_and_their_labels(tmp_path, form, class_names):
    put(tmp_path, *EXPECTED[0])
    table = form({"file": list(EXPECTED[0]), "label": ["rain", "dog bark", "rain"]})
    recordings = Recordings.from_table(table, class_names=class_names, folder=tmp_path)
    assert (recordings.names, recordings.labels, recordings.class_names) == EXPECTED


def test_any_columns_can_be_chosen_by_name(tmp_path):
    put(tmp_path / "audio", "a.wav")
    path = table_in(tmp_path, "file,label,Aufnahme,Art\nx,y,a.wav,Kohlmeise\n")
    recordings = Recordings.from_csv(path, file="Aufnahme", label="Art", folder=tmp_path / "audio")
    assert (recordings.names, recordings.class_names) == (("a.wav",), ("Kohlmeise",))
    table = pd.DataFrame([["a.wav", "Kohlmeise"]])
    assert Recordings.from_table(table, 0, 1, folder=tmp_path / "audio").class_names == ("Kohlmeise",)


@pytest.mark.parametrize("file", FILE_COLUMNS)
@pytest.mark.parametrize("label", LABEL_COLUMNS)
def test_usual_names_of_columns_are_known(tmp_path, file, label):
    put(tmp_path, "a.wav")
    table = {"fold": [1], label.upper(): ["dog"], file.title(): ["a.wav"]}
    assert Recordings.from_table(table, folder=tmp_path).class_names == ("dog",)


def test_paths_can_be_absolute_and_stay_readable_from_everywhere(tmp_path, monkeypatch):
    put(tmp_path / "audio", "a.wav")
    path = table_in(tmp_path, f"file,label\n{tmp_path / 'audio' / 'a.wav'},dog\n")
    monkeypatch.chdir(tmp_path)
    recordings = Recordings.from_csv(path)
    assert recordings.path(0) == tmp_path / "audio" / "a.wav"
    assert Recordings.from_csv(path.name).waveform(0, 16000).tolist() == [0.25] * 400


@pytest.mark.parametrize(
    "name",
    ["a b.wav", " a.wav", "ä,ö;ü.wav", "'a'.wav", 'a"b.wav', "a\\b.wav", "=1+1.wav", "\U0001f426.wav", "a\nb.wav"],
)
def test_hostile_names_of_files_are_those_of_the_files(tmp_path, name):
    put(tmp_path, name, "a.wav")
    table = pd.DataFrame({"file": [name], "label": ["dog"]})
    table.to_csv(tmp_path / "sounds.csv", index=False)
    assert Recordings.from_csv(tmp_path / "sounds.csv").names == (name,)
    assert Recordings.from_table(table, folder=tmp_path).names == (name,)


def test_one_column_has_no_labels_and_an_empty_one_neither(tmp_path):
    put(tmp_path, "a.wav", "b.wav")
    for text in ("file\na.wav\nb.wav\n", "file,label\na.wav,\nb.wav,\n"):
        recordings = Recordings.from_csv(table_in(tmp_path, text), class_names=CLASSES)
        assert (recordings.names, recordings.labels, recordings.class_names) == (("a.wav", "b.wav"), None, CLASSES)


def test_several_labels_of_a_file_reach_the_bank(tmp_path):
    """As one 0 or 1 for each class, with the words of the classes at the clip."""
    put(tmp_path, "a.wav", "b.wav", "c.wav")
    path = table_in(tmp_path, 'file,labels\na.wav,"rain,dog_bark"\nb.wav,rain\nc.wav,dog bark\n')
    model = nn.Sequential(nn.Conv1d(1, 2, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    classifier = Classifier(model, lambda waveform: waveform[None], 16000, CLASSES)
    recordings = Recordings.from_csv(path, class_names=classifier.class_names)
    dataset = classifier.dataset(recordings)
    assert [dataset.clip(index).label for index in range(3)] == ["dog bark, rain", "rain", "dog bark"]
    bank = FeatureBank.from_dataset(model, model[0], dataset, layout="n c t -> n c 1 t")
    assert bank.labels.tolist() == [[1, 1], [0, 1], [1, 0]]
    readable, _ = recordings.readable(lambda index: 1 / 0 if index > 2 else None)
    assert readable == recordings


def test_bad_files_can_be_left_out_and_the_fingerprint_follows_the_rest(tmp_path):
    put(tmp_path, "a.wav", "b.wav")
    (tmp_path / "b.wav").write_text("no sound")
    recordings = Recordings.from_csv(table_in(tmp_path, "file,label\nb.wav,dog\na.wav,rain\n"))
    readable, bad = recordings.readable(lambda index: recordings.waveform(index, 16000))
    assert (readable.names, readable.labels, list(bad)) == (("a.wav",), (1,), [str(tmp_path / "b.wav")])
    other = Recordings.from_csv(table_in(tmp_path, "file,label\na.wav,rain\nb.wav,dog\n"))
    assert len({recordings.fingerprint(), readable.fingerprint(), other.fingerprint()}) == 3


def test_missing_files_are_named_with_their_line_or_left_out(tmp_path):
    put(tmp_path, "a.wav", "dir/x.wav")
    path = table_in(tmp_path, "file,label\n\nb.wav,dog\na.wav,rain\ndir,dog\n,dog\nc.wav,cat\n")
    message = rf"4 of 5 are missing: 'b.wav' in line 3, 'dir' in line 5, '' in line 6, …; .* looked for in {tmp_path}"
    with pytest.raises(FileNotFoundError, match=message):
        Recordings.from_csv(path)
    with pytest.warns(UserWarning, match=r"sounds.csv: 4 of 5 files, which are missing, the first 'b.wav' in line 3$"):
        recordings = Recordings.from_csv(path, skip_missing=True)
    assert (recordings.names, recordings.labels, recordings.class_names) == (("a.wav",), (2,), ("cat", "dog", "rain"))
    with pytest.raises(FileNotFoundError, match="1 of 1 are missing"):
        Recordings.from_csv(table_in(tmp_path, "file,label\nb.wav,dog\n"), skip_missing=True)
    with pytest.raises(FileNotFoundError, match="1 of 2 are missing: 'b.wav' in row 1"):
        Recordings.from_table({"file": ["a.wav", "b.wav"]}, folder=tmp_path)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", ValueError, "to name its columns in the first line, and to have rows, but there are none"),
        ("\n\n", ValueError, "to have rows, but there are none"),
        ("file,label\n", ValueError, "to have rows, but there are none"),
        ("a.wav,dog\nb.wav,rain\n", ValueError, "a column of files, but its columns are a.wav, dog; give .* as `file`"),
        ("file,art\na.wav,dog\n", ValueError, "a column of labels, but its columns are file, art; give .* `label`"),
        ("file,file,label\na.wav,b.wav,dog\n", ValueError, "different names, but 'file' occurs twice"),
        ("file,label\na.wav\n", ValueError, "2 cells in each line of .*, but line 2 has 1"),
        ("file,label\na.wav,dog\nb.wav,dog,rain\n", ValueError, "2 cells in each line of .*, but line 3 has 3"),
        ('file,label\n"a.wav,dog\nb.wav,rain\n', ValueError, "but line 2 has 1"),
        ("file,label\na.wav,dog\n./a.wav,rain\n", ValueError, "each file once, but 'a.wav' is in line 2 and in line 3"),
        ("file,label\na.wav,cat\n", ValueError, r"\(dog bark, rain\), but got 'cat' for a.wav \(line 2\)"),
        ("file,label\na.wav,rain\nb.wav,\n", ValueError, r"there is none for b.wav \(line 3\) and 'rain' for a.wav"),
        ("file,label\n" + "a" * 200_000 + ",dog\n", ValueError, "cannot be read at line 2: field larger than"),
        ("file,label\na\0.wav,dog\n", (FileNotFoundError, ValueError), "line 2"),
        ("file,label\n" + "a" * 5000 + ",dog\n", FileNotFoundError, "1 of 1 are missing"),
    ],
)
def test_what_is_no_table_of_files_and_labels_is_refused(tmp_path, text, error, message):
    put(tmp_path, "a.wav", "b.wav")
    with pytest.raises(error, match=message):
        Recordings.from_csv(table_in(tmp_path, text), class_names=CLASSES)


def test_other_files_than_tables_are_refused(tmp_path):
    put(tmp_path, "a.wav")
    with pytest.raises(FileNotFoundError, match=r"expected a table at .*none\.csv, but there is none"):
        Recordings.from_csv(tmp_path / "none.csv")
    with pytest.raises(FileNotFoundError, match="expected a table at"):
        Recordings.from_csv(tmp_path)
    for data in (os.urandom(1000) + b"\xff", "file,label\nBär.wav,dog\n".encode("latin-1"), b"\xff\xfea"):
        (tmp_path / "bad.csv").write_bytes(data)
        with pytest.raises(ValueError, match=r"bad.csv to be a table in UTF-8, but byte \d+ is none; save it as CSV"):
            Recordings.from_csv(tmp_path / "bad.csv")


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        ({"file": [None]}, TypeError, "the path of a file in row 0, but got NoneType None"),
        ({"file": ["a.wav", 3]}, TypeError, "the path of a file in row 1, but got int 3"),
        (pd.DataFrame([["a.wav", "b.wav"]], columns=["file", "file"]), ValueError, "the column 'file' once"),
    ],
)
def test_tables_with_other_values_are_refused(tmp_path, table, error, message):
    put(tmp_path, "a.wav")
    with pytest.raises(error, match=message):
        Recordings.from_table(table, file="file", folder=tmp_path)


def test_the_table_in_memory_is_as_it_was(tmp_path):
    put(tmp_path, "a.wav", "b.wav")
    table = pd.DataFrame({"file": ["a.wav", "b.wav"], "label": [torch.tensor([0, 1]), torch.tensor([1, 1])]})
    before = table.to_csv()
    assert Recordings.from_table(table, class_names=CLASSES, folder=tmp_path).labels == ((0, 1), (1, 1))
    assert table.to_csv() == before
