"""Workers of a Dask or Ray cluster: one that is started on this machine, or one that runs elsewhere."""

from __future__ import annotations

import importlib
import logging
import os
import pickle
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import islice
from types import ModuleType
from typing import Any, NamedTuple

from benchmarks.runs.results import code_fingerprint, versions
from benchmarks.runs.stage import Stage
from captum_apex.extras import missing_package

PATIENCE = 60  # seconds to wait for a cluster, and for the first worker of Dask
_ONE_AT_A_TIME = threading.Lock()
_DASK_SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,  # a worker that ends is replaced, and `results` repeats its call
    "distributed.worker.profile.enabled": False,  # the profiler keeps tensors alive for a moment: see `Meter`
}
_RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to Ray's developers
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # all processes see the GPU, as without Ray
}


class Lost(NamedTuple):
    """A call without a result: the worker that computed it ended, twice.

    Attributes:
        call: the arguments of the call.
        reason: what the cluster says about it.
    """

    call: tuple
    reason: str


class WorkerEndedError(Exception):
    """The worker of a call ended before its result was there."""


def call_on_stage(stage: Stage, function: Callable, call: tuple) -> Any:
    """`function(stage, *call)` in a worker.

    A process computes one call at a time: threads would share the model, its hooks and the random number generators.
    """
    with _ONE_AT_A_TIME:
        return function(stage, *call)


def call_in_same_environment(stage: Stage, pickled_call: bytes) -> bytes:
    """`call_on_stage` in a worker that has the same code and packages as the process of the run.

    Arguments and result are pickled here, since Dask makes plain tuples of named ones on their way.

    Args:
        stage: the stage of the run.
        pickled_call: the function, its further arguments, and the `environment` of the run.

    Raises:
        ValueError: the worker has another environment, and would give other numbers.
    """
    function, call, expected = pickle.loads(pickled_call)
    found = environment()
    differences = [
        f"{name} {found.get(name)} for {expected[name]}" for name in expected if found.get(name) != expected[name]
    ]
    if differences:
        raise ValueError(
            f"expected every worker to have the code and the packages of the run, but one has {', '.join(differences)}"
        )
    return pickle.dumps(call_on_stage(stage, function, call))


@cache
def environment() -> dict[str, str]:
    """The code and the versions of the packages that numbers depend on, by name."""
    return {"code": code_fingerprint(), **versions()}


class Cluster(ABC):
    """The workers of a cluster, which hold the stage of a run."""

    @abstractmethod
    def _size(self) -> int:
        """The number of calls that the workers compute at the same time."""

    @abstractmethod
    def _submit(self, pickled_call: bytes) -> Any:
        """Sends the arguments of `call_in_same_environment` after the stage; returns the handle of the result."""

    @abstractmethod
    def _first(self, handles: list) -> Any:
        """Waits until one of the calls is finished, and returns its handle."""

    @abstractmethod
    def _result(self, handle: Any) -> bytes:
        """The pickled result of a finished call. An exception of the call is raised, or a `WorkerEndedError`."""

    def results(self, function: Callable, calls: Iterable[tuple]) -> Iterator[Any]:
        """The values `function(stage, *call)` of all calls, in the order in which they are ready.

        A call whose worker ended is repeated after all others, with no other call beside it that could be the reason.
        If its worker ends again, there is a `Lost` in its place.
        """
        lost = []
        for result in self._unordered(function, calls, 2 * max(self._size(), 1)):
            if isinstance(result, Lost):
                lost.append(result.call)
            else:
                yield result
        yield from self._unordered(function, lost, 1)

    def _unordered(self, function: Callable, calls: Iterable[tuple], at_a_time: int) -> Iterator[Any]:
        """The results in the order in which they are ready; so many calls are sent ahead."""
        remaining = iter(calls)
        calls_by_handle: dict[Any, tuple] = {}
        while True:
            for call in islice(remaining, at_a_time - len(calls_by_handle)):
                calls_by_handle[self._submit(pickle.dumps((function, call, environment())))] = call
            if not calls_by_handle:
                return
            handle = self._first(list(calls_by_handle))
            call = calls_by_handle.pop(handle)
            try:
                result = pickle.loads(self._result(handle))
            except WorkerEndedError as error:
                result = Lost(call, next(iter(str(error.__cause__).splitlines()), "no reason is known"))
            yield result


class DaskCluster(Cluster):
    """Workers of Dask, which keep the stage as scattered data."""

    def __init__(self, client: Any, stage: Stage) -> None:
        self._client = client
        self._stage = stage
        self._scattered = self._scatter()

    def _scatter(self) -> Any:
        return self._client.scatter(self._stage, broadcast=True, hash=False)

    def _size(self) -> int:
        return len(self._client.nthreads())  # one call in each process, however many threads it has

    def _submit(self, pickled_call: bytes) -> Any:
        if self._scattered.status != "finished":  # all workers that held it have ended
            self._scattered = self._scatter()
        return self._client.submit(call_in_same_environment, self._scattered, pickled_call, pure=False)

    def _first(self, handles: list) -> Any:
        return next(_package("dask").as_completed(handles, loop=self._client.loop))

    def _result(self, handle: Any) -> bytes:
        try:
            return handle.result()
        except (_package("dask").KilledWorker, CancelledError) as error:  # cancelled: the stage ended with all workers
            raise WorkerEndedError from error


class RayCluster(Cluster):
    """Workers of Ray, which take the stage from the object store of their machine."""

    def __init__(self, ray: ModuleType, stage: Stage) -> None:
        self._ray = ray
        self._stored = ray.put(stage)
        # Ray's own attempts would come while other calls run, see `results`.
        self._remote = ray.remote(max_retries=0)(call_in_same_environment)

    def _size(self) -> int:
        return int(self._ray.cluster_resources().get("CPU", 1))

    def _submit(self, pickled_call: bytes) -> Any:
        return self._remote.remote(self._stored, pickled_call)

    def _first(self, handles: list) -> Any:
        (first,), _ = self._ray.wait(handles, num_returns=1)
        return first

    def _result(self, handle: Any) -> bytes:
        try:
            return self._ray.get(handle)
        except self._ray.exceptions.RayTaskError as error:  # an exception of the call
            raise error.cause or error from error
        except self._ray.exceptions.RayError as error:
            raise WorkerEndedError from error


@contextmanager
def connected_dask(jobs: int, address: str | None) -> Iterator[Any]:
    """A client of the cluster at the address, or of a new one of processes of this machine, which ends with the block.

    Raises:
        ValueError: no cluster answers at the address, or it has no workers.
    """
    dask = _package("dask")
    with ExitStack() as opened:
        if address is None:
            opened.enter_context(importlib.import_module("dask").config.set(_DASK_SETTINGS))
            # The memory has no limit, as without Dask.
            options = {"n_workers": jobs, "threads_per_worker": 1, "memory_limit": 0, "dashboard_address": None}
            cluster = opened.enter_context(dask.LocalCluster(**options, silence_logs=logging.CRITICAL))
            yield opened.enter_context(dask.Client(cluster, set_as_default=False))
            return
        try:
            client = opened.enter_context(dask.Client(address, timeout=PATIENCE, set_as_default=False))
            client.wait_for_workers(1, timeout=PATIENCE)
        except (OSError, ValueError) as error:  # a TimeoutError is an OSError
            raise _no_cluster("dask", address, error) from error
        yield client


@contextmanager
def connected_ray(jobs: int, address: str | None) -> Iterator[ModuleType]:
    """Ray, connected to the cluster at the address, or to a new one of processes of this machine.

    Raises:
        ValueError: no cluster answers at the address.
    """
    ray = _package("ray")
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        for name, value in _RAY_SETTINGS.items():
            os.environ.setdefault(name, value)
        ray.init(address="local", num_cpus=jobs, include_dashboard=False, **quiet)
    else:
        try:
            _check_answers(address)  # Ray itself tries for many minutes
            ray.init(address=address, **quiet)
        except (OSError, ValueError, RuntimeError) as error:
            raise _no_cluster("ray", address, error) from error
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_answers(address: str) -> None:
    """Raises an OSError where nothing answers at an address such as `10.0.0.5:6379` or `ray://10.0.0.5:10001`.

    Addresses without a port, such as `auto`, are left to Ray.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()


def check_package(backend: str) -> None:
    """Raises an ImportError, which says what to install, where the package of `"dask"` or `"ray"` is missing."""
    _package(backend)


def _package(backend: str) -> ModuleType:
    try:
        return importlib.import_module({"dask": "distributed", "ray": "ray"}[backend])
    except ImportError as error:
        raise missing_package(f"{backend} for --backend {backend}", backend, error) from error


def _no_cluster(kind: str, address: str, error: Exception) -> ValueError:
    return ValueError(
        f"expected --address to be that of a running {kind} cluster with workers, but got {address!r}: {error}"
    )


CLUSTERS: dict[str, tuple[Callable, Callable[[Any, Stage], Cluster]]] = {
    "dask": (connected_dask, DaskCluster),
    "ray": (connected_ray, RayCluster),
}
"""Value of `--backend` → what connects to the cluster, for a number of processes or an address, and its workers."""
