"""The tasks of the benchmark: what is classified, on which clips, and where the evidence lies where that is known."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.tasks.digits import read_digits
from benchmarks.tasks.environment import read_environment
from benchmarks.tasks.scenes import make_scenes
from benchmarks.tasks.task import ClipDataset, Split, Task
from benchmarks.tasks.vocoded import read_vocoded

__all__ = ["TASKS", "ClipDataset", "Split", "Task", "load_task"]

TASKS: dict[str, Callable[..., Task]] = {
    "scenes": make_scenes,
    "digits": read_digits,
    "environment": read_environment,
    "vocoded": read_vocoded,
}


def load_task(name: str, seed: int = 0) -> Task:
    """The task of this name.

    Args:
        name: one of `TASKS`.
        seed: makes the clips of a synthetic task; recordings and their two parts are the same for every seed.

    Raises:
        ValueError: there is no task of this name.
        FileNotFoundError: the task needs recordings that are not there.
    """
    if name not in TASKS:
        raise ValueError(f"expected `name` to be one of {', '.join(TASKS)}, but got {name!r}")
    return TASKS[name](seed) if name == "scenes" else TASKS[name]()
