"""A picture of a task: one clip of each class."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.tasks.task import Task

HERTZ = (250, 500, 1000, 2000, 4000, 8000)
COLOURS = "magma"  # rises evenly in lightness: it reads in grey and without colour vision
OUTLINE = "#40e0ff"


def contact_sheet(task: Task) -> Figure:
    """One test clip of each class as a spectrogram, the truth outlined where it is known; 1200 pixels wide.

    Every panel has the same axes and the same colours for the same level in dB.

    Args:
        task: its test part must hold a clip of every class.

    Raises:
        ValueError: the test part has no clip of some class.
    """
    columns = 4 if len(task.classes) % 4 == 0 else 5
    rows = math.ceil(len(task.classes) / columns)
    figure = Figure(figsize=(12, 2.4 * rows + 0.5), dpi=100, layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    chosen = [first_of(task, label) for label in range(len(task.classes))]
    decibels = task.normalisation.decibels(task.test.log_mels[chosen, 0]).numpy()  # (class, mel, frame)
    lowest, highest = np.quantile(decibels, [0.01, 0.999])
    for panel, name, index, picture in zip(panels.flat, task.classes, chosen, decibels, strict=False):
        drawn = panel.imshow(picture, origin="lower", aspect="auto", cmap=COLOURS, vmin=lowest, vmax=highest, extent=extent(picture))
        panel.set_title(name, fontsize=11)
        panel.tick_params(labelsize=8)
        if task.truth is not None:
            _outline(panel, task.truth(index))
    for empty in panels.flat[len(task.classes) :]:
        empty.set_visible(False)
    set_scale(panels[0, 0], task)
    figure.supxlabel("time in seconds", fontsize=10)
    figure.supylabel("frequency in Hz", fontsize=10)
    figure.colorbar(drawn, ax=panels, label="level in dB", pad=0.01, aspect=30)
    return figure


def first_of(task: Task, label: int) -> int:
    """Index of the first test clip of a class."""
    found = (task.test.labels == label).nonzero()
    if not len(found):
        raise ValueError(f"expected a test clip of every class, but there is none of {task.classes[label]!r}")
    return int(found[0])


def extent(picture: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Positions as `SpectrogramAxes` counts them: bin `i` from `i` to `i + 1`."""
    return 0, picture.shape[1], 0, picture.shape[0]


def _outline(panel: Axes, truth: Tensor) -> None:
    """A line around the truth, along the edges of its bins."""
    fine = np.pad(truth.numpy(), 1).repeat(8, axis=0).repeat(8, axis=1)[7:-7, 7:-7]  # an eighth of a bin of margin on each side
    rows, columns = ((np.arange(size) - 0.5) / 8 for size in fine.shape)
    panel.contour(columns, rows, fine, levels=[0.5], colors=OUTLINE, linewidths=1.2)


def set_scale(panel: Axes, task: Task) -> None:
    """Ticks in seconds and Hz; the panels share them."""
    bands, frames = task.test.log_mels.shape[2:]
    seconds = np.linspace(0, math.floor(task.axes.seconds(frames - 0.5)), 3)
    panel.set_xticks([task.axes.frame_position(float(second)) for second in seconds], [f"{second:g}" for second in seconds])
    shown = [hertz for hertz in HERTZ if task.axes.nyquist > hertz and 1 <= task.axes.bin_position(float(hertz)) <= bands - 1]
    panel.set_yticks([task.axes.bin_position(float(hertz)) for hertz in shown], [f"{hertz:,}".replace(",", " ") for hertz in shown])
    panel.set_xlim(0, frames)
    panel.set_ylim(0, bands)
