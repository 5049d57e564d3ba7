"""Maps of the channels of an explanation at the input, beside the clip and over the prototypes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from torch import Tensor

from captum_apex.audio.clip import Clip, level_limits
from captum_apex.audio.clip_lookup import ClipLookup
from captum_apex.classifiers.class_names import class_name, target_name
from captum_apex.explanations.evidence import Evidence, Prototype
from captum_apex.explanations.explanation import Explanation
from captum_apex.figures.canvas import canvas, panel_width, root
from captum_apex.figures.colours import DASHED, GREY_LEVELS, SIGNED, SOLID
from captum_apex.figures.effects import dashed, effects_of, height_of_effects, notes, panel_lines
from captum_apex.figures.outlines import draw_outline, draw_places
from captum_apex.figures.panels import Limits, colour_bar, label_axes, remove_empty
from captum_apex.figures.prototypes import (
    HEIGHT,
    MARGIN,
    WIDTH,
    load_clips,
)
from captum_apex.figures.signed_maps import channel_map, map_scale
from captum_apex.figures.spectrogram import draw_clip, draw_map
from captum_apex.figures.titles import channel_name, heading, quoted, title

__all__ = ["channel_maps"]

_THIN = 0.9  # width of the outlines over maps in points, so that they hide little of narrow regions


def channel_maps(
    explanation: Explanation,
    clip: Clip,
    prototypes: ClipLookup | None = None,
    *,
    class_names: Sequence[str] | None = None,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    r"""Draws a row for each channel: the clip, the map of the channel over it, and the maps over the prototypes.

    Red bins add to the channel, blue ones take from it, and zero has no colour. Each map has its own scale. Only
    channels with a map are drawn, and only prototypes with a map: give `explain` the dataset for those.

    Args:
        explanation: the explanation of the clip, with maps.
        clip: the explained clip.
        prototypes: the training clip at each index; None leaves the prototypes out.
        class_names: the name of each class; without them classes are numbered.
        figure: the figure or subfigure to draw on; by default a new figure.

    Returns:
        The figure.

    Raises:
        ValueError: no channel of the explanation has a map.

    Example:
        >>> import torch
        >>> from captum_apex import Box, Clip, Evidence, Explanation, Region, RegionEffect, Scheme, SpectrogramAxes
        >>> from captum_apex import figures
        >>> region = Region((Box(0.0, 1.0, 0.25, 0.5),))
        >>> effect = RegionEffect(channel=0.63, random=(0.01,))
        >>> channel = Evidence(7, 1, 1.0, 0.5, 0.5, region, (), effect=effect, map=torch.ones(9, 100))
        >>> time = Explanation(Scheme("time"), 0, 2.5, score_without_layer=0.5, evidence=(channel,), total=2.0)
        >>> figure = figures.channel_maps(time, Clip(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80)))
        >>> [panel.get_title() for panel in figure.axes if panel.images]
        ['channel 7\nmasking 63%, random 1%', 'map of channel 7']

    Source: APEX (arXiv 2605.10153), Figures 4 and 6.
    """
    evidence = [channel for channel in explanation.evidence if channel.map is not None]
    if not evidence:
        raise ValueError("expected channels with a map, but got none; call `explain` with a search for regions")
    rows = [_mapped_prototypes(channel) if prototypes is not None else [] for channel in evidence]
    clips = {} if prototypes is None else load_clips(prototypes, (prototype for row in rows for prototype in row))
    limits = level_limits([clip, *clips.values()])
    n_columns = 2 + max(map(len, rows))
    effects = effects_of(evidence)
    height = 1.2 + (HEIGHT + height_of_effects(effects)) * len(evidence)
    target = canvas(figure, MARGIN + 0.8 + WIDTH * n_columns, height)
    panels = target.subplots(len(evidence), n_columns, squeeze=False)
    width = panel_width(target, n_columns, MARGIN + 0.8)
    for rank, (panel_row, channel, row) in enumerate(zip(panels, evidence, rows, strict=True)):
        levels, image = _draw_channel(panel_row, channel, clip, limits, width, rank)
        for panel, prototype in zip(panel_row[2:], row, strict=False):
            _draw_prototype(panel, prototype, clips[prototype.index], limits, width, rank, class_names)
    filled = remove_empty(panels, (bool(panel.images) for panel in panels.flat))
    label_axes(filled)
    drawn = [panel for row_of_panels in filled for panel in row_of_panels if panel is not None]
    colour_bar(target, drawn, levels, "level in dB")
    colour_bar(target, drawn, image, "map of the channel, each on its own scale", ticks=(-1, 0, 1))
    name = quoted(target_name(explanation.target, class_names)) or "this score"
    heading(target, f"Why {name}? Perspective: {explanation.scheme}", clip.title, *notes(effects))
    return root(target)


def _mapped_prototypes(channel: Evidence) -> list[Prototype]:
    return [prototype for prototype in channel.prototypes if prototype.map is not None]


def _draw_channel(
    panels: Sequence[Axes], channel: Evidence, clip: Clip, limits: Limits, width: float, rank: int
) -> tuple[AxesImage, AxesImage]:
    """Draws the clip with the region of a channel, and beside it the map."""
    levels = draw_clip(panels[0], clip, limits)
    draw_outline(panels[0], clip, channel.region, rank, dashed=dashed(channel.effect))
    title(panels[0], [channel_name(channel), *panel_lines(channel.effect)], width)
    assert channel.map is not None
    image = _draw_over(panels[1], channel.map, clip, limits)
    style = DASHED if dashed(channel.effect) else SOLID
    draw_places(panels[1], clip.places(channel.region), rank, style, _THIN)
    title(panels[1], [f"map of {channel_name(channel)}"], width)
    return levels, image


def _draw_prototype(
    panel: Axes,
    prototype: Prototype,
    clip: Clip,
    limits: Limits,
    width: float,
    rank: int,
    class_names: Sequence[str] | None,
) -> None:
    assert prototype.map is not None
    _draw_over(panel, prototype.map, clip, limits)
    draw_outline(panel, clip, prototype.region, rank, dashed=dashed(prototype.effect), width=_THIN)
    name = class_name(prototype.label, class_names) or clip.title or f"clip {prototype.index}"
    title(panel, [name, "prototype", *panel_lines(prototype.effect)], width)


def _draw_over(panel: Axes, values: Tensor, clip: Clip, limits: Limits) -> AxesImage:
    """Draws a map over the levels of its clip, which are grey."""
    draw_clip(panel, clip, limits, GREY_LEVELS)
    attribution = channel_map(values, clip)
    shares = (attribution / (map_scale(attribution) or 1.0)).clip(-1, 1)
    return draw_map(panel, clip, shares, cmap=SIGNED, limits=(-1, 1), alpha=np.abs(shares), on_bins=True)
