"""DNSMOS of speechmos: how good people would find speech, its background, and both; an ONNX model of waveforms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.published.held_clips import HeldClips, environment, spoken_digits
from benchmarks.published.wheels import file_of
from captum_apex import Classifier

SAMPLES = 144_160  # 9.01 s
LEVELS = (30.0, 15.0, 5.0, -5.0)  # dB of the speech above the environmental sound


def load() -> Any:
    """The network as a module of torch, with its weights."""
    import onnx2torch

    return onnx2torch.convert(file_of("speechmos", "dnsmos_models/sig_bak_ovr.onnx")).eval()


def classifier(dnsmos: Any) -> Classifier:
    """The lines that a user writes."""
    names = ["speech quality", "background quality", "overall quality"]
    layout = "n c t f -> n c f t"
    return Classifier(dnsmos, torch.clone, 16_000, names, length=SAMPLES, layer=dnsmos.Relu, layout=layout)


def clips(part: str, n_per_speaker: int) -> HeldClips:
    """Digits of one speaker one after the other, in environmental sounds of several levels."""
    digits = spoken_digits(part, 25 if part == "train" else 12)
    speakers = sorted({speaker for speaker, _, _ in digits})
    sounds = environment(part, n_per_speaker * len(speakers))
    waveforms = []
    names = []
    for number, (_, name, sound) in enumerate(sounds):
        speaker = speakers[number % len(speakers)]
        speech = _repeated(torch.cat([waveform for each, _, waveform in digits if each == speaker]))
        background = _repeated(sound)
        level = LEVELS[number // len(speakers) % len(LEVELS)]
        scale = speech.square().mean().sqrt() / background.square().mean().sqrt() * 10 ** (-level / 20)
        mixed = speech + scale * background
        waveforms.append(0.5 * mixed / mixed.abs().max())
        names.append(f"{speaker} in {name} at {level:g} dB")
    return HeldClips(waveforms, names, names)


def likeness(prepared: Classifier, explained: HeldClips, prototypes: HeldClips) -> Tensor:
    """How far the overall qualities that the model gives lie apart, in points from 1 to 5, (clip, prototype)."""
    return (_quality(prepared, explained)[:, None] - _quality(prepared, prototypes)).abs()


def _quality(prepared: Classifier, held: HeldClips) -> Tensor:
    with torch.no_grad():
        return torch.cat([prepared.model(waveform[None])[:, 2] for waveform in held.waveforms])


def _repeated(waveform: Tensor) -> Tensor:
    return waveform.repeat(-(-SAMPLES // len(waveform)))[:SAMPLES]


GLUE = (classifier,)
