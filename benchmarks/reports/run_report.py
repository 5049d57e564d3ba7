"""The report of a run: `report.md`, `report.tex`, tables as CSV, figures, and the text for the terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Collection, Mapping, Sequence
from itertools import product
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.reports import run_figures, standings
from benchmarks.reports.figure_parts import write_figure
from benchmarks.reports.leads import best_figure
from benchmarks.reports.markup import Section, between, latex, markdown, number, significant
from benchmarks.reports.sections import (
    about_run,
    comparison_section,
    distinct,
    experiment_sections,
    listed_names,
    measures_section,
    price_section,
    ranks_section,
    scores_section,
    shares_section,
    statuses_section,
    wide_table,
    winners_section,
)
from benchmarks.reports.standings import KEYS, MEASURE, ORACLE
from benchmarks.runs.rows import rows_in
from captum_apex.files import replaced

REFERENCE = "LayerGradCam"
MOST_LETTERS = 90  # of a status in the terminal; report.md has all of it
TEXTS = dict.fromkeys((*KEYS, "status", "fraction", "deletion_curve", "insertion_curve"), str)
"""Columns of rows.csv that hold texts."""


def read_rows(folder: Path) -> pd.DataFrame:
    """The rows of a run: `rows.csv`, or where that is missing, the files of its finished cells.

    Args:
        folder: results folder of the run.

    Returns:
        The columns of the files; curves are texts with a number for each point.

    Raises:
        FileNotFoundError: the folder has neither `rows.csv` nor files of cells.
        ValueError: the file of a cell is damaged.
    """
    path = folder / "rows.csv"
    paths = [path] if path.exists() else sorted((folder / "cells").glob("*.csv"))
    if not paths:
        raise FileNotFoundError(f"expected rows.csv or cells/*.csv in {folder}, but there is neither")
    texts = [each.read_text() if each == path else rows_in(each.read_text()) for each in paths]
    return pd.concat([pd.read_csv(io.StringIO(text), dtype=TEXTS) for text in texts], ignore_index=True)


def write(folder: Path) -> str:
    """Writes report.md, report.tex, cells.csv, comparison.csv and the figures into a run's folder.

    Args:
        folder: results folder of the run, with `run.json` and the files that `read_rows` needs; tables of the
            experiments are included if the folder has them.

    Returns:
        The scores as text, for the terminal.

    Raises:
        FileNotFoundError: the folder holds no run.
        ValueError: no cell is finished yet.
    """
    settings = _settings(folder)
    reference = settings.get("reference") or REFERENCE
    rows = _in_order(read_rows(folder), settings)
    if not len(rows):
        raise ValueError(f"expected a run with finished cells, but {folder} has none")
    cells = standings.summary(rows)
    won = standings.winners(rows)
    compared = standings.comparison(rows, MEASURE, reference) if reference in set(rows["method"]) else pd.DataFrame()
    ranked = _ranked(rows)
    missing = _missing(rows, settings)
    unfinished = _unfinished(missing, settings) if missing else ""
    title = f"{settings.get('task')}, {settings.get('network')}, {cells['clips'].max()} clips"
    _write(folder / "cells.csv", cells.to_csv(index=False))
    _write(folder / "comparison.csv", compared.reindex(columns=list(standings.COMPARED)).to_csv(index=False))
    if cells[MEASURE].notna().any():
        _draw(folder, rows, cells, ranked, reference, title, settings.get("sources") or ())
    best, *others = _result_sections(rows, cells, won, ranked, compared, reference)
    sections = [
        best,
        about_run(settings),
        *others,
        *experiment_sections(folder),
        statuses_section(cells),
        Section("Not computed yet", [unfinished] if unfinished else []),
    ]
    _write(folder / "report.md", markdown(f"Benchmark: {title}", sections, folder))
    _write(folder / "report.tex", latex(f"Benchmark: {title}", sections))
    return "\n\n".join(text for text in (table(cells), _leaders(won), unfinished) if text)


def _write(path: Path, text: str) -> None:
    with replaced(path) as unfinished:
        unfinished.write_text(text)


def _settings(folder: Path) -> dict[str, Any]:
    """All settings of a run, with the versions of the packages."""
    run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    key = run.get("key", {})
    return {**key, **run["settings"], "versions": run.get("versions") or key.get("versions", {})}


def _ranked(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Grid → mean ranks of the methods, without the greedy oracle."""
    return {
        str(grid): standings.average_ranks(of_grid[of_grid["method"] != ORACLE])
        for grid, of_grid in rows.groupby("grid", sort=False)
    }


def _result_sections(
    rows: pd.DataFrame,
    cells: pd.DataFrame,
    won: pd.DataFrame,
    ranked: Mapping[str, pd.DataFrame],
    compared: pd.DataFrame,
    reference: str,
) -> list[Section]:
    """The sections about the methods' scores."""
    return [
        winners_section(won),
        scores_section(cells),
        Section("Curves", picture="curves.png"),
        ranks_section(ranked, cells),
        comparison_section(compared, reference),
        shares_section(standings.share_of_oracle(rows)),
        measures_section(cells),
        price_section(cells),
    ]


def table(cells: pd.DataFrame) -> str:
    """Insertion − deletion AUC of every method as text, best first, with the price and the status if that is not `ok`.

    Args:
        cells: result of `standings.summary`.
    """
    wide = wide_table(cells, [number(value, 3) for value in cells[MEASURE]])
    passes = cells.groupby("method")["passes"].max()
    not_ok = cells[cells["status"] != "ok"]
    statuses = {str(name): list(texts) for name, texts in not_ok.groupby("method")["status"]}
    clips = cells.groupby("method")["clips"].max()
    width = max(len(name) for name in wide.index)
    heads = [[*wide.columns.get_level_values(0), "passes"], [*wide.columns.get_level_values(1), "/ clip"]]
    lines = [" " * width + "".join(f"  {name:>9}" for name in head[:-1]) + f"  {head[-1]:>7}" for head in heads]
    for name, values in zip(wide.index, wide.to_numpy(), strict=True):
        remarks = ""
        if name in statuses:
            status = shorten(statuses[name][0], MOST_LETTERS, placeholder="…")
            remarks += f"  {status} ({len(statuses[name])} of {len(values)} cells)"
        if 0 < clips[name] < clips.max():
            remarks += f"  {clips[name]} clips"
        scores = "".join(f"  {value:>9}" for value in values)
        lines.append(f"{name:<{width}}{scores}  {significant(passes[name]):>7}{remarks}")
    return "\n".join(line.rstrip() for line in lines)


def _draw(
    folder: Path,
    rows: pd.DataFrame,
    cells: pd.DataFrame,
    ranked: Mapping[str, pd.DataFrame],
    reference: str,
    title: str,
    added: Collection[str],
) -> None:
    methods = run_figures.leading(cells, reference, added=added)
    n_scored = cells.loc[cells[MEASURE].notna(), "method"].nunique()
    long_title = title if len(methods) == n_scored else f"{title}; {len(methods)} of {n_scored} methods"
    figures = {
        "best": best_figure(rows, reference, title, added),
        "scores": run_figures.scores(cells, methods, long_title),
        "ranks": run_figures.ranks(ranked, methods, long_title),
        "curves": run_figures.curves(rows, run_figures.roles(cells, reference, added), title),
        "price": run_figures.price(cells, reference, title),
    }
    for name, figure in figures.items():
        if figure is None:
            (folder / f"{name}.png").unlink(missing_ok=True)  # of the run as it was before
        else:
            write_figure(figure, folder / f"{name}.png")


def _in_order(rows: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Rows in the order of the settings' methods, grids and fills; other names come last, in the order of the rows."""
    orders = {"method": settings.get("methods"), "grid": settings.get("grids"), "fill": settings.get("fills")}
    places = {
        key: {name: i for i, name in enumerate(distinct([*(names or []), *rows[key].unique()]))}
        for key, names in orders.items()
    }
    order = np.lexsort(
        [rows[key].map(places[key]) for key in reversed(KEYS)]
    )  # a stable sort; the last key comes first
    return rows.iloc[order].reset_index(drop=True)


def _missing(rows: pd.DataFrame, settings: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Cells of the settings that have no rows yet."""
    names = {"method": settings.get("methods"), "grid": settings.get("grids"), "fill": settings.get("fills")}
    cells = product(*(names[key] or distinct(rows[key]) for key in KEYS))
    computed = {*rows[KEYS].drop_duplicates().itertuples(index=False, name=None)}
    return [cell for cell in cells if cell not in computed]


def _unfinished(missing: Sequence[tuple[str, str, str]], settings: Mapping[str, Any]) -> str:
    of_method: dict[str, list[tuple[str, str]]] = {}
    for method, grid, fill in missing:
        of_method.setdefault(method, []).append((grid, fill))
    n_cells = len(settings.get("grids") or []) * len(settings.get("fills") or [])
    methods_by_cells: dict[str, list[str]] = {}
    for method, cells in of_method.items():
        methods_by_cells.setdefault(listed_names(cells, n_cells), []).append(method)
    texts = [f"{', '.join(methods)} ({names})" for names, methods in methods_by_cells.items()]
    counted_cells = "1 cell is" if len(missing) == 1 else f"{len(missing)} cells are"
    return f"This run is not finished. {counted_cells} not computed yet: {'; '.join(texts)}."


def _leaders(won: pd.DataFrame) -> str:
    """The best method over all fills, one line of text per grid."""
    texts = []
    for _, lines in won.groupby("grid", sort=False) if len(won) else ():
        line = lines.iloc[-1]  # all fills, or the only one
        text = f"{line['grid']}, {line['fill']}: {line['method']} {between(line['mean'], line['low'], line['high'])}"
        if isinstance(line.get("rival"), str):
            lead = between(line["difference"], line["difference_low"], line["difference_high"], digits=3)
            text += f"; ahead of {line['rival']}, the best of another family, by {lead}"
        texts.append(text)
    return "\n".join(texts)
