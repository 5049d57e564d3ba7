"""Interruptions at any moment of a call, as by Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest


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
    raised: list[Any] = []

    def interrupt(*_: object) -> None:
        caught.append(None)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        # Python itself drops what is raised while an object is deleted, and says so by this hook.
        patch.setattr("sys.unraisablehook", raised.append)
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            for delay in np.random.default_rng(0).uniform(1e-5, longest, n_times):
                try:
                    signal.setitimer(signal.ITIMER_REAL, delay)
                    result = call()
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    check(result)
                except KeyboardInterrupt as interruption:
                    raised.append(interruption)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    assert len(raised) >= len(caught)
