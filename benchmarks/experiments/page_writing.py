"""The cost of a page with sounds: seconds, size, and the ratio to the spectrograms of its clips."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchaudio.transforms import MelSpectrogram

from captum_apex import SCHEMES, Clip, Evidence, Explanation, Prototype, Region, Scheme, SpectrogramAxes
from captum_apex.report import Page, write

GRID = 4, 16  # rows and columns of the explained layer
N_CHANNELS = 5  # channels with regions in an explanation
N_PROTOTYPES = 4
N_MELS = 64
LARGEST = 1000  # MB; the limit shall not decide what is measured


class Size(NamedTuple):
    """What is on a page.

    Attributes:
        n_clips: number of explained clips, each in four schemes; there are as many training clips, but at least four.
        seconds: the shortest and the longest duration of a clip.
        sample_rate: sample rate in Hz.
    """

    n_clips: int
    seconds: tuple[float, float]
    sample_rate: int


class Written(NamedTuple):
    """The cost of a page.

    Attributes:
        seconds: seconds that writing took.
        ratio: seconds per second that the spectrograms of the same clips take.
        megabytes: size of the file, in MB.
    """

    seconds: float
    ratio: float
    megabytes: float


HUNDRED = Size(100, (1.0, 2.0), 16_000)
MINUTE = Size(1, (60.0, 60.0), 32_000)


def page_cost(size: Size) -> Written:
    """Writes a page of random sounds and random regions, and measures it.

    Args:
        size: what is on the page.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mel = MelSpectrogram(size.sample_rate, 1024, hop_length=size.sample_rate // 100, n_mels=N_MELS)
        n_training = max(size.n_clips, N_PROTOTYPES)
        sounds = [_sound(size, index, size.n_clips + n_training) for index in range(size.n_clips + n_training)]
        mel(sounds[0])
        start = time.perf_counter()
        levels = [10 * mel(sound).clamp_min(1e-10).log10() for sound in sounds]
        reference = time.perf_counter() - start
        axes = SpectrogramAxes.from_transform(mel)
        clips = [Clip(decibels, axes, sound) for decibels, sound in zip(levels, sounds, strict=True)]
        pages = [_page(clip, clips[size.n_clips :]) for clip in clips[: size.n_clips]]
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        path = write(Path(folder) / "page.html", pages, limit=LARGEST)
        seconds = time.perf_counter() - start
        return Written(seconds, seconds / reference, path.stat().st_size / 1e6)


def _sound(size: Size, index: int, n_sounds: int) -> Tensor:
    """Pink noise with swelling tones, which compresses about as recordings do."""
    shortest, longest = size.seconds
    n_samples = round((shortest + (longest - shortest) * index / n_sounds) * size.sample_rate)
    spectrum = torch.fft.rfft(torch.randn(n_samples))
    noise = torch.fft.irfft(spectrum / torch.arange(1, len(spectrum) + 1).sqrt(), n_samples)
    seconds = torch.arange(n_samples) / size.sample_rate
    tone = torch.sin(2 * math.pi * (500 + 40 * index) * seconds) * torch.sin(math.pi * seconds).square()
    return 0.2 * noise / noise.abs().max() + 0.1 * tone


def _page(clip: Clip, training: Sequence[Clip]) -> Page:
    explanations = [
        Explanation(
            scheme,
            target=0,
            score=4.5,
            score_without_layer=0.5,
            evidence=tuple(_evidence(scheme, channel, len(training)) for channel in range(N_CHANNELS)),
            total=4.0,
        )
        for scheme in SCHEMES
    ]
    return Page(clip, explanations, training)


def _evidence(scheme: Scheme, channel: int, n_training: int) -> Evidence:
    indices = torch.randperm(n_training)[:N_PROTOTYPES].tolist()
    prototypes = [Prototype(index, label=0, activation=1.0, purity=0.5, region=_region(scheme)) for index in indices]
    return Evidence(channel, 1, 1.0, 0.5, 0.25, _region(scheme), tuple(prototypes), map=_map())


def _map() -> Tensor:
    """A map of a channel, coarser than the picture, as maps of layers are."""
    return interpolate(torch.randn(1, 1, 2 * GRID[0], 2 * GRID[1]), (N_MELS, 100), mode="bilinear")[0, 0]


def _region(scheme: Scheme) -> Region:
    n_rows, n_columns = GRID
    cells = [int(torch.randint(min(n_rows, n_columns), ())) for _ in scheme.sequences]
    return scheme.region(cells, n_rows, n_columns)
