"""Rows as a table: as text for a terminal, and as HTML for a notebook."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["counted", "html_table", "listed", "text_table"]

_NUMBER = re.compile(r"[+−-]?\d[\d.,]*( ?%)?")
_NOT_PRINTED = re.compile("[\ud800-\udfff\x00-\x1f\x7f]")  # bytes that are no Unicode, and ends of lines


def text_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in columns that are as wide as their longest cell, with numbers on the right.

    Args:
        header: names of the columns.
        rows: the cells of each row; None gives an empty cell.

    Example:
        >>> from captum_apex.result_tables import text_table
        >>> print(text_table(["class", "events"], [["dog", 12], ["rain", 3]]))
        class  events
        dog        12
        rain        3
    """
    lines = [[*header], *([_cell(value) for value in row] for row in rows)]
    columns = list(zip(*lines, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [any(column[1:]) and all(not cell or _NUMBER.fullmatch(cell) for cell in column[1:]) for column in columns]
    sides = ["rjust" if is_right else "ljust" for is_right in right]
    padded = [
        [getattr(cell, side)(width) for cell, side, width in zip(line, sides, widths, strict=True)] for line in lines
    ]
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


def html_table(header: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> str:
    """A table as HTML.

    Args:
        header: names of the columns; without them, the first cell of each row is its name.
        rows: the cells of each row; None gives an empty cell.
        caption: a line above the table.

    Example:
        >>> from captum_apex.result_tables import html_table
        >>> html_table([], [["layer", "features"]])
        '<table><tbody><tr><th>layer</th><td>features</td></tr></tbody></table>'
    """
    head = "".join(f"<th>{_escaped(name)}</th>" for name in header)
    lines = []
    for row in rows:
        names = row[: 0 if header else 1]
        cells = row[len(names) :]
        named = "".join(f"<th>{_escaped(name)}</th>" for name in names)
        lines.append(f"<tr>{named}{''.join(f'<td>{_escaped(cell)}</td>' for cell in cells)}</tr>")
    above = f"<caption>{_escaped(caption)}</caption>" if caption else ""
    columns = f"<thead><tr>{head}</tr></thead>" if header else ""
    return f"<table>{above}{columns}<tbody>{''.join(lines)}</tbody></table>"


def listed(names: Iterable[Any], most: int = 6) -> str:
    """The first names of a list, and the number of the others.

    Args:
        names: the names.
        most: number of names that are given at most.

    Example:
        >>> from captum_apex.result_tables import listed
        >>> listed(["dog", "rain", "siren"], most=2)
        'dog, rain and 1 more'
    """
    given = [_cell(name) for name in names]
    others = f" and {len(given) - most} more" if len(given) > most else ""
    return ", ".join(given[:most]) + others


def counted(number: int, noun: str) -> str:
    """A number with a noun in the right form, of nouns that only take an s.

    Args:
        number: the number.
        noun: the noun in the singular.

    Example:
        >>> from captum_apex.result_tables import counted
        >>> counted(1, "clip"), counted(2, "clip")
        ('1 clip', '2 clips')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _cell(value: Any) -> str:
    """A value on one line, in characters that can be printed."""
    return "" if value is None else _NOT_PRINTED.sub("\N{REPLACEMENT CHARACTER}", str(value))


def _escaped(value: Any) -> str:
    return html.escape(_cell(value))
