"""Charts: purity over the epochs, the score as a sum of contributions, deletion and insertion curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from captum_apex.bases.basis import PrototypeBasis
from captum_apex.classifiers.class_names import target_name
from captum_apex.explanations.explanation import Explanation
from captum_apex.figures.canvas import root, single_panel
from captum_apex.figures.colours import AGAINST, LINES, MARKERS, TOTAL, TOWARDS
from captum_apex.figures.panels import as_array
from captum_apex.figures.titles import SMALL, TINY, channel_name, fitted, number
from captum_apex.metrics import bootstrap_interval
from captum_apex.texts import encodable

__all__ = ["curves", "purity", "remainders", "waterfall"]

_ROUNDING = 1e-3  # of the waterfall's largest value: a smaller unexplained remainder has no bar


def purity(bases: PrototypeBasis | Mapping[str, PrototypeBasis], *, ax: Axes | None = None) -> Figure:
    """Draws the mean purity of the prototypes before fitting (epoch 0) and after each epoch.

    Args:
        bases: fitted bases by name; a single basis is named by its scheme.
        ax: the axes to draw on; by default those of a new figure.

    Returns:
        The figure.

    Raises:
        ValueError: a basis was not fitted.

    Example:
        >>> import torch
        >>> from captum_apex import PrototypeBasis, figures
        >>> basis = PrototypeBasis(torch.eye(3), "time", purity_history=torch.tensor([0.25, 0.5, 0.75]))
        >>> figure = figures.purity(basis)
        >>> figure.axes[0].get_lines()[0].get_ydata().tolist()
        [0.25, 0.5, 0.75]
    """
    named = {str(bases.scheme): bases} if isinstance(bases, PrototypeBasis) else bases
    panel = single_panel(ax, 5.0, 3.2)
    for rank, (name, basis) in enumerate(named.items()):
        if not len(basis.purity_history):
            raise ValueError(f"expected fitted bases, which have a purity history, but {name!r} has none")
        _draw_line(panel, rank, np.arange(len(basis.purity_history)), as_array(basis.purity_history), name)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(panel, "epoch", "mean purity of the prototypes")
    return root(panel)


def waterfall(explanation: Explanation, *, class_names: Sequence[str] | None = None, ax: Axes | None = None) -> Figure:
    """Draws the logit as a sum: the logit without the layer, the contribution of each channel, the other channels.

    Where the modules after the layer are not affine, the contributions do not add up to the logit; the difference then
    has a bar, "unexplained".

    Args:
        explanation: the explanation of one clip.
        class_names: the name of each class, such as `classifier.class_names` or `explained[0].class_names`, because an
            explanation has the number of its class alone; without them classes are numbered.
        ax: the axes to draw on; by default those of a new figure.

    Returns:
        The figure.

    Example:
        >>> from captum_apex import Box, Evidence, Explanation, Region, Scheme, figures
        >>> region = Region((Box(0.0, 1.0, 0.25, 0.5),))
        >>> evidence = Evidence(7, 1, contribution=1.0, activation=0.5, purity=0.9, region=region, prototypes=())
        >>> explanation = Explanation(Scheme("time"), 0, 2.0, score_without_layer=0.5, evidence=(evidence,), total=1.5)
        >>> figure = figures.waterfall(explanation, class_names=["dog"])
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['without the layer', 'channel 7', 'other channels', 'logit: dog']
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['0.5', '+1', '+0.5', '2']
    """
    steps = {channel_name(evidence): evidence.contribution for evidence in explanation.evidence}
    steps |= remainders(explanation)
    last = f"logit: {target_name(explanation.target, class_names)}".removesuffix(": ")
    names = ["without the layer", *steps, fitted(last, 1.6, TINY)]
    panel = single_panel(ax, 5.0, 1.2 + 0.3 * len(names))
    _draw_steps(panel, explanation, list(steps.values()))
    panel.axvline(0, color="0.3", linewidth=0.8)
    panel.set_yticks(range(len(names)), names, parse_math=False)
    panel.invert_yaxis()
    low, high = panel.get_xlim()
    panel.set_xlim(low, high + 0.2 * (high - low))  # room for the numbers
    _finish(panel, "logit", "")
    panel.grid(visible=False)
    return root(panel)


def remainders(explanation: Explanation) -> dict[str, float]:
    """What leads from the evidence to the score: "other channels", and "unexplained" where it is more than rounding.

    Args:
        explanation: the explanation of one clip.

    Returns:
        The values by their names, in the order in which a waterfall shows them.

    Example:
        >>> from captum_apex import Explanation, Scheme
        >>> from captum_apex.figures.charts import remainders
        >>> remainders(Explanation(Scheme("time"), 0, score=2.0, score_without_layer=0.5, evidence=(), total=1.25))
        {'other channels': 1.25, 'unexplained': 0.25}
    """
    values = {"other channels": explanation.other_channels}
    contributions = [evidence.contribution for evidence in explanation.evidence]
    levels = explanation.score_without_layer + np.cumsum([0.0, *contributions, explanation.other_channels])
    largest = max(abs(explanation.score), np.abs(levels).max())
    if abs(explanation.unexplained) > _ROUNDING * largest:
        values["unexplained"] = explanation.unexplained
    return values


def curves(
    fractions: ArrayLike | Tensor,
    values: Mapping[str, ArrayLike | Tensor],
    *,
    xlabel: str = "share of the clip removed",
    ylabel: str = "probability",
    ax: Axes | None = None,
    seed: int = 0,
) -> Figure:
    """Draws mean deletion or insertion curves with the bootstrap's 95% interval of the mean over clips.

    Args:
        fractions: x of each point, (point,) or (clip, point), as `captum_apex.metrics.Curves` has it; of fractions that
            differ between clips the mean is drawn.
        values: y of each point by the name of the curve, (clip, point), such as `Curves.deletion`.
        xlabel: label of the x axis.
        ylabel: label of the y axis.
        ax: the axes to draw on; by default those of a new figure.
        seed: seed of the random number generator; all curves of equally many clips share its resamples.

    Returns:
        The figure.

    Raises:
        ValueError: the shapes do not agree.

    Example:
        >>> from captum_apex import figures
        >>> figure = figures.curves([0.0, 0.5, 1.0], {"APEX": [[0.9, 0.5, 0.1], [0.7, 0.3, 0.1]]})
        >>> figure.axes[0].get_legend().get_texts()[0].get_text()
        'APEX, area 0.43'
    """
    x = np.atleast_2d(as_array(fractions)).mean(0)  # (clip, point) → (point,)
    panel = single_panel(ax, 5.0, 3.4)
    for rank, (name, given) in enumerate(values.items()):
        y = as_array(given)
        if y.ndim != 2 or y.shape[1:] != x.shape or not len(y):
            raise ValueError(
                f"expected `values` of shape (clip, {len(x)}), a point for each fraction, but got {y.shape} for "
                f"{name!r}"
            )
        colour = _draw_line(panel, rank, x, y.mean(0), f"{name}, area {np.trapezoid(y.mean(0), x):.2f}")
        panel.fill_between(x, *bootstrap_interval(y, seed=seed), color=colour, alpha=0.18, linewidth=0)
    panel.set_xlim(x.min(), x.max())
    _finish(panel, xlabel, ylabel)
    return root(panel)


def _draw_steps(panel: Axes, explanation: Explanation, steps: Sequence[float]) -> None:
    """Bars that begin where the bar before ends, between the score without the layer and the whole score."""
    ends = explanation.score_without_layer + np.cumsum([0.0, *steps])
    lefts = [0.0, *ends[:-1], 0.0]
    widths = [explanation.score_without_layer, *steps, explanation.score]
    colours = [TOTAL, *(TOWARDS if step >= 0 else AGAINST for step in steps), TOTAL]
    rows = np.arange(len(widths))
    bars = panel.barh(rows, widths, left=lefts, color=colours, height=0.62)
    for row, (bar, width) in enumerate(zip(bars, widths, strict=True)):
        text = number(width, sign=0 < row < len(widths) - 1)
        end = (max(bar.get_x(), bar.get_x() + width), row)
        panel.annotate(text, end, (3, 0), textcoords="offset points", verticalalignment="center", fontsize=TINY)
    panel.vlines(ends, rows[:-1] - 0.31, rows[:-1] + 1.31, color="0.6", linewidth=0.7, zorder=0)


def _draw_line(panel: Axes, rank: int, x: NDArray, y: NDArray, name: str) -> str:
    colour = LINES[rank % len(LINES)]
    marker = MARKERS[rank % len(MARKERS)]
    every = max(1, len(x) // 12)
    panel.plot(x, y, color=colour, marker=marker, markevery=every, markersize=4, linewidth=1.5, label=encodable(name))
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
