"""The files of one part of a bank: arrays to which rows are added, and the count of the rows that are finished."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO

import numpy as np

from captum_apex.bases.mapped_arrays import claim_room
from captum_apex.files import read_json, write_json

__all__ = ["PartFiles"]

_FORMAT = "captum-apex part 1"
_RECORD = "part.json"
_OF_COLUMNS = ("square", "time")  # arrays whose last axis is as long as the grids of a batch are wide
_NAMES = {"square", "time", "frequency", "means", "labels", "columns"}
_SECONDS = 2.0  # between two counts: a count waits for the disk
_BLOCK = 2**24  # bytes


@dataclass(frozen=True)
class _Rows:
    """What has been written: the number of rows, and the size and the running digest of each file."""

    number: int = 0
    ends: Mapping[str, int] = field(default_factory=dict)  # bytes
    digests: Mapping[str, Any] = field(default_factory=dict)


class PartFiles:
    """The folder of a part: a file per array, and part.json, which says how many of their rows are finished.

    A row is a clip. The cells of clips with wider grids take more bytes; `columns` has the width of each row. Rows are
    first forced to the disk and then counted, so that those that are counted are whole after a kill.

    Args:
        folder: the folder, which is made with the first row.
        about: what the rows depend on, for part.json.
        n_rows: number of rows that the part will have.

    Attributes:
        details: further entries of part.json.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from captum_apex.bases.part_files import PartFiles
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = PartFiles(Path(folder), {"layer": "features"}, n_rows=3)
        ...     files.append({"means": np.ones((2, 4)), "columns": np.array([5, 5])})
        ...     files.count()
        ...     files.close()
        ...     PartFiles.read(Path(folder)).n_written
        2
    """

    def __init__(self, folder: Path, about: Mapping[str, Any], n_rows: int) -> None:
        self.folder = folder
        self.about = about
        self.n_rows = n_rows
        self.details: dict[str, Any] = {}
        self._arrays: dict[str, dict[str, Any]] = {}
        self._rows = _Rows()
        self._open: dict[str, BinaryIO] = {}
        self._n_counted = 0
        self._counted_at = monotonic()

    @classmethod
    def read(cls, folder: Path) -> PartFiles:
        """The part that a folder holds, after a comparison of its counted rows with their checksums.

        Args:
            folder: the folder.

        Raises:
            FileNotFoundError: the folder has no part.
            ValueError: a file is damaged.
        """
        record = read_json(folder / _RECORD)
        if record.get("format") != _FORMAT:
            raise ValueError(f"the format of {folder / _RECORD} is {record.get('format')!r}, not {_FORMAT!r}")
        files = cls(folder, record["about"], record["n_rows"])
        files.details = record["details"]
        files._arrays = record["arrays"]
        if not set(files._arrays) <= _NAMES:
            raise ValueError(f"{folder / _RECORD} names {sorted(set(files._arrays) - _NAMES)}, which are no arrays")
        number = record["n_written"]
        ends: dict[str, int] = {}
        digests = {}
        for name, array in sorted(files._arrays.items()):  # `columns` before the cells whose size it tells
            ends[name] = files._size(name, number)
            digests[name] = _digest(folder / _file(name), ends[name])
            if digests[name].hexdigest() != array["sha256"]:
                raise ValueError(f"the checksum of {folder / _file(name)} is that of other content: it is damaged")
        files._rows = _Rows(number, ends, digests)
        files._n_counted = number
        return files

    @property
    def n_written(self) -> int:
        """Number of rows that have been written; those of a part that was read have been counted."""
        return self._rows.number

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the arrays; none before the first row."""
        return tuple(self._arrays)

    @property
    def kinds(self) -> dict[str, dict[str, Any]]:
        """The dtype and the shape of a row of each array; a size that differs from row to row is None."""
        return {name: {"dtype": array["dtype"], "shape": array["shape"]} for name, array in self._arrays.items()}

    @property
    def n_bytes(self) -> int:
        """Number of bytes that the written rows take."""
        return sum(self._rows.ends.values())

    def append(self, rows: Mapping[str, np.ndarray]) -> None:
        """Adds the rows of a batch to all arrays, and counts them where the last count is some seconds old.

        Args:
            rows: the arrays by name, (row, ...), each with the same number of rows.

        Raises:
            OSError: the disk has no room for all rows of the part.
            ValueError: the arrays are others than those of the rows before, or of another kind.
        """
        self._check(rows)
        number = len(next(iter(rows.values())))
        ends = dict(self._rows.ends)
        digests = {name: digest.copy() for name, digest in self._rows.digests.items()}
        for name, array in rows.items():
            content = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
            self._write(name, content, ends.get(name, 0), room=array[0].nbytes * self.n_rows)
            ends[name] = ends.get(name, 0) + len(content)
            digests.setdefault(name, hashlib.sha256()).update(content)
        # One assignment, so that an interruption leaves the rows before or these.
        self._rows = _Rows(self.n_written + number, ends, digests)
        if monotonic() - self._counted_at >= _SECONDS:
            self.count()

    def count(self) -> None:
        """Forces what was written to the disk, and then replaces part.json, which counts it."""
        rows = self._rows
        for file in self._open.values():
            os.fsync(file.fileno())
        arrays = {name: {**array, "sha256": rows.digests[name].hexdigest()} for name, array in self._arrays.items()}
        record = {"format": _FORMAT, "about": self.about, "n_rows": self.n_rows, "n_written": rows.number}
        write_json(self.folder / _RECORD, {**record, "arrays": arrays, "details": self.details})
        self._n_counted = rows.number
        self._counted_at = monotonic()

    def close(self) -> None:
        """Counts the rows that are not yet counted, and closes the files; those of a whole part give room back."""
        try:
            if self.n_written > self._n_counted:
                self.count()
        finally:
            for file in self._open.values():
                file.close()
            self._open.clear()
        if self.n_written == self.n_rows:
            for name, end in self._rows.ends.items():
                os.truncate(self.folder / _file(name), end)

    def dtype(self, name: str) -> np.dtype:
        """The dtype of an array."""
        return np.dtype(self._arrays[name]["dtype"])

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of all rows of an array, (row, ...); the rows of narrower grids are padded to it."""
        shape = self._arrays[name]["shape"]
        return (self.n_written, *(self.widest if size is None else size for size in shape))

    @property
    def columns(self) -> np.ndarray:
        """The number of columns of each row."""
        return np.array(self._mapped("columns"))

    @property
    def widest(self) -> int:
        """The largest number of columns of a row."""
        return int(self._mapped("columns").max())

    @property
    def is_even(self) -> bool:
        """Whether all rows have the same number of columns, so that every file is one array."""
        columns = self._mapped("columns")
        return bool((columns == columns[0]).all())

    def mapped(self, name: str) -> np.ndarray:
        """An array of an even part, mapped; a change of it does not change the file."""
        return self._mapped(name).reshape(self.shape(name))

    def copy_to(self, name: str, target: np.ndarray) -> None:
        """Copies the rows of an array; where a row has fewer columns than the target, the others are set to NaN.

        Args:
            name: name of the array.
            target: array (row, ...) of at least the width of the rows.
        """
        values = self._mapped(name)
        if None not in self._arrays[name]["shape"]:
            target[:] = values.reshape(self.shape(name))
            return
        columns = self._mapped("columns")
        starts = [0, *(np.flatnonzero(np.diff(columns)) + 1).tolist(), len(columns)]
        begin = 0
        for start, stop in pairwise(starts):
            width = int(columns[start])
            rows = target[start:stop]
            size = rows[..., :width].size
            rows[..., :width] = values[begin : begin + size].reshape(rows[..., :width].shape)
            rows[..., width:] = np.nan
            begin += size

    def _mapped(self, name: str) -> np.ndarray:
        dtype = self.dtype(name)
        n_values = self._size(name, self.n_written) // dtype.itemsize
        # Mode "c" is copy-on-write: torch needs a writable array, but the file must not change.
        return np.memmap(self.folder / _file(name), dtype, "c", shape=(n_values,))

    def _size(self, name: str, n_rows: int) -> int:
        """The number of bytes that rows of an array take."""
        array = self._arrays[name]
        values = math.prod(size for size in array["shape"] if size is not None)
        n_columns = n_rows
        if None in array["shape"]:
            columns = np.memmap(self.folder / _file("columns"), self.dtype("columns"), "r", shape=(n_rows,))
            n_columns = int(columns.sum())
        return n_columns * values * np.dtype(array["dtype"]).itemsize

    def _check(self, rows: Mapping[str, np.ndarray]) -> None:
        """Notes the kinds of the first rows; later ones must be of the same kinds."""
        kinds = {}
        for name, array in rows.items():
            shape: list[int | None] = [*array.shape[1:]]
            if name in _OF_COLUMNS:
                shape[-1] = None
            kinds[name] = {"dtype": array.dtype.str, "shape": shape}
        if not self._arrays:
            self._arrays = kinds
        former = self.kinds
        for name in former | kinds:
            if former.get(name) != kinds.get(name):
                raise ValueError(
                    f"expected `{name}` of one kind for all clips, but the clips from {self.n_written} of the part on "
                    f"have {_described(kinds.get(name))}, and those before them {_described(former.get(name))}"
                )

    def _write(self, name: str, content: memoryview, start: int, room: int) -> None:
        path = self.folder / _file(name)
        try:
            if name not in self._open:
                self.folder.mkdir(parents=True, exist_ok=True)
                self._open[name] = open(path, "r+b" if self.n_written else "w+b")  # noqa: SIM115 - closed by `close`
                if not self.n_written:
                    claim_room(self._open[name], room, os.fspath(self.folder))
            self._open[name].seek(start)
            self._open[name].write(content)
            self._open[name].flush()
        except OSError as error:
            error.filename = error.filename or os.fspath(path)
            raise


def _file(name: str) -> str:
    return f"{name}.rows"


def _digest(path: Path, n_bytes: int) -> Any:
    """The SHA-256 digest of the beginning of a file, which can be continued."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while n_bytes:
            content = file.read(min(_BLOCK, n_bytes))
            if not content:
                raise ValueError(f"{path} is shorter than its counted rows: it is damaged")
            digest.update(content)
            n_bytes -= len(content)
    return digest


def _described(kind: Mapping[str, Any] | None) -> str:
    if kind is None:
        return "none"
    sizes = ["any" if size is None else str(size) for size in kind["shape"]]
    return f"{np.dtype(kind['dtype'])} ({', '.join(['clip', *sizes])})"
