"""Events: the detected sounds of a recording with their times and bands, and the channels inside each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Self

from torch import Tensor

from captum_apex.locating.region_effect import RegionEffect
from captum_apex.result_tables import counted, html_table
from captum_apex.texts import band_text, encodable, fixed_text, second_digits, times_text

__all__ = ["ChannelEvent", "Event", "RecordingExplanation", "UnfinishedExplanationError", "event_digits", "joined"]

_ROUNDING = 1e-9  # s, by which the edges of equal columns may differ


@dataclass(frozen=True)
class ChannelEvent:
    """A time span and a band of a recording in which one channel supports a detected class.

    Args:
        start: start of the event, in s from the start of the recording.
        end: end of the event, in s from the start of the recording.
        low: lower edge of the band, in Hz; None where the band is not known or is the whole one.
        high: upper edge of the band, in Hz; None where the band is not known or is the whole one.
        label: index of the detected class.
        name: name of the detected class.
        score: largest probability of the class, in [0, 1], among the windows that overlap the event and have the
            channel in the evidence for the class. The score of an `Explanation` is the logit.
        channel: index of the channel in the basis.
        side: 1, or −1 where the channel supports the class by a negative activation.
        contribution: largest contribution of the channel to the logit of the class among these windows.
        effect: effect of masking the event's region on the channel in and around the event. None where regions were not
            searched for, none was found at the event, or the event fills more than a quarter of its window, so that
            random places would overlap it.
        prototypes: indices of the training clips that are the channel's prototypes on this side, best first, at most
            four; empty where the basis has none.

    Example:
        >>> from captum_apex.explanations import ChannelEvent
        >>> event = ChannelEvent(1.25, 2.5, 150.0, 3500.0, 0, "dog", 0.875, channel=17, side=1, contribution=2.5)
        >>> event.end - event.start
        1.25
    """

    start: float
    end: float
    low: float | None
    high: float | None
    label: int
    name: str
    score: float
    channel: int
    side: int
    contribution: float
    effect: RegionEffect | None = None
    prototypes: tuple[int, ...] = ()


@dataclass(frozen=True, repr=False)
class Event:
    """A detection: a time span of a recording in which channels support a class, without a gap.

    Its start and end are those of the evidence. The sound can last longer, and can have several events.

    Args:
        start: start of the event, in s from the start of the recording.
        end: end of the event, in s from the start of the recording.
        low: lowest edge of the bands of its channels, in Hz; None where no channel has a known band, or the bands
            together are the whole one.
        high: highest edge of the bands of its channels, in Hz; None where `low` is None.
        label: index of the detected class.
        name: name of the detected class.
        score: largest probability of the class, in [0, 1], among its channel events. The score of an `Explanation`, and
            of its table of evidence, is the logit.
        contribution: largest contribution among its channel events.
        channels: the events of single channels of which it consists, largest contribution first.
        silent: whether the event lies in digital silence, where all samples are 0; what is detected there is no sound.
        quiet: whether nothing in the event is louder than the background of the recording, and digital silence gets
            its class, too, with at least the threshold; what is detected there may be no sound.

    Example:
        >>> from captum_apex import Event
        >>> Event(1.25, 2.5, 150.0, 3500.0, 0, "dog", 0.875, 2.5)
        Event of dog, 1.25–2.50 s, 150–3500 Hz, probability 0.88, 0 channels
    """

    start: float
    end: float
    low: float | None
    high: float | None
    label: int
    name: str
    score: float
    contribution: float
    channels: tuple[ChannelEvent, ...] = ()
    silent: bool = False
    quiet: bool = False

    @classmethod
    def of(cls, channels: Iterable[ChannelEvent]) -> Self:
        """The event that consists of some channel events of one class.

        Args:
            channels: the channel events, at least one.
        """
        ordered = tuple(sorted(channels, key=lambda each: (-each.contribution, each.start, each.channel, each.side)))
        bands = [(each.low, each.high) for each in ordered if each.low is not None and each.high is not None]
        return cls(
            start=min(each.start for each in ordered),
            end=max(each.end for each in ordered),
            low=min((low for low, _ in bands), default=None),
            high=max((high for _, high in bands), default=None),
            label=ordered[0].label,
            name=ordered[0].name,
            score=max(each.score for each in ordered),
            contribution=ordered[0].contribution,
            channels=ordered,
        )

    def __repr__(self) -> str:
        band = "" if self.low is None or self.high is None else f", {band_text(self.low, self.high)}"
        channels = len({(each.channel, each.side) for each in self.channels})
        times = times_text(self.start, self.end, event_digits([self]))
        return (
            f"Event of {encodable(self.name)}, {times}{band}, probability {self.score:.2f}, "
            f"{counted(channels, 'channel')}{', ' * bool(self.quiet_text)}{self.quiet_text}"
        )

    @property
    def quiet_text(self) -> str:
        """What to know of an event in which nothing sounds, in words; empty for others.

        Example:
            >>> from captum_apex import Event
            >>> Event(1.25, 2.5, None, None, 0, "dog", 0.875, 2.5, quiet=True).quiet_text
            'no louder than the background'
        """
        return "in digital silence" if self.silent else "no louder than the background" if self.quiet else ""

    @property
    def effect(self) -> RegionEffect | None:
        """The effect of the strongest channel event that has one; None where none has."""
        return next((each.effect for each in self.channels if each.effect is not None), None)


def joined(
    events: Sequence[ChannelEvent],
    gap: float = 0.0,
    *,
    spans: Sequence[tuple[float, float]] | None = None,
    whole_band: tuple[float, float] | None = None,
) -> list[Event]:
    """Joins the channel events of each class that overlap or touch in time.

    An event of a class is a longest run of time in which at least one of its channel events lasts, where pauses of at
    most `gap` do not count: the union of their time spans. It takes `n log n` operations for `n` channel events.

    Args:
        events: the channel events of a recording, in any order.
        gap: longest pause inside an event, in s.
        spans: start and end of each channel event, in s, by which it is joined; None for its own.
        whole_band: edges of the whole band, in Hz; an event that has both has no band.

    Returns:
        The events, sorted by start and class.

    Example:
        >>> from captum_apex.explanations import ChannelEvent
        >>> from captum_apex.explanations.events import joined
        >>> dog = [0, "dog", 0.875]
        >>> barks = [
        ...     ChannelEvent(1.0, 2.0, None, None, *dog, channel=17, side=1, contribution=1.5),
        ...     ChannelEvent(1.5, 2.5, None, None, *dog, channel=3, side=1, contribution=2.5),
        ...     ChannelEvent(4.0, 4.5, None, None, *dog, channel=3, side=1, contribution=2.0),
        ... ]
        >>> [(event.start, event.end, [each.channel for each in event.channels]) for event in joined(barks)]
        [(1.0, 2.5, [3, 17]), (4.0, 4.5, [3])]
        >>> [(event.start, event.end) for event in joined(barks, gap=1.5)]
        [(1.0, 4.5)]
    """
    if spans is None:
        spans = [(each.start, each.end) for each in events]
    runs: list[list[ChannelEvent]] = []
    label = None
    last = 0.0  # s, where the last run ends
    for (start, end), each in sorted(zip(spans, events, strict=True), key=lambda pair: (pair[1].label, pair[0])):
        if each.label == label and start <= last + gap + _ROUNDING:
            runs[-1].append(each)
            last = max(last, end)
        else:
            runs.append([each])
            label = each.label
            last = end
    joined_events = [_without_whole_band(Event.of(run), whole_band) for run in runs]
    return sorted(joined_events, key=attrgetter("start", "label"))


def _without_whole_band(event: Event, whole_band: tuple[float, float] | None) -> Event:
    return replace(event, low=None, high=None) if (event.low, event.high) == whole_band else event


def event_digits(events: Iterable[Event]) -> int:
    """How many digits after the point the times of events have: the last one is at most a tenth of the shortest event.

    Args:
        events: the events.

    Example:
        >>> from captum_apex import Event
        >>> from captum_apex.explanations.events import event_digits
        >>> call = Event(1.2514, 1.2583, None, None, 0, "bat", 0.9, 2.5)  # of 7 ms
        >>> event_digits([call]), call
        (4, Event of bat, 1.2514–1.2583 s, probability 0.90, 0 channels)
    """
    return second_digits(min((10 * (event.end - event.start) for event in events), default=1.0))


_N_CLASSES = 4  # classes that the text of a recording lists
_N_ROWS = 100  # events that a notebook lists


@dataclass(frozen=True, eq=False, repr=False)
class RecordingExplanation:
    """The events of a recording, and the evidence over time for its classes.

    Args:
        events: the events, sorted by start and class. Those of one class do not overlap, whatever their channels.
        evidence: evidence over time for each detected class: index of the class → logit per second, (time,). The value
            is 0 at times at which the class is not detected.
        times: time of each value of the evidence over time, the middle of a column, in s, float64 (time,).
        duration: duration of the recording, in s.
        column_hears: how much of the recording a column of the layer hears, in s, where that is about a whole window,
            so that starts and ends of events are uncertain by as much; None where it is less or not known.

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
    column_hears: float | None = None

    @property
    def channel_events(self) -> tuple[ChannelEvent, ...]:
        """The channel events of all events, sorted by start, class, channel and side.

        `pandas.DataFrame(explanation.channel_events)` is their table.
        """
        rows = [each for event in self.events for each in event.channels]
        return tuple(sorted(rows, key=attrgetter("start", "label", "channel", "side")))

    def __repr__(self) -> str:
        lines = [f"  {name}: {number}" for name, number in self._counts()]
        title = f"RecordingExplanation of {self.duration:.1f} s, {counted(len(self.events), 'event')}"
        unsure = [f"  {self.unsure_text}"] if self.unsure_text and self.events else []
        return "\n".join([title, *lines[:_N_CLASSES], *(["  …"] if len(lines) > _N_CLASSES else []), *unsure])

    @property
    def unsure_text(self) -> str:
        """What to know of the times of events where a column hears a whole window, in words; empty elsewhere.

        Example:
            >>> import torch
            >>> from captum_apex import RecordingExplanation
            >>> RecordingExplanation((), {}, torch.empty(0), duration=2.0, column_hears=5.0).unsure_text.split(":")[0]
            'a column of the layer hears 5.0 s'
        """
        if self.column_hears is None:
            return ""
        return (
            f"a column of the layer hears {self.column_hears:.1f} s: the start and the end of an event are uncertain "
            "by as much; a smaller hop and a higher level, or a layer before, make them finer"
        )

    def _repr_html_(self) -> str:
        columns = ("start", "end", "name", "score")
        digits = event_digits(self.events)
        shown = self.events[:_N_ROWS]
        rows = [[fixed_text(e.start, digits), fixed_text(e.end, digits), e.name, f"{e.score:.2f}"] for e in shown]
        first = f", the first {_N_ROWS}" if len(self.events) > _N_ROWS else ""
        caption = f"{counted(len(self.events), 'event')} in a recording of {self.duration:.1f} s{first}"
        return html_table(columns, rows, caption)

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
