"""Workers of Dask and Ray: results, workers that end, and what is said where no cluster can be had.

The stages are texts here: the workers do nothing with a stage but give it to the function.
"""

import os
import signal
import time

import pytest

from benchmarks.runs import workers
from benchmarks.runs.clusters import CLUSTERS, Lost
from benchmarks.runs.rows import Cell

PACKAGES = {"dask": "distributed", "ray": "ray"}


@pytest.fixture(params=CLUSTERS)
def backend(request):
    pytest.importorskip(PACKAGES[request.param])
    return request.param


def echo(stage, *call):
    return stage, call, os.getpid()


def ends(stage, text, marker):
    """Ends its worker; only the first time, if there is the name of a file for a marker."""
    if text == "end" and not (marker and os.path.exists(marker)):
        if marker:
            open(marker, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.2)
    return text


def raises(stage):
    raise ValueError(f"expected another stage than {stage}")


def unpickled():
    UNPICKLED.append(os.getpid())
    return Counted()


class Counted:
    def __reduce__(self):
        return unpickled, ()


UNPICKLED = []


def unpickled_here(stage, number):
    time.sleep(0.05)
    return os.getpid(), len(UNPICKLED)


@pytest.mark.filterwarnings("default")
def test_a_cluster_of_local_processes(backend, tmp_path):
    with workers.started("stage", jobs=2, backend=backend) as staff:
        cell = Cell("energy", "time", "mean")
        results = list(staff.results(echo, ((cell, number) for number in range(12))))
        assert sorted(call[1] for _, call, _ in results) == list(range(12))
        assert {stage for stage, _, _ in results} == {"stage"}
        assert all(type(call[0]) is Cell for _, call, _ in results)
        assert os.getpid() not in {pid for _, _, pid in results}

        names = ["end", *"abcdefgh"]
        results = list(staff.results(ends, ((name, str(tmp_path / "marker")) for name in names)))
        assert sorted(results) == sorted(names)

        results = list(staff.results(ends, ((name, "") for name in names)))
        lost = results.pop()
        assert isinstance(lost, Lost)
        assert lost.call == ("end", "")
        assert sorted(results) == list("abcdefgh")

        with pytest.raises(ValueError, match="expected another stage than stage"):
            list(staff.results(raises, [()]))
