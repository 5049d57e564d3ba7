"""From a run's rows to what people read: `report.md`, `report.tex`, tables as CSV, figures, and the text for the terminal."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import figures, statistics
from benchmarks.document import NOTHING, Section, between, betweens, latex, markdown, number, probability, significant
from benchmarks.statistics import CELL, KEYS, LOWER_IS_BETTER, MEASURE, ORACLE

REFERENCE = "LayerGradCam"
TEXTS = dict.fromkeys((*KEYS, "status", "fraction", "deletion_curve", "insertion_curve"), str)  # columns of rows.csv
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
ABOUT_STATUSES = "Every cell whose status is not ok, with the reason as it came. Nothing was put in place of what is missing."


def read_rows(folder: Path) -> pd.DataFrame:
    """The rows of a run: `rows.csv`, or where that is missing, the files of its finished cells.

    Args:
        folder: of the run.

    Returns:
        The columns as they stand in the files; the curves stay texts.

    Raises:
        FileNotFoundError: there is neither.
    """
    path = folder / "rows.csv"
    paths = [path] if path.exists() else sorted((folder / "cells").glob("*.csv"))
    if not paths:
        raise FileNotFoundError(f"expected rows.csv or cells/*.csv in {folder}, but there is neither")
    return pd.concat([pd.read_csv(path, dtype=TEXTS) for path in paths], ignore_index=True)


def write(folder: Path) -> str:
    """Writes report.md, report.tex, cells.csv, comparison.csv and the figures into a run's folder.

    Args:
        folder: with `run.json` and what `read_rows` needs; evidence.csv and the like are shown where they are.

    Returns:
        The scores as text, for the terminal.

    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: no cell is finished yet.
    """
    run = json.loads((folder / "run.json").read_text())
    settings = {**run.get("key", {}), **run["settings"], "versions": run.get("versions") or run.get("key", {}).get("versions", {})}
    reference = settings.get("reference") or REFERENCE
    rows = _in_order(read_rows(folder), settings)
    if not len(rows):
        raise ValueError(f"expected a run with finished cells, but {folder} has none")
    cells, won, missing = statistics.summary(rows), statistics.winners(rows), _missing(rows, settings)
    compared = statistics.comparison(rows, MEASURE, reference) if reference in set(rows["method"]) else pd.DataFrame()
    ranked = {str(grid): statistics.average_ranks(part[part["method"] != ORACLE]) for grid, part in rows.groupby("grid", sort=False)}
    title = f"{settings.get('task')}, {settings.get('network')}, {cells['clips'].max()} clips"
    cells.to_csv(folder / "cells.csv", index=False)
    compared.reindex(columns=list(statistics.COMPARED)).to_csv(folder / "comparison.csv", index=False)
    if cells[MEASURE].notna().any():
        _draw(folder, rows, cells, ranked, reference, title)
    sections = [
        _about(settings),
        _winners(won),
        _scores(cells),
        Section("Curves", picture="curves.png"),
        _ranks(ranked, cells),
        _comparison(compared, reference),
        _shares(statistics.share_of_oracle(rows)),
        _measures(cells),
        _price(cells),
        *_others(folder),
        _statuses(cells),
        Section("Not computed yet", [_unfinished(missing, settings)] if missing else []),
    ]
    (folder / "report.md").write_text(markdown(f"Benchmark: {title}", sections, folder))
    (folder / "report.tex").write_text(latex(f"Benchmark: {title}", sections))
    return "\n\n".join(part for part in (table(cells), _leaders(won), _unfinished(missing, settings) if missing else "") if part)


def table(cells: pd.DataFrame) -> str:
    """Insertion − deletion AUC for every method, best first, with its price in forward passes and its status where that is not `ok`.

    Args:
        cells: of `statistics.summary`.
    """
    wide = _wide(cells, [number(value, 3) for value in cells[MEASURE]])
    passes = cells.groupby("method")["passes"].max()
    odd = {str(name): list(part) for name, part in cells[cells["status"] != "ok"].groupby("method")["status"]}
    clips = cells.groupby("method")["clips"].max()
    width = max(len(name) for name in wide.index)
    heads = [[*wide.columns.get_level_values(0), "passes"], [*wide.columns.get_level_values(1), "/ clip"]]
    lines = [" " * width + "".join(f"  {name:>9}" for name in head[:-1]) + f"  {head[-1]:>7}" for head in heads]
    for name, values in zip(wide.index, wide.to_numpy(), strict=True):
        told = f"  {odd[name][0][:60]} ({len(odd[name])} of {len(values)} cells)" if name in odd else ""
        told += f"  {clips[name]} clips" if 0 < clips[name] < clips.max() else ""
        lines.append(f"{name:<{width}}" + "".join(f"  {value:>9}" for value in values) + f"  {significant(passes[name]):>7}{told}")
    return "\n".join(line.rstrip() for line in lines)


def _about(settings: Mapping[str, Any]) -> Section:
    lines = [(name, _listed(value)) for name, value in settings.items() if name != "command" and value not in (None, {}, [], "")]
    typed: list[str] = []
    for name, flag in FLAGS.items():
        value = settings.get(name)
        typed += [] if value is None else [flag, *map(str, value if isinstance(value, list) else [value])]
    code = settings.get("command") or shlex.join(["python", "-m", "benchmarks", "run", *typed])
    return Section("What was run", [], {"Settings": pd.DataFrame(lines, columns=["what", "value"])}, code=code)


def _listed(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return "; ".join(map(str, value)) if isinstance(value, list) else significant(value) if isinstance(value, float) else str(value)


def _winners(won: pd.DataFrame) -> Section:
    if not len(won):
        return Section("Who leads", ["Nothing was scored on clips that the methods have in common."])
    lead = betweens(won, ("difference", "difference_low", "difference_high"), 3)
    frame = won.assign(score=betweens(won, ("mean", "low", "high")), lead=lead, p=won["p"].map(probability))
    frame["its score"] = won["rival_mean"].map(number)
    named = {"grid": "regions", "method": "best", "rival": "best of another family", "rival_family": "its family"}
    shown = ["regions", "fill", "best", "family", "score", "best of another family", "its family", "its score", "lead", "p", "clips"]
    return Section("Who leads", [ABOUT_WINNERS], {"Winners": frame.rename(columns=named)[shown].astype(object).fillna(NOTHING)})


def _scores(cells: pd.DataFrame) -> Section:
    wide = _wide(cells, [number(value, 3) for value in cells[MEASURE]])
    wide.insert(0, ("mean", ""), [number(value, 3) for value in statistics.standings(cells)["mean"]])
    wide.insert(1, ("clips", ""), cells.groupby("method")["clips"].max())
    tables = {"Mean scores": _named(wide, cells), **_by_grid(cells, betweens(cells), "{} regions, with 95% intervals")}
    return Section("Scores", [ABOUT_SCORES], tables, picture="scores.png")


def _ranks(ranked: Mapping[str, pd.DataFrame], cells: pd.DataFrame) -> Section:
    lines = pd.concat([part.assign(grid=grid, entry=betweens(part, ("rank", "low", "high"), 1)) for grid, part in ranked.items()])
    if not len(lines):
        return Section("Ranks")
    wide = lines.pivot(index="method", columns="grid", values="entry").reindex(columns=list(ranked)).fillna(NOTHING)
    order = [name for name in statistics.standings(cells).index if name in wide.index]
    return Section("Ranks", [ABOUT_RANKS], {"Mean ranks by regions": _named(wide.loc[order], cells)}, picture="ranks.png")


def _comparison(compared: pd.DataFrame, reference: str) -> Section:
    title = f"Against {reference}"
    if not len(compared) or not compared["clips"].any():
        return Section(
            title, [f"There is nothing to compare: {reference}, the reference method, or all others have no scores in this run."]
        )
    lead = np.where(compared["p_holm"] < LEVEL, np.sign(compared["difference"]), np.where(compared["clips"] > 0, 0, np.nan))
    counts = pd.DataFrame({name: pd.Series(lead == side).groupby(compared["method"]).sum() for name, side in OUTCOMES.items()})
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


def _shares(shares: pd.DataFrame) -> Section:
    entries = [
        f"{share:.0%} [{low:.0%}, {high:.0%}]" if np.isfinite(low) else f"{share:.0%}"
        for share, low, high in shares[["share", "low", "high"]].to_numpy()
    ]
    order = shares.groupby("method")["share"].mean().sort_values(ascending=False).index
    return Section(
        "Share of the greedy oracle's score", [ABOUT_SHARES] if entries else [], _by_grid(shares, entries, "Share, {} regions", order)
    )


def _measures(cells: pd.DataFrame) -> Section:
    skipped = {*KEYS, "status", "clips", MEASURE, "low", "high", "passes", "memory", "seconds"}
    names = [name for name in cells.columns if name not in skipped and cells[name].notna().any()]
    means = cells.groupby("method")[names].mean().reindex(statistics.standings(cells).index)
    shown = means.map(significant).rename(columns={name: f"{name} {'↓' if name in LOWER_IS_BETTER else '↑'}" for name in names})
    parts = [shown.iloc[:, start : start + MOST_COLUMNS] for start in range(0, len(names), MOST_COLUMNS)]
    tables = {f"Measures, part {k + 1} of {len(parts)}": _named(part, cells) for k, part in enumerate(parts)}
    return Section("Further measures", [ABOUT_MEASURES] if names else [], tables)


def _price(cells: pd.DataFrame) -> Section:
    order = statistics.standings(cells).index
    passes = cells.pivot_table(index="method", columns="grid", values="passes", aggfunc="mean", dropna=False)
    shown = passes.reindex(index=order, columns=_unique(cells["grid"])).map(significant).rename(columns="passes, {}".format)
    means = cells.groupby("method")[["seconds", "memory"]].mean().loc[order]
    shown["ms per clip"], shown["MB held"] = (1000 * means["seconds"]).map(significant), (means["memory"] / 1e6).map(significant)
    return Section("Price", [ABOUT_PRICE], {"Price by regions": _named(shown, cells)}, picture="price.png")


def _others(folder: Path) -> list[Section]:
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


def _statuses(cells: pd.DataFrame) -> Section:
    odd = cells[cells["status"] != "ok"]
    n_cells = len(cells.groupby(CELL))
    lines = [
        (method, _names(zip(part["grid"], part["fill"], strict=True), n_cells), status, "yes" if part[MEASURE].notna().any() else "no")
        for (method, status), part in odd.groupby(["method", "status"], sort=False)
    ]
    frame = pd.DataFrame(lines, columns=["method", "cells", "status", "scored"])
    return Section("Statuses", [ABOUT_STATUSES] if lines else ["Every computed cell is ok."], {"Statuses": frame} if lines else {})


def _draw(folder: Path, rows: pd.DataFrame, cells: pd.DataFrame, ranked: Mapping[str, pd.DataFrame], reference: str, title: str) -> None:
    shown = figures.leading(cells, reference)
    n_scored = cells.loc[cells[MEASURE].notna(), "method"].nunique()
    part = title if len(shown) == n_scored else f"{title}; {len(shown)} of {n_scored} methods"
    drawn = {
        "scores": figures.scores(cells, shown, part),
        "ranks": figures.ranks(ranked, shown, part),
        "curves": figures.curves(rows, figures.roles(cells, reference), title),
        "price": figures.price(cells, reference, title),
    }
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png")


def _in_order(rows: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Rows in the order of the settings' methods, grids and fills; names that are not there come last, as they come."""
    wanted = {"method": settings.get("methods"), "grid": settings.get("grids"), "fill": settings.get("fills")}
    places = {key: {name: i for i, name in enumerate(_unique([*(names or []), *rows[key].unique()]))} for key, names in wanted.items()}
    order = np.lexsort([rows[key].map(places[key]) for key in reversed(KEYS)])  # stable; the last key counts most
    return rows.iloc[order].reset_index(drop=True)


def _missing(rows: pd.DataFrame, settings: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Cells that were asked for and are not there."""
    wanted = product(*(settings.get(name) or _unique(rows[key]) for key, name in zip(KEYS, ("methods", "grids", "fills"), strict=True)))
    there = {*rows[KEYS].drop_duplicates().itertuples(index=False, name=None)}
    return [cell for cell in wanted if cell not in there]


def _unfinished(missing: Sequence[tuple[str, str, str]], settings: Mapping[str, Any]) -> str:
    of_method: dict[str, list[tuple[str, str]]] = {}
    for method, grid, fill in missing:
        of_method.setdefault(method, []).append((grid, fill))
    n_cells = len(settings.get("grids") or []) * len(settings.get("fills") or [])
    told: dict[str, list[str]] = {}
    for method, own in of_method.items():
        told.setdefault(_names(own, n_cells), []).append(method)
    parts = [f"{', '.join(methods)} ({names})" for names, methods in told.items()]
    return f"This run is not finished. {len(missing)} cells are not computed yet: {'; '.join(parts)}."


def _leaders(won: pd.DataFrame) -> str:
    """One line per grid: who leads over all fills."""
    lines = []
    for _, part in won.groupby("grid", sort=False) if len(won) else ():
        line = part.iloc[-1]  # all fills, or the only one
        told = f"{line['grid']}, {line['fill']}: {line['method']} {between(line['mean'], line['low'], line['high'])}"
        if isinstance(line.get("rival"), str):
            ends = between(line["difference"], line["difference_low"], line["difference_high"], digits=3)
            told += f"; ahead of {line['rival']}, the best of another family, by {ends}"
        lines.append(told)
    return "\n".join(lines)


def _names(cells: Iterable[tuple[str, str]], n_cells: int) -> str:
    """Cells by name, in few words."""
    fills: dict[str, list[str]] = {}
    count = 0
    for count, (grid, fill) in enumerate(cells, 1):  # noqa: B007
        fills.setdefault(grid, []).append(fill)
    return f"all {n_cells} cells" if count == n_cells > 1 else "; ".join(f"{grid}: {', '.join(names)}" for grid, names in fills.items())


def _wide(lines: pd.DataFrame, entries: Sequence[str]) -> pd.DataFrame:
    """Texts by method, best first, and (grid, fill)."""
    wide = lines[KEYS].assign(entry=entries).pivot(index="method", columns=CELL, values="entry")
    columns = _unique(zip(lines["grid"], lines["fill"], strict=True))
    return wide.reindex(index=statistics.standings(lines).index, columns=pd.MultiIndex.from_tuples(columns)).fillna(NOTHING)


def _by_grid(lines: pd.DataFrame, entries: Sequence[str], caption: str, order: Iterable[Any] = ()) -> dict[str, pd.DataFrame]:
    """A table per grid: texts by method and fill, in the order given or with the grid's best first; nothing without entries."""
    named = lines[[*KEYS]].assign(entry=entries)
    tables = {}
    for grid in _unique(lines["grid"]):
        part = named[(named["grid"] == grid) & (named["entry"] != NOTHING)]
        if not len(part):
            continue
        wide = part.pivot(index="method", columns="fill", values="entry").reindex(columns=_unique(lines["fill"])).fillna(NOTHING)
        best = list(order) or statistics.standings(lines[lines["grid"] == grid]).index
        tables[caption.format(grid)] = wide.loc[[name for name in best if name in wide.index]].rename_axis("method").reset_index()
    return tables


def _named(wide: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """The index as a first column, incomplete methods marked, several levels of column names joined."""
    whole = statistics.standings(cells)["complete"]
    wide = wide.set_axis([", ".join(filter(None, name)) if isinstance(name, tuple) else str(name) for name in wide.columns], axis=1)
    wide.insert(0, "method", [name if whole[name] else f"{name} (partly)" for name in wide.index])
    return wide.reset_index(drop=True)


def _entry(value: object) -> str:
    return significant(value) if isinstance(value, float) else str(value)


def _unique(names: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(names.unique() if isinstance(names, pd.Series) else names))
