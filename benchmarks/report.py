"""From rows to what people read: a table, a figure, and the files of a run."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.evidence import Finding
from benchmarks.runner import Row
from benchmarks.statistics import interval

PACKAGES = ("captum", "captum-apex", "numpy", "scikit-learn", "timm", "torch", "torchaudio")
CURVES = ("fraction", "deletion_curve", "insertion_curve")
COLOURS = ("#0072b2", "#d55e00")  # two of Okabe and Ito's, which colour-blind readers tell apart


def rows_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """One line per row, without the curves."""
    return pd.DataFrame([{name: value for name, value in asdict(row).items() if name not in CURVES} for row in rows])


def curves_frame(rows: Sequence[Row]) -> pd.DataFrame:
    """One line per point of every curve."""
    return pd.DataFrame(
        [
            {"method": row.method, "grid": row.grid, "fill": row.fill, "clip": row.clip, "fraction": x, "deletion": down, "insertion": up}
            for row in rows
            for x, down, up in zip(row.fraction, row.deletion_curve, row.insertion_curve, strict=True)
        ]
    )


def summary(rows: Sequence[Row]) -> pd.DataFrame:
    """One line per cell: means over clips of deletion, insertion and their difference, with the difference's 95% interval."""
    lines = []
    for (method, grid, fill), cell in rows_frame(rows).groupby(["method", "grid", "fill"], sort=False):
        difference = (cell.insertion - cell.deletion).to_numpy()
        low, high = interval(difference) if np.isfinite(difference).all() else (np.nan, np.nan)
        lines.append(
            {
                "method": method,
                "grid": grid,
                "fill": fill,
                "status": cell.status.iloc[0],
                "clips": int((cell["clip"] >= 0).sum()),
                "deletion": cell.deletion.mean(),
                "insertion": cell.insertion.mean(),
                "difference": difference.mean(),
                "low": low,
                "high": high,
                "seconds": cell.seconds.iloc[0],
            }
        )
    return pd.DataFrame(lines)


def table(cells: pd.DataFrame) -> str:
    """Insertion − deletion AUC for every method, best first, with the seconds per clip and the status where it is not `ok`."""
    wide = cells.pivot(index="method", columns=["grid", "fill"], values="difference")
    wide = wide.reindex(columns=list(dict.fromkeys(zip(cells.grid, cells.fill, strict=True))))
    order = wide.mean(axis=1).sort_values(ascending=False, na_position="last").index
    seconds = cells.groupby("method").seconds.max()
    status = cells.groupby("method", sort=False).status.first()
    width = max(map(len, order))
    names = [wide.columns.get_level_values(level) for level in ("grid", "fill")]
    head = "".join(
        " " * width + "".join(f"  {name:>9}" for name in level) + end for level, end in zip(names, ("  s/clip\n", "\n"), strict=True)
    )
    lines = []
    for name in order:
        scores = "".join(f"  {value:9.3f}" if np.isfinite(value) else f"  {'–':>9}" for value in wide.loc[name])
        lines.append(f"{name:<{width}}{scores}  {seconds[name]:6.3f}" + ("" if status[name] == "ok" else f"  {status[name]}"))
    return head + "\n".join(lines)


def findings_table(found: Sequence[Finding]) -> str:
    """What the fitted bases buy, one line per scheme."""
    lines = [f"{'':<14}  {'mean purity':>11}  {'probability lost without 5 channels':>35}  {'meets the truth':>38}"]
    lines.append(f"{'scheme':<14}  {'raw  fitted':>11}  {'raw    fitted     ratio':>35}  {'channel  enlarged  through IG  random':>38}")
    for f in found:
        purity, drops = f"{f.purity_raw:.2f}    {f.purity_fitted:.2f}", f"{f.drop_raw:.3f}     {f.drop_fitted:.3f}      {f.drop_ratio:.2f}"
        places = (f.on_truth_channel, f.on_truth_enlarged, f.on_truth_integrated, f.on_truth_random)
        truth = "–" if np.isnan(places[0]) else f"{places[0]:.2f}      {places[1]:.2f}        {places[2]:.2f}    {places[3]:.2f}"
        lines.append(f"{f.scheme:<14}  {purity:>11}  {drops:>35}  {truth:>38}")
    return "\n".join(lines)


def figure(cells: pd.DataFrame, title: str) -> Figure:
    """Insertion − deletion AUC with 95% intervals, one panel per grid, one colour per fill, methods in the order of their mean."""
    grids, fills = list(dict.fromkeys(cells.grid)), list(dict.fromkeys(cells.fill))
    scored = cells[np.isfinite(cells.difference)]
    order = list(scored.groupby("method").difference.mean().sort_values().index)
    with mpl.rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        drawn = Figure(figsize=(3.2 + 2.6 * len(grids), 1.4 + 0.24 * len(order)), layout="constrained")
        panels = np.atleast_1d(drawn.subplots(1, len(grids), sharey=True))
        for panel, grid in zip(panels, grids, strict=True):
            panel.axvline(0, color="0.7", linewidth=0.8)
            for k, fill in enumerate(fills):
                part = scored[(scored.grid == grid) & (scored.fill == fill)].set_index("method").reindex(order)
                places = np.arange(len(order)) + 0.18 * (k - (len(fills) - 1) / 2)
                errors = [part.difference - part.low, part.high - part.difference]
                panel.errorbar(
                    part.difference, places, xerr=errors, fmt="os"[k % 2], markersize=4, linewidth=1, color=COLOURS[k % 2], label=fill
                )
            panel.set_title(f"{grid} regions")
            panel.set_xlabel("insertion − deletion AUC")
            panel.grid(axis="y", color="0.92")
            panel.set_axisbelow(True)
        panels[0].set_yticks(range(len(order)), order)
        drawn.legend(*panels[0].get_legend_handles_labels(), title="fill", loc="outside right lower", frameon=False)
        drawn.suptitle(title)
    return drawn


def write(folder: Path, rows: Sequence[Row], found: Sequence[Finding], settings: Mapping[str, Any]) -> str:
    """Writes rows.csv, curves.csv, cells.csv, evidence.csv, figure.png and run.json; gives the tables as text.

    Args:
        folder: made where it is missing.
        rows: of one run.
        found: what the bases buy.
        settings: what the run was asked for, and what it reached.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cells = summary(rows)
    rows_frame(rows).to_csv(folder / "rows.csv", index=False)
    curves_frame(rows).to_csv(folder / "curves.csv", index=False)
    cells.to_csv(folder / "cells.csv", index=False)
    pd.DataFrame([asdict(f) | {"drop_ratio": f.drop_ratio} for f in found]).to_csv(folder / "evidence.csv", index=False)
    title = f"{settings['task']}, {settings['network']}: {cells.clips.max()} clips, mean and 95% interval"
    figure(cells, title).savefig(folder / "figure.png", dpi=130)
    versions = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    (folder / "run.json").write_text(json.dumps({"settings": settings, "versions": versions}, indent=2) + "\n")
    return f"{table(cells)}\n\n{findings_table(found)}"
