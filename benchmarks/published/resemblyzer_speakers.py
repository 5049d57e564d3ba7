"""Resemblyzer: an LSTM that gives speech an embedding of its speaker, with one class per enrolled speaker."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torchaudio.transforms import MelSpectrogram

from benchmarks.published.held_clips import HeldClips, same_group, spoken_digits
from benchmarks.published.wheels import without
from captum_apex import Classifier, SelectedOutput, SpectrogramAxes

SAMPLES = 25_600  # 1.6 s, as the encoder was trained
DIGITS = 4  # spoken one after the other in a clip


def load() -> Any:
    """The encoder with its weights."""
    with without("librosa", "webrtcvad"):
        import resemblyzer
    return resemblyzer.VoiceEncoder("cpu", verbose=False).eval()


def classifier(encoder: Any) -> Classifier:
    """The lines that a user writes."""
    mel = MelSpectrogram(16_000, 400, hop_length=160, n_mels=40, norm="slaney", mel_scale="slaney", pad_mode="constant")
    voices = {name: encoder(mel(sounds).mT[:, :160]).detach().mean(0) for name, sounds in enrolled().items()}
    directions = nn.functional.normalize(torch.stack(list(voices.values())))  # (speaker, dimension)
    return Classifier(
        SelectedOutput(SelectedOutput(encoder, encoder.relu), lambda voice: voice @ directions.T.to(voice)),
        lambda waveform: mel(waveform).T[:160],
        sample_rate=16_000,
        class_names=list(voices),
        axes=SpectrogramAxes.from_transform(mel),
        decibels=lambda inputs: 10 * inputs.T.clamp_min(1e-8).log10(),
        length=SAMPLES,
        layer=encoder.lstm,
        layout="n t c -> n c 1 t",
        input_layout="n t f",
    )


@cache
def enrolled() -> dict[str, Tensor]:
    """Training clips of each speaker, (clip, sample)."""
    held = clips("train", 20)
    return {
        speaker: torch.stack(
            [waveform for waveform, each in zip(held.waveforms, held.groups, strict=True) if each == speaker]
        )
        for speaker in sorted(set(held.groups))
    }


def likeness(prepared: Classifier, explained: HeldClips, prototypes: HeldClips) -> Tensor:
    """Whether the speaker is the same, 0 or 1, (clip, prototype)."""
    del prepared
    return same_group(explained, prototypes)


def clips(part: str, n_per_speaker: int) -> HeldClips:
    """Four digits of one speaker after the other, at −30 dB, as the package prepares speech."""
    spoken = spoken_digits(part, n_per_speaker * DIGITS)
    kept = []
    for start in range(0, len(spoken), DIGITS):
        digits = spoken[start : start + DIGITS]
        waveform = torch.cat([samples for _, _, samples in digits])
        waveform = waveform * (10 ** (-30 / 20) / waveform.square().mean().sqrt())
        padded = nn.functional.pad(waveform, (0, max(0, SAMPLES - len(waveform))))[:SAMPLES]
        kept.append((padded, "+".join(name for _, name, _ in digits), digits[0][0]))
    waveforms, names, speakers = zip(*kept, strict=True)
    return HeldClips(waveforms, names, speakers)


GLUE = (classifier,)
