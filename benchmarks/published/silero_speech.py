"""Silero VAD: speech or not, in chunks of 32 ms; a TorchScript model whose parts get an eager parent."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.published.held_clips import HeldClips, environment, loudest, same_group, spoken_digits
from benchmarks.published.wheels import file_of
from captum_apex import Classifier, SelectedOutput
from captum_apex.pretrained import FrameByFrame

CHUNK = 512  # samples
CONTEXT = 64  # samples before a chunk that the model hears with it
CHUNKS = 16  # of a clip, 0.5 s
LEVEL = 0.05  # root mean square of a clip


def load() -> Any:
    """The scripted network for 16 kHz, with its weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch is about to leave TorchScript
        return torch.jit.load(file_of("silero_vad", "data/silero_vad.jit")).eval()._model


def classifier(silero: Any) -> Classifier:
    """The lines that a user writes."""
    layer = nn.Identity()  # in TorchScript no module can be a layer
    encoder = nn.Sequential(nn.Flatten(0, 1), silero.stft, silero.encoder, nn.Unflatten(0, (-1, CHUNKS)))
    model = nn.Sequential(encoder, layer, FrameByFrame(silero.decoder, torch.zeros(0)))
    return Classifier(
        SelectedOutput(model, lambda probabilities: probabilities.flatten(2).logit().mean(1)),
        lambda waveform: nn.functional.pad(waveform, (CONTEXT, 0)).unfold(0, CONTEXT + CHUNK, CHUNK),
        sample_rate=16_000,
        class_names=["speech"],
        length=CHUNKS * CHUNK,
        layer=layer,
        layout="n t c f -> n c f t",
        input_layout="n t c",  # chunks of samples
    )


def clips(part: str, n_per_speaker: int) -> HeldClips:
    """0.5 s of spoken digits and, to choose prototypes from, of as many environmental sounds, all at one level.

    The encoder gives larger values for louder sounds, so that otherwise the loudest sounds are the prototypes.
    """
    speech = spoken_digits(part, n_per_speaker)
    sounds = speech + (environment(part, len(speech)) if part == "train" else [])
    stretches = [loudest(waveform, CHUNKS * CHUNK) for _, _, waveform in sounds]
    waveforms = [LEVEL * stretch / stretch.square().mean().sqrt().clamp_min(1e-6) for stretch in stretches]
    kinds = ["speech"] * len(speech) + ["other"] * (len(sounds) - len(speech))
    return HeldClips(waveforms, [name for _, name, _ in sounds], kinds)


def likeness(prepared: Classifier, explained: HeldClips, prototypes: HeldClips) -> Tensor:
    """Whether the prototype is speech, as the explained clips are, 0 or 1, (clip, prototype)."""
    del prepared
    return same_group(explained, prototypes)


GLUE = (classifier,)
