"""The figures of a run: scores with their intervals, mean curves, ranks, and scores against the price."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import zip_longest

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator
from numpy.typing import NDArray

from benchmarks.reports.figure_parts import (
    DPI,
    FAMILY_COLOURS,
    MEASURED,
    WIDTH,
    family_legend,
    name_methods,
    points,
    style,
)
from benchmarks.reports.labels import draw_labels
from benchmarks.reports.standings import (
    FAMILIES,
    MEASURE,
    ORACLE,
    can_lead,
    complete,
    family,
    front,
    is_control,
    standings,
)
from captum_apex.figures.colours import LINES as COLOURS
from captum_apex.figures.colours import MARKERS
from captum_apex.metrics import bootstrap_interval

Curve = tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.floating], NDArray[np.floating]]
MOST_METHODS = 32  # in one figure; more would not be legible
MOST_LABELS = 24  # in one panel
ADDED = "best of --add"  # role of the best method of the user's own files
ROLES = ("best of APEX", "best of other methods", "reference", "random", ORACLE, ADDED)


def leading(cells: pd.DataFrame, reference: str, most: int = MOST_METHODS, added: Collection[str] = ()) -> list[str]:
    """The methods that a figure shows, best first.

    If the run has too many, these are the reference, the methods of the user's own files, the controls that do not
    depend on APEX, and the best of the other two families in turn.

    Args:
        cells: result of `standings.summary`.
        reference: method that is always shown where it has scores.
        most: largest number of methods.
        added: methods of the user's own files.
    """
    order = _scored(cells)
    if len(order) <= most:
        return order
    chosen = [reference, *(name for name in order if name in added), *(name for name in order if is_control(name))]
    for grid in dict.fromkeys(cells["grid"]):
        chosen += best_of_families(_scored(cells[cells["grid"] == grid]))
    in_turn = zip_longest(*([name for name in order if family(name) == kind] for kind in FAMILIES[:2]))
    chosen += [name for names in in_turn for name in names if name is not None]
    chosen = list(dict.fromkeys(chosen))[:most]
    return [name for name in order if name in chosen]


def best_of_families(order: Sequence[str]) -> list[str]:
    """The first method of each family, in the order of `FAMILIES`.

    Example:
        >>> best_of_families(["energy", "APEX time", "Saliency", "APEX all"])
        ['APEX time', 'Saliency', 'energy']
    """
    first = {family(name): name for name in reversed(order)}
    return [first[kind] for kind in FAMILIES if kind in first]


def _scored(cells: pd.DataFrame) -> list[str]:
    return [str(name) for name in standings(cells)["mean"].dropna().index]


def scores(cells: pd.DataFrame, methods: Sequence[str], title: str) -> Figure:
    """Insertion − deletion AUC with 95% intervals: a panel per region grid, a colour and marker per fill.

    Args:
        cells: result of `standings.summary`.
        methods: the methods to show, best first.
        title: title of the figure.
    """
    grids = list(dict.fromkeys(cells["grid"]))
    fills = list(dict.fromkeys(cells["fill"]))
    order = list(methods)[::-1]
    with style():
        figure = Figure(
            figsize=(max(3.4 + 2.9 * len(grids), WIDTH), 2.1 + 0.3 * len(order)), dpi=DPI, layout="constrained"
        )
        panels = figure.subplots(1, len(grids), sharey=True, squeeze=False)[0]
        for panel, grid in zip(panels, grids, strict=True):
            panel.axvline(0, color="0.6", linewidth=0.8)
            for k, fill in enumerate(fills):
                lines = cells[(cells["grid"] == grid) & (cells["fill"] == fill)].set_index("method").reindex(order)
                places = np.arange(len(order)) - 0.72 / len(fills) * (k - (len(fills) - 1) / 2)  # the first fill on top
                ends = (lines["low"], lines["high"])
                points(panel, lines[MEASURE], places, ends, COLOURS[k % 7], MARKERS[k % 7], label=fill)
            panel.set(title=f"{grid} regions", xlabel=MEASURED)
            panel.grid(axis="y", color="0.92")
            panel.set_axisbelow(True)
        name_methods(panels[0], order)
        handles = panels[0].get_legend_handles_labels()
        figure.legend(*handles, title="fill", loc="outside lower center", ncols=len(fills), frameon=False)
        figure.suptitle(f"{title}\nmean over clips with 95% interval; APEX in bold, controls in italics")
    return figure


def ranks(ranked: Mapping[str, pd.DataFrame], methods: Sequence[str], title: str) -> Figure:
    """Mean ranks with 95% intervals, a panel per region grid, each in the order of its ranks.

    Args:
        ranked: name of the region grid → result of `standings.average_ranks`.
        methods: the methods to show; the ranks are those among all methods.
        title: title of the figure.
    """
    drawn = {grid: lines[lines["method"].isin(methods)].iloc[::-1] for grid, lines in ranked.items()}
    tallest = max((len(lines) for lines in drawn.values()), default=0)
    with style():
        figure = Figure(figsize=(max(5 * len(drawn), WIDTH), 2 + 0.2 * tallest), dpi=DPI, layout="constrained")
        panels = figure.subplots(1, max(len(drawn), 1), squeeze=False)[0]
        for panel, (grid, lines) in zip(panels, drawn.items(), strict=False):
            for kind, colour in FAMILY_COLOURS.items():
                places = np.flatnonzero(lines["method"].map(family) == kind)
                of_family = lines.iloc[places]
                points(panel, of_family["rank"], places, (of_family["low"], of_family["high"]), colour)
            clips = int(ranked[grid]["clips"].max()) if len(lines) else 0
            counts = f"{len(ranked[grid])} methods, {clips} clips"
            panel.set(title=f"{grid} regions\n{counts}", xlabel="mean rank, 1 is best")
            panel.set_xlim(left=0)
            name_methods(panel, list(lines["method"]))
        family_legend(figure)
        figure.suptitle(f"{title}\nmean rank over clips and fills with 95% interval; the greedy oracle is not ranked")
    return figure


def curves(rows: pd.DataFrame, methods_by_role: Mapping[str, Mapping[str, str]], title: str) -> Figure:
    """Mean deletion and insertion curves with 95% bands, a column of panels per region grid.

    A clip's curves are averaged over the fills first. The curves of a panel are those of the clips that all its methods
    have.

    Args:
        rows: rows of a run.
        methods_by_role: name of the region grid → role → method, see `roles`; a role has the same colour in all panels.
        title: title of the figure.
    """
    n_grids = len(methods_by_role)
    with style():
        figure = Figure(figsize=(max(4.6 * n_grids, WIDTH), 7.4), dpi=DPI, layout="constrained")
        panels = figure.subplots(3, max(n_grids, 1), squeeze=False, height_ratios=[1, 1, 0.38])
        for (grid, methods), column in zip(methods_by_role.items(), panels.T, strict=False):
            curves_of, n_clips = mean_curves(rows[rows["grid"] == grid], list(dict.fromkeys(methods.values())))
            for panel, name in zip(column, ("deletion", "insertion"), strict=False):
                for method, curve in curves_of.items():
                    _curve(panel, curve[name], method, [role for role in methods if methods[role] == method])
                panel.set(xlim=(0, 1), ylim=(0, 1), ylabel="probability")
            column[0].set(title=f"{grid} regions, {n_clips} clips", xlabel="share removed, the most relevant first")
            column[1].set(xlabel="share shown, the most relevant first")
            column[2].legend(*column[0].get_legend_handles_labels(), loc="upper center", frameon=False)
        for empty in panels[2]:
            empty.axis("off")
        about = (
            "deletion (above, lower is better) and insertion (below, higher is better), mean over fills with 95% bands"
        )
        figure.suptitle(f"{title}\n{about}")
    return figure


def roles(cells: pd.DataFrame, reference: str, added: Collection[str] = ()) -> dict[str, dict[str, str]]:
    """Grid → role → method: the methods with scores for which curves are drawn.

    Args:
        cells: result of `standings.summary`.
        reference: method that the others are compared with.
        added: methods of the user's own files, the best of which has a role.
    """
    methods_by_role = {}
    for grid in dict.fromkeys(cells["grid"]):
        order = _scored(cells[cells["grid"] == grid])
        best = {f"best of {family(name)}": name for name in best_of_families(order)}
        candidates = {**best, "reference": reference, "random": "random", ORACLE: ORACLE}
        candidates |= {ADDED: next((name for name in order if name in added), "")}
        methods_by_role[grid] = {role: candidates[role] for role in ROLES if candidates.get(role) in order}
    return methods_by_role


def _curve(panel: Axes, curve: Curve, method: str, method_roles: Sequence[str]) -> None:
    x, middle, low, high = curve
    k = ROLES.index(method_roles[0])
    other_names = [role for role in method_roles if role != method]
    label = f"{method} ({', '.join(other_names)})" if other_names else method
    panel.plot(x, middle, color=COLOURS[k], marker=MARKERS[k], markersize=4, label=label)
    panel.fill_between(x, low, high, color=COLOURS[k], alpha=0.15, linewidth=0)


def mean_curves(rows: pd.DataFrame, methods: Sequence[str]) -> tuple[dict[str, dict[str, Curve]], int]:
    """Mean curves over the clips that all methods have with every fill that counts (see `standings.common`).

    Args:
        rows: rows of one region grid.
        methods: names of the methods; those that lack a fill are left out.

    Returns:
        Method → "deletion" or "insertion" → (fraction, mean, low, high), each (point,); and the number of clips.
    """
    rows = rows[rows["method"].isin(methods) & (rows["clip"] >= 0)]
    rows = rows.dropna(subset=["fraction", "deletion_curve", "insertion_curve"])
    fills, whole = complete(rows.groupby(["fill", "method"]).size().unstack().notna())
    present = [name for name in methods if name in whole]
    rows = rows[rows["fill"].isin(fills) & rows["method"].isin(present)]
    times = rows.groupby("clip").size()
    clips = times.index[times == len(present) * len(fills)]
    rows = rows[rows["clip"].isin(clips)]
    if not len(rows):
        return {}, 0
    fractions = _numbers(rows["fraction"])
    common = _common_fractions(fractions)
    curves_of: dict[str, dict[str, Curve]] = {name: {} for name in present}
    for name in ("deletion", "insertion"):
        values = [np.interp(common, x, y) for x, y in zip(fractions, _numbers(rows[f"{name}_curve"]), strict=True)]
        over_fills = pd.DataFrame(values, index=[rows["method"], rows["clip"]]).groupby(level=[0, 1]).mean()
        for method in present:
            by_clip = over_fills.loc[method].to_numpy()  # (clip, point)
            curves_of[method][name] = (common, by_clip.mean(0), *bootstrap_interval(by_clip))
    return curves_of, len(clips)


def price(cells: pd.DataFrame, reference: str, title: str) -> Figure:
    """Scores against the price of the explanation in forward passes, a panel per region grid, with the Pareto front.

    Scores are means over the fills; methods that lack a fill are left out. The greedy oracle and APEX with all
    channels are drawn, but they do not count for the front.

    Args:
        cells: result of `standings.summary`.
        reference: method that is drawn as a star.
        title: title of the figure.
    """
    grids = list(dict.fromkeys(cells["grid"]))
    with style():
        figure = Figure(figsize=(11, 0.8 + 4.6 * len(grids)), dpi=DPI, layout="constrained")
        panels = figure.subplots(len(grids), 1, squeeze=False)[:, 0]
        priced = [_priced(cells[cells["grid"] == grid]) for grid in grids]
        for panel, grid, methods in zip(panels, grids, priced, strict=True):
            _draw_prices(panel, methods, reference)
            panel.set(title=f"{grid} regions", ylabel=MEASURED, xlabel="forward passes per clip")
        star = Line2D([], [], color="0.2", marker="*", markersize=9, linestyle="", label=f"reference: {reference}")
        family_legend(figure, star, Line2D([], [], color="0.75", label="nothing costs less and scores more"))
        figure.suptitle(f"{title}\nmean over fills; names as far as there is room")
        figure.draw_without_rendering()  # places the panels, so that labels can be measured
        figure.set_layout_engine("none")
        for panel, methods in zip(panels, priced, strict=True):
            draw_labels(panel, methods[["passes", "mean"]], _label_order(methods, reference))
    return figure


def _priced(cells: pd.DataFrame) -> pd.DataFrame:
    """Method → passes, mean, on_front; best first."""
    means = standings(cells)
    passes = cells.groupby("method")["passes"].mean()
    methods = means[means["complete"]].join(passes).dropna(subset=["passes", "mean"])
    in_front = np.array([can_lead(str(name)) for name in methods.index], dtype=bool)
    return methods.assign(on_front=front(methods["passes"], methods["mean"].where(in_front)))


def _draw_prices(panel: Axes, methods: pd.DataFrame, reference: str) -> None:
    panel.set_xscale("symlog", linthresh=1, linscale=0.4)  # the price of some methods is zero
    edge = methods[methods["on_front"]].sort_values("passes")
    panel.plot(edge["passes"], edge["mean"], color="0.75", drawstyle="steps-post", zorder=1)
    names = methods.index
    special = names.isin([reference, ORACLE])
    for kind, colour in FAMILY_COLOURS.items():
        of_family = methods[(names.map(family) == kind) & ~special]
        panel.scatter(of_family["passes"], of_family["mean"], s=26, color=colour, zorder=2)
    oracle = methods[names == ORACLE]
    star = methods[names == reference]
    grey = FAMILY_COLOURS["controls"]
    panel.scatter(oracle["passes"], oracle["mean"], s=26, facecolor="none", edgecolor=grey, zorder=2)
    panel.scatter(star["passes"], star["mean"], s=80, marker="*", color=FAMILY_COLOURS[family(reference)], zorder=3)
    most = methods["passes"].max() if len(methods) else 1
    panel.set_xlim(-0.25, max(10.0, 3 * most))
    panel.margins(y=0.12)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.grid(color="0.94")
    panel.set_axisbelow(True)


def _label_order(methods: pd.DataFrame, reference: str) -> list[str]:
    """The names that are written, the most important ones first."""
    order = [str(name) for name in methods.index]
    controls = [name for name in order if is_control(name)]
    first = [*methods.index[methods["on_front"]], reference, ORACLE, *best_of_families(order), *controls, *order]
    return [name for name in dict.fromkeys(first) if name in order][:MOST_LABELS]


def _numbers(column: pd.Series) -> list[NDArray[np.floating]]:
    """Curves as texts, as in the rows → (point,) of each row."""
    return [np.array(text.split(), dtype=float) for text in column]


def _common_fractions(fractions: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
    """Where the mean curve has its points: the mean of the points of all curves, or even steps if their numbers differ.

    Where regions differ in size, the shares of the clip differ from clip to clip; the number of points differs where a
    clip has fewer regions than a curve has points.
    """
    most = max(map(len, fractions))
    if all(len(each) == most for each in fractions):
        return np.mean(fractions, axis=0)
    return np.linspace(0, 1, most)
