"""What a figure is drawn on: the user's figure or axes, or new ones without a display."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure


def canvas(figure: Figure | SubFigure | None, width: float, height: float) -> Figure | SubFigure:
    """The figure given, which gets a constrained layout if it has no layout; or a new figure of a size in inches."""
    if figure is None:
        return Figure(figsize=(width, height), layout="constrained")
    if root(figure).get_layout_engine() is None:
        root(figure).set_layout_engine("constrained")
    return figure


def single_panel(ax: Axes | None, width: float, height: float) -> Axes:
    """The axes given, or those of a new figure of a size in inches."""
    if ax is None:
        return canvas(None, width, height).add_subplot()
    root(ax)  # raises where the axes belong to no figure
    return ax


def root(artist: Figure | SubFigure | Axes) -> Figure:
    """The figure that axes or a subfigure belong to."""
    figure = artist.get_figure(root=True)
    if not isinstance(figure, Figure):
        raise ValueError("expected axes or a subfigure that belong to a figure, but they were removed from it")
    return figure


def panel_width(target: Figure | SubFigure, n_columns: int, margin: float = 1.3) -> float:
    """The approximate width of each of several panels in a row, in inches.

    Args:
        target: the figure that the row fills.
        n_columns: number of panels in the row.
        margin: width of the labels and the colour bar, in inches.
    """
    return max(target.bbox.width / root(target).dpi - margin, 0.5) / n_columns
