"""What was heard in a recording, when and in which band: events, and files of them that Raven and Audacity open."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from captum_apex.files import replaced

__all__ = ["Event", "RecordingExplanation", "write_audacity", "write_raven"]


@dataclass(frozen=True)
class Event:
    """A part of a recording in which one channel speaks for a class.

    Args:
        start: in s.
        end: in s.
        low: in Hz.
        high: in Hz.
        label: of the class.
        name: of the class.
        score: the class's largest probability in the windows that show the event, in [0, 1].
        channel: of the basis.
        side: 1, or −1 where the channel speaks through its negative activation.
        contribution: the most that the channel adds to the class's logit in one of these windows.
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


def write_raven(path: str | os.PathLike, events: Iterable[Event]) -> None:
    """Writes a selection table that Raven Pro and Raven Lite open: tab-separated, one line per event.

    Args:
        path: of the file, such as `recording.Table.1.selections.txt`.
        events: of one recording.

    Source: the selection table format of Raven Pro, Cornell Lab of Ornithology.
    """
    columns = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)")
    lines = ["\t".join((*columns, "Class", "Score", "Prototype Channel", "Side", "Contribution"))]
    for number, event in enumerate(events, 1):
        place = (f"{event.start:.6f}", f"{event.end:.6f}", f"{event.low:.3f}", f"{event.high:.3f}")
        more = (
            _one_line(event.name),
            f"{event.score:.4f}",
            str(event.channel),
            str(event.side),
            f"{event.contribution:.4f}",
        )
        lines.append("\t".join((str(number), "Spectrogram 1", "1", *place, *more)))
    with replaced(path) as beside:
        beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def write_audacity(path: str | os.PathLike, events: Iterable[Event], *, bands: bool = True) -> None:
    """Writes a label track that Audacity imports.

    Args:
        path: of the file, such as `recording.txt`.
        events: of one recording.
        bands: with a second line per label for its frequencies, which programs other than Audacity may not know.

    Source: the label file format of Audacity's manual, "Importing and Exporting Labels".
    """
    lines = []
    for event in events:
        lines.append(
            f"{event.start:.6f}\t{event.end:.6f}\t{_one_line(event.name)} {event.score:.2f} (channel {event.channel})"
        )
        if bands:
            lines.append(f"\\\t{event.low:.6f}\t{event.high:.6f}")
    with replaced(path) as beside:
        beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def _one_line(name: str) -> str:
    return " ".join(name.split())


@dataclass(frozen=True, eq=False)
class RecordingExplanation:
    """What was found in a recording.

    Args:
        events: sorted by start, then by class and channel; `pandas.DataFrame(found.events)` is the table.
        evidence: class → its evidence over time, (time,), in logit per second; 0 where the class is not heard. Classes that are never
            heard are left out.
        times: the middle of each value of the evidence, in s, float64 (time,).
        duration: of the recording, in s.
    """

    events: tuple[Event, ...]
    evidence: Mapping[int, Tensor]
    times: Tensor
    duration: float
