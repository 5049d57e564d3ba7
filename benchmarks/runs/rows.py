"""A row of the results: one clip of one cell, with all its measures."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import NamedTuple

import pandas as pd

NAN = float("nan")
_CHECKSUM = "# sha256 "  # beginning of the first line


class Cell(NamedTuple):
    """What a score belongs to: the name of a method, of a region grid and of a fill."""

    method: str
    grid: str
    fill: str


@dataclass(frozen=True)
class Row:
    """One clip of one cell; a cell that could not be computed is one row without a clip.

    Attributes:
        method: name of the method.
        grid: name of the region grid.
        fill: name of the fill.
        status: `ok`, or what happened and why.
        clip: index of the clip in its split; -1 if nothing could be scored.
        label: index of the true class of the clip.
        predicted: index of the predicted class, which is explained; all scores are those of this class.
        deletion: area under the deletion curve of the probability, lower is better.
        insertion: area under the insertion curve of the probability, higher is better.
        deletion_logit, insertion_logit: the same for the logit.
        deletion_sigmoid, insertion_sigmoid: the same for the sigmoid of the logit, the probability of a multi-label
            model.
        aopc: mean fall of the probability over the points of the deletion curve.
        average_drop, average_increase, average_gain, faithfulness, input_fidelity: see `captum_apex.metrics`; the soft
            mask is the share of each region in the map.
        sparseness: Gini index of the regions' values, in [0, 1].
        complexity: entropy of the regions' shares, in nats.
        infidelity: mean squared difference between the change of the probability that the map predicts for random
            removals, with the best scale of the map, and the measured change.
        correlation: correlation between the predicted and the measured change, in [-1, 1].
        pointing: whether the largest value of the map lies on the truth; NaN if the truth is unknown.
        relevance_mass: share of the positive relevance on the truth; NaN if the truth is unknown or no relevance is
            positive.
        sensitivity: largest relative change of the map under small perturbations; NaN if not requested.
        passes: cost of explaining one clip, in forward passes.
        memory: largest number of bytes of tensors that explaining one clip holds at one time.
        seconds: time of explaining one clip; the only column that differs from run to run.
        fraction: share of the clip that is replaced at each point of the curves, as numbers separated by spaces.
        deletion_curve: probability at each point of the deletion curve, as numbers separated by spaces.
        insertion_curve: probability at each point of the insertion curve, as numbers separated by spaces.
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
    """A table with one line per row, and the columns in the order of `COLUMNS`."""
    return pd.DataFrame([asdict(row) for row in rows], columns=list(COLUMNS))


def text_of(rows: Iterable[Row]) -> str:
    """The rows as CSV, after a line with the checksum of what follows; see `rows_in`."""
    text = frame(rows).to_csv(index=False, lineterminator="\n")
    return f"{_CHECKSUM}{hashlib.sha256(text.encode()).hexdigest()}\n{text}"


def rows_in(text: str) -> str:
    """The CSV in a text that `text_of` gave.

    A text of a version before the checksum is returned as it is if it ends with a whole line.

    Raises:
        ValueError: the text is damaged, or was cut.

    Example:
        >>> cell = Cell("energy", "time", "mean")
        >>> text = text_of([Row(*cell, "ok", clip=0), Row(*cell, "ok", clip=1)])
        >>> rows_in(text).splitlines()[2][:24]
        'energy,time,mean,ok,1,-1'
        >>> rows_in(text[:-1])
        Traceback (most recent call last):
        ValueError: its checksum is that of other rows: the file is damaged
    """
    first, _, rest = text.partition("\n")
    if first.startswith(_CHECKSUM):
        if first != f"{_CHECKSUM}{hashlib.sha256(rest.encode()).hexdigest()}":
            raise ValueError("its checksum is that of other rows: the file is damaged")
        return rest
    if not first.startswith(f"{COLUMNS[0]},") or not text.endswith("\n"):
        raise ValueError("it holds no whole rows")
    return text


def numbers(values: Iterable[float]) -> str:
    """The numbers of a curve as a text, separated by spaces, with all digits.

    Example:
        >>> numbers([1.0, 0.5])
        '1.0 0.5'
    """
    return " ".join(repr(float(value)) for value in values)
