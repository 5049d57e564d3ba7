"""One table of the events of many recordings, and files for Raven and Audacity for each of them."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from textwrap import indent
from typing import Any, TextIO

from captum_apex.explanations.event_files import csv_cells, csv_header, event_records
from captum_apex.explanations.events import ChannelEvent, Event
from captum_apex.files import replaced
from captum_apex.locating.region_effect import RegionEffect
from captum_apex.recordings.folders import AudioDataset
from captum_apex.texts import cell_text, encodable

__all__ = ["event_of", "event_row", "paths_beside", "write_event_table", "write_objects"]


def event_row(event: Event) -> dict[str, Any]:
    """An event with its channel events as a row that JSON can hold; the inverse of `event_of`.

    Args:
        event: the event.

    Example:
        >>> from captum_apex import Event
        >>> from captum_apex.explanations.event_tables import event_row
        >>> event_row(Event(1.25, 2.5, None, None, 0, "dog", 0.875, 2.5))["name"]
        'dog'
    """
    return asdict(event)


def event_of(row: Mapping[str, Any]) -> Event:
    """The event of a row of `event_row`, also after it was written as JSON, which turns tuples into lists.

    Args:
        row: the fields of the event by name.

    Example:
        >>> from captum_apex import Event
        >>> from captum_apex.explanations.event_tables import event_of, event_row
        >>> event_of(event_row(Event(1.25, 2.5, None, None, 0, "dog", 0.875, 2.5)))
        Event of dog, 1.25–2.50 s, probability 0.88, 0 channels
    """
    return Event(**{**row, "channels": tuple(map(_channel_event, row["channels"]))})


def _channel_event(row: Mapping[str, Any]) -> ChannelEvent:
    effect = row["effect"]
    if effect is not None:
        effect = RegionEffect(**{**effect, "random": tuple(effect["random"])})
    return ChannelEvent(**{**row, "effect": effect, "prototypes": tuple(row["prototypes"])})


def write_event_table(
    path: str | os.PathLike,
    recordings: Iterable[tuple[str, Iterable[Event]]],
    *,
    effects: bool = False,
    training: AudioDataset | None = None,
) -> None:
    """Writes one table of the events of several recordings, which are taken one after the other.

    A row is an event. It has the columns of `write_csv`, or the entries of `write_json`, after the path of its
    recording, `file`.

    Args:
        path: path of the new file; JSON where it ends in `.json`, otherwise CSV.
        recordings: the path and the events of each recording.
        effects: whether the CSV has columns for what masking the events' regions takes away.
        training: the recordings that the basis was fitted on, for the names of the prototypes in JSON.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex import Event
        >>> from captum_apex.explanations.event_tables import write_event_table
        >>> event = Event(1.25, 2.5, None, None, 0, "dog", 0.875, 2.5)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_event_table(Path(folder, "events.csv"), [("a.wav", [event]), ("b.wav", [event])])
        ...     [line.split(",")[:4] for line in Path(folder, "events.csv").read_text().splitlines()[1:]]
        [['a.wav', '1.250000', '2.500000', 'dog'], ['b.wav', '1.250000', '2.500000', 'dog']]
    """
    events = ((name, event) for name, of_recording in recordings for event in of_recording)
    with replaced(path) as beside, open(beside, "w", newline="\n", encoding="utf-8") as file:
        if Path(path).suffix.lower() == ".json":
            records = ({"file": encodable(name), **event_records([event], training)[0]} for name, event in events)
            file.write('{\n "events": ')
            write_objects(file, records, depth=1, allow_nan=False)
            file.write("\n}\n")
        else:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["file", *csv_header(effects)])
            writer.writerows([cell_text(name), *csv_cells(event, effects)] for name, event in events)


def write_objects(file: TextIO, objects: Iterable[Any], *, depth: int = 0, **settings: Any) -> None:
    r"""Writes a list as `json.dump(list(objects), file, indent=1)` does, one object after the other.

    Args:
        file: the file.
        objects: the objects.
        depth: in how many objects the list is.
        settings: further arguments of `json.dumps`.

    Example:
        >>> import io
        >>> from captum_apex.explanations.event_tables import write_objects
        >>> file = io.StringIO()
        >>> write_objects(file, [{"channel": 17}])
        >>> file.getvalue()
        '[\n {\n  "channel": 17\n }\n]'
    """
    inside = " " * (depth + 1)
    before = "["
    for each in objects:
        file.write(f"{before}\n{indent(json.dumps(each, indent=1, **settings), inside)}")
        before = ","
    file.write("[]" if before == "[" else f"\n{inside[1:]}]")


def paths_beside(folder: str | os.PathLike, names: Sequence[str], ending: str) -> list[Path]:
    """A path in a folder for each recording: the path of the recording from the folder that all of them share.

    Args:
        folder: the folder of the new files.
        names: paths of the recordings.
        ending: end of the new names, in place of that of the recording; where two recordings differ only in this, after
            it.

    Example:
        >>> from captum_apex.explanations.event_tables import paths_beside
        >>> [path.as_posix() for path in paths_beside("raven", ["night/north/a.wav", "night/south/a.wav"], ".txt")]
        ['raven/north/a.txt', 'raven/south/a.txt']
    """
    absolute = [os.path.abspath(name) for name in names]
    shared = os.path.commonpath([os.path.dirname(name) for name in absolute])
    inside = [os.path.relpath(name, shared) for name in absolute]
    stems = [os.path.splitext(name)[0] for name in inside]
    counts = Counter(stems)
    pairs = zip(inside, stems, strict=True)
    return [Path(folder, (stem if counts[stem] == 1 else name) + ending) for name, stem in pairs]


def write_each(
    folder: str | os.PathLike,
    recordings: Iterable[tuple[str, Iterable[Event]]],
    names: Sequence[str],
    ending: str,
    write: Callable[[Path, Iterable[Event]], None],
) -> None:
    """Writes a file for each recording, at the path of `paths_beside`.

    Args:
        folder: the folder of the new files.
        recordings: the path and the events of each recording.
        names: paths of all recordings.
        ending: end of the new names.
        write: function that writes the events of one recording to a path.
    """
    paths = dict(zip(names, paths_beside(folder, names, ending), strict=True))
    for name, events in recordings:
        write(paths[name], events)
