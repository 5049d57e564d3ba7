"""A report as Markdown and as LaTeX, and how its numbers are written."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.reports.standings import MEASURE

NOTHING = "–"
LATEX = {symbol: f"\\{symbol}" for symbol in "&%$#_{}"}
LATEX |= {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "[": "{[}",
    "]": "{]}",
}
LATEX |= {
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    '"': "''",
    "’": "'",
    "“": "``",
    "”": "''",
    "−": "$-$",
    "–": "--",
    "—": "---",
}
LATEX |= {
    "→": r"$\to$",
    "×": r"$\times$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "Σ": r"$\Sigma$",
}
PREAMBLE = r"""\documentclass{article}
\usepackage[a3paper,landscape,margin=1.5cm]{geometry}
\usepackage{array,booktabs,longtable}
\setlength{\parindent}{0pt}
\setlength{\tabcolsep}{4pt}
\newcolumntype{P}[1]{>{\raggedright\arraybackslash}p{#1}}
"""


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        title: heading.
        text: paragraphs.
        tables: caption → table, all its entries texts.
        picture: file name beside the report.
        code: to be typed as it stands.
    """

    title: str
    text: Sequence[str] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    picture: str = ""
    code: str = ""


def markdown(title: str, sections: Iterable[Section], folder: Path) -> str:
    """The report as Markdown; pictures that are not in the folder are left out."""
    parts = [f"# {title}"]
    for section in sections:
        pictures = [section.picture] if section.picture and (folder / section.picture).exists() else []
        if not (section.text or section.tables or pictures):
            continue
        parts += [f"## {section.title}", *map(_plain, section.text)]
        parts += [f"```sh\n{section.code}\n```"] if section.code else []
        parts += [f"![{section.title}]({picture})" for picture in pictures]
        for caption, frame in section.tables.items():
            parts += [*([f"**{_plain(caption)}**"] if caption != section.title else []), _markdown_table(frame)]
    return "\n\n".join(parts) + "\n"


def latex(title: str, sections: Iterable[Section]) -> str:
    """The report's text and tables as a document of its own, without the pictures."""
    parts = [PREAMBLE, r"\begin{document}\footnotesize", rf"\section*{{{escape(title)}}}"]
    for section in sections:
        if section.text or section.tables:
            code = escape(section.code).replace("'", r"\textquotesingle{}")  # as it is typed
            parts += [rf"\subsection*{{{escape(section.title)}}}", *(f"{escape(text)}\n" for text in section.text)]
            parts += [rf"\texttt{{{code}}}" + "\n"] if section.code else []
            parts += [_latex_table(caption, frame) for caption, frame in section.tables.items()]
    return "\n".join([*parts, r"\end{document}", ""])


def escape(text: str) -> str:
    r"""A text as LaTeX shows it, in ASCII: accents are dropped, what has no counterpart becomes a question mark.

    >>> print(escape("50% & more_x → 1"))
    50\% \& more\_x $\to$ 1
    """
    plain = (
        letter if letter in LATEX else unicodedata.normalize("NFKD", letter)[0] for letter in " ".join(text.split())
    )
    return "".join(LATEX.get(letter, letter if letter.isascii() else "?") for letter in plain)


def number(value: float, digits: int = 2) -> str:
    """With so many digits after the point.

    >>> number(-0.001), number(0.316), number(float("nan"))
    ('0.00', '0.32', '–')
    """
    return f"{round(value, digits) + 0.0:.{digits}f}" if np.isfinite(value) else NOTHING


def significant(value: float) -> str:
    """With three digits that count.

    >>> significant(0.00012345), significant(61.04), significant(12345.6)
    ('0.000123', '61', '12,346')
    """
    return NOTHING if not np.isfinite(value) else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def between(value: float, low: float, high: float, digits: int = 2) -> str:
    """A value with its interval.

    >>> between(0.31, 0.25, 0.361)
    '0.31 [0.25, 0.36]'
    """
    return f"{number(value, digits)} [{number(low, digits)}, {number(high, digits)}]" if np.isfinite(value) else NOTHING


def betweens(lines: pd.DataFrame, names: Sequence[str] = (MEASURE, "low", "high"), digits: int = 2) -> list[str]:
    """`between` for each line of a table, from three of its columns."""
    return [between(value, low, high, digits) for value, low, high in lines[list(names)].to_numpy(dtype=float)]


def probability(value: float) -> str:
    """A p-value.

    >>> probability(0.0123), probability(1e-9)
    ('0.012', '< 0.001')
    """
    return "< 0.001" if value < 0.001 else number(value, 3)


def _markdown_table(frame: pd.DataFrame) -> str:
    lines = [
        [_head(name) for name in frame.columns],
        ["---"] * len(frame.columns),
        *frame.astype(str).to_numpy().tolist(),
    ]
    return "\n".join(
        f"| {' | '.join(_plain(entry) if i != 1 else entry for entry in line)} |" for i, line in enumerate(lines)
    )


def _latex_table(caption: str, frame: pd.DataFrame) -> str:
    """A table that may run over pages; columns as wide as their entries, the heads broken between words."""
    letters = [
        max([len(entry) for entry in frame[name].astype(str)] + [len(word) for word in _head(name).split()])
        for name in frame
    ]
    layout = "".join(f"P{{{min(0.185 * n + 0.1, 16):.2f}cm}}" for n in letters)
    shown = frame.astype(str).map(escape).set_axis([escape(_head(name)) for name in frame], axis=1)
    return str(shown.to_latex(index=False, longtable=True, column_format=layout, caption=escape(caption)))


def _head(name: object) -> str:
    return str(name).replace("_", " ")


def _plain(text: str) -> str:
    """A text that Markdown shows as it stands, also in a table."""
    return re.sub(r"([\\`*|]|(?<!\w)_|_(?!\w)|<(?=[A-Za-z/!?]))", r"\\\1", " ".join(text.split()))
