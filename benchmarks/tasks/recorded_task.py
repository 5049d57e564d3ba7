"""Tasks made of recordings: where the files are, and what becomes of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile
import torch
from torch import Tensor
from torch.nn.functional import pad
from torchaudio.functional import resample

from benchmarks.cache import cached_tensors
from benchmarks.tasks.task import SPLITS, ClipDataset, LogMel, Normalisation, Split, Task
from captum_apex.recordings.folders import Recordings

VARIABLE = "CAPTUM_APEX_DATA"


@dataclass(frozen=True)
class Recording:
    """One file, its label and the part that it belongs to."""

    path: Path
    label: int
    split: Split

    def waveform(self, sample_rate: int, samples: int) -> Tensor:
        """The clip that is made of the file, float32 of shape (sample,), as long as `samples`."""
        return read(self.path, sample_rate, samples)

    @property
    def key(self) -> list[str | int | float]:
        """What the clip depends on, beside the rate and the length, to name a cache entry by."""
        return [self.path.parent.name, self.path.name, self.path.stat().st_size]


def labelled(parts: Mapping[Split, Recordings]) -> list[Recording]:
    """The files of both parts of a collection, in its order."""
    return [
        Recording(sounds.path(index), label, split)
        for split, sounds in parts.items()
        for index, label in enumerate(sounds.labels or ())
    ]


def data_folder(name: str, layout: str) -> Path:
    """The folder of one collection of recordings.

    Args:
        name: of the collection, a folder in the one that `CAPTUM_APEX_DATA` names.
        layout: how the files in it are named, for the error message.

    Raises:
        FileNotFoundError: the variable is unset, or there is no such folder.
    """
    root = os.environ.get(VARIABLE)
    if not root:
        raise FileNotFoundError(
            f"expected {VARIABLE} to name the folder of the recordings, with {name}/{layout} in it, but it is unset"
        )
    if not (folder := Path(root) / name).is_dir():
        raise FileNotFoundError(
            f"expected a folder {folder} with {layout} in it, but there is none; {VARIABLE} is {root}"
        )
    return folder


def read(path: Path, sample_rate: int, samples: int) -> Tensor:
    """The recording as float32 (sample,), resampled, cut at its end or padded with zeros to `samples`.

    Raises:
        ValueError: a sample is NaN or infinite, or there is more than one channel.
    """
    return lengthened(excerpt(path, sample_rate, samples), samples)


def lengthened(waveform: Tensor, samples: int) -> Tensor:
    """The waveform (sample,) with zeros behind it, up to `samples`."""
    return pad(waveform, (0, samples - len(waveform)))


def excerpt(path: Path, sample_rate: int, longest: int) -> Tensor:
    """The recording as float32 (sample,), resampled, cut at its end where it has more samples than `longest`.

    Raises:
        ValueError: a sample is NaN or infinite, or there is more than one channel.
    """
    sound, own_rate = soundfile.read(path, dtype="float32")
    if sound.ndim != 1:
        raise ValueError(f"expected a mono recording, but {path} has {sound.shape[1]} channels")
    waveform = resample(torch.from_numpy(sound), own_rate, sample_rate)[:longest]
    if not waveform.isfinite().all():
        raise ValueError(f"expected finite samples, but {path} holds NaN or infinity")
    return waveform


def recorded_task(
    name: str, classes: Sequence[str], recordings: Sequence[Recording], log_mel: LogMel, samples: int
) -> Task:
    """A task of recordings, its log-mels through the cache.

    Args:
        name: of the task.
        classes: the name of each label.
        recordings: all files of both parts.
        log_mel: how they become spectrograms.
        samples: the length that every clip is brought to, at the rate of `log_mel`.

    Raises:
        FileNotFoundError: a part has no recordings.
    """
    parts = {split: [recording for recording in recordings if recording.split == split] for split in SPLITS}
    for split, members in parts.items():
        if not members:
            raise FileNotFoundError(f"expected recordings for the {split} part of {name}, but found none")
    decibels = {split: _decibels(members, log_mel, samples) for split, members in parts.items()}
    normalise = Normalisation.of(decibels["train"])
    clips = {
        split: ClipDataset(normalise(decibels[split]), torch.tensor([member.label for member in members]))
        for split, members in parts.items()
    }
    return Task(
        name=name,
        classes=tuple(classes),
        sample_rate=log_mel.sample_rate,
        log_mel=log_mel,
        normalisation=normalise,
        silence=normalise(log_mel.floor),
        waveform=lambda split, index: parts[split][index].waveform(log_mel.sample_rate, samples),
        train=clips["train"],
        test=clips["test"],
    )


def _decibels(recordings: Sequence[Recording], log_mel: LogMel, samples: int) -> Tensor:
    """Log-mels before normalisation, shape (clip, 1, mel, frame), from the cache where it has them."""
    key = {
        "log_mel": log_mel.key,
        "samples": samples,
        "files": [recording.key for recording in recordings],
    }
    waveforms = (recording.waveform(log_mel.sample_rate, samples)[None] for recording in recordings)
    return cached_tensors("log-mel", key, lambda: {"decibels": log_mel.decibels(waveforms)})["decibels"]
