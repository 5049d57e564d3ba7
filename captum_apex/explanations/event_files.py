"""Files of events: selection tables for Raven, label tracks for Audacity, CSV, and JSON with all channels."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from captum_apex.explanations.events import Event
from captum_apex.files import replaced
from captum_apex.locating.region_effect import RegionEffect
from captum_apex.recordings.folders import AudioDataset
from captum_apex.texts import cell_text, encodable

__all__ = ["event_records", "write_audacity", "write_csv", "write_json", "write_raven"]

_BAND_COLUMNS = ("Low Freq (Hz)", "High Freq (Hz)")
_COLUMNS = ("Annotation", "Score", "Contribution", "Prototype Channels", "Silent")
_EFFECT_COLUMNS = ("Masking Effect", "Effect of Random Places", "Better than Random", "Fires On", "Doubts")


def write_raven(path: str | os.PathLike, events: Iterable[Event]) -> None:
    r"""Writes a selection table for Raven Pro and Raven Lite: text with tabs, one line per event after the header.

    The class is in the column "Annotation". An event without a band is a selection of the waveform view, and its
    frequencies are empty; where no event has a band, the table has no columns for frequencies. The prototype channels
    of an event are listed by their numbers, strongest first.

    "Silent" is yes in digital silence, and "background" where the event is `quiet`, no louder than the background.

    A class whose name begins with =, +, -, @ or a quotation mark gets an apostrophe before it, so that a spreadsheet
    takes it as text and not as a formula. What is no Unicode in a name becomes replacement characters.

    If any event has an effect, there are five more columns: the share of the channel that masking the event's region
    takes away, the mean of the same for random places, whether the former is at least 1% and larger than at each random
    place (yes or no), what the channel fires on where that is no sound, and all that speaks against the region in
    words. They are those of the strongest channel that has an effect, and empty where none has.

    Args:
        path: path of the new file, such as `recording.Table.1.selections.txt`.
        events: the events of one recording.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from captum_apex import Event, write_raven
        >>> event = Event(1.25, 2.5, 150.0, 3500.0, 0, "dog", 0.875, 2.5)
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "recording.Table.1.selections.txt")
        ...     write_raven(path, [event])
        ...     path.read_text().splitlines()[1].split("\t")[3:9]
        ['1.250000', '2.500000', '150.000', '3500.000', 'dog', '0.8750']

    Source: the selection table format of Raven Pro, Cornell Lab of Ornithology.
    """
    rows = list(events)
    with_bands = not rows or any(event.low is not None for event in rows)
    with_effects = any(event.effect is not None for event in rows)
    header = ["Selection", "View", "Channel", "Begin Time (s)", "End Time (s)"]
    header += [*(_BAND_COLUMNS if with_bands else ()), *_COLUMNS, *(_EFFECT_COLUMNS if with_effects else ())]
    lines = [_raven_cells(number, event, with_bands, with_effects) for number, event in enumerate(rows, 1)]
    _write(path, "".join("\t".join(cells) + "\n" for cells in [header, *lines]))


def _raven_cells(number: int, event: Event, with_bands: bool, with_effects: bool) -> list[str]:
    cells = [str(number), "Waveform 1" if event.low is None else "Spectrogram 1", "1"]
    cells += [f"{event.start:.6f}", f"{event.end:.6f}"]
    if with_bands:
        cells += [_hertz(event.low), _hertz(event.high)]
    cells += [cell_text(event.name), f"{event.score:.4f}", f"{event.contribution:.4f}", _channels(event)]
    cells.append(_silent(event))
    return cells + _effect_cells(event.effect) if with_effects else cells


def write_csv(path: str | os.PathLike, events: Iterable[Event]) -> None:
    """Writes a table of values separated by commas, one line per event after the header.

    The columns are onset_s, offset_s, label, low_freq_hz, high_freq_hz, score, contribution, channels and silent, and
    for events with an effect those of `write_raven`. The score is the probability of the class. The first three are the
    "simple-seq" format of crowsetta, so that it reads the file. The frequencies of an event without a band are empty.
    Names of classes are written as in `write_raven`.

    Args:
        path: path of the new file, such as `recording.csv`.
        events: the events of one recording.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from captum_apex import Event, write_csv
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "recording.csv")
        ...     write_csv(path, [Event(1.25, 2.5, None, None, 0, "dog", 0.875, 2.5)])
        ...     print(path.read_text(), end="")
        onset_s,offset_s,label,low_freq_hz,high_freq_hz,score,contribution,channels,silent
        1.250000,2.500000,dog,,,0.8750,2.5000,,no
    """
    rows = list(events)
    with_effects = any(event.effect is not None for event in rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(csv_header(with_effects))
    writer.writerows(csv_cells(event, with_effects) for event in rows)
    _write(path, text.getvalue())


def csv_header(with_effects: bool) -> list[str]:
    """The names of the columns of `write_csv`.

    Args:
        with_effects: whether there are columns for what masking the events' regions takes away.
    """
    header = ["onset_s", "offset_s", "label", "low_freq_hz", "high_freq_hz", "score", "contribution", "channels"]
    header.append("silent")
    return header + [name.lower().replace(" ", "_") for name in _EFFECT_COLUMNS if with_effects]


def csv_cells(event: Event, with_effects: bool) -> list[str]:
    """The cells of an event in these columns.

    Args:
        event: the event.
        with_effects: as in `csv_header`.
    """
    cells = [f"{event.start:.6f}", f"{event.end:.6f}", cell_text(event.name), _hertz(event.low), _hertz(event.high)]
    cells += [f"{event.score:.4f}", f"{event.contribution:.4f}", _channels(event), _silent(event)]
    return cells + _effect_cells(event.effect) if with_effects else cells


def write_json(path: str | os.PathLike, events: Iterable[Event], recordings: AudioDataset | None = None) -> None:
    """Writes everything that is known of events, with the events of single channels inside each, as JSON.

    The file holds one object with the list "events". Its entries have the names of the fields of `Event`,
    `ChannelEvent` and `RegionEffect`: the name of the class is `name`, its index `label`. What is not known, and
    numbers that are not finite, are null.

    Args:
        path: path of the new file, such as `recording.json`.
        events: the events of one recording.
        recordings: the recordings that the basis was fitted on; with them, each channel has the names of its prototypes
            in `prototype_clips`, beside their indices in `prototypes`.

    Example:
        >>> import json
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from captum_apex import Event, write_json
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "recording.json")
        ...     write_json(path, [Event(1.25, 2.5, None, None, 0, "dog", 0.875, 2.5)])
        ...     content = json.loads(path.read_text())
        >>> content["events"][0]["name"], content["events"][0]["low"]
        ('dog', None)
    """
    _write(path, json.dumps({"events": event_records(events, recordings)}, indent=1, allow_nan=False) + "\n")


def event_records(events: Iterable[Event], recordings: AudioDataset | None = None) -> list[dict[str, Any]]:
    """The events as JSON can hold them, see `write_json`.

    Args:
        events: the events of one recording.
        recordings: the recordings that the basis was fitted on; None leaves the names of prototypes.

    Example:
        >>> from captum_apex import Event
        >>> from captum_apex.explanations.event_files import event_records
        >>> event_records([Event(1.25, 2.5, None, None, 0, "dog", 0.875, 2.5)])[0]["name"]
        'dog'
    """
    records = [asdict(event) for event in events]
    if recordings is not None:
        for channel in (channel for record in records for channel in record["channels"]):
            channel["prototype_clips"] = [recordings.name(index) for index in channel["prototypes"]]
    return [_plain(record) for record in records]


def _plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return encodable(value) if isinstance(value, str) else value


def write_audacity(path: str | os.PathLike, events: Iterable[Event], *, bands: bool = True) -> None:
    r"""Writes a label track that Audacity imports.

    A label names the class, its probability and the channels, strongest first. Where the region of the event is no
    better than a random place, the channel fires on no sound, or nothing sounds in the event, the label says so.
    Names of classes are written as in `write_raven`.

    Args:
        path: path of the new file, such as `recording.txt`.
        events: the events of one recording.
        bands: whether the label of an event with a band gets a second line with it, which other programs than Audacity
            may not read.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from captum_apex import Event, write_audacity
        >>> from captum_apex.explanations import ChannelEvent
        >>> channel = ChannelEvent(1.25, 2.5, 150.0, 3500.0, 0, "dog", 0.875, channel=17, side=1, contribution=2.5)
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "recording.txt")
        ...     write_audacity(path, [Event.of([channel])], bands=False)
        ...     path.read_text()
        '1.250000\t2.500000\tdog 0.88 (channel 17)\n'

    Source: the label file format of Audacity's manual, "Importing and Exporting Labels".
    """
    lines = []
    for event in events:
        lines.append(f"{event.start:.6f}\t{event.end:.6f}\t{_label(event)}\n")
        if bands and event.low is not None and event.high is not None:
            lines.append(f"\\\t{event.low:.6f}\t{event.high:.6f}\n")
    _write(path, "".join(lines))


def _label(event: Event) -> str:
    """The class of an event with its probability and channels, and what speaks against the event."""
    numbers = _distinct_channels(event)
    word = "channel" if len(numbers) == 1 else "channels"
    channels = f" ({word} {', '.join(numbers)})" if numbers else ""
    doubts = list(() if event.effect is None else event.effect.doubts)
    if event.quiet_text:
        doubts.append(event.quiet_text)
    return f"{cell_text(event.name)} {event.score:.2f}{channels}" + "".join(f", {doubt}" for doubt in doubts)


def _distinct_channels(event: Event) -> list[str]:
    """The channels of an event, each once, strongest first; one that acts by a negative activation says so."""
    sides = dict.fromkeys((each.channel, each.side) for each in event.channels)
    return [str(channel) if side > 0 else f"{channel} negative" for channel, side in sides]


def _channels(event: Event) -> str:
    return "; ".join(_distinct_channels(event))


def _effect_cells(effect: RegionEffect | None) -> list[str]:
    if effect is None:
        return [""] * len(_EFFECT_COLUMNS)
    better = _yes_or_no(effect.better_than_random)
    return [f"{effect.channel:.4f}", f"{effect.mean_random:.4f}", better, effect.fires_on, "; ".join(effect.doubts)]


def _hertz(frequency: float | None) -> str:
    return "" if frequency is None else f"{frequency:.3f}"


def _silent(event: Event) -> str:
    return "background" if event.quiet and not event.silent else _yes_or_no(event.silent)


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"


def _write(path: str | os.PathLike, text: str) -> None:
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
