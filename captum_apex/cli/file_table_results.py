"""What `events` and `explain` share where they write one table of many files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from captum_apex.cli.command_results import print_path, print_results
from captum_apex.cli.loading import check_output_folder, list_left_out
from captum_apex.explaining.file_tables import SUFFIXES, FileTable
from captum_apex.result_tables import counted

__all__ = ["check_table", "said_table"]


def check_table(path: Path | None, why: str) -> Path:
    """The path of the table, after a check that there is one and that it can be written.

    Args:
        path: what `--table` gave.
        why: what needs a table, for the message.

    Raises:
        ValueError: there is no path, it has another suffix, or it cannot be written.

    Example:
        >>> from captum_apex.cli.file_table_results import check_table
        >>> try:
        ...     check_table(None, "several recordings")
        ... except ValueError as error:
        ...     print(error)
        expected --table for several recordings: the table of all files, FILE.csv or FILE.json
    """
    if path is None:
        raise ValueError(f"expected --table for {why}: the table of all files, FILE.csv or FILE.json")
    if path.suffix.lower() not in SUFFIXES:  # so that a slip overwrites no recording and no basis
        raise ValueError(f"expected --table to end in {' or '.join(SUFFIXES)}, but got {path}")
    check_output_folder(path)
    return path


def said_table(make: Callable[[], FileTable], options: argparse.Namespace, noun: str, files: list[Path]) -> int:
    """Makes a table, and says what is in it, or what is missing.

    Args:
        make: function that makes the table.
        options: the options of the command.
        noun: what a row is, in the singular.
        files: other files and folders that are written with the table.

    Returns:
        The exit status.

    Example:
        >>> import argparse
        >>> from pathlib import Path
        >>> from captum_apex.cli.file_table_results import said_table
        >>> from captum_apex.explaining.file_tables import FileTable
        >>> table = FileTable(Path("events.csv"), Path("events.csv.parts"), 2, (), {}, {}, None)
        >>> said_table(lambda: table, argparse.Namespace(table=table.path, as_json=True), "event", [])
        {"files": [], "n_files": 2, "n_missing": 2, "left_out": {}, "classes": []}
        0
    """
    try:
        table = make()
    except KeyboardInterrupt:
        print(f"\nwhat is finished is kept in {options.table}.parts; the same command goes on there", file=sys.stderr)
        raise
    list_left_out(table.left_out, table.n_files)
    written = [table.path, *files] if table.is_complete else []
    if not table.is_complete:
        print(
            f"the part is finished, but {table.n_missing} of {table.n_files} files are not; the part that ends last "
            f"writes {table.path}",
            file=sys.stderr,
        )
    else:
        n_rows = sum(table.counts.values())
        print(f"{counted(n_rows, noun)} in {counted(len(table.finished), 'file')}", file=sys.stderr)
    for path in written:
        print_path(path, options.as_json)
    rows = [{"class": name, f"{noun}s": number} for name, number in table.counts.items()]
    numbers: dict[str, Any] = {"n_files": table.n_files, "n_missing": table.n_missing, "left_out": dict(table.left_out)}
    print_results("classes", rows, written, as_json=options.as_json, **numbers)
    return 0
