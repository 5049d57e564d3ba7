"""Task × method × grid × fill → rows, in jobs that run side by side, can be interrupted, and are not computed twice.

First every method explains the clips; of its maps only the regions' sums are kept. Then, grid by grid and fill by fill, all methods are
scored together, a few clips at a time, so that a mask that several of them ask about costs one pass.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import joblib
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from tqdm import tqdm

from benchmarks.methods import METHODS, load_methods
from benchmarks.runs.allocator import keep_freed_memory
from benchmarks.runs.maps import Map, Summed, explained, status_of
from benchmarks.runs.results import Results
from benchmarks.runs.rows import Cell, Row
from benchmarks.runs.scoring import row_of, scored
from benchmarks.runs.stage import Stage
from benchmarks.runs.subject import Subject
from benchmarks.tasks import Split
from captum_apex.masking.grids import GRIDS

DEFAULT_FILLS = ("silence", "mean")
CLIPS_TOGETHER = 8  # in one job of the scoring


def default_methods() -> tuple[str, ...]:
    """All that are registered but those that are too dear to be judged unasked."""
    return tuple(name for name, method in METHODS.items() if method.default)


@dataclass(frozen=True)
class Settings:
    """What a run computes.

    Attributes:
        methods: names in `benchmarks.methods.METHODS`.
        grids: names in `captum_apex.masking.grids.GRIDS`.
        fills: names in `captum_apex.masking.fills.FILLS`.
        clips: how many.
        part: of the task that they are taken from; the training part is there to choose settings with.
        points: of each curve, both ends counted.
        sensitivity: how many perturbed copies of each clip are explained to see how much the maps change; each costs as much as the map.
        limit: seconds after which one explanation of all clips is given up; None for none.
        files: absolute paths of methods that are not the benchmark's own, see `benchmarks.methods.load_methods`.
        retry: whether cells that ended for want of time or memory, or by an error, are computed again.
    """

    methods: Sequence[str]
    grids: Sequence[str] = tuple(GRIDS)
    fills: Sequence[str] = DEFAULT_FILLS
    clips: int = 24
    part: Split = "test"
    points: int = 7
    sensitivity: int = 0
    limit: float | None = None
    files: Sequence[Path] = ()
    retry: bool = False

    @property
    def cells(self) -> list[Cell]:
        """Every cell, in the order of the rows."""
        return [Cell(method, grid, fill) for method in self.methods for grid in self.grids for fill in self.fills]


@dataclass(frozen=True)
class Job:
    """One call of a method, and the cells that its maps are judged in."""

    cells: tuple[Cell, ...]

    @staticmethod
    def plan(cells: Sequence[Cell]) -> list[Job]:
        """The fewest calls: cells share one where the maps depend on neither their grid nor their fill, or come of one call."""
        calls: dict[tuple, list[Cell]] = {}
        for cell in cells:
            method = METHODS[cell.method]
            key = (method.names, cell.grid if method.uses_grid else None, cell.fill if method.uses_fill else None)
            calls.setdefault(key, []).append(cell)
        jobs = [Job(tuple(own)) for own in calls.values()]
        return sorted(
            jobs, key=lambda job: not METHODS[job.cells[0].method].uses_grid
        )  # the longest first, so that none is left alone


def run(
    subject: Subject,
    settings: Settings,
    results: Results,
    *,
    jobs: int = 1,
    backend: str | None = None,
    progress: bool = False,
) -> None:
    """Scores every cell that is not finished; the cells of a grid and fill are kept when their last clips are scored.

    A method that fails is a row that says so, and the run goes on. Cells do not depend on each other, nor on the number of jobs: on the CPU
    every job uses one thread.

    Args:
        subject: the classifier and its clips.
        settings: methods, grids, fills, clips.
        results: where the maps' sums and the cells are kept.
        jobs: how many processes work side by side.
        backend: of joblib, `"loky"` where None; `"dask"` or `"ray"` where these are installed and connected to a cluster.
        progress: show progress bars with the time left.
    """
    cells = results.missing(settings.cells, retry=settings.retry)
    if not cells:
        return
    bar = partial(tqdm, disable=not progress, file=sys.stderr)
    with one_thread(subject), joblib.parallel_config(backend=backend or "loky", n_jobs=jobs):
        stage = Stage.of(subject, settings.clips, settings.part)
        _explain(stage, [cell for cell in cells if results.sums(cell) is None], settings, results, bar)
        _score(stage, [cell for cell in cells if results.sums(cell) is not None], settings, results, bar)


def _explain(stage: Stage, cells: Sequence[Cell], settings: Settings, results: Results, bar: Callable) -> None:
    """Keeps the sums of every cell's map; where there is no map to score, the cell is finished with a row that says why."""
    done = _parallel(_work, ((job, stage, settings) for job in Job.plan(cells)))
    with bar(total=len(cells), desc="explaining", unit="map") as counter:
        for finished in done:
            for cell, found in finished:
                if found.sums is None:
                    results.add(cell, [row_of(cell, found)])
                else:
                    results.keep(cell, found)
                counter.update()


def _score(stage: Stage, cells: Sequence[Cell], settings: Settings, results: Results, bar: Callable) -> None:
    """Scores all methods of a grid and fill together, a few clips at a time; a cell is kept when its last clips are."""
    together: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        together.setdefault((cell.grid, cell.fill), []).append(cell)
    n_parts = math.ceil(len(stage.indices) / CLIPS_TOGETHER)
    scored_parts: dict[tuple[str, str], dict[int, dict[str, list[Row]]]] = {key: {} for key in together}

    def jobs() -> Iterator[tuple]:
        for key, own in together.items():
            maps = {cell.method: found for cell in own if (found := results.sums(cell)) is not None}
            for clips, part in stage.parts(CLIPS_TOGETHER):
                yield key, part, {name: found.clips(clips) for name, found in maps.items()}, settings

    with bar(total=len(together) * len(stage.indices), desc="scoring", unit="clip") as counter:
        for key, first, n_clips, rows in _parallel(_ask, jobs()):
            scored_parts[key][first] = rows
            counter.update(n_clips)
            if len(scored_parts[key]) == n_parts:
                ordered = [rows for _, rows in sorted(scored_parts.pop(key).items())]
                for cell in together[key]:
                    results.add(cell, _joined([rows[cell.method] for rows in ordered]))


def _joined(parts: Sequence[list[Row]]) -> list[Row]:
    """The rows of a cell; where a part could not be scored, the one that says why: half a cell is none."""
    failed = next((rows for rows in parts if rows[0].clip < 0), None)
    return failed or [row for rows in parts for row in rows]


@contextmanager
def one_thread(subject: Subject) -> Iterator[None]:
    """One thread for torch, where the classifier runs on the CPU, so that sums have one order; the former number is put back."""
    if next(subject.model.parameters()).is_cuda:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):  # of BLAS, which scikit-learn's fits use
            yield
    finally:
        torch.set_num_threads(before)


def _parallel(function: Callable, arguments: Iterable[tuple]) -> Iterator:
    """The results as they come, in any order."""
    return joblib.Parallel(return_as="generator_unordered", pre_dispatch="2*n_jobs")(
        joblib.delayed(function)(*own) for own in arguments
    )


def _work(job: Job, stage: Stage, settings: Settings) -> list[tuple[Cell, Summed]]:
    """In a worker: one call of a method, and the sums of its maps in each cell."""
    _single(stage)
    for path in settings.files:
        load_methods(path)
    first = job.cells[0]
    names = tuple(dict.fromkeys(cell.method for cell in job.cells))
    query = replace(stage.query(stage.grid(first.grid), stage.fill(first.fill)), names=names)
    maps = explained(METHODS[first.method], query, limit=settings.limit, sensitivity=settings.sensitivity)
    return [(cell, _summed(maps[cell.method], stage.grid(cell.grid), stage)) for cell in job.cells]


def _summed(found: Map, grid: Tensor, stage: Stage) -> Summed:
    try:
        return Summed.of(found, grid, stage.truth)
    except Exception as error:  # the copies that it makes may not fit where the map did
        return Summed(None, status_of(error), found.passes, found.memory, found.seconds)


def _ask(
    key: tuple[str, str], stage: Stage, maps: Mapping[str, Summed], settings: Settings
) -> tuple[tuple[str, str], int, int, dict[str, list[Row]]]:
    """In a worker: the rows of all methods for a few clips, with the grid and fill, the first clip and how many there are."""
    _single(stage)
    return key, stage.indices[0], len(stage.indices), scored(stage, *key, maps, settings.points)


def _single(stage: Stage) -> None:
    """One thread in a worker of its own as well, which keeps its memory."""
    keep_freed_memory()
    if not stage.inputs.is_cuda:
        torch.set_num_threads(1)
        threadpool_limits(1)
