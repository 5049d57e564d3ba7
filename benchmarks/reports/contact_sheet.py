"""An overview picture of a task: one clip of each class."""

from __future__ import annotations

from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.tasks.task import Task
from benchmarks.tasks.task_clips import TaskClips
from captum_apex import Box, Region, figures


def contact_sheet(task: Task) -> Figure:
    """One test clip of each class as a spectrogram, the truth outlined where it is known.

    Every panel has the same axes and the same colours for the same level in dB.

    Args:
        task: a task with at least one test clip of every class.

    Raises:
        ValueError: a class has no test clip.
    """
    chosen = [first_of(task, label) for label in range(len(task.classes))]
    test = TaskClips(task, "test")
    truth = None if task.truth is None else [bins(task.truth(index)) for index in chosen]
    return figures.clips([test[index] for index in chosen], truth, n_columns=4 if len(chosen) % 4 == 0 else 5)


def first_of(task: Task, label: int) -> int:
    """Index of the first test clip of a class."""
    indices = (task.test.labels == label).nonzero()
    if not len(indices):
        raise ValueError(f"expected a test clip of every class, but there is none of {task.classes[label]!r}")
    return int(indices[0])


def bins(mask: Tensor) -> Region:
    """The bins of a mask, bool (frequency, time), as a region.

    Example:
        >>> import torch
        >>> bins(torch.tensor([[False, True]])).boxes
        (Box(low=0.0, high=1.0, start=0.5, end=1.0),)
    """
    n_rows, n_columns = mask.shape
    return Region(
        tuple(Box(i / n_rows, (i + 1) / n_rows, j / n_columns, (j + 1) / n_columns) for i, j in mask.nonzero().tolist())
    )
