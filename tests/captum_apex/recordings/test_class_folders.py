"""Folders of classes that are named otherwise than the classes, and recordings in deeper folders."""

import pytest

from captum_apex import Recordings
from captum_apex.recordings.class_labels import class_indices

ESC10 = {  # as the release of 2015 and its mirrors name them
    "001 - Dog bark": "dog bark",
    "002_rain": "rain",
    "003-sea_waves": "sea waves",
    "004. Baby-cry": "baby_cry",
    "Clock Tick": "clock tick",
}


def put(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_folders_of_esc10_are_the_classes_that_they_name(tmp_path):
    put(tmp_path, *(f"{folder}/a.wav" for folder in ESC10))
    class_names = list(ESC10.values())[::-1]
    recordings = Recordings.in_folder(tmp_path, class_names)
    labels = {
        name.partition("/")[0]: class_names[label]
        for name, label in zip(recordings.names, recordings.labels, strict=True)
    }
    assert labels == ESC10
    assert recordings.class_names == tuple(class_names)


def test_spellings_of_one_name_are_one_class(tmp_path):
    put(tmp_path, "Dog_bark/a.wav", "dog bark/b.wav", "rain/c.wav")
    assert Recordings.in_folder(tmp_path, ["rain", "dog bark"]).labels == (1, 1, 0)


def test_a_name_of_a_class_comes_before_a_similar_one():
    assert class_indices(["dog", "Dog", "1_dog"], ["1_dog", "Dog", "dog"]) == {"dog": 2, "Dog": 1, "1_dog": 0}
    assert class_indices(["dog bark"], ["001_dog_bark", "rain"]) == {"dog bark": 0}


@pytest.mark.parametrize(
    ("name", "class_names"),
    [
        ("1.5 kHz", ["5 kHz", "kHz"]),
        ("10-20 kHz", ["20 kHz"]),
        ("2_dog", ["1_dog"]),
        ("001", ["1"]),
        ("dogs", ["dog"]),
        ("_", ["-", " "]),
        ("3rd", ["rd"]),
        ("C-", ["C"]),
        ("-1", ["1"]),
    ],
)
def test_what_only_looks_similar_means_no_class(name, class_names):
    assert class_indices([name], class_names) == {}


@pytest.mark.parametrize(
    ("folders", "class_names", "message"),
    [
        (
            ["Dog_Bark"],
            ["dog bark", "dog-bark"],
            r"'Dog_Bark' to mean one class, but .* 'dog bark', 'dog-bark'; name it",
        ),
        (["1_dog"], ["dog", "Dog"], "similar to 'dog', 'Dog'"),
        (["dog"], ["1 dog", "2 dog"], "similar to '1 dog', '2 dog'"),
        (["1_dog", "2_dog"], ["dog", "rain"], "'1_dog' and '2_dog' to mean two classes, but both mean 'dog'"),
        (["dog", "001_dog"], ["dog", "rain"], "'001_dog' and 'dog' to mean two classes"),
        (
            ["dog", "fox"],
            ["dog", "rain"],
            "but got 'fox'; if the files have no labels, .*; if the model has this class, add it",
        ),
    ],
)
def test_folders_that_could_mean_several_classes_are_refused(tmp_path, folders, class_names, message):
    put(tmp_path, *(f"{folder}/a.wav" for folder in folders))
    with pytest.raises(ValueError, match=message) as raised:
        Recordings.in_folder(tmp_path, class_names)
    assert str(tmp_path) in str(raised.value)


def test_recordings_in_deeper_folders_are_of_the_class_of_the_outermost(tmp_path):
    put(tmp_path, "rain/b.wav", "rain/a/2021/c.wav", "rain/a/2020/d.wav", "dog/day 1/e.wav", "dog/.cache/f.wav")
    recordings = Recordings.in_folder(tmp_path)
    assert recordings.names == ("dog/day 1/e.wav", "rain/a/2020/d.wav", "rain/a/2021/c.wav", "rain/b.wav")
    assert recordings.labels == (0, 1, 1, 1)
    assert recordings.path(1).is_file()


def test_a_link_to_another_folder_is_followed_and_one_to_a_folder_around_it_is_not(tmp_path):
    put(tmp_path, "sounds/dog/a.wav", "elsewhere/b.wav", "elsewhere/deep/c.wav")
    (tmp_path / "sounds" / "dog" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "deep" / "up").symlink_to(tmp_path / "elsewhere")
    with pytest.warns(UserWarning, match=r"links to a folder around them \(1: dog/more/deep/up\)$"):
        recordings = Recordings.in_folder(tmp_path / "sounds")
    assert recordings.names == ("dog/a.wav", "dog/more/b.wav", "dog/more/deep/c.wav")


@pytest.mark.parametrize(
    ("files", "example"),
    [
        (("test/dog/a.wav", "test/rain/b.wav", "train/dog/c.wav"), "test/dog"),
        (("audio/dog/a.wav", "audio/rain/b.wav"), "audio/dog"),
    ],
)
def test_classes_that_may_be_deeper_folders_are_asked_for(tmp_path, files, example):
    put(tmp_path, *files)
    top = example.partition("/")[0]
    message = rf"deeper, such as in {example}; where '{top}' is a class, give `class_names`; .* folder .*/{top}$"
    with pytest.raises(ValueError, match=message):
        Recordings.in_folder(tmp_path)
    with pytest.raises(ValueError, match=rf"named like classes .* but got '{top}'; {example} is, so give the folder"):
        Recordings.in_folder(tmp_path, ["dog", "rain"])
    names = ["audio", "test", "train"]
    labels = [names.index(file.partition("/")[0]) for file in files]
    assert list(Recordings.in_folder(tmp_path, names).labels) == labels
    assert Recordings.in_folder(tmp_path / top).class_names == ("dog", "rain")
