"""Task × method × grid × fill → rows: every method's map, judged on identical masked clips."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.classifiers import explained_layer
from benchmarks.methods import CLIPS_AT_ONCE, METHODS, Explained, Query
from benchmarks.subject import Subject
from captum_apex.masking import FILLS, GRIDS, named_fill, named_grid
from captum_apex.metrics import deletion_insertion

LARGEST_DELTA = 0.1  # of a complete method, relative to the change it should add up to


@dataclass(frozen=True)
class Settings:
    """What a run computes.

    Attributes:
        methods: names in `benchmarks.methods.METHODS`.
        grids: names in `captum_apex.masking.GRIDS`.
        fills: names in `captum_apex.masking.FILLS`.
        clips: how many test clips.
        points: of each curve, both ends counted.
    """

    methods: Sequence[str] = tuple(METHODS)
    grids: Sequence[str] = tuple(GRIDS)
    fills: Sequence[str] = tuple(FILLS)
    clips: int = 24
    points: int = 9


@dataclass(frozen=True)
class Row:
    """One clip of one cell; a cell that could not be computed is one row without a clip.

    Attributes:
        method: name.
        grid: name.
        fill: name.
        status: `ok`, or what happened and why.
        seconds: to explain one clip, the mean over the batch.
        clip: test index.
        label: of the clip.
        predicted: the class explained, and whose probability is followed.
        deletion: area under the deletion curve of the probability, lower is better.
        insertion: area under the insertion curve, higher is better.
        fraction: share of the clip exchanged at each point.
        deletion_curve: probability at each point.
        insertion_curve: likewise.
    """

    method: str
    grid: str
    fill: str
    status: str
    seconds: float = float("nan")
    clip: int = -1
    label: int = -1
    predicted: int = -1
    deletion: float = float("nan")
    insertion: float = float("nan")
    fraction: tuple[float, ...] = ()
    deletion_curve: tuple[float, ...] = ()
    insertion_curve: tuple[float, ...] = ()


@dataclass(frozen=True)
class _Map:
    """A method's map, or why there is none."""

    attributions: Tensor | None
    status: str
    seconds: float


def run(subject: Subject, settings: Settings, *, progress: bool = False) -> Iterator[Row]:
    """Scores every method in every cell; a method that fails gives a row that says so, and the run goes on.

    Args:
        subject: the classifier and its clips.
        settings: methods, grids, fills, clips.
        progress: show a progress bar.
    """
    clips = _Clips.of(subject, settings.clips)
    cells = [(name, grid, fill) for name in settings.methods for grid in settings.grids for fill in settings.fills]
    maps: dict[tuple, _Map] = {}
    for name, grid_name, fill_name in tqdm(cells, desc="scoring", unit="cell", disable=not progress):
        grid = named_grid(grid_name, tuple(clips.inputs.shape[2:])).to(clips.inputs.device)
        fill = named_fill(fill_name, subject.task.silence)(clips.inputs)
        method = METHODS[name]
        key = (name, grid_name if method.uses_grid else None, fill_name if method.uses_fill else None)
        if key not in maps:
            maps = {other: found for other, found in maps.items() if other[0] == name}  # those of other methods are done with
            maps[key] = _explained(subject, name, clips, fill, grid)
        yield from _scored(
            subject, clips, maps[key], Row(name, grid_name, fill_name, maps[key].status, maps[key].seconds), grid, fill, settings
        )


@dataclass(frozen=True)
class _Clips:
    """The clips of a run, with the class that is explained: the predicted one."""

    indices: list[int]
    labels: list[int]
    inputs: Tensor
    target: Tensor

    @classmethod
    def of(cls, subject: Subject, n_clips: int) -> _Clips:
        indices, inputs = subject.test_clips(n_clips)
        with torch.no_grad():
            target = subject.model(inputs).argmax(1)
        return cls(indices, [subject.task.test[index][1] for index in indices], inputs, target)


def _scored(subject: Subject, clips: _Clips, found: _Map, cell: Row, grid: Tensor, fill: Tensor, settings: Settings) -> Iterator[Row]:
    """The rows of one cell."""
    if found.attributions is None:
        yield cell
        return
    probability = nn.Sequential(subject.model, nn.Softmax(1)).eval()
    curves = deletion_insertion(
        probability,
        clips.inputs,
        found.attributions,
        fill,
        grid=grid,
        target=clips.target,
        points=settings.points,
        batch_size=CLIPS_AT_ONCE,
        seed=subject.seed,
    )
    for i, index in enumerate(clips.indices):
        yield replace(
            cell,
            clip=index,
            label=clips.labels[i],
            predicted=int(clips.target[i]),
            deletion=curves.deletion_auc[i].item(),
            insertion=curves.insertion_auc[i].item(),
            fraction=tuple(curves.fraction[i].tolist()),
            deletion_curve=tuple(curves.deletion[i].tolist()),
            insertion_curve=tuple(curves.insertion[i].tolist()),
        )


def _explained(subject: Subject, name: str, clips: _Clips, fill: Tensor, grid: Tensor) -> _Map:
    """A method's map on a deep copy of the model; an exception becomes a status."""
    model, inputs = copy.deepcopy(subject.model), clips.inputs.clone()
    query = Query(
        model, explained_layer(model), inputs, clips.target.clone(), fill, grid, subject.task.silence, subject.bases, subject.seed
    )
    start = time.perf_counter()
    try:
        with _seeded(subject.seed), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # Captum's notes on hooks and requires_grad: the model is a copy
            result = METHODS[name].explain(query)
    except torch.OutOfMemoryError as error:
        return _Map(None, f"out of memory ({_first_line(error)})", _seconds(start, inputs))
    except Exception as error:
        kind = "unsupported" if isinstance(error, (TypeError, NotImplementedError, AssertionError)) else "error"
        return _Map(None, f"{kind} ({_first_line(error)})", _seconds(start, inputs))
    return _judged(result, clips.inputs, _seconds(start, inputs))


def _judged(result: Explained, inputs: Tensor, seconds: float) -> _Map:
    """The map with its status: a bad shape or a non-finite value cannot be scored, a broken axiom can."""
    attributions, delta = result if isinstance(result, tuple) else (result, None)
    attributions = attributions.detach()
    if attributions.shape != inputs.shape:
        return _Map(None, f"bad shape ({tuple(attributions.shape)})", seconds)
    if not attributions.isfinite().all():
        return _Map(None, "non-finite", seconds)
    if bool((attributions.flatten(1) == attributions.flatten(1)[:, :1]).all()):
        return _Map(None, "degenerate (constant maps)", seconds)
    relative = 0.0 if delta is None else _relative_delta(delta, attributions)
    return _Map(attributions, f"axiom violated ({relative:.2f})" if relative > LARGEST_DELTA else "ok", seconds)


def _relative_delta(delta: Tensor, attributions: Tensor) -> float:
    """Median of |delta| over |what the map should add up to|; delta = what it adds up to − what it should."""
    total = attributions.flatten(1).sum(1)
    return (delta.abs() / (total - delta).abs().clamp_min(1e-6)).median().item()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The global generators of torch and numpy set to a seed, and put back: Captum's sampling methods draw from both."""
    numpy_state = np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002


def _seconds(start: float, inputs: Tensor) -> float:
    if inputs.is_cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / len(inputs)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
