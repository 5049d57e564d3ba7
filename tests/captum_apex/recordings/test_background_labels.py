"""Clips without any of the classes, by the folder or the label that says so."""

import numpy as np
import pandas as pd
import pytest

from captum_apex import Recordings


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize("negatives", ["no call", "No_Call", "00_no call"])
def test_a_folder_of_the_background_has_negatives(tmp_path, negatives):
    put(tmp_path, "call/a.wav", "call/b.wav", f"{negatives}/c.wav")
    recordings = Recordings.in_folder(tmp_path, ["call"], background="no call")
    assert dict(zip(recordings.names, recordings.labels, strict=True)) == {
        "call/a.wav": (1,),
        "call/b.wav": (1,),
        f"{negatives}/c.wav": (0,),
    }
    assert recordings.class_names == ("call",)
    with pytest.raises(ValueError, match="to be named like classes"):
        Recordings.in_folder(tmp_path, ["call"])


def test_several_classes_can_have_a_background_and_be_named_by_their_folders(tmp_path):
    put(tmp_path, "rain/a.wav", "dog/b.wav", "nothing/c.wav")
    recordings = Recordings.in_folder(tmp_path, background="nothing")
    assert recordings.class_names == ("dog", "rain")
    assert recordings.names == ("dog/b.wav", "nothing/c.wav", "rain/a.wav")
    assert recordings.labels == ((1, 0), (0, 0), (0, 1))


@pytest.mark.parametrize(
    ("values", "class_names", "rows"),
    [
        (["call", "no call"], ["call"], ((1,), (0,))),
        ([1, 0], ["call"], ((1,), (0,))),
        (np.array([True, False]), ["call"], ((1,), (0,))),
        ([1.0, 0.0], ["call"], ((1,), (0,))),
        ([[1], [0]], ["call"], ((1,), (0,))),
        (["dog", "no call"], ["dog", "rain"], ((1, 0), (0, 0))),
        ([1, 2], ["dog", "rain"], ((0, 1), (0, 0))),
        ([[1, 1], [0, 0]], ["dog", "rain"], ((1, 1), (0, 0))),
        (["dog;rain", "no call"], ["dog", "rain"], ((1, 1), (0, 0))),
    ],
)
def test_labels_of_any_kind(tmp_path, values, class_names, rows):
    put(tmp_path, "a.wav", "b.wav")
    table = {"file": ["a.wav", "b.wav"], "label": values}
    recordings = Recordings.from_table(table, class_names=class_names, folder=tmp_path, background="no call")
    assert recordings.labels == rows


def test_a_csv_file_of_ones_and_zeros(tmp_path):
    put(tmp_path, "a.wav", "b.wav")
    pd.DataFrame({"file": ["a.wav", "b.wav"], "label": [0, 1]}).to_csv(tmp_path / "t.csv", index=False)
    assert Recordings.from_csv(tmp_path / "t.csv", class_names=["call"], background="no call").labels == ((0,), (1,))


def test_a_table_needs_the_names_of_the_classes(tmp_path):
    put(tmp_path, "a.wav")
    with pytest.raises(ValueError, match="`class_names` with the background 'no call'"):
        Recordings.from_table({"file": ["a.wav"], "label": ["call"]}, folder=tmp_path, background="no call")
