"""A row of the results: one clip of one cell, and all that is measured there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import NamedTuple

import pandas as pd

NAN = float("nan")


class Cell(NamedTuple):
    """What one score belongs to."""

    method: str
    grid: str
    fill: str


@dataclass(frozen=True)
class Row:
    """One clip of one cell; a cell that could not be computed is one row without a clip.

    Attributes:
        method: name.
        grid: name.
        fill: name.
        status: `ok`, or what happened and why.
        clip: test index; -1 where nothing could be scored.
        label: of the clip.
        predicted: the class explained, and whose score is followed.
        deletion: area under the deletion curve of the probability, lower is better.
        insertion: area under the insertion curve, higher is better.
        deletion_logit, insertion_logit: the same for the logit.
        deletion_sigmoid, insertion_sigmoid: the same for the logit's sigmoid, as multi-label models are read.
        aopc: mean fall of the probability over the points of the deletion curve.
        average_drop, average_increase, average_gain, faithfulness, input_fidelity: see `captum_apex.metrics`; the mask is the regions' map.
        sparseness: Gini index of the regions' values, in [0, 1].
        complexity: entropy of the regions' shares, in nats.
        infidelity: mean square of what the map says of random removals less what happened, in probability; the map scaled as fits best.
        correlation: of the same two, in [-1, 1].
        pointing: whether the map's largest value lies on the truth; NaN where that is unknown.
        relevance_mass: share of the positive relevance on the truth; NaN likewise, and where no relevance is positive.
        sensitivity: largest relative change of the map under small perturbations; NaN unless asked for.
        passes: price of explaining one clip, in forward passes.
        memory: most bytes of tensors that explaining one clip holds at one time.
        seconds: of the explanation, per clip: the one thing here that differs from run to run.
        fraction: share of the clip exchanged at each point, as numbers separated by spaces.
        deletion_curve: probability at each point, likewise.
        insertion_curve: likewise.
    """

    method: str
    grid: str
    fill: str
    status: str
    clip: int = -1
    label: int = -1
    predicted: int = -1
    deletion: float = NAN
    insertion: float = NAN
    deletion_logit: float = NAN
    insertion_logit: float = NAN
    deletion_sigmoid: float = NAN
    insertion_sigmoid: float = NAN
    aopc: float = NAN
    average_drop: float = NAN
    average_increase: float = NAN
    average_gain: float = NAN
    faithfulness: float = NAN
    input_fidelity: float = NAN
    sparseness: float = NAN
    complexity: float = NAN
    infidelity: float = NAN
    correlation: float = NAN
    pointing: float = NAN
    relevance_mass: float = NAN
    sensitivity: float = NAN
    passes: float = NAN
    memory: float = NAN
    seconds: float = NAN
    fraction: str = ""
    deletion_curve: str = ""
    insertion_curve: str = ""


COLUMNS = tuple(field.name for field in fields(Row))


def frame(rows: Iterable[Row]) -> pd.DataFrame:
    """One line per row, the columns in their order."""
    return pd.DataFrame([asdict(row) for row in rows], columns=list(COLUMNS))


def numbers(values: Iterable[float]) -> str:
    """As a curve stands in a row; `repr` loses no digit.

    >>> numbers([1.0, 0.5])
    '1.0 0.5'
    """
    return " ".join(repr(float(value)) for value in values)
