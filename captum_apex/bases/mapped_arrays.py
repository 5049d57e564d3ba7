"""Arrays in files without a name, whose room on the disk is taken before they are mapped."""

from __future__ import annotations

import errno
import math
import os
import tempfile
from typing import IO

import numpy as np
import torch
from torch import Tensor

__all__ = ["claim_room", "nameless_array"]

_BLOCK = 2**24  # bytes


def nameless_array(shape: tuple[int, ...], dtype: torch.dtype, folder: str | None = None) -> Tensor:
    """An array in a file without a name, which the system removes with the last tensor that uses it.

    Args:
        shape: shape of the array; its values are zero.
        dtype: dtype of the array.
        folder: folder of the file; None for the system's temporary folder.

    Raises:
        OSError: the disk has no room for it.

    Example:
        >>> import torch
        >>> from captum_apex.bases.mapped_arrays import nameless_array
        >>> nameless_array((2, 1), torch.float32)
        tensor([[0.],
                [0.]])
    """
    numpy_dtype = torch.empty(0, dtype=dtype).numpy().dtype
    with tempfile.TemporaryFile(dir=folder) as file:
        claim_room(file, math.prod(shape) * numpy_dtype.itemsize, folder or tempfile.gettempdir())
        return torch.from_numpy(np.memmap(file, numpy_dtype, "r+", shape=shape))


def claim_room(file: IO[bytes], n_bytes: int, folder: str) -> None:
    """Takes the disk space for a file: without it, writing to the mapped file on a full disk ends the process.

    Args:
        file: an empty file that is open for writing.
        n_bytes: size that the file will have.
        folder: folder of the file, for the message.

    Raises:
        OSError: the disk has no room for it.

    Example:
        >>> import os
        >>> import tempfile
        >>> from captum_apex.bases.mapped_arrays import claim_room
        >>> with tempfile.TemporaryFile() as file:
        ...     claim_room(file, 5000, tempfile.gettempdir())
        ...     os.fstat(file.fileno()).st_size
        5000
    """
    try:
        if not _allocated(file, n_bytes):
            for start in range(0, n_bytes, _BLOCK):
                file.write(bytes(min(_BLOCK, n_bytes - start)))
            file.flush()
    except OSError as error:
        raise OSError(
            error.errno,
            f"expected room for an array of {n_bytes / 2**20:,.1f} MiB, but there is none ({error.strerror}): name "
            "another `folder`, fewer `schemes`, a `dtype` of half precision, or a larger `max_memory`",
            folder,
        ) from error


def _allocated(file: IO[bytes], n_bytes: int) -> bool:
    """Whether the system has set disk space aside; False where it cannot do so without a write."""
    if not hasattr(os, "posix_fallocate"):
        return False
    try:
        os.posix_fallocate(file.fileno(), 0, n_bytes)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):  # the file system knows no such call
            return False
        raise
    return True
