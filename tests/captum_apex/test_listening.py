"""The sound of a region and the rest, for sounds at known times and frequencies."""

import io
import math
import os
import resource
import sys
import tempfile
import types

import numpy as np
import pytest
import soundfile
import torch

from captum_apex import Box, Clip, Region, Scheme, SpectrogramAxes, listening, recordings
from captum_apex.listening import encoded, isolate, player, remove, write
from tests.interrupting import (
    check_that_no_interruption_is_swallowed,
    check_that_nothing_fails_after_an_interruption,
)

RATES = [8000, 16000, 44100]
SECONDS = 2.0


def time_of(rate, seconds=SECONDS):
    return torch.arange(round(seconds * rate), dtype=torch.float64) / rate


def tone(rate, hertz, seconds=SECONDS):
    return torch.sin(2 * math.pi * hertz * time_of(rate, seconds) + 1)


def on_mels(waveform, rate):
    """A clip whose model takes log-mels, so that regions are fractions of mel bands and frames."""
    axes = SpectrogramAxes(rate, 512, 128, n_mels=40)
    return Clip(torch.zeros(40, 1 + len(waveform) // 128), axes, waveform)


def box_on(clip, low=None, high=None, start=None, end=None):
    """A box at these Hz and seconds; None reaches to the end."""
    bins, frames = clip.decibels.shape
    return Box(
        0.0 if low is None else clip.axes.bin_position(float(low)) / bins,
        1.0 if high is None else clip.axes.bin_position(float(high)) / bins,
        0.0 if start is None else clip.axes.frame_position(float(start)) / frames,
        1.0 if end is None else clip.axes.frame_position(float(end)) / frames,
    )


def decibels(sound, whole):
    return 20 * math.log10(sound.square().mean().sqrt().item() / whole.square().mean().sqrt().item() + 1e-12)


def inner(waveform, rate):
    """The middle of a clip, without its ends, where a tone begins and ends abruptly."""
    return waveform[round(0.2 * rate) : -round(0.2 * rate)]


def band_level(rate, hertz, low, high):
    clip = on_mels(tone(rate, hertz), rate)
    return decibels(inner(isolate(clip, Region((box_on(clip, low, high),))), rate), inner(clip.waveform, rate))


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize(("low", "high"), [(300, 340), (500, 700), (1000, 3000)])
def test_a_band_keeps_its_tones_and_loses_the_others(rate, low, high):
    fade = min(max((high - low) / 2, 40), 200)
    for hertz in (low, (low + high) / 2, high):
        assert abs(band_level(rate, hertz, low, high)) < 1, hertz
    for hertz in (low - fade, low - 2 * fade, high + fade, high + 2 * fade, 3900):
        assert band_level(rate, hertz, low, high) < -40, hertz


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("length", [0.004, 0.02, 0.3])
def test_a_strip_keeps_its_time_and_loses_the_rest(rate, length):
    start, end, fade = 0.7, 0.7 + length, min(max(length / 2, 0.005), 0.02)
    clip = on_mels(torch.ones(round(SECONDS * rate), dtype=torch.float64), rate)
    isolated, seconds = isolate(clip, Region((box_on(clip, start=start, end=end),))), time_of(rate)
    inside, outside = (seconds >= start) & (seconds <= end), (seconds < start - fade) | (seconds > end + fade)
    assert 10 ** (-1 / 20) < isolated[inside].min() <= isolated[inside].max() < 1 + 1e-9
    assert isolated[outside].abs().max() < 10 ** (-40 / 20)


@pytest.mark.parametrize("rate", RATES)
def test_a_chirp_and_a_tone_are_separated(rate):
    """A tone of 1 kHz around 0.5 s, a chirp from 2 to 3 kHz from 1.2 to 1.6 s, each in its own box."""
    seconds = time_of(rate)
    swell = torch.exp(-(((seconds - 0.5) / 0.06) ** 2))
    beep = swell * torch.sin(2 * math.pi * 1000 * seconds)
    inside = ((seconds - 1.2) / 0.4).clamp(0, 1)
    chirp = torch.sin(math.pi * inside) ** 2 * torch.sin(
        2 * math.pi * (2000 * (seconds - 1.2) + 0.5 * 1000 / 0.4 * (seconds - 1.2) ** 2)
    )
    clip = on_mels(beep + chirp, rate)
    for sound, other, box in (
        (beep, chirp, box_on(clip, 900, 1100, 0.3, 0.7)),
        (chirp, beep, box_on(clip, 2000, 3000, 1.2, 1.6)),
    ):
        isolated, rest = isolate(clip, Region((box,))), remove(clip, Region((box,)))
        assert abs(decibels(isolated, sound)) < 1
        assert decibels(isolated - sound, sound) < -35
        where = other.abs() > 1e-3
        assert decibels(isolated[where], other[where]) < -40
        assert decibels(rest - other, sound) < -35


@pytest.mark.parametrize("rate", RATES)
def test_beyond_the_fades_of_a_box_tones_and_moments_are_down(rate):
    """A chirp through the whole clip crosses a box of 0.1 s × 500 Hz; each sample has one frequency and one time."""
    seconds, slope = time_of(rate), 1500 / SECONDS
    chirp = torch.sin(2 * math.pi * (500 * seconds + slope / 2 * seconds**2))  # 500 to 2000 Hz
    clip = on_mels(chirp, rate)
    start, end, low, high = 0.95, 1.05, 1000, 1500
    isolated = isolate(clip, Region((box_on(clip, low, high, start, end),)))
    share = math.sqrt(2.5 / ((end - start) * (high - low)))
    outside = (seconds < start - share * (end - start)) | (seconds > end + share * (end - start))
    assert isolated[outside].abs().max() < 10 ** (-40 / 20)
    middle = (seconds > start) & (seconds < end)
    assert abs(decibels(isolated[middle], chirp[middle])) < 1
    away = on_mels(tone(rate, high + share * (high - low)), rate)
    assert decibels(isolate(away, Region((box_on(away, low, high, start, end),)))[middle], away.waveform[middle]) < -40


def cross(clip):
    return Region((box_on(clip, start=0.9, end=1.1), box_on(clip, 500, 900)))


@pytest.mark.parametrize("rate", RATES)
def test_a_cross_is_the_union_of_strip_and_band(rate):
    seconds = time_of(rate)
    in_strip, out_strip = (seconds >= 0.9) & (seconds <= 1.1), (seconds < 0.8) | (seconds > 1.2)
    for hertz, in_band in ((700, True), (2000, False)):
        clip = on_mels(tone(rate, hertz), rate)
        isolated = isolate(clip, cross(clip))
        assert abs(decibels(isolated[in_strip], clip.waveform[in_strip])) < 1
        elsewhere = decibels(inner(isolated[out_strip], rate), inner(clip.waveform[out_strip], rate))
        assert abs(elsewhere) < 1 if in_band else elsewhere < -40


def test_a_band_does_not_ring_into_the_gap_of_a_strip():
    """In any order of the boxes, nothing of the band is left where the strip is removed."""
    clip = on_mels(tone(16000, 700), 16000)
    strip, band = cross(clip).boxes
    first, second = remove(clip, Region((strip, band))), remove(clip, Region((band, strip)))
    assert torch.equal(first, second)
    assert first[round(0.92 * 16000) : round(1.08 * 16000)].abs().max() < 1e-9


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("scheme", list(Scheme))
def test_the_isolated_sound_and_the_rest_add_up_to_the_clip(scheme, dtype):
    noise = torch.randn(16000, generator=torch.Generator().manual_seed(0)).mul(0.3).to(dtype)
    clip = on_mels(noise, 16000)
    region = scheme.region([1] * len(scheme.sequences), 4, 10)
    isolated, rest = isolate(clip, region), remove(clip, region)
    assert isolated.dtype == torch.promote_types(dtype, torch.float32)
    assert (isolated + rest - noise).abs().max() < 1e-5
    assert isolated.abs().max() > 0.05
    assert rest.abs().max() > 0.05


def test_sides_at_the_end_of_the_input_reach_to_the_end_of_the_sound():
    """There is no fade at the lowest band and at the last frame, wherever the mel filters begin and the frames end."""
    rate = 16000
    axes = SpectrogramAxes(rate, 512, 128, n_mels=40, f_min=300, f_max=6000)
    noise = torch.randn(rate, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    clip = Clip(torch.zeros(40, 126), axes, noise)
    torch.testing.assert_close(isolate(clip, Region((Box(0, 1, 0, 1),))), noise, rtol=0, atol=1e-12)
    ends = isolate(clip, Region((Box(0, 1, 0, 0.1), Box(0, 1, 0.9, 1))))
    torch.testing.assert_close(ends[:1000], noise[:1000], rtol=0, atol=1e-12)
    torch.testing.assert_close(ends[-1000:], noise[-1000:], rtol=0, atol=1e-12)
    for hertz, box in ((20, Box(0, 0.5, 0, 1)), (7950, Box(0.5, 1, 0, 1))):
        steady = Clip(torch.zeros(40, 126), axes, tone(rate, hertz, 1.0))
        assert abs(decibels(isolate(steady, Region((box,))), steady.waveform)) < 0.01


def test_regions_of_a_waveform_are_shares_of_its_samples():
    waveform = torch.ones(16000, dtype=torch.float64)
    isolated = isolate(Clip.from_waveform(waveform, 16000), Region((Box(0, 1, 0.25, 0.5),)))
    assert isolated[4000:8001].min() > 10 ** (-1 / 20)
    assert isolated[: 4000 - 320].abs().max() < 1e-2
    assert isolated[8000 + 320 :].abs().max() < 1e-2


@pytest.mark.parametrize("rate", RATES)
def test_a_strip_out_of_a_loud_tone_does_not_click(rate):
    """Beyond 500 Hz from the tone everything is 60 dB down; a hard cut at the same places is not."""
    clip = on_mels(tone(rate, 1000), rate)
    isolated = isolate(clip, Region((box_on(clip, start=0.7, end=0.75),)))
    hard = torch.where((time_of(rate) >= 0.7) & (time_of(rate) < 0.75), clip.waveform, 0.0)
    hertz = torch.fft.rfftfreq(len(hard), 1 / rate)
    far = (hertz - 1000).abs() > 500

    def splatter(waveform):
        spectrum = torch.fft.rfft(waveform).abs()
        return 20 * math.log10(spectrum[far].max() / spectrum.max())

    assert splatter(isolated) < -60
    assert splatter(remove(clip, Region((box_on(clip, start=0.7, end=0.75),)))) < -60
    assert splatter(hard) > -45


def test_silence_stays_silent_and_no_box_is_silence():
    clip = on_mels(torch.zeros(8000), 8000)
    assert isolate(clip, cross(clip)).abs().max() == 0
    loud = on_mels(tone(8000, 700), 8000)
    assert isolate(loud, Region(())).abs().max() == 0
    assert torch.equal(remove(loud, Region(())), loud.waveform)


@pytest.mark.parametrize("samples", [16, 37, 300])
def test_a_clip_shorter_than_the_window_is_cut_by_a_shorter_one(samples):
    noise = torch.randn(samples, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    clip = Clip(torch.zeros(40, 3), SpectrogramAxes(16000, 512, 128, n_mels=40), noise)
    for box in (Box(0.2, 0.4, 0, 1), Box(0, 1, 0.3, 0.6), Box(0.2, 0.4, 0.3, 0.6)):
        isolated = isolate(clip, Region((box,)))
        assert isolated.isfinite().all()
        assert (isolated + remove(clip, Region((box,))) - noise).abs().max() < 1e-9
        assert isolated.abs().max() <= 2 * noise.abs().max()


def test_a_band_of_a_clip_shorter_than_the_window_keeps_its_tone():
    """A short window resolves less, so that the edges of its mask must be wider."""
    sound = torch.sin(2 * math.pi * 1025 / 16000 * torch.arange(320, dtype=torch.float64))
    clip = Clip(torch.zeros(40, 3), SpectrogramAxes(16000, 512, 128, n_mels=40), sound)
    isolated = isolate(clip, Region((box_on(clip, 1024, 1026),)))
    assert abs(decibels(isolated[80:-80], sound[80:-80])) < 1


def test_a_region_narrower_than_a_fade_is_whole():
    rate = 16000
    clip = on_mels(tone(rate, 1000), rate)
    isolated = isolate(clip, Region((box_on(clip, 999, 1001),)))
    assert abs(decibels(inner(isolated, rate), inner(clip.waveform, rate))) < 1
    click = torch.zeros(rate, dtype=torch.float64)
    click[8000] = 1.0
    clip = on_mels(click, rate)
    isolated = isolate(clip, Region((box_on(clip, start=0.4999, end=0.5001),)))
    assert isolated[8000] > 10 ** (-1 / 20)


def test_a_clip_without_sound_is_refused():
    axes = SpectrogramAxes(16000, 512, 128)
    with pytest.raises(ValueError, match=r"expected a clip with a waveform, but dog, a\.wav has none"):
        isolate(Clip(torch.zeros(257, 4), axes, name="a.wav", label="dog"), Region(()))
    with pytest.raises(ValueError, match="at least 16 samples, but got 15"):
        remove(Clip(torch.zeros(257, 4), axes, torch.zeros(15)), Region(()))


@pytest.mark.parametrize(("name", "rate"), [("a.wav", 16000), ("b.flac", 44100), ("C.WAV", 8000.0)])
def test_a_written_file_holds_the_waveform(tmp_path, name, rate):
    waveform = 0.5 * tone(int(rate), 440, 0.5).float()
    write(tmp_path / name, waveform, rate)
    read, got = soundfile.read(tmp_path / name, dtype="float32")
    assert got == rate
    np.testing.assert_allclose(read, waveform.numpy(), atol=2**-23)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_sound_above_full_scale_is_scaled_down_with_a_warning(tmp_path):
    waveform = 2 * tone(16000, 440, 0.5)
    waveform = waveform / waveform.abs().max() * 2
    with pytest.warns(UserWarning, match=r"6\.02 dB above full scale"):
        write(tmp_path / "a.wav", waveform, 16000)
    np.testing.assert_allclose(soundfile.read(tmp_path / "a.wav")[0], waveform.numpy() / 2, atol=2**-22)
    with pytest.warns(UserWarning, match=r"6\.02 dB above full scale"):
        encoded(waveform, 16000, "wav")


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.wav"
    write(path, torch.full((1000,), 0.25), 8000)

    class Broken(soundfile.SoundFile):
        def write(self, data):
            super().write(data[:100])
            raise KeyboardInterrupt

    monkeypatch.setattr(soundfile, "SoundFile", Broken)
    with pytest.raises(KeyboardInterrupt):
        write(path, torch.zeros(1000), 8000)
    monkeypatch.undo()
    assert np.array_equal(soundfile.read(path)[0], np.full(1000, 0.25))
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


HIGHEST_RATES = {"mp3": [48000], "ogg": [192000, 200_000], "flac": [65535, 384_000, 655_350], "wav": [2**31 - 1]}


@pytest.mark.parametrize(("format_", "rate"), [(name, rate) for name, rates in HIGHEST_RATES.items() for rate in rates])
def test_the_highest_rates_of_a_format_are_encoded(format_, rate):
    sound = encoded(0.1 * tone(44100, 440).float(), rate, format_)
    info = soundfile.info(io.BytesIO(sound))
    assert (info.samplerate, info.frames) == (rate, 2 * 44100)


@pytest.mark.parametrize(
    ("format_", "rate", "advice"),
    [
        ("mp3", 96000, "flac"),
        ("mp3", 65537, "wav"),
        ("ogg", 200_001, "wav"),
        ("ogg", 250_000, "flac"),
        ("ogg", 2**31 - 1, "wav"),
        ("flac", 65537, "wav"),
        ("flac", 192_001, "wav"),
        ("flac", 655_360, "wav"),
    ],
)
def test_a_rate_that_a_format_cannot_hold_is_refused_with_one_that_can(format_, rate, advice, tmp_path):
    """libsndfile's Vorbis encoder crashes above 200 kHz, and its FLAC encoder fails after the file has begun."""
    with pytest.raises(ValueError, match=rf"{format_.upper()} supports.*but got {rate}; take '{advice}'"):
        encoded(torch.zeros(40_000), rate, format_)
    assert listening.playable_format(rate) == advice
    assert soundfile.info(io.BytesIO(encoded(torch.zeros(40_000), rate, advice))).samplerate == rate
    if format_ == "flac":
        with pytest.raises(ValueError, match="a sample rate that FLAC supports"):
            write(tmp_path / "a.flac", torch.zeros(9), rate)
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format_", list(listening.MEDIA_TYPES))
def test_an_interruption_of_the_encoder_is_never_swallowed(format_):
    waveform = 0.3 * tone(44100, 440).float()
    whole = encoded(waveform, 44100, format_)

    def check(sound):
        assert format_ == "ogg" or sound == whole  # each Ogg stream has a random number
        assert len(sound) == len(whole)

    check_that_no_interruption_is_swallowed(lambda: encoded(waveform, 44100, format_), check, 20, longest=0.05)


@pytest.mark.parametrize("format_", list(listening.MEDIA_TYPES))
def test_an_interruption_of_the_encoder_leaves_nothing_that_fails_later(format_):
    check_that_nothing_fails_after_an_interruption(lambda: encoded(torch.zeros(100), 44100, format_))


def test_a_sound_that_was_interrupted_is_not_written_into_the_next_file(monkeypatch):
    """The file of the interrupted sound is closed late, when another one has the number of its descriptor."""
    left_open = []

    class Interrupted(soundfile.SoundFile):
        def __enter__(self):
            left_open.append(self)
            self.write(np.full(500, 0.5))
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(soundfile, "SoundFile", Interrupted)
        encoded(torch.zeros(1000), 8000, "ogg")
    with tempfile.TemporaryFile() as file:
        file.write(bytes(range(100)))
        file.flush()
        left_open.pop().close()
        file.seek(0)
        assert file.read() == bytes(range(100))


@pytest.mark.parametrize("size", [0, 30, 1000, 20_000])
def test_a_full_disk_is_an_error_and_leaves_no_file(tmp_path, size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    sound = 0.1 * torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        for call in (lambda: encoded(sound, 16000), lambda: write(tmp_path / "a.wav", sound, 16000)):
            with pytest.raises(OSError, match="File too large: .*(tmp|a.wav)"):
                call()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("more", [0, 1, 4000, 60_000])
def test_a_disk_that_takes_little_more_than_the_sound_is_named_too(more):
    sound = 0.1 * torch.randn(1000, generator=torch.Generator().manual_seed(0))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(encoded(sound, 16000, "wav")) + more, before[1]))
    try:
        with pytest.raises(OSError, match="File too large: .*tmp"):
            encoded(sound, 16000, "wav")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_libsndfile_writes_to_descriptors_and_never_to_python_objects(tmp_path, opened_by_libsndfile):
    encoded(torch.zeros(1000), 8000, "wav")
    write(tmp_path / "a.wav", torch.zeros(1000), 8000)
    assert {type(file) for file in opened_by_libsndfile} == {int}


def test_a_file_whose_name_is_no_unicode_is_written(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9.flac")
    write(path, torch.full((100,), 0.5), 8000)
    assert recordings.read(path, 8000).tolist() == [0.5] * 100


@pytest.mark.parametrize("format_", list(listening.MEDIA_TYPES))
@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100])
def test_an_encoded_sound_is_as_long_and_in_time(format_, rate):
    """The bytes decode to the waveform: at the same place, at the same level."""
    seconds = time_of(rate, 1.0)
    waveform = 0.5 * torch.exp(-(((seconds - 0.4) / 0.05) ** 2)) * torch.sin(2 * math.pi * 440 * seconds)
    read, got = soundfile.read(io.BytesIO(encoded(waveform, rate, format_)))
    assert got == rate
    assert len(read) == len(waveform)
    tolerance = {"mp3": 0.05, "ogg": 0.05}.get(format_, 2**-15)
    np.testing.assert_allclose(read, waveform.numpy(), atol=tolerance)


def test_a_compressed_format_is_small():
    noise = 0.1 * torch.randn(80000, generator=torch.Generator().manual_seed(0))
    sizes = {name: len(encoded(noise, 16000, name)) for name in listening.MEDIA_TYPES}
    assert sizes["wav"] == 44 + 2 * 80000
    assert sizes["mp3"] < sizes["wav"] / 5
    assert encoded(noise, 16000) == encoded(noise, 16000, "mp3")


def test_minutes_are_encoded_in_blocks():
    """One long write of Vorbis would overflow the stack."""
    sound = 0.1 * torch.sin(torch.arange(6_000_000) / 10)
    assert soundfile.info(io.BytesIO(encoded(sound, 48000, "ogg"))).frames == len(sound)


def decoded(audio):
    return soundfile.read(io.BytesIO(audio.data))


def test_a_player_keeps_the_level():
    pytest.importorskip("IPython")
    waveform = 0.25 * tone(16000, 440, 0.5)
    samples, rate = decoded(player(waveform, 16000.0))
    assert rate == 16000
    np.testing.assert_allclose(samples, waveform.numpy(), atol=2**-14)


def test_a_player_gets_the_waveform_without_normalisation(monkeypatch):
    given = {}
    display = types.SimpleNamespace(Audio=lambda data, **settings: given.update(settings, data=data) or "a player")
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(display=display))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    assert player(torch.tensor([0.25, -0.5]), 8000.0) == "a player"
    assert given.pop("data").tolist() == [0.25, -0.5]
    assert given == {"rate": 8000, "normalize": False}


@pytest.mark.parametrize(
    ("missing", "call", "message"),
    [
        ("soundfile", lambda: encoded(torch.zeros(9), 8000), r"soundfile.*captum-apex\[audio\]"),
        ("IPython.display", lambda: player(torch.zeros(9), 8000), "pip install ipython"),
    ],
)
def test_a_missing_package_is_named(monkeypatch, missing, call, message):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: write("a.mp3", torch.zeros(9), 8000), r"ends in \.wav or \.flac, but got 'a\.mp3'"),
        (lambda: encoded(torch.zeros(9), 8000, "aac"), "one of 'mp3', 'ogg', 'flac', 'wav', but got 'aac'"),
        (lambda: encoded(torch.zeros(9), 22255), "MP3 supports.*but got 22255; take 'flac'"),
        (lambda: encoded(torch.zeros(9), 22255.5, "flac"), "whole number of Hz, but got 22255.5"),
        (lambda: encoded(torch.zeros(2, 9), 8000), r"\(sample,\), but got torch.float32 of shape \(2, 9\)"),
        (lambda: encoded(torch.zeros(9, dtype=torch.int16), 8000), "of floats.*torch.int16.*by 32768"),
        (lambda: encoded(torch.full((9,), math.nan), 8000), "finite `waveform`"),
    ],
)
def test_sounds_that_cannot_be_written_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
