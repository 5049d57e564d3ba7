"""Names of files and classes as texts of figures, pages and tables."""

from __future__ import annotations

import re

__all__ = ["cell_text", "encodable"]

_NO_TEXT = ("=", "+", "-", "@", '"')  # the beginnings of formulas and of quoted cells in spreadsheets
_SURROGATES = re.compile("[\ud800-\udfff]")


def encodable(text: str) -> str:
    r"""A text for figures, pages and tables: what is no Unicode in it is shown by replacement characters.

    Python keeps the bytes of a file name that are no Unicode as surrogates, which can neither be drawn nor encoded.

    Args:
        text: the text.

    Example:
        >>> from captum_apex.audio.texts import encodable
        >>> encodable("caf\udce9.wav")
        'caf�.wav'
    """
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


def cell_text(name: str) -> str:
    r"""A name as a cell of a table: on one line, and as text for a spreadsheet, which would run "=cmd|…" as a formula.

    Args:
        name: the name; where it begins with =, +, -, @ or a quotation mark, an apostrophe is put before it.

    Example:
        >>> from captum_apex.audio.texts import cell_text
        >>> cell_text("=1+1"), cell_text("dog\nbark")
        ("'=1+1", 'dog bark')
    """
    line = encodable(" ".join(name.split()))
    return f"'{line}" if line.startswith(_NO_TEXT) else line
