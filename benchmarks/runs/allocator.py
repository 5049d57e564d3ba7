"""The C library's memory: kept by the process, not given back to the system after every tensor."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # glibc's numbers for mallopt
KEPT = 2**30  # bytes that may lie free


def keep_freed_memory() -> bool:
    """Lets the process keep what tensors have freed, for the rest of its life; gives whether it could.

    glibc returns large blocks at once and takes them anew for the next tensor, and the system clears each page again: on the CPU, forward
    passes of a small network spend two fifths of their time on that. Other C libraries have no such call, or no need of it.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no glibc
        return False
    return bool(mallopt(TRIM_THRESHOLD, KEPT)) and bool(mallopt(MMAP_THRESHOLD, KEPT))
