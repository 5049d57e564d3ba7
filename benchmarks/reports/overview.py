"""Several runs side by side: the tables of `benchmarks/RESULTS.md`, from the files of the runs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.reports import run_report, sections, standings
from benchmarks.reports.leads import leads
from benchmarks.reports.markup import (
    NOTHING,
    Section,
    between,
    betweens,
    markdown,
    number,
    section_markdown,
    significant,
)
from benchmarks.reports.standings import MEASURE
from benchmarks.reports.truth_agreement import agreement_table
from captum_apex.files import replaced

N_CHANNELS = 5  # number of removed channels at which the bases are compared
MASKED = {"fill": "mean", "region": "found"}  # lines of the masking test that the overview has
SEPARATOR = " / "  # between the values of the region grids
ABOUT_SCORES = (
    f"{sections.SCORE}: mean over clips and fills, one value for each region grid: square / time / frequency, "
    "as far as the run has them."
)
ABOUT_SHARES = (
    "Each method's score divided by the score of the greedy oracle, on the clips for which both have scores: mean over "
    "fills, one value for each region grid."
)
ABOUT_LEADS = (
    "Score of the best APEX method that selects channels, minus the score of the best other method, without the greedy "
    "oracle: mean over clips and fills, with its 95% interval. Both are the best of many methods on the clips on which "
    "they are compared, so the interval is not that of two methods that were chosen before."
)
ABOUT_AGREEMENT = (
    "Spearman's rank correlation over methods, without the controls, of insertion − deletion with a measure of the "
    "maps against the known truth, with its 95% interval over clips; both are means over the clips whose truth is "
    "known. The means of a resample are noisier than those of all clips, so intervals lean towards zero. Others: the "
    "same without APEX, whose many rows are settings of one method. Methods: their numbers, of the "
    "pointing game / of the relevance mass, for which a map has to be positive somewhere in each of these clips."
)


@dataclass(frozen=True)
class Run:
    """The settings and rows of a run.

    Attributes:
        name: task and network, and the layer and the kind of bases where they are not the default.
        folder: results folder of the run.
        settings: settings of the run, from `run.json`.
        rows: rows of the run, see `benchmarks.reports.run_report.read_rows`.
    """

    name: str
    folder: Path
    settings: dict
    rows: pd.DataFrame

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Reads a run from its folder; raises FileNotFoundError if it holds none, ValueError if no cell is finished."""
        content = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        settings = {**content.get("key", {}), **content["settings"]}
        names = [settings["task"], settings["network"]]
        names += [str(settings["layer"])] if settings.get("layer") else []
        names += ["invertible"] if settings.get("invertible") else []
        rows = run_report.read_rows(folder)
        if rows.empty:
            raise ValueError(f"expected a run with finished cells, but {folder} has none")
        return cls(" ".join(names), folder, settings, rows)

    def table(self, name: str) -> pd.DataFrame:
        """The table of an experiment; empty where the run has none."""
        return sections.read_table(self.folder / name)


@dataclass(frozen=True)
class Experiment:
    """How an experiment's tables are shown side by side.

    Attributes:
        title: heading of the section.
        file: file of the table in a run's folder.
        head: head of the first column.
        text: explanation of the entries.
        column: function from a run's table to a text for each of its lines.
    """

    title: str
    file: str
    head: str
    text: str
    column: Callable[[pd.DataFrame], pd.Series]


def overview(folders: Sequence[Path]) -> str:
    """All comparisons between runs as Markdown.

    Args:
        folders: results folders of the runs, also of unfinished ones.

    Raises:
        FileNotFoundError: a folder holds no run.
    """
    return markdown("Runs side by side", overview_sections(folders), Path())


def update(path: Path, folders: Sequence[Path]) -> list[str]:
    """Replaces the tables of a Markdown file by those of the overview.

    A table named `Scores` stands between the lines `<!-- Scores -->` and `<!-- end of Scores -->`; the text outside of
    such lines stays as it is, and so do tables that these runs do not have.

    Args:
        path: the Markdown file.
        folders: results folders of the runs, also of unfinished ones.

    Returns:
        Names of the tables that were replaced.

    Raises:
        FileNotFoundError: a folder holds no run, or there is no such file.
        ValueError: the file has no place for any table of the overview.
    """
    return replace_tables(path, overview_sections(folders))


def replace_tables(path: Path, sections: Sequence[Section]) -> list[str]:
    """Replaces the text of a Markdown file between the marks of sections by the text and tables of the sections.

    Args:
        path: the Markdown file; the marks of a section are described in `update`.
        sections: the sections; those without marks in the file are left out.

    Returns:
        Titles of the sections that the file has.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file has no marks of any section.
    """
    text = path.read_text(encoding="utf-8")
    titles = []
    for section in sections:
        title = re.escape(section.title)
        place = re.compile(rf"^(<!-- {title} -->)$.*?^(<!-- end of {title} -->)$", re.MULTILINE | re.DOTALL)
        body = section_markdown(section, Path())
        if place.search(text):
            text = place.sub(lambda marks, body=body: f"{marks[1]}\n\n{body}\n\n{marks[2]}", text)  # type: ignore[misc]
            titles.append(section.title)
    if not titles:
        raise ValueError(
            f"expected {path} to have a place for a table, such as the lines `<!-- Scores -->` and "
            "`<!-- end of Scores -->`, but it has none"
        )
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return titles


def rows_by_name(folders: Sequence[Path]) -> dict[str, pd.DataFrame]:
    """The rows of each run by its name, as in the tables of the overview; the folders are as in `overview`."""
    return {run.name: run.rows for run in _with_distinct_names([Run.read(folder) for folder in folders])}


def overview_sections(folders: Sequence[Path]) -> list[Section]:
    """The sections of the overview, each with one table of its name; those without entries are left out."""
    runs = _with_distinct_names([Run.read(folder) for folder in folders])
    tables = {
        "Runs": ("", _runs(runs)),
        "Scores": (ABOUT_SCORES, _scores(runs)),
        "Share of the greedy oracle": (ABOUT_SHARES, _shares(runs)),
        "Leads": (ABOUT_LEADS, _leads(runs)),
        "Faithfulness and truth": (ABOUT_AGREEMENT, agreement_table({run.name: run.rows for run in runs})),
        **{experiment.title: (experiment.text, _side_by_side(runs, experiment)) for experiment in EXPERIMENTS},
        "Statuses that are not ok": ("", _not_ok(runs)),
    }
    return [
        Section(name, [text] if text else [], {name: table}) for name, (text, table) in tables.items() if len(table)
    ]


def _with_distinct_names(runs: Sequence[Run]) -> list[Run]:
    """Adds the folder's name to the name of a run where several runs have the same name."""
    names = [run.name for run in runs]
    return [replace(run, name=f"{run.name} ({run.folder.name})") if names.count(run.name) > 1 else run for run in runs]


def _runs(runs: Sequence[Run]) -> pd.DataFrame:
    lines = [
        {
            "run": run.name,
            "accuracy": f"{run.settings['accuracy']:.1%} of {run.settings['test_clips']}",
            "part": run.settings["part"],
            "clips explained": run.settings["clips"],
            "methods": run.rows["method"].nunique(),
        }
        for run in runs
    ]
    return pd.DataFrame(lines)


def _scores(runs: Sequence[Run]) -> pd.DataFrame:
    cells = {run.name: standings.summary(run.rows) for run in runs}
    columns = {name: _by_grid(lines, MEASURE, lambda value: number(value, 2)) for name, lines in cells.items()}
    means = pd.DataFrame({name: standings.standings(lines)["mean"] for name, lines in cells.items()}).mean(axis=1)
    return _of_methods(columns, means.sort_values(ascending=False).index)


def _shares(runs: Sequence[Run]) -> pd.DataFrame:
    columns = {}
    means = []
    for run in runs:
        shares = standings.share_of_oracle(run.rows)
        if len(shares):
            columns[run.name] = _by_grid(shares, "share", lambda value: f"{value:.0%}")
            means.append(shares.groupby("method")["share"].mean())
    order = pd.concat(means, axis=1).mean(axis=1).sort_values(ascending=False).index if means else pd.Index([])
    return _of_methods(columns, order)


def _leads(runs: Sequence[Run]) -> pd.DataFrame:
    lines = pd.concat([leads(run.rows).assign(run=run.name) for run in runs])
    with_score = {
        named: lines[name] + ", " + lines[f"{name}_mean"].map(lambda score: number(score, 3))
        for named, name in {"best APEX": "first", "best other": "rival"}.items()
    }
    lead = betweens(lines, ("lead", "low", "high"), 3)
    return lines.assign(**with_score, lead=lead)[["run", "regions", *with_score, "lead", "clips"]].astype(str)


def _channel_removal(table: pd.DataFrame) -> pd.Series:
    drops = table[table["n"] == N_CHANNELS].pivot(index="basis", columns="kind", values="drop")
    drops = drops.reindex(list(dict.fromkeys(table["basis"])))
    return drops.apply(lambda line: f"{number(line['removed'], 2)}, {number(line['kept'], 2)}", axis=1)


def _energies(table: pd.DataFrame) -> pd.Series:
    lines = table[(table["n"] == N_CHANNELS) & (table["kind"] == "removed")].set_index("basis")
    return lines.apply(lambda line: f"{line['energy']:.0%}, {line['contribution']:.0%}", axis=1)


def _purities(table: pd.DataFrame) -> pd.Series:
    def entry(line: pd.Series) -> str:
        return f"{line['raw']:.2f} → {line['orthogonal']:.2f}; {line['invertible']:.2f}"

    return table.set_index("scheme").apply(entry, axis=1)


def _places(table: pd.DataFrame) -> pd.Series:
    names = ["cell", "found", "enlarged", "integrated", "random"]
    return table.set_index("scheme").apply(lambda line: SEPARATOR.join(number(line[name], 2) for name in names), axis=1)


def _masked(table: pd.DataFrame) -> pd.Series:
    def entry(line: pd.Series) -> str:
        difference = between(line["difference"], line["low"], line["high"])
        return f"{number(line['drop'], 2)}; {number(line['drop_random'], 2)}; {difference}"

    chosen = np.logical_and.reduce([table[name] == value for name, value in MASKED.items()])
    return table[chosen].set_index("scheme").apply(entry, axis=1)


def _invariant(table: pd.DataFrame) -> pd.Series:
    def entry(line: pd.Series) -> str:
        values = [significant(line["largest_difference"]), f"{line['accuracy']:.1%}"]
        values += [f"{line['eer']:.1%}"] if np.isfinite(line["eer"]) else []
        return "; ".join(values)

    return table[table["status"] == "ok"].set_index("model").apply(entry, axis=1)


EXPERIMENTS = (
    Experiment(
        "Channel removal",
        "evidence.csv",
        "basis",
        f"By how much the predicted class's probability falls when the {N_CHANNELS} channels with the largest "
        "contributions are removed, and when all other channels are removed.",
        _channel_removal,
    ),
    Experiment(
        "Energy and contribution",
        "evidence.csv",
        "basis",
        f"What the {N_CHANNELS} channels with the largest contributions have: their share of the energy of the layer's "
        "features, and their share of all positive contributions.",
        _energies,
    ),
    Experiment(
        "Purity",
        "purity.csv",
        "scheme",
        "Mean purity of the prototypes with the raw channels → with the orthogonal basis; with the invertible basis.",
        _purities,
    ),
    Experiment(
        "Truth",
        "truth.csv",
        "scheme",
        "Share of clips in which a place has a bin in common with the truth: the strongest channel's peak cell / its "
        "region / the largest value of the enlarged map / that of the map through Integrated Gradients / the region at "
        "random places.",
        _places,
    ),
    Experiment(
        "Masking test",
        "masking_test.csv",
        "scheme",
        "By how much the predicted class's probability falls when the regions that are found for three channels are "
        "masked; when the same regions at a random place are masked; the difference with its 95% interval. The fill is "
        "“mean”.",
        _masked,
    ),
    Experiment(
        "Invariance",
        "invariance.csv",
        "model",
        "Largest difference of a logit to the plain model; accuracy; equal error rate where there are two classes.",
        _invariant,
    ),
)


def _not_ok(runs: Sequence[Run]) -> pd.DataFrame:
    lines = []
    for run in runs:
        rows = run.rows[run.rows["status"] != "ok"]
        without_numbers = rows["status"].str.replace(r"[\d.]+", "…", regex=True)
        for (method, status), failed in rows.groupby(["method", without_numbers], sort=False):
            cells = len(failed[standings.CELL].drop_duplicates())
            lines.append({"run": run.name, "method": method, "status": str(status)[:90], "cells": cells})
    return pd.DataFrame(lines)


def _by_grid(lines: pd.DataFrame, value: str, text: Callable[[float], str]) -> pd.Series:
    """One text per method: the means over fills for each grid; a dash where a fill is missing."""
    grids = list(dict.fromkeys(lines["grid"]))
    wide = lines.pivot(index="method", columns=["grid", "fill"], values=value)
    means = pd.DataFrame({grid: wide[grid].mean(axis=1, skipna=False) for grid in grids})
    entries = means.map(lambda mean: NOTHING if np.isnan(mean) else text(mean))
    return entries.agg(SEPARATOR.join, axis=1)


def _side_by_side(runs: Sequence[Run], experiment: Experiment) -> pd.DataFrame:
    """An experiment's tables, one column per run that has the experiment."""
    tables = {run.name: run.table(experiment.file) for run in runs}
    columns = {name: experiment.column(table) for name, table in tables.items() if len(table)}
    order = pd.Index(list(dict.fromkeys(name for column in columns.values() for name in column.index)))
    return _table(experiment.head, columns, order)


def _of_methods(columns: dict[str, pd.Series], order: pd.Index) -> pd.DataFrame:
    """One line per method; what is a control is said."""
    table = _table("method", columns, order)
    return table.assign(method=table["method"].map(standings.shown_name))


def _table(head: str, columns: dict[str, pd.Series], order: pd.Index) -> pd.DataFrame:
    """One line per name, one column per run."""
    return pd.DataFrame(columns).reindex(order).fillna(NOTHING).rename_axis(head).reset_index()
