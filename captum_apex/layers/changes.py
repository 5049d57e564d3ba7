"""Changes of a model and of torch's modes for the length of a call, which an interruption cannot leave behind.

A context manager that is written in Python can itself be interrupted: by Ctrl-C, or by any other exception that arrives
from outside, just before it would have undone its change. So each change is noted together with the function that
undoes it, and a function that makes changes is decorated with `restored`, which undoes what is left.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import ParamSpec, TypeVar

import torch
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

__all__ = ["LOCK", "THREAD", "left", "mode_on_stack", "noted", "recording", "restored"]

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class _Thread(threading.local):
    """What this thread has changed and not yet undone, and the runs of a model that it is in.

    Attributes:
        undo: functions that undo the changes; each can be called more than once.
        runs: one entry for each run of a model inside another; see `captum_apex.layers.still_models.frozen`.
        prepared: one entry for each block in which a model is held for several runs.
    """

    def __init__(self) -> None:
        self.undo: list[Callable[[], object]] = []
        self.runs: list[object] = []
        self.prepared: list[object] = []


THREAD = _Thread()
LOCK = threading.RLock()
"""Guards what several threads change together; held for moments only, never while a model runs."""
_OPEN: dict[int, tuple[int, Callable[[], object]]] = {}  # id of an undo → its thread, and the undo


@contextmanager
def noted(undo: Callable[[], object]) -> Iterator[None]:
    """Calls a function at the end of the block, also where the end itself is interrupted.

    The change must be made inside the block. A process that was forked undoes the changes of the other threads, which
    do not go on in it.

    Args:
        undo: undoes the change; it may be called several times, and before the change has been made.

    Example:
        >>> from captum_apex.layers.changes import noted
        >>> values = {}
        >>> with noted(values.clear):
        ...     values["a"] = 1
        >>> values
        {}
    """
    try:
        THREAD.undo.append(undo)
        _OPEN[id(undo)] = (threading.get_ident(), undo)
        yield
    finally:
        _close(undo)


def _close(undo: Callable[[], object]) -> None:
    undo()
    _OPEN.pop(id(undo), None)
    if undo in THREAD.undo:
        THREAD.undo.remove(undo)


def _undo_of_other_threads() -> None:
    """In a forked process: undoes what other threads have changed, because they do not go on in it."""
    for ident, undo in list(_OPEN.values()):
        if ident != threading.get_ident():
            undo()
            _OPEN.pop(id(undo), None)
    LOCK.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=_undo_of_other_threads)


def restored(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """A function after which nothing is left changed, at whichever moment it is interrupted.

    It undoes the changes that are `noted`, and restores the thread's gradient mode and torch's stack of modes.

    Example:
        >>> from captum_apex.layers.changes import noted, restored
        >>> values = {}
        >>> @restored
        ... def interrupted():
        ...     block = noted(values.clear)
        ...     block.__enter__()  # and never left
        ...     values["a"] = 1
        ...     raise KeyboardInterrupt
        >>> try:
        ...     interrupted()
        ... except KeyboardInterrupt:
        ...     print(values)
        {}
    """

    @functools.wraps(function)
    def restoring(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        before = _Before()
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            try:
                _close_blocks(error.__traceback__)
                before.restore()
            finally:  # a second interruption
                before.restore()
            raise

    return restoring


def _close_blocks(trace: TracebackType | None) -> None:
    """Ends the blocks whose way in or out was interrupted.

    The exception keeps them alive. They would end when it is forgotten, and torch's would then activate a mode again.
    """
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == contextlib.__file__:
            trace.tb_frame.clear()
        trace = trace.tb_next


class _Before:
    """The state of the thread before a function that makes changes."""

    def __init__(self) -> None:
        self.n_undo = len(THREAD.undo)
        self.n_runs = len(THREAD.runs)
        self.n_prepared = len(THREAD.prepared)
        self.n_modes = len(_get_current_function_mode_stack())
        self.records = torch.is_grad_enabled()

    def restore(self) -> None:
        while len(THREAD.undo) > self.n_undo:
            _close(THREAD.undo[-1])
        del THREAD.runs[self.n_runs :]
        del THREAD.prepared[self.n_prepared :]
        for mode in reversed(_get_current_function_mode_stack()[self.n_modes :]):
            left(mode)
        if torch.is_grad_enabled() != self.records:
            torch.set_grad_enabled(self.records)


def mode_on_stack(mode: TorchFunctionMode) -> bool:
    """Whether a mode is active in this thread, or in a thread of autograd that works for it.

    Example:
        >>> from captum_apex.layers.changes import mode_on_stack
        >>> from torch.overrides import BaseTorchFunctionMode
        >>> with BaseTorchFunctionMode() as mode:
        ...     print(mode_on_stack(mode))
        True
        >>> mode_on_stack(mode)
        False
    """
    return mode in _get_current_function_mode_stack()


def left(mode: TorchFunctionMode) -> None:
    """Leaves a mode, and those that were entered after it; nothing where it is not active.

    Example:
        >>> from captum_apex.layers.changes import left, mode_on_stack
        >>> from torch.overrides import BaseTorchFunctionMode
        >>> mode = BaseTorchFunctionMode().__enter__()
        >>> left(mode)
        >>> mode_on_stack(mode)
        False
    """
    while mode_on_stack(mode):
        TorchFunctionMode.__exit__(mode, None, None, None)  # takes the last mode off the stack, whichever it is


@contextmanager
def recording() -> Iterator[None]:
    """Autograd records in this block, also where the caller has switched gradients off.

    Example:
        >>> import torch
        >>> from captum_apex.layers.changes import recording
        >>> with torch.inference_mode(), recording():
        ...     torch.is_inference_mode_enabled(), torch.is_grad_enabled()
        (False, True)
    """
    if not torch.is_inference_mode_enabled():
        with torch.enable_grad():
            yield
        return
    normal = torch.inference_mode(False)

    def leave() -> None:
        with contextlib.suppress(AttributeError):  # it was not entered
            normal.__exit__(None, None, None)

    with noted(leave):
        normal.__enter__()
        with torch.enable_grad():
            yield
