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
from benchmarks.statistics import smallest_p_value

NAMED = ("task", "network", "layer", "seed", "device", "part", "clips", "points", "sensitivity", "limit", "reference")
FLAGS = {name: f"--{name}" for name in NAMED}
FLAGS |= {"grids": "--grid", "fills": "--fill", "methods": "--methods"}
LEVEL = 0.05
OUTCOMES = {"better": 1, "not decided": 0, "worse": -1}
MOST_COLUMNS = 12  # columns of numbers in one table
SCORE = "insertion − deletion AUC of the predicted class's probability, higher is better"
TABLES = {
    "evidence.csv": (
        "Channel removal",
        "The n channels that contribute most to the predicted class are removed at the layer, or they are kept while "
        "all other channels are removed. The columns give the probability of the predicted class before and after, "
        "and by how much it falls.",
    ),
    "purity.csv": (
        "Purity",
        "Mean purity of the prototypes with the raw channels, with the orthogonal basis and with the invertible basis, "
        "and the condition number of the invertible basis.",
    ),
    "truth.csv": (
        "Known truth",
        "Share of clips in which a place has a bin in common with the known truth. The place is the strongest "
        "channel's peak cell, its region, the largest value of the enlarged map, the largest value of the map through "
        "Integrated Gradients, or a random place of the region's shape. IoU: bins that the cell, or the region, and "
        "the truth have in common, as a share of the bins that one of them has. Area: share of the clip.",
    ),
    "masking_test.csv": (
        "Masking test",
        "By how much the probability of the predicted class falls (“drop”) when the regions of three channels are "
        "masked, and when random regions of the same size and shape are masked; and the share of a channel's "
        "contribution that masking its region takes away (“channel”, median). The regions are peak cells, or those "
        "found by the search. The fill “surroundings” is that of the search: the clip, blurred along the axis in which "
        "the scheme has regions.",
    ),
    "invariance.csv": (
        "Output invariance",
        "The plain model, compared with copies in which a basis and its inverse are placed behind the layer.",
    ),
}
"""File of an experiment's table → title and explanation of its section."""
ABOUT_WINNERS = (
    f"The score is the {SCORE}. For each region grid and fill, the table gives the best method and the best method of "
    "another family (APEX, other methods, controls), on the clips for which all scored methods have scores. The greedy "
    "oracle does not take part, and neither does APEX with all channels, which chooses none and, on a linear head, is "
    "another method of the table under a second name. Both methods were chosen on the clips on which they are compared,"
    " so the intervals and the p-values (Wilcoxon, not corrected) favour the winner somewhat."
)
ABOUT_SCORES = (
    f"The score is the {SCORE}. The tables give means over clips, with 95% bootstrap intervals over clips. Methods are "
    "sorted by their mean over cells. Methods marked “partly” lack a cell that most methods have; they come after the "
    "others, since their mean is one over other cells. “No score”: no cell could be scored."
)
ABOUT_RANKS = (
    "The table gives mean ranks over clips and fills (1 is best) with 95% bootstrap intervals over clips. Ranked are "
    "the methods that have every fill of a region grid, on the clips that all of these methods have. A clip counts "
    "once. The greedy oracle is not ranked."
)
ABOUT_COMPARISON = (
    "The entries are the score minus the score of {} on the clips that both have: the mean with its 95% interval; the "
    "p-value of Wilcoxon's signed-rank test (zeros by Pratt), corrected by Holm for the number of methods in the same "
    "regions and fill; and the numbers of clips won / tied / lost. Each combination of regions and fill is a question "
    "of its own: a reader who searches all of them for a significant one should demand a smaller p-value. Coverage is "
    "the share of the run's clips for which the method has a score."
)
ABOUT_SHARES = (
    "For every next region, the greedy oracle tries all regions with the model and takes the best one, so hardly any "
    "order scores higher. The entries give the share of its score that a method reaches, on the clips that both have."
)
ABOUT_MEASURES = (
    "Means over clips and cells; ↑ higher is better, ↓ lower is better. “Partly” is explained above. The relevance "
    "mass is that of the clips in which a map is positive somewhere."
)
ABOUT_PRICE = (
    "The table gives what the explanation of one clip costs: forward passes of the model (the arithmetic of the "
    "explanation divided by that of one forward pass), the most memory that tensors held at one time, and the time. "
    "Passes and memory are counted on one clip. The time is that of the run, in which methods can share passes; it "
    "depends on the machine and its load."
)
ABOUT_SEED = (
    "All numbers are those of one trained classifier and of bases that were fitted once (seed {}). Intervals and "
    "p-values are about clips: they say what to expect of other clips with this classifier, not of another one that is "
    "trained in the same way. A difference between methods needs runs with several seeds (--seed)."
)
UNDECIDABLE = (
    "No p-value can be below {level} in: {cells}. Where a method is ahead on every clip, the p-value is 2 / 2ⁿ for n "
    "clips, times the number of tests. More clips are needed there, or fewer methods."
)
ABOUT_STATUSES = "All cells whose status is not ok, with the reason as it was reported. No missing value was filled in."


def about_run(settings: Mapping[str, Any]) -> Section:
    """The settings of the run, and the command that repeats it."""
    lines = [
        (name, _listed(value))
        for name, value in settings.items()
        if name != "command" and value not in (None, {}, [], "")
    ]
    arguments: list[str] = []
    for name, flag in FLAGS.items():
        value = settings.get(name)
        arguments += [] if value is None else [flag, *map(str, value if isinstance(value, list) else [value])]
    code = settings.get("command") or shlex.join(["python", "-m", "benchmarks", "run", *arguments])
    about = ABOUT_SEED.format(settings.get("seed", 0))
    return Section("Settings", [about], {"Settings": pd.DataFrame(lines, columns=["what", "value"])}, code=code)


def _listed(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {entry}" for name, entry in value.items())
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return significant(value) if isinstance(value, float) else str(value)


def winners_section(won: pd.DataFrame) -> Section:
    """The best method for each region grid and fill."""
    if not len(won):
        return Section("Best methods", ["Nothing was scored on clips that the methods have in common."])
    lead = betweens(won, ("difference", "difference_low", "difference_high"), 3)
    frame = won.assign(score=betweens(won, ("mean", "low", "high")), lead=lead, p=won["p"].map(probability))
    frame["its score"] = won["rival_mean"].map(number)
    named = {"grid": "regions", "method": "best", "rival": "best of another family", "rival_family": "its family"}
    columns = ["regions", "fill", "best", "family", "score", "best of another family", "its family", "its score"]
    columns += ["lead", "p", "clips"]
    table = frame.rename(columns=named)[columns].astype(object).fillna(NOTHING)
    return Section("Best methods", [ABOUT_WINNERS], {"Winners": table}, picture="best.png")


def scores_section(cells: pd.DataFrame) -> Section:
    """Mean scores of all methods."""
    wide = wide_table(cells, [number(value, 3) for value in cells[MEASURE]])
    wide.insert(0, ("mean", ""), [number(value, 3) for value in standings.standings(cells)["mean"]])
    wide.insert(1, ("clips", ""), cells.groupby("method")["clips"].max())
    tables = {"Mean scores": _named(wide, cells), **_by_grid(cells, betweens(cells), "{} regions, with 95% intervals")}
    return Section("Scores", [ABOUT_SCORES], tables, picture="scores.png")


def ranks_section(ranked: Mapping[str, pd.DataFrame], cells: pd.DataFrame) -> Section:
    """Mean ranks of all methods."""
    frames = [
        lines.assign(grid=grid, entry=betweens(lines, ("rank", "low", "high"), 1)) for grid, lines in ranked.items()
    ]
    lines = pd.concat(frames)
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
        reason = f"{reference}, the reference method, or all others have no scores in this run."
        return Section(title, [f"There is nothing to compare: {reason}"])
    by_method = compared.groupby("method")
    order = by_method["difference"].mean().sort_values(ascending=False).index
    coverage = by_method["coverage"].mean().map("{:.0%}".format)
    counts = _outcomes(compared).loc[order].assign(coverage=coverage).reset_index()
    clips = compared[["wins", "ties", "losses"]].astype(str).agg("/".join, axis=1)
    columns = zip(betweens(compared), compared["p_holm"], clips, strict=True)
    entries = [NOTHING if mean == NOTHING else f"{mean}, p {probability(p)}, {counted}" for mean, p, counted in columns]
    tables = {
        f"Cells where p < {LEVEL} after Holm": counts,
        **_by_grid(compared, entries, f"Difference to {reference}, {{}} regions", order),
    }
    return Section(title, [ABOUT_COMPARISON.format(reference), *undecidable(compared)], tables)


def undecidable(compared: pd.DataFrame) -> list[str]:
    """A sentence about the cells in which no test can be significant; none where there is no such cell.

    Args:
        compared: lines with `grid`, `fill`, `clips` and `p`; the tests of a cell are corrected together.
    """
    tested = compared[compared["p"].notna()]
    return _undecidable({f"{grid}, {fill}": lines for (grid, fill), lines in tested.groupby(CELL, sort=False)})


def _undecidable(families: Mapping[str, pd.DataFrame]) -> list[str]:
    """The sentence about families of tests, by their name."""
    texts = []
    for name, lines in families.items():
        n_clips = int(lines["clips"].max())
        if smallest_p_value(n_clips, len(lines)) >= LEVEL:
            texts.append(f"{name} ({_counted(n_clips, 'clip')}, {_counted(len(lines), 'test')})")
    return [UNDECIDABLE.format(level=LEVEL, cells="; ".join(texts))] if texts else []


def _counted(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def _outcomes(compared: pd.DataFrame) -> pd.DataFrame:
    """For each method the number of cells in which it is better than the reference, worse, or neither is shown."""
    significant_sign = np.sign(compared["difference"])
    otherwise = np.where(compared["clips"] > 0, 0, np.nan)
    outcome = pd.Series(np.where(compared["p_holm"] < LEVEL, significant_sign, otherwise))
    return pd.DataFrame({name: (outcome == sign).groupby(compared["method"]).sum() for name, sign in OUTCOMES.items()})


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
    """The measures besides the score."""
    skipped = {*KEYS, "status", "clips", MEASURE, "low", "high", "passes", "memory", "seconds"}
    names = [name for name in cells.columns if name not in skipped and cells[name].notna().any()]
    means = cells.groupby("method")[names].mean().reindex(standings.standings(cells).index)
    heads = {name: f"{name} {'↓' if name in LOWER_IS_BETTER else '↑'}" for name in names}
    entries = means.map(significant).rename(columns=heads)
    pieces = [entries.iloc[:, start : start + MOST_COLUMNS] for start in range(0, len(names), MOST_COLUMNS)]
    tables = {f"Measures, part {k} of {len(pieces)}": _named(piece, cells) for k, piece in enumerate(pieces, 1)}
    return Section("Further measures", [ABOUT_MEASURES] if names else [], tables)


def price_section(cells: pd.DataFrame) -> Section:
    """The cost of an explanation in passes, time and memory."""
    order = standings.standings(cells).index
    passes = cells.pivot_table(index="method", columns="grid", values="passes", aggfunc="mean", dropna=False)
    passes = passes.reindex(index=order, columns=distinct(cells["grid"]))
    table = passes.map(significant).rename(columns="passes, {}".format)
    means = cells.groupby("method")[["seconds", "memory"]].mean().loc[order]
    table["ms per clip"] = (1000 * means["seconds"]).map(significant)
    table["MB held"] = (means["memory"] / 1e6).map(significant)
    return Section("Price", [ABOUT_PRICE], {"Price by regions": _named(table, cells)}, picture="price.png")


def read_table(path: Path) -> pd.DataFrame:
    """The table of an experiment; empty where there is none.

    Raises:
        ValueError: the file holds no table.
    """
    if not path.exists() or not path.read_bytes().strip():
        return pd.DataFrame()
    try:
        return pd.read_csv(path)
    except ValueError as error:  # pandas' own errors are among them
        raise ValueError(f"expected {path} to hold a table, but it cannot be read: {error}") from error


def experiment_sections(folder: Path) -> list[Section]:
    """A section for each experiment whose table is in the run's folder."""
    sections = []
    for name, (title, text) in TABLES.items():
        path = folder / name
        frame = read_table(path)
        if len(frame):
            main = "drop" if name == "evidence.csv" else "difference"
            if {main, "low", "high"} <= {*frame.columns}:
                frame[main] = betweens(frame, (main, "low", "high"))
                frame = frame.drop(columns=["low", "high"])
            entries = {
                column: frame[column].map(probability if column == "p" else _entry).to_list() for column in frame
            }
            tested = frame[frame["p"].notna()] if {"p", "clips"} <= {*frame.columns} else frame[:0]
            undecided = _undecidable({"this table": tested} if len(tested) else {})
            sections.append(Section(title, [text, *undecided], {title: pd.DataFrame(entries)}))
    return sections


def statuses_section(cells: pd.DataFrame) -> Section:
    """Cells that have no scores, and why."""
    not_ok = cells[cells["status"] != "ok"]
    n_cells = len(cells.groupby(CELL))
    lines = [
        (
            method,
            listed_names(zip(of_status["grid"], of_status["fill"], strict=True), n_cells),
            status,
            "yes" if of_status[MEASURE].notna().any() else "no",
        )
        for (method, status), of_status in not_ok.groupby(["method", "status"], sort=False)
    ]
    frame = pd.DataFrame(lines, columns=["method", "cells", "status", "scored"])
    return Section(
        "Statuses", [ABOUT_STATUSES] if lines else ["Every computed cell is ok."], {"Statuses": frame} if lines else {}
    )


def listed_names(cells: Iterable[tuple[str, str]], n_cells: int) -> str:
    """The names of cells as a short text.

    Example:
        >>> listed_names([("time", "mean"), ("time", "silence"), ("square", "mean")], n_cells=4)
        'time: mean, silence; square: mean'
    """
    fills: dict[str, list[str]] = {}
    for grid, fill in cells:
        fills.setdefault(grid, []).append(fill)
    if sum(map(len, fills.values())) == n_cells > 1:
        return f"all {n_cells} cells"
    return "; ".join(f"{grid}: {', '.join(names)}" for grid, names in fills.items())


def wide_table(lines: pd.DataFrame, entries: Sequence[str]) -> pd.DataFrame:
    """A table of texts: a line per method, best first, and a column per (grid, fill)."""
    wide = lines[KEYS].assign(entry=entries).pivot(index="method", columns=CELL, values="entry")
    columns = distinct(zip(lines["grid"], lines["fill"], strict=True))
    return wide.reindex(index=standings.standings(lines).index, columns=pd.MultiIndex.from_tuples(columns)).fillna(
        NOTHING
    )


def _by_grid(
    lines: pd.DataFrame, entries: Sequence[str], caption: str, order: Iterable[Any] = ()
) -> dict[str, pd.DataFrame]:
    """A table of texts per grid: a line per method, in the given order or best first, and a column per fill."""
    named = lines[[*KEYS]].assign(entry=entries)
    tables = {}
    for grid in distinct(lines["grid"]):
        of_grid = named[(named["grid"] == grid) & (named["entry"] != NOTHING)]
        if not len(of_grid):
            continue
        wide = of_grid.pivot(index="method", columns="fill", values="entry")
        wide = wide.reindex(columns=distinct(lines["fill"])).fillna(NOTHING)
        best = list(order) or standings.standings(lines[lines["grid"] == grid]).index
        ordered = wide.loc[[name for name in best if name in wide.index]]
        tables[caption.format(grid)] = ordered.rename_axis("method").reset_index()
    return tables


def _named(wide: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The table with the methods' names as first column, incomplete ones marked, and levels of column names joined."""
    lines = standings.standings(cells)
    marks = lines["complete"].map({True: "", False: " (partly)"}).mask(lines["mean"].isna(), " (no score)")
    wide = wide.set_axis(
        [", ".join(filter(None, name)) if isinstance(name, tuple) else str(name) for name in wide.columns], axis=1
    )
    wide.insert(0, "method", [f"{name}{marks[name]}" for name in wide.index])
    return wide.reset_index(drop=True)


def _entry(value: object) -> str:
    return significant(value) if isinstance(value, float) else str(value)


def distinct(names: Iterable[Any]) -> list[Any]:
    """The distinct values, in the order in which they first occur."""
    return list(dict.fromkeys(names.unique() if isinstance(names, pd.Series) else names))
