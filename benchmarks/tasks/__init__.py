"""The tasks of the benchmark: labelled clips, and the truth if it is known: the bins on which the class event lies.

`task` says what a task is. `scenes` and `crowded` make synthetic clips with a known truth; `digits`, `environment`,
`vocoded` and `spliced` read recordings through `recorded_task`. `task_clips` gives the clips as pictures and sounds.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.tasks.crowded import make_crowded
from benchmarks.tasks.digits import read_digits
from benchmarks.tasks.environment import read_environment
from benchmarks.tasks.scenes import make_scenes
from benchmarks.tasks.spliced import read_spliced
from benchmarks.tasks.task import ClipDataset, Split, Task
from benchmarks.tasks.vocoded import read_vocoded

__all__ = ["TASKS", "ClipDataset", "Split", "Task", "load_task"]

MADE: dict[str, Callable[..., Task]] = {"scenes": make_scenes, "crowded": make_crowded}
"""Tasks whose clips depend on a seed."""
TASKS: dict[str, Callable[..., Task]] = {
    **MADE,
    "digits": read_digits,
    "environment": read_environment,
    "vocoded": read_vocoded,
    "spliced": read_spliced,
}


def load_task(name: str, seed: int = 0) -> Task:
    """The task of this name.

    Args:
        name: one of `TASKS`.
        seed: seed of the clips of a synthetic task; recordings and their splits are the same for every seed.

    Raises:
        ValueError: there is no task of this name.
        FileNotFoundError: the task needs recordings that are not there.

    Example:
        >>> from benchmarks.tasks import load_task
        >>> task = load_task("scenes")  # doctest: +SKIP
        >>> len(task.train), len(task.test)  # doctest: +SKIP
        (2400, 400)
    """
    if name not in TASKS:
        raise ValueError(f"expected `name` to be one of {', '.join(TASKS)}, but got {name!r}")
    return TASKS[name](seed) if name in MADE else TASKS[name]()
