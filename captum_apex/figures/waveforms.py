"""A clip's waveform over an attribution; Captum's function for this fails with current versions of matplotlib."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from captum_apex.audio.clip import Clip
from captum_apex.audio.regions import Region
from captum_apex.figures.canvas import root, single_panel
from captum_apex.figures.colours import LINES, SIGNED
from captum_apex.figures.panels import as_array, colour_bar, small_ticks
from captum_apex.figures.signed_maps import map_scale, signed_map
from captum_apex.figures.ticks import time_locator
from captum_apex.figures.titles import SMALL, TINY, number

__all__ = ["waveform"]

_N_COLUMNS = 1000  # of the envelope that is drawn


def waveform(
    clip: Clip,
    attributions: ArrayLike | Tensor | None = None,
    regions: Sequence[Region] = (),
    *,
    ax: Axes | None = None,
) -> Figure:
    """Draws the waveform over an attribution: red supports the class, blue opposes it; the times of regions are marked.

    Args:
        clip: a clip with a waveform.
        attributions: attribution of the input, (…, sample), or (…, frequency, time), which is summed over frequency.
        regions: the regions to mark, the strongest channel's first.
        ax: the axes to draw on; by default those of a new figure.

    Returns:
        The figure.

    Raises:
        ValueError: the clip has no waveform, or the attributions have another shape.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, figures
        >>> clip = Clip.from_waveform(torch.ones(4000), 8000, name="tone.wav")
        >>> panel = figures.waveform(clip, torch.zeros(4000)).axes[0]
        >>> panel.get_title(), panel.get_xlabel(), panel.get_ylabel()
        ('tone.wav', 'time in s', 'amplitude')
    """
    if clip.waveform is None:
        raise ValueError("expected a clip with a waveform, but it has none")
    panel = single_panel(ax, 7.0, 2.2)
    seconds, low, high = _envelope(as_array(clip.waveform), clip.sample_rate)
    most = 1.05 * max(np.abs(low).max(), np.abs(high).max(), np.finfo(float).tiny)
    panel.set(xlim=(0, clip.duration), ylim=(-most, most))
    if attributions is not None:
        _draw_attributions(panel, clip, signed_map(attributions, "attributions", clip).sum(0, keepdims=True))
    panel.fill_between(seconds, low, high, color="0.2", linewidth=0.6)
    for rank, region in enumerate(regions):
        _mark_times(panel, clip, region, LINES[2 + rank % 5])
    panel.xaxis.set_major_locator(time_locator(8))
    panel.set_xlabel("time in s", fontsize=TINY)
    panel.set_ylabel("amplitude", fontsize=TINY)
    small_ticks(panel)
    panel.set_title(clip.title, fontsize=SMALL, parse_math=False)
    return root(panel)


def _envelope(samples: NDArray, sample_rate: float) -> tuple[NDArray, NDArray, NDArray]:
    """Seconds, and the lowest and the highest sample around each; a column for each sample where there are few."""
    columns = np.array_split(samples.astype(float), min(len(samples), _N_COLUMNS))
    ends = np.cumsum([0, *map(len, columns)])
    seconds = (ends[:-1] + ends[1:] - 1) / 2 / sample_rate
    return seconds, np.array([column.min() for column in columns]), np.array([column.max() for column in columns])


def _draw_attributions(panel: Axes, clip: Clip, values: NDArray) -> None:
    scale = map_scale(values)
    xlim = panel.get_xlim()
    ylim = panel.get_ylim()
    extent = (clip.seconds(0.0), clip.seconds(1.0), *ylim)
    image = panel.imshow(
        values, extent=extent, aspect="auto", cmap=SIGNED, vmin=-(scale or 1), vmax=scale or 1, alpha=0.85, zorder=0
    )
    panel.set(xlim=xlim, ylim=ylim)
    colour_bar(panel.figure, [panel], image, f"attribution, ±{number(scale)}", ticks=(0,), beyond=True)


def _mark_times(panel: Axes, clip: Clip, region: Region, colour: str) -> None:
    for place in clip.places(region):
        if place.end - place.start < clip.seconds(1.0) - clip.seconds(0.0):  # a region of the whole time is not marked
            panel.axvspan(place.start, place.end, 0.02, 0.98, facecolor="none", edgecolor=colour, linewidth=1.6)
