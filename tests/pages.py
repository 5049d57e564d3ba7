"""Pages for the tests of the report: clips with a known sound, and explanations with known numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from captum_apex import SCHEMES, Clip, Evidence, Explanation, Prototype, Scheme, SpectrogramAxes
from captum_apex.report import Page

RATE = 8000
AXES = SpectrogramAxes(RATE, 256, 80, n_mels=32, f_min=50.0)
CLASSES = ("zero", "one", "two", "three", "four", "five", "six")
GRID = 4, 10


def chirp(seed: int, *, seconds: float = 1.0, name: str = "", label: str = "", silent: bool = False) -> Clip:
    """A rising tone; its spectrogram has random levels, which depend on the seed."""
    time = torch.arange(int(seconds * RATE)) / RATE
    waveform = 0.5 * torch.sin(2 * math.pi * (300 + 100 * seed) * time * (1 + time))
    decibels = -60 * torch.rand(32, 1 + len(time) // 80, generator=torch.Generator().manual_seed(seed))
    return Clip(decibels, AXES, None if silent else waveform, name or f"clip_{seed}.wav", label)


def explanation(
    scheme: Scheme, *, target: int = 3, n_channels: int = 2, prototypes: Sequence[int] = (0, 1, 2)
) -> Explanation:
    """Channel `c` of the evidence has its peak in cell `c + 1`, contributes `2 − c`, and has other peaks elsewhere."""
    evidence = [
        Evidence(
            channel=10 + channel,
            side=1,
            contribution=2.0 - channel,
            activation=0.5,
            purity=0.25 + channel / 8,
            region=scheme.region([channel + 1] * len(scheme.sequences), *GRID),
            prototypes=tuple(_prototype(scheme, index, channel) for index in prototypes),
        )
        for channel in range(n_channels)
    ]
    return Explanation(scheme, target, score=4.5, score_without_layer=0.5, evidence=tuple(evidence), total=4.0)


def page(seed: int = 50, **changed: object) -> Page:
    """A page with all schemes, scores, and one map of another method."""
    arguments: dict = {
        "clip": chirp(seed, name=f"query_{seed}.wav", label="three"),
        "explanations": [explanation(scheme) for scheme in SCHEMES],
        "prototypes": {index: chirp(index, label=CLASSES[index]) for index in range(3)},
        "class_names": CLASSES,
        "scores": [0.1, -1.0, 5.25, 4.5, 1.0, 2.0, 3.0],
        "maps": {"LayerGradCam": torch.linspace(-1, 1, 32 * 101).reshape(32, 101)},
    }
    return Page(**(arguments | changed))


def _prototype(scheme: Scheme, index: int, channel: int) -> Prototype:
    region = scheme.region([(index + channel) % 4] * len(scheme.sequences), *GRID)
    return Prototype(index, label=index, activation=1.0, purity=0.5 - index / 8, region=region)
