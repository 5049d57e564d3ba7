"""Events: the detected sounds of a recording with their times and bands, and files of them for Raven and Audacity."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from captum_apex.audio.clip import cell_text
from captum_apex.files import replaced
from captum_apex.locating.region_search import RegionEffect
from captum_apex.result_tables import counted, html_table

__all__ = ["Event", "RecordingExplanation", "UnfinishedExplanationError", "write_audacity", "write_raven"]


@dataclass(frozen=True)
class Event:
    """A time span and a band of a recording in which one channel supports a detected class.

    Args:
        start: start of the event, in s from the start of the recording.
        end: end of the event, in s from the start of the recording.
        low: lower edge of the band, in Hz.
        high: upper edge of the band, in Hz.
        label: index of the detected class.
        name: name of the detected class.
        score: largest probability of the class, in [0, 1], among the windows that overlap the event and have the
            channel in the evidence for the class.
        channel: index of the channel in the basis.
        side: 1, or −1 where the channel supports the class by a negative activation.
        contribution: largest contribution of the channel to the logit of the class among these windows.
        effect: effect of masking the event's region on the channel in and around the event. None where regions were not
            searched for, none was found at the event, or the event fills more than a quarter of its window, so that
            random places would overlap it.

    Example:
        >>> from captum_apex import Event
        >>> event = Event(1.25, 2.5, 150.0, 8000.0, 0, "dog", 0.875, channel=17, side=1, contribution=2.5)
        >>> event.end - event.start
        1.25
    """

    start: float
    end: float
    low: float
    high: float
    label: int
    name: str
    score: float
    channel: int
    side: int
    contribution: float
    effect: RegionEffect | None = None


_RAVEN_COLUMNS = (
    "Selection",
    "View",
    "Channel",
    "Begin Time (s)",
    "End Time (s)",
    "Low Freq (Hz)",
    "High Freq (Hz)",
    "Class",
    "Score",
    "Prototype Channel",
    "Side",
    "Contribution",
)
_EFFECT_COLUMNS = ("Masking Effect", "Effect of Random Places", "Better than Random", "Fires On")


def write_raven(path: str | os.PathLike, events: Iterable[Event]) -> None:
    r"""Writes a selection table for Raven Pro and Raven Lite: text with tabs, one line per event after the header.

    A class whose name begins with =, +, -, @ or a quotation mark gets an apostrophe before it, so that a spreadsheet
    takes it as text and not as a formula. What is no Unicode in a name becomes replacement characters.

    If any event has an effect, there are four more columns: the share of the channel that masking the event's region
    takes away, the same for random places, whether the former is larger (yes or no), and what the channel fires on
    where that is no sound. They are empty for an event without effect.

    Args:
        path: path of the new file, such as `recording.Table.1.selections.txt`.
        events: the events of one recording.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from captum_apex import Event, write_raven
        >>> event = Event(1.25, 2.5, 150.0, 8000.0, 0, "dog", 0.875, channel=17, side=1, contribution=2.5)
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "recording.Table.1.selections.txt")
        ...     write_raven(path, [event])
        ...     path.read_text().splitlines()[1].split("\t")[3:9]
        ['1.250000', '2.500000', '150.000', '8000.000', 'dog', '0.8750']

    Source: the selection table format of Raven Pro, Cornell Lab of Ornithology.
    """
    rows = list(events)
    with_effects = any(event.effect is not None for event in rows)
    header = (*_RAVEN_COLUMNS, *_EFFECT_COLUMNS) if with_effects else _RAVEN_COLUMNS
    lines = [_raven_line(number, event, with_effects) for number, event in enumerate(rows, 1)]
    _write_lines(path, ["\t".join(header), *lines])


def _raven_line(number: int, event: Event, with_effects: bool) -> str:
    place = (f"{event.start:.6f}", f"{event.end:.6f}", f"{event.low:.3f}", f"{event.high:.3f}")
    about_class = (cell_text(event.name), f"{event.score:.4f}")
    about_channel = (str(event.channel), str(event.side), f"{event.contribution:.4f}")
    about_region = _effect_columns(event.effect) if with_effects else ()
    return "\t".join((str(number), "Spectrogram 1", "1", *place, *about_class, *about_channel, *about_region))


def _effect_columns(effect: RegionEffect | None) -> tuple[str, ...]:
    if effect is None:
        return ("",) * len(_EFFECT_COLUMNS)
    better = "yes" if effect.better_than_random else "no"
    return f"{effect.channel:.4f}", f"{effect.mean_random:.4f}", better, effect.fires_on


def write_audacity(path: str | os.PathLike, events: Iterable[Event], *, bands: bool = True) -> None:
    r"""Writes a label track that Audacity imports.

    A label names the class, its probability and the channel. Where the region of the event is no better than a random
    place, or the channel fires on no sound, the label says so. Names of classes are written as in `write_raven`.

    Args:
        path: path of the new file, such as `recording.txt`.
        events: the events of one recording.
        bands: whether each label gets a second line with its band, which other programs than Audacity may not read.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from captum_apex import Event, write_audacity
        >>> event = Event(1.25, 2.5, 150.0, 8000.0, 0, "dog", 0.875, channel=17, side=1, contribution=2.5)
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder, "recording.txt")
        ...     write_audacity(path, [event], bands=False)
        ...     path.read_text()
        '1.250000\t2.500000\tdog 0.88 (channel 17)\n'

    Source: the label file format of Audacity's manual, "Importing and Exporting Labels".
    """
    lines = []
    for event in events:
        text = f"{cell_text(event.name)} {event.score:.2f} (channel {event.channel}){_doubts(event.effect)}"
        lines.append(f"{event.start:.6f}\t{event.end:.6f}\t{text}")
        if bands:
            lines.append(f"\\\t{event.low:.6f}\t{event.high:.6f}")
    _write_lines(path, lines)


def _doubts(effect: RegionEffect | None) -> str:
    """What speaks against an event, as the end of its label; empty where nothing does."""
    doubts = () if effect is None else effect.doubts
    return "".join(f", {doubt}" for doubt in doubts)


def _write_lines(path: str | os.PathLike, lines: Iterable[str]) -> None:
    with replaced(path) as beside:
        beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


_N_CLASSES = 4  # classes that the text of a recording lists
_N_ROWS = 100  # events that a notebook lists


@dataclass(frozen=True, eq=False, repr=False)
class RecordingExplanation:
    """The events of a recording, and the evidence over time for its classes.

    Args:
        events: the events, sorted by start, class, channel and side; `pandas.DataFrame(explanation.events)` is their
            table.
        evidence: evidence over time for each detected class: index of the class → logit per second, (time,). The value
            is 0 at times at which the class is not detected.
        times: time of each value of the evidence over time, the middle of a column, in s, float64 (time,).
        duration: duration of the recording, in s.

    Example:
        >>> import torch
        >>> from captum_apex import RecordingExplanation
        >>> times = torch.tensor([0.25, 0.75, 1.25, 1.75], dtype=torch.float64)
        >>> evidence = {0: torch.tensor([0.0, 4.0, 2.0, 0.0])}
        >>> explanation = RecordingExplanation((), evidence, times, duration=2.0)
        >>> explanation.times[explanation.evidence[0] > 0]
        tensor([0.7500, 1.2500], dtype=torch.float64)
    """

    events: tuple[Event, ...]
    evidence: Mapping[int, Tensor]
    times: Tensor
    duration: float

    def __repr__(self) -> str:
        lines = [f"  {name}: {number}" for name, number in self._counts()]
        title = f"RecordingExplanation of {self.duration:.1f} s, {counted(len(self.events), 'event')}"
        return "\n".join([title, *lines[:_N_CLASSES], *(["  …"] if len(lines) > _N_CLASSES else [])])

    def _repr_html_(self) -> str:
        columns = ("start", "end", "name", "score")
        rows = [[f"{e.start:.2f}", f"{e.end:.2f}", e.name, f"{e.score:.2f}"] for e in self.events[:_N_ROWS]]
        shown = f", the first {_N_ROWS}" if len(self.events) > _N_ROWS else ""
        return html_table(columns, rows, f"{counted(len(self.events), 'event')} in {self.duration:.1f} s{shown}")

    def _counts(self) -> list[tuple[str, int]]:
        """The number of events of each class, the most frequent first."""
        return Counter(event.name for event in self.events).most_common()


class UnfinishedExplanationError(ValueError):
    """A recording could not be explained to its end.

    Args:
        message: what is wrong, and where.
        explanation: the explanation of the recording up to there, as without `search`, because regions are searched for
            only after the last window.

    Example:
        >>> import torch
        >>> from captum_apex import RecordingExplanation
        >>> from captum_apex.explanations import UnfinishedExplanationError
        >>> before = RecordingExplanation((), {}, torch.empty(0), duration=2.0)
        >>> try:
        ...     raise UnfinishedExplanationError("expected sound, but got NaN at 3 s", before)
        ... except ValueError as error:
        ...     print(error, len(error.explanation.events))
        expected sound, but got NaN at 3 s 0
    """

    def __init__(self, message: str, explanation: RecordingExplanation) -> None:
        super().__init__(message)
        self.explanation = explanation
