"""Timings: an operation in seconds, and as a ratio to a reference that is measured in turn with it."""

from __future__ import annotations

import math
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

_WIDTH = 58  # of the first column
HEADER = f"{'':<{_WIDTH}}  {'seconds':>8}  {'ratio':>6}  {'limit':>6}  {'MB':>6}  against"


@dataclass(frozen=True)
class Timing:
    """One line of the table.

    Attributes:
        what: the operation that was measured.
        seconds: median time over the repeats.
        reference: the operation that it is compared with; empty for an absolute time.
        ratio: median of the ratios to the reference, each from two runs in a row; NaN for an absolute time.
        limit: upper limit that the ratio (or, for an absolute time, the seconds) should stay below; NaN for none.
        megabytes: the most memory that the process held, without GPU memory, where the operation had a separate
            process; NaN elsewhere.

    Example:
        >>> print(Timing("attribution", 0.25, "a forward pass", 1.2, 1.5))  # doctest: +NORMALIZE_WHITESPACE
        attribution   0.250    1.20    1.50          a forward pass
    """

    what: str
    seconds: float
    reference: str
    ratio: float
    limit: float
    megabytes: float = math.nan

    def __str__(self) -> str:
        """A line of the table, below `HEADER`."""
        ratio = "" if not self.reference else f"{self.ratio:.2f}"
        limit = "" if math.isnan(self.limit) else f"{self.limit:.2f}"
        held = "" if math.isnan(self.megabytes) else f"{self.megabytes:.0f}"
        against = self.reference or "seconds on this machine"
        return f"{self.what:<{_WIDTH}}  {self.seconds:8.3f}  {ratio:>6}  {limit:>6}  {held:>6}  {against}"


def most_megabytes() -> float:
    """The most memory that this process has held so far (`getrusage` would include its parent process's), in MB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024  # type: ignore[union-attr]  # Linux writes it


def pair(run: Callable[[], object], reference: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median seconds of `run`, and its median ratio to `reference`.

    The two are timed in turn, so that both are slower when the machine is.
    """
    seconds = []
    ratios = []
    run()
    reference()
    for _ in range(repeats):
        run_seconds = timed(run)
        reference_seconds = timed(reference)
        seconds.append(run_seconds)
        ratios.append(run_seconds / reference_seconds)
    return statistics.median(seconds), statistics.median(ratios)


def timed(run: Callable[[], object]) -> float:
    """The seconds that a function takes, until a GPU has finished its queue."""
    _finish()
    start = time.perf_counter()
    run()
    _finish()
    return time.perf_counter() - start


def _finish() -> None:
    """Waits until a GPU has finished its queue."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def in_separate_process(measured: Callable[..., list[Timing]], *arguments: object) -> list[Timing]:
    """Runs a measurement in a new process, so that the peak memory of the process is that of the measurement."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measured, *arguments).result()
