"""A clip that a trained head and APEX explain by prototypes, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage

from benchmarks.experiments.head_prototypes import (
    HeadOnClips,
    features_of_test_clip,
    head_explanation,
    trained_head,
)
from benchmarks.methods.query import logits
from benchmarks.runs.subject import Subject
from benchmarks.tasks.task_clips import TaskClips
from captum_apex import Clip, Evidence, Explanation, LayerAPEX, Scheme, explain
from captum_apex.audio.clip import level_limits
from captum_apex.figures.canvas import panel_width
from captum_apex.figures.outlines import draw_outline
from captum_apex.figures.panels import Limits, colour_bar, label_axes, remove_empty
from captum_apex.figures.prototypes import HEIGHT, MARGIN, WIDTH, load_clips, prototype_panels
from captum_apex.figures.spectrogram import draw_clip
from captum_apex.figures.titles import heading, title

N_ROWS = 3  # prototypes of the head, and channels of APEX
N_PROTOTYPES = 2  # training clips of each
BAR = 0.35  # half of the width of the colour bar, in inches


def head_picture(subject: Subject, name: str, index: int, scheme: Scheme = Scheme.SQUARE) -> Figure:
    """A test clip explained by the prototypes of a head, left, and by APEX, right; outlines are cells of the layer.

    Args:
        subject: the frozen network, its bases and its clips.
        name: a name in `benchmarks.experiments.head_prototypes.PROTOTYPE_HEADS`.
        index: index of the test clip.
        scheme: the scheme of APEX; that of a head is always `square`.
    """
    of_head = head_explanation(subject, name, index, n_channels=N_ROWS, n_prototypes=N_PROTOTYPES)
    of_apex = _by_apex(subject, index, scheme)
    clip = TaskClips(subject.task, "test")[index]
    shown = [prototype for each in (*of_head.evidence, *of_apex.evidence) for prototype in each.prototypes]
    clips = load_clips(TaskClips(subject.task, "train"), shown)
    limits = level_limits([clip, *clips.values()])
    size = (2 * (MARGIN + WIDTH * (1 + N_PROTOTYPES)), 1.0 + (HEIGHT + 0.2) * N_ROWS)
    figure = Figure(figsize=size, layout="constrained")
    names = subject.task.classes
    halves = figure.subfigures(1, 2, squeeze=False, width_ratios=[size[0] / 2 - BAR, size[0] / 2 + BAR])
    left, right = halves[0]
    heading(left, f"{name}: {names[of_head.predicted]!r}, logit {of_head.logit:.2f}")
    heading(right, f"APEX, {scheme}: {names[int(of_apex.target)]!r}, logit {of_apex.score:.2f}")
    _draw(left, of_head.evidence, clip, clips, limits, names, ("the clip, prototype {}", "similarity"))
    image = _draw(right, of_apex.evidence, clip, clips, limits, names, ("the clip, channel {}", "purity"))
    colour_bar(right, right.axes, image, "level in dB")
    return figure


def recognised_clip(subject: Subject, name: str) -> int:
    """Index of the first test clip whose class both the network and a head predict.

    Args:
        subject: the frozen network and its clips.
        name: as in `head_picture`.

    Raises:
        ValueError: there is none.
    """
    head = trained_head(subject, name)
    for index in range(len(subject.task.test)):
        inputs, label = subject.task.test[index]
        own = int(logits(subject.model, inputs[None]).argmax())
        if own == label == int(HeadOnClips.of(head, features_of_test_clip(subject, index)).logits.argmax()):
            return index
    raise ValueError(
        f"expected a test clip whose class both the network and the head ({name}) predict, but none of the "
        f"{len(subject.task.test)} of {subject.task.name} is one"
    )


def _by_apex(subject: Subject, index: int, scheme: Scheme) -> Explanation:
    apex = LayerAPEX(subject.model, subject.layer, subject.bases[scheme])
    inputs = subject.task.test[index][0][None]
    (found,) = explain(apex, inputs, n_channels=N_ROWS, n_prototypes=N_PROTOTYPES, search=None)
    return found


def _draw(
    part: SubFigure,
    evidence: Sequence[Evidence],
    clip: Clip,
    clips: dict[int, Clip],
    limits: Limits,
    class_names: Sequence[str],
    words: tuple[str, str],
) -> AxesImage:
    """Draws a row for each prototype or channel: the clip, and training clips; rows without one stay empty.

    `words` are the name of a row with a place for its number, and the measure that stands beside it.
    """
    width = panel_width(part, 1 + N_PROTOTYPES, MARGIN)
    if not evidence:
        panel = part.subplots()
        title(panel, ["nothing adds to the logit"], width)
        return draw_clip(panel, clip, limits)
    panels = part.subplots(N_ROWS, 1 + N_PROTOTYPES, squeeze=False)
    row_name, measure = words
    for rank, (row, each) in enumerate(zip(panels, evidence, strict=False)):
        image = draw_clip(row[0], clip, limits)
        draw_outline(row[0], clip, each.region, rank)
        adds = f"{measure} {each.purity:.2f}, adds {each.contribution:.2f}"
        title(row[0], [row_name.format(each.channel), adds], width)
        prototype_panels(row[1:], each.prototypes, clips, limits, width, rank, class_names)
        for panel, prototype in zip(row[1:], each.prototypes, strict=False):
            title(panel, [class_names[prototype.label], f"training clip, {measure} {prototype.purity:.2f}"], width)
    label_axes(remove_empty(panels, (bool(panel.images) for panel in panels.flat)))
    return image
