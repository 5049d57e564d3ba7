"""Labels of several classes: wrong names, combinations without class names, and a column for each class."""

import pandas as pd
import pytest

from captum_apex import Recordings
from captum_apex.recordings.class_labels import class_labels

CLASSES = ["zero", "one", "three", "six", "seven"]


def table(folder, text, name="train.csv"):
    for letter in "abcdef":
        (folder / f"{letter}.wav").touch()
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize("separator", [", ", ";", " | ", " "])
def test_one_wrong_name_among_several_labels_is_named_with_its_line(tmp_path, separator):
    rows = [["six", "zero", "one"], ["one"], ["seven", "one"], ["three"], ["zero", "sevn"], ["six"]]
    lines = [f"{letter}.wav\t{separator.join(names)}" for letter, names in zip("abcdef", rows, strict=True)]
    path = table(tmp_path, "\n".join(["file\tlabels", *lines]))
    with pytest.raises(ValueError, match=r"but got 'sevn' for e\.wav \(line 6\)"):
        Recordings.from_csv(path, class_names=CLASSES)


def test_a_class_that_is_missing_among_the_names_is_named(tmp_path):
    path = table(tmp_path, 'file,labels\na.wav,"six, zero"\nb.wav,"seven, one"\nc.wav,seven\n')
    with pytest.raises(ValueError, match=r"classes \(zero, one, three, six\), but got 'seven' for b\.wav \(line 3\)"):
        Recordings.from_csv(path, class_names=CLASSES[:4])


def test_a_wrong_name_of_several_words_is_named_as_a_whole():
    with pytest.raises(ValueError, match="but got 'dog barks' for clip 1"):
        class_labels(["rain", "dog barks"], "clip {}".format, ["rain", "dog"])


def test_combinations_without_class_names_are_read_as_several_classes(tmp_path):
    path = table(tmp_path, 'file,labels\na.wav,"one, seven"\nb.wav,"seven, six"\nc.wav,one\nd.wav,"six,one"\n')
    with pytest.warns(UserWarning, match=r"such as 'one, seven' are read as several classes.* 3 \(one, seven, six\)"):
        recordings = Recordings.from_csv(path)
    assert recordings.class_names == ("one", "seven", "six")
    assert recordings.labels == ((1, 1, 0), (0, 1, 1), (1, 0, 0), (1, 0, 1))


@pytest.mark.filterwarnings("ignore:labels such as")
@pytest.mark.parametrize(
    "texts", [["10", "2"], ["2, 10", "2", "10"], ["2;10", "10", "2", "10;2"], [["2", "10"], ["10"]]]
)
def test_classes_that_are_numbers_are_in_their_order_in_every_form_of_labels(texts):
    labels, names = class_labels(texts, "clip {}".format)
    assert names == ("2", "10")
    assert labels[0] == (1 if texts == ["10", "2"] else (1, 1))


def test_names_with_commas_stay_names_of_single_classes():
    labels, names = class_labels(["Boat, Water vehicle", "Dog", "Fly, housefly"], "clip {}".format)
    assert labels == (0, 1, 2)
    assert names == ("Boat, Water vehicle", "Dog", "Fly, housefly")


def test_a_column_for_each_class_holds_the_labels(tmp_path):
    text = "file,fold,Seven,one,zero,three,six\na.wav,1,1,0,0,0,1\nb.wav,2,0,0,0,0,0\nc.wav,1,0,True,1.0,0,0\n"
    recordings = Recordings.from_csv(table(tmp_path, text), class_names=CLASSES)
    assert recordings.labels == ((0, 0, 0, 1, 1), (0, 0, 0, 0, 0), (1, 1, 0, 0, 0))
    columns = {"file": ["a.wav", "b.wav"], "one": [1, 0], "zero": [False, True]}
    recordings = Recordings.from_table(pd.DataFrame(columns), class_names=["zero", "one"], folder=tmp_path)
    assert recordings.labels == ((0, 1), (1, 0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,zero,one,three,six\na.wav,1,0,0,0\n", "a column of 0 and 1 for each class, but there is none for seven"),
        ("file,zero,one,three,six,seven\na.wav,1,0,0,0,0\nb.wav,1,2,0,0,0\n", r"column 'one' .* but got '2' in line 3"),
        ("file,bird,wind\na.wav,1,0\n", "name the column 'label', or give each class of `class_names` a column of 0"),
    ],
)
def test_columns_of_classes_that_cannot_be_read_are_refused(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        Recordings.from_csv(table(tmp_path, text), class_names=CLASSES)


def test_a_column_of_labels_goes_before_columns_of_classes(tmp_path):
    path = table(tmp_path, "file,label,zero,one\na.wav,one,1,0\n")
    assert Recordings.from_csv(path, class_names=["zero", "one"]).labels == (1,)


@pytest.mark.parametrize("name", ["target", "Species", "label"])
def test_a_class_may_be_named_like_a_column_of_labels(tmp_path, name):
    """Its 0 and 1 are no indices of classes: 1 would be the class "noise"."""
    path = table(tmp_path, f"file,{name},noise\na.wav,1,0\nb.wav,0,1\nc.wav,1,1\n")
    assert Recordings.from_csv(path, class_names=[name, "noise"]).labels == ((1, 0), (0, 1), (1, 1))
    path = table(tmp_path, f"file,{name}\na.wav,{name}\nb.wav,noise\n")
    assert Recordings.from_csv(path, class_names=[name, "noise"]).labels == (0, 1)
