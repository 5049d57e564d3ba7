"""The tables that `Explainer` writes: the evidence of many clips, and the events of many recordings."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from captum_apex.classifiers.classifier import Classifier
from captum_apex.explaining.clip_sources import ClipSource
from captum_apex.explaining.explained_clips import ExplainedClips, write_evidence_table
from captum_apex.explaining.file_tables import FileTable, Rows, UnusableFileError, table_of_files
from captum_apex.explanations.event_files import write_audacity, write_raven
from captum_apex.explanations.event_tables import event_of, event_row, write_each, write_event_table
from captum_apex.explanations.events import Event, RecordingExplanation, UnfinishedExplanationError
from captum_apex.explanations.long_recordings import explain_recording
from captum_apex.numbers import real_number
from captum_apex.recordings.folders import AudioDataset

__all__ = ["event_settings", "events_written", "evidence_written"]

_PER_RECORDING: dict[str, tuple[str, Callable]] = {
    "raven": (".Table.1.selections.txt", write_raven),
    "audacity": (".txt", write_audacity),
}
"""The files of each recording: the ends of their names, and what writes them."""


def evidence_written(
    path: str | os.PathLike,
    sources: Mapping[str, ClipSource],
    about: Mapping[str, Any],
    explained: Callable[[ClipSource], ExplainedClips],
    **options: Any,
) -> FileTable:
    """Writes the evidence of clips as one table; see `Explainer.write_evidence`.

    Args:
        path: path of the table.
        sources: the clips by their paths.
        about: what the rows depend on, by name.
        explained: function that explains a clip; one that cannot be read is in its `left_out`.
        options: further arguments of `table_of_files`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex import ExplainedClips
        >>> from captum_apex.explaining.recording_tables import evidence_written
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     evidence_written(Path(folder, "t.csv"), {"a.wav": None}, {}, lambda _: ExplainedClips(())).n_files
        1
    """

    def rows_of(name: str) -> Rows:
        clips = explained(sources[name])
        for message in clips.left_out.values():
            raise UnusableFileError(message)
        return clips.rows()

    def write(file: Path, rows: Iterable[tuple[str, Rows]]) -> None:
        write_evidence_table(file, (row for _, of_clip in rows for row in of_clip))

    return table_of_files(path, list(sources), about, rows_of, write, class_column="explained", **options)


def event_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `explain_recording` that its events depend on, with its defaults for those that are not given.

    Args:
        settings: the settings that are given, by name.

    Raises:
        TypeError: there is no such setting.

    Example:
        >>> from captum_apex.explaining.recording_tables import event_settings
        >>> event_settings({"threshold": 0.7})["threshold"], event_settings({})["threshold"]
        (0.7, 0.5)
    """
    parameters = inspect.signature(explain_recording).parameters.values()
    known = {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}
    del known["progress"]
    for name in settings:
        if name not in known:
            raise TypeError(f"expected settings among {', '.join(known)}, but got {name!r}")
    return {**known, **settings}


def window_and_hop(classifier: Classifier, window: float | None, hop: float | None) -> tuple[float, float]:
    """The length of a window and the time from the start of one to that of the next, in s.

    Args:
        classifier: the classifier.
        window: the length that is asked for; None for that of the classifier's clips.
        hop: the time that is asked for; None for half a window.

    Raises:
        ValueError: the window is not known.
    """
    if window is None:
        if classifier.length is None:
            raise ValueError(
                "expected `window` (on the command line --window), in s, or a Classifier with a `length`, but "
                "there is neither"
            )
        window = classifier.length / classifier.sample_rate
    window = real_number(window, "window")
    return window, window / 2 if hop is None else hop


def events_written(
    path: str | os.PathLike,
    names: list[str],
    about: Mapping[str, Any],
    explained: Callable[[str], RecordingExplanation],
    folders: Mapping[str, str | os.PathLike | None],
    training: AudioDataset | None,
    **options: Any,
) -> FileTable:
    """Writes the events of recordings as one table; see `Explainer.write_events`.

    Args:
        path: path of the table.
        names: paths of the recordings.
        about: what the rows depend on, by name.
        explained: function that explains a recording.
        folders: the folders of the files for `"raven"` and `"audacity"`.
        training: the recordings of the basis.
        options: further arguments of `table_of_files`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from captum_apex import Event, RecordingExplanation
        >>> from captum_apex.explaining.recording_tables import events_written
        >>> event = Event(1.25, 2.5, None, None, 0, "dog", 0.875, 2.5)
        >>> def explained(name):
        ...     return RecordingExplanation((event,), {}, torch.empty(0), duration=3.0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     events_written(Path(folder, "t.csv"), ["a.wav", "b.wav"], {"search": None}, explained, {}, None).counts
        {'dog': 2}
    """
    write = partial(_write, effects=about["search"] is not None, training=training)
    table = table_of_files(path, names, about, partial(_rows, explained), write, class_column="name", **options)
    for kind, folder in folders.items():
        if folder is not None and table.is_complete:
            ending, write_one = _PER_RECORDING[kind]
            write_each(folder, _events(table.rows()), [file.name for file in table.finished], ending, write_one)
    return table


def _rows(explained: Callable[[str], RecordingExplanation], name: str) -> Rows:
    try:
        return [event_row(event) for event in explained(name).events]
    except UnfinishedExplanationError as error:
        if isinstance(error.__cause__, (ValueError, OSError)):
            raise UnusableFileError(str(error)) from error
        error.add_note(f"{name} cannot be explained")
        raise  # the model has failed, or the memory is not enough
    except (ValueError, OSError) as error:
        raise UnusableFileError(str(error)) from error
    except Exception as error:
        error.add_note(f"{name} cannot be explained")
        raise


def _write(path: Path, rows: Iterable[tuple[str, Rows]], **settings: Any) -> None:
    write_event_table(path, _events(rows), **settings)


def _events(rows: Iterable[tuple[str, Rows]]) -> Iterator[tuple[str, list[Event]]]:
    for name, of_recording in rows:
        yield name, [event_of(row) for row in of_recording]
