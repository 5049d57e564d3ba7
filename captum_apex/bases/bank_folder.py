"""The folder of a feature bank: an .npy file per array, and bank.json, which says which files belong together."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from torch import Tensor

from captum_apex.bases.schemes import Scheme
from captum_apex.files import locked, locked_alone, read_json, synced_folder, write_json
from captum_apex.layers.origin import Origin

__all__ = ["check_bank", "read_bank", "write_bank"]

_FORMAT = "captum-apex bank 2"
_WITHOUT_CHECKSUM = "captum-apex bank 1"
_SEQUENCES = (Scheme.SQUARE, Scheme.TIME, Scheme.FREQUENCY)
_OTHER_ARRAYS = ("means", "labels")
_ARRAY_FILE = re.compile(rf"({'|'.join((*_SEQUENCES, *_OTHER_ARRAYS))})-[0-9a-f]{{16}}\.npy")
_LEFT_BEHIND = re.compile(rf"{_ARRAY_FILE.pattern}|\.bank\.json\.[0-9a-f]{{16}}")  # by a killed writer
_LARGEST_COPY = 2**32  # bytes of arrays that are read into memory; larger banks are mapped
_CHECKED_AT_ONCE = 2**22  # cells


def write_bank(folder: Path, arrays: Mapping[str, Tensor], origin: Mapping[str, Any]) -> None:
    """Writes the arrays to new files with random names, and then replaces bank.json, which names them.

    At every moment there is either the old bank or the new one, also for a reader, after a kill and with several
    writers. Files that belong to no bank any more are deleted at the end, also those that a killed writer left.

    Args:
        folder: the folder, which is made if it is missing. Other files in it stay.
        arrays: tensors by name.
        origin: fields of the bank's origin.

    Raises:
        OSError: a file cannot be written; the error names it.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from pathlib import Path
        >>> from captum_apex.bases.bank_folder import read_bank, write_bank
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_bank(Path(folder), {"means": torch.ones(2, 1)}, {"layer": "features"})
        ...     read_bank(Path(folder))
        ({'means': tensor([[1.],
                [1.]])}, {'layer': 'features'})
    """
    folder.mkdir(parents=True, exist_ok=True)
    digits = secrets.token_hex(8)
    files = {name: f"{name}-{digits}.npy" for name in arrays}
    listing = folder / "bank.json"
    mode = stat.S_IMODE(listing.stat().st_mode) if listing.exists() else None
    # The lock keeps new files from being deleted by another writer; writers do not wait for each other.
    with locked(folder, shared=True) as lock:
        former = (_listed(folder) or set()) | set(files.values())
        try:
            checksums = {name: _write_array(folder / files[name], tensor, mode) for name, tensor in arrays.items()}
            synced_folder(folder)
            entries = {name: {"file": files[name], "sha256": checksums[name]} for name in arrays}
            write_json(listing, {"format": _FORMAT, "arrays": entries, "origin": origin})
        finally:
            _remove_unused(folder, former, locked_alone(lock))


def read_bank(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads the arrays that `write_bank` wrote, after a comparison with their checksums.

    Args:
        folder: the folder.

    Returns:
        The arrays by name, and the fields of the origin. Arrays of up to 4 GiB together are in memory; larger ones are
        mapped, and a change of a tensor does not change the file.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is damaged, or the folder holds something else.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from pathlib import Path
        >>> from captum_apex.bases.bank_folder import read_bank, write_bank
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_bank(Path(folder), {"means": torch.ones(2, 1)}, {"layer": "features"})
        ...     read_bank(Path(folder))[1]
        {'layer': 'features'}
    """
    while True:
        content = read_json(folder / "bank.json")
        try:
            return _read_arrays(folder, content), content["origin"]
        except FileNotFoundError:
            # Another process may have replaced the bank meanwhile, and deleted the files of the old one.
            if read_json(folder / "bank.json") == content:
                raise


def check_bank(arrays: Mapping[str, Tensor], origin: Origin) -> None:
    """Raises a ValueError where arrays do not fit each other or the origin, or have values that no bank has.

    Args:
        arrays: tensors by name: cells of each sequence (clip, channel, cell), means (clip, channel), and labels (clip,)
            or (clip, class) where there are any.
        origin: the size of the grid and the number of clips.

    Example:
        >>> import torch
        >>> from captum_apex.bases.bank_folder import check_bank
        >>> from captum_apex.layers import Origin
        >>> check_bank({"means": torch.zeros(2, 3), "time": torch.zeros(1, 3, 4)}, Origin())
        Traceback (most recent call last):
        ValueError: expected `time` to hold 3 channels of 2 clips, as `means`, but got an array of shape (1, 3, 4)
    """
    means = arrays["means"]
    if means.dim() != 2 or not means.numel() or not means.is_floating_point() or not means.isfinite().all():
        raise ValueError(
            f"expected `means` to be finite floats (clip, channel), but got {means.dtype} of shape {tuple(means.shape)}"
            f"{'' if means.isfinite().all() else ' with NaN or infinity'}"
        )
    n_clips, n_channels = means.shape
    if origin.n_clips not in (0, n_clips):
        raise ValueError(f"expected the features of {origin.n_clips} clips, but got those of {n_clips}")
    labels = arrays.get("labels")
    if labels is not None and (labels.dim() not in (1, 2) or len(labels) != n_clips):
        raise ValueError(f"expected `labels` of {n_clips} clips, but got an array of shape {tuple(labels.shape)}")
    if labels is not None and not labels.isfinite().all():
        raise ValueError("expected `labels` to be finite, but they have NaN or infinity")
    for name, cells in arrays.items():
        if name not in _OTHER_ARRAYS:
            fits = cells.dtype in (means.dtype, torch.float16)
            if cells.dim() != 3 or cells.shape[:2] != means.shape or not fits:
                raise ValueError(
                    f"expected `{name}` to hold {n_channels} channels of {n_clips} clips, as `means`, but got an array "
                    f"of shape {tuple(cells.shape)}"
                )
            _check_cells(Scheme(name), cells, origin)


def _check_cells(sequence: Scheme, cells: Tensor, origin: Origin) -> None:
    """Raises a ValueError where cells are not those of the grid, or are NaN without being padding."""
    n_rows, n_columns = origin.grid or (1, cells.shape[2])
    n_cells = {Scheme.TIME: n_columns, Scheme.FREQUENCY: n_rows, Scheme.SQUARE: n_rows * n_columns}[sequence]
    if origin.grid is not None and cells.shape[2] != n_cells:
        raise ValueError(f"expected `{sequence}` to have {n_cells} cells, but got {cells.shape[2]}")
    together = max(1, _CHECKED_AT_ONCE // cells[0].numel())
    for clips in cells.split(together):
        if clips.isfinite().all():
            continue
        missing = clips.isnan()
        rows = missing.unflatten(2, (n_rows if sequence is Scheme.SQUARE else 1, -1))  # (clip, channel, row, time)
        padding = rows[:, :1, :1].cummax(3).values.expand_as(rows)  # from the first missing column on
        if clips.isinf().any() or sequence is Scheme.FREQUENCY or (rows != padding).any() or padding.all(3).any():
            raise ValueError(f"expected `{sequence}` to be finite but for padding, but it has NaN or infinity")


def _write_array(path: Path, tensor: Tensor, mode: int | None) -> str:
    """Writes an array to a new file and returns the SHA-256 digest of the file."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666 if mode is None else 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            writer = _DigestWriter(file)
            np.save(cast(BinaryIO, writer), tensor.cpu().numpy(), allow_pickle=False)
            file.flush()
            os.fsync(descriptor)
    except OSError as error:
        if error.errno is not None:
            error.filename = os.fspath(path)
        raise
    if mode is not None:
        os.chmod(path, mode)
    return writer.digest.hexdigest()


class _DigestWriter:
    """A file that is written to, with the digest of what was written so far."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return self.file.write(content)


def _read_arrays(folder: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The arrays that the content of bank.json names."""
    if content["format"] == _WITHOUT_CHECKSUM and set(content) == {"format", "arrays", "origin"}:
        arrays = {name: _mapped(folder / f"{name}.npy") for name in content["arrays"] if _name(name)}
    elif content["format"] == _FORMAT:
        arrays = {name: _checked(folder, **entry) for name, entry in content["arrays"].items() if _name(name)}
    else:
        raise ValueError(f"its format is {content['format']!r}, not {_FORMAT!r} or {_WITHOUT_CHECKSUM!r}")
    in_memory = sum(array.nbytes for array in arrays.values()) <= _LARGEST_COPY
    return {name: torch.from_numpy(np.array(array) if in_memory else array) for name, array in arrays.items()}


def _checked(folder: Path, file: str, sha256: str) -> np.ndarray:
    """An array whose file has this digest."""
    if not _ARRAY_FILE.fullmatch(file):
        raise ValueError(f"it names {file!r}, which is no file of an array")
    with open(folder / file, "rb") as content:
        if hashlib.file_digest(content, "sha256").hexdigest() != sha256:
            raise ValueError(f"the checksum of {file} is that of other content: the file is damaged")
    return _mapped(folder / file)


def _mapped(path: Path) -> np.ndarray:
    # Mode "c" is copy-on-write: torch needs a writable array, but the file must not change.
    try:
        return np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError):
        raise
    except Exception as error:  # a damaged header can raise errors of the tokenizer and others
        raise ValueError(f"the header of {path.name} cannot be read ({error})") from error


def _name(name: str) -> str:
    """The name of an array, after a check that banks have such an array."""
    return name if name in _OTHER_ARRAYS else str(_SEQUENCES[_SEQUENCES.index(Scheme(name))])


def _remove_unused(folder: Path, former: set[str], alone: bool) -> None:
    """Deletes the former files that bank.json does not name; without other writers, also what killed ones left."""
    listed = _listed(folder)
    if listed is None:
        return
    if alone:
        former = former | {path.name for path in folder.iterdir() if _LEFT_BEHIND.fullmatch(path.name)}
    for name in former - listed:
        with suppress(OSError):  # Windows keeps mapped files
            (folder / name).unlink(missing_ok=True)


def _listed(folder: Path) -> set[str] | None:
    """Names of the array files that bank.json names; None where it cannot be read."""
    try:
        arrays = read_json(folder / "bank.json")["arrays"]
        files = (
            [entry["file"] for entry in arrays.values()]
            if isinstance(arrays, dict)
            else [f"{_name(name)}.npy" for name in arrays]
        )
        return {file for file in files if isinstance(arrays, list) or _ARRAY_FILE.fullmatch(file)}
    except FileNotFoundError:
        return set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
