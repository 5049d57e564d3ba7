"""Interruptions at any moment of a call, as by Ctrl-C."""

from __future__ import annotations

import contextlib
import gc
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from captum_apex.layers import changes

OURS = str(Path(changes.__file__).parents[1])
TORCHS_MODES = ("grad_mode.py", "overrides.py", "_contextlib.py")


class Interrupted(BaseException):
    """Stands for a KeyboardInterrupt, so that one from the keyboard still ends the tests."""


class Interruption:
    """Raises an exception at one moment of the block, counted from the start.

    Python looks for interruptions where a function begins and after a call of a function in C; these are the moments.
    """

    def __init__(self, moment: int | None) -> None:
        self.moment = moment
        self.n_moments = 0

    def __enter__(self) -> Interruption:
        sys.setprofile(self.at_event)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def at_event(self, frame: FrameType, event: str, _: object) -> None:
        if event in ("call", "c_return") and is_watched(frame.f_code.co_filename):
            self.n_moments += 1
            if self.n_moments == self.moment:
                raise Interrupted


def is_watched(filename: str) -> bool:
    """Whether a moment in this file may be one of an interruption: where changes are made and undone."""
    return filename.startswith(OURS) or filename == contextlib.__file__ or filename.endswith(TORCHS_MODES)


def check_that_nothing_fails_after_an_interruption(call: Callable[[], Any]) -> None:
    """Interrupts a call at each of its moments: what it leaves to Python's garbage collection ends without an error."""
    kinds: list[type[BaseException]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.unraisablehook", lambda unraisable: kinds.append(unraisable.exc_type))
        with Interruption(None) as whole:
            call()
        for moment in range(1, whole.n_moments + 1):
            with contextlib.suppress(Interrupted), Interruption(moment):
                call()
        gc.collect()
    # A file can be left for Python to close: the interruption came between its opening and its `with`.
    assert {kind for kind in kinds if not issubclass(kind, ResourceWarning)} <= {Interrupted}
    assert whole.n_moments > 20


def check_that_no_interruption_is_swallowed(
    call: Callable[[], Any], check: Callable[[Any], None], n_times: int, longest: float
) -> None:
    """Interrupts a call: either the interruption is raised, or it came afterwards and the result is right.

    Args:
        call: the function to interrupt.
        check: function that fails for a wrong result.
        n_times: number of calls.
        longest: longest time from the start of a call to its interruption, in s; the times are random.
    """
    caught = []
    raised: list[type[BaseException]] = []

    def interrupt(*_: object) -> None:
        caught.append(None)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        # Python itself drops what is raised while an object is deleted, and says so by this hook.
        patch.setattr("sys.unraisablehook", lambda unraisable: raised.append(unraisable.exc_type))
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            for delay in np.random.default_rng(0).uniform(1e-5, longest, n_times):
                try:
                    signal.setitimer(signal.ITIMER_REAL, delay)
                    result = call()
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    check(result)
                except KeyboardInterrupt:
                    raised.append(KeyboardInterrupt)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            gc.collect()  # what an interruption left open is ended here, and not in another test
            signal.signal(signal.SIGALRM, before)
    # A file can be left for Python to close: the interruption came between its opening and its `with`.
    errors = [kind for kind in raised if not issubclass(kind, ResourceWarning)]
    assert set(errors) <= {KeyboardInterrupt}
    assert len(errors) >= len(caught)
