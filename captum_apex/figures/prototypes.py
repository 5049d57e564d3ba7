"""Explanations by prototypes: a clip, the regions of its channels, and the training clips that activate them most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

from captum_apex.audio.clip import Clip, level_limits
from captum_apex.audio.clip_lookup import ClipLookup
from captum_apex.classifiers.class_names import class_name, target_name
from captum_apex.explanations.evidence import Evidence, Prototype
from captum_apex.explanations.explanation import Explanation
from captum_apex.figures.canvas import canvas, panel_width, root
from captum_apex.figures.charts import waterfall
from captum_apex.figures.colours import DARK, DASHED, REGIONS, SOLID
from captum_apex.figures.effects import LINE_HEIGHT, dashed, effects_of, height_of_effects, notes, panel_lines
from captum_apex.figures.outlines import LINE_WIDTH, draw_outline, draw_places, line_widths
from captum_apex.figures.panels import Limits, colour_bar, label_axes, remove_empty
from captum_apex.figures.spectrogram import draw_clip
from captum_apex.figures.titles import SMALL, TINY, channel_name, fitted, heading, number, points, quoted, title
from captum_apex.texts import encodable

__all__ = [
    "HEIGHT",
    "MARGIN",
    "WIDTH",
    "explanation",
    "load_clips",
    "perspectives",
    "prototype_panels",
]

# Of a panel with its title, and of the labels and the colour bar beside the panels, in inches
WIDTH = 2.15
HEIGHT = 1.85
MARGIN = 1.2
_NOTE = "beside each channel: its contribution to the logit, and its share of what the layer adds"
_SHARE = "In brackets: its share of what the layer adds. Right: prototypes."
_ACTIVE = "Left: where each channel is most active in this clip."
_FOUND = "Left: where each channel counts for the logit of this clip."


def explanation(
    explanation: Explanation,
    clip: Clip,
    prototypes: ClipLookup,
    *,
    class_names: Sequence[str] | None = None,
    note: str = "",
    figure: Figure | SubFigure | None = None,
) -> Figure:
    r"""Draws the clip with all regions beside the waterfall; below them a row for each channel, with its prototypes.

    All spectrograms have the same colours for the same level.

    Args:
        explanation: the explanation of the clip in one scheme.
        clip: the explained clip.
        prototypes: the training clip at each index; only the prototypes that are drawn are looked up.
        class_names: the name of each class; without them classes are numbered.
        note: a remark below the heading.
        figure: the figure or subfigure to draw on; by default a new figure.

    Returns:
        The figure.

    Example:
        >>> import torch
        >>> from captum_apex import Box, Clip, Evidence, Explanation, Prototype, Region, Scheme, SpectrogramAxes
        >>> from captum_apex import figures
        >>> region = Region((Box(0.0, 1.0, 0.25, 0.5),))
        >>> prototype = Prototype(index=12, label=0, activation=0.9, purity=0.75, region=region)
        >>> channel = Evidence(7, 1, 1.0, activation=0.5, purity=0.5, region=region, prototypes=(prototype,))
        >>> time = Explanation(Scheme("time"), 0, 2.5, score_without_layer=0.5, evidence=(channel,), total=2.0)
        >>> clip = Clip(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80), name="new.wav")
        >>> figure = figures.explanation(time, clip, {12: clip}, class_names=["dog"])
        >>> [panel.get_title() for panel in figure.axes if panel.get_title()]
        ['channel 7: purity 0.50\ncontribution +1 (50%)', 'dog\nprototype, purity 0.75']
    """
    evidence = explanation.evidence
    clips = load_clips(prototypes, (prototype for channel in evidence for prototype in channel.prototypes))
    limits = level_limits([clip, *clips.values()])
    n_columns = 1 + max((len(channel.prototypes) for channel in evidence), default=2)
    row_height = HEIGHT + height_of_effects(effects_of(evidence))
    target = canvas(figure, MARGIN + WIDTH * n_columns, 2.9 + row_height * len(evidence) + _note_height(evidence))
    if not evidence:
        image = _draw_head(target, explanation, clip, limits, class_names, note)
        colour_bar(target, target.axes[:1], image, "level in dB")
        return root(target)
    subfigures = target.subfigures(2, 1, squeeze=False, height_ratios=[2.7, row_height * len(evidence) + 0.3])
    head, body = subfigures[:, 0]
    image = _draw_head(head, explanation, clip, limits, class_names, note)
    body.suptitle(_caption(evidence, panel_width(body, 1, 0.2)), fontsize=SMALL)
    panels = body.subplots(len(evidence), n_columns, squeeze=False)
    width = panel_width(body, n_columns, MARGIN)
    for rank, (row, channel) in enumerate(zip(panels, evidence, strict=True)):
        draw_clip(row[0], clip, limits)
        draw_outline(row[0], clip, channel.region, rank, dashed=dashed(channel.effect))
        lines = [
            f"{channel_name(channel)}: purity {channel.purity:.2f}",
            f"contribution {_contribution(explanation, channel)}",
        ]
        title(row[0], [*lines, *panel_lines(channel.effect)], width)
        prototype_panels(row[1:], channel.prototypes, clips, limits, width, rank, class_names)
    label_axes(panels)
    colour_bar(body, panels.flat, image, "level in dB")
    return root(target)


def perspectives(
    explanations: Sequence[Explanation],
    clip: Clip,
    prototypes: ClipLookup | None = None,
    *,
    class_names: Sequence[str] | None = None,
    note: str = "",
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """Draws one clip in several schemes, side by side.

    Args:
        explanations: the explanations of the clip, one per scheme.
        clip: the explained clip.
        prototypes: the training clip at each index; with it, the prototypes of each scheme's strongest channel are
            drawn below the clip.
        class_names: the name of each class; without them classes are numbered.
        note: a remark below the heading.
        figure: the figure or subfigure to draw on; by default a new figure.

    Returns:
        The figure.

    Raises:
        ValueError: there is no explanation.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, Explanation, Scheme, SpectrogramAxes, figures
        >>> clip = Clip(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80))
        >>> schemes = [Explanation(Scheme(name), 0, 2.0, 0.5, evidence=(), total=1.5) for name in ("time", "square")]
        >>> figure = figures.perspectives(schemes, clip)
        >>> [panel.get_title() for panel in figure.axes if panel.images]
        ['time', 'square']
    """
    if not explanations:
        raise ValueError("expected at least one explanation, but got none")
    columns = [_strongest_prototypes(scheme) if prototypes is not None else () for scheme in explanations]
    clips = {}
    if prototypes is not None:
        clips = load_clips(prototypes, (prototype for column in columns for prototype in column))
    limits = level_limits([clip, *clips.values()])
    n_rows = 1 + max(map(len, columns))
    legends = [_legend_labels(scheme, clip) for scheme in explanations]
    n_lines = max(map(_n_lines, legends))
    below_height = height_of_effects(prototype.effect for column in columns for prototype in column)
    height = max(1.0, points(TINY) / 7) * (1.0 + 0.2 * n_lines) + HEIGHT * n_rows + below_height * (n_rows - 1)
    target = canvas(figure, MARGIN + 2.6 * len(explanations), height)
    panels = target.subplots(n_rows, len(explanations), squeeze=False)
    width = panel_width(target, len(explanations), MARGIN)
    for panel_column, scheme, below, labels in zip(panels.T, explanations, columns, legends, strict=True):
        image = draw_clip(panel_column[0], clip, limits)
        narrow = ["\n".join(fitted(line, width - 0.1, TINY, 1) for line in label.split("\n")) for label in labels]
        _draw_regions(panel_column[0], scheme, clip, narrow, n_columns=1)
        if scheme.evidence:
            panel_column[0].get_legend().set_in_layout(False)  # the title, which is above it, keeps its place
        pad = 4 + points(TINY) * (1.5 * _n_lines(labels) + 1)
        title(panel_column[0], [str(scheme.scheme)], width, pad=pad)
        prototype_panels(panel_column[1:], below, clips, limits, width, 0, class_names)
    rows = remove_empty(panels, (bool(panel.images) for panel in panels.flat))
    label_axes(rows)
    colour_bar(target, (panel for row in rows for panel in row if panel is not None), image, "level in dB")
    heading(target, _question(explanations[0], class_names), clip.title, *_notes(explanations, columns, note))
    return root(target)


def prototype_panels(
    panels: Sequence[Axes],
    prototypes: Sequence[Prototype],
    clips: dict[int, Clip],
    limits: Limits,
    width: float,
    rank: int,
    class_names: Sequence[str] | None,
) -> list[AxesImage]:
    """Draws a channel's prototypes on panels of one row or column.

    Args:
        panels: empty panels, at least one per prototype.
        prototypes: the prototypes, best first.
        clips: the training clip of each prototype, by its index.
        limits: lowest and highest level of the colours, in dB.
        width: width of a panel in inches.
        rank: rank of the channel in the evidence, which chooses the colour of the outlines.
        class_names: the name of each class.

    Returns:
        The spectrogram of each prototype.

    Example:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> from captum_apex import Box, Clip, Prototype, Region, SpectrogramAxes
        >>> from captum_apex.figures.prototypes import prototype_panels
        >>> strip = Region((Box(low=0.0, high=1.0, start=0.25, end=0.5),))
        >>> clips = {7: Clip(torch.zeros(9, 101), SpectrogramAxes(8000, 16, 80))}
        >>> panel = Figure().add_subplot()
        >>> prototypes = [Prototype(7, 1, 1.5, 0.8, strip)]
        >>> images = prototype_panels([panel], prototypes, clips, (-60, 0), 2.0, 0, ["rain", "dog"])
        >>> panel.get_title().splitlines()
        ['dog', 'prototype, purity 0.80']
    """
    images = []
    for panel, prototype in zip(panels, prototypes, strict=False):
        clip = clips[prototype.index]
        images.append(draw_clip(panel, clip, limits))
        draw_outline(panel, clip, prototype.region, rank, dashed=dashed(prototype.effect))
        label = class_name(prototype.label, class_names)
        name = label or clip.title or f"clip {prototype.index}"
        if label and clip.name:
            _draw_name(panel, clip.name, width)
        title(panel, [name, f"prototype, purity {prototype.purity:.2f}", *panel_lines(prototype.effect)], width)
    return images


def _draw_name(panel: Axes, name: str, width: float) -> None:
    """Writes the name of a file, without its folders, into a corner of its spectrogram, below the outlines."""
    text = fitted(PurePath(encodable(name)).name, width - 0.1, TINY, 1)
    dark: dict[str, Any] = {"facecolor": DARK, "alpha": 0.6, "edgecolor": "none", "pad": 1}
    place: dict[str, Any] = {"transform": panel.transAxes, "ha": "left", "va": "top", "zorder": 1.5}
    panel.text(0.02, 0.98, text, fontsize=TINY, color="white", bbox=dark, parse_math=False, **place)


def load_clips(lookup: ClipLookup, prototypes: Iterable[Prototype]) -> dict[int, Clip]:
    """The training clip of each prototype, by its index; each is looked up once.

    Args:
        lookup: the training clip at each index.
        prototypes: the prototypes to draw.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, Prototype, Region, SpectrogramAxes
        >>> from captum_apex.figures.prototypes import load_clips
        >>> clips = [Clip(torch.zeros(9, 101), SpectrogramAxes(8000, 16, 80)) for _ in range(3)]
        >>> list(load_clips(clips, [Prototype(2, 0, 1.5, 0.8, Region(())), Prototype(2, 0, 1.0, 0.7, Region(()))]))
        [2]
    """
    return {index: lookup[index] for index in dict.fromkeys(prototype.index for prototype in prototypes)}


def _legend_labels(explanation: Explanation, clip: Clip) -> list[str]:
    """The lines of each channel in the legend of a perspective."""
    labels = []
    for channel in explanation.evidence:
        first = f"{channel_name(channel)}{_silence(clip, channel)}: {_contribution(explanation, channel)}"
        labels.append("\n".join([first, *panel_lines(channel.effect)]))
    return labels


def _silence(clip: Clip, channel: Evidence) -> str:
    """What a legend adds where the region of a channel is silence; a panel with several regions has no space for it."""
    return ", silence" if channel.region.boxes and clip.is_silent(channel.region) else ""


def _n_lines(labels: Iterable[str]) -> int:
    return sum(label.count("\n") + 1 for label in labels)


def _notes(explanations: Sequence[Explanation], columns: Sequence[Sequence[Prototype]], note: str) -> list[str]:
    """The remarks below the heading of the perspectives."""
    channels = [channel for explanation in explanations for channel in explanation.evidence]
    prototypes = [prototype for column in columns for prototype in column]
    effects = [channel.effect for channel in channels] + [prototype.effect for prototype in prototypes]
    return [*filter(None, [note, _NOTE if channels else ""]), *notes(effects)]


def _caption(evidence: Sequence[Evidence], width: float) -> str:
    """The caption above the rows of an explanation."""
    effects = effects_of(evidence)
    searched = any(channel.effect is not None for channel in evidence)
    first = f"{_FOUND if searched else _ACTIVE} {_SHARE}"
    return "\n".join(fitted(sentence, width) for sentence in (first, *notes(effects)))


def _note_height(evidence: Sequence[Evidence]) -> float:
    return LINE_HEIGHT * 2 * len(notes(effects_of(evidence)))


def _draw_head(
    target: Figure | SubFigure,
    explanation: Explanation,
    clip: Clip,
    limits: Limits,
    class_names: Sequence[str] | None,
    note: str,
) -> AxesImage:
    """Draws the clip with all regions, and beside it the waterfall."""
    left, right = target.subplots(1, 2, width_ratios=[3, 2])
    image = draw_clip(left, clip, limits)
    names = [f"{channel_name(channel)}{_silence(clip, channel)}" for channel in explanation.evidence]
    _draw_regions(left, explanation, clip, names, n_columns=3)
    label_axes([[left]])
    waterfall(explanation, class_names=class_names, ax=right)
    question = f"{_question(explanation, class_names)} Perspective: {explanation.scheme}"
    heading(target, question, clip.title, *filter(None, [note]))
    return image


def _draw_regions(ax: Axes, explanation: Explanation, clip: Clip, labels: Sequence[str], n_columns: int) -> None:
    """Outlines every channel's region, with a legend above the panel; its background is dark, like the levels."""
    handles = []
    widths = line_widths([channel.region for channel in explanation.evidence])
    for rank, (channel, label) in enumerate(zip(explanation.evidence, labels, strict=True)):
        is_dashed = dashed(channel.effect)
        colour = REGIONS[rank % len(REGIONS)]
        style = DASHED if is_dashed else SOLID
        draw_places(ax, clip.places(channel.region), rank, style, widths[rank])
        handles.append(Line2D([], [], color=colour, linestyle=style, linewidth=LINE_WIDTH, label=label))
    if handles:
        ax.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0, 1.01),
            borderaxespad=0,
            ncols=n_columns,
            fontsize=TINY,
            facecolor=DARK,
            edgecolor="none",
            framealpha=1,
            labelcolor="white",
            handlelength=2.2,
        )


def _strongest_prototypes(explanation: Explanation) -> tuple[Prototype, ...]:
    return explanation.evidence[0].prototypes if explanation.evidence else ()


def _question(explanation: Explanation, class_names: Sequence[str] | None) -> str:
    return f"Why {quoted(target_name(explanation.target, class_names)) or 'this score'}?"


def _contribution(explanation: Explanation, channel: Evidence) -> str:
    """A channel's contribution, and its share of what the layer adds to the score, where the layer adds something."""
    layer = explanation.score - explanation.score_without_layer
    share = f" ({channel.contribution / layer:.0%})" if layer > 0 else ""
    return f"{number(channel.contribution, sign=True)}{share}"
