"""What a figure is drawn on: the user's figure or axes, or new ones without a display."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

__all__ = ["canvas", "panel_width", "root", "single_panel"]


def canvas(figure: Figure | SubFigure | None, width: float, height: float) -> Figure | SubFigure:
    """The figure given, which gets a constrained layout if it has no layout; or a new figure.

    Args:
        figure: the user's figure or subfigure; None for a new figure.
        width: width of a new figure, in inches.
        height: height of a new figure, in inches.

    Example:
        >>> from captum_apex.figures.canvas import canvas
        >>> canvas(None, 8.0, 4.0).get_size_inches().tolist()
        [8.0, 4.0]
    """
    if figure is None:
        return Figure(figsize=(width, height), layout="constrained")
    if root(figure).get_layout_engine() is None:
        root(figure).set_layout_engine("constrained")
    return figure


def single_panel(ax: Axes | None, width: float, height: float) -> Axes:
    """The axes given, or those of a new figure.

    Args:
        ax: the user's axes; None for a new figure.
        width: width of a new figure, in inches.
        height: height of a new figure, in inches.

    Raises:
        ValueError: the axes were removed from their figure.

    Example:
        >>> from captum_apex.figures.canvas import single_panel
        >>> single_panel(None, 8.0, 4.0).figure.get_size_inches().tolist()
        [8.0, 4.0]
    """
    if ax is None:
        return canvas(None, width, height).add_subplot()
    root(ax)  # raises where the axes belong to no figure
    return ax


def root(artist: Figure | SubFigure | Axes) -> Figure:
    """The figure that axes or a subfigure belong to.

    Args:
        artist: a figure, a subfigure or axes.

    Raises:
        ValueError: the axes or the subfigure were removed from their figure.

    Example:
        >>> from matplotlib.figure import Figure
        >>> from captum_apex.figures.canvas import root
        >>> figure = Figure()
        >>> root(figure.subfigures(1, 2)[0].add_subplot()) is figure
        True
    """
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

    Example:
        >>> from matplotlib.figure import Figure
        >>> from captum_apex.figures.canvas import panel_width
        >>> float(panel_width(Figure(figsize=(8, 4)), 2, margin=1.0))
        3.5
    """
    return max(target.bbox.width / root(target).dpi - margin, 0.5) / n_columns
