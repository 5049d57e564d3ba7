"""Odd texts for names of classes, files and folders."""

from __future__ import annotations

import unicodedata

import numpy as np

PIECES = (
    *("dog", "Ära", "å", "犬", "é", "🦊", " ", "  ", "a b", ".", "..", "-", "'", '"', "`", "$HOME", "%s", "{}", "{0}"),
    *("\t", "\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u00a0", "\u200b", "\ufeff", "\u202e"),
    *("=cmd|'/c calc'!A1", "+1", "-1", "@SUM(A1)", "<b>", "&amp;", "</script>", "\\", "\\t", "#", ";", ",", "\udce9"),
    *("null", "nan", "0", "True", "x" * 60, "*", "?", ":", "|", "~", "\x07", "\x7f", "ﬁ", "İ", "ß"),
)


def odd_text(random: np.random.Generator) -> str:
    """A text of up to four pieces, in a composed or decomposed form."""
    text = "".join(random.choice(np.array(PIECES, dtype=object), int(random.integers(0, 5))))
    return unicodedata.normalize("NFD", text) if random.random() < 0.1 else text


def odd_file_name(random: np.random.Generator) -> str:
    """A name that a file can have here: no slash, no zero byte, not too long, neither `.` nor `..`."""
    name = odd_text(random).replace("/", "_").replace("\0", "_")
    name = name.encode(errors="surrogateescape")[:120].decode(errors="surrogateescape")
    return name if name.strip(".") and name else f"{name}x"
