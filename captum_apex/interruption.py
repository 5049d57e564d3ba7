"""Ctrl-C in the programs: it stops the work of a command by KeyboardInterrupt, and before and after it the process.

`captum_apex` imports this module before all others, because a program can also be interrupted while it imports. No
exception is raised then: it would end in a traceback, and libraries that are half imported turn it into other errors.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["INTERRUPTED", "Interruptions", "guarded_program", "interruptions"]

INTERRUPTED = 130  # the exit status that shells report for an interruption
_PROGRAMS = ("captum_apex", "benchmarks")  # by `python -m`; `captum-apex` is the name of the installed script
_SCRIPT = "captum-apex"


class Interruptions:
    """What Ctrl-C does in a program.

    Attributes:
        working: whether a command is at work, which KeyboardInterrupt stops; otherwise the process ends at once.
        seen: whether there was an interruption of the work. A library may have dropped its exception or replaced it.

    Example:
        >>> from captum_apex.interruption import Interruptions
        >>> interruptions = Interruptions()
        >>> interruptions.working = True
        >>> try:
        ...     interruptions.handle()
        ... except KeyboardInterrupt:
        ...     interruptions.seen
        True
    """

    def __init__(self) -> None:
        self.working = False
        self.seen = False

    def handle(self, *_: Any) -> None:
        """The handler of the signal."""
        if self.working:
            self.seen = True
            raise KeyboardInterrupt
        try:
            os.write(2, b"\ninterrupted\n")
        finally:
            os._exit(INTERRUPTED)

    @contextmanager
    def ended_at_once(self) -> Iterator[None]:
        """Inside, an interruption ends the process at once, for imports in a command; see the text of this module."""
        working = self.working
        self.working = False
        try:
            yield
        finally:
            self.working = working

    def install(self) -> None:
        """Handles Ctrl-C from now on, unless the process was started with Ctrl-C ignored or handles it already."""
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self.handle)
            sys.unraisablehook = self._raise_again

    def _raise_again(self, unraisable: Any) -> None:
        """Raises a KeyboardInterrupt again that Python has dropped, because it was raised in a destructor."""
        if issubclass(unraisable.exc_type, KeyboardInterrupt):
            threading.Timer(0.01, signal.raise_signal, [signal.SIGINT]).start()  # after this call, which would drop it
        else:
            sys.__unraisablehook__(unraisable)


interruptions = Interruptions()


def guarded_program(started: list[str], arguments: list[str]) -> bool:
    """Whether the process is one of the programs, and not a script or notebook that imports the package.

    Args:
        started: the whole command line, `sys.orig_argv`.
        arguments: what Python leaves of it to the program, `sys.argv`.

    Example:
        >>> from captum_apex.interruption import guarded_program
        >>> guarded_program(["python", "-m", "captum_apex", "fit"], ["-m", "fit"])
        True
        >>> guarded_program(["python", "my_script.py", "captum_apex"], ["my_script.py", "captum_apex"])
        False
    """
    program = started[-len(arguments)] if arguments and len(arguments) <= len(started) else ""
    return program.removeprefix("-m") in _PROGRAMS or os.path.basename(program).removesuffix(".exe") == _SCRIPT


if guarded_program(sys.orig_argv, sys.argv):
    interruptions.install()
