"""Pictures that compare: attribution maps of a clip, a clip and its masked version, a clip and its twin."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike
from torch import Tensor

from captum_apex.audio.clip import Clip, level_limits
from captum_apex.audio.regions import Region
from captum_apex.figures.canvas import canvas, panel_width, root
from captum_apex.figures.colours import GREY_LEVELS, SIGNED
from captum_apex.figures.outlines import draw_outline
from captum_apex.figures.panels import Limits, as_array, colour_bar, label_axes, remove_empty
from captum_apex.figures.signed_maps import map_scale, signed_map
from captum_apex.figures.spectrogram import draw_clip, draw_map
from captum_apex.figures.titles import number, title

__all__ = ["maps", "masking", "twins"]

# Of a panel with its title, in inches
_WIDTH = 2.7
_HEIGHT = 2.1


def maps(
    clip: Clip,
    attributions: Mapping[str, ArrayLike | Tensor],
    region: Region | None = None,
    *,
    n_columns: int = 4,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    r"""Draws the clip, and attribution maps over it: red supports the class, blue opposes it, zero has no colour.

    Each map has its own scale, because methods differ in their units. Full colour is at the 99.5% quantile of the
    absolute values, which the title gives.

    Args:
        clip: the explained clip.
        attributions: the map of each method by its name: attribution of the whole input, (…, frequency, time) of any
            size or, for waveforms, (…, sample); the leading axes have size 1.
        region: the region to outline on the clip; None for none.
        n_columns: number of panels in a row.
        figure: the figure or subfigure to draw on; by default a new figure.

    Returns:
        The figure.

    Raises:
        ValueError: a map has another shape, or holds NaN or infinity.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, SpectrogramAxes, figures
        >>> clip = Clip(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80), label="dog")
        >>> figure = figures.maps(clip, {"Saliency": torch.full((9, 100), 0.5)})
        >>> [panel.get_title() for panel in figure.axes if panel.images]
        ['dog', 'Saliency\nfull colour: ±0.5']

    Source: APEX (arXiv 2605.10153), Figure 4.
    """
    n_panels = 1 + len(attributions)
    n_columns = min(n_columns, n_panels)
    n_rows = math.ceil(n_panels / n_columns)
    target = canvas(figure, 2.0 + _WIDTH * n_columns, 0.4 + _HEIGHT * n_rows)
    panels = target.subplots(n_rows, n_columns, squeeze=False)
    limits = level_limits([clip])
    width = panel_width(target, n_columns, 2.1)
    levels = draw_clip(panels.flat[0], clip, limits)
    title(panels.flat[0], [clip.title], width)
    if region is not None:
        draw_outline(panels.flat[0], clip, region)
    for panel, (name, values) in zip(panels.flat[1:], attributions.items(), strict=False):
        image = _draw_attributions(panel, clip, name, values, limits, width)
    label_axes(remove_empty(panels, (place < n_panels for place in range(panels.size))))
    colour_bar(target, panels.flat[:n_panels], levels, "level in dB")
    if attributions:
        colour_bar(target, panels.flat[:n_panels], image, "attribution, each map on its own scale", ticks=(-1, 0, 1))
    return root(target)


def _draw_attributions(
    panel: Axes, clip: Clip, name: str, values: ArrayLike | Tensor, limits: Limits, width: float
) -> AxesImage:
    attribution = signed_map(values, name, clip)
    scale = map_scale(attribution)
    draw_clip(panel, clip, limits, GREY_LEVELS)
    shares = (attribution / scale if scale else attribution).clip(-1, 1)
    title(panel, [name, f"full colour: ±{number(scale)}" if scale else "zero everywhere"], width)
    return draw_map(panel, clip, shares, cmap=SIGNED, limits=(-1, 1), alpha=np.abs(shares))


def masking(clip: Clip, region: Region, masked: Clip, *, figure: Figure | SubFigure | None = None) -> Figure:
    """Draws the clip, its region with the rest greyed out, and the clip after masking.

    Args:
        clip: the original clip.
        region: the region that is masked.
        masked: the clip after masking, on the same axes.
        figure: the figure or subfigure to draw on; by default a new figure.

    Returns:
        The figure.

    Example:
        >>> import torch
        >>> from captum_apex import Box, Clip, Region, SpectrogramAxes, figures
        >>> clip = Clip(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80), label="dog")
        >>> figure = figures.masking(clip, Region((Box(0.0, 1.0, 0.25, 0.5),)), clip)
        >>> [panel.get_title() for panel in figure.axes if panel.images]
        ['original: dog', 'region', 'masked: dog']

    Source: APEX (arXiv 2605.10153), Figure 5.
    """
    target = canvas(figure, 1.2 + _WIDTH * 3, 0.2 + _HEIGHT)
    panels = target.subplots(1, 3, squeeze=False)[0]
    limits = level_limits([clip, masked])
    width = panel_width(target, 3)
    titles = [
        f"original: {clip.title}" if clip.title else "original",
        "region",
        f"masked: {masked.title}" if masked.title else "masked",
    ]
    for panel, drawn, text in zip(panels, (clip, clip, masked), titles, strict=True):
        image = draw_clip(panel, drawn, limits)
        title(panel, [text], width)
    outside = ~region.mask(clip.decibels.shape[0], clip.decibels.shape[1]).numpy()
    draw_map(panels[1], clip, np.ones(outside.shape), cmap=GREY_LEVELS, limits=(0, 2), alpha=0.75 * outside)
    for panel in panels[1:]:
        draw_outline(panel, clip, region)
    label_axes([panels])
    colour_bar(target, panels, image, "level in dB")
    return root(target)


def twins(
    real: Clip,
    fake: Clip,
    regions: tuple[Region | None, Region | None] = (None, None),
    *,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """Draws two clips of the same sound and their difference: red where the second is louder, blue where it is quieter.

    Args:
        real: the first clip, the recording.
        fake: the second clip, its vocoded twin, on the same axes; the longer of the two is cut.
        regions: the region to outline on each clip; None for none.
        figure: the figure or subfigure to draw on; by default a new figure.

    Returns:
        The figure.

    Raises:
        ValueError: the clips have different axes.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, SpectrogramAxes, figures
        >>> real = Clip(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80), label="real")
        >>> fake = Clip(torch.ones(9, 90), SpectrogramAxes(8000, 16, 80), label="fake")
        >>> figure = figures.twins(real, fake)
        >>> [panel.get_title() for panel in figure.axes if panel.images]
        ['real', 'fake', 'second minus first']

    Source: APEX (arXiv 2605.10153), Figure 6.
    """
    if real.axes != fake.axes:
        raise ValueError(f"expected twins on the same axes, but got {real.axes} and {fake.axes}")
    n_frames = min(real.decibels.shape[1], fake.decibels.shape[1])
    difference = as_array(fake.decibels)[:, :n_frames] - as_array(real.decibels)[:, :n_frames]
    largest = map_scale(difference) or 1.0
    target = canvas(figure, 2.0 + _WIDTH * 3, 0.2 + _HEIGHT)
    panels = target.subplots(1, 3, squeeze=False)[0]
    limits = level_limits([real, fake])
    width = panel_width(target, 3, 2.1)
    for panel, clip, region, name in zip(panels, (real, fake), regions, ("first", "second"), strict=False):
        levels = draw_clip(panel, clip, limits)
        title(panel, [clip.title or name], width)
        if region is not None:
            draw_outline(panel, clip, region)
    shorter = min(real, fake, key=lambda clip: clip.decibels.shape[1])
    image = draw_clip(panels[2], shorter, (-largest, largest), SIGNED)
    image.set_data(difference)
    title(panels[2], ["second minus first"], width)
    label_axes([panels])
    colour_bar(target, panels[:2], levels, "level in dB")
    colour_bar(target, panels[2:], image, "difference in dB", beyond=True)
    return root(target)
