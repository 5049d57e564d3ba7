"""Silero VAD: speech or not, in chunks of 32 ms; a TorchScript model that gets an eager parent."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.published.held_clips import HeldClips, environment, loudest, same_group, spoken_digits
from benchmarks.published.wheels import file_of
from captum_apex import Classifier

CHUNK = 512  # samples
CONTEXT = 64  # samples before a chunk that the model hears with it
SAMPLES = 16 * CHUNK  # 0.5 s
LEVEL = 0.05  # root mean square of a clip


class Speech(nn.Module):
    """The recipe for TorchScript: an eager parent calls the scripted modules, with an `nn.Identity` at the layer."""

    def __init__(self, silero: Any) -> None:
        super().__init__()
        self.silero = silero
        self.frames = nn.Identity()

    def forward(self, waveforms: Tensor) -> Tensor:
        """Waveforms (clip, sample) to the mean logit of speech over the chunks, (clip, 1)."""
        chunks = nn.functional.pad(waveforms, (CONTEXT, 0)).unfold(1, CONTEXT + CHUNK, CHUNK)
        encoded = self.silero.encoder(self.silero.run_extractors(chunks.flatten(0, 1)))
        frames = self.frames(encoded[..., 0].unflatten(0, chunks.shape[:2]))  # (clip, chunk, channel)
        state = torch.zeros(0)
        scores = []
        for frame in frames.unbind(1):
            score, state = self.silero.decoder(frame[..., None], state)  # the state goes from chunk to chunk
            scores.append(score.flatten(1).logit())
        return torch.stack(scores).mean(0)


def load() -> Any:
    """The scripted network for 16 kHz, with its weights."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch is about to leave TorchScript
        return torch.jit.load(file_of("silero_vad", "data/silero_vad.jit")).eval()._model


def classifier(silero: Any) -> Classifier:
    """The lines that a user writes, besides the class `Speech`."""
    model = Speech(silero).eval()
    layout = "n t c -> n c 1 t"
    return Classifier(model, torch.clone, 16_000, ["speech"], length=SAMPLES, layer=model.frames, layout=layout)


def clips(part: str, n_per_speaker: int) -> HeldClips:
    """0.5 s of spoken digits and, to choose prototypes from, of as many environmental sounds, all at one level.

    The encoder gives larger values for louder sounds, so that otherwise the loudest sounds are the prototypes.
    """
    speech = spoken_digits(part, n_per_speaker)
    sounds = speech + (environment(part, len(speech)) if part == "train" else [])
    stretches = [loudest(waveform, SAMPLES) for _, _, waveform in sounds]
    waveforms = [LEVEL * stretch / stretch.square().mean().sqrt().clamp_min(1e-6) for stretch in stretches]
    kinds = ["speech"] * len(speech) + ["other"] * (len(sounds) - len(speech))
    return HeldClips(waveforms, [name for _, name, _ in sounds], kinds)


def likeness(prepared: Classifier, explained: HeldClips, prototypes: HeldClips) -> Tensor:
    """Whether the prototype is speech, as the explained clips are, 0 or 1, (clip, prototype)."""
    del prepared
    return same_group(explained, prototypes)


GLUE = (classifier, Speech)
