"""Windows of long recordings, read one by one."""

import numpy as np
import pytest
import soundfile
import torch
from torchaudio.functional import resample

from captum_apex.recordings.windows import Windows


def noise(samples, seed=0):
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


def write(path, waveform, rate):
    soundfile.write(path, np.atleast_2d(waveform.numpy()).T, rate, subtype="FLOAT")
    return path


@pytest.mark.parametrize(
    ("samples", "starts"),
    [
        (100, [0]),
        (250, [0]),
        (300, [0, 50]),
        (350, [0, 100]),
        (360, [0, 100, 110]),
        (1000, [0, 100, 200, 300, 400, 500, 600, 700, 750]),
    ],
)
def test_windows_begin_every_hop_and_the_last_one_ends_with_the_recording(samples, starts):
    windows = Windows.of(noise(samples), 100, 2.5, 1.0)
    assert list(windows.starts) == starts
    assert len(windows) == len(starts)
    assert [start for start, _ in windows] == starts


@pytest.mark.parametrize(("seconds", "samples"), [(0.29, 29), (0.57, 57), (1.1, 110), (0.994, 99), (0.996, 100)])
def test_windows_and_hops_have_the_nearest_number_of_samples(seconds, samples):
    """0.29 · 100 is a little below 29 as a float: a hop of 28 samples would shift the windows more and more."""
    windows = Windows.of(noise(1000), 100, seconds, seconds)
    assert (windows.length, windows.hop) == (samples, samples)
    assert windows.starts[3] == 3 * samples


@pytest.mark.parametrize("samples", [100, 250, 360, 1001])
def test_the_windows_of_a_waveform_and_of_its_file_are_its_sections(samples, tmp_path):
    waveform = noise(samples)
    for source in (waveform, write(tmp_path / "a.wav", waveform, 100)):
        for start, window in Windows.of(source, 100, 2.5, 1.0):
            expected = waveform[start : start + 250]
            assert torch.equal(window[: len(expected)], expected)
            assert not window[len(expected) :].any()
            assert window.shape == (250,)


@pytest.mark.parametrize(("rate", "new_rate"), [(44100, 32000), (8000, 16000), (22050, 16000), (48000, 44100)])
def test_a_file_of_another_rate_has_no_seams(rate, new_rate, tmp_path):
    """Each window is a section of the whole file, resampled, wherever the window begins."""
    waveform = noise(3 * rate + 17)
    whole = resample(waveform, rate, new_rate)
    with pytest.warns(UserWarning, match=f"recordings at {rate} Hz are resampled to {new_rate} Hz"):
        windows = list(Windows.of(write(tmp_path / "a.wav", waveform, rate), new_rate, 0.7, 0.31))
    assert len(windows) == 9
    for start, window in windows:
        expected = whole[start : start + len(window)]
        torch.testing.assert_close(window[: len(expected)], expected, rtol=0, atol=1e-6)


def test_several_channels_are_mixed_down_or_refused(tmp_path):
    stereo = torch.stack([noise(500), noise(500, seed=1)])
    path = write(tmp_path / "a.wav", stereo, 100)
    with pytest.warns(UserWarning, match="recordings with 2 channels are mixed down"):
        windows = list(Windows.of(path, 100, 2.0, 2.0))
    for start, window in windows:
        torch.testing.assert_close(window, stereo.mean(0)[start : start + 200])
    with pytest.raises(ValueError, match="a.wav at 100 Hz with one channel, but got 100 Hz with 2"):
        list(Windows.of(path, 100, 2.0, 2.0, convert=False))


def test_a_file_is_read_once_and_window_by_window(tmp_path, frames_read):
    path = write(tmp_path / "a.wav", noise(10_000), 100)
    for _ in Windows.of(path, 100, 2.5, 1.0):
        pass
    assert max(frames_read) == 250
    assert sum(frames_read) == 10_000 + 250  # the first window twice, to see whether there is as much


def test_recordings_that_cannot_be_cut_into_windows_are_refused(tmp_path):
    for window, hop in ((0.0, 0.0), (1.0, 2.0), (1.0, -1.0)):
        with pytest.raises(ValueError, match="expected 0 < `hop` <= `window`, in s, but got a hop of"):
            Windows.of(noise(100), 100, window, hop)
    for window in (float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"expected `window` to be a finite number, but got {window}"):
            Windows.of(noise(100), 100, window, 1.0)
    for window in (1e308, 2.0**30):
        with pytest.raises(ValueError, match=r"expected a `window` of at most 10737418 s, but got \d"):
            Windows.of(noise(100), 100, window, 1.0)
    with pytest.raises(ValueError, match="expected a `hop` of at least one sample, 0.010000 s, but got 0.001"):
        Windows.of(noise(100), 100, 1.0, 0.001)
    with pytest.raises(
        ValueError,
        match=r"expected a waveform of floats of shape \(sample,\), but got torch.float32 of shape \(2, 100\)",
    ):
        Windows.of(noise(200).reshape(2, 100), 100, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"of shape \(0,\)"):
        Windows.of(torch.zeros(0), 100, 1.0, 1.0)
    with pytest.raises(TypeError, match="expected a waveform or the path of a file, but got list"):
        Windows.of([0.0], 100, 1.0, 1.0)
    with pytest.raises(FileNotFoundError, match="expected an audio file at .*none.wav"):
        Windows.of(tmp_path / "none.wav", 100, 1.0, 1.0)
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(ValueError, match="expected .*text.wav to be audio, but it cannot be read"):
        Windows.of(tmp_path / "text.wav", 100, 1.0, 1.0)
    with pytest.raises(ValueError, match="expected .*empty.wav to hold sound, but it is empty"):
        Windows.of(write(tmp_path / "empty.wav", torch.zeros(0), 100), 100, 1.0, 1.0)


def test_nan_is_reported_with_its_time(tmp_path):
    waveform = noise(1000)
    waveform[555] = torch.nan
    for source in (waveform, write(tmp_path / "a.wav", waveform, 100)):
        with pytest.raises(ValueError, match="NaN or infinity after 4 s"):
            list(Windows.of(source, 100, 2.0, 2.0))


@pytest.mark.filterwarnings("ignore:recordings at 160 Hz are resampled")
@pytest.mark.parametrize("file_rate", [None, 100, 160])
def test_one_window_is_read_as_in_the_iteration(file_rate, tmp_path):
    waveform = noise(361)
    source = waveform if file_rate is None else write(tmp_path / "a.wav", waveform, file_rate)
    windows = Windows.of(source, 100, 1.0, 0.75)
    for start, window in reversed(list(windows)):
        assert torch.equal(windows.waveform(start), window)


def test_one_window_of_a_short_recording_is_padded():
    assert Windows.of(torch.ones(3), 2, 2.0, 1.0).waveform(0).tolist() == [1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("samples", [3, 100, 199, 200, 201, 450])
@pytest.mark.parametrize("from_file", [False, True])
def test_a_short_recording_is_repeated_on_request(samples, from_file, tmp_path):
    """Sample i of the only window is sample i mod n of the recording; longer recordings are as they are."""
    waveform = noise(samples)
    source = write(tmp_path / "a.wav", waveform, 100) if from_file else waveform
    windows = Windows.of(source, 100, 2.0, 1.5, short="repeat")
    assert windows.is_repeated == (samples < 200)
    if samples >= 200:
        assert windows.starts == Windows.of(source, 100, 2.0, 1.5).starts
    for start, window in windows:
        assert torch.equal(window, waveform[(start + torch.arange(200)) % samples])
        assert torch.equal(windows.waveform(start), window)


def test_one_window_with_nan_is_refused():
    with pytest.raises(ValueError, match="expected finite samples, but got NaN or infinity after 0 s"):
        Windows.of(torch.full((9,), torch.nan), 2, 2.0, 1.0).waveform(0)


@pytest.mark.parametrize("samples", [1, 150, 199, 200, 450])
@pytest.mark.parametrize("from_file", [False, True])
def test_a_short_recording_is_kept_short_on_request(samples, from_file, tmp_path):
    waveform = torch.linspace(0.1, 0.9, samples)
    source = waveform
    if from_file:
        source = tmp_path / "short.wav"
        soundfile.write(source, waveform.numpy(), 100, subtype="FLOAT")
    windows = Windows.of(source, 100, 2.0, 1.5, short="keep")
    assert windows.seconds == min(samples, 200) / 100
    for start, window in windows:
        torch.testing.assert_close(window, waveform[start : start + 200])
        torch.testing.assert_close(windows.waveform(start), window)
