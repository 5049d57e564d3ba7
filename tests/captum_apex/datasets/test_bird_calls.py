"""BirdSet."""

import sys

import pytest
import torch

from captum_apex.datasets import birdset
from tests.captum_apex.datasets.tiny_collections import CODES, RATE, encoded, segments, split


def focal(events, clusters, **more):
    """A split like `train`: a recording of 20 s, with detected events."""
    row = {
        "audio": {"bytes": encoded(20), "path": None},
        "filepath": "XC1.ogg",
        "ebird_code": 1,
        "ebird_code_multilabel": [1],
    }
    return split([row | {"detected_events": events, "event_cluster": clusters} | more])


def times(birds, index):
    """The times in the recording of the first and the last sample of a clip, in seconds."""
    waveform = birds.waveform(index, RATE, 5 * RATE) * 64
    return waveform[0].item(), waveform[-1].item()


def test_segments_have_several_species_or_none():
    birds = birdset(segments())
    assert birds.class_names == tuple(CODES)
    assert birds.labels.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert [birds.name(index) for index in range(len(birds))] == ["HSN_001_0.ogg", "HSN_001_1.ogg", "HSN_001_2.ogg"]
    waveform = birds.waveform(0, RATE, 5 * RATE)
    assert (waveform.shape, waveform.dtype) == ((160_000,), torch.float32)
    assert times(birds, 0) == pytest.approx((0, 5), abs=1e-4)
    # The first sample is 0, and so is the padding.
    assert birds.waveform(2, RATE, 5 * RATE).count_nonzero() == 1.25 * RATE - 1


@pytest.mark.parametrize(
    ("events", "clusters", "start"),
    [
        ([[1.0, 2.0], [9.0, 10.0], [12.0, 13.0]], [1, 0, 0], 7.0),  # the larger cluster, its first event
        ([[8.0, 9.0], [3.0, 5.0]], [0, 1], 6.0),  # as large: the first cluster
        ([[1.0, 2.0], [2.5, 3.0], [10.0, 11.0]], [-1, -1, 0], 8.0),  # noise is no call
        ([[10.0, 11.0]], [-1], 8.0),  # unless there is nothing else
        ([[0.0, 1.0]], [0], 0.0),
        ([[19.0, 20.0]], [0], 15.0),
        ([[10.0, 11.0]], None, 8.0),
        ([], [], 0.0),
        (None, None, 0.0),
    ],
)
def test_a_focal_recording_is_cut_around_its_first_event(events, clusters, start):
    birds = birdset(focal(events, clusters))
    assert times(birds, 0) == pytest.approx((start, start + 5), abs=1e-4)
    assert len(birds.waveform(0, RATE)) == 20 * RATE


@pytest.mark.parametrize(
    ("start", "end", "first"), [(9.0, 12.0, 8.0), (9.0, None, 0.0), (float("nan"), float("nan"), 0.0)]
)
def test_without_detected_events_the_times_of_the_row_count(start, end, first):
    assert times(birdset(focal(None, None, start_time=start, end_time=end)), 0) == pytest.approx(
        (first, first + 5), abs=1e-4
    )


def test_a_row_without_a_list_of_species_has_one():
    assert birdset(focal([], [], ebird_code_multilabel=None, ebird_code=2)).labels.tolist() == [[0, 0, 1]]
    assert birdset(focal([], [], ebird_code_multilabel=None, ebird_code=None)).labels.tolist() == [[0, 0, 0]]


def test_without_a_column_of_names_they_come_from_the_audio():
    audio = [{"bytes": encoded(1), "path": "a/XC9.ogg"}, {"bytes": encoded(1), "path": None}]
    rows = split([{"audio": sound, "ebird_code_multilabel": []} for sound in audio]).remove_columns("filepath")
    assert birdset(rows).names == ("XC9.ogg", "clip 1")
    assert birdset(rows.select([1, 0])).names == ("clip 0", "XC9.ogg")


def test_sounds_can_be_in_files(tmp_path):
    (tmp_path / "XC1.ogg").write_bytes(encoded(20))
    birds = birdset(focal([[10.0, 11.0]], [0], audio={"bytes": None, "path": str(tmp_path / "XC1.ogg")}))
    assert times(birds, 0) == pytest.approx((8, 13), abs=1e-4)
    (tmp_path / "XC1.ogg").unlink()
    with pytest.raises(FileNotFoundError, match=r"a recording of BirdSet at .*XC1\.ogg, but there is none"):
        birds.waveform(0, RATE)


def test_a_row_without_sound_and_a_bad_sound_are_refused_by_name():
    birds = birdset(focal([], [], audio={"bytes": None, "path": None}))
    with pytest.raises(ValueError, match=r"sound or a path for XC1\.ogg, but the column `audio` has neither"):
        birds.waveform(0, RATE)
    birds = birdset(focal([], [], audio={"bytes": b"no sound", "path": None}))
    with pytest.raises(ValueError, match=r"expected XC1\.ogg to be audio"):
        birds.waveform(0, RATE)


def test_another_rate_is_converted_with_a_warning_or_refused():
    birds = birdset(focal([[10.0, 11.0]], [0]))
    with pytest.warns(UserWarning, match="recordings at 32000 Hz are resampled to 16000 Hz"):
        waveform = birds.waveform(0, 16_000, 80_000)
    assert (waveform[8000] * 64).item() == pytest.approx(8.5, abs=1e-2)  # half a second after the beginning
    with pytest.raises(ValueError, match=r"XC1\.ogg at 16000 Hz with one channel, but got 32000 Hz with 1"):
        birds.waveform(0, 16_000, convert=False)


def test_the_fingerprint_follows_names_places_and_labels():
    before = birdset(focal([[10.0, 11.0]], [0])).fingerprint()
    assert birdset(focal([[10.0, 11.0]], [0], filepath="/elsewhere/XC1.ogg")).fingerprint() == before
    for changed in ({"filepath": "XC2.ogg"}, {"detected_events": [[10.0, 12.0]]}, {"ebird_code_multilabel": [0]}):
        assert birdset(focal([[10.0, 11.0]], [0], **changed)).fingerprint() != before


def test_a_split_that_was_saved_is_read_in_the_same_order(tmp_path):
    from datasets import load_from_disk

    segments().save_to_disk(tmp_path / "HSN")
    assert birdset(load_from_disk(tmp_path / "HSN")).fingerprint() == birdset(segments()).fingerprint()


def test_a_name_is_loaded_from_the_hub(monkeypatch):
    loaded = []
    monkeypatch.setattr("datasets.load_dataset", lambda *names, split: loaded.append((*names, split)) or segments())
    assert len(birdset("HSN")) == 3
    birdset("POW", "train")
    assert loaded == [("DBD-research-group/BirdSet", "HSN", "test_5s"), ("DBD-research-group/BirdSet", "POW", "train")]


def test_a_version_that_cannot_load_birdset_by_name_is_an_error(monkeypatch):
    def refuse(*_, split):
        raise RuntimeError("Dataset scripts are no longer supported, but found BirdSet.py")

    monkeypatch.setattr("datasets.load_dataset", refuse)
    with pytest.raises(ValueError, match=r"a version of `datasets` before 4, .*load_from_disk"):
        birdset("HSN")


def test_anything_but_a_split_of_birdset_is_refused(monkeypatch):
    from datasets import DatasetDict

    with pytest.raises(TypeError, match="or one split of it as a datasets.Dataset, but got a dict of train, test_5s"):
        birdset(DatasetDict(train=segments(), test_5s=segments()))
    with pytest.raises(TypeError, match="but got int"):
        birdset(3)
    with pytest.raises(ValueError, match="with a column 'ebird_code_multilabel', but got audio, filepath"):
        birdset(segments().remove_columns("ebird_code_multilabel"))
    with pytest.raises(ValueError, match="lists of class labels in the column 'ebird_code_multilabel', but got None"):
        birdset(segments().remove_columns("ebird_code_multilabel").add_column("ebird_code_multilabel", ["a"] * 3))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ImportError, match=r"the `datasets` library, .*captum-apex\[birdset\]"):
        birdset("HSN")
