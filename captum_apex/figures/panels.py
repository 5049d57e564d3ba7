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

__all__ = ["Limits", "as_array", "colour_bar", "label_axes", "remove_empty", "small_ticks"]

Limits = tuple[float, float]


def label_axes(rows: Iterable[Iterable[Axes | None]]) -> None:
    """Labels the axes of panels that stand in rows, once per row and column; equal axes have their numbers once, too.

    Args:
        rows: the panels, each row from the left; None where there is no panel.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from captum_apex.figures.panels import label_axes
        >>> panels = Figure().subplots(2, 2)
        >>> label_axes(panels)
        >>> [panel.get_ylabel() for panel in panels.flat]
        ['frequency in Hz', '', 'frequency in Hz', '']
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


def remove_empty(panels: NDArray, filled: Iterable[bool]) -> list[list[Axes | None]]:
    """Removes the panels that show nothing from their figure.

    Args:
        panels: the panels, (row, column).
        filled: whether each panel shows something, row by row.

    Returns:
        The rows of panels, with None in the place of a removed panel.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from captum_apex.figures.panels import remove_empty
        >>> figure = Figure()
        >>> rows = remove_empty(figure.subplots(2, 2), [True, True, True, False])
        >>> len(figure.axes), rows[1][1]
        (3, None)
    """
    for panel, needed in zip(panels.flat, filled, strict=True):
        if not needed:
            panel.remove()
    return [[panel if panel.figure is not None else None for panel in row] for row in panels]


def colour_bar(
    target: Figure | SubFigure,
    panels: Iterable[Axes],
    image: AxesImage,
    label: str,
    *,
    ticks: Sequence[float] | None = None,
    beyond: bool = False,
) -> None:
    """Draws one colour bar for several panels.

    Args:
        target: the figure of the panels.
        panels: the panels that the colour bar stands beside.
        image: an image with the colours of the panels.
        label: quantity and unit of the colours.
        ticks: the values with a number; by default matplotlib's choice.
        beyond: whether there are values past the ends of the bar.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from captum_apex.figures.panels import colour_bar
        >>> figure = Figure()
        >>> panel = figure.add_subplot()
        >>> colour_bar(figure, [panel], panel.imshow([[0, 1]]), "level in dB")
        >>> figure.axes[1].get_ylabel()
        'level in dB'
    """
    extend = "both" if beyond else "neither"
    bar = target.colorbar(image, ax=list(panels), pad=0.01, fraction=0.04, aspect=25, ticks=ticks, extend=extend)
    bar.set_label(label, fontsize=TINY)
    small_ticks(bar.ax)
    bar.outline.set_visible(False)


def small_ticks(ax: Axes) -> None:
    """Gives a panel short ticks with small numbers.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from captum_apex.figures.panels import small_ticks
        >>> panel = Figure().add_subplot()
        >>> small_ticks(panel)
        >>> panel.xaxis.get_tick_params()["length"]
        2.5
    """
    ax.tick_params(labelsize=TINY, length=2.5, pad=2)


def as_array(values: ArrayLike | Tensor) -> NDArray:
    """Numbers as an array on the CPU, without a gradient.

    Example:
        >>> import torch
        >>> from captum_apex.figures.panels import as_array
        >>> as_array(torch.tensor([1.0, 2.0], requires_grad=True)).tolist()
        [1.0, 2.0]
    """
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _equal(limits: Limits, others: Limits) -> bool:
    return bool(np.allclose(limits, others))
