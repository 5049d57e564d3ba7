"""The files that are finished, with their rows, in a folder that several processes share and that survives a kill."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO, NamedTuple

from captum_apex.explaining.table_settings import differences
from captum_apex.files import locked, replaced, synced_folder

__all__ = ["FinishedFiles", "StoredFile"]

_FORMAT = "captum-apex rows 1"
_ROWS = "rows.jsonl"
_PART = re.compile(r"part-\d+-of-\d+")
_LINE = re.compile(rb'\{"checksum": "([0-9a-f]{64})", ')
_BEFORE_ROWS = b', "rows": '  # not in a name, whose quotation marks have a backslash before them
_SECONDS = 2.0  # between two waits for the disk


@dataclass(frozen=True)
class StoredFile:
    """A file as it was when it was explained; one of the same name that has changed is another one.

    Args:
        name: path of the file, as the user gave it.
        size: its size in bytes; None for a file that is missing.
        time: when it was changed last, in ns; None for a file that is missing.

    Example:
        >>> from captum_apex.explaining.finished_files import StoredFile
        >>> StoredFile.of("none.wav")
        StoredFile(name='none.wav', size=None, time=None)
    """

    name: str
    size: int | None = None
    time: int | None = None

    @classmethod
    def of(cls, path: str | os.PathLike) -> StoredFile:
        """The present state of a file."""
        try:
            status = os.stat(path)
        except (OSError, ValueError):  # the work on the file will say more
            return cls(os.fspath(path))
        return cls(os.fspath(path), status.st_size, status.st_mtime_ns)


class _Place(NamedTuple):
    """Where the record of a file is."""

    path: Path
    offset: int  # bytes
    is_bad: bool


class FinishedFiles:
    """The records of files that are finished, in a folder with a sub-folder for each part.

    A part has a file of lines, `rows.jsonl`: the first line says what the rows depend on, each further one has the
    rows of a file. Every line has a checksum, so that one that was cut by a kill is known, and its file is explained
    again. In memory are the names of the files, and not their rows.

    Args:
        folder: the folder; there may be none yet.
        about: what the rows depend on, by name.

    Raises:
        ValueError: a part was begun with something else, or is of another format.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.explaining.finished_files import FinishedFiles, StoredFile
        >>> file = StoredFile("a.wav", size=80, time=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with FinishedFiles(Path(folder), {"threshold": 0.5}).opened((0, 1)) as add:
        ...         add(file, rows=[{"start": 1.25}])
        ...     finished = FinishedFiles(Path(folder), {"threshold": 0.5})
        ...     file in finished, finished.rows(file)
        (True, [{'start': 1.25}])
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self.folder = folder
        self.about = json.loads(json.dumps(about))  # as it will be read
        self._places: dict[StoredFile, _Place] = {}
        parts = folder.iterdir() if folder.is_dir() else ()
        for path in sorted(part / _ROWS for part in parts if _PART.fullmatch(part.name)):
            self._read(path)

    def __contains__(self, file: StoredFile) -> bool:
        """Whether the rows of a file are there."""
        return file in self._places and not self._places[file].is_bad

    @property
    def files(self) -> Iterable[StoredFile]:
        """The files that have a record, also of those that could not be read."""
        return self._places.keys()

    def error(self, file: StoredFile) -> str | None:
        """Why a file could not be read; None for others."""
        place = self._places.get(file)
        return self._record(file)["error"] if place is not None and place.is_bad else None

    def rows(self, file: StoredFile) -> list[dict[str, Any]]:
        """The rows of a file that has some."""
        return self._record(file)["rows"]

    @contextmanager
    def opened(self, part: tuple[int, int]) -> Iterator[Callable[..., None]]:
        """Opens a part for writing; one that another process writes is waited for.

        Args:
            part: index of the part and number of parts.

        Yields:
            A function that adds the record of a file: `add(file, rows=…)`, or `add(file, error=…)` for one that cannot
            be read.

        Raises:
            OSError: the part cannot be written; the error names it.
        """
        path = self.folder / f"part-{part[0]}-of-{part[1]}" / _ROWS
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent):
            _repair(path, {"format": _FORMAT, "about": self.about})
            self._read(path)  # again, for what was added while it was waited for
            with open(path, "ab") as file:
                lines = _Lines(file, path)

                def add(of: StoredFile, rows: list[dict[str, Any]] | None = None, error: str | None = None) -> None:
                    lines.write({"file": of.name, "size": of.size, "time": of.time, "error": error, "rows": rows})

                try:
                    yield add
                finally:
                    lines.sync()

    def _read(self, path: Path) -> None:
        """Notes the places of the records of a part; of a part that is being written, the last line may be cut."""
        self._places = {file: place for file, place in self._places.items() if place.path != path}
        lines = _records(path)
        _, header = next(lines, (0, None))
        if header is None:  # there is no part, or its first line was cut: its files are explained again
            return
        if header.get("format") != _FORMAT:
            raise ValueError(f"expected {path} in the format {_FORMAT!r}, but it is in {header.get('format')!r}")
        differing = differences(header["about"], self.about)
        if differing:
            raise ValueError(
                f"expected what {self.folder} was begun with, but {differing}; name another table, or delete the folder"
            )
        for offset, record in lines:
            if record is not None:
                file = StoredFile(record["file"], record["size"], record["time"])
                if file not in self:  # a file that could not be read may have been read later
                    self._places[file] = _Place(path, offset, record["error"] is not None)

    def _record(self, file: StoredFile) -> dict[str, Any]:
        place = self._places[file]
        with open(place.path, "rb") as opened:
            opened.seek(place.offset)
            record = _record(opened.readline())
        if record is None or record["file"] != file.name:
            raise ValueError(f"{place.path} was changed while it was read; run the same again")
        return record


class _Lines:
    """Lines that are added to a file, and forced to the disk now and then."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._synced_at = monotonic()

    def write(self, record: Mapping[str, Any]) -> None:
        try:
            self._file.write(_line(record))
            self._file.flush()
            if monotonic() - self._synced_at >= _SECONDS:
                self.sync()
        except OSError as error:
            error.filename = error.filename or os.fspath(self._path)
            raise

    def sync(self) -> None:
        os.fsync(self._file.fileno())
        self._synced_at = monotonic()


def _line(record: Mapping[str, Any]) -> bytes:
    """A record as a line of JSON, with the checksum of the rest of the line as its first entry."""
    text = json.dumps(record)
    return f'{{"checksum": "{hashlib.sha256(text.encode()).hexdigest()}", {text[1:]}\n'.encode()


def _record(line: bytes, whole: bool = True) -> dict[str, Any] | None:
    """The record of a line, or what is before its rows; None for a line that was cut or damaged."""
    beginning = _LINE.match(line)
    if beginning is None or not line.endswith(b"\n"):
        return None
    text = b"{" + line[beginning.end() : -1]
    if hashlib.sha256(text).hexdigest().encode() != beginning[1]:
        return None
    if not whole:
        head, found, _ = text.partition(_BEFORE_ROWS)
        text = head + b"}" if found else head
    return json.loads(text)


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """The offset and the record, without its rows, of each line of a file; none if there is no file."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return
    with file:
        offset = 0
        for line in file:
            yield offset, _record(line, whole=False)
            offset += len(line)


def _repair(path: Path, header: Mapping[str, Any]) -> None:
    """Gives a part its first line, and takes away the lines that were cut or damaged."""
    _, first = next(_records(path), (0, None))
    is_begun = first is not None
    if is_begun and all(record is not None for _, record in _records(path)):
        return
    with replaced(path) as beside, open(beside, "wb") as file:
        if not is_begun:
            file.write(_line(header))
        else:
            with open(path, "rb") as former:
                file.writelines(line for line in former if _record(line, whole=False) is not None)
    synced_folder(path.parent)
