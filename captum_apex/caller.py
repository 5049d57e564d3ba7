"""Warnings that point to the user's line, and not into this package."""

from __future__ import annotations

import sys
import warnings
from contextlib import AbstractContextManager, nullcontext
from time import time

from tqdm import tqdm

__all__ = ["ApexWarning", "warn_caller"]

_SKIPPED = {"captum_apex", "captum", "torch", "contextlib", "functools"}
"""Packages between the user's line and the warning: this one, and those that call it back."""


class ApexWarning(UserWarning):
    """A warning of this package, so that `warnings.filterwarnings` can choose it.

    Example:
        >>> import warnings
        >>> from captum_apex.caller import ApexWarning, warn_caller
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.filterwarnings("ignore", category=ApexWarning)
        ...     warn_caller("files are resampled")
        >>> caught
        []
    """


def warn_caller(message: str) -> None:
    """Warns at the line of the user's code from which this package was called.

    Python shows a warning once per line and message, so that a message without the name of a file is shown once for
    all files that one line of the user reads.

    Args:
        message: what is warned of.

    Example:
        >>> import warnings
        >>> from captum_apex.caller import warn_caller
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_caller("files are resampled")
        >>> str(caught[0].message)
        'files are resampled'
    """
    level = 2
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in _SKIPPED:
        frame = frame.f_back
        level += 1
    with _room_for_a_line():
        warnings.warn(message, ApexWarning, stacklevel=level)


def _room_for_a_line() -> AbstractContextManager[None]:
    """Progress bars make room for a line and are drawn again; nothing where none of them has been drawn yet."""
    bars = [bar for bar in getattr(tqdm, "_instances", ()) if hasattr(bar, "start_t")]
    is_drawn = any(time() >= bar.start_t + bar.delay for bar in bars)
    return tqdm.external_write_mode(file=sys.stderr) if is_drawn else nullcontext()
