"""One case of a fuzz target: what came out of it, and whether that is allowed.

A case is a target and a number, from which its input is drawn: the same case is the same input on every machine. It
ends in a right value, or in an error of ours. Everything else is a failure, which names the case.
"""

from __future__ import annotations

import os
import resource
import signal
import tempfile
import traceback
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import captum_apex

PACKAGE = os.path.dirname(captum_apex.__file__) + os.sep
REFUSALS = (ValueError, TypeError)
SECONDS = 30  # of computing, of one case
WAITING = 300  # seconds that a case may take on a busy machine
MEMORY = 2**30  # bytes by which one case may raise the largest memory of the process
RIGHT_VALUE = "right value"

Target = Callable[[np.random.Generator, Path], str | None]
"""Draws an input and checks what comes of it, with files in a folder that is empty at the start.

It returns the name of the outcome where that is another one than a right value.
"""


class FailedCaseError(AssertionError):
    """A case that ended neither in a right value nor in an error of ours."""


def outcome(name: str, target: Target, number: int) -> str:
    """Runs a case.

    Returns:
        `right value`, another name that the target gives, or the name of the class of an error of ours.

    Raises:
        FailedCaseError: anything else, with the case that shows it.
    """
    try:
        with tempfile.TemporaryDirectory() as folder, _bounded(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return target(np.random.default_rng([zlib.crc32(name.encode()), number]), Path(folder)) or RIGHT_VALUE
    except BaseException as error:
        if is_refusal(error):
            return type(error).__name__
        text = f"{name} {number}: " + "".join(traceback.format_exception(error))[-4000:]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise FailedCaseError(
            f"{text}\nagain: python -m tests.fuzz --target {name} --first {number} --cases 1"
        ) from error


def is_refusal(error: BaseException) -> bool:
    """Whether an error is one of ours: a ValueError or TypeError that our code raised, and that says what it expected.

    A file that cannot be opened or found is an OSError; it is ours where it has our words.
    """
    if not isinstance(error, (*REFUSALS, OSError)) or "expected" not in str(error):
        return False
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and frame.tb_frame.f_code.co_filename.startswith(PACKAGE)


@contextmanager
def accepted(right: bool, what: str = "") -> Iterator[None]:
    """Inside, an error is a failure where the input is right."""
    try:
        yield
    except REFUSALS as error:
        if right and is_refusal(error):
            raise AssertionError(f"refused what is right: {what}") from error
        raise


@contextmanager
def _bounded() -> Iterator[None]:
    """Fails a case that takes too long, or too much memory."""

    def late(signum: int, frame: object) -> None:
        raise TimeoutError(f"the case computed for more than {SECONDS} s, or took longer than {WAITING} s")

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    earlier = {number: signal.signal(number, late) for number in (signal.SIGALRM, signal.SIGPROF)}
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.setitimer(signal.ITIMER_REAL, WAITING)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in earlier.items():
            signal.signal(number, handler)
    taken = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    if taken > MEMORY:
        raise MemoryError(f"the case took {taken / 2**20:.0f} MB")
