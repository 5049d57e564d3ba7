"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replaced"]


@contextmanager
def replaced(path: str | os.PathLike) -> Iterator[Path]:
    """A file to write to, beside the target, which takes its place at the end; after an exception the old file is as it was.

    Raises:
        OSError: there is no such folder, or it cannot be written to.
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        os.chmod(beside, 0o666 & ~_umask())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _umask() -> int:
    """The process's file mode mask; reading it means setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
