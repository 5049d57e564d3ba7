"""Progress bars: moving on a terminal and in a notebook, and a line now and then in a log file."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO

from tqdm.auto import tqdm

__all__ = ["bar_settings"]

_SECONDS = 60.0  # between two lines in a log file
_SECONDS_WITHOUT = 10.0  # of a bar that nobody has asked for
_IN_NOTEBOOK = any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)


def bar_settings(shown: bool | None, *, inner: bool = False) -> dict[str, Any]:
    """The settings of a progress bar of tqdm, by where it is written.

    Where the error stream is no terminal, such as a log file, a bar is written at its start, at its end and once a
    minute between, so that it says what takes long and does not fill the file.

    Args:
        shown: whether there is a bar at all; None for one on a terminal and in a notebook, once it is ten seconds old,
            unless the environment variable TQDM_DISABLE is set.
        inner: whether it is the bar of one step of another bar; such a bar is left out where there is no terminal.

    Example:
        >>> from captum_apex.progress import bar_settings
        >>> bar_settings(False)["disable"]
        True
    """
    if _IN_NOTEBOOK or (sys.stderr is not None and sys.stderr.isatty()):
        if shown is None:
            # tqdm reads the variable for bars on a terminal, and not for those in a notebook.
            return {"delay": _SECONDS_WITHOUT, "disable": bool(os.environ.get("TQDM_DISABLE"))}
        return {"disable": not shown}
    file = None if sys.stderr is None else _LogLines(sys.stderr)
    return {"disable": inner or not shown, "mininterval": _SECONDS, "maxinterval": _SECONDS, "file": file}


class _LogLines:
    """The error stream as a bar of tqdm writes to it in a log file: whole lines, and nothing that erases a bar.

    A bar on this stream is none of those that make room for a warning, so that a warning does not write it again.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.encoding = getattr(stream, "encoding", None)  # by which tqdm chooses its characters
        self._count = ""  # what the last line said, without its times

    def write(self, text: str) -> None:
        """Writes what a bar shows as a line of its own; moves of the cursor and spaces over an old bar are left out.

        So is a line with the count of the last one, as at the end of a bar that has just moved.
        """
        line = text.strip()
        count = line.partition(" [")[0]
        if line and count != self._count:
            self._count = count
            self.stream.write(f"{line}\n")

    def flush(self) -> None:
        """Writes what the stream still holds."""
        self.stream.flush()
