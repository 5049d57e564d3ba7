"""Task × method × grid × fill → rows, in jobs that run side by side, can be interrupted, and are not computed twice."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import joblib
import torch
from tqdm import tqdm

from benchmarks.allocator import keep_freed_memory
from benchmarks.maps import Map, explained
from benchmarks.methods import METHODS, load_methods
from benchmarks.results import Cell, Results
from benchmarks.rows import Row
from benchmarks.scoring import scored
from benchmarks.stage import Reference, Stage
from benchmarks.subject import Subject
from benchmarks.tasks import Split
from captum_apex.masking import GRIDS

DEFAULT_FILLS = ("silence", "mean")


def default_methods() -> tuple[str, ...]:
    """All that are registered but those that are too dear to be judged unasked."""
    return tuple(name for name, method in METHODS.items() if method.default)


@dataclass(frozen=True)
class Settings:
    """What a run computes.

    Attributes:
        methods: names in `benchmarks.methods.METHODS`.
        grids: names in `captum_apex.masking.GRIDS`.
        fills: names in `captum_apex.masking.FILLS`.
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
        return [Job(tuple(own)) for own in calls.values()]


def run(
    subject: Subject, settings: Settings, results: Results, *, jobs: int = 1, backend: str | None = None, progress: bool = False
) -> None:
    """Scores every cell that is not finished; each is kept as soon as it is.

    A method that fails is a row that says so, and the run goes on. Cells do not depend on each other, nor on the number of jobs: on the CPU
    every job uses one thread.

    Args:
        subject: the classifier and its clips.
        settings: methods, grids, fills, clips.
        results: where the cells are kept.
        jobs: how many processes work side by side.
        backend: of joblib, `"loky"` where None; `"dask"` or `"ray"` where these are installed and connected to a cluster.
        progress: show a progress bar with the time left.
    """
    cells = results.missing(settings.cells, retry=settings.retry)
    if not cells:
        return
    with one_thread(subject):
        stage = Stage.of(subject, settings.clips, settings.part)
        with joblib.parallel_config(backend=backend or "loky", n_jobs=jobs):
            pairs = list(dict.fromkeys((cell.grid, cell.fill) for cell in cells))
            found = _parallel(_observe, [(stage, *pair) for pair in pairs])
            stage.references.update(dict(tqdm(found, "asking the model", len(pairs), unit="fill", disable=not progress, file=sys.stderr)))
            plan = Job.plan(cells)
            done = _parallel(_work, [(job, stage, settings) for job in plan])
            with tqdm(total=len(cells), desc="scoring", unit="cell", disable=not progress, file=sys.stderr) as bar:
                for finished in done:
                    for cell, rows in finished:
                        results.add(cell, rows)
                        bar.update()


@contextmanager
def one_thread(subject: Subject) -> Iterator[None]:
    """One thread for torch, where the classifier runs on the CPU, so that sums have one order; the former number is put back."""
    if next(subject.model.parameters()).is_cuda:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _parallel(function, arguments: Sequence[tuple]) -> Iterator:  # type: ignore[no-untyped-def]  # whatever the function gives
    """The results as they come, in any order."""
    return joblib.Parallel(return_as="generator_unordered", pre_dispatch="2*n_jobs")(joblib.delayed(function)(*own) for own in arguments)


def _observe(stage: Stage, grid: str, fill: str) -> tuple[tuple[str, str], Reference]:
    _single(stage)
    return (grid, fill), stage.observed(grid, fill)


def _work(job: Job, stage: Stage, settings: Settings) -> list[tuple[Cell, list[Row]]]:
    """In a worker: explains, and scores in each cell."""
    _single(stage)
    for path in settings.files:
        load_methods(path)
    first = job.cells[0]
    query = stage.query(stage.grid(first.grid), stage.fill(first.fill))
    maps = explained(METHODS[first.method], query, limit=settings.limit, sensitivity=settings.sensitivity)
    return [(cell, _rows(stage, maps[cell.method], cell, settings)) for cell in job.cells]


def _rows(stage: Stage, found: Map, cell: Cell, settings: Settings) -> list[Row]:
    return scored(stage, found, cell.method, cell.grid, cell.fill, settings.points)


def _single(stage: Stage) -> None:
    """One thread in a worker of its own as well, which keeps its memory."""
    keep_freed_memory()
    if not stage.inputs.is_cuda:
        torch.set_num_threads(1)
