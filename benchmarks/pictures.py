"""The README's pictures: one explanation with its prototypes, and one clip of every class of the scenes."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from benchmarks.contact_sheet import _first_of, _scale, contact_sheet
from benchmarks.subject import Subject, prepare
from benchmarks.tasks import Task, load_task
from captum_apex import LayerAPEX, Region, explain

OUTLINE = "#56d7ff"


def write(folder: Path, *, seed: int = 0) -> list[Path]:
    """Draws all pictures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {
        "explanation.png": explanation_picture(prepare("scenes", "cnn", seed=seed, progress=True)),
        "scenes.png": contact_sheet(load_task("scenes", seed)),
    }
    for name, picture in drawn.items():
        picture.savefig(folder / name, dpi=85)
    return [folder / name for name in drawn]


def explanation_picture(subject: Subject, index: int | None = None) -> Figure:
    """A test clip in the four perspectives, each row with the strongest channel's region and its three best prototypes.

    Args:
        subject: the classifier; its clips are drawn.
        index: of the test clip; by default the first of a class with evidence in one place in time and frequency.
    """
    task = subject.task
    index = _first_of(task, 7) if index is None else index
    clip, label = task.test[index]
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(11, 8.2), layout="constrained")
        panels = figure.subplots(len(subject.bases), 4, sharex=True, sharey=True)
        for row, (scheme, basis) in zip(panels, subject.bases.items(), strict=True):
            found = explain(LayerAPEX(subject.model, subject.layer, basis), clip[None], n_channels=1, n_prototypes=3)[0]
            evidence = found.evidence[0]
            share = evidence.contribution / (found.score - found.score_without_layer)
            _draw(row[0], task, clip, evidence.region, f"{scheme}: channel {evidence.channel}, {share:.0%} of the logit")
            row[0].set_ylabel("frequency in Hz")
            for panel, prototype in zip(row[1:], evidence.prototypes, strict=True):
                _draw(
                    panel,
                    task,
                    task.train[prototype.index][0],
                    prototype.region,
                    f"“{task.classes[prototype.label]}”, purity {prototype.purity:.2f}",
                )
        for panel in panels[-1]:
            panel.set_xlabel("time in s")
        _scale(panels[0, 0], task)
        figure.suptitle(
            f"Why “{task.classes[label]}”? Left: the clip, and where its strongest channel fires. Right: the training clips that fire it most."
        )
    return figure


def _draw(panel: Axes, task: Task, clip: Tensor, region: Region, title: str) -> None:
    rows, columns = clip.shape[1:]
    panel.imshow(task.normalisation.decibels(clip[0]), origin="lower", aspect="auto", cmap="magma", extent=(0, columns, 0, rows))
    for box in region.boxes:
        place, width, height = (box.start * columns, box.low * rows), (box.end - box.start) * columns, (box.high - box.low) * rows
        panel.add_patch(Rectangle(place, width, height, fill=False, edgecolor=OUTLINE, linewidth=1.6))
    panel.set_title(title, fontsize=9)
