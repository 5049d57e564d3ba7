"""The README's pictures: one explanation with its prototypes, and one clip of every class of the scenes."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from benchmarks.contact_sheet import COLOURS, OUTLINE, contact_sheet, extent, first_of, set_scale
from benchmarks.subject import Subject, prepare
from benchmarks.tasks import Task
from captum_apex import LayerAPEX, Region, explain


def write(folder: Path, *, seed: int = 0) -> list[Path]:
    """Draws all pictures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    subject = prepare("scenes", "cnn", seed=seed, progress=True)
    drawn = {
        "explanation.png": explanation_picture(subject, first_of(subject.task, subject.task.classes.index("long high tone"))),
        "scenes.png": contact_sheet(subject.task),
    }
    for name, picture in drawn.items():
        picture.savefig(folder / name, dpi=85)
    return [folder / name for name in drawn]


def explanation_picture(subject: Subject, index: int) -> Figure:
    """A test clip in the four perspectives, each row with the strongest channel's region and its three best prototypes.

    Args:
        subject: the classifier; its clips are drawn.
        index: of the test clip.
    """
    task = subject.task
    clip = subject.task.test[index][0]
    apexes = [LayerAPEX(subject.model, subject.layer, basis) for basis in subject.bases.values()]
    found = [explain(apex, clip[None], n_channels=1, n_prototypes=3)[0] for apex in apexes]
    with mpl.rc_context({"font.size": 9}):
        figure = Figure(figsize=(11, 8.2), layout="constrained")
        panels = figure.subplots(len(subject.bases), 4, sharex=True, sharey=True)
        for row, explanation in zip(panels, found, strict=True):
            row[0].set_ylabel("frequency in Hz")
            for evidence in explanation.evidence:
                share = evidence.contribution / (explanation.score - explanation.score_without_layer)
                _draw(row[0], task, clip, evidence.region, f"{explanation.scheme}: channel {evidence.channel}, {share:.0%} of the logit")
                for panel, prototype in zip(row[1:], evidence.prototypes, strict=True):
                    title = f"“{task.classes[prototype.label]}”, purity {prototype.purity:.2f}"
                    _draw(panel, task, task.train[prototype.index][0], prototype.region, title)
        for panel in panels[-1]:
            panel.set_xlabel("time in s")
        set_scale(panels[0, 0], task)
        figure.suptitle(
            f"Why “{task.classes[found[0].target]}”? Left: where its strongest channel fires. Right: the training clips that fire it most."
        )
    return figure


def _draw(panel: Axes, task: Task, clip: Tensor, region: Region, title: str) -> None:
    rows, columns = clip.shape[1:]
    panel.imshow(task.normalisation.decibels(clip[0]), origin="lower", aspect="auto", cmap=COLOURS, extent=extent(clip[0].numpy()))
    for box in region.boxes:
        place, width, height = (box.start * columns, box.low * rows), (box.end - box.start) * columns, (box.high - box.low) * rows
        panel.add_patch(Rectangle(place, width, height, fill=False, edgecolor=OUTLINE, linewidth=1.6))
    panel.set_title(title, fontsize=9)
