"""Writing a file as a whole, and noticing when a file that was read is not what was written."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as bytes_of_tensors
from torch import Tensor

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = [
    "locked",
    "locked_alone",
    "read_json",
    "read_tensors",
    "replaced",
    "synced_folder",
    "write_json",
    "write_tensors",
]

CHECKSUM = "checksum"  # name of the entry that holds the digest of all others
_LARGEST_HEADER = 100_000_000  # bytes, the limit of the safetensors format


@contextmanager
def replaced(path: str | os.PathLike) -> Iterator[Path]:
    """Replaces a file by what is written to a temporary file in the same folder.

    At the end of the block the temporary file is forced to the disk and takes the name of the target: at every moment,
    also after a kill or a loss of power, there is either the old file or the new one, as a whole. After an exception
    the temporary file is deleted, and the target is as it was before. Only a killed process leaves its temporary file
    behind, under a name such as `.notes.txt.` with random digits.

    A new file has the permissions of any new file, a replaced one those that it had before. A symbolic link is replaced
    and not followed. Folders that are missing are made, and after an exception removed again.

    Args:
        path: the file to write.

    Yields:
        Path of the temporary file, which exists and is empty.

    Raises:
        OSError: the folder cannot be made or written to, the disk is full, or the path is a folder or a device. The
            error names the path.

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
    former = _former(path)
    made = _made_folders(path.parent)
    # The encoded name is cut, since the system limits names to 255 bytes.
    beginning = os.fsencode(path.name)[:200].decode(errors="ignore")
    temporary = path.with_name(f".{beginning}.{secrets.token_hex(8)}")
    try:
        # With O_EXCL no link that lies there is followed. The system applies the file mode mask.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if former is None else 0o600))
        mode = stat.S_IMODE((former or temporary.stat()).st_mode)
        yield temporary
        _force_to_disk(temporary)
        _hand_over(temporary, former, mode)
        os.replace(temporary, path)
        for folder in (path.parent, *(folder.parent for folder in made)):
            synced_folder(folder)
    except OSError as error:
        if error.errno is not None and error.filename in (None, temporary, os.fspath(temporary)):
            error.filename = os.fspath(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
        _remove_empty(made)  # none of them where the file is there


def synced_folder(folder: Path) -> Path:
    """Forces the names of a folder's files to the disk, where the system can do that, and returns the folder.

    Args:
        folder: an existing folder.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.files import synced_folder
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     synced_folder(Path(folder)) == Path(folder)
        True
    """
    if os.name == "posix":
        with suppress(OSError):  # some network file systems refuse it for folders
            _force_to_disk(folder, os.O_RDONLY)
    return folder


def write_json(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
    """Replaces a JSON file, with a checksum of its content.

    Args:
        path: the file to write.
        content: entries by name; there is none with the name "checksum".

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.files import read_json, write_json
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "run.json")
        ...     write_json(path, {"clips": 8})
        ...     read_json(path)
        {'clips': 8}
    """
    content = json.loads(json.dumps(content))  # as it will be read: tuples become lists
    text = json.dumps({**content, CHECKSUM: _digest_of_json(content)}, indent=2) + "\n"
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """Reads a JSON file that `write_json` wrote; one without a checksum is not checked.

    Args:
        path: the file.

    Returns:
        The entries by name, without the checksum.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is not JSON, not an object, or damaged.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.files import read_json
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "old.json").write_text('{"clips": 8}')
        ...     read_json(Path(folder, "old.json"))
        {'clips': 8}
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(content, dict):
        raise ValueError(f"it holds no object, but {type(content).__name__}")
    if CHECKSUM in content and content.pop(CHECKSUM) != _digest_of_json(content):
        raise ValueError("its checksum is that of other content: the file is damaged")
    return content


def write_tensors(path: str | os.PathLike, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Replaces a safetensors file, with a checksum of all tensors and metadata.

    Args:
        path: the file to write.
        tensors: tensors by name.
        metadata: texts by name; there is none with the name "checksum".

    Raises:
        OSError: the file cannot be written.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from pathlib import Path
        >>> from captum_apex.files import read_tensors, write_tensors
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "a.safetensors")
        ...     write_tensors(path, {"a": torch.arange(3)}, {"unit": "Hz"})
        ...     read_tensors(path, formats={None: True})
        ({'a': tensor([0, 1, 2])}, {'unit': 'Hz'})
    """
    # Copies, since the format refuses tensors that share memory.
    stored = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    content = bytes_of_tensors(stored, {**metadata, CHECKSUM: _digest_of_tensors(stored, metadata)})
    with replaced(path) as temporary:
        temporary.write_bytes(content)


def read_tensors(
    path: str | os.PathLike, formats: Mapping[str | None, bool]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Reads a safetensors file into memory; later changes of the file do not change the tensors.

    Args:
        path: the file.
        formats: text that the entry "format" of the metadata may have → whether such files have a checksum; None stands
            for files without that entry. A file of another format is refused before its tensors are read. Nothing is
            known of values in a file without a checksum.

    Returns:
        The tensors by name, and the metadata by name without the checksum.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is no safetensors file, of another format, or damaged.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from pathlib import Path
        >>> from captum_apex.files import read_tensors, write_tensors
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "a.safetensors")
        ...     write_tensors(path, {"a": torch.zeros(1)}, {"format": "mine 1"})
        ...     read_tensors(path, formats={"mine 1": True})[0]
        {'a': tensor([0.])}
    """
    with open(path, "rb") as file:
        beginning = file.read(8)
        header_size = int.from_bytes(beginning, "little")
        if len(beginning) < 8 or header_size > min(_LARGEST_HEADER, os.fstat(file.fileno()).st_size - 8):
            raise ValueError("it is no safetensors file, or it was cut")
        header = file.read(header_size)
        metadata = _metadata(header)
        written_as = metadata.get("format")
        if written_as not in formats:
            raise ValueError(f"its format is {written_as!r}, not {' or '.join(map(repr, formats))}")
        content = beginning + header + file.read()
    try:
        tensors = tensors_from_bytes(content)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    checksum = metadata.pop(CHECKSUM, None)
    if (checksum is not None or formats[written_as]) and checksum != _digest_of_tensors(tensors, metadata):
        raise ValueError("its checksum is that of other content: the file is damaged")
    return tensors, metadata


@contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[int | None]:
    """Holds a lock on a folder until the end of the block or of the process.

    Args:
        folder: an existing folder.
        shared: whether others may hold a shared lock at the same time.

    Yields:
        The descriptor that holds the lock; None where the system or the file system has no locks.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.files import locked
        >>> with tempfile.TemporaryDirectory() as folder, locked(Path(folder), shared=True) as descriptor:
        ...     descriptor is None or descriptor > 0
        True
    """
    if fcntl is None:
        yield None
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        except OSError:  # a network file system without locks
            yield None
        else:
            yield descriptor
    finally:
        os.close(descriptor)


def locked_alone(descriptor: int | None) -> bool:
    """Whether a shared lock could be made exclusive, because nobody else holds one.

    Args:
        descriptor: what `locked` gave.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.files import locked, locked_alone
        >>> with tempfile.TemporaryDirectory() as folder, locked(Path(folder), shared=True) as descriptor:
        ...     descriptor is None or locked_alone(descriptor)
        True
    """
    if descriptor is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _metadata(header: bytes) -> dict[str, str]:
    """The texts in the header of a safetensors file."""
    try:
        entries = json.loads(header)
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    metadata = entries.get("__metadata__", {}) if isinstance(entries, dict) else None
    if not isinstance(metadata, dict):
        raise ValueError("its header holds no texts by name")
    return metadata


def _digest_of_json(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _digest_of_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """A digest of names, types, shapes and values, and of the metadata; the order does not matter."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _former(path: Path) -> os.stat_result | None:
    """The status of the file that shall be replaced; None if there is none."""
    try:
        former = path.stat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(former.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(former.st_mode):
        # A rename would take the device or pipe away from all other processes.
        raise OSError(errno.EINVAL, "expected a file that can be replaced, but this is a device or a pipe", str(path))
    return former


def _made_folders(folder: Path) -> list[Path]:
    """Makes a folder with all above it; returns those that were missing, the deepest first."""
    missing = list(takewhile(lambda each: not os.path.lexists(each), (folder, *folder.parents)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        _remove_empty(missing)
        raise
    return missing


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # it is not empty, or was not made
            folder.rmdir()


def _force_to_disk(path: Path, flags: int = os.O_RDWR) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hand_over(temporary: Path, former: os.stat_result | None, mode: int) -> None:
    """Gives a file the owner of the one that it replaces, where the system allows that, and the permissions."""
    if former is not None and hasattr(os, "chown") and (former.st_uid, former.st_gid) != _owner(temporary):
        with suppress(OSError):
            os.chown(temporary, former.st_uid, former.st_gid)
    os.chmod(temporary, mode)


def _owner(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid
