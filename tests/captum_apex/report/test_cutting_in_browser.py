"""The sounds of regions that the page cuts in a headless Chromium, against those of Python."""

import base64
import io

import pytest
import soundfile
import torch

from captum_apex import Box, Clip, Evidence, Explanation, Region, Scheme, SpectrogramAxes, listening, report
from captum_apex.report import Page, encoding
from tests.browser import show

CUT = """
    const [name, done] = arguments;
    soundFile(name).then((file) => {
      const reader = new FileReader();
      reader.onload = () => done(reader.result.split(",")[1]);
      reader.readAsDataURL(file);
    });
"""
DECODED = """
    const [name, done] = arguments;
    decodedClip(name).then(({ samples, rate }) => done([Array.from(samples), rate]));
"""
REGIONS = {
    "strip": (Box(0, 1, 0.3, 0.45),),
    "short strip": (Box(0, 1, 0.5, 0.505),),
    "strip at the beginning": (Box(0, 1, 0, 0.2),),
    "band": (Box(0.3, 0.45, 0, 1),),
    "band from 0 Hz": (Box(0, 0.2, 0, 1),),
    "narrow band": (Box(0.5, 0.51, 0, 1),),
    "box": (Box(0.3, 0.6, 0.4, 0.7),),
    "box in the corner": (Box(0.8, 1, 0.9, 1),),
    "cross": (Box(0, 1, 0.3, 0.4), Box(0.3, 0.45, 0, 1)),
    "two boxes": (Box(0.1, 0.3, 0.1, 0.3), Box(0.6, 0.8, 0.5, 0.9)),
    "everything": (Box(0, 1, 0, 1),),
}


def subject(rate, n_samples):
    """Pink noise with a tone, and a channel for each region."""
    generator = torch.Generator().manual_seed(0)
    spectrum = torch.fft.rfft(torch.randn(n_samples, generator=generator))
    noise = torch.fft.irfft(spectrum / torch.arange(1, len(spectrum) + 1).sqrt(), n_samples)
    waveform = 0.3 * noise / noise.abs().max() + 0.2 * torch.sin(torch.arange(n_samples) * 0.5)
    axes = SpectrogramAxes(rate, 512, 128, n_mels=40)
    decibels = -60 * torch.rand(40, 1 + n_samples // 128, generator=generator)
    clip = Clip(decibels, axes, waveform)
    evidence = tuple(Evidence(k, 1, 1.0, 0.5, 0.5, Region(boxes), ()) for k, boxes in enumerate(REGIONS.values()))
    return Page(clip, [Explanation(Scheme.SQUARE, 0, 4.0, 0.5, evidence, 3.5)], {})


def signal_to_noise(got, wanted):
    return 10 * torch.log10(wanted.square().sum() / (got - wanted).square().sum()).item()


def cut(browser, name):
    data = browser.execute_async_script(CUT, name)
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="float64")
    return torch.from_numpy(samples), rate


@pytest.mark.parametrize(("rate", "n_samples"), [(8000, 8000), (16000, 31_003), (44100, 44_100), (10_000, 777)])
def test_the_page_cuts_a_region_as_python_does(browser, tmp_path, rate, n_samples):
    page = subject(rate, n_samples)
    show(browser, report.write(tmp_path / "page.html", [page]))
    facts = browser.execute_script("return facts")
    for name, shown in zip(REGIONS, facts["pages"][0]["perspectives"][0]["evidence"], strict=True):
        region = Region(REGIONS[name])
        wanted = {"region": listening.isolate(page.clip, region), "without": listening.remove(page.clip, region)}
        for kind, sound in wanted.items():
            samples, got_rate = cut(browser, shown[kind]["sound"])
            first = round(shown[kind]["start"] * rate)
            sound = sound[first : first + len(samples)].double()
            assert got_rate == rate
            assert (samples - sound.clamp(-1, 1)).abs().max() < 4 / 2**15, (name, kind)
            if sound.abs().max() > 0.01:
                assert signal_to_noise(samples, sound) > 30, (name, kind)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_a_clip_in_mp3_is_decoded_in_time(browser, tmp_path, monkeypatch, rate):
    """Otherwise each region would be cut some milliseconds beside its place."""
    monkeypatch.setattr(encoding, "_LOSSLESS_SAMPLES", 0)
    page = subject(rate, rate)
    show(browser, report.write(tmp_path / "page.html", [page]))
    facts = browser.execute_script("return facts")
    name = facts["clips"][facts["pages"][0]["clip"]]["sound"]["sound"]
    assert facts["sounds"][name]["type"] == "audio/mpeg"
    samples, got_rate = browser.execute_async_script(DECODED, name)
    assert (len(samples), got_rate) == (rate, rate)
    assert signal_to_noise(torch.tensor(samples), page.clip.waveform) > 15


def test_a_sample_rate_that_browsers_lack_is_played_at_the_highest_they_have(browser, tmp_path):
    """Ultrasound of bats; nobody hears what is lost above 48 kHz."""
    page = subject(384_000, 50_000)
    show(browser, report.write(tmp_path / "page.html", [page]))
    facts = browser.execute_script("return facts")
    shown = facts["pages"][0]["perspectives"][0]["evidence"][-1]["region"]
    samples, rate = cut(browser, shown["sound"])
    assert rate == 96_000
    assert len(samples) == pytest.approx(12_500, abs=5)
    assert samples.abs().max() > 0.01
