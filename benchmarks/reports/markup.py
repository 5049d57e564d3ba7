"""A report as Markdown and as LaTeX, and the format of its numbers."""

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
# pandas' `to_latex(escape=True)` escapes the first ten characters only, and only in cells and heads of a table.
# Captions, headings and paragraphs need the same, and so do characters outside ASCII, so that every LaTeX engine reads
# them.
LATEX = {
    **{symbol: f"\\{symbol}" for symbol in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "[": "{[}",  # a bracket at the beginning of a table's line would be an argument of the line break before it
    "]": "{]}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    '"': "''",
    "’": "'",
    "“": "``",
    "”": "''",
    "−": "$-$",
    "–": "--",
    "—": "---",
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
    """A section of the report.

    Attributes:
        title: heading of the section.
        text: paragraphs below the heading.
        tables: caption → table; all entries of the tables are texts.
        picture: name of an image file in the report's folder; empty for no image.
        code: a command line, printed as it is typed; empty for none.
    """

    title: str
    text: Sequence[str] = ()
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    picture: str = ""
    code: str = ""


def markdown(title: str, sections: Iterable[Section], folder: Path) -> str:
    """The report as Markdown.

    Args:
        title: heading of the report.
        sections: sections of the report; empty ones are left out.
        folder: folder of the report; images that are not in it are left out.
    """
    blocks = [f"# {title}"]
    for section in sections:
        body = section_markdown(section, folder)
        blocks += [f"## {section.title}", body] if body else []
    return "\n\n".join(blocks) + "\n"


def section_markdown(section: Section, folder: Path) -> str:
    """A section without its heading as Markdown; empty where the section has no text, table or image."""
    pictures = [section.picture] if section.picture and (folder / section.picture).exists() else []
    if not (section.text or section.tables or pictures):
        return ""
    blocks = [_literal(text) for text in section.text]
    blocks += [f"```sh\n{section.code}\n```"] if section.code else []
    blocks += [f"![{section.title}]({picture})" for picture in pictures]
    for caption, frame in section.tables.items():
        blocks += [f"**{_literal(caption)}**"] if caption != section.title else []
        blocks.append(_markdown_table(frame))
    return "\n\n".join(blocks)


def latex(title: str, sections: Iterable[Section]) -> str:
    """The report's text and tables as a LaTeX document that can be compiled, without the images."""
    blocks = [PREAMBLE, r"\begin{document}\footnotesize", rf"\section*{{{escape(title)}}}"]
    for section in sections:
        if section.text or section.tables:
            code = escape(section.code).replace("'", r"\textquotesingle{}")  # not a typographic apostrophe
            blocks += [rf"\subsection*{{{escape(section.title)}}}", *(f"{escape(text)}\n" for text in section.text)]
            blocks += [rf"\texttt{{{code}}}" + "\n"] if section.code else []
            blocks += [_latex_table(caption, frame) for caption, frame in section.tables.items()]
    return "\n".join([*blocks, r"\end{document}", ""])


def escape(text: str) -> str:
    r"""A text for LaTeX, in ASCII: accents are dropped, and unknown characters become question marks.

    Example:
        >>> print(escape("50% & more_x → 1"))
        50\% \& more\_x $\to$ 1
    """
    plain = (
        letter if letter in LATEX else unicodedata.normalize("NFKD", letter)[0] for letter in " ".join(text.split())
    )
    return "".join(LATEX.get(letter, letter if letter.isascii() else "?") for letter in plain)


def number(value: float, digits: int = 2) -> str:
    """A number with a fixed number of digits after the point; a dash for NaN and infinity, and never a negative zero.

    Example:
        >>> from benchmarks.reports.markup import number
        >>> number(0.316), number(-0.001), number(float("nan"))
        ('0.32', '0.00', '–')
        >>> number(0.316, digits=1)
        '0.3'
    """
    return f"{round(value, digits) + 0.0:.{digits}f}" if np.isfinite(value) else NOTHING


def mean_and_range(values: pd.Series, digits: int = 3) -> str:
    """The mean of numbers, with the smallest and the largest where there are several, and how many are known.

    Example:
        >>> import pandas as pd
        >>> from benchmarks.reports.markup import mean_and_range
        >>> mean_and_range(pd.Series([0.25, 0.75]), digits=2), mean_and_range(pd.Series([0.5, float("nan")]))
        ('0.50 (0.25 to 0.75)', '0.500 (1 of 2)')
        >>> mean_and_range(pd.Series([float("nan")]))
        '–'
    """
    known = values.dropna()
    if not len(known):
        return NOTHING
    about = [f"{number(known.min(), digits)} to {number(known.max(), digits)}"] if len(known) > 1 else []
    about += [f"{len(known)} of {len(values)}"] if len(known) < len(values) else []
    mean = number(known.mean(), digits)
    return f"{mean} ({', '.join(about)})" if about else mean


def ascending(numbers: pd.Series) -> str:
    """Whole numbers such as seeds, in their order.

    Example:
        >>> import pandas as pd
        >>> from benchmarks.reports.markup import ascending
        >>> ascending(pd.Series([2, 0, 1]))
        '0, 1, 2'
    """
    return ", ".join(map(str, sorted(numbers)))


def significant(value: float) -> str:
    """A number with three significant digits, from 1000 on without digits after the point.

    Example:
        >>> from benchmarks.reports.markup import significant
        >>> significant(0.00012345), significant(61.04), significant(12345.6)
        ('0.000123', '61', '12,346')
    """
    if not np.isfinite(value):
        return NOTHING
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def between(value: float, low: float, high: float, digits: int = 2) -> str:
    """A value with its interval; a dash where the value is NaN.

    Example:
        >>> from benchmarks.reports.markup import between
        >>> between(0.31, 0.25, 0.361)
        '0.31 [0.25, 0.36]'
    """
    return f"{number(value, digits)} [{number(low, digits)}, {number(high, digits)}]" if np.isfinite(value) else NOTHING


def betweens(lines: pd.DataFrame, names: Sequence[str] = (MEASURE, "low", "high"), digits: int = 2) -> list[str]:
    """`between` for each line of a table, from the three columns with these names."""
    return [between(value, low, high, digits) for value, low, high in lines[list(names)].to_numpy(dtype=float)]


def probability(value: float) -> str:
    """A p-value with three digits after the point, or that it is smaller than 0.001.

    Example:
        >>> from benchmarks.reports.markup import probability
        >>> probability(0.0123), probability(1e-9)
        ('0.012', '< 0.001')
    """
    return "< 0.001" if value < 0.001 else number(value, 3)


def _markdown_table(frame: pd.DataFrame) -> str:
    head = [_literal(_head(name)) for name in frame.columns]
    body = [[_literal(entry) for entry in line] for line in frame.astype(str).to_numpy().tolist()]
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _latex_table(caption: str, frame: pd.DataFrame) -> str:
    """A table that may run over pages; columns are as wide as their entries, and heads break between words."""
    letters = [
        max([len(entry) for entry in frame[name].astype(str)] + [len(word) for word in _head(name).split()])
        for name in frame
    ]
    layout = "".join(f"P{{{min(0.185 * n + 0.1, 16):.2f}cm}}" for n in letters)
    escaped = frame.astype(str).map(escape).set_axis([escape(_head(name)) for name in frame], axis=1)
    return str(escaped.to_latex(index=False, longtable=True, column_format=layout, caption=escape(caption)))


def _head(name: object) -> str:
    return str(name).replace("_", " ")


def _literal(text: str) -> str:
    """A text with Markdown's symbols escaped, for paragraphs and for the cells of a table."""
    return re.sub(r"([\\`*|]|(?<!\w)_|_(?!\w)|<(?=[A-Za-z/!?]))", r"\\\1", " ".join(text.split()))
