"""A task's clips as people see and hear them."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.tasks import Split, Task
from captum_apex import Clip


@dataclass(frozen=True)
class TaskClips:
    """Index → clip of one part of a task, made when it is asked for.

    Attributes:
        task: the clips.
        split: the part; a prototype's index is one of "train".
    """

    task: Task
    split: Split

    def __getitem__(self, index: int) -> Clip:
        log_mel, label = getattr(self.task, self.split)[index]
        decibels = self.task.normalisation.decibels(log_mel[0])
        return Clip(decibels, self.task.axes, self.task.waveform(self.split, index), label=self.task.classes[label])
