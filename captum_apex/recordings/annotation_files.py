"""Files of annotations: selection tables of Raven, labels of Audacity, CSV, TextGrids, and what crowsetta reads.

- `.TextGrid`: the intervals of all tiers, or of one.
- A text file whose first line is a time, a tab and a time: labels of Audacity, with or without frequencies.
- Any other text file: a table whose first line names the columns, such as a selection table of Raven.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from captum_apex.extras import missing_package
from captum_apex.recordings.tables import (
    END_COLUMNS,
    FILE_COLUMNS,
    LABEL_COLUMNS,
    START_COLUMNS,
    column_named,
    file_text,
    read_csv,
)
from captum_apex.recordings.text_grids import read_text_grid

__all__ = ["SUFFIXES_OF_ANNOTATIONS", "Annotation", "annotation_files", "from_crowsetta", "read_annotations"]

SUFFIXES_OF_ANNOTATIONS = (".csv", ".tsv", ".txt", ".textgrid")
"""Endings of files of annotations in a folder, in lower case."""

_FILES = (*FILE_COLUMNS, "begin path", "begin file", "notated_path", "recording")
_LABELS = ("annotation", *LABEL_COLUMNS, "species code", "common name", "name", "event_label")
_STARTS = (*START_COLUMNS, "onset_s", "begin_s")
_ENDS = (*END_COLUMNS, "offset_s")
_LOWS = ("low freq (hz)", "low_freq_hz", "low_freq", "low_hz", "low", "f_min", "min_freq")
_HIGHS = ("high freq (hz)", "high_freq_hz", "high_freq", "high_hz", "high", "f_max", "max_freq")
_OFFSET = "file offset (s)"  # of Raven: the start in its file, where a table is of several files in a row


@dataclass(frozen=True)
class Annotation:
    """A stretch of a recording in which a class sounds, with a band or without.

    Args:
        label: the class, as the annotations name it.
        start: beginning, in s from the start of the recording.
        end: end, in s; the same as the beginning for a point, which has no duration.
        low: lower edge of the band, in Hz; None where no frequency is annotated.
        high: upper edge of the band, in Hz; None where no frequency is annotated.
        file: the recording, as the annotations name it; None where they name none.
        place: where the annotation is written, in words, for messages.

    Raises:
        ValueError: the times or the frequencies are no such numbers.

    Example:
        >>> from captum_apex.recordings import Annotation
        >>> Annotation("dog", 0.5, 0.25)
        Traceback (most recent call last):
            ...
        ValueError: expected 0 <= start <= end, in s, in the annotation, but got 0.5 and 0.25
    """

    label: str
    start: float
    end: float
    low: float | None = None
    high: float | None = None
    file: str | None = None
    place: str = "the annotation"

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end < math.inf:
            raise ValueError(f"expected 0 <= start <= end, in s, in {self.place}, but got {self.start} and {self.end}")
        low = 0.0 if self.low is None else self.low
        if not 0 <= low < (math.inf if self.high is None else self.high):
            raise ValueError(f"expected 0 <= low < high, in Hz, in {self.place}, but got {self.low} and {self.high}")


def annotation_files(path: str | os.PathLike) -> list[Path]:
    """The files of annotations in a folder and in its folders, sorted; or the file itself.

    Args:
        path: a file, or a folder.

    Raises:
        FileNotFoundError: there is none.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.recordings.annotation_files import annotation_files
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("b.txt", "a.TextGrid", "a.wav"):
        ...         Path(folder, name).touch()
        ...     [file.name for file in annotation_files(folder)]
        ['a.TextGrid', 'b.txt']
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"expected annotations at {path}, but there is neither a file nor a folder")
    if not path.is_dir():
        return [path]
    files = [
        each
        for each in sorted(path.rglob("*"))
        if each.suffix.lower() in SUFFIXES_OF_ANNOTATIONS and each.is_file() and not each.name.startswith(".")
    ]
    if not files:
        raise FileNotFoundError(
            f"expected files of annotations in {path}, which end in {', '.join(SUFFIXES_OF_ANNOTATIONS)}, but there is "
            "none"
        )
    return files


def read_annotations(
    path: str | os.PathLike, *, label: str | None = None, tier: str | None = None, reader: str | None = None
) -> list[Annotation]:
    r"""The annotations of a file.

    Args:
        path: path of the file: a selection table of Raven, labels of Audacity, a CSV file or a TextGrid of Praat.
        label: name of the column of labels of a table; None for the first usual one that is there, such as
            "Annotation", "label" or "Species".
        tier: name of the tier of a TextGrid; None for all tiers.
        reader: name of a format of crowsetta, which then reads the file; None for the readers of this package.

    Returns:
        The annotations in the order of the file. Intervals and labels without a text are left out, and what a table of
        Raven lists once for each view is given once.

    Raises:
        FileNotFoundError: there is no such file.
        ImportError: crowsetta shall read the file, and is missing.
        ValueError: it is no such file, has no such column or tier, or an annotation ends before it begins.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.recordings import read_annotations
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a.txt").write_text("0.5\t1.5\tdog\n\\\t200\t3000\n2\t3\train\n")
        ...     dog, rain = read_annotations(Path(folder, "a.txt"))
        >>> dog.label, dog.start, dog.end, dog.low, dog.high, rain.low
        ('dog', 0.5, 1.5, 200.0, 3000.0, None)
    """
    path = Path(path)
    if reader is not None:
        return _read_by_crowsetta(path, reader)
    if path.suffix.lower() == ".textgrid":
        return _of_text_grid(path, tier)
    lines = [line for line in file_text(path).splitlines() if line.strip()]
    if lines and _are_times(lines[0].replace(",", ".").split("\t")[:2]):  # also times with a comma, which are refused
        return _of_labels(path, lines)
    return _of_table(path, label) if len(lines) > 1 else []  # a table without rows has no annotations


def from_crowsetta(annotation: Any) -> list[Annotation]:
    """The annotations of a recording in crowsetta's form, by which many formats of bioacoustics can be read.

    Args:
        annotation: a `crowsetta.Annotation`, with bounding boxes or with one or several sequences of segments.

    Raises:
        TypeError: it is none.

    Example:
        >>> from types import SimpleNamespace
        >>> from captum_apex.recordings import from_crowsetta
        >>> segment = SimpleNamespace(onset_s=0.5, offset_s=1.5, label="a")
        >>> song = SimpleNamespace(notated_path="a.wav", seq=SimpleNamespace(segments=[segment]))
        >>> [(each.file, each.label, each.start, each.end) for each in from_crowsetta(song)]
        [('a.wav', 'a', 0.5, 1.5)]
    """
    named = getattr(annotation, "notated_path", None)
    file = None if named is None else os.fspath(named)
    boxes = getattr(annotation, "bboxes", None)
    if boxes:
        return [_of_box(box, file) for box in boxes]
    given = getattr(annotation, "seq", None)
    if given is None:
        raise TypeError(f"expected a crowsetta.Annotation, but got {type(annotation).__name__}")
    sequences = given if isinstance(given, Sequence) else [given]
    segments = [segment for sequence in sequences for segment in sequence.segments]
    return [Annotation(str(each.label), float(each.onset_s), float(each.offset_s), file=file) for each in segments]


def _of_box(box: Any, file: str | None) -> Annotation:
    times = (float(box.onset), float(box.offset))
    return Annotation(str(box.label), *times, float(box.low_freq), float(box.high_freq), file)


def _read_by_crowsetta(path: Path, reader: str) -> list[Annotation]:
    try:
        import crowsetta
    except ImportError as error:
        raise missing_package("crowsetta, which reads other formats of annotations", "annotations", error) from error
    known = crowsetta.formats.as_list()
    if reader not in known:
        raise ValueError(f"expected a format of crowsetta among {', '.join(known)}, but got {reader!r}")
    try:
        read = crowsetta.Transcriber(format=reader).from_file(path).to_annot()
    except Exception as error:  # each of its formats has its own
        raise ValueError(f"expected {path} to be of crowsetta's format {reader!r}, but {error}") from error
    listed = read if isinstance(read, list) else [read]
    return [annotation for each in listed for annotation in from_crowsetta(each)]


def _of_text_grid(path: Path, tier: str | None) -> list[Annotation]:
    intervals = read_text_grid(path)
    names = list(dict.fromkeys(interval.tier for interval in intervals))
    if tier is not None and tier not in names:
        raise ValueError(f"expected {path} to have a tier {tier!r}, but its tiers are {', '.join(names) or 'none'}")
    return [
        Annotation(each.text.strip(), each.start, each.end, place=f"tier {each.tier!r} of {path}")
        for each in intervals
        if each.text.strip() and tier in (None, each.tier)
    ]


def _of_labels(path: Path, lines: Iterable[str]) -> list[Annotation]:
    """The labels of Audacity; a line that begins with a backslash has the band of the label before it."""
    annotations: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        first, *cells = line.split("\t")
        place = f"label {number} of {path}"
        if first == "\\" and annotations:
            annotations[-1] |= dict(zip(("low", "high"), (_frequency(cell, place) for cell in cells), strict=False))
            continue
        if not _are_times([each.replace(",", ".") for each in (first, *cells[:1])]):
            raise ValueError(f"expected a label of Audacity, two times and a text, in {place}, but got {line!r}")
        text = cells[1].strip() if len(cells) > 1 else ""
        start, end = (_number(cell, name, place) for cell, name in ((first, "start"), (cells[0], "end")))
        annotations.append({"label": text, "start": start, "end": end, "place": place})
    return [Annotation(**each) for each in annotations if each["label"]]


def _of_table(path: Path, label: str | None) -> list[Annotation]:
    columns, lines = read_csv(path)
    names = list(columns)
    by_lower_case = {name.lower(): name for name in reversed(names)}
    label = _label_column(names, label, path)
    required = {"start": column_named(names, _STARTS, str(path)), "end": column_named(names, _ENDS, str(path))}
    optional = {
        name: next((by_lower_case[each] for each in usual if each in by_lower_case), None)
        for name, usual in {"file": _FILES, "low": _LOWS, "high": _HIGHS}.items()
    }
    annotations = []
    for row in _shown_once(columns, by_lower_case):
        place = f"line {lines[row]} of {path}"
        cells = {name: columns[column][row].strip() for name, column in optional.items() if column is not None}
        start, end = (_number(columns[column][row], name, place) for name, column in required.items())
        begin = columns[by_lower_case[_OFFSET]][row] if _OFFSET in by_lower_case and cells.get("file") else ""
        if begin.strip():
            end = _number(begin, "file offset", place) + end - start
            start = _number(begin, "file offset", place)
        band = {name: _frequency(cells[name], place) for name in ("low", "high") if cells.get(name)}
        text = columns[label][row].strip()
        if text:
            annotations.append(Annotation(text, start, end, **band, file=cells.get("file") or None, place=place))
    return annotations


def _label_column(names: Sequence[str], label: str | None, path: Path) -> str:
    """The column of labels."""
    if label is None:
        by_lower_case = {name.lower(): name for name in reversed(names)}
        label = next((by_lower_case[each] for each in _LABELS if each in by_lower_case), None)
    if label is None or label not in names:
        wanted = "a column of labels" if label is None else f"a column {label!r}"
        raise ValueError(
            f"expected {path} to have {wanted}, but its columns are {', '.join(names)}; name the column as `label` (in "
            "Python) or --label-column"
        )
    return label


def _shown_once(columns: Mapping[str, Sequence[str]], by_lower_case: Mapping[str, str]) -> list[int]:
    """The rows of a table; a selection of Raven has one for each view, of which that of the spectrogram counts."""
    n_rows = len(next(iter(columns.values())))
    if not {"selection", "view"} <= by_lower_case.keys():
        return list(range(n_rows))
    same = [columns[by_lower_case[name]] for name in ("selection", *_STARTS, *_ENDS, *_FILES) if name in by_lower_case]
    views = columns[by_lower_case["view"]]
    rows: dict[tuple[str, ...], int] = {}
    for row, selection in enumerate(zip(*same, strict=True)):
        if selection not in rows or views[row].strip().lower().startswith("spectrogram"):
            rows[selection] = row
    return sorted(rows.values())


def _are_times(cells: Sequence[str]) -> bool:
    try:
        return len([float(cell) for cell in cells]) == 2
    except ValueError:
        return False


def _number(cell: str, name: str, place: str) -> float:
    try:
        return float(cell)
    except ValueError as error:
        decimals = "; write decimals with a point, not a comma" if "," in cell else ""
        raise ValueError(f"expected a number as the {name} in {place}, but got {cell!r}{decimals}") from error


def _frequency(cell: str, place: str) -> float | None:
    """A frequency in Hz; None for −1, by which Audacity says that there is none."""
    hertz = _number(cell, "frequency", place)
    return None if hertz < 0 else hertz
