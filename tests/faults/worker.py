"""A process that has everything imported, and forks a child for every job: a child can be killed, and costs little.

Each line of the standard input is a request, a JSON list of jobs that run at the same time; the answer is a line with
the list of their outcomes. A job is an object with these entries:

- `call`: name of a function in `JOBS`, and `arguments`.
- `stop`: a line and a signal, which the child sends to itself before it executes that line of the project's code, all
  lines counted from the beginning of the job.
- `user`: id of the user that the child becomes, to whom folders of others are read-only.
- `endless`: the job is repeated until all other jobs have ended, and then killed.

An outcome has the `error` (an empty text without one), the number of `lines`, the `value` of the call, and the `signal`
that ended the child.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from benchmarks.runs.results import Results
from captum_apex import FeatureBank, Scheme
from captum_apex.bases import part_files
from captum_apex.bases.bank_writer import BankWriter
from captum_apex.layers import Layout
from tests.faults.writers import ABOUT, KEY, WRITERS
from tests.networks import build, clips

CLIPS = list(clips(11))

COUNTED = (
    "/captum_apex/files.py",
    "/captum_apex/bases/",
    "/captum_apex/listening.py",
    "/report/document.py",
    "/events.py",
)
COUNTED += ("/benchmarks/cache.py", "/benchmarks/runs/", "/pathlib.py", "/contextlib.py", "/numpy/lib/_format_impl.py")


def write(kind: str, path: str, seed: int) -> None:
    WRITERS[kind].write(Path(path), seed)


def write_often(kind: str, path: str, seed: int, times: int) -> None:
    for _ in range(times):
        write(kind, path, seed)


def read_often(kind: str, path: str, times: int) -> list[str]:
    """The different contents that were read."""
    return sorted({str(WRITERS[kind].read(Path(path))) for _ in range(times)})


def interrupt_often(kind: str, path: str, lines: list[int]) -> list[str]:
    """The errors of a write that is interrupted by Ctrl-C before each of the lines in turn, in one process."""
    errors = []
    for last in lines:
        sys.settrace(Lines(last, signal.SIGINT))
        try:
            write(kind, path, 1)
            errors.append("")
        except BaseException as error:
            errors.append(f"{type(error).__name__}: {error}")
        finally:
            sys.settrace(None)
        WRITERS[kind].read(Path(path))
    return errors


def write_with_limits(kind: str, path: str, limits: list[int]) -> list[str]:
    """The errors of a write where no file may be larger than each of the limits in turn, in bytes."""
    errors = []
    for limit in limits:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            write(kind, path, 1)
            errors.append("")
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    return errors


def states(kind: str, path: str) -> list[str]:
    """What is read of each state that a folder has on the disk while its file is replaced, as a kill would leave it."""
    found: dict[str, str] = {}
    folder = Path(path).parent
    copy = Path(f"{folder}-copy")

    def look(frame: FrameType, event: str, _: object) -> object:
        if event == "line":
            listing = repr([(str(each), each.stat().st_size, each.stat().st_ino) for each in sorted(folder.rglob("*"))])
            if listing not in found:
                shutil.rmtree(copy, ignore_errors=True)
                shutil.copytree(folder, copy)
                found[listing] = str(WRITERS[kind].read(copy / Path(path).name))
        return look

    def look_at_ours(frame: FrameType, event: str, _: object) -> object:
        return look if any(part in frame.f_code.co_filename for part in COUNTED[:-1]) else None

    sys.settrace(look_at_ours)
    try:
        write(kind, path, 1)
    finally:
        sys.settrace(None)
    return list(found.values())


def map_bank(folder: str, n_clips: int) -> None:
    writer = BankWriter(n_clips, [Scheme.SQUARE], "layer", Layout(), max_memory=0, folder=folder)
    for _ in range(n_clips):
        writer.write(torch.ones(1, 8, 16, 32), labels=None, n_inputs=1)


def make_part(folder: str, part: int, n_parts: int, last: int = 0) -> int:
    """The number of passes of a model for a part of a bank; the process kills itself in the pass `last`."""
    model, layer = build("pooling")
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1
        if passes == last:
            os.kill(os.getpid(), signal.SIGKILL)

    model.relu.register_forward_pre_hook(count)  # after the layer
    part_files._SECONDS = 0.0  # every batch is counted
    settings: dict[str, Any] = {"folder": folder, "part": (part, n_parts), "batch_size": 2, "places": False}
    FeatureBank.from_dataset(model, layer, CLIPS, **settings)
    return passes


def open_run(folder: str, methods: list[str]) -> None:
    for method in methods:
        Results.open(Path(folder), KEY, {**ABOUT, "methods": [method]})


def run_benchmark(folder: str) -> None:
    from tests.faults.small_run import run_small

    run_small(Path(folder))


def prepare() -> None:
    """Loads what `run_benchmark` needs, in this process and not in every child."""
    from tests.faults.small_run import subject

    subject()


JOBS: dict[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (
        write,
        write_often,
        read_often,
        interrupt_often,
        write_with_limits,
        states,
        map_bank,
        make_part,
        open_run,
        run_benchmark,
    )
}


class Lines:
    """Counts lines of the project's code, and sends a signal before one of them."""

    def __init__(self, last: int, number: int) -> None:
        self.last = last
        self.number = number
        self.count = 0

    def __call__(self, frame: FrameType, event: str, _: object) -> Lines | None:
        if event == "line":
            self.count += 1
            if self.count == self.last:
                os.kill(os.getpid(), self.number)
            return self
        return self if any(part in frame.f_code.co_filename for part in COUNTED) else None


def child(job: dict[str, Any], output: int) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "user" in job:
        os.setuid(job["user"])
    lines = Lines(*job.get("stop", (0, 0)))
    outcome: dict[str, Any] = {"error": "", "value": None, "signal": 0}
    try:
        if "stop" in job:
            sys.settrace(lines)
        outcome["value"] = JOBS[job["call"]](*job["arguments"])
        while job.get("endless"):
            JOBS[job["call"]](*job["arguments"])
    except BaseException as error:
        outcome["error"] = f"{type(error).__name__}: {error}"
    finally:
        sys.settrace(None)
    with os.fdopen(output, "w") as pipe:
        json.dump({**outcome, "lines": lines.count}, pipe)


def start(job: dict[str, Any]) -> tuple[int, int]:
    """The id of the child and the descriptor of its output."""
    reading, writing = os.pipe()
    if process := os.fork():
        os.close(writing)
        return process, reading
    try:
        child(job, writing)
    finally:
        os._exit(0)


def finished(process: int, reading: int) -> dict[str, Any]:
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    _, status = os.waitpid(process, 0)
    return json.loads(text) if text else {"error": "killed", "signal": os.WTERMSIG(status), "lines": 0, "value": None}


def answer(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    children = [start(job) for job in jobs]
    outcomes: dict[int, dict[str, Any]] = {}
    for i in sorted(range(len(jobs)), key=lambda i: jobs[i].get("endless", False)):
        if jobs[i].get("endless"):
            os.kill(children[i][0], signal.SIGKILL)
        outcomes[i] = finished(*children[i])
    return [outcomes[i] for i in range(len(jobs))]


if __name__ == "__main__":
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:  # what is imported late is imported now
        for kind, writer in WRITERS.items():
            write(kind, f"{folder}/{writer.name}", 0)
    for request in sys.stdin:
        print(json.dumps(prepare() if request.strip() == "prepare" else answer(json.loads(request))), flush=True)
