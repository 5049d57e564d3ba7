"""PESTO: the pitch of 0.6 s, as one of 384 classes, three per semitone; a model that takes frames for clips."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.published.held_clips import HeldClips, spoken_digits
from captum_apex import Classifier, SelectedOutput

SAMPLES = 9600  # 0.6 s
FRAMES = 7  # of a clip, one every 100 ms
CENTS = 100 / 3  # of a class, and of a row of the transform


def load() -> Any:
    """The model of waveforms with its weights."""
    import pesto

    return pesto.load_model("mir-1k_g7", step_size=100.0, sampling_rate=16_000).eval()


def classifier(pesto: Any) -> Classifier:
    """The lines that a user writes."""
    pesto.encoder.final_norm = nn.Identity()  # the model ends in a softmax
    model = SelectedOutput(pesto, lambda output: (output[3] * output[1][..., None]).mean(1))  # scores × confidence
    names = [f"class {number}" for number in range(384)]
    return Classifier(
        model,
        torch.clone,
        sample_rate=16_000,
        class_names=names,
        length=SAMPLES,
        layer=pesto.encoder.conv_layers[2],  # 30 channels, behind the last module that hears several rows
        layout=("(n t) c f -> n c f t", {"t": FRAMES}),
    )


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


GLUE = (classifier,)
