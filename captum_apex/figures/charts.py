"""Charts: the purity over the epochs, the score taken apart, and what happens while a clip is taken away or put back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from captum_apex.bases.basis import PrototypeBasis
from captum_apex.classifiers.class_names import class_name
from captum_apex.explanations.explanation import Explanation
from captum_apex.figures.canvas import root, single_panel
from captum_apex.figures.colours import AGAINST, LINES, MARKERS, TOTAL, TOWARDS
from captum_apex.figures.panels import array
from captum_apex.figures.titles import SMALL, TINY, channel_name, fitted, number
from captum_apex.metrics import bootstrap_interval

__all__ = ["curves", "purity", "waterfall"]

_ROUNDING = 1e-3  # of the score: what completeness may miss before it gets a bar of its own


def purity(bases: PrototypeBasis | Mapping[str, PrototypeBasis], *, ax: Axes | None = None) -> Figure:
    """Mean purity of the prototypes, before fitting (epoch 0) and after each epoch.

    Args:
        bases: fitted ones, by name; one alone is named by its scheme.
        ax: where to draw; by default a new figure.

    Raises:
        ValueError: for a basis that was not fitted.
    """
    named = {str(bases.scheme): bases} if isinstance(bases, PrototypeBasis) else bases
    panel = single_panel(ax, 5.0, 3.2)
    for rank, (name, basis) in enumerate(named.items()):
        if not len(basis.purity_history):
            raise ValueError(f"expected fitted bases, which have a purity history, but {name!r} has none")
        _line(panel, rank, np.arange(len(basis.purity_history)), array(basis.purity_history), name)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(panel, "epoch", "mean purity of the prototypes")
    return root(panel)


def waterfall(explanation: Explanation, *, class_names: Sequence[str] | None = None, ax: Axes | None = None) -> Figure:
    """The score taken apart: from what is left without the layer, through what each channel adds, to the whole score.

    Where the part after the layer is not affine, the contributions do not add up; what is missing then has a bar of its own.

    Args:
        explanation: of one clip.
        class_names: the name of each class.
        ax: where to draw; by default a new figure.
    """
    steps = {channel_name(part): part.contribution for part in explanation.evidence}
    steps["other channels"] = explanation.total - sum(steps.values())
    if abs(explanation.completeness) > _ROUNDING * max(1.0, abs(explanation.score)):
        steps["not additive"] = -explanation.completeness
    panel = single_panel(ax, 5.0, 1.2 + 0.3 * (len(steps) + 2))
    ends = explanation.score_without_layer + np.cumsum([0.0, *steps.values()])  # of the steps, one after the other
    names = [
        "without the layer",
        *steps,
        fitted(f"score: {class_name(explanation.target, class_names)}".removesuffix(": "), 1.6, TINY),
    ]
    lefts = [0.0, *ends[:-1], 0.0]
    widths = [explanation.score_without_layer, *steps.values(), explanation.score]
    colours = [TOTAL, *(TOWARDS if step >= 0 else AGAINST for step in steps.values()), TOTAL]
    bars = panel.barh(range(len(names)), widths, left=lefts, color=colours, height=0.62)
    for rank, (bar, width) in enumerate(zip(bars, widths, strict=True)):
        text, end = number(width, sign=0 < rank < len(names) - 1), (max(bar.get_x(), bar.get_x() + width), rank)
        panel.annotate(text, end, (3, 0), textcoords="offset points", verticalalignment="center", fontsize=TINY)
    joints = [explanation.score_without_layer, *ends[1:]]
    panel.vlines(
        joints, np.arange(len(joints)) - 0.31, np.arange(len(joints)) + 1.31, color="0.6", linewidth=0.7, zorder=0
    )
    panel.axvline(0, color="0.3", linewidth=0.8)
    panel.set_yticks(range(len(names)), names, parse_math=False)
    panel.invert_yaxis()
    low, high = panel.get_xlim()
    panel.set_xlim(
        low, high + 0.2 * (high - low)
    )  # room for the numbers; margins leave none beside a bar that leads back
    _finish(panel, "score", "")
    panel.grid(visible=False)
    return root(panel)


def curves(
    fractions: ArrayLike | Tensor,
    values: Mapping[str, ArrayLike | Tensor],
    *,
    xlabel: str = "share of the clip removed",
    ylabel: str = "probability",
    ax: Axes | None = None,
    seed: int = 0,
) -> Figure:
    """Mean deletion or insertion curves with bands: 95 % of the means of clips drawn with replacement.

    Args:
        fractions: x of each point, (point,), or (clip, point), as `captum_apex.metrics.Curves` has it: then the mean over clips.
        values: name → (clip, point), such as `Curves.deletion`.
        xlabel: what the fractions are of.
        ylabel: what the values are.
        ax: where to draw; by default a new figure.
        seed: of the draws; all curves of equally many clips share them.

    Raises:
        ValueError: where the shapes do not agree.
    """
    x = np.atleast_2d(array(fractions)).mean(0)  # (clip, point) → (point,)
    panel = single_panel(ax, 5.0, 3.4)
    for rank, (name, own) in enumerate(values.items()):
        y = array(own)
        if y.ndim != 2 or y.shape[1:] != x.shape or not len(y):
            raise ValueError(
                f"expected `values` of shape (clip, {len(x)}), a point for each fraction, but got {y.shape} for {name!r}"
            )
        colour = _line(panel, rank, x, y.mean(0), f"{name}, area {np.trapezoid(y.mean(0), x):.2f}")
        panel.fill_between(x, *bootstrap_interval(y, seed=seed), color=colour, alpha=0.18, linewidth=0)
    panel.set_xlim(x.min(), x.max())
    _finish(panel, xlabel, ylabel)
    return root(panel)


def _line(panel: Axes, rank: int, x: NDArray, y: NDArray, name: str) -> str:
    colour, marker = LINES[rank % len(LINES)], MARKERS[rank % len(MARKERS)]
    every = max(1, len(x) // 12)
    panel.plot(x, y, color=colour, marker=marker, markevery=every, markersize=4, linewidth=1.5, label=name)
    return colour


def _finish(panel: Axes, xlabel: str, ylabel: str) -> None:
    panel.set_xlabel(xlabel, fontsize=SMALL)
    panel.set_ylabel(ylabel, fontsize=SMALL)
    panel.tick_params(labelsize=TINY)
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(color="0.92")
    panel.set_axisbelow(True)
    if panel.get_legend_handles_labels()[0]:
        panel.legend(fontsize=TINY, frameon=False)
