"""Digital silence against a slow definition: every sample between two times is nearly zero."""

import pytest
import torch

from captum_apex.explanations.digital_silence import DigitalSilence

RATE = 100


def sound(seed):
    """Runs of silence and of sound, of 1 to 60 samples."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 60, (40,), generator=generator).tolist()
    pieces = [torch.full((length,), 0.1 * (place % 2) or 1e-7) for place, length in enumerate(lengths)]
    return torch.cat(pieces)


@pytest.mark.parametrize(("window", "hop"), [(50, 50), (50, 20), (500, 250), (37, 36)])
@pytest.mark.parametrize("seed", range(3))
def test_spans_in_silence_are_those_without_a_sample_above_it(window, hop, seed):
    waveform = sound(seed)
    silence = DigitalSilence(RATE)
    for start in range(0, len(waveform), hop):
        silence.add(start, waveform[start : start + window])
    generator = torch.Generator().manual_seed(seed)
    spans = torch.randint(len(waveform), (2000, 2), generator=generator).sort(1).values.tolist()
    spans = [(start, min(end, start + length % 12 + 1)) for length, (start, end) in enumerate(spans) if start < end]
    wanted = [bool((waveform[start:end] <= 1e-6).all()) for start, end in spans]
    assert 100 < sum(wanted) < len(wanted) - 100
    assert [silence.covers(start / RATE, end / RATE) for start, end in spans] == wanted


def test_windows_that_were_not_added_are_not_silent():
    silence = DigitalSilence(RATE)
    silence.add(0, torch.zeros(100))
    silence.add(200, torch.zeros(100))
    assert silence.covers(0.0, 1.0)
    assert silence.covers(2.0, 3.0)
    assert not silence.covers(0.5, 2.5)
    assert not silence.covers(1.2, 1.8)


def test_zeros_between_samples_of_a_sound_are_no_silence():
    """At 8 kHz, 10 ms are 80 samples."""
    silence = DigitalSilence(8000)
    waveform = torch.ones(400)
    waveform[100:179] = 0
    waveform[200:280] = 0
    silence.add(0, waveform)
    assert (silence.starts, silence.ends) == ([200], [280])
