"""The clips of a task with their spectrogram in dB, their waveform and their class, for pictures and sounds."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.tasks import Split, Task
from captum_apex import Clip


@dataclass(frozen=True)
class TaskClips:
    """Gives the clip at an index of one split of a task, a `ClipLookup`.

    Attributes:
        task: the task.
        split: the split of the task; the indices of prototypes belong to "train".
    """

    task: Task
    split: Split

    def __getitem__(self, index: int) -> Clip:
        log_mel, label = getattr(self.task, self.split)[index]
        decibels = self.task.normalisation.decibels(log_mel[0])
        return Clip(decibels, self.task.axes, self.task.waveform(self.split, index), label=self.task.classes[label])
