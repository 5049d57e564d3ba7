"""Methods compared with each other over the cells of a run."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from benchmarks.statistics import holm, interval, intervals, paired_test

MEASURE = "difference"  # insertion − deletion, the main measure
LOWER_IS_BETTER = frozenset(
    {"deletion", "deletion_logit", "deletion_sigmoid", "average_drop", "complexity", "infidelity", "sensitivity"}
    | {"passes", "memory", "seconds"}
)
ORACLE = "greedy oracle"  # asks the model for the best next region: a bound, not a competitor
FAMILIES = ("APEX", "other methods", "controls")
CONTROLS = ("random", "energy", "blurred random", ORACLE)
ALL_FILLS = "all fills"
CELL = ["grid", "fill"]  # of one method
KEYS = ["method", *CELL]
TIE = 1e-6  # scores that differ by less are equal: float32 probabilities hold no more


def family(method: str) -> str:
    """Whose side a method is on, by the beginning of its name.

    >>> family("APEX time, n=3, through IG"), family("blurred random"), family("Saliency")
    ('APEX', 'controls', 'other methods')
    """
    return "APEX" if method.startswith("APEX") else "controls" if method.startswith(CONTROLS) else "other methods"


def scores(rows: pd.DataFrame, measure: str = MEASURE) -> pd.DataFrame:
    """One line per clip of a (grid, fill), one column per method; NaN where a method has no score.

    Args:
        rows: with the columns method, grid, fill, clip (−1 where a cell could not be computed) and the measure's.
        measure: a column, or `difference` for insertion − deletion.

    Raises:
        ValueError: a clip stands twice in a cell.
    """
    values = rows["insertion"] - rows["deletion"] if measure == MEASURE else rows[measure]
    judged = rows[[*CELL, "clip", "method"]].assign(value=values.where(np.isfinite(values)))[rows["clip"] >= 0]
    twice = judged.duplicated([*CELL, "clip", "method"])
    if twice.any():
        first = judged[twice].iloc[0]
        cell = f"{first['method']}, {first['grid']}, {first['fill']}"
        raise ValueError(f"expected one row per clip and cell, but got several of clip {first['clip']} in {cell}")
    wide = judged.pivot(index=[*CELL, "clip"], columns="method", values="value")
    wide = wide.reindex(columns=rows["method"].unique())
    parts = dict(cells_of(wide))
    order = (
        judged[CELL].drop_duplicates().itertuples(index=False, name=None)
    )  # the rows' own, which pivot does not keep
    return pd.concat([parts[cell] for cell in order]) if parts else wide


def cells_of(table: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """A table of `scores` by (grid, fill), in its order."""
    return [((str(grid), str(fill)), part) for (grid, fill), part in table.groupby(CELL, sort=False)]


def common(table: pd.DataFrame) -> pd.DataFrame:
    """The part of a table of scores that has no gaps, so that methods can be ranked on it.

    A (grid, fill) counts where at least half of the methods have a score; a method takes part when it has scores in all of these; what is
    left are the clips which every such method has in each of them. Nothing is imputed.

    Args:
        table: of `scores`.
    """
    present = table.notna().groupby(CELL, sort=False).any()  # (cell, method)
    cells, methods = complete(present)
    counting = np.array([place[:2] in cells for place in table.index], dtype=bool)
    kept = table[counting].filter(methods).dropna()
    times = kept.groupby("clip").size()
    return kept[kept.index.get_level_values("clip").isin(times.index[times == len(cells)])]


def complete(present: pd.DataFrame) -> tuple[pd.Index, pd.Index]:
    """The cells that at least half of the methods have, and the methods that have all of these.

    Args:
        present: whether a method has scores in a cell, (cell, method).
    """
    scored = present.columns[present.any()]
    cells = present.index[present[scored].mean(axis=1) >= 0.5]
    return cells, scored[present.loc[cells, scored].all()]


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per cell: status, clips, the main measure with its 95% interval (low, high), the means of all other measures."""
    others = [name for name in rows.select_dtypes("number").columns if name not in ("clip", "label", "predicted")]
    groups = rows.assign(clips=rows["clip"] >= 0).groupby(KEYS, sort=False)
    lines = groups.agg(status=("status", "first"), clips=("clips", "sum"))
    table = scores(rows)
    parts = []
    for cell, part in cells_of(table):
        low, high = intervals(part)
        index = pd.MultiIndex.from_tuples([(name, *cell) for name in part.columns], names=KEYS)
        parts.append(pd.DataFrame({MEASURE: part.mean().to_numpy(), "low": low, "high": high}, index=index))
    main = pd.concat(parts) if parts else pd.DataFrame(columns=[MEASURE, "low", "high"], dtype=float)
    return lines.join(main.reindex(lines.index)).join(groups[others].mean()).reset_index()


def standings(cells: pd.DataFrame, measure: str = MEASURE) -> pd.DataFrame:
    """Methods by their mean over cells, best first: `mean`, and `complete`, whether a method has every cell that counts (see `common`).

    The means of methods that are not complete are over other cells than those of the rest: they stand below, and the unscored last.

    Args:
        cells: of `summary`.
        measure: one of its columns.
    """
    wide = cells.pivot(index="method", columns=CELL, values=measure).reindex(list(dict.fromkeys(cells["method"])))
    counting, whole = complete(wide.notna().T)
    means = wide.loc[:, wide.columns.isin(counting)].mean(axis=1).where(wide.index.isin(whole), wide.mean(axis=1))
    found = pd.DataFrame({"mean": means, "complete": wide.index.isin(whole)})
    ascending = measure in LOWER_IS_BETTER
    return found.sort_values("mean", ascending=ascending, na_position="last", kind="stable").sort_values(
        "complete", ascending=False, kind="stable"
    )


def comparison(rows: pd.DataFrame, measure: str, reference: str) -> pd.DataFrame:
    """Every method against the reference method, in each (grid, fill), on the clips that both have.

    Args:
        rows: see `scores`.
        measure: likewise.
        reference: a method of the rows.

    Returns:
        One line per (grid, fill) and method. `clips`: those that both have; `mean`: of the method on them; `difference`: method − reference
        with its 95% interval `low`, `high`; `p`: of `paired_test`; `p_holm`: corrected for the methods of this (grid, fill), since each
        perspective and fill is a question of its own; `wins`, `ties`, `losses`: clips; `coverage`: share of the run's clips that the method
        has here. Differences of at most 1e-6 are ties.

    Raises:
        ValueError: there is no such method.
    """
    table = scores(rows, measure)
    if reference not in table:
        raise ValueError(f"expected `reference` to be a method of the run, but got {reference!r}")
    n_clips = table.index.get_level_values("clip").nunique()
    parts = [_against(part, reference, measure, n_clips, cell) for cell, part in cells_of(table)]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COMPARED))


COMPARED = (
    *("grid", "fill", "method", "clips", "mean", "difference", "low", "high"),
    *("p", "p_holm", "wins", "ties", "losses", "coverage"),
)


def _against(part: pd.DataFrame, reference: str, measure: str, n_clips: int, cell: tuple[str, str]) -> pd.DataFrame:
    others = part.drop(columns=reference)
    difference = others.sub(part[reference], axis=0)
    difference = difference.where(difference.abs() > TIE, difference * 0)  # NaN stays NaN
    low, high = intervals(difference)
    kept = [column.dropna() for _, column in difference.items()]
    p_values = [paired_test(column, np.zeros(len(column))) for column in kept]
    better = -1 if measure in LOWER_IS_BETTER else 1
    found = {
        **dict(zip(CELL, cell, strict=True)),
        "method": others.columns,
        "clips": difference.notna().sum().to_numpy(),
        "mean": others.where(difference.notna()).mean().to_numpy(),
        "difference": difference.mean().to_numpy(),
        "low": low,
        "high": high,
        "p": p_values,
        "p_holm": holm(p_values),
        "wins": (better * difference > 0).sum().to_numpy(),
        "ties": (difference == 0).sum().to_numpy(),
        "losses": (better * difference < 0).sum().to_numpy(),
        "coverage": others.notna().sum().to_numpy() / n_clips,
    }
    return pd.DataFrame(found)


def average_ranks(rows: pd.DataFrame, measure: str = MEASURE) -> pd.DataFrame:
    """Mean rank of each method, 1 for the best, with a 95% bootstrap interval over clips.

    Methods are ranked against each other in every (grid, fill) of every clip, ties sharing their mean rank, on the part without gaps
    (`common`): a method that is absent in a cell is left out, not imputed. The cells of one clip are not independent, so a clip counts
    once, by the mean of its ranks, and clips are what is resampled. A Friedman test with Nemenyi's critical difference would take the
    cells of one clip for as many clips, and corrects for every pair of methods, most of which nobody asks about.

    Args:
        rows: see `scores`; of one grid, or of all.
        measure: likewise.

    Returns:
        One line per method, best first: `method`, `rank`, `low`, `high`, `clips`.
    """
    table = common(scores(rows, measure))
    ranks = table.round(6).rank(axis=1, ascending=measure in LOWER_IS_BETTER).groupby("clip").mean()  # (clip, method)
    low, high = intervals(ranks)
    found = pd.DataFrame(
        {"method": ranks.columns, "rank": ranks.mean().to_numpy(), "low": low, "high": high, "clips": len(ranks)}
    )
    return found.sort_values("rank", ignore_index=True, kind="stable")


def winners(rows: pd.DataFrame) -> pd.DataFrame:
    """Who leads in each (grid, fill), and in each grid over all its fills, and by how much against the best of another family.

    On the clips that all scored methods have. The greedy oracle does not take part. Both names were chosen on the clips that they are
    compared on, so the intervals are somewhat too kind to the winner.

    Returns:
        One line per (grid, fill): `method`, `family`, `mean`, `low`, `high` of the winner; `rival`, `rival_family`, `rival_mean`: the best
        method that is not of its family; `difference`, `difference_low`, `difference_high`, `p` of the two; `clips`.
    """
    table = scores(rows).drop(columns=ORACLE, errors="ignore")
    lines: list[dict[str, str | float]] = []
    for grid, part in table.groupby("grid", sort=False):
        fills = list(dict.fromkeys(part.index.get_level_values("fill")))
        for fill in [*fills, ALL_FILLS] if len(fills) > 1 else fills:
            chosen = common(part if fill == ALL_FILLS else part[part.index.get_level_values("fill") == fill])
            by_clip = chosen.groupby("clip").mean()  # the fills of one clip are not independent
            if len(by_clip):
                lines.append({"grid": str(grid), "fill": fill, **_winner(by_clip)})
    return pd.DataFrame(lines, columns=list(WON))


WON = (
    *("grid", "fill", "method", "family", "mean", "low", "high", "rival", "rival_family", "rival_mean"),
    *("difference", "difference_low", "difference_high", "p", "clips"),
)


def _winner(by_clip: pd.DataFrame) -> dict[str, str | float]:
    means = by_clip.mean().sort_values(ascending=False, kind="stable")
    first = str(means.index[0])
    low, high = interval(by_clip[first].to_numpy())
    found: dict[str, str | float] = {
        "method": first,
        "family": family(first),
        "mean": means.iloc[0],
        "low": low,
        "high": high,
    }
    others = [str(name) for name in means.index if family(str(name)) != family(first)]
    if others:
        rival = others[0]
        low, high = interval((by_clip[first] - by_clip[rival]).to_numpy())
        found |= {
            "rival": rival,
            "rival_family": family(rival),
            "rival_mean": means[rival],
            "difference": means.iloc[0] - means[rival],
        }
        found |= {"difference_low": low, "difference_high": high, "p": paired_test(by_clip[first], by_clip[rival])}
    return found | {"clips": len(by_clip)}


def share_of_oracle(rows: pd.DataFrame) -> pd.DataFrame:
    """How much of the greedy oracle's score each method reaches, on the clips that both have.

    Returns:
        One line per (grid, fill) and method: `share`, the ratio of the two means, with its 95% interval `low`, `high` (both resampled
        together; NaN where the oracle is not above zero in every resample), and `clips`. No lines without an oracle, or where its mean is
        not above zero.
    """
    table = scores(rows)
    parts = []
    for cell, part in cells_of(table) if ORACLE in table else ():
        bound, others = part[ORACLE].dropna(), part.loc[part[ORACLE].notna()].drop(columns=ORACLE)
        low, high = intervals(others, over=bound)
        bounds = others.notna().mul(bound, axis=0).where(others.notna()).mean()  # of the oracle, on each method's clips
        found = {
            **dict(zip(CELL, cell, strict=True)),
            "method": others.columns,
            "share": (others.mean() / bounds).to_numpy(),
        }
        lines = pd.DataFrame({**found, "low": low, "high": high, "clips": others.notna().sum().to_numpy()})
        parts.append(lines[(bounds > 0).to_numpy()])
    columns = [*CELL, "method", "share", "low", "high", "clips"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def front(price: ArrayLike, score: ArrayLike) -> NDArray[np.bool_]:
    """Which points no other one beats: none costs as little and scores more, or costs less and scores as much.

    Args:
        price: lower is better, (point,).
        score: higher is better, (point,); NaN is never on the front.

    >>> front([1, 2, 3, 3], [0.1, 0.3, 0.2, 0.4])
    array([ True,  True, False,  True])
    """
    price, score = np.asarray(price, dtype=float), np.asarray(score, dtype=float)
    no_worse = (price[:, None] <= price) & (score[:, None] >= score)  # (one, other): the one is no worse than the other
    better = (price[:, None] < price) | (score[:, None] > score)
    known = np.isfinite(price) & np.isfinite(score)
    return known & ~(no_worse & better & known[:, None]).any(0)
