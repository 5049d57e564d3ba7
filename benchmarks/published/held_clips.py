"""Clips that are cut from the recordings, held in memory, with what is known of each."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.tasks.recorded_task import data_folder
from captum_apex.datasets import esc10, fsdd
from captum_apex.recordings import Recordings

RATE = 16_000  # Hz, of all models of speech


@dataclass(frozen=True, repr=False)
class HeldClips:
    """Clips at the sample rate of the model that they are for; an `AudioDataset` of captum-apex.

    Args:
        waveforms: samples of each clip, (sample,).
        names: name of each clip.
        groups: what is known of each clip, such as its speaker.
        labels: index of the class of each clip, where the clips have classes.
        class_names: names of the classes.
    """

    waveforms: Sequence[Tensor]
    names: Sequence[str]
    groups: Sequence[str]
    labels: Sequence[int] | None = None
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.waveforms)

    def name(self, index: int) -> str:
        """The name of a clip."""
        return self.names[index]

    def waveform(self, index: int, sample_rate: int, length: int | None = None, *, convert: bool = True) -> Tensor:
        """The samples of a clip, which must have the model's sample rate and length."""
        del sample_rate, convert  # the clips are cut for one model
        return self.waveforms[index][:length]

    def fingerprint(self) -> str:
        """A hash of the names."""
        return hashlib.sha256("\n".join(self.names).encode()).hexdigest()


def spoken_digits(part: str, n_per_speaker: int) -> list[tuple[str, str, Tensor]]:
    """The speaker, name and samples of recordings of FSDD, at 16 kHz: as many of each speaker, of all digits."""
    recordings = fsdd(data_folder("fsdd", "{digit}_{speaker}_{index}.wav"), part)  # type: ignore[arg-type]
    groups = recordings.groups or ()
    chosen: list[tuple[str, str, Tensor]] = []
    for speaker in sorted(set(groups)):
        indices = [index for index, each in enumerate(groups) if each == speaker]
        for place in range(n_per_speaker):
            index = indices[place * len(indices) // n_per_speaker]
            chosen.append((speaker, _name(recordings, index), _samples(recordings, index)))
    return chosen


def environment(part: str, n: int) -> list[tuple[str, str, Tensor]]:
    """The class, name and samples of recordings of ESC-10, at 16 kHz, of all classes."""
    folds = (1, 2, 3) if part == "train" else (4,)
    recordings = esc10(data_folder("esc10", "{class}/{fold}-{source}-{take}.ogg"), folds)
    chosen = []
    for place in range(n):
        index = place * len(recordings) // n
        label = (recordings.labels or ())[index]
        chosen.append((recordings.class_names[label], _name(recordings, index), _samples(recordings, index)))
    return chosen


def same_group(explained: HeldClips, prototypes: HeldClips) -> Tensor:
    """Whether two clips have the same group, 0 or 1, (clip, prototype)."""
    return torch.tensor([[float(mine == other) for other in prototypes.groups] for mine in explained.groups])


def loudest(waveform: Tensor, length: int, step: int = 160) -> Tensor:
    """The loudest stretch of a waveform; a shorter waveform is padded with zeros.

    Example:
        >>> import torch
        >>> from benchmarks.published.held_clips import loudest
        >>> loudest(torch.tensor([0.0, 0.0, 1.0, 2.0, 0.0]), 2, step=1)
        tensor([1., 2.])
    """
    if len(waveform) < length:
        return torch.nn.functional.pad(waveform, (0, length - len(waveform)))
    stretches = waveform.unfold(0, length, step)
    return stretches[stretches.square().sum(1).argmax()].clone()


def _name(recordings: Recordings, index: int) -> str:
    return Path(recordings.name(index)).name


def _samples(recordings: Recordings, index: int) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the recordings have other rates than the models
        return recordings.waveform(index, RATE)
