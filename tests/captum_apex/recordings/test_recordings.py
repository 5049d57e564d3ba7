"""Audio files and folders of them."""

import hashlib
import io
import math
import os
import re
import sys
import warnings
from pathlib import Path

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
    with pytest.warns(UserWarning, match=r"other suffixes \(1: dog/notes.txt\); .* without recordings \(1: empty\)$"):
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


def touched(path):
    path.parent.mkdir(parents=True)
    path.touch()


def link_to_nothing(folder):
    (folder / "rain" / "c.wav").symlink_to(folder / "gone.wav")


def link_to_itself(folder):
    (folder / "rain" / "c.wav").symlink_to(folder / "rain" / "c.wav")


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        (lambda folder: (folder / "rain" / "loop").symlink_to(folder), r"a folder around them \(1: rain/loop\)"),
        (lambda folder: (folder / "loop").symlink_to(folder), r"a folder around them \(1: loop\)"),
        (lambda folder: (folder / "fox").mkdir(), r"sub-folders without recordings \(1: fox\)"),
        (lambda folder: (folder / "fox" / "day1").mkdir(parents=True), r"without recordings \(1: fox\)"),
        (
            lambda folder: touched(folder / "fox" / "day1" / "c.txt"),
            r"without recordings \(1: fox\); .*: fox/day1/c.txt\)",
        ),
        (lambda folder: (folder / "rain" / "c.m4a").touch(), r"files with other suffixes \(1: rain/c.m4a\)"),
        (lambda folder: (folder / "README").touch(), r"files with other suffixes \(1: README\)"),
        (link_to_nothing, r"links to nothing \(1: rain/c.wav\)"),
        (link_to_itself, r"links to nothing \(1: rain/c.wav\)"),
        (lambda folder: os.mkfifo(folder / "rain" / "c.wav"), r"entries that are no files \(1: rain/c.wav\)"),
        (
            lambda folder: [(folder / "rain" / f"{name}.txt").touch() for name in "abcde"],
            r"suffixes \(5: rain/a.txt, rain/b.txt, rain/c.txt, …\)",
        ),
    ],
)
def test_what_is_left_out_of_a_folder_is_said(tmp_path, left_out, said):
    for name in ("dog/a.wav", "rain/b.wav"):
        put(tmp_path / name)
    left_out(tmp_path)
    with pytest.warns(UserWarning, match=f"^left out of .*: .*{said}$"):
        recordings = Recordings.in_folder(tmp_path)
    assert (recordings.names, recordings.class_names) == (("dog/a.wav", "rain/b.wav"), ("dog", "rain"))


COMPOSED, DECOMPOSED = "B\u00e4r", "Ba\u0308r"


@pytest.mark.parametrize("stored", [COMPOSED, DECOMPOSED])
def test_an_accent_is_the_same_composed_and_decomposed(tmp_path, stored):
    """A folder that macOS has decomposed has the classes, the order and the fingerprint of the other one."""
    names = (f"{stored}/{stored}.wav", f"{stored}/Bz.wav", "Bz/a.wav")
    for name in names:
        put(tmp_path / name)
    recordings = Recordings.in_folder(tmp_path)
    assert recordings.class_names == ("Bz", COMPOSED)
    assert recordings.names == (names[2], names[1], names[0])
    for class_names in ((COMPOSED, "Bz"), (DECOMPOSED, "Bz")):
        assert Recordings.in_folder(tmp_path, class_names).labels == (1, 0, 0)
    assert recordings.fingerprint() == (
        hashlib.sha256(
            b"".join(
                f"{name.replace(stored, COMPOSED)}\0{(tmp_path / name).stat().st_size}\0".encode()
                for name in recordings.names
            )
        ).hexdigest()
    )


def test_classes_that_differ_only_in_their_form_are_refused_as_folders_and_told_apart_as_names(tmp_path):
    put(tmp_path / DECOMPOSED / "a.wav")
    assert Recordings.in_folder(tmp_path, (COMPOSED, DECOMPOSED)).labels == (1,)
    put(tmp_path / COMPOSED / "a.wav")
    with pytest.raises(ValueError, match="is there composed and decomposed"):
        Recordings.in_folder(tmp_path)


@pytest.mark.parametrize("labelled", [True, False])
def test_bad_files_among_many_are_named_and_can_be_left_out(tmp_path, labelled):
    names = [f"{'dog/' if labelled else ''}{index:02}.wav" for index in range(20)]
    for name in names:
        put(tmp_path / name)
    bad = {names[3]: b"", names[7]: b"no sound", names[19]: (tmp_path / names[0]).read_bytes()[:44]}
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
    recordings = Recordings.in_folder(tmp_path)
    (tmp_path / names[11]).unlink()
    readable, messages = recordings.readable(lambda index: recordings.waveform(index, 16000))
    assert readable.names == tuple(name for name in names if name not in bad and name != names[11])
    assert readable.labels == ((0,) * 16 if labelled else None)
    assert readable.class_names == recordings.class_names
    assert list(messages) == [str(tmp_path / names[index]) for index in (3, 7, 11, 19)]
    for name, message in messages.items():
        assert name in message
    for index in (3, 7, 11, 19):
        with pytest.raises((ValueError, FileNotFoundError), match=names[index]):
            recordings.waveform(index, 16000)


def test_groups_stay_with_their_files():
    recordings = Recordings(Path("here"), ("a", "b", "c"), labels=(0, 1, 1), groups=("x", "y", "x"))

    def attempt(index):
        if index == 1:
            raise OSError("bad disk")

    readable, messages = recordings.readable(attempt)
    assert (readable.names, readable.labels, readable.groups) == (("a", "c"), (0, 1), ("x", "x"))
    assert messages == {"here/b": "bad disk"}


def test_other_errors_than_those_of_files_are_not_taken_for_bad_files():
    def attempt(index):
        raise ImportError("soundfile")

    with pytest.raises(ImportError):
        Recordings(Path("here"), ("a",)).readable(attempt)


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ((), FileNotFoundError, r"expected audio files \(\.aif.*but there are none: it is empty"),
        (("dog/sub/.a.wav",), FileNotFoundError, r"or its sub-folders, but there are none: only .*\(1: dog\)"),
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
        (torch.zeros(3, dtype=torch.int16), TypeError, "got torch.int16; divide 16-bit samples by 32768"),
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


def test_only_what_is_needed_of_a_long_file_is_read(tmp_path, frames_read):
    put(tmp_path / "a.wav", samples=16000 * 60)
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


@pytest.mark.parametrize("value", [0, -5, 2.5, 16000.0, True, "8000", math.nan])
@pytest.mark.parametrize("setting", ["sample_rate", "length"])
def test_a_rate_or_a_length_that_is_no_number_of_samples_is_refused(tmp_path, setting, value):
    """A negative length would cut the end off."""
    put(tmp_path / "a.wav")
    settings = {"sample_rate": 16000, "length": 100} | {setting: value}
    kind = "" if type(value) is int else f"{type(value).__name__} "
    message = f"expected `{setting}` to be an int of at least 1, but got {kind}{value!r}"
    for call in (
        lambda: read(tmp_path / "a.wav", **settings),
        lambda: decode(io.BytesIO((tmp_path / "a.wav").read_bytes()), **settings),
        lambda: as_waveform(torch.zeros(9), 16000, **settings),
    ):
        with pytest.raises(ValueError if type(value) is int else TypeError, match=re.escape(message)):
            call()


def test_rates_are_whole_numbers_of_any_type():
    waveform = torch.ones(100)
    message = "at 8000 Hz are resampled to 16000 Hz; they have nothing above 4000 Hz, which other clips may have$"
    with pytest.warns(UserWarning, match=message):
        assert len(as_waveform(waveform, np.int64(8000), np.int64(16000), np.int64(150))) == 150
    assert torch.equal(as_waveform(waveform, 8000.0, 8000), waveform)
    with pytest.raises(ValueError, match="a whole number of Hz, but got 8000.5"):
        as_waveform(waveform, 8000.5, 8000)


@pytest.mark.parametrize(
    ("labels", "text"),
    [((0, 1, 1), "dog (1), rain (2)"), (((1, 1), (0, 1), (0, 0)), "dog (1), rain (2)"), (None, "none")],
)
def test_recordings_say_what_they_are(labels, text):
    names = ("dog/a.wav", "rain/b.wav", "rain/c.wav")
    recordings = Recordings(Path("sounds"), names, labels, ("dog", "rain"))
    assert repr(recordings).splitlines() == ["3 recordings of sounds", f"  classes: {text}"]
    grouped = Recordings(Path("sounds"), names, labels, ("dog", "rain"), groups=("x", "x", "y"))
    assert repr(grouped).splitlines()[2:] == ["  groups: 2"]
