"""Whether methods that are faithful by masking also lie on the known truth: correlations over methods, a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import rankdata

from benchmarks.reports.figure_parts import DPI, FAMILY_COLOURS, MEASURED, WIDTH, family_legend, points, style
from benchmarks.reports.labels import draw_labels
from benchmarks.reports.markup import NOTHING, between
from benchmarks.reports.standings import CELL, cells_of, family, scores
from captum_apex.figures.colours import LINES, MARKERS

TRUTHS: Mapping[str, str] = {"pointing": "pointing game", "relevance_mass": "relevance mass"}
"""Measures of a map against the truth: column of the rows → name."""
N_RESAMPLES = 1_000
FEWEST_METHODS = 10  # of a correlation in the figure
MOST_NAMES = 12  # in one panel
MOST_COLUMNS = 3  # of panels
OTHERS = ", others"  # end of the heads of columns without APEX, whose many rows are settings of one method
AGREEMENT_COLUMNS = (*CELL, "truth", "correlation", "low", "high", "methods", "clips")


def agreement(rows: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Spearman's rank correlation over methods, of insertion − deletion with a measure of the map against the truth.

    Both are means over the same clips: those with a known truth that all methods have. Controls (`standings.CONTROLS`)
    do not take part, and neither do methods without scores.

    Args:
        rows: rows of a run, as in `benchmarks.reports.standings.scores`.
        seed: seed of the resamples.

    Returns:
        One line per region grid, fill and measure of `TRUTHS`: `correlation`, in [−1, 1], with the middle 95% of
        `N_RESAMPLES` resamples of the clips, `low` and `high`; the numbers of `methods` and `clips`. No lines where no
        truth is known, or with fewer than three methods.
    """
    lines = []
    faithful = dict(cells_of(scores(rows)))
    for column, name in TRUTHS.items() if set(TRUTHS) <= set(rows) else ():
        for cell, truth in cells_of(scores(rows, column)):
            values, truths = _on_common_clips(faithful[cell], truth)
            if min(values.shape[1], len(values)) >= 3:
                numbers = _correlation(values.to_numpy(), truths.to_numpy(), seed)
                line = dict(zip(CELL, cell, strict=True)) | {"truth": name, **numbers}
                lines.append(line | {"methods": values.shape[1], "clips": len(values)})
    return pd.DataFrame(lines, columns=list(AGREEMENT_COLUMNS))


def agreement_table(runs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The correlations of `agreement` over all methods, and over those without APEX (`OTHERS`), as texts.

    Args:
        runs: name of a run → its rows.

    Returns:
        One line per run, region grid and fill. `methods` has the numbers of methods of the measures in `TRUTHS`, which
        differ where a map is nowhere positive in a clip.
    """
    lines = []
    for run, rows in runs.items():
        found = agreement(rows)
        others = agreement(_without_apex(rows))
        for cell, whole in found.groupby(CELL, sort=False):
            names = dict(zip(["regions", "fill"], map(str, cell), strict=True))
            same = others[(others[CELL] == list(cell)).all(axis=1)]
            entries = {**_entries(whole), **{f"{name}{OTHERS}": text for name, text in _entries(same).items()}}
            lines.append({"run": run, **names, **entries, "clips": str(whole["clips"].max())})
    return pd.DataFrame(lines)


def _without_apex(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["method"].map(family) != "APEX"]


def _entries(cell: pd.DataFrame) -> dict[str, str]:
    """The correlations of one region grid and fill with their intervals, and the numbers of methods."""
    by_truth = cell.set_index("truth")
    texts = {}
    numbers = {}
    for name in TRUTHS.values():
        known = name in by_truth.index
        texts[name] = between(*by_truth.loc[name, ["correlation", "low", "high"]]) if known else NOTHING
        numbers[name] = str(by_truth.loc[name, "methods"]) if known else NOTHING
    return {**texts, "methods": " / ".join(numbers.values())}


def picture(runs: Mapping[str, pd.DataFrame], grid: str = "square") -> Figure | None:
    """Each method's share of clips in which its map points at the truth, against its insertion − deletion.

    Args:
        runs: name of a run → its rows.
        grid: the region grid; the scores are means over its fills.

    Returns:
        A figure with a panel for each run with a known truth, and a point for each method; None where there is none.
    """
    found = {name: _means(rows[rows["grid"] == grid]) for name, rows in runs.items()}
    means = {name: methods for name, methods in found.items() if len(methods)}
    if not means:
        return None
    with style():
        n_rows = math.ceil(len(means) / MOST_COLUMNS)
        n_columns = min(len(means), MOST_COLUMNS)
        figure = Figure(figsize=(max(4.6 * n_columns, 6), 0.8 + 4 * n_rows), dpi=DPI, layout="constrained")
        panels = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True).flatten()
        for empty in panels[len(means) :]:
            empty.remove()
        for panel, (name, methods) in zip(panels, means.items(), strict=False):
            _draw(panel, methods, name)
        figure.supylabel("share of clips in which the map points at the truth", fontsize="medium")
        family_legend(figure)
        figure.suptitle(f"faithful by masking ({grid} regions, mean over fills) and on the sound")
        figure.draw_without_rendering()  # places the panels, so that labels can be measured
        figure.set_layout_engine("none")
        for panel, methods in zip(panels, means.values(), strict=False):
            draw_labels(panel, methods, _names(methods))
    return figure


def agreement_figure(runs: Mapping[str, pd.DataFrame]) -> Figure | None:
    """The correlations of scores with the pointing game in several runs; the heading counts their signs.

    The rows of APEX, most of which are settings of one method, do not take part: they would decide the sign.

    Args:
        runs: name of a run → its rows.

    Returns:
        A figure with a line for each run, and on it a point with its 95% interval for each region grid and fill; None
        where no run has a known truth and `FEWEST_METHODS` methods.
    """
    together = _with_many_methods(runs)
    if not len(together):
        return None
    order = list(dict.fromkeys(together["run"]))[::-1]
    kinds = list(dict.fromkeys(zip(together["fill"], together["grid"], strict=True)))
    fills, grids = (list(dict.fromkeys(names)) for names in zip(*kinds, strict=True))
    with style():
        figure = Figure(figsize=(WIDTH, 2.4 + 0.7 * len(order)), dpi=DPI, layout="constrained")
        panel = figure.subplots()
        panel.axvline(0, color="0.3", linewidth=1)
        for k, (fill, grid) in enumerate(kinds):
            lines = together[(together["fill"] == fill) & (together["grid"] == grid)]
            places = [order.index(name) + 0.7 * ((len(kinds) - 1) / 2 - k) / len(kinds) for name in lines["run"]]
            look = (LINES[fills.index(fill)], MARKERS[grids.index(grid)])
            ends = (lines["low"], lines["high"])
            points(panel, lines["correlation"], places, ends, *look, label=f"{fill}, {grid} regions")
        panel.set_yticks(range(len(order)), order)
        panel.set_xlabel("← methods that score higher point less at the sound    correlation    more →")
        figure.legend(loc="outside lower center", ncols=len(grids), frameon=False)
        above = (together["low"] > 0).sum()
        below = (together["high"] < 0).sum()
        counts = f"in {above} of {len(together)} cases, less in {below}"
        figure.suptitle(f"Methods that score higher point more at the sound {counts}", fontweight="bold", fontsize=12)
        least = together["methods"].min()
        most = together["methods"].max()
        methods = f"{least}" if least == most else f"{least} to {most}"
        panel.set_title(f"rank correlation over {methods} methods (without APEX), with 95% interval over clips")
    return figure


def _with_many_methods(runs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The correlations with the pointing game that `FEWEST_METHODS` methods other than APEX have, by run."""
    found = [agreement(_without_apex(rows)).assign(run=name) for name, rows in runs.items()]
    together = pd.concat(found, ignore_index=True).dropna(subset=["correlation"])
    return together[(together["truth"] == TRUTHS["pointing"]) & (together["methods"] >= FEWEST_METHODS)]


def _on_common_clips(values: pd.DataFrame, truths: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables (clip, method) without controls and without gaps.

    A clip counts if at least half of the methods have a truth in it; then the methods that have all of these clips do.
    """
    methods = [name for name in values if family(str(name)) != "controls"]
    present = values[methods].notna() & truths[methods].notna()
    scored = present.columns[present.any()]
    clips = present.index[present[scored].mean(axis=1) >= 0.5]
    whole = scored[present.loc[clips, scored].all()]
    return values.loc[clips, whole], truths.loc[clips, whole]


def _correlation(values: NDArray, truths: NDArray, seed: int) -> dict[str, float]:
    """The correlation over methods of two tables (clip, method), with its interval over clips."""
    generator = np.random.default_rng(seed)
    n_clips = len(values)
    counts = generator.multinomial(n_clips, np.full(n_clips, 1 / n_clips), size=N_RESAMPLES) / n_clips
    resampled = _spearman(counts @ values, counts @ truths)
    low, high = np.nanpercentile(resampled, [2.5, 97.5]) if np.isfinite(resampled).any() else (np.nan, np.nan)
    whole = _spearman(values.mean(0)[None], truths.mean(0)[None])[0]
    return {"correlation": float(whole), "low": float(low), "high": float(high)}


def _spearman(values: NDArray, truths: NDArray) -> NDArray:
    """Rank correlation of each pair of lines of two arrays (line, method); NaN where one is constant."""
    ranks = [rankdata(each.round(9), axis=1) for each in (values, truths)]
    first, second = (each - each.mean(1, keepdims=True) for each in ranks)
    with np.errstate(invalid="ignore"):
        return (first * second).sum(1) / np.sqrt((first**2).sum(1) * (second**2).sum(1))


def _means(rows: pd.DataFrame) -> pd.DataFrame:
    """Method → insertion − deletion and pointing game, means over the clips with a known truth, of each fill alike."""
    known = rows[np.isfinite(rows["pointing"])]
    values = {"score": scores(known), "pointing": scores(known, "pointing")}
    means = {name: table.groupby("fill").mean().mean() for name, table in values.items()}
    return pd.DataFrame(means).dropna()


def _draw(panel: Axes, methods: pd.DataFrame, name: str) -> None:
    for kind, colour in FAMILY_COLOURS.items():
        of_family = methods[methods.index.map(family) == kind]
        panel.scatter(of_family["score"], of_family["pointing"], s=22, color=colour)
    panel.set(title=name, xlabel=MEASURED, ylim=(-0.04, 1.04))
    panel.margins(x=0.12)
    panel.grid(color="0.94")
    panel.set_axisbelow(True)


def _names(methods: pd.DataFrame) -> list[str]:
    """The names that are written: the extremes of both measures, the most extreme first."""
    ranks = methods.rank(pct=True) - 0.5
    extremes = ranks.abs().max(axis=1) + (ranks["score"] - ranks["pointing"]).abs()
    return [str(name) for name in extremes.sort_values(ascending=False).index[:MOST_NAMES]]
