"""Progress bars: moving on a terminal and in a notebook, and a line now and then in a log file."""

from __future__ import annotations

import sys
from typing import Any

from tqdm.auto import tqdm

__all__ = ["bar_settings"]

_SECONDS = 60.0  # between two lines in a log file
_IN_NOTEBOOK = any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)


def bar_settings(shown: bool, *, inner: bool = False) -> dict[str, Any]:
    """The settings of a progress bar of tqdm, by where it is written.

    Where the error stream is no terminal, such as a log file, a bar is written at its start, at its end and once a
    minute between, so that it says what takes long and does not fill the file.

    Args:
        shown: whether there is a bar at all.
        inner: whether it is the bar of one step of another bar; such a bar is left out where there is no terminal.

    Example:
        >>> from captum_apex.progress import bar_settings
        >>> bar_settings(False)["disable"]
        True
    """
    if _IN_NOTEBOOK or (sys.stderr is not None and sys.stderr.isatty()):
        return {"disable": not shown}
    return {"disable": inner or not shown, "mininterval": _SECONDS, "maxinterval": _SECONDS}
