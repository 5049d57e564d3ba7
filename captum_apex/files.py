"""Writing a file as a whole: either the new file is complete, or the old one stays as it was."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replaced"]


@contextmanager
def replaced(path: str | os.PathLike) -> Iterator[Path]:
    """Replaces a file by what is written to a temporary file in the same folder.

    At the end of the block the temporary file takes the name of the target. After an exception the temporary file is
    deleted, and the target is as it was before.

    Args:
        path: the file to write.

    Yields:
        Path of the temporary file, which exists and is empty.

    Raises:
        OSError: if the folder does not exist or cannot be written to.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.files import replaced
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     target = Path(folder, "notes.txt")
        ...     with replaced(target) as temporary:
        ...         _ = temporary.write_text("complete")
        ...     target.read_text()
        'complete'
    """
    path = Path(path)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    """The process's file mode mask, which can only be read by setting it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
