"""The sections of a run's report."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.reports import standings
from benchmarks.reports.markup import NOTHING, Section, betweens, number, probability, significant
from benchmarks.reports.standings import CELL, KEYS, LOWER_IS_BETTER, MEASURE

NAMED = ("task", "network", "layer", "seed", "device", "part", "clips", "points", "sensitivity", "limit", "reference")
FLAGS = {name: f"--{name}" for name in NAMED}
FLAGS |= {"grids": "--grid", "fills": "--fill", "methods": "--methods"}
LEVEL = 0.05
OUTCOMES = {"better": 1, "no difference": 0, "worse": -1}
MOST_COLUMNS = 12  # of numbers in one table
SCORE = "insertion − deletion AUC of the predicted class's probability, higher is better"
TABLES = {  # that a run may have beside its rows: title, explanation
    "evidence.csv": (
        "Evidence per channel",
        "The n channels that contribute most, removed at the layer, or kept while all others are removed: the predicted class's "
        "probability before and after, and how much it fell.",
    ),
    "purity.csv": (
        "Purity",
        "Mean purity of the prototypes' peaks in the raw channels and in fitted bases; the invertible one's condition.",
    ),
    "truth.csv": (
        "Where the evidence is",
        "Share of clips in which the place that a scheme points at meets the truth: the strongest channel's region, the enlarged map, the "
        "map through Integrated Gradients, and a random place of the same shape.",
    ),
    "masking_test.csv": (
        "Masking test",
        "How much the predicted class's probability falls when the explanation's region is masked, against a random region of the same "
        "size and shape.",
    ),
    "invariance.csv": ("Output invariance", "The model as it is, and with the basis and its inverse inside."),
}
ABOUT_WINNERS = (
    f"{SCORE}. The best method in each perspective, against the best one of another family (APEX, other methods, controls), on the clips "
    "that all scored methods have; the greedy oracle does not take part. Both were chosen on the clips that they are compared on, so the "
    "intervals and p-values (Wilcoxon, not corrected) are somewhat too kind to the winner."
)
ABOUT_SCORES = (
    f"{SCORE}: means over clips, with 95% bootstrap intervals over clips. Methods are in the order of their mean over cells; those marked "
    "“partly” lack a cell that most methods have, and stand below, for their mean is one over other cells."
)
ABOUT_RANKS = (
    "Mean rank over clips and fills, 1 is best, among the methods that have every fill of a grid, on the clips that all of these have; a "
    "clip counts once. 95% bootstrap intervals over clips. The greedy oracle is not ranked."
)
ABOUT_COMPARISON = (
    "Score − score of {} on the clips that both have: mean with 95% interval; p of Wilcoxon's signed-rank test (zeros by Pratt), corrected "
    "by Holm for the methods of the same regions and fill; clips won / tied / lost. Each regions and fill is a question of its own: who "
    "looks through all of them for one that is significant should ask for a smaller p. Coverage: share of the run's clips that the method "
    "has."
)
ABOUT_SHARES = (
    "The greedy oracle asks the model for the best next region: hardly any order scores more. Share of its score that a method reaches, on "
    "the clips that both have."
)
ABOUT_MEASURES = "Means over clips and cells; ↑ higher is better, ↓ lower is better. “Partly” as above."
ABOUT_PRICE = (
    "What an explanation of one clip costs by itself: forward passes of the model (its arithmetic over that of one pass), the most memory "
    "that tensors held at one time, and time. Passes and memory are counted on one clip. Time is that of the run, where methods that can "
    "share their passes did; it depends on the machine and on what else it did."
)
ABOUT_STATUSES = (
    "Every cell whose status is not ok, with the reason as it came. Nothing was put in place of what is missing."
)


def about_run(settings: Mapping[str, Any]) -> Section:
    """The settings of the run."""
    lines = [
        (name, _listed(value))
        for name, value in settings.items()
        if name != "command" and value not in (None, {}, [], "")
    ]
    typed: list[str] = []
    for name, flag in FLAGS.items():
        value = settings.get(name)
        typed += [] if value is None else [flag, *map(str, value if isinstance(value, list) else [value])]
    code = settings.get("command") or shlex.join(["python", "-m", "benchmarks", "run", *typed])
    return Section("What was run", [], {"Settings": pd.DataFrame(lines, columns=["what", "value"])}, code=code)


def _listed(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return (
        "; ".join(map(str, value))
        if isinstance(value, list)
        else significant(value)
        if isinstance(value, float)
        else str(value)
    )


def winners_section(won: pd.DataFrame) -> Section:
    """The best method in each perspective."""
    if not len(won):
        return Section("Who leads", ["Nothing was scored on clips that the methods have in common."])
    lead = betweens(won, ("difference", "difference_low", "difference_high"), 3)
    frame = won.assign(score=betweens(won, ("mean", "low", "high")), lead=lead, p=won["p"].map(probability))
    frame["its score"] = won["rival_mean"].map(number)
    named = {"grid": "regions", "method": "best", "rival": "best of another family", "rival_family": "its family"}
    shown = [
        "regions",
        "fill",
        "best",
        "family",
        "score",
        "best of another family",
        "its family",
        "its score",
        "lead",
        "p",
        "clips",
    ]
    return Section(
        "Who leads", [ABOUT_WINNERS], {"Winners": frame.rename(columns=named)[shown].astype(object).fillna(NOTHING)}
    )


def scores_section(cells: pd.DataFrame) -> Section:
    """Mean scores of all methods."""
    wide = wide_table(cells, [number(value, 3) for value in cells[MEASURE]])
    wide.insert(0, ("mean", ""), [number(value, 3) for value in standings.standings(cells)["mean"]])
    wide.insert(1, ("clips", ""), cells.groupby("method")["clips"].max())
    tables = {"Mean scores": _named(wide, cells), **_by_grid(cells, betweens(cells), "{} regions, with 95% intervals")}
    return Section("Scores", [ABOUT_SCORES], tables, picture="scores.png")


def ranks_section(ranked: Mapping[str, pd.DataFrame], cells: pd.DataFrame) -> Section:
    """Mean ranks of all methods."""
    lines = pd.concat(
        [part.assign(grid=grid, entry=betweens(part, ("rank", "low", "high"), 1)) for grid, part in ranked.items()]
    )
    if not len(lines):
        return Section("Ranks")
    wide = lines.pivot(index="method", columns="grid", values="entry").reindex(columns=list(ranked)).fillna(NOTHING)
    order = [name for name in standings.standings(cells).index if name in wide.index]
    return Section(
        "Ranks", [ABOUT_RANKS], {"Mean ranks by regions": _named(wide.loc[order], cells)}, picture="ranks.png"
    )


def comparison_section(compared: pd.DataFrame, reference: str) -> Section:
    """Every method against the reference method."""
    title = f"Against {reference}"
    if not len(compared) or not compared["clips"].any():
        return Section(
            title,
            [
                f"There is nothing to compare: {reference}, the reference method, or all others have no scores in this run."
            ],
        )
    lead = np.where(
        compared["p_holm"] < LEVEL, np.sign(compared["difference"]), np.where(compared["clips"] > 0, 0, np.nan)
    )
    counts = pd.DataFrame(
        {name: pd.Series(lead == side).groupby(compared["method"]).sum() for name, side in OUTCOMES.items()}
    )
    by_method = compared.groupby("method")
    order = by_method["difference"].mean().sort_values(ascending=False).index
    summed = counts.loc[order].assign(coverage=by_method["coverage"].mean().map("{:.0%}".format)).reset_index()
    clips = compared[["wins", "ties", "losses"]].astype(str).agg("/".join, axis=1)
    parts = zip(betweens(compared), compared["p_holm"], clips, strict=True)
    entries = [NOTHING if mean == NOTHING else f"{mean}, p {probability(p)}, {own}" for mean, p, own in parts]
    tables = {
        f"Cells where p < {LEVEL} after Holm": summed,
        **_by_grid(compared, entries, f"Difference to {reference}, {{}} regions", order),
    }
    return Section(title, [ABOUT_COMPARISON.format(reference)], tables)


def shares_section(shares: pd.DataFrame) -> Section:
    """Scores as shares of the greedy oracle's score."""
    entries = [
        f"{share:.0%} [{low:.0%}, {high:.0%}]" if np.isfinite(low) else f"{share:.0%}"
        for share, low, high in shares[["share", "low", "high"]].to_numpy()
    ]
    order = shares.groupby("method")["share"].mean().sort_values(ascending=False).index
    return Section(
        "Share of the greedy oracle's score",
        [ABOUT_SHARES] if entries else [],
        _by_grid(shares, entries, "Share, {} regions", order),
    )


def measures_section(cells: pd.DataFrame) -> Section:
    """The other measures."""
    skipped = {*KEYS, "status", "clips", MEASURE, "low", "high", "passes", "memory", "seconds"}
    names = [name for name in cells.columns if name not in skipped and cells[name].notna().any()]
    means = cells.groupby("method")[names].mean().reindex(standings.standings(cells).index)
    shown = means.map(significant).rename(
        columns={name: f"{name} {'↓' if name in LOWER_IS_BETTER else '↑'}" for name in names}
    )
    parts = [shown.iloc[:, start : start + MOST_COLUMNS] for start in range(0, len(names), MOST_COLUMNS)]
    tables = {f"Measures, part {k + 1} of {len(parts)}": _named(part, cells) for k, part in enumerate(parts)}
    return Section("Further measures", [ABOUT_MEASURES] if names else [], tables)


def price_section(cells: pd.DataFrame) -> Section:
    """What an explanation costs."""
    order = standings.standings(cells).index
    passes = cells.pivot_table(index="method", columns="grid", values="passes", aggfunc="mean", dropna=False)
    shown = (
        passes.reindex(index=order, columns=distinct(cells["grid"]))
        .map(significant)
        .rename(columns="passes, {}".format)
    )
    means = cells.groupby("method")[["seconds", "memory"]].mean().loc[order]
    shown["ms per clip"], shown["MB held"] = (
        (1000 * means["seconds"]).map(significant),
        (means["memory"] / 1e6).map(significant),
    )
    return Section("Price", [ABOUT_PRICE], {"Price by regions": _named(shown, cells)}, picture="price.png")


def others_section(folder: Path) -> list[Section]:
    """The tables that a run may have beside its rows."""
    found = []
    for name, (title, text) in TABLES.items():
        path = folder / name
        frame = pd.read_csv(path) if path.exists() and path.read_text().strip() else pd.DataFrame()
        if len(frame):
            main = "drop" if name == "evidence.csv" else "difference"
            if {main, "low", "high"} <= {*frame.columns}:
                frame[main] = betweens(frame, (main, "low", "high"))
                frame = frame.drop(columns=["low", "high"])
            shown = {column: frame[column].map(probability if column == "p" else _entry).to_list() for column in frame}
            found.append(Section(title, [text], {title: pd.DataFrame(shown)}))
    return found


def statuses_section(cells: pd.DataFrame) -> Section:
    """Cells that have no scores, and why."""
    odd = cells[cells["status"] != "ok"]
    n_cells = len(cells.groupby(CELL))
    lines = [
        (
            method,
            listed_names(zip(part["grid"], part["fill"], strict=True), n_cells),
            status,
            "yes" if part[MEASURE].notna().any() else "no",
        )
        for (method, status), part in odd.groupby(["method", "status"], sort=False)
    ]
    frame = pd.DataFrame(lines, columns=["method", "cells", "status", "scored"])
    return Section(
        "Statuses", [ABOUT_STATUSES] if lines else ["Every computed cell is ok."], {"Statuses": frame} if lines else {}
    )


def listed_names(cells: Iterable[tuple[str, str]], n_cells: int) -> str:
    """Cells by name, in few words."""
    fills: dict[str, list[str]] = {}
    count = 0
    for count, (grid, fill) in enumerate(cells, 1):  # noqa: B007
        fills.setdefault(grid, []).append(fill)
    return (
        f"all {n_cells} cells"
        if count == n_cells > 1
        else "; ".join(f"{grid}: {', '.join(names)}" for grid, names in fills.items())
    )


def wide_table(lines: pd.DataFrame, entries: Sequence[str]) -> pd.DataFrame:
    """Texts by method, best first, and (grid, fill)."""
    wide = lines[KEYS].assign(entry=entries).pivot(index="method", columns=CELL, values="entry")
    columns = distinct(zip(lines["grid"], lines["fill"], strict=True))
    return wide.reindex(index=standings.standings(lines).index, columns=pd.MultiIndex.from_tuples(columns)).fillna(
        NOTHING
    )


def _by_grid(
    lines: pd.DataFrame, entries: Sequence[str], caption: str, order: Iterable[Any] = ()
) -> dict[str, pd.DataFrame]:
    """A table per grid: texts by method and fill, in the order given or with the grid's best first; nothing without entries."""
    named = lines[[*KEYS]].assign(entry=entries)
    tables = {}
    for grid in distinct(lines["grid"]):
        part = named[(named["grid"] == grid) & (named["entry"] != NOTHING)]
        if not len(part):
            continue
        wide = (
            part.pivot(index="method", columns="fill", values="entry")
            .reindex(columns=distinct(lines["fill"]))
            .fillna(NOTHING)
        )
        best = list(order) or standings.standings(lines[lines["grid"] == grid]).index
        tables[caption.format(grid)] = (
            wide.loc[[name for name in best if name in wide.index]].rename_axis("method").reset_index()
        )
    return tables


def _named(wide: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The index as a first column, incomplete methods marked, several levels of column names joined."""
    whole = standings.standings(cells)["complete"]
    wide = wide.set_axis(
        [", ".join(filter(None, name)) if isinstance(name, tuple) else str(name) for name in wide.columns], axis=1
    )
    wide.insert(0, "method", [name if whole[name] else f"{name} (partly)" for name in wide.index])
    return wide.reset_index(drop=True)


def _entry(value: object) -> str:
    return significant(value) if isinstance(value, float) else str(value)


def distinct(names: Iterable[Any]) -> list[Any]:
    """The distinct values, in the order in which they first occur."""
    return list(dict.fromkeys(names.unique() if isinstance(names, pd.Series) else names))
