"""A clip's spectrogram as a panel: seconds on x, Hz on y with the spacing of the spectrogram's bins, colours in dB."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from captum_apex.audio.axes import SpectrogramAxes
from captum_apex.audio.clip import Clip, level_limits
from captum_apex.audio.filled_frames import blanked
from captum_apex.audio.regions import Region
from captum_apex.figures.canvas import canvas, panel_width, root, single_panel
from captum_apex.figures.colours import LEVELS
from captum_apex.figures.outlines import draw_outline
from captum_apex.figures.panels import Limits, as_array, colour_bar, label_axes, remove_empty, small_ticks
from captum_apex.figures.ticks import hertz_ticks, time_locator
from captum_apex.figures.titles import SMALL, title

__all__ = ["clips", "draw_clip", "draw_image", "draw_map", "set_frequency", "spectrogram"]

_LEAST_WRITTEN = 0.1  # share of a picture with space for this text


def spectrogram(
    clip: Clip, region: Region | None = None, *, limits: Limits | None = None, ax: Axes | None = None
) -> Figure:
    """Draws one clip, with a region outlined.

    Args:
        clip: the clip.
        region: the region of the model's input to outline; None for none.
        limits: lowest and highest level of the colours, in dB; by default those of the clip.
        ax: the axes to draw on; by default those of a new figure.

    Returns:
        The figure.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, SpectrogramAxes, figures
        >>> clip = Clip(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80), label="dog")
        >>> panel = figures.spectrogram(clip).axes[0]
        >>> panel.get_title(), panel.get_ylabel(), panel.get_yticks().tolist()
        ('dog', 'frequency in Hz', [0.0, 1000.0, 2000.0, 3000.0, 4000.0])
    """
    panel = single_panel(ax, 4.6, 2.8)
    image = draw_clip(panel, clip, level_limits([clip]) if limits is None else limits)
    if region is not None:
        draw_outline(panel, clip, region)
    label_axes([[panel]])
    panel.set_title(clip.title, fontsize=SMALL, parse_math=False)
    colour_bar(panel.figure, [panel], image, "level in dB")
    return root(panel)


def clips(
    shown: Sequence[Clip],
    regions: Sequence[Region | None] | None = None,
    *,
    n_columns: int = 4,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """Draws a contact sheet: clips side by side, in the same colours for the same level, each with a region outlined.

    Args:
        shown: the clips; their labels and names are the titles.
        regions: the region to outline on each clip, None for no region; by default there are none.
        n_columns: number of clips in a row.
        figure: the figure or subfigure to draw on; by default a new figure.

    Returns:
        The figure.

    Raises:
        ValueError: there are no clips, or not one region for each.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, SpectrogramAxes, figures
        >>> axes = SpectrogramAxes(8000, 16, 80)
        >>> sheet = figures.clips([Clip(torch.zeros(9, 100), axes, label=label) for label in ("dog", "rain", "siren")])
        >>> [panel.get_title() for panel in sheet.axes if panel.images]
        ['dog', 'rain', 'siren']
    """
    regions = [None] * len(shown) if regions is None else regions
    if not len(shown) or len(regions) != len(shown):
        raise ValueError(
            f"expected clips, and one region or None for each, but got {len(shown)} clips and {len(regions)} regions"
        )
    n_columns = min(n_columns, len(shown))
    n_rows = math.ceil(len(shown) / n_columns)
    target = canvas(figure, 1.2 + 2.6 * n_columns, 0.5 + 2.1 * n_rows)
    panels = target.subplots(n_rows, n_columns, squeeze=False)
    limits = level_limits(shown)
    width = panel_width(target, n_columns)
    for panel, clip, region in zip(panels.flat, shown, regions, strict=False):
        image = draw_clip(panel, clip, limits)
        title(panel, [clip.title], width)
        if region is not None:
            draw_outline(panel, clip, region)
    label_axes(remove_empty(panels, (place < len(shown) for place in range(panels.size))))
    colour_bar(target, panels.flat[: len(shown)], image, "level in dB")
    return root(target)


def draw_clip(ax: Axes, clip: Clip, limits: Limits, colours: str = LEVELS) -> AxesImage:
    """Draws a clip and sets both axes, without their labels, which `label_axes` writes.

    Args:
        ax: an empty panel.
        clip: the clip.
        limits: lowest and highest level of the colours, in dB.
        colours: name of the colour map.

    Example:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> from captum_apex import Clip, SpectrogramAxes
        >>> from captum_apex.figures.spectrogram import draw_clip
        >>> panel = Figure().add_subplot()
        >>> image = draw_clip(panel, Clip(torch.zeros(9, 101), SpectrogramAxes(8000, 16, 80)), (-60.0, 0.0))
        >>> image.get_clim()
        (-60.0, 0.0)
    """
    set_frequency(ax, clip.axes)
    extent = _extent(clip)
    levels = blanked(clip.decibels, clip.heard.shape[1])
    image = draw_image(ax, levels, extent, cmap=colours, vmin=limits[0], vmax=limits[1])
    ax.set_xlim(0, extent[1])
    _hatch_filled(ax, clip, extent[1])
    ax.xaxis.set_major_locator(time_locator(4))
    small_ticks(ax)
    return image


def _hatch_filled(ax: Axes, clip: Clip, end: float) -> None:
    """Hatches the frames after the end of the sound, and says what they are where there is space."""
    n_frames = clip.decibels.shape[1]
    n_heard = clip.heard.shape[1]
    if n_heard == n_frames:
        return
    start = clip.axes.seconds(float(n_heard))
    ax.axvspan(start, end, facecolor="0.95", edgecolor="0.75", hatch="////", linewidth=0, zorder=0)
    if n_frames - n_heard > _LEAST_WRITTEN * n_frames:
        box = {"facecolor": "0.95", "edgecolor": "none", "pad": 1}
        place: dict[str, Any] = {"transform": ax.get_xaxis_transform(), "ha": "center", "va": "center", "bbox": box}
        ax.text((start + end) / 2, 0.5, clip.filled_text, fontsize=6, color="0.3", rotation=90, **place)


def draw_map(
    ax: Axes,
    clip: Clip,
    values: ArrayLike | Tensor,
    *,
    cmap: str,
    limits: Limits,
    alpha: NDArray | None = None,
    on_bins: bool = False,
) -> AxesImage:
    """Draws a map of the model's input over a clip that is drawn already.

    Args:
        ax: the panel of the clip.
        clip: the clip.
        values: the map, (frequency, time), of any size: it covers the whole input, in the order of its rows.
        cmap: name of the colour map.
        limits: the values at both ends of the colour map.
        alpha: opacity of each value, in [0, 1], of the shape of `values`.
        on_bins: whether the map covers the clip's picture, which for a clip of samples has other axes than the input,
            and for a flipped clip other rows.

    Example:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> from captum_apex import Clip, SpectrogramAxes
        >>> from captum_apex.figures.spectrogram import draw_clip, draw_map
        >>> panel = Figure().add_subplot()
        >>> clip = Clip(torch.zeros(9, 101), SpectrogramAxes(8000, 16, 80))
        >>> image = draw_clip(panel, clip, (-60.0, 0.0))
        >>> draw_map(panel, clip, torch.ones(3, 5), cmap="RdBu_r", limits=(-1.0, 1.0)).get_array().shape
        (3, 5)
    """
    extent = (0.0, clip.duration, 0.0, clip.axes.nyquist) if clip.of_samples and not on_bins else _extent(clip)
    if clip.flipped and not on_bins:
        values = as_array(values)[::-1]
        alpha = None if alpha is None else alpha[::-1]
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
    """Draws an image with rows that are evenly spaced on the panel's frequency scale.

    Args:
        ax: the panel, with its frequency scale and limits.
        values: the image, (frequency, time).
        extent: left, right, lower and upper edge, in the coordinates after the frequency scale, because matplotlib
            draws no image on a scale that is not linear.
        cmap: name of the colour map.
        vmin: value at the low end of the colour map.
        vmax: value at its high end.
        alpha: opacity of each value, in [0, 1], of the shape of `values`.

    Example:
        >>> import torch
        >>> from matplotlib.figure import Figure
        >>> from captum_apex.figures.spectrogram import draw_image
        >>> panel = Figure().add_subplot()
        >>> image = draw_image(panel, torch.zeros(4, 6), (0.0, 1.0, 0.0, 1.0), cmap="magma", vmin=-60.0, vmax=0.0)
        >>> image.get_clim(), image.get_array().shape
        ((-60.0, 0.0), (4, 6))
    """
    xlim = ax.get_xlim()
    ylim = ax.get_ylim()
    image = ax.imshow(
        as_array(values),
        origin="lower",
        aspect="auto",
        extent=extent,
        transform=ax.transLimits + ax.transAxes,  # without the scale, which comes before them
        cmap=cmap,
        vmin=vmin,
        vmax=vmax,
        alpha=alpha,
    )
    ax.set(xlim=xlim, ylim=ylim)
    return image


def set_frequency(ax: Axes, axes: SpectrogramAxes) -> None:
    """Sets the y axis: Hz from the lowest to the highest bin, spaced as the bins are, with ticks at round numbers.

    Args:
        ax: the panel.
        axes: the axes of the clip that is drawn on the panel, which ascend.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from captum_apex import SpectrogramAxes
        >>> from captum_apex.figures.spectrogram import set_frequency
        >>> panel = Figure().add_subplot()
        >>> set_frequency(panel, SpectrogramAxes(8000, 16, 80))
        >>> [label.get_text() for label in panel.get_yticklabels()]
        ['0', '1k', '2k', '3k', '4k']
    """
    if axes.even_span is None:

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
    """Ends of the frames in seconds, and of the bins on the scale of `set_frequency`, which is bins for mel bands."""
    axes = clip.axes
    n_frames = clip.decibels.shape[1]
    end = axes.seconds(float(n_frames))
    start = end - n_frames * axes.hop_length / axes.sample_rate  # below 0 where frames are centred
    return start, end, *(axes.even_span or (0.0, float(axes.n_bins)))
