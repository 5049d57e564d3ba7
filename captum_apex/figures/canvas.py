"""What a figure is drawn on: the user's own figure or axes, or new ones without a display."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure


def canvas(figure: Figure | SubFigure | None, width: float, height: float) -> Figure | SubFigure:
    """The figure given, laid out so that nothing overlaps unless it has a layout of its own; or a new one of a size in inches."""
    if figure is None:
        return Figure(figsize=(width, height), layout="constrained")
    if root(figure).get_layout_engine() is None:
        root(figure).set_layout_engine("constrained")
    return figure


def single_panel(ax: Axes | None, width: float, height: float) -> Axes:
    """The axes given, or those of a new figure of a size in inches."""
    if ax is None:
        return canvas(None, width, height).add_subplot()
    root(ax)  # raises where there is none
    return ax


def root(part: Figure | SubFigure | Axes) -> Figure:
    """The figure that a part belongs to."""
    figure = part.get_figure(root=True)
    if not isinstance(figure, Figure):
        raise ValueError("expected axes or a subfigure that belong to a figure, but they were removed from it")
    return figure


def panel_width(target: Figure | SubFigure, n_columns: int, margin: float = 1.3) -> float:
    """About how wide each of several panels in a row will be, in inches.

    Args:
        target: what the row fills.
        n_columns: panels in the row.
        margin: what labels and a colour bar take, in inches.
    """
    return max(target.bbox.width / root(target).dpi - margin, 0.5) / n_columns
