"""A clip's waveform, with an attribution as colour along time; Captum's own picture of it fails with current matplotlib."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from captum_apex.audio.clip import Clip
from captum_apex.audio.regions import Region
from captum_apex.figures.canvas import root, single_panel
from captum_apex.figures.colours import LINES, SIGNED
from captum_apex.figures.panels import array, bar
from captum_apex.figures.signed_maps import map_scale, signed_map
from captum_apex.figures.titles import SMALL, TINY, number

__all__ = ["waveform"]

_COLUMNS = 1000  # of the drawn envelope


def waveform(
    clip: Clip,
    attributions: ArrayLike | Tensor | None = None,
    regions: Sequence[Region] = (),
    *,
    ax: Axes | None = None,
) -> Figure:
    """The waveform over time, in front of an attribution: red speaks for the class, blue against it; the regions' times are marked.

    Args:
        clip: with a waveform.
        attributions: of the input, (…, sample), or (…, frequency, time) for a model of spectrograms, summed over frequency.
        regions: strongest first.
        ax: where to draw; by default a new figure.

    Raises:
        ValueError: for a clip without a waveform, and attributions of another shape.
    """
    if clip.waveform is None:
        raise ValueError("expected a clip with a waveform, but it has none")
    panel = single_panel(ax, 7.0, 2.2)
    seconds, low, high = _envelope(array(clip.waveform), clip.sample_rate)
    most = 1.05 * max(np.abs(low).max(), np.abs(high).max(), np.finfo(float).tiny)
    panel.set(xlim=(0, clip.duration), ylim=(-most, most))
    if attributions is not None:
        _draw_attributions(panel, clip, signed_map(attributions, "attributions", clip).sum(0, keepdims=True))
    panel.fill_between(seconds, low, high, color="0.2", linewidth=0.6)
    for rank, region in enumerate(regions):
        _mark_times(panel, clip, region, LINES[2 + rank % 5])
    panel.xaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 2.5, 5, 10]))
    panel.set_xlabel("time in s", fontsize=TINY)
    panel.set_ylabel("amplitude", fontsize=TINY)
    panel.tick_params(labelsize=TINY, length=2.5, pad=2)
    panel.set_title(clip.title, fontsize=SMALL, parse_math=False)
    return root(panel)


def _envelope(samples: NDArray, sample_rate: float) -> tuple[NDArray, NDArray, NDArray]:
    """Seconds, and the lowest and the highest sample around each; a column for each sample where there are few."""
    parts = np.array_split(samples.astype(float), min(len(samples), _COLUMNS))
    ends = np.cumsum([0, *map(len, parts)])
    return (
        (ends[:-1] + ends[1:] - 1) / 2 / sample_rate,
        np.array([part.min() for part in parts]),
        np.array([part.max() for part in parts]),
    )


def _draw_attributions(panel: Axes, clip: Clip, values: NDArray) -> None:
    scale = map_scale(values)
    whole = (clip.seconds(0.0), clip.seconds(1.0), *panel.get_ylim())
    limits = panel.get_xlim(), panel.get_ylim()
    image = panel.imshow(
        values, extent=whole, aspect="auto", cmap=SIGNED, vmin=-(scale or 1), vmax=scale or 1, alpha=0.85, zorder=0
    )
    panel.set(xlim=limits[0], ylim=limits[1])
    bar(panel.figure, [panel], image, f"attribution, ±{number(scale)}", ticks=(0,), beyond=True)


def _mark_times(panel: Axes, clip: Clip, region: Region, colour: str) -> None:
    for box in region.boxes:
        place = clip.place(box)
        if place.end - place.start < clip.seconds(1.0) - clip.seconds(0.0):  # a band over the whole time marks none
            panel.axvspan(place.start, place.end, 0.02, 0.98, facecolor="none", edgecolor=colour, linewidth=1.6)
