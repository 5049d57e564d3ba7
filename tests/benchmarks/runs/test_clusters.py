"""Workers of Dask and Ray: the same results, workers that end, and clusters that cannot be had."""

import os
import re
import signal
import socket
import sys
import threading
import time

import pandas as pd
import pytest

from benchmarks.methods import METHODS, load_methods
from benchmarks.runs import clusters
from benchmarks.runs.clusters import CLUSTERS, Lost, call_in_same_environment, environment
from benchmarks.runs.results import Results
from benchmarks.runs.rows import Cell
from benchmarks.runs.runner import Settings, run
from benchmarks.runs.workers import check_backend, started
from tests.small import small_subject

PACKAGES = {"dask": "distributed", "ray": "ray"}
METHOD = """
import os
import signal
import socket
from benchmarks.methods import method
@method("ends its worker")
def explain(query):
    os.kill(os.getpid(), signal.SIGKILL)
"""


class CountedStage:
    """Counts how often it is pickled, and how often a process unpickles one."""

    pickled = 0
    unpickled = 0

    def __getstate__(self):
        CountedStage.pickled += 1
        return {"clips": 3}

    def __setstate__(self, state):
        self.__dict__.update(state)
        CountedStage.unpickled += 1


def described(stage, *call):
    time.sleep(0.05)
    interruptible = signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return stage.clips, call, os.getpid(), CountedStage.unpickled, interruptible


def ends(stage, name, marker=""):
    """Ends its worker, where the name is "end"; only once, if there is the path of a file for a marker."""
    if name == "end" and not (marker and os.path.exists(marker)):
        if marker:
            open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return name


def fails(stage):
    raise ValueError(f"expected more than {stage.clips} clips")


@pytest.mark.filterwarnings("default")  # of other packages
@pytest.mark.parametrize("backend", [*CLUSTERS, None])
def test_workers_get_the_stage_once_and_arguments_and_results_as_they_are(backend):
    if backend:
        pytest.importorskip(PACKAGES[backend])
    stage = CountedStage()
    CountedStage.pickled = 0
    with started(stage, jobs=2, backend=backend) as workers:
        cell = Cell("energy", "time", "mean")
        results = list(workers.results(described, ((cell, number) for number in range(12))))
        assert sorted(call[1] for _, call, *_ in results) == list(range(12))
        assert all(type(call[0]) is Cell for _, call, *_ in results)
        assert {clips for clips, *_ in results} == {3}
        assert os.getpid() not in {pid for _, _, pid, *_ in results}
        assert not any(interruptible for *_, interruptible in results)
        assert CountedStage.pickled == 1
        if backend != "ray":  # its workers take it from the store of their machine, for every call
            assert {unpickled for *_, unpickled, _ in results} == {1}
        with pytest.raises(ValueError, match="expected more than 3 clips"):
            list(workers.results(fails, [()]))


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("backend", CLUSTERS)
def test_a_worker_that_ends_costs_at_most_its_own_call(backend, tmp_path):
    pytest.importorskip(PACKAGES[backend])
    calls = [("end",), ("end", str(tmp_path / "marker")), *((name,) for name in "abcdefgh")]
    with started(CountedStage(), jobs=2, backend=backend) as workers:
        results = list(workers.results(ends, calls))
    (lost,) = (result for result in results if isinstance(result, Lost))
    assert lost.call == ("end",)
    assert lost.reason
    assert sorted(result for result in results if result is not lost) == sorted([*"abcdefgh", "end"])


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("backend", CLUSTERS)
def test_a_run_has_the_same_rows_and_goes_on_without_a_lost_cell(backend, tmp_path):
    pytest.importorskip(PACKAGES[backend])
    path = tmp_path / "method.py"
    path.write_text(METHOD)
    subject = small_subject()
    names = ("Saliency", "APEX time", "random")

    def rows(methods, folder, **options):
        settings = Settings(methods, ("time",), ("mean",), clips=10, points=3, files=(path,))
        about = {"methods": methods, "grids": settings.grids, "fills": settings.fills, "command": "run"}
        results = Results.open(tmp_path / folder, {}, about | {"reference": None, "sources": {}})
        run(subject, settings, results, **options)
        return pd.read_csv(results.collect()).drop(columns="seconds"), results.missing(settings.cells)

    try:
        load_methods(path)
        with pytest.warns(UserWarning, match=r"a worker ended twice \(.+\): ends its worker, time, mean; run it again"):
            found, missing = rows((*names, "ends its worker"), "cluster", backend=backend, jobs=2)
    finally:
        METHODS.pop("ends its worker", None)
    assert missing == [Cell("ends its worker", "time", "mean")]
    expected, _ = rows(names, "here")
    assert set(expected.status) == {"ok"}
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


@pytest.mark.filterwarnings("default")
def test_dask_workers_of_a_run_do_not_sample_what_runs_in_them():
    """The sampling profiler holds the variables of running functions: the memory of a method would depend on it."""
    pytest.importorskip("distributed")
    with clusters.connected_dask(1, None) as client:
        (callbacks,) = client.run(lambda dask_worker: list(dask_worker.periodic_callbacks)).values()
    assert callbacks
    assert not [name for name in callbacks if "profile" in name]


RUNNING = []


def number_running(stage):
    RUNNING.append(1)
    time.sleep(0.05)
    number = len(RUNNING)
    RUNNING.pop()
    return number, threading.current_thread() is threading.main_thread()


@pytest.mark.filterwarnings("default")
def test_threads_of_a_worker_at_an_address_compute_one_call_at_a_time():
    """Random numbers, and the hooks of a model, would be those of several calls."""
    distributed = pytest.importorskip("distributed")
    options = {"processes": False, "n_workers": 1, "threads_per_worker": 4, "dashboard_address": None}
    with distributed.LocalCluster(**options, protocol="tcp", host="127.0.0.1") as cluster:
        check_backend("dask", cluster.scheduler_address)
        with started(CountedStage(), backend="dask", address=cluster.scheduler_address) as workers:
            assert list(workers.results(number_running, [()] * 6)) == [(1, False)] * 6
        assert cluster.status.name == "running"


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("backend", "address"), [("dask", "tcp://127.0.0.1:9"), ("ray", "127.0.0.1:9"), ("ray", "ray://[::1]:9")]
)
def test_an_address_without_a_cluster_is_refused(backend, address, monkeypatch):
    package = pytest.importorskip(PACKAGES[backend])
    if backend == "dask":
        monkeypatch.setattr(clusters, "PATIENCE", 1)
    shown = re.escape(repr(address))
    message = f"expected --address to be that of a running {backend} cluster with workers, but got {shown}: "
    with pytest.raises(ValueError, match=message):
        check_backend(backend, address)
    assert backend == "dask" or not package.is_initialized()


@pytest.mark.parametrize("address", ["127.0.0.1:9", "ray://[::1]:9"])
def test_an_address_of_ray_at_which_nothing_answers_is_noticed_at_once(address):
    with pytest.raises(OSError):  # noqa: PT011  (of several kinds, by the system)
        clusters._check_answers(address)


def test_an_address_of_ray_that_answers_or_has_no_port_is_left_to_ray():
    clusters._check_answers("auto")
    with socket.create_server(("127.0.0.1", 0)) as server:
        clusters._check_answers(f"127.0.0.1:{server.getsockname()[1]}")


@pytest.mark.parametrize("backend", CLUSTERS)
def test_a_missing_package_is_said_with_its_extra(backend, monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGES[backend], None)
    with pytest.raises(ImportError, match=rf"pip install 'captum-apex\[{backend}\]'"):
        check_backend(backend)


def test_local_processes_take_no_address():
    with pytest.raises(ValueError, match="expected --address only with --backend dask or ray, but got 'here'"):
        check_backend(None, "here")


def test_a_worker_with_other_code_or_packages_is_refused():
    call = (described, (7,), environment() | {"torch": "1.0", "code": "abc"})
    message = rf"one has code {environment()['code']} for abc, torch {environment()['torch']} for 1\.0"
    with pytest.raises(ValueError, match=message.replace("+", r"\+")):
        call_in_same_environment(CountedStage(), clusters.pickle.dumps(call))
