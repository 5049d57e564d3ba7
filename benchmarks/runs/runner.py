"""A run: rows for every method, region grid and fill, in parallel jobs that can be interrupted and continued.

First every method explains the clips; only the sums of its maps over the regions are stored. Then, for each region
grid and fill, all methods are scored together, a few clips at a time, so that a mask that several methods need costs
one forward pass.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from tqdm import tqdm

from benchmarks.methods import METHODS, load_methods
from benchmarks.runs.allocator import keep_freed_memory
from benchmarks.runs.clusters import Lost
from benchmarks.runs.learning import learned_networks, write_learned
from benchmarks.runs.maps import Map, RegionSums, run_method, status_of
from benchmarks.runs.results import Results
from benchmarks.runs.rows import Cell, Row
from benchmarks.runs.scoring import row_of, score_methods
from benchmarks.runs.stage import Stage
from benchmarks.runs.subject import Subject
from benchmarks.runs.workers import Workers, started
from benchmarks.tasks import Split
from benchmarks.threads import one_thread
from captum_apex.masking.grids import GRIDS
from captum_apex.progress import bar_settings

DEFAULT_FILLS = ("silence", "mean")
CLIPS_TOGETHER = 8  # clips in one job of the scoring


def default_methods() -> tuple[str, ...]:
    """Names of the methods that a run without `--methods` includes: all but those registered with `default=False`."""
    return tuple(name for name, method in METHODS.items() if method.default)


@dataclass(frozen=True)
class Settings:
    """What a run computes.

    Attributes:
        methods: names of the methods, in `benchmarks.methods.METHODS`.
        grids: names of the region grids, in `captum_apex.masking.grids.GRIDS` or `benchmarks.runs.stage.SEGMENTS`.
        fills: names of the fills, in `captum_apex.masking.fills.FILLS`.
        clips: number of clips.
        part: the split of the task that the clips are taken from; "train" is used to choose settings of methods.
        points: number of points of each curve, including both ends.
        sensitivity: number of perturbed copies of each clip that are explained to measure the sensitivity of the maps;
            each costs as much as the map.
        limit: largest number of seconds for one explanation of all clips; None for no limit.
        files: absolute paths of files with further methods, see `benchmarks.methods.load_methods`.
        retry: whether cells that ran out of time or memory, or had an error, are computed again.
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
    """One call of a method, and the cells that its maps are scored in."""

    cells: tuple[Cell, ...]

    @staticmethod
    def plan(cells: Sequence[Cell]) -> list[Job]:
        """The smallest number of calls for all cells, in the order of execution.

        Cells share a call if one function computes their maps, and if the maps do not depend on the region grid or the
        fill where the cells differ in them.
        """
        calls: dict[tuple, list[Cell]] = {}
        for cell in cells:
            method = METHODS[cell.method]
            key = (method.names, cell.grid if method.uses_grid else None, cell.fill if method.uses_fill else None)
            calls.setdefault(key, []).append(cell)
        jobs = [Job(tuple(cells_of_call)) for cells_of_call in calls.values()]
        # Methods of regions take longest: they come first, so that no long job runs alone at the end.
        return sorted(jobs, key=lambda job: not METHODS[job.cells[0].method].uses_grid)


def run(
    subject: Subject,
    settings: Settings,
    results: Results,
    *,
    jobs: int = 1,
    backend: str | None = None,
    address: str | None = None,
    progress: bool = False,
) -> None:
    """Scores every cell that is not finished; those of a region grid and fill are stored after their last clips.

    If a method fails, its cell gets a row with the reason, and the run goes on. If a worker of a cluster ends twice in
    the same job, the cells of the job stay unfinished, with a warning. The scores of a cell depend neither on other
    cells nor on the number of jobs: on the CPU every job uses one thread.

    Args:
        subject: the classifier and its clips.
        settings: methods, region grids, fills and clips of the run.
        results: the folder for the sums of the maps and for the cells.
        jobs: number of processes that run at the same time; a cluster at an `address` has its own number.
        backend: `"dask"`, `"ray"`, or the name of a backend of joblib; None for `"loky"`, which starts processes.
        address: address of a running Dask or Ray cluster; None to start one of processes of this machine.
        progress: whether to show progress bars with the remaining time.
    """
    cells = results.missing(settings.cells, retry=settings.retry)
    if not cells:
        return
    bar = partial(tqdm, **bar_settings(progress))
    on_gpu = next(subject.model.parameters()).is_cuda
    with nullcontext() if on_gpu else one_thread():
        unmapped = [cell for cell in cells if results.sums(cell) is None]
        networks = learned_networks(subject, (name for cell in unmapped for name in METHODS[cell.method].learned))
        if networks:
            write_learned(results.folder, networks)
        stage = replace(Stage.of(subject, settings.clips, settings.part), learned=networks)
        with started(stage, jobs=jobs, backend=backend, address=address) as workers:
            _explain(workers, unmapped, settings, results, bar)
            mapped = [cell for cell in cells if results.sums(cell) is not None]
            _score(workers, len(stage.indices), mapped, settings, results, bar)


def _explain(workers: Workers, cells: Sequence[Cell], settings: Settings, results: Results, bar: Callable) -> None:
    """Stores the sums of every cell's map; a cell without a map is finished with a row that says why."""
    finished_jobs = workers.results(explain_job, ((job, settings) for job in Job.plan(cells)))
    with bar(total=len(cells), desc="explaining", unit="map") as counter:
        for sums_by_cell in finished_jobs:
            if isinstance(sums_by_cell, Lost):
                _warn_of_lost(sums_by_cell, sums_by_cell.call[0].cells)
                counter.update(len(sums_by_cell.call[0].cells))
                continue
            for cell, sums in sums_by_cell.items():
                if sums.sums is None:
                    results.add(cell, [row_of(cell, sums)])
                else:
                    results.add_sums(cell, sums)
                counter.update()


def _score(
    workers: Workers, n_clips: int, cells: Sequence[Cell], settings: Settings, results: Results, bar: Callable
) -> None:
    """Scores all methods of a region grid and fill together, a few clips at a time, and stores finished cells."""
    cells_by_table: dict[tuple[str, str], list[Cell]] = {}  # (grid, fill) → cells
    for cell in cells:
        cells_by_table.setdefault((cell.grid, cell.fill), []).append(cell)
    n_batches = math.ceil(n_clips / CLIPS_TOGETHER)
    scored_batches: dict[tuple[str, str], list[ScoredBatch]] = {table: [] for table in cells_by_table}
    calls = _scoring_calls(n_clips, cells_by_table, settings, results)
    with bar(total=len(cells_by_table) * n_clips, desc="scoring", unit="clip") as counter:
        for batch in workers.results(score_batch, calls):
            if isinstance(batch, Lost):
                _warn_of_lost(batch, cells_by_table[batch.call[1:3]])
                continue
            table = (batch.grid, batch.fill)
            scored_batches[table].append(batch)
            counter.update(batch.n_clips)
            if len(scored_batches[table]) == n_batches:
                _store(scored_batches.pop(table), cells_by_table[table], results)


def _store(batches: Sequence[ScoredBatch], cells: Sequence[Cell], results: Results) -> None:
    """Stores the cells of a region grid and fill, of which all clips are scored."""
    in_order = sorted(batches, key=lambda each: each.first_clip)
    for cell in cells:
        if cell.method in in_order[0].rows:
            results.add(cell, _joined([each.rows[cell.method] for each in in_order]))
        else:
            warnings.warn(f"the map of {', '.join(cell)} was deleted meanwhile; run it again", stacklevel=2)


def _warn_of_lost(lost: Lost, cells: Sequence[Cell]) -> None:
    names = "; ".join(", ".join(cell) for cell in cells)
    warnings.warn(f"not finished, because a worker ended twice ({lost.reason}): {names}; run it again", stacklevel=2)


def _scoring_calls(
    n_clips: int, cells_by_table: Mapping[tuple[str, str], Sequence[Cell]], settings: Settings, results: Results
) -> Iterator[tuple]:
    """The arguments of `score_batch` after the stage, for every region grid and fill and every few clips."""
    for (grid, fill), cells in cells_by_table.items():
        maps = {cell.method: sums for cell in cells if (sums := results.sums(cell)) is not None}
        for start in range(0, n_clips, CLIPS_TOGETHER):
            clips = slice(start, start + CLIPS_TOGETHER)
            yield clips, grid, fill, {name: sums.clips(clips) for name, sums in maps.items()}, settings


def _joined(batches: Sequence[list[Row]]) -> list[Row]:
    """The rows of a cell; if some clips could not be scored, only the row that says why: the cell is incomplete."""
    failed = next((rows for rows in batches if rows[0].clip < 0), None)
    return failed or [row for rows in batches for row in rows]


def explain_job(stage: Stage, job: Job, settings: Settings) -> dict[Cell, RegionSums]:
    """Calls a method and sums its maps for each cell of the job; runs in a worker."""
    _set_up_worker(stage)
    for path in settings.files:
        load_methods(path)
    first = job.cells[0]
    names = tuple(dict.fromkeys(cell.method for cell in job.cells))
    query = stage.query(stage.grid(first.grid), stage.fill(first.fill), names)
    maps = run_method(METHODS[first.method], query, limit=settings.limit, sensitivity=settings.sensitivity)
    return {cell: _region_sums(maps[cell.method], stage.grid(cell.grid), stage) for cell in job.cells}


def _region_sums(method_map: Map, grid: Tensor, stage: Stage) -> RegionSums:
    """The sums of a map over the regions; an exception becomes a status."""
    try:
        return RegionSums.of(method_map, grid, stage.truth)
    except Exception as error:  # memory that was enough for the map may not be enough for the copies made here
        return RegionSums(None, status_of(error), method_map.passes, method_map.memory, method_map.seconds)


class ScoredBatch(NamedTuple):
    """The rows of all methods for a few clips of one region grid and fill.

    Attributes:
        grid: name of the region grid.
        fill: name of the fill.
        first_clip: index of the first clip in its split.
        n_clips: number of clips.
        rows: name of a method → its rows.
    """

    grid: str
    fill: str
    first_clip: int
    n_clips: int
    rows: dict[str, list[Row]]


def score_batch(
    stage: Stage, clips: slice, grid: str, fill: str, maps: Mapping[str, RegionSums], settings: Settings
) -> ScoredBatch:
    """Scores all methods for some clips of the stage; runs in a worker."""
    _set_up_worker(stage)
    batch = stage.clips(clips)
    rows = score_methods(batch, grid, fill, maps, settings.points)
    return ScoredBatch(grid, fill, batch.indices[0], len(batch.indices), rows)


def _set_up_worker(stage: Stage) -> None:
    """One thread in every worker, and freed memory stays with it."""
    keep_freed_memory()
    if not stage.inputs.is_cuda:
        torch.set_num_threads(1)
        threadpool_limits(1)
