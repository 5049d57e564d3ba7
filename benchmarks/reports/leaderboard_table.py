"""The leaderboard: scores of methods on a frozen version of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from benchmarks.reports.markup import NOTHING, Section, number
from benchmarks.reports.standings import MEASURE, shown_name, summary

NAME = "Leaderboard"
SCORES = "Insertion − deletion"
TRUTH = "On the sound"
KEY = ("version", "entry", "method")
COLUMNS = (
    *("grid", "fill", "status", "clips", MEASURE, "low", "high", "pointing", "relevance_mass", "passes"),
    *("exact", "source", "file", "code"),
)
"""Columns of the lines of `leaderboard_lines`, beside those of `KEY`."""
ABOUT = (
    "Everybody's methods on the same networks, clips, fills and grids. Each entry of the first table is the mean of "
    "insertion − deletion over clips, grids and fills; higher is better. The second table has the pointing game and "
    "the relevance mass, of tasks whose truth is known; the mass is a mean over the clips in which the map is positive "
    "somewhere. The lines are in the order of the mean over the entries that all methods have. Controls do not "
    "attribute the decision of the model, or are another method under a second name, and lead nothing."
)


def leaderboard_lines(rows: pd.DataFrame, about: Mapping[str, Any], files: Mapping[str, str]) -> pd.DataFrame:
    """One line for each method, grid and fill of an entry.

    Args:
        rows: rows of a run, one for each clip.
        about: values of the columns `version`, `entry`, `exact`, `source` and `code`.
        files: digest of the file of each method that is not the benchmark's.
    """
    lines = summary(rows).assign(**about)
    return lines.assign(file=lines["method"].map(lambda name: files.get(name, "")))[[*KEY, *COLUMNS]]


def leaderboard_section(lines: pd.DataFrame) -> Section:
    """The section with one line for each method.

    Args:
        lines: lines of `leaderboard_lines`, of several entries and methods.
    """
    by_entry = _means(lines, MEASURE)
    whole = by_entry.dropna(axis="columns") if by_entry.notna().all().any() else by_entry
    order = whole.mean(axis=1, skipna=False).sort_values(ascending=False, kind="stable").index
    scores = by_entry.loc[order].map(_shown)
    passes = lines.groupby("method", sort=False)["passes"].mean()
    scores["passes"] = [number(passes[name], 3) for name in order]
    tables = {SCORES: scores.rename(index=shown_name).rename_axis("method").reset_index()}
    known = lines[lines["pointing"].notna() | lines["relevance_mass"].notna()]
    if len(known):
        pointing, mass = (_means(known, name).reindex(order) for name in ("pointing", "relevance_mass"))
        both = {
            entry: [f"{_shown(one)}, {_shown(other)}" for one, other in zip(pointing[entry], mass[entry], strict=True)]
            for entry in pointing.columns
        }
        tables[TRUTH] = pd.DataFrame({"method": [shown_name(name) for name in order], **both})
    return Section(NAME, [ABOUT], tables)


def _means(lines: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The mean over grids and fills, (method, entry); NaN where a cell has no score."""
    means = lines.groupby(["method", "entry"], sort=False)[measure].agg(lambda values: values.mean(skipna=False))
    return means.unstack("entry").reindex(index=lines["method"].unique(), columns=lines["entry"].unique())


def _shown(value: float) -> str:
    return NOTHING if pd.isna(value) else number(value, 3)
