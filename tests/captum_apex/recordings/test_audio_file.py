"""Files as they are in the field, decoded to their real end; each odd file against the whole one."""

import gzip
import io
import os
import resource
import struct
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from captum_apex.recordings import decode, read
from captum_apex.recordings.audio_file import opened_audio
from captum_apex.recordings.windows import Windows
from tests.interrupting import (
    check_that_no_interruption_is_swallowed,
    check_that_nothing_fails_after_an_interruption,
)
from tests.odd_files import (
    IMPLAUSIBLE,
    LENGTH_LOST,
    LENGTH_UNKNOWN,
    RATE,
    SECONDS,
    TOO_LONG,
    TOO_SHORT,
    WHOLE,
    damaged,
    edited,
    put,
    tone,
    without_first_frame,
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


@pytest.mark.parametrize("suffix", LENGTH_LOST)
def test_uncompressed_sound_goes_on_after_a_wrong_length(tmp_path, suffix):
    """Recorders that lose power leave the length of an earlier moment, or none; notes after the sound are no sound."""
    path, samples = whole(tmp_path, suffix)
    complete = path.read_bytes()
    for length in (0, 2 * RATE):
        path.write_bytes(complete)
        edited(path, lambda data, length=length: LENGTH_LOST[suffix](data, length))
        says = r"is read up to the end of the file at 6 s, although its header says (1|0\.99975|0\.999875) s"
        with pytest.warns(UserWarning, match=says) if length else warnings.catch_warnings(action="error"):
            assert torch.equal(read(path, RATE), samples)
        with pytest.warns(UserWarning, match=says) if length else warnings.catch_warnings(action="error"):
            check_windows(path, samples)
        with open(path, "rb") as file, opened_audio(file, "a") as sound:
            for first, n_frames in [(0, 100), (50, 200), (60_000, 700), (60_100, 100), (3, 9), (90_000, 5000)]:
                assert torch.equal(sound.read(first, n_frames)[0], samples[first : first + n_frames])


def written_mp3(path, rate, mode, n_channels, levels):
    """An MP3 file of noise of several levels, a second each, which have different bit rates."""
    noise = np.random.default_rng(0).standard_normal((rate * len(levels), n_channels))
    noise *= np.repeat(levels, rate)[:, None]
    soundfile.write(path, noise, rate, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode=mode)
    return path


def read_at_once(path):
    """All samples, (channel, sample), in one call without jumps."""
    with soundfile.SoundFile(path) as sound:
        sound.seekable = lambda: False
        return torch.from_numpy(sound.read(sound.frames, dtype="float32", always_2d=True).T)


@pytest.mark.parametrize("levels", [(0.3, 1e-4, 0.01), (1e-4, 0.3, 1e-4)])
@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize(("rate", "n_channels"), [(8000, 1), (24000, 2), (44100, 1), (48000, 2)])
def test_an_mp3_file_without_its_length_is_read_to_its_end(tmp_path, rate, mode, n_channels, levels):
    path = written_mp3(tmp_path / "a.mp3", rate, mode, n_channels, 4 * levels)
    samples = read_at_once(path)
    edited(path, without_first_frame)
    with warnings.catch_warnings(action="error"), open(path, "rb") as file, opened_audio(file, "a.mp3") as sound:
        waveform = sound.read(0)
        assert waveform.shape[1] - sound.n_frames in range(-2 * 1152, 1)
        # The delay of the encoder, and that of the decoder if the length is unknown, are only left out where a file
        # says so.
        begins = [d for d in (576, 1105) if (waveform[:, d:][:, :rate] - samples[:, :rate]).abs().max() < 1e-6]
        assert len(begins) == 1
        section = waveform[:, begins[0] : begins[0] + samples.shape[1]]
        torch.testing.assert_close(section, samples, rtol=0, atol=1e-6)
        for first in (rate // 2, 10 * rate, 5 * rate, 11 * rate):
            section = waveform[:, first : first + rate // 4]
            torch.testing.assert_close(sound.read(first, rate // 4), section, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_mp3_files_that_were_joined_are_read_whole(tmp_path, mode):
    path = written_mp3(tmp_path / "a.mp3", RATE, mode, 1, 2 * (0.3, 1e-4, 0.01))
    samples = read_at_once(path)
    data = path.read_bytes()
    n_frames = struct.unpack_from(">I", data, max(data.find(b"Xing"), data.find(b"Info")) + 8)[0]
    tag = b"ID3\x04\0\0\0\0\x08\0" + bytes(1024)
    edited(path, lambda data: tag + data + tag + data)
    with warnings.catch_warnings(action="error"):
        waveform = read(path, RATE)
    torch.testing.assert_close(waveform[: samples.shape[1] - 1152], samples[0, :-1152], rtol=0, atol=1e-6)
    second = (n_frames + 1) * 576  # the frame with the length of the second file is silence
    section = waveform[second:][: samples.shape[1] - 2000]
    torch.testing.assert_close(section[2000:], samples[0, 2000 : len(section)], rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
@pytest.mark.parametrize(("rate", "n_channels"), [(8000, 2), (16000, 1), (44100, 1)])
def test_the_middle_of_an_mp3_file_is_as_in_the_whole(tmp_path, rate, mode, n_channels):
    """Its frames need bytes of earlier ones: after a mere jump, libsndfile gives up to 0.3 s of silence or noise."""
    path = written_mp3(tmp_path / "a.mp3", rate, mode, n_channels, 4 * (0.3, 1e-4, 0.01))
    samples = read_at_once(path)
    for first in np.random.default_rng(0).integers(0, samples.shape[1], 10).tolist():
        with open(path, "rb") as file, opened_audio(file, "a.mp3") as sound:
            torch.testing.assert_close(sound.read(first, 2000), samples[:, first : first + 2000], rtol=0, atol=1e-6)


@pytest.mark.parametrize("n_gigabytes", [4, 8, 12])
@pytest.mark.parametrize("notes", [b"", b"LIST" + struct.pack("<I", 20_000) + bytes(20_000)])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize("n_channels", [1, 2])
def test_a_sound_of_more_than_4_gb_is_read_to_its_end(tmp_path, n_channels, subtype, notes, n_gigabytes):
    """A header has 32 bits for the length, which then hold the rest of a division; the file here has a hole."""
    path = tmp_path / "night.wav"
    ending = np.stack([tone(), tone()[::-1]], axis=1)[:RATE, :n_channels]
    soundfile.write(path, ending, RATE, subtype=subtype)
    data = path.read_bytes()
    start = data.find(b"data") + 8
    samples = data[start : start + len(data[start:]) // RATE * RATE]
    frame_bytes = len(samples) // RATE
    n_frames = n_gigabytes * 2**30 // frame_bytes + RATE
    header = bytearray(data[:start])
    put(header, start - 4, "<I", n_frames * frame_bytes % 2**32)
    with open(path, "wb") as file:
        file.write(header)
        file.seek(start + (n_frames - RATE) * frame_bytes)
        file.write(samples)
        file.write(bytes(file.tell() % 2) + notes if notes else b"")  # chunks begin at even bytes
    expected = torch.from_numpy(soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0].T)
    with warnings.catch_warnings(action="error"), open(path, "rb") as file, opened_audio(file, "night.wav") as sound:
        assert sound.n_frames == n_frames
        assert sound.read(100, 1000).abs().max() == 0
        assert torch.equal(sound.read(n_frames - RATE), expected)
        assert torch.equal(sound.read(n_frames - 2 * RATE, 3 * RATE)[:, RATE:], expected)
        assert sound.read(0, 1000).abs().max() == 0


@pytest.mark.parametrize("length", [0, 2**32 - 1])
@pytest.mark.parametrize("suffix", ["wav", "aiff", "au"])
def test_a_sound_of_more_than_4_gb_without_a_length_is_read_to_its_end(tmp_path, suffix, length):
    path, samples = whole(tmp_path, suffix)
    edited(path, lambda data: LENGTH_LOST[suffix](data, length))
    os.truncate(path, 2**32 + path.stat().st_size)
    with warnings.catch_warnings(action="error"), open(path, "rb") as file, opened_audio(file, path.name) as sound:
        assert sound.n_frames == 2**31 + len(samples)
        assert torch.equal(sound.read(0, 2 * len(samples))[0, : len(samples)], samples)
        assert sound.read(2**31, 2 * len(samples)).shape == (1, len(samples))


def test_samples_that_begin_after_the_end_of_the_file_are_none(tmp_path):
    path, _ = whole(tmp_path, "au")
    edited(path, lambda data: put(data, 4, ">I", 10**6))
    with pytest.raises(ValueError, match=r"a\.au to hold sound, but its header says .* empty"):
        read(path, RATE)


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


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_an_interruption_leaves_nothing_that_fails_later(tmp_path, suffix):
    path, _ = whole(tmp_path, suffix)
    check_that_nothing_fails_after_an_interruption(lambda: read(path, RATE))
