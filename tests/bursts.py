"""A classifier whose evidence is known to the bin: a class is a tone of one frequency, and everything else is nothing.

A frame is eight samples at 800 Hz without overlap, so that a tone of a bin's frequency is in one bin of its frames, and
in no other. The layer has a channel for each class, the input in the row of the class alone; the logit grows with its
mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from captum_apex import (
    Classifier,
    FeatureBank,
    PrototypeBasis,
    Recordings,
    SpectrogramAxes,
    basis_from_matrix,
    listening,
)

RATE = 800  # Hz
FRAME = 8  # samples, 10 ms
ROWS = FRAME // 2 + 1  # 0, 100, 200, 300 and 400 Hz
CLASSES = ("low", "high")
TONES = {"low": 1, "high": 3}  # the row of each class
EDGES = {"low": (50.0, 150.0), "high": (250.0, 350.0)}  # Hz
SECONDS = 1.0


class RowsOfClasses(nn.Module):
    """The row of each class as a channel, with zeros in the other rows."""

    def __init__(self) -> None:
        super().__init__()
        rows = torch.zeros(len(CLASSES), ROWS, 1)
        for channel, name in enumerate(CLASSES):
            rows[channel, TONES[name]] = 1
        self.register_buffer("rows", rows)

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.rows


def spectrogram(waveform: Tensor) -> Tensor:
    """The level of each bin above a faint one, (1, frequency, time)."""
    frames = waveform.unfold(0, FRAME, FRAME)
    return (torch.fft.rfft(frames).abs().T[None] / (FRAME / 2) - 0.1).relu()


def classifier(**fields: object) -> Classifier:
    layer = RowsOfClasses()
    head = nn.Linear(len(CLASSES), len(CLASSES))
    head.weight.data = 100 * torch.eye(len(CLASSES))
    head.bias.data.fill_(-0.5)  # so that silence has no class, and a tone of 0.1 s has one
    model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()
    settings = {
        "axes": SpectrogramAxes(RATE, FRAME, FRAME, center=False),
        "decibels": lambda inputs: 20 * (inputs[0] + 1e-4).log10(),
        "length": int(RATE * SECONDS),
        "layer": layer,
        "exclusive": False,
    }
    return Classifier(model, spectrogram, RATE, CLASSES, **(settings | fields))


def tone(name: str, start: float, end: float, seconds: float = SECONDS) -> Tensor:
    """A tone of a class from a start to an end, in s, between digital silence."""
    samples = torch.arange(int(RATE * seconds))
    sounding = (samples >= RATE * start) & (samples < RATE * end)
    return 0.4 * sounding * torch.sin(2 * torch.pi * 100 * TONES[name] * samples / RATE)


def write_recordings(folder: Path, events: dict[str, Sequence[tuple[str, float, float]]], seconds: float) -> None:
    """Writes a recording for each name, with tones of classes from starts to ends."""
    for name, tones in events.items():
        waveform = sum((tone(*each, seconds=seconds) for each in tones), torch.zeros(int(RATE * seconds)))
        listening.write(folder / name, waveform, RATE)


def write_annotations(path: Path, events: dict[str, Sequence[tuple[str, float, float]]]) -> None:
    """Writes the places of these tones as a table."""
    lines = ["file,start,end,low,high,label"]
    for name, tones in events.items():
        for label, start, end in tones:
            lines.append(f"{name},{start},{end},{EDGES[label][0]},{EDGES[label][1]},{label}")
    path.write_text("\n".join(lines) + "\n")


def basis(scheme: str, recordings: Recordings) -> PrototypeBasis:
    """The channels of the layer as a basis."""
    own = classifier()
    bank = FeatureBank.from_dataset(own.model, own.layer, own.dataset(recordings))
    return basis_from_matrix(bank, scheme, torch.eye(len(CLASSES)), n_prototypes=1)
