"""ESC-50 and ESC-10."""

from pathlib import Path

import pytest

from captum_apex.datasets import esc10, esc50
from tests.captum_apex.datasets.tiny_collections import COLUMNS, DATA, TABLE, names, needs_recordings, put, write_esc50


def test_esc50_is_read_by_folds(tmp_path):
    folder = write_esc50(tmp_path)
    whole, first = esc50(folder), esc50(folder, folds=[1])
    assert names(whole) == sorted(row[0] for row in TABLE)
    assert whole.class_names == first.class_names == ("dog", "rooster", "pouring water", "helicopter")
    assert dict(zip(names(whole), whole.labels, strict=True))["1-30-A-40.wav"] == 3
    assert names(first) == ["1-10-A-0.wav", "1-10-B-0.wav", "1-20-A-1.wav", "1-30-A-40.wav"]
    assert first.groups == ("10", "10", "20", "30")
    assert first.twins(0) == (1,)
    assert not set(first.groups) & set(esc50(folder, folds={2, 5}).groups)
    assert esc50(folder, folds=[5]).waveform(0, 8000, 2).tolist() == [5 / 16] * 2


def test_esc10_is_a_subset_of_esc50_with_new_labels(tmp_path):
    recordings = esc10(write_esc50(tmp_path))
    assert recordings.class_names == ("dog", "rooster", "helicopter")
    assert names(recordings) == ["1-10-A-0.wav", "1-10-B-0.wav", "1-20-A-1.wav", "1-30-A-40.wav", "5-60-A-1.wav"]
    assert recordings.labels == (0, 0, 1, 2, 1)


@pytest.mark.parametrize("folders", [("001_dog_bark", "002_rain"), ("001 - Dog bark", "002 - Rain")])
def test_the_older_esc10_is_read_too(tmp_path, folders):
    for name in ("1-10-A.ogg", "2-20-A.ogg", "2-20-B.ogg"):
        put(tmp_path / folders[0] / name, samples=4000)
    put(tmp_path / folders[1] / "1-30-A.ogg", samples=4000)
    whole, second = esc10(tmp_path), esc10(tmp_path, folds=[2])
    assert [name.lower() for name in whole.class_names] == ["dog bark", "rain"]
    assert whole.labels == (0, 0, 0, 1)
    assert (names(second), second.groups, second.labels) == (["2-20-A.ogg", "2-20-B.ogg"], ("20", "20"), (0, 0))
    assert second.class_names == whole.class_names


def test_errors_of_esc(tmp_path):
    with pytest.raises(FileNotFoundError, match="ESC-50's table at .*esc50.csv, but there is none"):
        esc50(tmp_path)
    with pytest.raises(FileNotFoundError, match="meta/esc50.csv, or folders such as 001_dog_bark"):
        esc10(tmp_path)
    folder = write_esc50(tmp_path)
    for folds, got in ([[1, 7], "7"], [[], r"\[\]"]):
        with pytest.raises(ValueError, match=rf"`folds` among 1, 2, 5, but got {got}"):
            esc50(folder, folds=folds)
    (folder / "audio" / "5-60-A-1.wav").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"a recording at .*5-60-A-1\.wav, which ESC-50's table names, but there is none"
    ):
        esc50(folder)
    put(tmp_path / "older" / "001_dog_bark" / "bark.wav")
    with pytest.raises(ValueError, match=r"named \{fold\}-\{source\}-\{take\} in .*001_dog_bark, but got 'bark\.wav'"):
        esc10(tmp_path / "older")


@pytest.mark.parametrize("missing", ["esc10", "src_file"])
def test_a_missing_column_is_named(tmp_path, missing):
    folder = write_esc50(tmp_path, [name for name in COLUMNS if name != missing])
    with pytest.raises(ValueError, match=rf"esc50\.csv to have a column '{missing}', but it has filename, fold"):
        esc50(folder)


@needs_recordings
def test_no_source_of_the_real_esc10_is_in_two_folds():
    folder = Path(DATA) / "esc10"
    parts = [esc10(folder, folds=[fold]) for fold in (1, 2, 3, 4)]
    assert [len(part) for part in parts] == [80] * 4
    assert len(set.union(*(set(part.groups) for part in parts))) == sum(len(set(part.groups)) for part in parts)
