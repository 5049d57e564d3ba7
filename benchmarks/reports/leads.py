"""Who is ahead, and whether that is more than chance: in numbers, and in figures that say it in their title."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks import statistics
from benchmarks.reports.figure_parts import DPI, FAMILY_COLOURS, MEASURED, WIDTH, name_methods, points, style
from benchmarks.reports.standings import can_lead, common, family, scores
from captum_apex.figures.colours import MARKERS

FEWEST = 3  # clips of a comparison
RANDOM = "random"
BESIDE = ("energy", RANDOM)
"""Controls that the figure of a run shows beside its best methods: the sound itself, and chance."""
LEAD_COLUMNS = ("regions", "first", "first_mean", "rival", "rival_mean", "lead", "low", "high", "clips")


def leads(rows: pd.DataFrame) -> pd.DataFrame:
    """The best APEX method that selects channels against the best other method, for each region grid.

    Both are the best on the clips, and among the methods, that have every fill. The mean over the fills is taken for
    each clip first, so that a clip counts once.

    Args:
        rows: rows of a run, as in `benchmarks.reports.standings.scores`.

    Returns:
        One line per region grid that has both: `regions`, the name of the grid; `first` and `first_mean`, the APEX
        method and its score; `rival` and `rival_mean`, the other one; `lead`, their difference, with its 95% interval
        `low`, `high`; the number of `clips`.
    """
    lines = []
    for grid, of_grid in rows.groupby("grid", sort=False):
        by_clip = _by_clip(of_grid)
        means = by_clip.mean().sort_values(ascending=False, kind="stable")
        of_apex = [name for name in means.index if family(name) == "APEX"]
        others = [name for name in means.index if family(name) != "APEX"]
        if not of_apex or not others or not len(by_clip):
            continue
        first = of_apex[0]
        rival = others[0]
        ends = statistics.interval((by_clip[first] - by_clip[rival]).to_numpy())
        lead = means[first] - means[rival]
        lines.append((str(grid), first, means[first], rival, means[rival], lead, *ends, len(by_clip)))
    return pd.DataFrame(lines, columns=list(LEAD_COLUMNS))


def best_figure(rows: pd.DataFrame, reference: str, title: str, added: Collection[str] = ()) -> Figure | None:
    """The best method of each family, the reference, the best added method and two controls: means over all cells.

    The heading says which method is ahead of the best one of another family, or that the two cannot be told apart: that
    the 95% interval of their difference has zero inside. Both were chosen on the clips on which they are compared.

    Args:
        rows: rows of a run, as in `benchmarks.reports.standings.scores`.
        reference: method that is always shown where it has scores.
        title: what was measured, written below the heading.
        added: methods of the user's own files, of which the best one is shown.

    Returns:
        The figure; None if no clip has the scores of two methods.
    """
    by_clip = _by_clip(rows)
    if by_clip.shape[1] < 2 or not len(by_clip):
        return None
    order = [str(name) for name in by_clip.mean().sort_values(ascending=False, kind="stable").index]
    families = [[name for name in order if family(name) == kind] for kind in ("APEX", "other methods")]
    best = [names[0] for names in (*families, [name for name in order if name in added]) if names]
    shown = [name for name in order if name in {*best, reference, *BESIDE}][::-1]
    values = by_clip[shown].mean()
    ends = pd.DataFrame([statistics.interval(by_clip[name].to_numpy()) for name in shown], index=shown)
    with style():
        figure = Figure(figsize=(WIDTH, 1.5 + 0.42 * len(shown)), dpi=DPI, layout="constrained")
        panel = figure.subplots()
        panel.axvline(0, color="0.6", linewidth=0.8)
        for place, name in enumerate(shown):
            low, high = ends.loc[[name]].to_numpy(dtype=float)[0]
            of_method = ([values[name]], [place], ([low], [high]), FAMILY_COLOURS[family(name)])
            points(panel, *of_method, markersize=8, linewidth=2)
            panel.annotate(f"{values[name]:.2f}", (high, place), (6, 0), textcoords="offset points", va="center")
        name_methods(panel, shown)
        panel.margins(x=0.1)
        panel.set_xlabel(f"{MEASURED}, mean over regions and fills, with 95% interval; higher is better")
        figure.suptitle(_heading(by_clip, order), fontweight="bold", fontsize=12)
        panel.set_title(f"{title}; the best of each family, chosen on these clips")
    return figure


def leads_figure(runs: Mapping[str, pd.DataFrame]) -> Figure | None:
    """The lead of the best APEX method over the best other method in several runs; the heading counts who is ahead.

    Args:
        runs: name of a run → its rows.

    Returns:
        A figure with a line for each run, and on it a point with its 95% interval for each region grid, in the colour
        of the family that is ahead; None if no run has methods to compare.
    """
    found = {name: lines for name, rows in runs.items() if len(lines := leads(rows))}
    if not found:
        return None
    together = pd.concat(found.values())
    grids = list(dict.fromkeys(together["regions"]))
    order = list(found)[::-1]
    with style():
        figure = Figure(figsize=(WIDTH, 2.2 + 0.45 * len(order)), dpi=DPI, layout="constrained")
        panel = figure.subplots()
        panel.axvline(0, color="0.3", linewidth=1)
        for place, name in enumerate(order):
            _draw_leads(panel, found[name].set_index("regions"), grids, place)
        panel.set_yticks(range(len(order)), order)
        panel.set_xlabel(f"← another method is ahead    {MEASURED}    APEX is ahead →")
        handles = [
            Line2D([], [], color="0.4", marker=MARKERS[k], linestyle="", label=f"{grid} regions")
            for k, grid in enumerate(grids)
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(grids), frameon=False)
        ahead = (together["low"] > 0).sum()
        behind = (together["high"] < 0).sum()
        counts = f"{ahead} of {len(together)} comparisons, another method in {behind}; the others cannot be told apart"
        figure.suptitle(f"APEX is ahead in {counts}", fontweight="bold", fontsize=12)
        panel.set_title("best APEX method − best other method, both chosen on these clips; with 95% interval")
    return figure


def _draw_leads(panel: Axes, lines: pd.DataFrame, grids: Sequence[str], place: int) -> None:
    """The leads of one run around a place on the y-axis, those of the first region grid on top."""
    for k, grid in enumerate(grids):
        if grid in lines.index:
            lead, low, high = lines.loc[[grid], ["lead", "low", "high"]].to_numpy(dtype=float)[0]
            colour = FAMILY_COLOURS["APEX" if low > 0 else "other methods" if high < 0 else "controls"]
            at = place + 0.22 * ((len(grids) - 1) / 2 - k)
            points(panel, [lead], [at], ([low], [high]), colour, MARKERS[k], markersize=6)


def _by_clip(rows: pd.DataFrame) -> pd.DataFrame:
    """Score of each clip and method, means over regions and fills, of the methods and clips that have all of these."""
    table = scores(rows)
    table = table[[name for name in table if can_lead(str(name))]]
    return common(table).groupby("clip").mean()


def _heading(by_clip: pd.DataFrame, order: list[str]) -> str:
    """Which method is ahead, or why that cannot be said; controls are no methods."""
    methods = [name for name in order if family(name) != "controls"]
    if len(by_clip) < FEWEST:
        return f"Fewer than {FEWEST} clips do not say which method is ahead"
    if not methods:
        return "Only controls were scored"
    if RANDOM in by_clip and not any(_is_ahead(by_clip[name] - by_clip[RANDOM]) for name in methods):
        return f"No method is shown to be better than {RANDOM} regions"
    if order[0] not in methods:
        return f"{order[0]}, a control, scores higher than every method"
    first = methods[0]
    rivals = [name for name in methods if family(name) != family(first)] or methods[1:]
    if not rivals:
        return f"{first} is the only method"
    difference = by_clip[first] - by_clip[rivals[0]]
    if not _is_ahead(difference):
        return f"{first} and {rivals[0]} cannot be told apart"
    return f"{first} is ahead of {rivals[0]} by {difference.mean():.2g}"


def _is_ahead(difference: pd.Series) -> bool:
    """Whether the 95% interval of the mean over clips lies above zero."""
    return statistics.interval(difference.to_numpy())[0] > 0
