"""From a run's rows to what people read: `report.md`, `report.tex`, tables as CSV, figures, and the text for the terminal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.reports import run_figures, standings
from benchmarks.reports.markup import Section, between, latex, markdown, number, significant
from benchmarks.reports.sections import (
    about_run,
    comparison_section,
    distinct,
    listed_names,
    measures_section,
    others_section,
    price_section,
    ranks_section,
    scores_section,
    shares_section,
    statuses_section,
    wide_table,
    winners_section,
)
from benchmarks.reports.standings import KEYS, MEASURE, ORACLE

REFERENCE = "LayerGradCam"
TEXTS = dict.fromkeys((*KEYS, "status", "fraction", "deletion_curve", "insertion_curve"), str)  # columns of rows.csv


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
    settings = {
        **run.get("key", {}),
        **run["settings"],
        "versions": run.get("versions") or run.get("key", {}).get("versions", {}),
    }
    reference = settings.get("reference") or REFERENCE
    rows = _in_order(read_rows(folder), settings)
    if not len(rows):
        raise ValueError(f"expected a run with finished cells, but {folder} has none")
    cells, won, missing = standings.summary(rows), standings.winners(rows), _missing(rows, settings)
    compared = standings.comparison(rows, MEASURE, reference) if reference in set(rows["method"]) else pd.DataFrame()
    ranked = {
        str(grid): standings.average_ranks(part[part["method"] != ORACLE])
        for grid, part in rows.groupby("grid", sort=False)
    }
    title = f"{settings.get('task')}, {settings.get('network')}, {cells['clips'].max()} clips"
    cells.to_csv(folder / "cells.csv", index=False)
    compared.reindex(columns=list(standings.COMPARED)).to_csv(folder / "comparison.csv", index=False)
    if cells[MEASURE].notna().any():
        _draw(folder, rows, cells, ranked, reference, title)
    sections = [
        about_run(settings),
        winners_section(won),
        scores_section(cells),
        Section("Curves", picture="curves.png"),
        ranks_section(ranked, cells),
        comparison_section(compared, reference),
        shares_section(standings.share_of_oracle(rows)),
        measures_section(cells),
        price_section(cells),
        *others_section(folder),
        statuses_section(cells),
        Section("Not computed yet", [_unfinished(missing, settings)] if missing else []),
    ]
    (folder / "report.md").write_text(markdown(f"Benchmark: {title}", sections, folder))
    (folder / "report.tex").write_text(latex(f"Benchmark: {title}", sections))
    return "\n\n".join(
        part for part in (table(cells), _leaders(won), _unfinished(missing, settings) if missing else "") if part
    )


def table(cells: pd.DataFrame) -> str:
    """Insertion − deletion AUC for every method, best first, with its price in forward passes and its status where that is not `ok`.

    Args:
        cells: of `statistics.summary`.
    """
    wide = wide_table(cells, [number(value, 3) for value in cells[MEASURE]])
    passes = cells.groupby("method")["passes"].max()
    odd = {str(name): list(part) for name, part in cells[cells["status"] != "ok"].groupby("method")["status"]}
    clips = cells.groupby("method")["clips"].max()
    width = max(len(name) for name in wide.index)
    heads = [[*wide.columns.get_level_values(0), "passes"], [*wide.columns.get_level_values(1), "/ clip"]]
    lines = [" " * width + "".join(f"  {name:>9}" for name in head[:-1]) + f"  {head[-1]:>7}" for head in heads]
    for name, values in zip(wide.index, wide.to_numpy(), strict=True):
        told = f"  {odd[name][0][:60]} ({len(odd[name])} of {len(values)} cells)" if name in odd else ""
        told += f"  {clips[name]} clips" if 0 < clips[name] < clips.max() else ""
        lines.append(
            f"{name:<{width}}"
            + "".join(f"  {value:>9}" for value in values)
            + f"  {significant(passes[name]):>7}{told}"
        )
    return "\n".join(line.rstrip() for line in lines)


def _draw(
    folder: Path,
    rows: pd.DataFrame,
    cells: pd.DataFrame,
    ranked: Mapping[str, pd.DataFrame],
    reference: str,
    title: str,
) -> None:
    shown = run_figures.leading(cells, reference)
    n_scored = cells.loc[cells[MEASURE].notna(), "method"].nunique()
    part = title if len(shown) == n_scored else f"{title}; {len(shown)} of {n_scored} methods"
    drawn = {
        "scores": run_figures.scores(cells, shown, part),
        "ranks": run_figures.ranks(ranked, shown, part),
        "curves": run_figures.curves(rows, run_figures.roles(cells, reference), title),
        "price": run_figures.price(cells, reference, title),
    }
    for name, figure in drawn.items():
        figure.savefig(folder / f"{name}.png")


def _in_order(rows: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Rows in the order of the settings' methods, grids and fills; names that are not there come last, as they come."""
    wanted = {"method": settings.get("methods"), "grid": settings.get("grids"), "fill": settings.get("fills")}
    places = {
        key: {name: i for i, name in enumerate(distinct([*(names or []), *rows[key].unique()]))}
        for key, names in wanted.items()
    }
    order = np.lexsort([rows[key].map(places[key]) for key in reversed(KEYS)])  # stable; the last key counts most
    return rows.iloc[order].reset_index(drop=True)


def _missing(rows: pd.DataFrame, settings: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Cells that were asked for and are not there."""
    wanted = product(
        *(
            settings.get(name) or distinct(rows[key])
            for key, name in zip(KEYS, ("methods", "grids", "fills"), strict=True)
        )
    )
    there = {*rows[KEYS].drop_duplicates().itertuples(index=False, name=None)}
    return [cell for cell in wanted if cell not in there]


def _unfinished(missing: Sequence[tuple[str, str, str]], settings: Mapping[str, Any]) -> str:
    of_method: dict[str, list[tuple[str, str]]] = {}
    for method, grid, fill in missing:
        of_method.setdefault(method, []).append((grid, fill))
    n_cells = len(settings.get("grids") or []) * len(settings.get("fills") or [])
    told: dict[str, list[str]] = {}
    for method, own in of_method.items():
        told.setdefault(listed_names(own, n_cells), []).append(method)
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
