"""The README's pictures: one explanation with its prototypes, and one clip of every class of the scenes."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.reports.contact_sheet import contact_sheet, first_of
from benchmarks.runs.subject import Subject, prepare
from benchmarks.tasks.task_clips import TaskClips
from captum_apex import LayerAPEX, explain, figures


def write(folder: Path, *, seed: int = 0) -> list[Path]:
    """Draws all pictures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    subject = prepare("scenes", "cnn", seed=seed, progress=True)
    drawn = {
        "explanation.png": explanation_picture(
            subject, first_of(subject.task, subject.task.classes.index("long high tone"))
        ),
        "scenes.png": contact_sheet(subject.task),
    }
    for name, picture in drawn.items():
        picture.savefig(folder / name, dpi=85)
    return [folder / name for name in drawn]


def explanation_picture(subject: Subject, index: int) -> Figure:
    """A test clip in the four perspectives: the strongest channel's region, and below it the channel's two best prototypes.

    Args:
        subject: the classifier; its clips are drawn.
        index: of the test clip.
    """
    task = subject.task
    inputs = task.test[index][0][None]
    apexes = [LayerAPEX(subject.model, subject.layer, basis) for basis in subject.bases.values()]
    found = [explain(apex, inputs, n_channels=1, n_prototypes=2)[0] for apex in apexes]
    return figures.perspectives(
        found, TaskClips(task, "test")[index], TaskClips(task, "train"), class_names=task.classes
    )
