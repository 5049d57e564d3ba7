"""The CSV file in which a command keeps its lines, so that it need not compute them again."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from os import SEEK_END
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.runs.results import FolderError, code_fingerprint
from captum_apex.files import locked, replaced
from captum_apex.result_tables import counted, listed

_CODE = "code"  # column of the code that measured a line, which files of earlier versions lack


@dataclass(frozen=True)
class StoredLines:
    """The lines of one command, to which several processes may add at a time.

    Attributes:
        path: the CSV file, which need not exist.
        command: name of the command, for messages.
        key: the columns that say what a line is about.
        columns: the other columns.

    Example:
        >>> import tempfile
        >>> import pandas as pd
        >>> from benchmarks.commands.stored_lines import StoredLines
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     stored = StoredLines(Path(folder, "fits.csv"), "fits", ["task", "seed"], ["purity"])
        ...     stored.add(pd.DataFrame({"task": ["digits"], "seed": [0], "purity": [0.25]}))
        ...     len(stored.of("digits", 0)), len(stored.of("digits", 1))
        (1, 0)
    """

    path: Path
    command: str
    key: Sequence[str]
    columns: Sequence[str]

    def of(self, *values: Any) -> pd.DataFrame:
        """The lines with these values of the columns of the key; none if the file has none.

        Raises:
            FolderError: the file cannot be read, or is of another command or version.
        """
        stored = self._read()
        return stored[(stored[list(self.key)] == list(values)).all(axis=1)]

    def all(self) -> pd.DataFrame:
        """All lines; none if there is no file.

        Raises:
            FolderError: as for `of`.
        """
        return self._read()

    def add(self, lines: pd.DataFrame) -> None:
        """Adds lines to the file, and makes it and its folder where they do not exist.

        Args:
            lines: lines with the columns of the key and the other ones.
        """
        self._change(lines, lambda stored: stored)

    def completed(self, keys: Iterable[tuple], measure: Callable[..., pd.DataFrame]) -> pd.DataFrame:
        """The lines of all keys; those that the file lacks are measured, added, and named on stderr.

        How many were in the file is said on stderr, too, and how many of these were not measured by this code.

        Args:
            keys: values of the columns of the key, in the order of the lines.
            measure: function from the values of one key to its lines; the columns of the key are added where they lack.
        """
        columns = [*self.key, *self.columns]
        code = code_fingerprint()
        tables: list[pd.DataFrame] = []
        of_codes: list[bool] = []
        for values in keys:
            lines = self.of(*values)
            if lines.empty:
                of_key: dict[str, Any] = dict(zip(self.key, values, strict=True))
                lines = measure(*values).assign(**of_key)[columns]
                self.add(lines.assign(**{_CODE: code}))
                print(f"{', '.join(map(str, values))}: written to {self.path}", file=sys.stderr)
            else:
                of_codes.append(_CODE in lines and bool((lines[_CODE] == code).all()))
            tables.append(lines[columns])
        if of_codes:
            print(self._found(of_codes, len(tables)), file=sys.stderr)
        return pd.concat(tables, ignore_index=True)

    def _found(self, of_codes: Sequence[bool], number: int) -> str:
        """What was in the file, in words.

        Args:
            of_codes: whether each result that was in the file was measured by this code.
            number: number of all results.
        """
        text = f"{len(of_codes)} of {counted(number, 'result')} from {self.path}, not computed again"
        n_others = len(of_codes) - sum(of_codes)
        if not n_others:
            return text
        return f"{text}; {n_others} of them by other code than this: remove their lines to compute them again"

    def replace(self, lines: pd.DataFrame) -> None:
        """Adds lines to the file in place of those with the same values of the columns of the key.

        Args:
            lines: lines with the columns of the key and the other ones.
        """
        keys = set(self._keys(lines))
        self._change(lines, lambda stored: stored[[row not in keys for row in self._keys(stored)]])

    def _keys(self, lines: pd.DataFrame) -> list[tuple]:
        return list(lines[list(self.key)].itertuples(index=False, name=None))

    def _change(self, lines: pd.DataFrame, kept: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path.parent), replaced(self.path) as temporary:
            stored = kept(self._read())  # another process may have added lines meanwhile
            pd.concat([stored, lines] if len(stored) else [lines]).to_csv(temporary, index=False)

    def _read(self) -> pd.DataFrame:
        columns = [*self.key, *self.columns]
        expected = f"expected {self.path} to hold the lines of `{self.command}`"
        try:
            stored = pd.read_csv(self.path) if self.path.exists() else pd.DataFrame(columns=columns)
            damaged = _short_line(self.path)
        except (ValueError, csv.Error) as error:  # pandas' own errors are among them
            raise FolderError(f"{expected}, but it cannot be read: {error}") from error
        if missing := [name for name in columns if name not in stored.columns]:
            raise FolderError(
                f"{expected} as this version writes them, but it lacks the column {missing[0]}; name another file for "
                "--csv"
            )
        if damaged:
            raise FolderError(
                f"{expected}, but {damaged}; name another file for --csv, or remove all lines of its {listed(self.key)}"
            )
        return stored


def _short_line(path: Path) -> str:
    """What is cut in a CSV file, in words: a line has fewer cells than the head, or no end; nothing if nothing is."""
    if not path.exists() or not path.stat().st_size:
        return ""
    with path.open(newline="", encoding="utf-8") as file:
        rows = csv.reader(file)
        head = next(rows, [])
        for cells in rows:
            if cells and len(cells) != len(head):
                return f"line {rows.line_num} has {len(cells)} of {len(head)} cells"
    with path.open("rb") as content:
        content.seek(-1, SEEK_END)
        return "" if content.read() == b"\n" else "its last line does not end"
