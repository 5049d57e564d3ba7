"""Pictures that compare: attribution maps on one clip, a clip and what masking leaves of it, a clip and its twin."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure, SubFigure
from numpy.typing import ArrayLike
from torch import Tensor

from captum_apex.audio.clip import Clip, level_limits
from captum_apex.audio.regions import Region
from captum_apex.figures.canvas import canvas, panel_width, root
from captum_apex.figures.colours import GREY_LEVELS, SIGNED
from captum_apex.figures.outlines import draw_outline
from captum_apex.figures.panels import array, bar, kept, label_axes
from captum_apex.figures.signed_maps import map_scale, signed_map
from captum_apex.figures.spectrogram import draw_clip, draw_map
from captum_apex.figures.titles import number, title

__all__ = ["maps", "masking", "twins"]

_WIDTH, _HEIGHT = 2.7, 2.1


def maps(
    clip: Clip,
    attributions: Mapping[str, ArrayLike | Tensor],
    region: Region | None = None,
    *,
    n_columns: int = 4,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """The clip, and attribution maps over it: red speaks for the class, blue against it, no colour for neither.

    Each map has a scale of its own, because methods differ in their units: full colour is at the 99.5 % quantile of its absolute values,
    which its title gives.

    Args:
        clip: the explained one.
        attributions: name → map of the whole input, (…, frequency, time) of any size, the leading axes of size 1; (…, sample) for
            waveforms.
        region: outlined on the clip.
        n_columns: panels in a row.
        figure: where to draw; by default a new figure.

    Raises:
        ValueError: for a map of another shape, with NaN or infinity.

    Source: APEX (arXiv 2605.10153), Figure 4.
    """
    n_panels = 1 + len(attributions)
    n_columns = min(n_columns, n_panels)
    n_rows = math.ceil(n_panels / n_columns)
    target = canvas(figure, 2.0 + _WIDTH * n_columns, 0.4 + _HEIGHT * n_rows)
    panels = target.subplots(n_rows, n_columns, squeeze=False)
    limits, width = level_limits([clip]), panel_width(target, n_columns, 2.1)
    levels = draw_clip(panels.flat[0], clip, limits)
    title(panels.flat[0], [clip.title], width)
    if region is not None:
        draw_outline(panels.flat[0], clip, region)
    for panel, (name, values) in zip(panels.flat[1:], attributions.items(), strict=False):
        own = signed_map(values, name, clip)
        scale = map_scale(own)
        draw_clip(panel, clip, limits, GREY_LEVELS)
        shares = (own / scale if scale else own).clip(-1, 1)
        drawn = draw_map(panel, clip, shares, cmap=SIGNED, limits=(-1, 1), alpha=np.abs(shares))
        title(panel, [name, f"full colour: ±{number(scale)}" if scale else "zero everywhere"], width)
    label_axes(kept(panels, (place < n_panels for place in range(panels.size))))
    bar(target, panels.flat[:n_panels], levels, "level in dB")
    if attributions:
        bar(target, panels.flat[:n_panels], drawn, "attribution, each map by its own scale", ticks=(-1, 0, 1))
    return root(target)


def masking(clip: Clip, region: Region, masked: Clip, *, figure: Figure | SubFigure | None = None) -> Figure:
    """The masking strip: the clip, its region alone in colour, and the clip after masking.

    Args:
        clip: the original.
        region: what is masked.
        masked: the clip after masking, on the same axes.
        figure: where to draw; by default a new figure.

    Source: APEX (arXiv 2605.10153), Figure 5.
    """
    target = canvas(figure, 1.2 + _WIDTH * 3, 0.2 + _HEIGHT)
    panels = target.subplots(1, 3, squeeze=False)[0]
    limits, width = level_limits([clip, masked]), panel_width(target, 3)
    shown = {"original": clip, "region": clip, "masked": masked}
    for panel, (name, own) in zip(panels, shown.items(), strict=True):
        image = draw_clip(panel, own, limits)
        title(panel, [f"{name}: {own.title}" if own.title and name != "region" else name], width)
    outside = ~region.mask(*_size(clip)).numpy()
    draw_map(panels[1], clip, np.ones(outside.shape), cmap="Greys", limits=(0, 2), alpha=0.75 * outside)
    for panel in panels[1:]:
        draw_outline(panel, clip, region)
    label_axes([panels])
    bar(target, panels, image, "level in dB")
    return root(target)


def twins(
    real: Clip,
    fake: Clip,
    regions: tuple[Region | None, Region | None] = (None, None),
    *,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """Two clips of the same sound and what differs: red where the second is louder, blue where it is quieter.

    Args:
        real: the first, the recording.
        fake: the second, its vocoded twin, on the same axes; the longer of the two is cut.
        regions: outlined on the one and on the other.
        figure: where to draw; by default a new figure.

    Raises:
        ValueError: where the clips have different axes.

    Source: APEX (arXiv 2605.10153), Figure 6.
    """
    if real.axes != fake.axes:
        raise ValueError(f"expected twins on the same axes, but got {real.axes} and {fake.axes}")
    n_frames = min(real.decibels.shape[1], fake.decibels.shape[1])
    difference = array(fake.decibels)[:, :n_frames] - array(real.decibels)[:, :n_frames]
    most = map_scale(difference) or 1.0
    target = canvas(figure, 2.0 + _WIDTH * 3, 0.2 + _HEIGHT)
    panels = target.subplots(1, 3, squeeze=False)[0]
    limits, width = level_limits([real, fake]), panel_width(target, 3, 2.1)
    for panel, clip, region, name in zip(panels, (real, fake), regions, ("first", "second"), strict=False):
        image = draw_clip(panel, clip, limits)
        title(panel, [clip.title or name], width)
        if region is not None:
            draw_outline(panel, clip, region)
    shorter = min(real, fake, key=lambda clip: clip.decibels.shape[1])
    drawn = draw_clip(panels[2], shorter, (-most, most), SIGNED)
    drawn.set_data(difference)
    title(panels[2], ["second less first"], width)
    label_axes([panels])
    bar(target, panels[:2], image, "level in dB")
    bar(target, panels[2:], drawn, "difference in dB", beyond=True)
    return root(target)


def _size(clip: Clip) -> tuple[int, int]:
    return clip.decibels.shape[0], clip.decibels.shape[1]
