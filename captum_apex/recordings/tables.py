"""Tables with a column of audio files and a column of labels: CSV files and columns in memory."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from captum_apex.caller import warn_caller
from captum_apex.recordings.background_labels import labels_with_background
from captum_apex.recordings.class_labels import Labels, class_indices, named_class
from captum_apex.result_tables import listed

__all__ = [
    "END_COLUMNS",
    "FILE_COLUMNS",
    "LABEL_COLUMNS",
    "START_COLUMNS",
    "Table",
    "chosen_columns",
    "column_named",
    "file_text",
    "located_files",
    "read_csv",
]

FILE_COLUMNS = ("file", "filename", "file_name", "filepath", "file_path", "path", "audio", "wav", "fname")
"""Usual names of the column of files; upper case counts too."""

LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "species", "target")
"""Usual names of the column of labels; upper case counts too."""

START_COLUMNS = ("start", "start_s", "start_time", "onset", "begin", "begin time (s)", "start (s)")
"""Usual names of the column of the seconds at which annotations begin; upper case counts too."""

END_COLUMNS = ("end", "end_s", "end_time", "offset", "end time (s)", "end (s)")
"""Usual names of the column of the seconds at which annotations end; upper case counts too."""

_PRESENT = {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}  # a cell of the column of a class
_DELIMITERS = (",", ";", "\t", "|")
_N_EXAMPLES = 3  # missing files in a message


@dataclass(frozen=True)
class Table:
    """Columns with the paths of audio files and with their labels.

    Args:
        columns: the columns by their names: a dict of lists or arrays, or a pandas DataFrame.
        folder: the folder of relative paths.
        name: the table in words, for messages.
        lines: the place of each row in words, for messages; None for the number of the row.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.recordings.tables import Table
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "a.wav").touch()
        ...     table = Table({"file": ["a.wav"], "label": [1]}, Path(folder))
        ...     table.labelled_files(class_names=["dog", "rain"])
        (('a.wav',), (1,), ('dog', 'rain'))
    """

    columns: Any
    folder: Path
    name: str = "the table"
    lines: Sequence[str] | None = None

    @classmethod
    def of_csv(cls, path: Path, folder: Path | None = None) -> Self:
        """The table in a CSV file, as `read_csv` reads it; relative paths are by default from the file's folder."""
        columns, lines = read_csv(path)
        return cls(columns, path.parent if folder is None else folder, str(path), [f"line {line}" for line in lines])

    def place(self, index: int) -> str:
        """The place of a row in words."""
        return f"row {index}" if self.lines is None else self.lines[index]

    def labelled_files(
        self,
        file: Any = None,
        label: Any = None,
        class_names: Sequence[str] | None = None,
        skip_missing: bool = False,
        background: str | None = None,
    ) -> tuple[tuple[str, ...], Labels | None, tuple[str, ...]]:
        """The paths of the files, their labels and the names of the classes.

        Args:
            file: name of the column of files, as in `chosen_columns`.
            label: name of the column of labels, as in `chosen_columns`.
            class_names: names of the classes, as in `class_labels`. Where there is no column of labels, each may be the
                name of a column of 0 and 1.
            skip_missing: whether missing files are left out, with a warning.
            background: label of files without any of the classes, as in `labels_with_background`.

        Raises:
            FileNotFoundError: a file is missing.
            TypeError: a file is no path, or a label of another kind.
            ValueError: there is no such column, a file occurs twice, or a label is no class; see `class_labels`.
        """
        columns = list(getattr(self.columns, "columns", self.columns))
        file = _chosen(columns, file, "file", FILE_COLUMNS, self.name)
        others = [column for column in columns if column != file]
        rows = None if label is not None or class_names is None else self._rows_of_classes(others, class_names)
        if rows is None:
            file, label = chosen_columns(columns, file, label, self.name)
        paths = list(self.columns[file])
        files = located_files(paths, self.folder, self.place, skip_missing=skip_missing)
        if len(files) < len(paths):
            missing = [index for index in range(len(paths)) if index not in files]
            warn_caller(
                f"left out of {self.name}: {len(missing)} of {len(paths)} files, which are missing, the first "
                f"{paths[missing[0]]!r} in {self.place(missing[0])}"
            )
        names = tuple(files.values())
        if rows is None and label is None:
            return names, None, tuple(class_names or ())
        labels, class_names = labels_with_background(
            self.columns[label] if rows is None else rows,
            lambda index: f"{paths[index]} ({self.place(index)})",
            class_names,
            background,
        )
        return names, None if labels is None else tuple(labels[index] for index in files), class_names

    def _rows_of_classes(self, columns: Sequence[Any], class_names: Sequence[str]) -> list[list[int]] | None:
        """A 0 or 1 for each class of each row, where each class has a column and there is no column of labels."""
        names = [str(each).strip() for each in columns]
        classes = [str(named_class(name)) for name in class_names]
        of_labels = [name for name in names if name.lower() in LABEL_COLUMNS]
        if len(classes) < 2 or not set(of_labels) <= set(classes):  # a class itself may be named "target"
            return None
        indices = class_indices(names, classes)
        missing = [name for index, name in enumerate(classes) if index not in indices.values()]
        if len(missing) == len(classes) or (missing and of_labels):
            return None
        if missing:
            raise ValueError(
                f"expected {self.name} to have a column of labels, or a column of 0 and 1 for each class, but there is "
                f"none for {listed(missing)}"
            )
        of_classes = {indices[name]: column for name, column in zip(names, columns, strict=True) if name in indices}
        cells = [
            [self._present(of_classes[index], row, value) for row, value in enumerate(self.columns[of_classes[index]])]
            for index in range(len(class_names))
        ]
        return [list(row) for row in zip(*cells, strict=True)]

    def _present(self, column: Any, row: int, value: Any) -> int:
        """Whether a class is present, from the cell of its column."""
        text = str(value).strip().casefold()
        if text not in _PRESENT:
            raise ValueError(
                f"expected 0 or 1 in the column {column!r} of {self.name}, which is named as a class, but got "
                f"{value!r} in {self.place(row)}"
            )
        return _PRESENT[text]


def read_csv(path: Path) -> tuple[dict[str, list[str]], list[int]]:
    r"""The columns of a CSV file, with the number of the line of each row.

    The first line names the columns, and the delimiter is that of comma, semicolon, tab and `|` which divides it into
    most columns. The file is in UTF-8, with or without a byte order mark, or in UTF-16 with one. Empty lines are
    skipped.

    Args:
        path: path of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no text in UTF-8 or UTF-16, has no rows, or a row has another number of cells than the first.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.recordings.tables import read_csv
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "sounds.csv").write_text("file;label\na.wav;dog\n")
        ...     read_csv(Path(folder, "sounds.csv"))
        ({'file': ['a.wav'], 'label': ['dog']}, [2])
    """
    text = file_text(path)
    header, *rows = _rows(text, path) or [(1, [])]
    if not rows:
        raise ValueError(f"expected {path} to name its columns in the first line, and to have rows, but there are none")
    names = [name.strip() for name in header[1]]
    twice = [name for name in names if names.count(name) > 1 and name]
    if twice:
        raise ValueError(f"expected {path} to have columns with different names, but {twice[0]!r} occurs twice")
    for line, cells in rows:
        if len(cells) < len(names) or any(cell.strip() for cell in cells[len(names) :]):
            raise ValueError(f"expected {len(names)} cells in each line of {path}, but line {line} has {len(cells)}")
    columns = {name: [cells[index] for _, cells in rows] for index, name in enumerate(names) if name}
    return columns, [line for line, _ in rows]


def file_text(path: Path) -> str:
    r"""The text of a file in UTF-8, with or without a byte order mark, or in UTF-16 with one.

    Args:
        path: path of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no text in UTF-8 or UTF-16.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.recordings.tables import file_text
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "calls.txt").write_text("0.5\t1.5\tdog", encoding="utf-16")
        ...     file_text(Path(folder, "calls.txt"))
        '0.5\t1.5\tdog'
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected a table at {path}, but there is none")
    data = path.read_bytes()
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"expected {path} to be a table in UTF-8, but byte {error.start} is none; save it as CSV in UTF-8"
        ) from error


def _rows(text: str, path: Path) -> list[tuple[int, list[str]]]:
    """The number of the line and the cells of each row that is not empty."""
    header = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=lambda each: len(next(csv.reader([header], delimiter=each), [])))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows = []
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((line, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise ValueError(f"expected {path} to be a table, but it cannot be read at line {line}: {error}") from error
    return rows


def chosen_columns(names: Sequence[Any], file: Any, label: Any, source: str) -> tuple[Any, Any]:
    """The names of the column of files and of the column of labels.

    Args:
        names: names of all columns.
        file: name of the column of files; None for the first of `FILE_COLUMNS` that is there.
        label: name of the column of labels; None for the first of `LABEL_COLUMNS` that is there.
        source: the table in words, for messages.

    Returns:
        The two names; None in place of the second where the table has no other column than that of files.

    Raises:
        ValueError: there is no such column, none of the usual names is there, or the name occurs twice.

    Example:
        >>> from captum_apex.recordings.tables import chosen_columns
        >>> chosen_columns(["Filename", "fold", "category"], None, None, "sounds.csv")
        ('Filename', 'category')
    """
    file = _chosen(names, file, "file", FILE_COLUMNS, source)
    if label is None and len(names) == 1:
        return file, None
    return file, _chosen(names, label, "label", LABEL_COLUMNS, source)


def column_named(names: Sequence[Any], usual: Sequence[str], source: str) -> Any:
    """The column with the first of some usual names.

    Args:
        names: names of all columns.
        usual: the usual names, in lower case.
        source: the table in words, for messages.

    Raises:
        ValueError: there is no such column.

    Example:
        >>> from captum_apex.recordings.tables import START_COLUMNS, column_named
        >>> column_named(["File", "Begin Time (s)", "End Time (s)"], START_COLUMNS, "the table")
        'Begin Time (s)'
    """
    by_lower_case = {str(each).strip().lower(): each for each in reversed(names)}
    for name in usual:
        if name in by_lower_case:
            return by_lower_case[name]
    raise ValueError(
        f"expected {source} to have a column {usual[0]!r}, but its columns are {', '.join(map(str, names))}"
    )


def _chosen(names: Sequence[Any], name: Any, argument: str, usual: Sequence[str], source: str) -> Any:
    if name is None:
        by_lower_case = {str(each).strip().lower(): each for each in reversed(names)}
        name = next((by_lower_case[each] for each in usual if each in by_lower_case), None)
    if name is None or list(names).count(name) != 1:
        wanted = f"the column {name!r} once" if name is not None else f"a column of {argument}s"
        others = ", or give each class of `class_names` a column of 0 and 1" if argument == "label" else ""
        raise ValueError(
            f"expected {source} to have {wanted}, but its columns are {', '.join(map(str, names))}; "
            f"give the name of the column as `{argument}` (in Python), or name the column {usual[0]!r}{others}"
        )
    return name


def located_files(
    values: Sequence[Any], folder: Path, place: Callable[[int], str], *, skip_missing: bool = False
) -> dict[int, str]:
    r"""The path of each file of a column, after a check that it is there.

    Args:
        values: paths, absolute or relative to the folder; `\` counts as `/` where there is no such file otherwise.
        folder: the folder of relative paths.
        place: function that says where in the table an index is, for messages.
        skip_missing: whether missing files are left out.

    Returns:
        The path of each file, with `/` as separator, by its index.

    Raises:
        TypeError: a value is no path.
        FileNotFoundError: a file is missing, or all are.
        ValueError: a file occurs twice.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.recordings.tables import located_files
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "a.wav").touch()
        ...     located_files(["a.wav", "b.wav"], Path(folder), "row {}".format, skip_missing=True)
        {0: 'a.wav'}
    """
    found: dict[int, str] = {}
    indices: dict[str, int] = {}
    missing = []
    for index, value in enumerate(values):
        if not isinstance(value, (str, os.PathLike)):
            raise TypeError(f"expected the path of a file in {place(index)}, but got {type(value).__name__} {value!r}")
        name = _existing(folder, os.fspath(value))
        if name is None:
            missing.append(index)
            continue
        first = indices.setdefault(name, index)
        if first != index:
            raise ValueError(f"expected each file once, but {name!r} is in {place(first)} and in {place(index)}")
        found[index] = name
    if missing and not (skip_missing and found):
        examples = ", ".join(f"{values[index]!r} in {place(index)}" for index in missing[:_N_EXAMPLES])
        raise FileNotFoundError(
            f"expected audio files at the paths of the table, but {len(missing)} of {len(values)} are missing: "
            f"{examples}{', …' if len(missing) > _N_EXAMPLES else ''}; relative paths are looked for in {folder}"
        )
    return found


def _existing(folder: Path, text: str) -> str | None:
    """The path of a file as it is written, or without spaces around it, or with slashes for backslashes, or None."""
    for name in (text, text.strip(), text.strip().replace("\\", "/")):
        if name and os.path.isfile(folder / name):
            return Path(name).as_posix()
    return None
