"""Sounds that are planted in the training clips of one class, and so give the class away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from benchmarks.tasks import ClipDataset, Split, Task


@dataclass(frozen=True)
class Hum:
    """A steady tone, as of a power supply.

    Attributes:
        level: its level in dB, relative to a sine of full scale.
        label: index of the class whose training clips have it.
        frequency: its frequency in Hz.

    Example:
        >>> import torch
        >>> from benchmarks.experiments.planted_sounds import Hum
        >>> round(Hum(level=-20.0).added_to(torch.zeros(8000), 8000).max().item(), 3)
        0.1
    """

    level: float = -40.0
    label: int = 0
    frequency: float = 1000.0

    def added_to(self, waveform: Tensor, sample_rate: int) -> Tensor:
        """The waveform (sample,) with the hum."""
        seconds = torch.arange(len(waveform), dtype=torch.float64) / sample_rate
        tone = 10 ** (self.level / 20) * torch.sin(2 * torch.pi * self.frequency * seconds)
        return waveform + tone.to(waveform)


@dataclass(frozen=True)
class Click:
    """A short broadband pulse at the start, as of the button of a recorder: decaying noise, the same in all clips.

    Attributes:
        level: level of its largest sample in dB, relative to full scale.
        label: index of the class whose training clips have it.
        start: its start in seconds.
        decay: seconds in which its amplitude falls to a fraction 1/e.

    Example:
        >>> import torch
        >>> from benchmarks.experiments.planted_sounds import Click
        >>> clip = Click(level=-20.0).added_to(torch.zeros(8000), 8000)
        >>> round(clip.abs().max().item(), 3), clip.nonzero().min().item() / 8000
        (0.1, 0.02)
    """

    level: float = -40.0
    label: int = 0
    start: float = 0.02
    decay: float = 0.002

    def added_to(self, waveform: Tensor, sample_rate: int) -> Tensor:
        """The waveform (sample,) with the click."""
        first = round(self.start * sample_rate)
        samples = torch.arange(len(waveform) - first, dtype=torch.float64)
        noise = torch.randn(len(samples), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        pulse = noise * torch.exp(-samples / (self.decay * sample_rate))
        click = torch.zeros(len(waveform), dtype=torch.float64)
        click[first:] = 10 ** (self.level / 20) * pulse / pulse.abs().max()
        return waveform + click.to(waveform)


PlantedSound: TypeAlias = Hum | Click
PLANTS: Mapping[str, type[PlantedSound]] = {"hum": Hum, "click": Click}
"""The planted sounds by name."""


def planted(task: Task, split: Split, sound: PlantedSound, indices: Sequence[int]) -> ClipDataset:
    """A split with a sound in some of its clips; the normalisation is that of the clips without it.

    Args:
        task: the task.
        split: the split.
        sound: the sound.
        indices: indices of the clips that get it.
    """
    clips: ClipDataset = getattr(task, split)
    log_mels = clips.log_mels.clone()
    for index in indices:
        waveform = sound.added_to(task.waveform(split, index), task.sample_rate)
        log_mels[index] = task.normalisation(task.log_mel.decibels([waveform[None]])[0])
    return ClipDataset(log_mels, clips.labels)
