"""Audio files and folders of them."""

import io
import math
import os
import sys
import warnings

import numpy as np
import pytest
import soundfile
import torch

from captum_apex import Recordings
from captum_apex.recordings.decoding import as_waveform, decode, read

CLASSES = ["siren", "dog", "rain"]


def put(path, samples=160, rate=16000, value=0.25):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(samples, value, dtype="float32"), rate)


def test_a_sub_folder_is_a_class_and_the_order_is_that_of_the_names(tmp_path):
    for name in ("rain/b.wav", "rain/a.flac", "dog/z.WAV", "siren/10.wav", "siren/9.wav"):
        put(tmp_path / name)
    (tmp_path / "dog" / "notes.txt").write_text("no audio")
    put(tmp_path / "dog" / "._z.wav")
    put(tmp_path / ".cache" / "x.wav")
    (tmp_path / "empty").mkdir()
    recordings = Recordings.in_folder(tmp_path, CLASSES)
    assert recordings.names == ("dog/z.WAV", "rain/a.flac", "rain/b.wav", "siren/10.wav", "siren/9.wav")
    assert recordings.labels == (1, 2, 2, 0, 0)
    assert len(recordings) == 5
    assert recordings.path(1) == tmp_path / "rain" / "a.flac"
    assert recordings.name(1).endswith("a.flac")
    assert recordings.class_names == tuple(CLASSES)
    assert recordings.twins(0) == ()


def test_without_class_names_the_sub_folders_are_the_classes(tmp_path):
    for name in ("rain/b.wav", "dog/z.wav", "dog/a.wav"):
        put(tmp_path / name)
    recordings = Recordings.in_folder(tmp_path)
    assert (recordings.class_names, recordings.labels) == (("dog", "rain"), (0, 0, 1))


def test_twins_are_the_other_files_of_a_group():
    recordings = Recordings("here", ("a", "b", "c", "d"), groups=("1", "2", "1", "1"))
    assert [recordings.twins(index) for index in range(4)] == [(2, 3), (), (0, 3), (0, 2)]


def test_files_without_sub_folders_have_no_labels(tmp_path):
    for name in ("b.wav", "a.ogg"):
        put(tmp_path / name, 4000)
    recordings = Recordings.in_folder(tmp_path, CLASSES)
    assert (recordings.names, recordings.labels) == (("a.ogg", "b.wav"), None)


def test_the_fingerprint_follows_names_and_sizes_and_not_the_folder(tmp_path):
    for folder in ("one", "two"):
        for name in ("dog/a.wav", "rain/b.wav"):
            put(tmp_path / folder / name)
    one, two = (Recordings.in_folder(tmp_path / folder, CLASSES) for folder in ("one", "two"))
    before = one.fingerprint()
    assert before == two.fingerprint()
    put(tmp_path / "two" / "dog" / "a.wav", samples=161)
    assert two.fingerprint() != before
    (tmp_path / "one" / "dog" / "a.wav").rename(tmp_path / "one" / "dog" / "c.wav")
    assert Recordings.in_folder(tmp_path / "one", CLASSES).fingerprint() != before


def test_a_name_that_is_not_unicode_is_read_like_any_other(tmp_path):
    put(tmp_path / "a.wav")
    odd = tmp_path / os.fsdecode(b"\xff.wav")
    try:
        (tmp_path / "a.wav").rename(odd)
    except OSError:
        pytest.skip("this file system takes Unicode names only")
    recordings = Recordings.in_folder(tmp_path, CLASSES)
    assert read(recordings.path(0), 16000).tolist() == [0.25] * 160
    assert len(recordings.fingerprint()) == 64


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ((), FileNotFoundError, r"expected audio files \(\.aif.*but there are none"),
        (("dog/sub/a.wav",), FileNotFoundError, "or its sub-folders, but there are none"),
        (("cat/a.wav",), ValueError, r"named like classes \(siren, dog, rain\), but got 'cat'"),
        (("dog/a.wav", "b.wav"), ValueError, "has the file 'b.wav' beside the sub-folder 'dog'"),
    ],
)
def test_a_folder_without_recordings_or_with_mixed_contents_is_refused(tmp_path, files, error, message):
    for name in files:
        put(tmp_path / name)
    with pytest.raises(error, match=message):
        Recordings.in_folder(tmp_path, CLASSES)
    with pytest.raises(FileNotFoundError, match="expected a folder of audio"):
        Recordings.in_folder(tmp_path / "missing", CLASSES)


def test_a_file_is_cut_and_padded(tmp_path):
    samples = np.linspace(-0.5, 0.5, 100, dtype="float32")
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    assert read(tmp_path / "a.wav", 8000).tolist() == samples.tolist()
    assert read(tmp_path / "a.wav", 8000, 60).tolist() == samples[:60].tolist()
    assert read(tmp_path / "a.wav", 8000, 130).tolist() == [*samples.tolist(), *[0.0] * 30]


def test_channels_are_averaged(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.array([[0.5, 0.25]] * 10, dtype="float32"), 8000, subtype="FLOAT")
    with pytest.warns(UserWarning, match="^recordings with 2 channels are mixed down to one, their mean$"):
        assert read(tmp_path / "a.wav", 8000).tolist() == [0.375] * 10


def tone(rate, seconds=1.0):
    return 0.5 * torch.sin(2 * math.pi * 440 * torch.arange(round(rate * seconds), dtype=torch.float64) / rate)


@pytest.mark.parametrize("length", [None, 4000])
def test_another_rate_is_resampled(tmp_path, length):
    """A tone stays a tone of the same frequency and level, also where the clip is cut."""
    soundfile.write(tmp_path / "a.wav", tone(22050).numpy(), 22050, subtype="FLOAT")
    with pytest.warns(UserWarning, match="^recordings at 22050 Hz are resampled to 8000 Hz$"):
        waveform = read(tmp_path / "a.wav", 8000, length)
    assert len(waveform) == (length or 8000)
    last = len(waveform) if length else -50  # a clip cut out of a longer sound is exact up to its end
    assert (waveform - tone(8000)[: len(waveform)])[50:last].abs().max() < 5e-3


def test_a_warning_is_shown_once_and_not_for_every_recording(tmp_path):
    paths = [tmp_path / f"{name}.wav" for name in "abc"]
    for path in paths:
        soundfile.write(path, np.zeros((100, 2)), 16000)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for path in paths:
            read(path, 8000)
    assert len(caught) == 2


@pytest.mark.parametrize(("rate", "channels", "got"), [(16000, 1, "16000 Hz with 1"), (8000, 2, "8000 Hz with 2")])
def test_another_rate_or_several_channels_are_refused_without_convert(tmp_path, rate, channels, got):
    soundfile.write(tmp_path / "a.wav", np.full((10, channels), 0.25, dtype="float32"), rate, subtype="FLOAT")
    with pytest.raises(ValueError, match=rf"a\.wav at 8000 Hz with one channel, but got {got}; convert it"):
        read(tmp_path / "a.wav", 8000, convert=False)
    soundfile.write(tmp_path / "a.wav", np.full(10, 0.25, dtype="float32"), 8000, subtype="FLOAT")
    assert read(tmp_path / "a.wav", 8000, convert=False).tolist() == [0.25] * 10


def test_a_sound_in_memory_becomes_a_waveform_like_a_file(tmp_path):
    samples = torch.stack([tone(22050), -tone(22050) / 2])
    soundfile.write(tmp_path / "a.wav", samples.T.numpy(), 22050, subtype="FLOAT")
    with pytest.warns(UserWarning, match="with 2 channels"), pytest.warns(UserWarning, match="at 22050 Hz"):
        waveform = as_waveform(samples, 22050, 8000)
    with pytest.warns(UserWarning, match="with 2 channels"), pytest.warns(UserWarning, match="at 22050 Hz"):
        assert torch.equal(waveform, read(tmp_path / "a.wav", 8000))
    assert waveform.dtype == torch.float32
    assert as_waveform(torch.tensor([0.5]), 8000, 8000, 2).tolist() == [0.5, 0]
    with pytest.raises(ValueError, match="the recording at 8000 Hz with one channel, but got 8000 Hz with 2"):
        as_waveform(torch.zeros(2, 10), 8000, 8000, convert=False)


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        (np.zeros(3), TypeError, "a tensor of floats, but got float64"),
        ([0.5], TypeError, "a tensor of floats, but got list"),
        (torch.zeros(3, dtype=torch.int16), TypeError, "a tensor of floats, but got torch.int16"),
        (torch.zeros(1, 2, 3), ValueError, r"\(channel, sample\) or \(sample,\), but got \(1, 2, 3\)"),
        (torch.zeros(100, 2), ValueError, r"\(channel, sample\) or \(sample,\), but got \(100, 2\)"),
        (torch.zeros(2, 0), ValueError, "to hold sound, but it is empty"),
        (torch.tensor([torch.inf]), ValueError, "to hold sound, but got NaN or infinity"),
    ],
)
def test_what_is_no_sound_in_memory_is_refused(samples, error, message):
    with pytest.raises(error, match=message):
        as_waveform(samples, 8000, 8000)


@pytest.mark.parametrize(
    ("centre", "first"),
    [(None, 0), (5.0, 30), (0.5, 0), (9.5, 60)],
    ids=["beginning", "middle", "too early", "too late"],
)
def test_a_clip_is_centred_but_stays_inside_the_file(centre, first):
    """100 samples at 10 Hz, of which 40 are taken: each is its own number."""
    file = io.BytesIO()
    soundfile.write(file, np.arange(100) / 128, 10, format="wav", subtype="FLOAT")
    file.seek(0)
    assert (decode(file, 10, 40, centre=centre) * 128).tolist() == list(range(first, first + 40))


def test_a_short_file_is_padded_whatever_the_centre():
    file = io.BytesIO()
    soundfile.write(file, np.full(10, 0.5), 10, format="wav", subtype="FLOAT")
    file.seek(0)
    assert decode(file, 10, 40, centre=0.9).tolist() == [0.5] * 10 + [0.0] * 30


def test_only_what_is_needed_of_a_long_file_is_read(tmp_path, monkeypatch):
    put(tmp_path / "a.wav", samples=16000 * 60)
    frames_read = []
    whole = soundfile.SoundFile.read

    def counted(file, *arguments, **more):
        block = whole(file, *arguments, **more)
        frames_read.append(len(block))
        return block

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    assert len(read(tmp_path / "a.wav", 16000, 16000)) == 16000
    assert sum(frames_read) == 16160


def test_what_is_no_sound_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected an audio file at .*none.wav"):
        read(tmp_path / "none.wav", 8000)
    (tmp_path / "text.wav").write_text("hello")
    with pytest.raises(ValueError, match="text.wav to be audio, but it cannot be read"):
        read(tmp_path / "text.wav", 8000)
    put(tmp_path / "empty.wav", samples=0)
    with pytest.raises(ValueError, match="empty.wav to hold sound, but it is empty"):
        read(tmp_path / "empty.wav", 8000)
    soundfile.write(tmp_path / "nan.wav", np.array([0, np.nan]), 8000, subtype="FLOAT")
    with pytest.raises(ValueError, match="nan.wav to hold sound, but got NaN"):
        read(tmp_path / "nan.wav", 8000)


@pytest.mark.parametrize("missing", ["soundfile", "torchaudio.functional"])
def test_a_missing_package_is_named(tmp_path, monkeypatch, missing):
    put(tmp_path / "a.wav")
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=rf"expected {missing.partition('.')[0]}.*captum-apex\[audio\]"):
        read(tmp_path / "a.wav", 8000)
