"""Several runs side by side: the tables of this folder's README, from the runs' own files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import statistics
from benchmarks.reports import run_report, sections, standings
from benchmarks.reports.markup import NOTHING, Section, between, markdown, number, significant
from benchmarks.reports.standings import MEASURE, ORACLE

N_CHANNELS = 5  # the size of the evidence that the bases are compared at
MASKED = {"fill": "mean", "region": "cell"}  # the lines of the masking test that are shown
ALL = re.compile(
    r"\ball\b"
)  # in the names of what takes all channels: that selects nothing, and is the same in every basis
ABOUT_LEADS = "The best APEX that selects channels less the best other method, mean over fills, with 95% intervals."
BEHIND = " / "  # between what belongs to tiles, columns and bands


@dataclass(frozen=True)
class Run:
    """A run's folder, read.

    Attributes:
        name: task and network, and the layer and the kind of bases where they are not the default ones.
        folder: where its tables are.
        settings: of `run.json`.
        rows: see `benchmarks.reports.run_report.read_rows`.
    """

    name: str
    folder: Path
    settings: dict
    rows: pd.DataFrame

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Raises FileNotFoundError where the folder holds no run."""
        about = json.loads((folder / "run.json").read_text())
        settings = {**about.get("key", {}), **about["settings"]}
        odd = [str(settings["layer"])] if settings.get("layer") else []
        odd += ["invertible"] if settings.get("invertible") else []
        return cls(
            " ".join([settings["task"], settings["network"], *odd]), folder, settings, run_report.read_rows(folder)
        )

    def table(self, name: str) -> pd.DataFrame:
        """One of the tables beside the rows; empty where the run has none."""
        path = self.folder / name
        return pd.read_csv(path) if path.exists() and path.read_text().strip() else pd.DataFrame()


def overview(folders: Sequence[Path]) -> str:
    """All that is compared between runs, as Markdown.

    Args:
        folders: of runs, also of unfinished ones.

    Raises:
        FileNotFoundError: a folder holds no run.
    """
    runs = _told_apart([Run.read(folder) for folder in folders])
    shown = [
        Section("Runs", [], {"Runs": _runs(runs)}),
        Section(
            "Scores", [f"{sections.SCORE}; the mean over fills; tiles / columns / bands."], {"Scores": _scores(runs)}
        ),
        Section(
            "Share of the greedy oracle",
            ["On the clips that both have; likewise."],
            {"Share of the greedy oracle": _shares(runs)},
        ),
        Section("Leads", [ABOUT_LEADS], {"Leads": _leads(runs)}),
        _beside(
            runs,
            "Channels",
            "evidence.csv",
            _channels,
            f"Fall of the probability without the {N_CHANNELS} channels, and with only them.",
        ),
        _beside(
            runs,
            "Why",
            "evidence.csv",
            _reasons,
            f"The {N_CHANNELS} channels' share of the layer's energy, and of all positive contributions.",
        ),
        _beside(runs, "Purity", "purity.csv", _purities, "Raw → orthogonal; invertible."),
        _beside(
            runs,
            "Truth",
            "truth.csv",
            _places,
            "Strongest channel / enlarged / through Integrated Gradients / random place.",
        ),
        _beside(
            runs,
            "Masking test",
            "masking_test.csv",
            _masked,
            "Fall of the probability; elsewhere; difference with its interval.",
        ),
        _beside(
            runs,
            "Invariance",
            "invariance.csv",
            _invariant,
            "Largest difference of a logit; accuracy; equal error rate.",
        ),
        Section("Statuses that are not ok", [], {"Statuses that are not ok": _odd(runs)}),
    ]
    return markdown(
        "Runs side by side", [section for section in shown if all(map(len, section.tables.values()))], Path()
    )


def _told_apart(runs: Sequence[Run]) -> list[Run]:
    """Runs whose names would be the same get their folders' as well."""
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
    columns = {run.name: _by_grid(standings.summary(run.rows), MEASURE, lambda value: number(value, 2)) for run in runs}
    means = pd.DataFrame({run.name: standings.standings(standings.summary(run.rows))["mean"] for run in runs}).mean(
        axis=1
    )
    return _table("method", columns, means.sort_values(ascending=False).index)


def _shares(runs: Sequence[Run]) -> pd.DataFrame:
    columns, means = {}, []
    for run in runs:
        shares = standings.share_of_oracle(run.rows)
        if len(shares):
            columns[run.name] = _by_grid(shares, "share", lambda value: f"{value:.0%}")
            means.append(shares.groupby("method")["share"].mean())
    order = pd.concat(means, axis=1).mean(axis=1).sort_values(ascending=False).index if means else pd.Index([])
    return _table("method", columns, order)


def _leads(runs: Sequence[Run]) -> pd.DataFrame:
    lines = [_lead(run, str(grid), part) for run in runs for grid, part in run.rows.groupby("grid", sort=False)]
    return pd.DataFrame([line for line in lines if line])


def _lead(run: Run, grid: str, rows: pd.DataFrame) -> dict[str, str]:
    """On the clips and among the methods that have every fill; the mean over fills per clip first, so that a clip counts once."""
    table = standings.scores(rows).drop(columns=ORACLE, errors="ignore")
    by_clip = standings.common(table).groupby("clip").mean()
    means = by_clip.mean().sort_values(ascending=False)
    of_apex = {name for name in means.index if standings.family(name) == "APEX"}
    own, others = (
        [name for name in means.index if name in of_apex and not ALL.search(name)],
        [name for name in means.index if name not in of_apex],
    )
    if not own or not others:
        return {}
    difference = (by_clip[own[0]] - by_clip[others[0]]).to_numpy()
    lead = between(difference.mean(), *statistics.interval(difference), 3)
    best = {
        "best APEX": f"{own[0]}, {number(means[own[0]], 3)}",
        "best other": f"{others[0]}, {number(means[others[0]], 3)}",
    }
    return {"run": run.name, "regions": grid, **best, "lead": lead, "clips": str(len(by_clip))}


def _channels(table: pd.DataFrame) -> pd.Series:
    drops = (
        table[table["n"] == N_CHANNELS]
        .pivot(index="basis", columns="kind", values="drop")
        .reindex(list(dict.fromkeys(table["basis"])))
    )
    return drops.apply(lambda line: f"{number(line['removed'], 2)}, {number(line['kept'], 2)}", axis=1)


def _reasons(table: pd.DataFrame) -> pd.Series:
    own = table[(table["n"] == N_CHANNELS) & (table["kind"] == "removed")].set_index("basis")
    return own.apply(lambda line: f"{line['energy']:.0%}, {line['contribution']:.0%}", axis=1)


def _purities(table: pd.DataFrame) -> pd.Series:
    own = table.set_index("scheme")
    return own.apply(lambda line: f"{line['raw']:.2f} → {line['orthogonal']:.2f}; {line['invertible']:.2f}", axis=1)


def _places(table: pd.DataFrame) -> pd.Series:
    names = ["channel", "enlarged", "integrated", "random"]
    return table.set_index("scheme").apply(lambda line: BEHIND.join(number(line[name], 2) for name in names), axis=1)


def _masked(table: pd.DataFrame) -> pd.Series:
    own = table[np.logical_and.reduce([table[name] == value for name, value in MASKED.items()])].set_index("scheme")
    return own.apply(
        lambda line: (
            f"{number(line['drop'], 2)}; {number(line['drop_random'], 2)}; {between(line['difference'], line['low'], line['high'])}"
        ),
        axis=1,
    )


def _invariant(table: pd.DataFrame) -> pd.Series:
    def line(own: pd.Series) -> str:
        rate = own["eer"]
        return f"{significant(own['largest_difference'])}; {own['accuracy']:.1%}" + (
            f"; {rate:.1%}" if np.isfinite(rate) else ""
        )

    return table[table["status"] == "ok"].set_index("model").apply(line, axis=1)


def _odd(runs: Sequence[Run]) -> pd.DataFrame:
    lines = []
    for run in runs:
        odd = run.rows[run.rows["status"] != "ok"]
        for (method, status), part in odd.groupby(
            ["method", odd["status"].str.replace(r"[\d.]+", "…", regex=True)], sort=False
        ):
            cells = len(part[standings.CELL].drop_duplicates())
            lines.append({"run": run.name, "method": method, "status": str(status)[:90], "cells": cells})
    return pd.DataFrame(lines)


def _by_grid(lines: pd.DataFrame, value: str, written: Callable[[float], str]) -> pd.Series:
    """One text per method: the means over fills, in the order of the grids; nothing where a fill is missing."""
    grids, wide = (
        list(dict.fromkeys(lines["grid"])),
        lines.pivot(index="method", columns=["grid", "fill"], values=value),
    )
    means = pd.DataFrame({grid: wide[grid].mean(axis=1, skipna=False) for grid in grids})
    return means.apply(lambda line: BEHIND.join(NOTHING if np.isnan(part) else written(part) for part in line), axis=1)


def _beside(
    runs: Sequence[Run], title: str, file: str, column: Callable[[pd.DataFrame], pd.Series], text: str
) -> Section:
    """A section from a table that the runs have beside their rows: one column per run that has it."""
    found = {run.name: run.table(file) for run in runs}
    columns = {name: column(table) for name, table in found.items() if len(table)}
    order = pd.Index(list(dict.fromkeys(name for own in columns.values() for name in own.index)))
    return Section(title, [text], {title: _table("", columns, order)})


def _table(head: str, columns: dict[str, pd.Series], order: pd.Index) -> pd.DataFrame:
    """One line per name, one column per run."""
    return pd.DataFrame(columns).reindex(order).fillna(NOTHING).rename_axis(head or "of").reset_index()
