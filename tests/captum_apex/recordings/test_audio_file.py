"""Files as they are in the field, decoded to their real end; each odd file against the whole one."""

import gzip
import io
import os
import resource
import struct
import threading
import warnings
from pathlib import Path

import pytest
import soundfile
import torch

from captum_apex.recordings import decode, read
from captum_apex.recordings.audio_file import opened_audio
from captum_apex.recordings.windows import Windows
from tests.interrupting import check_that_no_interruption_is_swallowed
from tests.odd_files import (
    IMPLAUSIBLE,
    LENGTH_UNKNOWN,
    RATE,
    SECONDS,
    TOO_LONG,
    TOO_SHORT,
    WHOLE,
    damaged,
    edited,
    tone,
    written,
)


def whole(tmp_path, suffix):
    """The path of a whole file, and its samples as soundfile reads them at once."""
    path = written(tmp_path / f"a.{suffix}", *WHOLE[suffix])
    with soundfile.SoundFile(path) as sound:
        sound.seekable = lambda: False
        samples = sound.read(sound.frames, dtype="float32")
    return path, torch.from_numpy(samples)


def windows_of(path):
    return list(Windows.of(path, RATE, 2.0, 0.75))


def check_windows(path, samples):
    """The windows are sections of the samples, from the beginning to the end."""
    windows = windows_of(path)
    assert windows[-1][0] == max(0, len(samples) - 2 * RATE)
    for start, window in windows:
        section = samples[start : start + len(window)]
        assert torch.equal(window[: len(section)], section)


@pytest.mark.parametrize("suffix", WHOLE)
def test_whole_files_are_read_as_they_are(tmp_path, suffix):
    path, samples = whole(tmp_path, suffix)
    assert len(samples) >= SECONDS * RATE
    assert torch.equal(read(path, RATE), samples)
    assert torch.equal(read(path, RATE, 1000), samples[:1000])
    check_windows(path, samples)
    with open(path, "rb") as file:  # the middle of the file, also where the format cannot jump
        middle = decode(file, RATE, 2000, centre=len(samples) // 2 / RATE)
    torch.testing.assert_close(middle, samples[len(samples) // 2 - 1000 :][:2000], rtol=0, atol=1e-6)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "g721.wav"])
def test_reading_jumps_goes_on_and_goes_back(tmp_path, suffix):
    path, samples = whole(tmp_path, suffix)
    with open(path, "rb") as file, opened_audio(file, "a") as sound:
        for first, length in [(0, 100), (50, 200), (250, 5000), (60_000, 700), (60_100, 100), (3, 9), (90_000, 10_000)]:
            section = samples[first : first + length]
            torch.testing.assert_close(sound.read(first, length)[0], section, rtol=0, atol=1e-6)
        assert sound.read(len(samples) + 5, 10).shape == (1, 0)


@pytest.mark.parametrize("suffix", LENGTH_UNKNOWN)
def test_a_file_without_a_length_is_read_to_its_end(tmp_path, suffix):
    path, samples = whole(tmp_path, suffix)
    edited(path, LENGTH_UNKNOWN[suffix])
    assert torch.equal(read(path, RATE), samples)
    check_windows(path, samples)
    with open(path, "rb") as file:
        assert torch.equal(decode(file, RATE, 1000, centre=100.0), samples[-1000:])


@pytest.mark.parametrize("suffix", IMPLAUSIBLE)
def test_no_header_decides_how_much_memory_is_taken(tmp_path, suffix):
    path, samples = whole(tmp_path, suffix)
    edited(path, IMPLAUSIBLE[suffix])
    largest = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + 2**28, largest[1]))
    try:
        waveform = read(path, RATE)
        windows = Windows.of(path, RATE, 2.0, 1.0)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, largest)
    assert torch.equal(waveform[: len(samples)], samples)
    assert len(waveform) - len(samples) < 0.1 * RATE  # without its length, an MP3 file has some padding
    assert windows.n_samples == len(waveform)


@pytest.mark.parametrize("suffix", TOO_LONG)
def test_a_file_that_ends_early_says_so(tmp_path, suffix):
    path, samples = whole(tmp_path, suffix)
    edited(path, TOO_LONG[suffix])
    says = rf"a\.{suffix} ends at \d\.?\d* s, but its header says \d+\.?\d* s"
    with pytest.warns(UserWarning, match=says):
        waveform = read(path, RATE)
    n_whole = len(waveform) - (0 if suffix == "flac" else RATE // 10)
    assert n_whole > len(samples) // 4
    assert torch.equal(waveform[:n_whole], samples[:n_whole])
    with pytest.warns(UserWarning, match=says):
        windows = windows_of(path)
    assert windows[-1][0] == max(0, len(waveform) - 2 * RATE)
    with pytest.warns(UserWarning, match=says):
        assert read(path, RATE, 20 * RATE)[len(waveform) :].abs().max() == 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(path, RATE, RATE)  # there is enough of it


@pytest.mark.parametrize("suffix", TOO_SHORT)
def test_a_file_that_goes_on_after_its_length_says_so(tmp_path, suffix):
    path, samples = whole(tmp_path, suffix)
    edited(path, TOO_SHORT[suffix])
    says = rf"a\.{suffix} is read up to .* s, because its header says .* s, but \d+ of its \d+ bytes follow"
    with pytest.warns(UserWarning, match=says):
        waveform = read(path, RATE)
    assert len(waveform) < 0.9 * len(samples)
    with pytest.warns(UserWarning, match=says):
        windows_of(path)


@pytest.mark.parametrize("suffix", ["flac", "ogg", "opus", "mp3"])
def test_a_damaged_file_is_read_up_to_the_damage_and_says_so(tmp_path, suffix):
    path, samples = whole(tmp_path, suffix)
    edited(path, damaged)
    says = r"a\.\w+ (cannot be decoded after|ends at) \d\.?\d* s.*header says 6"
    with pytest.warns(UserWarning, match=says):
        waveform = read(path, RATE)
    n_whole = len(samples) // 4
    assert torch.equal(waveform[:n_whole], samples[:n_whole])
    with pytest.warns(UserWarning, match=says):
        windows = windows_of(path)
    assert 0 <= len(waveform) - 2 * RATE - windows[-1][0] < 4096  # one block


@pytest.mark.parametrize("suffix", ["ogg", "opus"])
def test_a_chain_of_streams_is_read_whole(tmp_path, suffix):
    path, samples = whole(tmp_path, suffix)
    edited(path, lambda data: data + data)
    both = torch.cat([samples, samples])
    assert torch.equal(read(path, RATE), both)
    check_windows(path, both)
    other = io.BytesIO()
    soundfile.write(other, tone(), 8000, format=WHOLE[suffix][0], subtype=WHOLE[suffix][1])
    edited(path, lambda data: data + other.getvalue())
    with pytest.raises(ValueError, match=r"a chain of streams with 16000 Hz, 1 and 8000 Hz, 1; split it"):
        read(path, RATE)


def test_a_file_whose_header_was_never_completed_says_so(tmp_path):
    path, _ = whole(tmp_path, "wav")
    edited(path, lambda data: data.__setitem__(slice(40, 44), bytes(4)))
    for call in (lambda: read(path, RATE), lambda: Windows.of(path, RATE, 2.0, 1.0)):
        with pytest.raises(ValueError, match=r"a\.wav to hold sound, but its header says .* empty, .* 192044 bytes"):
            call()


def test_a_sound_of_more_than_4_gb_is_not_taken_for_its_first_second(tmp_path):
    """A header has 32 bits for the length, which then hold the rest of a division; the file here has a hole."""
    path = tmp_path / "night.wav"
    soundfile.write(path, tone()[:RATE], RATE)
    os.truncate(path, 2**32 + 44 + 2 * RATE)
    with pytest.warns(UserWarning, match=r"night.wav is read up to 1 s, because its header says 1 s, but 429\d+ of"):
        assert len(read(path, RATE)) == RATE


@pytest.mark.parametrize("content", [b"", b"RIFF", tone().tobytes(), b"OggS" + bytes(300), b"\xff\xfb\x90d" * 3])
@pytest.mark.parametrize("suffix", ["wav", "raw", "mp3", "vox"])
def test_what_is_no_audio_is_refused_by_name(tmp_path, content, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)
    for call in (lambda: read(path, RATE), lambda: Windows.of(path, RATE, 2.0, 1.0)):
        with pytest.raises(ValueError, match=rf"expected .*a\.{suffix} to (be audio|hold sound), but (?!.*opening \d)"):
            call()


@pytest.mark.parametrize("rate", [0, 1, 15, 2**31 - 1, 2**32 - 1])
def test_a_rate_that_cannot_be_is_refused(tmp_path, rate):
    path, _ = whole(tmp_path, "wav")
    edited(path, lambda data: data.__setitem__(slice(24, 28), struct.pack("<I", rate)))
    with pytest.raises(ValueError, match=r"a\.wav (at a sample rate that can become|to be audio)"):
        read(path, RATE)
    with pytest.raises(ValueError, match=r"a\.wav (at a sample rate that can become|to be audio)"):
        windows_of(path)


@pytest.mark.parametrize("suffix", ["wav", "ogg"])
def test_libsndfile_gets_descriptors_and_never_python_objects(tmp_path, opened_by_libsndfile, suffix):
    """It drops exceptions of Python callbacks, such as an interruption, and goes on with wrong samples."""
    path, samples = whole(tmp_path, suffix)
    edited(path, lambda data: data + data if suffix == "ogg" else data)
    opened_by_libsndfile.clear()  # the test itself wrote and read the whole file
    read(path, RATE)
    windows_of(path)
    with gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(path.read_bytes()))) as packed:
        assert torch.equal(decode(packed, RATE)[: len(samples)], samples)
    assert torch.equal(decode(io.BytesIO(path.read_bytes()), RATE)[: len(samples)], samples)
    assert len(opened_by_libsndfile) >= 5
    assert {type(file) for file in opened_by_libsndfile} == {int}


@pytest.mark.parametrize("buffering", [0, -1])
@pytest.mark.parametrize("suffix", ["wav", "ogg"])
def test_an_opened_file_stays_where_it_was(tmp_path, suffix, buffering):
    """Python does not know that libsndfile has moved the descriptor, and would read on from there."""
    path, samples = whole(tmp_path, suffix)
    data = path.read_bytes()
    with open(path, "rb", buffering=buffering) as file:
        for opened in (file, io.BytesIO(data)):
            assert opened.read(100) == data[:100]
            assert torch.equal(decode(opened, RATE), samples)
            assert opened.tell() == 100
            assert opened.read(20_000) == data[100:20_100]


def test_a_pipe_is_decoded(tmp_path):
    path, samples = whole(tmp_path, "mp3")
    reading, writing = os.pipe()

    def feed():
        with open(writing, "wb") as pipe:
            pipe.write(path.read_bytes())

    feeder = threading.Thread(target=feed)
    feeder.start()
    with open(reading, "rb") as file:
        assert torch.equal(decode(file, RATE), samples)
    feeder.join()


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_an_interruption_is_never_swallowed(tmp_path, suffix):
    path, samples = whole(tmp_path, suffix)

    def check(waveform):
        assert torch.equal(waveform, samples)

    check_that_no_interruption_is_swallowed(lambda: read(path, RATE), check, 40, longest=0.01)
