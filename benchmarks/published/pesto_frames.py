"""PESTO: the pitch of a frame of a constant-Q transform, as one of 384 classes, three per semitone."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.published.held_clips import HeldClips, spoken_digits
from captum_apex import Classifier

SAMPLES = 9600  # 0.6 s: the transform hears far around its middle frame
CENTS = 100 / 3  # of a class, and of a row of the transform


def load() -> Any:
    """The network that the package takes, with its weights."""
    import pesto

    return pesto.load_model("mir-1k_g7", step_size=10.0, sampling_rate=16_000)


def classifier(pesto: Any) -> Classifier:
    """The lines that a user writes."""
    pesto.encoder.final_norm = nn.Identity()  # the model ends in a softmax
    layer = pesto.encoder.conv_layers[2]  # 30 channels, behind the last module that hears several rows
    model = nn.Sequential(nn.Flatten(2), pesto.encoder)  # from inputs with an axis of one moment, (clip, 1, row, 1)
    names = [f"class {number}" for number in range(384)]
    frame = partial(middle_frame, pesto)
    layout = "n c f -> n c f 1"
    return Classifier(model, frame, 16_000, names, length=SAMPLES, layer=layer, layout=layout)


def middle_frame(pesto: Any, waveform: Tensor) -> Tensor:
    """The input of the encoder: the natural logarithm of the energy of one frame, (1, row, 1)."""
    frames = pesto.preprocessor(waveform[None], sr=16_000).flatten(0, 1) * (math.log(10) / 10)  # (frame, 1, row)
    return pesto.crop_cqt(frames)[len(frames) // 2, :, :, None]


def clips(part: str, n_per_speaker: int) -> HeldClips:
    """0.6 s around the loudest 64 ms of each digit."""
    kept = []
    for speaker, name, waveform in spoken_digits(part, n_per_speaker):
        padded = nn.functional.pad(waveform, (SAMPLES, SAMPLES))
        energy = padded.unfold(0, 1024, 160).square().sum(1)
        start = int(energy.argmax()) * 160 + 512 - SAMPLES // 2
        kept.append((padded[start : start + SAMPLES], name, speaker))
    waveforms, names, speakers = zip(*kept, strict=True)
    return HeldClips(waveforms, names, speakers)


def likeness(prepared: Classifier, explained: HeldClips, prototypes: HeldClips) -> Tensor:
    """How far the pitches that the model hears lie apart, in cents, (clip, prototype)."""
    return (pitch(prepared, explained)[:, None] - pitch(prepared, prototypes)).abs()


def pitch(prepared: Classifier, held: HeldClips) -> Tensor:
    """The pitch of each clip in cents, (clip,)."""
    with torch.no_grad():
        return CENTS * prepared.model(torch.stack([prepared.transform(each) for each in held.waveforms])).argmax(1)


GLUE = (classifier, middle_frame)
