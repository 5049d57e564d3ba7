"""Explanations by prototypes: a clip, where its channels fire, and the training clips that fire them most."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D

from captum_apex.audio.clip import Clip, ClipLookup, level_limits
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.classifiers.class_names import class_name
from captum_apex.explanations.explanation import Evidence, Explanation, Prototype, prototypes_of
from captum_apex.figures.canvas import canvas, panel_width, root
from captum_apex.figures.charts import waterfall
from captum_apex.figures.outlines import draw_outline, region_line
from captum_apex.figures.panels import Limits, bar, kept, label_axes
from captum_apex.figures.spectrogram import draw_clip
from captum_apex.figures.titles import SMALL, TINY, channel_name, fitted, number, points, quoted, title

__all__ = ["before_and_after", "explanation", "perspectives"]

WIDTH, HEIGHT = 2.15, 1.85  # of a panel with its title, in inches
MARGIN = 1.2


def explanation(
    explanation: Explanation,
    clip: Clip,
    prototypes: ClipLookup,
    *,
    class_names: Sequence[str] | None = None,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """The paper's main figure: the clip with all regions and the score taken apart; below, a row per channel with its prototypes.

    Args:
        explanation: of the clip, in one scheme.
        clip: the explained one.
        prototypes: index → clip; only those shown are asked for.
        class_names: the name of each class.
        figure: where to draw; by default a new figure.

    Returns:
        The whole figure. All spectrograms have the same colours for the same level.
    """
    parts = explanation.evidence
    shown = load(prototypes, (prototype for part in parts for prototype in part.prototypes))
    limits = level_limits([clip, *shown.values()])
    n_columns = 1 + max((len(part.prototypes) for part in parts), default=2)
    target = canvas(figure, MARGIN + WIDTH * n_columns, 2.9 + HEIGHT * len(parts))
    head, *rest = target.subfigures(
        2 if parts else 1, 1, height_ratios=[2.7, HEIGHT * len(parts) + 0.3] if parts else None, squeeze=False
    )[:, 0]
    image = _head(head, explanation, clip, limits, class_names)
    for body in rest:
        body.suptitle(
            "left: where each channel fires in this clip; right: its prototypes, the training clips that fire it most",
            fontsize=SMALL,
        )
        panels = body.subplots(len(parts), n_columns, squeeze=False)
        width = panel_width(body, n_columns, MARGIN)
        for rank, (row, part) in enumerate(zip(panels, parts, strict=True)):
            draw_clip(row[0], clip, limits)
            draw_outline(row[0], clip, part.region, rank)
            title(row[0], [_contribution(explanation, part), f"purity {part.purity:.2f}"], width)
            prototype_panels(row[1:], part.prototypes, shown, limits, width, rank, class_names)
        label_axes(panels)
    bar(rest[0] if rest else head, panels.flat if rest else head.axes[:1], image, "level in dB")
    return root(target)


def perspectives(
    explanations: Sequence[Explanation],
    clip: Clip,
    prototypes: ClipLookup | None = None,
    *,
    class_names: Sequence[str] | None = None,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """One clip in several schemes, side by side.

    Args:
        explanations: of the clip, one per scheme.
        clip: the explained one.
        prototypes: index → clip; with it, the prototypes of each scheme's strongest channel stand below.
        class_names: the name of each class.
        figure: where to draw; by default a new figure.

    Raises:
        ValueError: where there is no explanation.
    """
    if not explanations:
        raise ValueError("expected at least one explanation, but got none")
    columns = [part.evidence[0].prototypes if part.evidence and prototypes is not None else () for part in explanations]
    shown = (
        load(prototypes, (prototype for column in columns for prototype in column)) if prototypes is not None else {}
    )
    limits = level_limits([clip, *shown.values()])
    n_rows = 1 + max(map(len, columns))
    target = canvas(
        figure, MARGIN + 2.6 * len(explanations), 0.9 + 0.2 * _most_channels(explanations) + HEIGHT * n_rows
    )
    panels = target.subplots(n_rows, len(explanations), squeeze=False)
    width = panel_width(target, len(explanations), MARGIN)
    for column, part, below in zip(panels.T, explanations, columns, strict=True):
        image = draw_clip(column[0], clip, limits)
        _all_regions(column[0], part, clip, [_contribution(part, own) for own in part.evidence], n_columns=1)
        title(column[0], [str(part.scheme)], width, pad=4 + points(TINY) * (1.5 * len(part.evidence) + 1))
        prototype_panels(column[1:], below, shown, limits, width, 0, class_names)
    rows = kept(panels, (bool(panel.images) for panel in panels.flat))
    label_axes(rows)
    bar(target, (panel for row in rows for panel in row if panel is not None), image, "level in dB")
    heading(target, _question(explanations[0], class_names), clip.title)
    return root(target)


def before_and_after(
    before: PrototypeBasis,
    after: PrototypeBasis,
    channel: int,
    prototypes: ClipLookup,
    *,
    n_prototypes: int = 4,
    class_names: Sequence[str] | None = None,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """One channel's prototypes in two bases, with their purities: what fitting does.

    Args:
        before: the raw channels, say: `basis_from_matrix(bank, torch.eye(bank.n_channels), scheme)`.
        after: the fitted basis.
        channel: of both.
        prototypes: index → clip; only those shown are asked for.
        n_prototypes: in each row.
        class_names: the name of each class.
        figure: where to draw; by default a new figure.

    Raises:
        ValueError: where a basis has no prototypes, or fewer.

    Source: APEX (arXiv 2605.10153), Figure 3.
    """
    found = {
        "before": prototypes_of(before, channel, n_prototypes),
        "after": prototypes_of(after, channel, n_prototypes),
    }
    shown = load(prototypes, (prototype for row in found.values() for prototype in row))
    limits = level_limits(shown.values())
    target = canvas(figure, MARGIN + WIDTH * n_prototypes, 0.7 + HEIGHT * 2)
    panels = target.subplots(2, n_prototypes, squeeze=False)
    width = panel_width(target, n_prototypes, MARGIN)
    for panel_row, row in zip(panels, found.values(), strict=True):
        images = prototype_panels(panel_row, row, shown, limits, width, 0, class_names)
    label_axes(panels)
    for panel, (name, row) in zip(panels[:, 0], found.items(), strict=True):
        mean = sum(prototype.purity for prototype in row) / len(row)
        panel.set_ylabel(f"{name} fitting: mean purity {mean:.2f}\nfrequency in Hz", fontsize=TINY)
    bar(target, panels.flat, images[0], "level in dB")
    heading(target, f"Prototypes of channel {channel}. Perspective: {after.scheme}", "")
    return root(target)


def _head(
    target: SubFigure, explanation: Explanation, clip: Clip, limits: Limits, class_names: Sequence[str] | None
) -> AxesImage:
    """The clip with all regions, and beside it the waterfall."""
    left, right = target.subplots(1, 2, width_ratios=[3, 2])
    image = draw_clip(left, clip, limits)
    _all_regions(left, explanation, clip, [channel_name(part) for part in explanation.evidence], n_columns=3)
    label_axes([[left]])
    waterfall(explanation, class_names=class_names, ax=right)
    heading(target, f"{_question(explanation, class_names)} Perspective: {explanation.scheme}", clip.title)
    return image


def heading(target: Figure | SubFigure, question: str, name: str) -> None:
    width = panel_width(target, 1, 0.2)
    text = [fitted(question, width, "medium"), *([fitted(f"clip: {name}", width, SMALL, 1)] if name else [])]
    target.suptitle("\n".join(text), fontsize="medium", parse_math=False)


def _question(explanation: Explanation, class_names: Sequence[str] | None) -> str:
    return f"Why {quoted(class_name(explanation.target, class_names)) or 'this score'}?"


def _all_regions(ax: Axes, explanation: Explanation, clip: Clip, labels: Sequence[str], n_columns: int) -> None:
    """Outlines every channel's region, with a legend above the panel, on a dark ground as the regions are."""
    handles = []
    for rank, (part, label) in enumerate(zip(explanation.evidence, labels, strict=True)):
        draw_outline(ax, clip, part.region, rank, dashed=True)
        colour, style = region_line(rank)
        handles.append(Line2D([], [], color=colour, linestyle=style, linewidth=1.5, label=label))
    if handles:
        ax.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0, 1.01),
            borderaxespad=0,
            ncols=n_columns,
            fontsize=TINY,
            facecolor="#2a1636",
            edgecolor="none",
            framealpha=1,
            labelcolor="white",
            handlelength=2.2,
        )


def _contribution(explanation: Explanation, part: Evidence) -> str:
    """A channel's name, what it adds, and its share of what the layer adds, where that is a share of something positive."""
    whole = explanation.score - explanation.score_without_layer
    share = f" ({part.contribution / whole:.0%})" if whole > 0 else ""
    return f"{channel_name(part)}: {number(part.contribution, sign=True)}{share}"


def prototype_panels(
    panels: Sequence[Axes],
    found: Sequence[Prototype],
    shown: dict[int, Clip],
    limits: Limits,
    width: float,
    rank: int,
    class_names: Sequence[str] | None,
) -> list[AxesImage]:
    images = []
    for panel, prototype in zip(panels, found, strict=False):
        clip = shown[prototype.index]
        images.append(draw_clip(panel, clip, limits))
        draw_outline(panel, clip, prototype.region, rank)
        name = class_name(prototype.label, class_names) or clip.title or f"clip {prototype.index}"
        title(panel, [name, f"prototype, purity {prototype.purity:.2f}"], width)
    return images


def load(prototypes: ClipLookup, wanted: Iterable[Prototype]) -> dict[int, Clip]:
    return {index: prototypes[index] for index in dict.fromkeys(prototype.index for prototype in wanted)}


def _most_channels(explanations: Sequence[Explanation]) -> int:
    return max(len(part.evidence) for part in explanations)
