"""Resemblyzer: an LSTM that gives speech an embedding of its speaker, with one class per enrolled speaker."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchaudio.transforms import MelSpectrogram

from benchmarks.published.held_clips import HeldClips, same_group, spoken_digits
from benchmarks.published.wheels import without
from captum_apex import Classifier, SpectrogramAxes

SAMPLES = 25_600  # 1.6 s, as the encoder was trained
DIGITS = 4  # spoken one after the other in a clip
MEL = MelSpectrogram(16_000, 400, hop_length=160, n_mels=40, norm="slaney", mel_scale="slaney", pad_mode="constant")


class Speakers(nn.Module):
    """The product of a clip's embedding with that of each enrolled speaker, which has length 1.

    The embedding has the length that the network gives it. The package divides by this length, which changes no order
    of the speakers; but what a channel adds to a quotient cannot be said.
    """

    def __init__(self, encoder: Any, voices: Tensor) -> None:
        super().__init__()
        self.encoder = encoder
        self.frames = nn.Identity()  # the LSTM's sequence gets a name here
        self.register_buffer("voices", voices)

    def forward(self, mels: Tensor) -> Tensor:
        """Mel spectrograms (clip, frame, mel) to scores (clip, speaker)."""
        frames = self.frames(self.encoder.lstm(mels)[0])  # (clip, frame, channel)
        embeddings = torch.relu(self.encoder.linear(frames[:, -1]))  # the last frame is the LSTM's hidden state
        return embeddings @ self.get_buffer("voices").T


def load() -> Any:
    """The encoder with its weights."""
    with without("librosa", "webrtcvad"):
        import resemblyzer
    return resemblyzer.VoiceEncoder("cpu", verbose=False).eval()


def classifier(encoder: Any) -> Classifier:
    """The lines that a user writes, besides the class `Speakers`."""
    voices = embeddings_by_speaker(encoder, clips("train", 20))
    model = Speakers(encoder, torch.stack(list(voices.values()))).eval()
    axes = SpectrogramAxes.from_transform(MEL)
    layout = "n t c -> n c 1 t"
    shape: dict[str, Any] = {"length": SAMPLES, "layer": model.frames, "layout": layout, "input_layout": "n t f"}
    return Classifier(model, mel, 16_000, list(voices), axes, decibels, **shape)


def mel(waveform: Tensor) -> Tensor:
    """The input of the encoder, (frame, mel)."""
    return MEL(waveform).T[:160]


def decibels(inputs: Tensor) -> Tensor:
    """The picture of an input, (mel, frame) in dB."""
    return 10 * inputs.T.clamp_min(1e-8).log10()


def embeddings_by_speaker(encoder: Any, enrolled: HeldClips) -> dict[str, Tensor]:
    """The mean embedding of each speaker, of length 1."""
    with torch.no_grad():
        embeddings = encoder(torch.stack([mel(waveform) for waveform in enrolled.waveforms]))
    voices = {}
    for speaker in sorted(set(enrolled.groups)):
        chosen = torch.tensor([each == speaker for each in enrolled.groups])
        voices[speaker] = nn.functional.normalize(embeddings[chosen].mean(0), dim=0)
    return voices


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


GLUE = (classifier, Speakers, mel, decibels)
