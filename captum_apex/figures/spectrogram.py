"""A clip's spectrogram as a panel: seconds on x, Hz on y, spaced as the spectrogram's bins are, colours in dB."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from captum_apex.audio.axes import SpectrogramAxes
from captum_apex.audio.clip import Clip, level_limits
from captum_apex.audio.regions import Region
from captum_apex.figures.canvas import canvas, panel_width, root, single_panel
from captum_apex.figures.colours import LEVELS
from captum_apex.figures.outlines import draw_outline
from captum_apex.figures.panels import Limits, array, bar, kept, label_axes
from captum_apex.figures.ticks import hertz_ticks
from captum_apex.figures.titles import SMALL, TINY, title

__all__ = ["clips", "spectrogram"]


def spectrogram(
    clip: Clip, region: Region | None = None, *, limits: Limits | None = None, ax: Axes | None = None
) -> Figure:
    """One clip, with a region outlined.

    Args:
        clip: what is drawn.
        region: of the model's input.
        limits: of the colours, in dB; by default the clip's own.
        ax: where to draw; by default a new figure.
    """
    panel = single_panel(ax, 4.6, 2.8)
    image = draw_clip(panel, clip, level_limits([clip]) if limits is None else limits)
    if region is not None:
        draw_outline(panel, clip, region)
    label_axes([[panel]])
    panel.set_title(clip.title, fontsize=SMALL, parse_math=False)
    bar(panel.figure, [panel], image, "level in dB")
    return root(panel)


def clips(
    shown: Sequence[Clip],
    regions: Sequence[Region | None] | None = None,
    *,
    n_columns: int = 4,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """A contact sheet: clips side by side, in the same colours for the same level, each with a region outlined.

    Args:
        shown: the clips, titled by their labels and names.
        regions: one per clip, or None.
        n_columns: clips in a row.
        figure: where to draw; by default a new figure.

    Raises:
        ValueError: where there are no clips, or not one region for each.
    """
    if not shown or (regions is not None and len(regions) != len(shown)):
        raise ValueError(
            f"expected clips, and one region or None for each, but got {len(shown)} clips and {len(regions or ())} regions"
        )
    n_columns = min(n_columns, len(shown))
    n_rows = math.ceil(len(shown) / n_columns)
    target = canvas(figure, 1.2 + 2.6 * n_columns, 0.5 + 2.1 * n_rows)
    panels = target.subplots(n_rows, n_columns, squeeze=False)
    limits, width = level_limits(shown), panel_width(target, n_columns)
    for panel, clip, region in zip(panels.flat, shown, regions or [None] * len(shown), strict=False):
        image = draw_clip(panel, clip, limits)
        title(panel, [clip.title], width)
        if region is not None:
            draw_outline(panel, clip, region)
    label_axes(kept(panels, (place < len(shown) for place in range(panels.size))))
    bar(target, panels.flat[: len(shown)], image, "level in dB")
    return root(target)


def draw_clip(ax: Axes, clip: Clip, limits: Limits, colours: str = LEVELS) -> AxesImage:
    """Draws a clip and sets both axes, without labels; `label_axes` writes these.

    Args:
        ax: an empty panel.
        clip: what is drawn.
        limits: of the colours, in dB.
        colours: name of a colour map.
    """
    set_frequency(ax, clip.axes)
    extent = _extent(clip)
    image = draw_image(ax, clip.decibels, extent, cmap=colours, vmin=limits[0], vmax=limits[1])
    ax.set_xlim(0, extent[1])
    ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    ax.tick_params(labelsize=TINY, length=2.5, pad=2)
    return image


def draw_map(
    ax: Axes, clip: Clip, values: ArrayLike | Tensor, *, cmap: str, limits: Limits, alpha: NDArray | None = None
) -> AxesImage:
    """Draws a map of the model's input over a clip that is drawn already.

    Args:
        ax: the panel of the clip.
        clip: says where the input lies.
        values: (frequency, time), of any size: it covers the whole input.
        cmap: name of a colour map.
        limits: of the colours.
        alpha: how much each value covers what is beneath, in [0, 1], of the shape of `values`.
    """
    extent = (0.0, clip.duration, 0.0, clip.axes.nyquist) if clip.of_samples else _extent(clip)
    return draw_image(ax, values, extent, cmap=cmap, vmin=limits[0], vmax=limits[1], alpha=alpha)


def draw_image(
    ax: Axes,
    values: ArrayLike | Tensor,
    extent: tuple[float, float, float, float],
    *,
    cmap: str,
    vmin: float,
    vmax: float,
    alpha: NDArray | None = None,
) -> AxesImage:
    """An image whose rows are evenly spaced on the panel's own frequency scale.

    Its ends are given behind that scale, because an image on a curved axis would be bent.
    """
    limits = ax.get_xlim(), ax.get_ylim()
    behind_the_scale = ax.transLimits + ax.transAxes
    image = ax.imshow(
        array(values),
        origin="lower",
        aspect="auto",
        extent=extent,
        transform=behind_the_scale,
        cmap=cmap,
        vmin=vmin,
        vmax=vmax,
        alpha=alpha,
    )
    ax.set(xlim=limits[0], ylim=limits[1])
    return image


def set_frequency(ax: Axes, axes: SpectrogramAxes) -> None:
    """The y axis in Hz, from the lowest to the highest bin, evenly spaced in mel where the bins are, with ticks at round numbers."""
    if axes.n_mels is not None:

        def forward(hertz: ArrayLike) -> NDArray:
            inside = torch.as_tensor(np.asarray(hertz, dtype=float)).clamp(0, axes.nyquist)
            return axes.bin_position(inside).numpy()

        def inverse(position: ArrayLike) -> NDArray:
            return axes.hertz(torch.as_tensor(np.asarray(position, dtype=float))).numpy()

        ax.set_yscale("function", functions=(forward, inverse))
    ticks = hertz_ticks(axes)
    ax.set_yticks(ticks, [f"{tick / 1000:g}k" if tick >= 1000 else f"{tick:g}" for tick in ticks])
    ax.set_ylim(axes.hertz(0.0), axes.hertz(float(axes.n_bins)))


def _extent(clip: Clip) -> tuple[float, float, float, float]:
    """Where the bins and frames begin and end: in seconds, and on the scale of `set_frequency`, which is bins for mel bands."""
    axes, n_frames = clip.axes, clip.decibels.shape[1]
    end = axes.seconds(float(n_frames))
    start = end - n_frames * axes.hop_length / axes.sample_rate  # before the first sample, where frames are centred
    if axes.n_mels is not None:
        return start, end, 0.0, float(axes.n_bins)
    half_a_bin = axes.sample_rate / axes.n_fft / 2
    return start, end, -half_a_bin, axes.hertz(axes.n_bins - 0.5) + half_a_bin
