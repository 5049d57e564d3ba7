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


def library_file(file: BinaryIO) -> int | BinaryIO:
    """An opened file as libsndfile gets it: its descriptor, at the beginning of the file.

    With a Python object, libsndfile would call back into Python for every block. An exception there, such as an
    interruption, is dropped, and the samples are wrong without an error. On Windows, libsndfile does not know Python's
    descriptors.

    Args:
        file: a file on a disk, opened in binary mode.

    Example:
        >>> import tempfile
        >>> from captum_apex.recordings.libsndfile import library_file
        >>> with tempfile.TemporaryFile() as file:
        ...     library_file(file) == file.fileno()
        True
    """
    file.flush()
    if sys.platform == "win32":
        file.seek(0)
        return file
    os.lseek(file.fileno(), 0, os.SEEK_SET)  # Python's own position may lie in its buffer, without the descriptor's
    return file.fileno()
