"""The Free Spoken Digit Dataset."""

from collections import Counter
from pathlib import Path

import pytest

from captum_apex.datasets import fsdd
from tests.captum_apex.datasets.tiny_collections import DATA, names, needs_recordings, put, write_digits


def test_digits_are_read_with_the_customary_parts(tmp_path):
    folder = write_digits(tmp_path)
    both, train, test = fsdd(folder), fsdd(folder, "train"), fsdd(folder, "test")
    assert names(test) == ["0_theo_0.wav", "1_theo_1.wav", "9_lucas_4.wav"]
    assert names(train) == ["0_theo_12.wav", "0_theo_5.wav", "9_lucas_40.wav"]
    assert names(both) == sorted([*names(train), *names(test)])
    assert [test.class_names[label] for label in test.labels] == ["zero", "one", "nine"]
    assert test.groups == ("theo", "theo", "lucas")
    assert test.waveform(2, 8000, 3).tolist() == [9 / 16] * 3


def test_speakers_divide_the_digits_into_parts_without_a_common_voice(tmp_path):
    folder = write_digits(tmp_path)
    train, test = fsdd(folder, speakers=["theo"]), fsdd(folder, speakers=["lucas"])
    assert (set(train.groups), set(test.groups)) == ({"theo"}, {"lucas"})
    assert len(train) + len(test) == len(fsdd(folder))


def test_errors_of_the_digits(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected a folder at .*none"):
        fsdd(tmp_path / "none")
    with pytest.raises(
        FileNotFoundError, match="expected recordings in .*, but there are none for the given arguments"
    ):
        fsdd(tmp_path)
    write_digits(tmp_path)
    with pytest.raises(ValueError, match="`part`, if it is given, to be one of 'train', 'test', but got 'valid'"):
        fsdd(tmp_path, "valid")
    with pytest.raises(ValueError, match="`speakers` among lucas, theo, but got 'anna'"):
        fsdd(tmp_path, speakers=["theo", "anna"])
    with pytest.raises(ValueError, match="`speakers` among lucas, theo, but got 'theo'"):
        fsdd(tmp_path, speakers="theo")
    put(tmp_path / "zero.wav")
    with pytest.raises(ValueError, match=r"named \{digit\}_\{speaker\}_\{index\}\.wav in .*, but got 'zero\.wav'"):
        fsdd(tmp_path)


@needs_recordings
def test_the_real_digits_are_complete():
    train, test = fsdd(Path(DATA) / "fsdd", "train"), fsdd(Path(DATA) / "fsdd", "test")
    assert Counter(train.labels) == dict.fromkeys(range(10), 225)
    assert Counter(test.labels) == dict.fromkeys(range(10), 25)
    assert not set(train.names) & set(test.names)
