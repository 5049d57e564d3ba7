"""A run's pictures: scores with their intervals, mean curves, ranks, and faithfulness against its price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import zip_longest

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator
from numpy.typing import NDArray

from benchmarks.reports.labels import draw_labels
from benchmarks.reports.standings import FAMILIES, MEASURE, ORACLE, complete, family, front, standings
from benchmarks.statistics import intervals
from captum_apex.figures.colours import LINES as COLOURS
from captum_apex.figures.colours import MARKERS, TOTAL

FAMILY_COLOURS = dict(zip(FAMILIES, (COLOURS[0], COLOURS[1], TOTAL), strict=True))
Curve = tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]
DPI = 130
WIDTH = 9.0  # in inches, at least: titles need it
MEASURED = "insertion − deletion AUC"
MOST_METHODS = 32  # in one figure: more could not be read
MOST_LABELS = 24  # in one panel
ROLES = ("best of APEX", "best of other methods", "reference", "random", ORACLE)


def leading(cells: pd.DataFrame, reference: str, most: int = MOST_METHODS) -> list[str]:
    """The methods that a figure shows, best first: all, or the reference, the controls and the best of the other two families in turn.

    Args:
        cells: of `statistics.summary`.
        reference: always shown where it has scores.
        most: how many.
    """
    order = _scored(cells)
    if len(order) <= most:
        return order
    kept = [reference, *(name for name in order if family(name) == "controls")]
    for grid in dict.fromkeys(cells["grid"]):
        kept += best_of_families(_scored(cells[cells["grid"] == grid]))
    in_turn = zip_longest(*([name for name in order if family(name) == kind] for kind in FAMILIES[:2]))
    kept += [name for names in in_turn for name in names if name is not None]
    kept = list(dict.fromkeys(kept))[:most]
    return [name for name in order if name in kept]


def best_of_families(order: Sequence[str]) -> list[str]:
    """The first of each family, the families in their order.

    >>> best_of_families(["energy", "APEX time", "Saliency", "APEX all"])
    ['APEX time', 'Saliency', 'energy']
    """
    first = {family(name): name for name in reversed(order)}
    return [first[kind] for kind in FAMILIES if kind in first]


def _scored(cells: pd.DataFrame) -> list[str]:
    return [str(name) for name in standings(cells)["mean"].dropna().index]


def scores(cells: pd.DataFrame, methods: Sequence[str], title: str) -> Figure:
    """Insertion − deletion AUC with 95% intervals, a panel per grid, a colour and a marker per fill; the best method on top.

    Args:
        cells: of `statistics.summary`.
        methods: those shown, best first.
        title: of the figure.
    """
    grids, fills, order = list(dict.fromkeys(cells["grid"])), list(dict.fromkeys(cells["fill"])), list(methods)[::-1]
    with _style():
        figure = Figure(
            figsize=(max(3.4 + 2.9 * len(grids), WIDTH), 2.1 + 0.3 * len(order)), dpi=DPI, layout="constrained"
        )
        panels = figure.subplots(1, len(grids), sharey=True, squeeze=False)[0]
        for panel, grid in zip(panels, grids, strict=True):
            panel.axvline(0, color="0.6", linewidth=0.8)
            for k, fill in enumerate(fills):
                part = cells[(cells["grid"] == grid) & (cells["fill"] == fill)].set_index("method").reindex(order)
                places = np.arange(len(order)) - 0.72 / len(fills) * (k - (len(fills) - 1) / 2)  # the first fill on top
                _points(
                    panel, part[MEASURE], places, part["low"], part["high"], COLOURS[k % 7], MARKERS[k % 7], label=fill
                )
            panel.set(title=f"{grid} regions", xlabel=MEASURED)
            panel.grid(axis="y", color="0.92")
            panel.set_axisbelow(True)
        _name(panels[0], order)
        figure.legend(
            *panels[0].get_legend_handles_labels(),
            title="fill",
            loc="outside lower center",
            ncols=len(fills),
            frameon=False,
        )
        figure.suptitle(f"{title}\nmean over clips with 95% interval; APEX in bold, controls in italics")
    return figure


def ranks(found: Mapping[str, pd.DataFrame], methods: Sequence[str], title: str) -> Figure:
    """Mean ranks with 95% intervals, a panel per grid, each in its own order; where intervals are apart, the order is hardly chance.

    Args:
        found: grid → `statistics.average_ranks`.
        methods: those shown; the ranks are among all.
        title: of the figure.
    """
    parts = {grid: part[part["method"].isin(methods)].iloc[::-1] for grid, part in found.items()}
    tallest = max((len(part) for part in parts.values()), default=0)
    with _style():
        figure = Figure(figsize=(max(5 * len(parts), WIDTH), 2 + 0.2 * tallest), dpi=DPI, layout="constrained")
        panels = figure.subplots(1, max(len(parts), 1), squeeze=False)[0]
        for panel, (grid, part) in zip(panels, parts.items(), strict=False):
            for kind, colour in FAMILY_COLOURS.items():
                places = np.flatnonzero(part["method"].map(family) == kind)
                own = part.iloc[places]
                _points(panel, own["rank"], places, own["low"], own["high"], colour, "o")
            clips = int(found[grid]["clips"].max()) if len(part) else 0
            panel.set(title=f"{grid} regions\n{len(found[grid])} methods, {clips} clips", xlabel="mean rank, 1 is best")
            panel.set_xlim(left=0)
            _name(panel, list(part["method"]))
        _legend(figure)
        figure.suptitle(f"{title}\nmean rank over clips and fills with 95% interval; the greedy oracle is not ranked")
    return figure


def curves(rows: pd.DataFrame, shown: Mapping[str, Mapping[str, str]], title: str) -> Figure:
    """Mean deletion and insertion curves with 95% bands, a column per grid.

    A clip's curves are averaged over the fills first. The curves of a panel are of the clips that all its methods have.

    Args:
        rows: of a run.
        shown: grid → role → method, see `roles`; a role has the same colour everywhere.
        title: of the figure.
    """
    with _style():
        figure = Figure(figsize=(max(4.6 * len(shown), WIDTH), 7.4), dpi=DPI, layout="constrained")
        panels = figure.subplots(3, max(len(shown), 1), squeeze=False, height_ratios=[1, 1, 0.38])
        for (grid, methods), column in zip(shown.items(), panels.T, strict=False):
            found, n_clips = mean_curves(rows[rows["grid"] == grid], list(dict.fromkeys(methods.values())))
            for panel, name in zip(column, ("deletion", "insertion"), strict=False):
                for method, curve in found.items():
                    _curve(panel, curve[name], method, [role for role in methods if methods[role] == method])
                panel.set(xlim=(0, 1), ylim=(0, 1), ylabel="probability")
            column[0].set(title=f"{grid} regions, {n_clips} clips", xlabel="share removed, the most relevant first")
            column[1].set(xlabel="share shown, the most relevant first")
            column[2].legend(*column[0].get_legend_handles_labels(), loc="upper center", frameon=False)
        for empty in panels[2]:
            empty.axis("off")
        figure.suptitle(
            f"{title}\ndeletion (above, lower is better) and insertion (below, higher is better), mean over fills with 95% bands"
        )
    return figure


def roles(cells: pd.DataFrame, reference: str) -> dict[str, dict[str, str]]:
    """Grid → role → method: whose curves are shown, where they have scores.

    Args:
        cells: of `statistics.summary`.
        reference: method that the others are compared with.
    """
    found = {}
    for grid in dict.fromkeys(cells["grid"]):
        order = _scored(cells[cells["grid"] == grid])
        best = {f"best of {family(name)}": name for name in best_of_families(order)}
        wanted = {**best, "reference": reference, "random": "random", ORACLE: ORACLE}
        found[grid] = {role: wanted[role] for role in ROLES if wanted.get(role) in order}
    return found


def _curve(panel: Axes, curve: Curve, method: str, own: Sequence[str]) -> None:
    x, middle, low, high = curve
    k = ROLES.index(own[0])
    told = [role for role in own if role != method]
    label = f"{method} ({', '.join(told)})" if told else method
    panel.plot(x, middle, color=COLOURS[k], marker=MARKERS[k], markersize=4, label=label)
    panel.fill_between(x, low, high, color=COLOURS[k], alpha=0.15, linewidth=0)


def mean_curves(rows: pd.DataFrame, methods: Sequence[str]) -> tuple[dict[str, dict[str, Curve]], int]:
    """Mean curves over the clips that all methods have with every fill that counts (see `statistics.common`).

    Args:
        rows: of one grid.
        methods: those wanted; the ones that lack a fill are left out.

    Returns:
        method → deletion and insertion → (fraction, mean, low, high), each (point,); and the number of clips.
    """
    part = rows[rows["method"].isin(methods) & (rows["clip"] >= 0)].dropna(
        subset=["fraction", "deletion_curve", "insertion_curve"]
    )
    fills, whole = complete(part.groupby(["fill", "method"]).size().unstack().notna())
    present = [name for name in methods if name in whole]
    part = part[part["fill"].isin(fills) & part["method"].isin(present)]
    times = part.groupby("clip").size()
    clips = times.index[times == len(present) * len(fills)]
    part = part[part["clip"].isin(clips)]
    if not len(part):
        return {}, 0
    fractions = _numbers(part["fraction"])
    common = fractions.mean(0)  # where regions differ in size, the shares differ from clip to clip
    found: dict[str, dict[str, Curve]] = {name: {} for name in present}
    for name in ("deletion", "insertion"):
        values = [np.interp(common, x, y) for x, y in zip(fractions, _numbers(part[f"{name}_curve"]), strict=True)]
        frame = pd.DataFrame(values, index=[part["method"], part["clip"]]).groupby(level=[0, 1]).mean()  # over fills
        for method in present:
            own = frame.loc[method].to_numpy()  # (clip, point)
            found[method][name] = (common, own.mean(0), *intervals(own))
    return found, len(clips)


def price(cells: pd.DataFrame, reference: str, title: str) -> Figure:
    """Faithfulness against the price of the explanation in forward passes, a panel per grid, with the front that nothing beats.

    The mean over the fills; methods that lack a fill are left out. The greedy oracle is drawn, but it is not on the front.

    Args:
        cells: of `statistics.summary`.
        reference: drawn as a star.
        title: of the figure.
    """
    grids = list(dict.fromkeys(cells["grid"]))
    with _style():
        figure = Figure(figsize=(11, 0.8 + 4.6 * len(grids)), dpi=DPI, layout="constrained")
        panels = figure.subplots(len(grids), 1, squeeze=False)[:, 0]
        points = [_priced(cells[cells["grid"] == grid]) for grid in grids]
        for panel, grid, part in zip(panels, grids, points, strict=True):
            _draw_prices(panel, part, reference)
            panel.set(title=f"{grid} regions", ylabel=MEASURED, xlabel="forward passes per clip")
        star = Line2D([], [], color="0.2", marker="*", markersize=9, linestyle="", label=f"reference: {reference}")
        _legend(figure, star, Line2D([], [], color="0.75", label="nothing costs less and scores more"))
        figure.suptitle(f"{title}\nmean over fills; names as far as there is room")
        figure.draw_without_rendering()  # places the panels, so that labels can be measured
        figure.set_layout_engine("none")
        for panel, part in zip(panels, points, strict=True):
            draw_labels(panel, part[["passes", "mean"]], _by_interest(part, reference))
    return figure


def _priced(cells: pd.DataFrame) -> pd.DataFrame:
    """Method → passes, mean, on_front; best first."""
    found = standings(cells)
    part = found[found["complete"]].join(cells.groupby("method")["passes"].mean()).dropna(subset=["passes", "mean"])
    judged = part["mean"].where(part.index != ORACLE)
    return part.assign(on_front=front(part["passes"], judged))


def _draw_prices(panel: Axes, part: pd.DataFrame, reference: str) -> None:
    panel.set_xscale("symlog", linthresh=1, linscale=0.4)  # some cost nothing
    edge = part[part["on_front"]].sort_values("passes")
    panel.plot(edge["passes"], edge["mean"], color="0.75", drawstyle="steps-post", zorder=1)
    names = part.index
    special = names.isin([reference, ORACLE])
    for kind, colour in FAMILY_COLOURS.items():
        own = part[(names.map(family) == kind) & ~special]
        panel.scatter(own["passes"], own["mean"], s=26, color=colour, zorder=2)
    bound, star = part[names == ORACLE], part[names == reference]
    panel.scatter(
        bound["passes"], bound["mean"], s=26, facecolor="none", edgecolor=FAMILY_COLOURS["controls"], zorder=2
    )
    panel.scatter(star["passes"], star["mean"], s=80, marker="*", color=FAMILY_COLOURS[family(reference)], zorder=3)
    most = part["passes"].max() if len(part) else 1
    panel.set_xlim(-0.25, max(10.0, 3 * most))
    panel.margins(y=0.12)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.grid(color="0.94")
    panel.set_axisbelow(True)


def _by_interest(part: pd.DataFrame, reference: str) -> list[str]:
    """Whose names a reader looks for first."""
    order = [str(name) for name in part.index]
    controls = [name for name in order if family(name) == "controls"]
    first = [*part.index[part["on_front"]], reference, ORACLE, *best_of_families(order), *controls, *order]
    return [name for name in dict.fromkeys(first) if name in order][:MOST_LABELS]


def _style() -> AbstractContextManager[None]:
    return mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})


def _points(
    panel: Axes,
    values: pd.Series,
    places: NDArray,
    low: pd.Series,
    high: pd.Series,
    colour: str,
    marker: str,
    label: str = "",
) -> None:
    errors = np.maximum(0, [values - low, high - values])  # rounding can put an end on the wrong side
    panel.errorbar(
        values, places, xerr=errors, fmt=marker, markersize=4, linewidth=1, color=colour, label=label or None
    )


def _name(panel: Axes, methods: Sequence[str]) -> None:
    """One line per method, from below; APEX in bold, controls in italics."""
    panel.set_yticks(range(len(methods)), methods)
    for text, name in zip(panel.get_yticklabels(), methods, strict=True):
        text.set(
            fontweight="bold" if family(name) == "APEX" else "normal",
            fontstyle="italic" if family(name) == "controls" else "normal",
        )
    panel.set_ylim(-0.6, len(methods) - 0.4)
    panel.grid(axis="y", color="0.92")
    panel.set_axisbelow(True)


def _legend(figure: Figure, *more: Line2D) -> None:
    handles = [
        Line2D([], [], color=colour, marker="o", markersize=4, linestyle="", label=kind)
        for kind, colour in FAMILY_COLOURS.items()
    ]
    figure.legend(handles=(handles := [*handles, *more]), loc="outside lower center", ncols=len(handles), frameon=False)


def _numbers(column: pd.Series) -> NDArray[np.floating]:
    """Curves as they stand in the rows → (row, point)."""
    return np.array([text.split() for text in column], dtype=float)
