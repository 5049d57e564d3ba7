"""Tasks made of recordings: where the files are, and how they become clips."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.tasks.task import SPLITS, ClipDataset, LogMel, Normalisation, Split, Task, cached_decibels
from captum_apex.recordings import Recordings, read

VARIABLE = "CAPTUM_APEX_DATA"  # names the folder that holds the collections of recordings


@dataclass(frozen=True)
class Recording:
    """An audio file, the index of its class, and the split that it belongs to."""

    path: Path
    label: int
    split: Split

    def waveform(self, sample_rate: int, samples: int) -> Tensor:
        """The clip that is made of the file, float32 (sample,), with this number of samples at this rate in Hz."""
        return read_resampled(self.path, sample_rate, samples)

    @property
    def key(self) -> list[str | int | float]:
        """What the clip depends on besides the rate and the length, for the key of a cache entry."""
        state = self.path.stat()
        return [self.path.parent.name, self.path.name, state.st_size, state.st_mtime_ns]


def labelled(splits: Mapping[Split, Recordings]) -> list[Recording]:
    """The files of all splits of a collection, in the order of the collection."""
    return [
        Recording(sounds.path(index), label, split)
        for split, sounds in splits.items()
        for index, label in enumerate(sounds.labels or ())
    ]


def data_folder(name: str, layout: str) -> Path:
    """The folder of one collection of recordings.

    Args:
        name: name of the collection, a sub-folder of the folder that `CAPTUM_APEX_DATA` names.
        layout: pattern of the file names in it, for the error message.

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


def read_resampled(path: Path, sample_rate: int, samples: int | None = None) -> Tensor:
    """A recording as a waveform, as `captum_apex.recordings.read` gives it, but without a warning if it is resampled.

    Args:
        path: path of the audio file.
        sample_rate: sample rate of the waveform in Hz.
        samples: length of the waveform; a longer recording is cut at its end, a shorter one is padded with zeros. None
            for the whole recording.

    Returns:
        float32 tensor (sample,).

    Raises:
        ValueError: the file is not audio, is empty, or holds NaN or infinity.
    """
    with warnings.catch_warnings():
        # A task has one sample rate: its recordings are resampled on purpose.
        warnings.filterwarnings("ignore", message="recordings at .* Hz are resampled")
        return read(path, sample_rate, samples)


def recorded_task(
    name: str, classes: Sequence[str], recordings: Sequence[Recording], log_mel: LogMel, samples: int
) -> Task:
    """A task of recordings; the log-mels are stored in the cache.

    Args:
        name: name of the task.
        classes: name of each class, in the order of the labels.
        recordings: all files of both splits.
        log_mel: the transform from waveforms to log-mels.
        samples: number of samples of every clip, at the rate of `log_mel`; see `read_resampled`.

    Raises:
        FileNotFoundError: a split has no recordings.
    """
    splits = {split: [recording for recording in recordings if recording.split == split] for split in SPLITS}
    for split, members in splits.items():
        if not members:
            raise FileNotFoundError(f"expected recordings for the {split} split of {name}, but found none")

    def waveform(split: Split, index: int) -> Tensor:
        return splits[split][index].waveform(log_mel.sample_rate, samples)

    decibels = {}
    for split, members in splits.items():
        key = {"samples": samples, "files": [member.key for member in members]}
        decibels[split] = cached_decibels("log-mel", key, log_mel, partial(waveform, split), len(members))
    normalise = Normalisation.of(decibels["train"])
    clips = {
        split: ClipDataset(normalise(decibels[split]), torch.tensor([member.label for member in members]))
        for split, members in splits.items()
    }
    return Task(
        name=name,
        classes=tuple(classes),
        sample_rate=log_mel.sample_rate,
        log_mel=log_mel,
        normalisation=normalise,
        silence=normalise(log_mel.floor),
        waveform=waveform,
        train=clips["train"],
        test=clips["test"],
    )
