"""Audio files: valid ones of every format, and the same with bytes flipped, cut, moved or taken from another file."""

from __future__ import annotations

import math
from functools import cache
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import nn

from captum_apex import Classifier, LayerAPEX, PrototypeBasis, explain_recording
from captum_apex.recordings import read
from captum_apex.recordings.windows import Windows
from tests.fuzz.outcomes import accepted

FORMATS = (
    *(("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")),
    *(("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "ULAW"), ("RF64", "PCM_16")),
    *(("W64", "PCM_16"), ("AIFF", "FLOAT"), ("OGG", "OPUS")),
)
RATES = (8000, 16000, 11025, 48000)
MOST_WINDOWS = 50


@cache
def valid(form: int, rate: int, channels: int, length: float) -> tuple[bytes, np.ndarray]:
    """A file and its samples (sample, channel) as soundfile reads them."""
    container, subtype = FORMATS[form]
    time = np.arange(round(rate * length)) / rate
    samples = np.stack([0.4 * np.sin(2 * np.pi * 300 * (k + 1) * time) for k in range(channels)], 1)
    file = BytesIO()
    soundfile.write(file, samples, rate, subtype=subtype, format=container)
    file.seek(0)
    return file.getvalue(), soundfile.read(file, dtype="float32", always_2d=True)[0]


def sounds(random: np.random.Generator, folder: Path) -> None:
    """A file that nothing was done to is read to its last sample; another one as well, or it is refused by name."""
    content, samples, rate, container = _drawn(random)
    intact = random.random() < 0.15
    if not intact:
        content = mutated(random, content, lambda: _drawn(random)[0])
    path = folder / f"sound.{str(random.choice(['wav', 'flac', 'ogg', 'mp3'])) if random.random() < 0.2 else container}"
    path.write_bytes(content)
    model_rate = int(random.choice(RATES))
    length = None if random.random() < 0.5 else int(random.integers(1, 2 * model_rate))
    which = random.random()
    with accepted(intact, f"an intact {container}"):
        if which < 0.5:
            _check_read(path, model_rate, length, samples if intact else None, rate)
        elif which < 0.85:
            _check_windows(random, path, model_rate, samples if intact else None, rate)
        else:
            _check_events(random, path)


def _drawn(random: np.random.Generator) -> tuple[bytes, np.ndarray, int, str]:
    form = int(random.integers(len(FORMATS)))
    rate = int(random.choice([8000, 16000, 48000] if FORMATS[form][1] == "OPUS" else RATES))
    channels = int(random.integers(1, 4)) if FORMATS[form][0] not in ("MP3",) else int(random.integers(1, 3))
    length = float(random.choice([0.02, 0.1, 0.3]))
    content, samples = valid(form, rate, channels, length)
    return content, samples, rate, FORMATS[form][0].lower()


def mutated(random: np.random.Generator, content: bytes, other) -> bytes:
    """A content with one to three of the faults that files have."""
    data = bytearray(content)
    for _ in range(int(random.integers(1, 4))):
        data = _fault(random, data, other)
    return bytes(data)


def _fault(random: np.random.Generator, data: bytearray, other) -> bytearray:
    size = len(data)
    kind = int(random.integers(9))
    # Most of what matters stands at the beginning.
    place = int(random.integers(0, min(size, 200) + 1)) if random.random() < 0.6 else int(random.integers(0, size + 1))
    if kind == 0:
        return data[:place]
    if kind == 1:
        return data[place:]
    if kind == 2:
        return data[:place] + random.bytes(int(random.integers(1, 40))) + data[place:]
    if kind == 3:
        return data[:place] + bytes(data[place : place + 300]) + data[place:]
    if kind == 4:
        return bytearray(other()[: int(random.integers(1, 200))]) + data[place:]
    if kind == 5:
        end = min(size, place + int(random.integers(1, 60)))
        data[place:end] = bytes([int(random.choice([0, 255]))]) * (end - place)
        return data
    if kind == 6:
        return data + bytearray(other())
    for _ in range(int(random.integers(1, 9)) if size else 0):
        data[min(size - 1, int(random.integers(0, max(1, min(size, 2 * place + 1)))))] ^= 1 << int(random.integers(8))
    return data


def _check_read(path: Path, model_rate: int, length: int | None, samples: np.ndarray | None, rate: int) -> None:
    waveform = read(path, model_rate, length)
    assert waveform.dtype == torch.float32
    assert waveform.dim() == 1
    assert len(waveform)
    assert waveform.isfinite().all()
    assert length is None or len(waveform) == length
    if samples is not None and rate == model_rate:
        expected = torch.from_numpy(samples.astype(np.float64).mean(1)).float()
        n_samples = len(waveform) if length is None else min(length, len(expected))
        assert length is not None or len(waveform) == len(expected), (len(waveform), len(expected))
        assert torch.allclose(waveform[:n_samples], expected[:n_samples], atol=1e-6), "the samples are wrong"
        assert not waveform[n_samples:].any(), "there is sound after the end"


def _check_windows(random, path: Path, model_rate: int, samples: np.ndarray | None, rate: int) -> None:
    window = float(random.choice([0.01, 0.05, 0.5]))
    windows = Windows.of(path, model_rate, window, window / 2)
    starts = []
    for start, waveform in islice(windows, MOST_WINDOWS):
        assert waveform.shape == (windows.length,)
        assert waveform.isfinite().all()
        starts.append(start)
        if samples is not None and rate == model_rate:
            expected = torch.from_numpy(samples.astype(np.float64).mean(1)).float()[start : start + windows.length]
            # A decoder of compressed sound that begins in the middle may differ in the last bits.
            assert torch.allclose(waveform[: len(expected)], expected, atol=1e-4), (
                f"the window at {start} of {path.name} is wrong"
            )
    assert starts == sorted({*starts})


@cache
def _listener() -> tuple[LayerAPEX, Classifier]:
    layer = nn.ReLU()
    model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 2)).eval()
    nn.init.eye_(model[3].weight)
    nn.init.constant_(model[3].bias, -0.05)

    def transform(waveform):
        means = waveform[: len(waveform) // 80 * 80].reshape(-1, 80).abs().mean(1)
        return torch.stack([means, 1 - means])[:, None]

    classifier = Classifier(model, transform, sample_rate=16000, class_names=["dog", "rain"], exclusive=False)
    return LayerAPEX(model, layer, PrototypeBasis(torch.eye(2), "time")), classifier


def _check_events(random: np.random.Generator, path: Path) -> None:
    apex, classifier = _listener()
    threshold = float(random.choice([0.0, 0.5, 0.52]))
    explanation = explain_recording(apex, path, 0.1, 0.05, classifier=classifier, threshold=threshold)
    assert math.isfinite(explanation.duration)
    for event in explanation.events:
        assert 0 <= event.start < event.end <= explanation.duration + 1e-6, event
        assert 0 <= event.score <= 1
        assert math.isfinite(event.contribution)
