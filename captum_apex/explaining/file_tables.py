"""One table of the rows of many files, which is made file by file, survives a kill, and takes several processes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from captum_apex.caller import warn_caller
from captum_apex.explaining.bad_files import SKIP_BAD, all_bad_text
from captum_apex.explaining.finished_files import FinishedFiles, StoredFile
from captum_apex.numbers import part_of
from captum_apex.progress import bar_settings
from captum_apex.result_tables import counted, listed

__all__ = ["FileTable", "Rows", "UnusableFileError", "table_of_files"]

Rows = list[dict[str, Any]]

SUFFIXES = (".csv", ".json")


class UnusableFileError(ValueError):
    """A file cannot be explained, but others can.

    Example:
        >>> from captum_apex.explaining.file_tables import UnusableFileError
        >>> try:
        ...     raise UnusableFileError("expected a.wav to be audio")
        ... except ValueError as error:
        ...     print(error)
        expected a.wav to be audio
    """


@dataclass(frozen=True, repr=False)
class FileTable:
    """The table of many files, or what there is of it while other parts are not finished.

    Args:
        path: path of the table.
        folder: the folder of the finished files, which the next call goes on with.
        n_files: number of all files.
        finished: the files that are finished, in order.
        left_out: why a file could not be read, by its path.
        counts: number of rows of each class, the most frequent first.
        source: the rows of the finished files.

    Example:
        >>> from pathlib import Path
        >>> from captum_apex.explaining.file_tables import FileTable
        >>> table = FileTable(Path("events.csv"), Path("events.csv.parts"), 3, (), {"a.wav": "it is empty"}, {}, None)
        >>> table.is_complete, table
        (False, events.csv, of which 2 of 3 files are missing)
    """

    path: Path
    folder: Path
    n_files: int
    finished: tuple[StoredFile, ...]
    left_out: Mapping[str, str]
    counts: Mapping[str, int]
    source: FinishedFiles | None

    @property
    def n_missing(self) -> int:
        """Number of files that are not finished."""
        return self.n_files - len(self.finished) - len(self.left_out)

    @property
    def is_complete(self) -> bool:
        """Whether all files are finished, so that the table is written."""
        return not self.n_missing

    def rows(self) -> Iterator[tuple[str, Rows]]:
        """The path and the rows of each finished file, in order, one file after the other."""
        assert self.source is not None
        for file in self.finished:
            yield file.name, self.source.rows(file)

    def __repr__(self) -> str:
        if not self.is_complete:
            return f"{self.path}, of which {self.n_missing} of {self.n_files} files are missing"
        return f"{self.path} with {counted(sum(self.counts.values()), 'row')} of {counted(self.n_files, 'file')}"


def table_of_files(
    path: str | os.PathLike,
    names: Sequence[str],
    about: Mapping[str, Any],
    rows_of: Callable[[str], Rows],
    write: Callable[[Path, Iterable[tuple[str, Rows]]], object],
    *,
    class_column: str,
    part: tuple[int, int] = (0, 1),
    skip_bad: bool = False,
    progress: bool | None = False,
) -> FileTable:
    """Makes the rows of all files of a part, one file after the other, and writes the table where all parts have ended.

    Each file is kept as soon as it is finished, in a folder beside the table, `PATH.parts`. After an interruption or a
    kill the same call goes on with the next file. Files that have changed since are made anew.

    Args:
        path: path of the table, which ends in `.csv` or `.json`.
        names: paths of the files.
        about: what the rows depend on, by name.
        rows_of: function that makes the rows of a file.
        write: function that writes the table, from the path and the rows of each file.
        class_column: name of the column of the class, for `FileTable.counts`.
        part: index of the part and number of parts. Part `i` of `n` takes every `n`-th file from the `i`-th on.
        skip_bad: leave out files for which `rows_of` raises an `UnusableFileError`, instead of stopping at the first.
        progress: whether to show a progress bar, as in `captum_apex.progress.bar_settings`.

    Raises:
        ValueError: a file cannot be read, all are bad, or the folder was begun with other settings.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.explaining.file_tables import table_of_files
        >>> def rows_of(name):
        ...     return [{"class": "dog", "file": name}]
        >>> def write(path, rows):
        ...     Path(path).write_text(str(list(rows)))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     call = (Path(folder, "t.csv"), ["a.wav", "b.wav"], {}, rows_of, write)
        ...     tables = [table_of_files(*call, class_column="class", part=(i, 2)) for i in range(2)]
        >>> [table.n_missing for table in tables], tables[1].counts
        ([1, 0], {'dog': 2})
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:  # so that a slip overwrites no recording
        raise ValueError(f"expected a table that ends in {' or '.join(SUFFIXES)}, but got {path}")
    index, n_parts = part_of(part)
    folder = path.with_name(f"{path.name}.parts")
    files = [StoredFile.of(name) for name in dict.fromkeys(names)]
    finished = FinishedFiles(folder, about)
    _warn_of_others(finished, files)
    mine = files[index::n_parts]
    if any(file not in finished for file in mine):
        _finish(finished, mine, rows_of, (index, n_parts), skip_bad, progress)
        finished = FinishedFiles(folder, about)  # with the files of other parts that have ended meanwhile
    done = tuple(file for file in files if file in finished)
    left_out = {file.name: error for file in files if (error := finished.error(file)) is not None}
    counts: Counter[str] = Counter()
    table = FileTable(path, folder, len(files), done, left_out, counts, finished)
    if table.is_complete:
        _check_left_out(left_out, done, skip_bad)
        write(path, _counting(table.rows(), counts, class_column))
    return FileTable(path, folder, len(files), done, left_out, dict(counts.most_common()), finished)


def _finish(
    finished: FinishedFiles,
    files: Sequence[StoredFile],
    rows_of: Callable[[str], Rows],
    part: tuple[int, int],
    skip_bad: bool,
    progress: bool | None,
) -> None:
    """Makes and keeps the rows of the files that have none; nothing else of a file is kept."""
    with finished.opened(part) as add:
        missing = [file for file in files if file not in finished]
        n_before = len(files) - len(missing)
        shown = {"desc": "explaining", "unit": "file", "initial": n_before, "total": len(files)}
        for file in tqdm(missing, **shown, **bar_settings(progress)):
            try:
                add(file, rows=rows_of(file.name))
            except UnusableFileError as error:
                if not skip_bad:
                    kept = f"the files before it are kept in {finished.folder}"
                    raise ValueError(f"{_named(error, file)}; {kept}; {SKIP_BAD}") from error
                if finished.error(file) != str(error):
                    add(file, error=str(error))


def _named(error: UnusableFileError, file: StoredFile) -> str:
    """The message of an error, with the name of the file."""
    return str(error) if file.name in str(error) else f"{file.name}: {error}"


def _counting(
    of_files: Iterable[tuple[str, Rows]], counts: Counter[str], class_column: str
) -> Iterator[tuple[str, Rows]]:
    for name, rows in of_files:
        counts.update(row[class_column] for row in rows)
        yield name, rows


def _warn_of_others(finished: FinishedFiles, files: Sequence[StoredFile]) -> None:
    """Says which files have changed, and which are not asked for any more."""
    names = {file.name for file in files}
    known = {file.name for file in finished.files}
    changed = [file.name for file in files if file.name in known and file not in finished.files]
    gone = sorted(known - names)
    if changed:
        warn_caller(f"explained anew, because they changed: {listed(changed)}")
    if gone:
        warn_caller(f"finished in {finished.folder}, but not among the files that are given: {listed(gone)}")


def _check_left_out(left_out: Mapping[str, str], done: Sequence[StoredFile], skip_bad: bool) -> None:
    if not left_out:
        return
    if not done:
        raise ValueError(all_bad_text(left_out))
    if not skip_bad:  # another part left them out
        message = next(iter(left_out.values()))
        raise ValueError(f"expected files that can be read, but {listed(left_out)} cannot be: {message}; {SKIP_BAD}")
