"""Names beside points, placed so that they do not overlap."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.path import Path
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

LABEL_SIZE = 7.5
NEAR = 6  # distance of a label from its point, in points
FAR = (16, 30, 46)  # larger distances, at which a line connects the label with its point
SIDES = [(1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]


def draw_labels(panel: Axes, points: pd.DataFrame, names: Iterable[str]) -> None:
    """Writes names beside their points, where they hide neither a point nor another name.

    A name for which there is no such place is left out.

    Args:
        panel: axes that have their final place in the figure, see `Figure.draw_without_rendering`.
        points: name → (x, y) in data coordinates.
        names: the names in the order of their importance.
    """
    pixels = panel.transData.transform(points.to_numpy())  # (point, 2)
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in pixels]
    lines: list[Path] = []  # lines from points to distant labels
    for name in names:
        point = points.loc[name].to_numpy()
        start = pixels[points.index.get_loc(name)]
        size = _text_size(panel, name)
        for distance, side in product((NEAR, *FAR), SIDES):
            end = start + np.multiply(distance, side) * panel.figure.dpi / 72
            corner = end - size * (1 - np.array(side)) / 2
            box = Bbox([corner, corner + size])
            line = Path([start, end])
            far = distance != NEAR
            if (
                _inside(box, panel.bbox)
                and not box.count_overlaps(taken)
                and not _crossing(box, line if far else None, taken, lines)
            ):
                _write(panel, name, point, distance, side, with_line=far)
                taken.append(box)
                lines += [line] if far else []
                break


def _crossing(box: Bbox, line: Path | None, taken: Sequence[Bbox], lines: Sequence[Path]) -> bool:
    """Whether the line to a label, or an older line, would cross a label or a line; the line's end point is ignored."""
    if line is not None:
        x, y = np.asarray(line.vertices)[0]
        met = any(line.intersects_bbox(other) and not other.contains(x, y) for other in taken)
        if met or any(line.intersects_path(other) for other in lines):
            return True
    return any(other.intersects_bbox(box) for other in lines)


def _write(
    panel: Axes, name: str, point: NDArray[np.floating], distance: int, side: tuple[int, int], *, with_line: bool
) -> None:
    x, y = side
    panel.annotate(
        name,
        tuple(point),
        (distance * x, distance * y),
        textcoords="offset points",
        horizontalalignment=("center", "left", "right")[x],
        verticalalignment=("center", "bottom", "top")[y],
        arrowprops={"arrowstyle": "-", "color": "0.6", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
        if with_line
        else None,
        bbox={"facecolor": "white", "linewidth": 0, "pad": 0.5, "alpha": 0.8},
        fontsize=LABEL_SIZE,
        in_layout=False,
    )


def _text_size(panel: Axes, name: str) -> NDArray[np.floating]:
    text = panel.text(0, 0, name, fontsize=LABEL_SIZE)
    size = np.array(text.get_window_extent().size)
    text.remove()
    return size


def _inside(box: Bbox, other: Bbox) -> bool:
    return bool(other.x0 <= box.x0 and box.x1 <= other.x1 and other.y0 <= box.y0 and box.y1 <= other.y1)
