"""soundfile, which reads and writes audio files by the C library libsndfile."""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import BinaryIO

from captum_apex.extras import missing_package

__all__ = ["library_file", "sound_library"]


def sound_library() -> ModuleType:
    """The soundfile package, which is optional.

    Raises:
        ImportError: if soundfile is missing; the error says how to install it.

    Example:
        >>> from captum_apex.recordings import sound_library
        >>> sound_library().__name__
        'soundfile'
    """
    try:
        import soundfile
    except (ImportError, OSError) as error:  # OSError if its C library is missing
        raise missing_package("soundfile, which reads and writes audio files", "audio", error) from error
    return soundfile


def library_file(file: BinaryIO, position: int = 0) -> int | BinaryIO:
    """An opened file as libsndfile gets it: its descriptor, at a position in the file.

    With a Python object, libsndfile would call back into Python for every block. An exception there, such as an
    interruption, is dropped, and the samples are wrong without an error. On Windows, libsndfile does not know Python's
    descriptors.

    Args:
        file: a file on a disk, opened in binary mode.
        position: the byte that is read next; libsndfile opens files at their beginning only.

    Example:
        >>> import tempfile
        >>> from captum_apex.recordings.libsndfile import library_file
        >>> with tempfile.TemporaryFile() as file:
        ...     library_file(file) == file.fileno()
        True
    """
    file.flush()
    if sys.platform == "win32":
        file.seek(position)
        return file
    os.lseek(
        file.fileno(), position, os.SEEK_SET
    )  # Python's own position may lie in its buffer, without the descriptor's
    return file.fileno()
