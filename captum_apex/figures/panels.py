"""What all panels share: axes in seconds and Hz, colour bars, limits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from captum_apex.figures.titles import TINY

__all__ = ["Limits", "array", "bar", "kept", "label_axes"]

Limits = tuple[float, float]


def label_axes(rows: Iterable[Iterable[Axes | None]]) -> None:
    """Names the axes of panels that stand in rows, once per row and column; equal axes have their numbers once, too.

    Args:
        rows: the panels, each row from the left; None where there is no panel.
    """
    table = [list(row) for row in rows]
    for row in table:
        panels = [panel for panel in row if panel is not None]
        for panel in panels[:1]:
            panel.set_ylabel("frequency in Hz", fontsize=TINY)
        for panel in panels[1:]:
            panel.tick_params(labelleft=not _equal(panel.get_ylim(), panels[0].get_ylim()))
    for column in zip_longest(*table):
        *others, last = [panel for panel in column if panel is not None]
        last.set_xlabel("time in s", fontsize=TINY)
        for panel in others:
            panel.tick_params(labelbottom=not _equal(panel.get_xlim(), last.get_xlim()))


def kept(panels: NDArray, shown: Iterable[bool]) -> list[list[Axes | None]]:
    """The rows of a grid of panels, without those that show nothing; these are removed."""
    for panel, needed in zip(panels.flat, shown, strict=True):
        if not needed:
            panel.remove()
    return [[panel if panel.figure is not None else None for panel in row] for row in panels]


def bar(
    target: Figure | SubFigure,
    panels: Iterable[Axes],
    image: AxesImage,
    label: str,
    *,
    ticks: Sequence[float] | None = None,
    beyond: bool = False,
) -> None:
    """One colour bar for several panels; `beyond` says that there are values past its ends."""
    extend = "both" if beyond else "neither"
    drawn = target.colorbar(image, ax=list(panels), pad=0.01, fraction=0.04, aspect=25, ticks=ticks, extend=extend)
    drawn.set_label(label, fontsize=TINY)
    drawn.ax.tick_params(labelsize=TINY, length=2.5, pad=2)
    drawn.outline.set_visible(False)


def array(values: ArrayLike | Tensor) -> NDArray:
    """As numpy has it."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _equal(one: Limits, other: Limits) -> bool:
    return bool(np.allclose(one, other))
