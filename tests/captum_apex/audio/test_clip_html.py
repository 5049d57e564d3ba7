"""What a clip says of itself, and its picture and player in a notebook."""

import base64
import io
import re
import sys
import wave

import numpy as np
import torch
from PIL import Image

from captum_apex import Clip, SpectrogramAxes
from captum_apex.audio.clip import level_limits
from captum_apex.audio.clip_html import player_html

AXES = SpectrogramAxes(8000, 8, 4)


def test_a_clip_says_what_it_is():
    waveform = torch.zeros(4000)
    levels = torch.linspace(-80, 0, 5 * 20).reshape(5, 20)
    assert repr(Clip(levels, AXES, waveform, name="a/bark.wav", label="dog")).splitlines() == [
        "Clip 'dog, bark.wav', 0.5 s",
        "  spectrogram: 5 bins and 20 frames, -80 to 0 dB",
        "  waveform: 4000 samples at 8000 Hz",
    ]
    assert repr(Clip(levels, AXES)).splitlines()[::2] == ["Clip of 0.00975 s", "  waveform: none"]


def content(text, kind):
    return base64.b64decode(re.search(rf"data:{kind};base64,([^\"]+)", text)[1])


def test_the_picture_has_a_pixel_for_each_bin_and_low_frequencies_at_the_bottom():
    levels = torch.full((5, 20), -80.0)
    levels[0] = 0.0
    text = Clip(levels, AXES, name="<b>.wav")._repr_html_()
    picture = np.asarray(Image.open(io.BytesIO(content(text, "image/png"))).convert("L"))
    assert picture.shape == (5, 20)
    assert (picture[-1] > 200).all()
    assert (picture[:-1] < 20).all()
    assert "&lt;b&gt;.wav (0 to 0.00975 s, 0 to 4000 Hz)" in text
    assert "<b>" not in text
    assert "<audio" not in text


def test_the_player_has_the_sound():
    waveform = torch.tensor([0.0, 0.5, -1.0, 2.0])
    with wave.open(io.BytesIO(content(player_html(waveform, 8000), "audio/wav"))) as file:
        assert (file.getframerate(), file.getnchannels()) == (8000, 1)
        samples = np.frombuffer(file.readframes(4), "<i2")
    assert samples.tolist() == [0, 16384, -32767, 32767]
    clip = Clip.from_waveform(torch.rand(800), 8000)
    assert clip._repr_html_().endswith(player_html(clip.waveform, 8000))


def test_without_matplotlib_there_is_only_text(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.image", None)
    clip = Clip.from_waveform(torch.rand(800), 8000)
    assert level_limits([clip])
    assert clip._repr_html_() is None
