"""Where the jobs of a run are computed: processes of this machine, or the workers of a Dask or Ray cluster.

All give the same results. Every worker gets the stage of the run once, and not with every job.
"""

from __future__ import annotations

import multiprocessing.resource_tracker
import pickle
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import joblib
from joblib.externals.loky.backend import resource_tracker
from joblib.externals.loky.process_executor import TerminatedWorkerError

from benchmarks.runs.clusters import CLUSTERS, call_on_stage, check_package
from benchmarks.runs.stage import Stage


class Workers(Protocol):
    """Processes that hold the stage of a run."""

    def results(self, function: Callable, calls: Iterable[tuple]) -> Iterator[Any]:
        """The values `function(stage, *call)` of all calls, in the order in which they are ready.

        Where the worker of a call ended, and ended again when the call was repeated, there is a `Lost` in its place.
        """


@contextmanager
def started(
    stage: Stage, *, jobs: int = 1, backend: str | None = None, address: str | None = None
) -> Iterator[Workers]:
    """Workers that hold the stage; those that were started for the run end with the block.

    Args:
        stage: the stage of the run.
        jobs: number of processes of this machine; a cluster at an `address` has its own number.
        backend: `"dask"`, `"ray"`, or the name of a backend of joblib; None for `"loky"`, which starts processes.
        address: address of a running Dask or Ray cluster; None to start one of processes of this machine.
    """
    with ExitStack() as opened:
        if backend in CLUSTERS:
            connected, cluster = CLUSTERS[backend]
            with _workers_without_interruptions():
                client = opened.enter_context(connected(jobs, address))
            yield cluster(client, stage)
        else:
            opened.enter_context(joblib.parallel_config(backend=backend or "loky", n_jobs=jobs))
            yield _JoblibWorkers(stage, jobs, Path(opened.enter_context(TemporaryDirectory())))


@contextmanager
def ended_workers() -> Iterator[None]:
    """Says of a worker that the system ended what the reason most likely is.

    Raises:
        MemoryError: a worker ended in the block.

    Example:
        >>> from benchmarks.runs.workers import TerminatedWorkerError, ended_workers
        >>> try:
        ...     with ended_workers():
        ...         raise TerminatedWorkerError("SIGKILL")
        ... except MemoryError as error:
        ...     print(error)
        the system ended a worker, most likely for this reason; try fewer --jobs (SIGKILL)
    """
    try:
        yield
    except TerminatedWorkerError as error:
        raise MemoryError(
            f"the system ended a worker, most likely for this reason; try fewer --jobs ({error})"
        ) from error


def check_backend(backend: str | None, address: str | None = None) -> None:
    """Raises where workers cannot be started; a cluster is connected to, if there is an address.

    Raises:
        ValueError: the backend is unknown or takes no address, or no cluster answers there.
        ImportError: the package of the backend is not installed.
    """
    if backend in CLUSTERS:
        check_package(backend)
        if address is not None:
            connected, _ = CLUSTERS[backend]
            with connected(1, address):
                pass
        return
    if address is not None:
        raise ValueError(f"expected --address only with --backend {' or '.join(CLUSTERS)}, but got {address!r}")
    try:
        joblib.parallel_config(backend=backend or "loky").unregister()
    except (ValueError, ImportError) as error:
        raise ValueError(f"expected --backend to be a backend of joblib, but got {backend!r}: {error}") from error


class _JoblibWorkers:
    """Processes or threads of this machine. If the system ends one of the processes, joblib raises an exception."""

    def __init__(self, stage: Stage, jobs: int, folder: Path) -> None:
        self._stage: Stage | Path = stage
        backend, _ = joblib.parallel.get_active_backend()
        if jobs > 1 and not getattr(backend, "supports_sharedmem", False):
            self._stage = folder / "stage.pickle"
            self._stage.write_bytes(pickle.dumps(stage))

    def results(self, function: Callable, calls: Iterable[tuple]) -> Iterator[Any]:
        with _workers_without_interruptions():
            return joblib.Parallel(return_as="generator_unordered", pre_dispatch="2*n_jobs")(
                joblib.delayed(_call_on_stored_stage)(self._stage, function, call) for call in calls
            )


def _call_on_stored_stage(stage: Stage | Path, function: Callable, call: tuple) -> Any:
    return call_on_stage(_read_stage(stage) if isinstance(stage, Path) else stage, function, call)


@lru_cache(maxsize=1)
def _read_stage(path: Path) -> Stage:
    """The stage in a file of this run; every process reads it once."""
    return pickle.loads(path.read_bytes())


@contextmanager
def _workers_without_interruptions() -> Iterator[None]:
    """Processes that are started inside do not see Ctrl-C, which a terminal sends to all: the run ends them itself.

    A worker that is interrupted prints a traceback. It inherits the signals that are blocked where it is started; one
    that comes meanwhile is delivered at the end of the block.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    for tracker in (multiprocessing.resource_tracker, resource_tracker):
        tracker.ensure_running()  # before the block: one that is started inside allows the signal again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
