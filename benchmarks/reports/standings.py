"""Comparisons of methods over the cells of a run."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from benchmarks.statistics import holm, interval, paired_test
from captum_apex.metrics import bootstrap_interval

MEASURE = "difference"  # the main measure: insertion − deletion
LOWER_IS_BETTER = frozenset(
    {"deletion", "deletion_logit", "deletion_sigmoid", "average_drop", "complexity", "infidelity", "sensitivity"}
    | {"passes", "memory", "seconds"}
)
ORACLE = "greedy oracle"  # tries all regions with the model for each step: a bound, not an attribution method
FAMILIES = ("APEX", "other methods", "controls")
CONTROLS = ("random", "energy", "blurred random", "twin difference", "twin network", ORACLE)
ALL_CHANNELS = re.compile(r"^APEX\b.*\ball\b")  # names of rows of APEX that choose no channels
ALL_FILLS = "all fills"
CELL = ["grid", "fill"]  # columns that name a cell of one method
KEYS = ["method", *CELL]
TIE = 1e-6  # scores that differ by less are equal, since float32 probabilities are not more precise


def family(method: str) -> str:
    """The family of a method (see `FAMILIES`), by its name.

    Rows of APEX with all channels are controls: they choose no channels, and are the same in every basis. Before a
    linear head, all channels add up to the logit, so that `APEX all, two-sided` is two-sided occlusion, `APEX all,
    through Occlusion` is feature ablation, `APEX all, through IG` Integrated Gradients, and `APEX square, all` GradCAM.

    Example:
        >>> from benchmarks.reports.standings import family
        >>> family("APEX time, n=3, through IG"), family("blurred random"), family("Saliency")
        ('APEX', 'controls', 'other methods')
        >>> family("APEX all, two-sided")
        'controls'
    """
    if is_control(method) or ALL_CHANNELS.search(method):
        return "controls"
    return "APEX" if method.startswith("APEX") else "other methods"


def is_control(method: str) -> bool:
    """Whether a method is one of `CONTROLS`, also with settings after a comma.

    Example:
        >>> from benchmarks.reports.standings import is_control
        >>> [name for name in ("random", "random, twice", "random forest") if is_control(name)]
        ['random', 'random, twice']
    """
    return method.split(",")[0] in CONTROLS


def shown_name(method: str) -> str:
    """The name of a method in a table of several families, where it is said of controls that they are.

    Example:
        >>> from benchmarks.reports.standings import shown_name
        >>> shown_name("random"), shown_name("APEX all, two-sided"), shown_name("Saliency")
        ('random (control)', 'APEX all, two-sided (control)', 'Saliency')
    """
    return f"{method} (control)" if family(method) == "controls" else method


def can_lead(method: str) -> bool:
    """Whether a table may call a method the best: neither the greedy oracle nor APEX with all channels.

    The oracle is a bound, and the other would win by the name of APEX with what another method computes.

    Example:
        >>> from benchmarks.reports.standings import can_lead
        >>> [name for name in ("APEX all, two-sided", "APEX time", "greedy oracle", "random") if can_lead(name)]
        ['APEX time', 'random']
    """
    return method != ORACLE and not ALL_CHANNELS.search(method)


def scores(rows: pd.DataFrame, measure: str = MEASURE) -> pd.DataFrame:
    """One line per clip of a (region grid, fill), one column per method; NaN where a method has no score.

    Args:
        rows: one row per method, region grid, fill and clip, with the columns `method`, `grid`, `fill` and `clip` (−1
            where a cell could not be computed) and that of the measure.
        measure: name of a column, or `difference` for insertion − deletion.

    Raises:
        ValueError: a clip occurs twice in a cell.
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
    tables = dict(cells_of(wide))
    order = judged[CELL].drop_duplicates().itertuples(index=False, name=None)  # `pivot` sorts the cells
    return pd.concat([tables[cell] for cell in order]) if tables else wide


def cells_of(table: pd.DataFrame) -> list[tuple[tuple[str, str], pd.DataFrame]]:
    """The lines of a table of `scores` for each (region grid, fill), in the table's order."""
    return [((str(grid), str(fill)), lines) for (grid, fill), lines in table.groupby(CELL, sort=False)]


def common(table: pd.DataFrame) -> pd.DataFrame:
    """The lines and methods of a table of scores that have no gaps, so that the methods can be ranked.

    A (region grid, fill) counts if at least half of the methods have a score in it. The methods that have scores in all
    of these remain. Of the clips, those remain that every such method has in each of them. Nothing is imputed.

    Args:
        table: result of `scores`.
    """
    present = table.notna().groupby(CELL, sort=False).any()  # (cell, method)
    cells, methods = complete(present)
    counting = np.array([place[:2] in cells for place in table.index], dtype=bool)
    without_gaps = table[counting].filter(methods).dropna()
    times = without_gaps.groupby("clip").size()
    clips = times.index[times == len(cells)]
    return without_gaps[without_gaps.index.get_level_values("clip").isin(clips)]


def complete(present: pd.DataFrame) -> tuple[pd.Index, pd.Index]:
    """The cells that at least half of the methods have, and the methods that have all of these.

    Args:
        present: whether a method has scores in a cell, bool (cell, method).
    """
    scored = present.columns[present.any()]
    cells = present.index[present[scored].mean(axis=1) >= 0.5]
    return cells, scored[present.loc[cells, scored].all()]


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per cell: status, clips, the main measure with its 95% interval, and the means of all other measures.

    Args:
        rows: rows of a run, as in `scores`.

    Returns:
        The columns `method`, `grid`, `fill`, `status`, `clips` (number of clips with scores), `difference` with its
        interval `low`, `high`, and the other columns of the rows that hold numbers.
    """
    others = [name for name in rows.select_dtypes("number").columns if name not in ("clip", "label", "predicted")]
    groups = rows.assign(clips=rows["clip"] >= 0).groupby(KEYS, sort=False)
    lines = groups.agg(status=("status", "first"), clips=("clips", "sum"))
    table = scores(rows)
    frames = []
    for cell, by_clip in cells_of(table):
        low, high = bootstrap_interval(by_clip)
        index = pd.MultiIndex.from_tuples([(name, *cell) for name in by_clip.columns], names=KEYS)
        frames.append(pd.DataFrame({MEASURE: by_clip.mean().to_numpy(), "low": low, "high": high}, index=index))
    main = pd.concat(frames) if frames else pd.DataFrame(columns=[MEASURE, "low", "high"], dtype=float)
    return lines.join(main.reindex(lines.index)).join(groups[others].mean()).reset_index()


def standings(cells: pd.DataFrame, measure: str = MEASURE) -> pd.DataFrame:
    """Methods by their mean over cells, best first.

    Methods that lack a cell come after the others, since their mean is one over other cells; methods without scores
    come last.

    Args:
        cells: result of `summary`.
        measure: name of one of its columns.

    Returns:
        One line per method: `mean`, and `complete`, whether the method has every cell that counts (see `common`).
    """
    wide = cells.pivot(index="method", columns=CELL, values=measure).reindex(list(dict.fromkeys(cells["method"])))
    counting, whole = complete(wide.notna().T)
    means = wide.loc[:, wide.columns.isin(counting)].mean(axis=1).where(wide.index.isin(whole), wide.mean(axis=1))
    lines = pd.DataFrame({"mean": means, "complete": wide.index.isin(whole)})
    ascending = measure in LOWER_IS_BETTER
    by_mean = lines.sort_values("mean", ascending=ascending, na_position="last", kind="stable")
    return by_mean.sort_values("complete", ascending=False, kind="stable")


def comparison(rows: pd.DataFrame, measure: str, reference: str) -> pd.DataFrame:
    """Every method against the reference method, in each (region grid, fill), on the clips that both have.

    Args:
        rows: rows of a run, as in `scores`.
        measure: name of a column, or `difference`, as in `scores`.
        reference: name of the reference method.

    Returns:
        One line per (region grid, fill) and method; differences of at most 1e-6 are ties.

        - `clips`: number of clips that both methods have. `mean`: mean score of the method on them.
        - `difference`: method − reference, with its 95% interval `low`, `high`.
        - `p`: p-value of `paired_test`. `p_holm`: the same, corrected for the number of methods of this (region grid,
          fill); each region grid and fill is a separate question.
        - `wins`, `ties`, `losses`: numbers of clips.
        - `coverage`: share of the run's clips for which the method has a score.

    Raises:
        ValueError: the rows have no such method.
    """
    table = scores(rows, measure)
    if reference not in table:
        raise ValueError(f"expected `reference` to be a method of the run, but got {reference!r}")
    n_clips = table.index.get_level_values("clip").nunique()
    frames = [_against(by_clip, reference, measure, n_clips, cell) for cell, by_clip in cells_of(table)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COMPARED))


COMPARED = (
    *("grid", "fill", "method", "clips", "mean", "difference", "low", "high"),
    *("p", "p_holm", "wins", "ties", "losses", "coverage"),
)


def _against(by_clip: pd.DataFrame, reference: str, measure: str, n_clips: int, cell: tuple[str, str]) -> pd.DataFrame:
    others = by_clip.drop(columns=reference)
    difference = others.sub(by_clip[reference], axis=0)
    difference = difference.where(difference.abs() > TIE, difference * 0)  # NaN stays NaN
    low, high = bootstrap_interval(difference)
    differences = [column.dropna() for _, column in difference.items()]
    p_values = [paired_test(values, np.zeros(len(values))) for values in differences]
    better = -1 if measure in LOWER_IS_BETTER else 1
    columns = {
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
    return pd.DataFrame(columns)


def average_ranks(rows: pd.DataFrame, measure: str = MEASURE) -> pd.DataFrame:
    """Mean rank of each method, 1 for the best, with a 95% bootstrap interval over clips.

    Methods are ranked against each other in every (region grid, fill) of every clip; ties share their mean rank. This
    needs scores without gaps (see `common`): a method that lacks a cell is left out, not imputed. The cells of one clip
    are not independent, so a clip counts once, with the mean of its ranks, and the bootstrap resamples clips. A
    Friedman test with Nemenyi's critical difference would count each cell of a clip as a clip, and would correct for
    all pairs of methods, most of which are of no interest.

    Args:
        rows: rows of one region grid or of all, as in `scores`.
        measure: name of a column, or `difference`, as in `scores`.

    Returns:
        One line per method, best first: `method`, its mean `rank` with the interval `low`, `high`, and the number of
        `clips`.
    """
    table = common(scores(rows, measure))
    ranks = table.round(6).rank(axis=1, ascending=measure in LOWER_IS_BETTER).groupby("clip").mean()  # (clip, method)
    low, high = bootstrap_interval(ranks)
    lines = pd.DataFrame(
        {"method": ranks.columns, "rank": ranks.mean().to_numpy(), "low": low, "high": high, "clips": len(ranks)}
    )
    return lines.sort_values("rank", ignore_index=True, kind="stable")


def winners(rows: pd.DataFrame) -> pd.DataFrame:
    """The best method of each (region grid, fill) and of each region grid over its fills, with its best rival.

    The scores are those of the clips that all scored methods have. The greedy oracle and APEX with all channels do not
    take part (see `can_lead`). Both methods were chosen on the clips on which they are compared, so the intervals
    favour the winner somewhat.

    Args:
        rows: rows of a run, as in `scores`.

    Returns:
        One line per (region grid, fill):

        - `method`, `family`, `mean`, `low`, `high`: the winner, and its mean score with its 95% interval.
        - `rival`, `rival_family`, `rival_mean`: the best method that is not of the winner's family.
        - `difference`, `difference_low`, `difference_high`, `p`: winner − rival, its 95% interval, and the p-value of
          `paired_test`.
        - `clips`: number of clips.
    """
    table = scores(rows)
    table = table[[name for name in table if can_lead(str(name))]]
    lines: list[dict[str, str | float]] = []
    for grid, of_grid in table.groupby("grid", sort=False):
        fills = list(dict.fromkeys(of_grid.index.get_level_values("fill")))
        for fill in [*fills, ALL_FILLS] if len(fills) > 1 else fills:
            chosen = common(of_grid if fill == ALL_FILLS else of_grid[of_grid.index.get_level_values("fill") == fill])
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
    line: dict[str, str | float] = {
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
        line |= {
            "rival": rival,
            "rival_family": family(rival),
            "rival_mean": means[rival],
            "difference": means.iloc[0] - means[rival],
            "difference_low": low,
            "difference_high": high,
            "p": paired_test(by_clip[first], by_clip[rival]),
        }
    return line | {"clips": len(by_clip)}


def share_of_oracle(rows: pd.DataFrame) -> pd.DataFrame:
    """Each method's score as a share of the greedy oracle's score, on the clips that both have.

    Args:
        rows: rows of a run, as in `scores`.

    Returns:
        One line per (region grid, fill) and method: `share`, the ratio of the two means, with its 95% interval `low`,
        `high` (both means are resampled together; NaN where the oracle's mean is not above zero in every resample), and
        the number of `clips`. No lines where the run has no oracle, or where its mean is not above zero.
    """
    table = scores(rows)
    columns = [*CELL, "method", "share", "low", "high", "clips"]
    frames = []
    for cell, by_clip in cells_of(table) if ORACLE in table else ():
        oracle = by_clip[ORACLE].dropna()
        others = by_clip.loc[by_clip[ORACLE].notna()].drop(columns=ORACLE)
        low, high = bootstrap_interval(others, over=oracle)
        present = others.notna()
        oracle_means = present.mul(oracle, axis=0).where(present).mean()  # the oracle's mean on each method's clips
        shares = (others.mean() / oracle_means).to_numpy()
        clips = present.sum().to_numpy()
        lines = pd.DataFrame({"method": others.columns, "share": shares, "low": low, "high": high, "clips": clips})
        lines = lines.assign(**dict(zip(CELL, cell, strict=True)))[columns]
        frames.append(lines[(oracle_means > 0).to_numpy()])
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=columns)


def front(price: ArrayLike, score: ArrayLike) -> NDArray[np.bool_]:
    """The Pareto front: the points for which no other point is better in one respect and no worse in the other.

    Args:
        price: price of each point, lower is better, (point,).
        score: score of each point, higher is better, (point,); a point with NaN is never on the front.

    Returns:
        bool array (point,).

    Example:
        >>> from benchmarks.reports.standings import front
        >>> front([1, 2, 3, 3], [0.1, 0.3, 0.2, 0.4])
        array([ True,  True, False,  True])
    """
    price = np.asarray(price, dtype=float)
    score = np.asarray(score, dtype=float)
    no_worse = (price[:, None] <= price) & (score[:, None] >= score)  # (i, j): point i is no worse than point j
    better = (price[:, None] < price) | (score[:, None] > score)
    known = np.isfinite(price) & np.isfinite(score)
    return known & ~(no_worse & better & known[:, None]).any(0)
