"""The maps of a recording's overlapping windows, averaged on one time axis and cut into events of single channels.

- `_EvidenceKey` names one channel in the evidence for one class; maps and events are stored by key.
- `_Stretch` holds the maps of one key in windows that overlap or touch, as sums over the windows.
- `WindowMerger` takes the windows in the order of time, holds one open stretch per key, and cuts it into events as soon
  as a window of the key begins after its end.
- `EventInWindow` is an event of a channel with the window that shows it best.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import max_pool1d, pad

from captum_apex.attribution.decomposition import Decomposition
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.bases.schemes import Scheme
from captum_apex.classifiers.classifier import Classifier
from captum_apex.explanations.events import ChannelEvent, RecordingExplanation, joined
from captum_apex.explanations.evidence import side_of
from captum_apex.explanations.recording_grid import RecordingGrid
from captum_apex.recordings.windows import Windows

__all__ = ["EventInWindow", "WindowMerger"]


class EventInWindow(NamedTuple):
    """An event of one channel, and the window that shows it best.

    The window is the one that covers the most columns of the event, and among several the one in which the channel has
    the largest contribution.

    Args:
        event: the event.
        window: start of the window, in s.
        columns: the first column of the event and the column after the last, counted from the first column of the
            window, and inside it.
        rows: the first row of the event and the row after the last.
        n_rows: number of rows; 1 where one row stands for the whole band.

    Example:
        >>> from captum_apex.explanations import ChannelEvent
        >>> from captum_apex.explanations.merging import EventInWindow
        >>> event = ChannelEvent(6.0, 6.5, None, None, 0, "dog", 0.875, channel=17, side=1, contribution=2.5)
        >>> EventInWindow(event, window=5.0, columns=(2, 3), rows=(0, 1), n_rows=1).columns
        (2, 3)
    """

    event: ChannelEvent
    window: float
    columns: tuple[int, int]
    rows: tuple[int, int]
    n_rows: int


class _EvidenceKey(NamedTuple):
    """A channel in the evidence for a class.

    Args:
        label: index of the class.
        channel: index of the channel in the basis.
        side: 1, or −1 where the channel supports the class by a negative activation.
    """

    label: int
    channel: int
    side: int


class _WindowEvidence(NamedTuple):
    """The evidence of one key in one window, without its map.

    Args:
        start: start of the window, in s.
        first: the first column of the window, counted from the start of the recording.
        contribution: contribution of the channel to the logit of the class in the window.
        score: probability of the class in the window.
    """

    start: float
    first: int
    contribution: float
    score: float

    def columns_between(self, first: int, end: int, n_columns: int) -> tuple[int, int]:
        """The columns from `first` to `end`, exclusive, that the window covers, counted from its first column.

        Args:
            first: the first column, counted from the start of the recording.
            end: the column after the last one.
            n_columns: number of columns in a window.
        """
        return max(first - self.first, 0), min(end - self.first, n_columns)


@dataclass
class _Stretch:
    """The maps of one key in consecutive windows that overlap or touch.

    The maps are added up as they come: single maps of a long recording would leave the memory fragmented.

    Args:
        first: the first column of the stretch, counted from the start of the recording.
        sums: sum of the maps, (frequency, time); longer than the stretch, so that it can grow.
        counts: number of windows that cover each column, (time,), as long as `sums`.
        windows: the evidence in each window, in the order of time.
    """

    first: int
    sums: Tensor
    counts: Tensor
    windows: list[_WindowEvidence] = field(default_factory=list)

    def add(self, window: _WindowEvidence, relevance: Tensor) -> None:
        """Adds the next window with its map (frequency, time)."""
        start = window.first - self.first
        columns = slice(start, start + relevance.shape[1])
        if columns.stop > len(self.counts):
            # The space is doubled, so that a long stretch is copied only a few times.
            extra = columns.stop
            self.sums = pad(self.sums, (0, extra))
            self.counts = pad(self.counts, (0, extra))
        self.sums[:, columns] += relevance
        self.counts[columns] += 1
        self.windows.append(window)

    def merged(self, n_columns: int) -> Tensor:
        """The mean of the maps at every column of the stretch, (frequency, time).

        Args:
            n_columns: number of columns in a window.
        """
        end = self.windows[-1].first + n_columns - self.first
        return self.sums[:, :end] / self.counts[:end]

    def windows_over(self, first: int, end: int, n_columns: int) -> list[_WindowEvidence]:
        """The evidence in the windows that cover a column from `first` to `end`, exclusive.

        Args:
            first: the first column, counted from the start of the recording.
            end: the column after the last one.
            n_columns: number of columns in a window.
        """
        # By bisection, because a recording of a night has many windows and many events.
        start = bisect_right(self.windows, first - n_columns, key=attrgetter("first"))
        return self.windows[start : bisect_left(self.windows, end, key=attrgetter("first"))]


@dataclass
class WindowMerger:
    """Merges the windows of a recording: `of` begins, `add` takes one detected class of one window, `explanation` ends.

    Args:
        grid: the grid of the layer, continued over the recording.
        scheme: scheme of the basis.
        level: share of the largest relevance nearby that an event must reach, in (0, 1].
        class_names: name of each class.
        gap: longest pause inside an event, in s.
        duration: duration of the recording, in s.
        n_columns: number of columns up to the end of the last window.
        evidence: evidence over time: index of each class that is detected so far → sum over the windows, float32
            (time,), and number of windows, int32 (time,), on the columns of the recording.
        stretches: the open stretch of each key.
        events: events of single channels of the stretches that are closed, each with its window.
        is_repeated: whether the recording was repeated to the length of its only window.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from captum_apex import Classifier, LayerAPEX, PrototypeBasis
        >>> from captum_apex.recordings.windows import Windows
        >>> from captum_apex.explanations.merging import WindowMerger
        >>> layer = nn.ReLU()
        >>> model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> classifier = Classifier(model, lambda waveform: waveform[None, None], 4, ["dog"])
        >>> windows = Windows.of(torch.tensor([0.0, 0.0, 0.0, 8.0, 8.0, 0.0, 0.0, 0.0]), 4, 1.0, 1.0)
        >>> inputs = torch.stack([classifier.inputs(waveform) for _, waveform in windows])
        >>> basis = PrototypeBasis(torch.eye(1), "time")
        >>> decomposition = LayerAPEX(model, layer, basis).decompose(inputs, target=0)
        >>> merger = WindowMerger.of(classifier, windows, inputs, decomposition, basis)
        >>> for clip, start in enumerate([0.0, 1.0]):
        ...     merger.add(start, 0, 0.9, decomposition, clip, torch.ones(2, 1, dtype=torch.bool))
        >>> [(event.name, event.start, event.end, event.contribution) for event in merger.explanation().events]
        [('dog', 0.75, 1.25, 2.0)]
    """

    grid: RecordingGrid
    scheme: Scheme
    level: float
    gap: float
    class_names: Sequence[str]
    duration: float
    n_columns: int
    evidence: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    stretches: dict[_EvidenceKey, _Stretch] = field(default_factory=dict)
    events: list[EventInWindow] = field(default_factory=list)
    is_repeated: bool = False

    @classmethod
    def of(
        cls,
        classifier: Classifier,
        windows: Windows,
        inputs: Tensor,
        decomposition: Decomposition,
        basis: PrototypeBasis,
        *,
        level: float = 0.5,
        gap: float = 0.0,
    ) -> WindowMerger:
        """A merger without any window.

        Args:
            classifier: the classifier.
            windows: the windows of the recording.
            inputs: inputs of the model for some windows, which show the size of an input.
            decomposition: a decomposition of these inputs, which shows the size of the layer's grid.
            basis: the basis, for its scheme and the places of the layer's cells.
            level: share of the largest relevance nearby that an event must reach, in (0, 1].
            gap: longest pause inside an event, in s.
        """
        rate = windows.sample_rate
        scheme = basis.scheme
        classifier.check_times(windows.waveform(0), inputs[0], "the first window")
        bands = scheme is not Scheme.TIME
        places = basis.origin.places
        duration = windows.seconds
        maps = decomposition.relevance
        grid = RecordingGrid.of(classifier, duration, inputs, maps, bands=bands, places=places)
        n_columns = grid.first_column(windows.starts[-1] / rate) + grid.n_columns
        duration_of_recording = windows.n_samples / rate
        merger = cls(grid, scheme, level, gap, tuple(classifier.class_names), duration_of_recording, n_columns)
        merger.is_repeated = windows.is_repeated
        return merger

    def add(
        self, start: float, label: int, score: float, decomposition: Decomposition, clip: int, selected: Tensor
    ) -> None:
        """Adds the evidence for a class in a window; the windows of a class come in the order of time.

        Args:
            start: start of the window, in s.
            label: index of the class.
            score: probability of the class in the window.
            decomposition: decomposition of a batch of windows for the class.
            clip: index of the window in the batch.
            selected: the channels of the evidence, bool (clip, channel).
        """
        channels = selected[clip].nonzero()[:, 0]
        relevance = decomposition.relevance[clip, channels].cpu()  # (selected channel, frequency, time)
        contributions = relevance.sum((1, 2)).tolist()
        activations = decomposition.activations[clip, channels].tolist()
        first = self.grid.first_column(start)
        maps = self._laid_out(relevance)
        self._add_evidence(label, first, maps.sum((0, 1)))
        for channel, activation, map_of_channel, contribution in zip(
            channels.tolist(), activations, maps, contributions, strict=True
        ):
            key = _EvidenceKey(label, channel, side_of(activation))
            self._add_map(key, _WindowEvidence(start, first, contribution, score), map_of_channel)

    def _laid_out(self, maps: Tensor) -> Tensor:
        """Maps (channel, frequency, time) as the scheme and the recording's grid have them."""
        if len(self.grid.hertz) == 2:
            maps = maps.sum(1, keepdim=True)
        if self.scheme is Scheme.FREQUENCY:
            maps = maps.mean(2, keepdim=True).expand_as(maps)
        maps = self.grid.fitted(maps)
        return self.grid.folded(maps, self.duration) if self.is_repeated else maps

    def _add_evidence(self, label: int, first: int, profile: Tensor) -> None:
        """Adds the evidence over time, (time,), for a class in a window, in logit per column, from column `first`."""
        empty = (torch.zeros(self.n_columns), torch.zeros(self.n_columns, dtype=torch.int32))
        sums, counts = self.evidence.setdefault(label, empty)
        columns = slice(first, first + len(profile))
        sums[columns] += profile / self.grid.step
        counts[columns] += 1

    def _add_map(self, key: _EvidenceKey, window: _WindowEvidence, relevance: Tensor) -> None:
        """Adds the map (frequency, time) of a key in a window to its stretch; closes the stretch that ended before."""
        stretch = self.stretches.get(key)
        if stretch is not None and window.first > stretch.windows[-1].first + self.grid.n_columns:
            self._close(key)
            stretch = None
        if stretch is None:
            stretch = _Stretch(window.first, torch.zeros_like(relevance), torch.zeros(relevance.shape[1]))
            self.stretches[key] = stretch
        stretch.add(window, relevance)

    def _close(self, key: _EvidenceKey) -> None:
        """Cuts the stretch of a key into events."""
        stretch = self.stretches.pop(key)
        merged = stretch.merged(self.grid.n_columns)
        # The model may respond to the zeros that pad a short recording. No event of the recording is compared with
        # that.
        merged[:, max(0, self.grid.columns_within(self.duration) - stretch.first) :] = 0
        for first, end in _column_runs(merged.sum(0), self.level, self.grid.n_columns):
            rows = _row_range(merged[:, first:end].sum(1), self.level)
            self.events.append(self._event(key, stretch, stretch.first + first, stretch.first + end, rows))

    def _event(self, key: _EvidenceKey, stretch: _Stretch, first: int, end: int, rows: Sequence[int]) -> EventInWindow:
        """The event from column `first` to `end`, exclusive, and from the first to the second of two edges of rows."""
        n_rows = len(self.grid.hertz) - 1
        low, high = (None, None) if list(rows) == [0, n_rows] else sorted(self.grid.hertz[rows].tolist())
        windows = stretch.windows_over(first, end, self.grid.n_columns)
        event = ChannelEvent(
            start=max(0.0, self.grid.time(first)),
            end=min(self.grid.time(end), self.duration),
            low=low,
            high=high,
            label=key.label,
            name=self.class_names[key.label],
            score=max(window.score for window in windows),
            channel=key.channel,
            side=key.side,
            contribution=max(window.contribution for window in windows),
        )
        return self._in_best_window(event, windows, first, end, rows)

    def _in_best_window(
        self, event: ChannelEvent, windows: Sequence[_WindowEvidence], first: int, end: int, rows: Sequence[int]
    ) -> EventInWindow:
        def rank(window: _WindowEvidence) -> tuple[int, float]:
            start, stop = window.columns_between(first, end, self.grid.n_columns)
            return stop - start, window.contribution

        best = max(windows, key=rank)
        columns = best.columns_between(first, end, self.grid.n_columns)
        low, high = rows
        return EventInWindow(event, best.start, columns, (low, high), len(self.grid.hertz) - 1)

    def explanation(
        self, refined: Callable[[Sequence[EventInWindow]], Sequence[ChannelEvent]] | None = None
    ) -> RecordingExplanation:
        """Closes the open stretches, and gives the events and the evidence over time of the whole recording.

        Args:
            refined: function that gives the events of the channels better edges, in the same order; None leaves those
                of the columns and rows.
        """
        for key in list(self.stretches):
            self._close(key)
        coarse = [each.event for each in self.events]
        channel_events = coarse if refined is None else refined(self.events)
        # Regions of two channels can lie apart although the channels respond to one sound, so that the columns count.
        spans = [
            (min(each.start, before.start), max(each.end, before.end))
            for each, before in zip(channel_events, coarse, strict=True)
        ]
        low = self.grid.hertz.min().item()
        high = self.grid.hertz.max().item()
        events = joined(channel_events, self.gap, spans=spans, whole_band=(low, high))
        n_columns = min(self.n_columns, self.grid.columns_within(self.duration))
        evidence = {
            label: sums[:n_columns] / counts[:n_columns].clamp_min(1)
            for label, (sums, counts) in sorted(self.evidence.items())
        }
        times = self.grid.offset + (torch.arange(n_columns).double() + 0.5) * self.grid.step
        return RecordingExplanation(tuple(events), evidence, times, self.duration, self.grid.hears)


def _column_runs(profile: Tensor, level: float, reach: int) -> list[tuple[int, int]]:
    """The runs of columns whose value is above 0 and at least `level` times the largest value nearby.

    Args:
        profile: value of each column, (time,).
        level: share of the largest value, in (0, 1].
        reach: number of columns on either side among which the largest value is sought.

    Returns:
        The first column of each run, and the column after its last one.
    """
    largest = max_pool1d(profile[None], 2 * reach + 1, stride=1, padding=reach)[0]
    reached = (profile >= level * largest) & (profile > 0)
    edges = pad(reached.int(), (1, 1)).diff()
    starts = (edges == 1).nonzero()[:, 0].tolist()
    ends = (edges == -1).nonzero()[:, 0].tolist()
    return list(zip(starts, ends, strict=True))


def _row_range(profile: Tensor, level: float) -> list[int]:
    """The first row that reaches `level` times the largest value of (frequency,), and the row after the last."""
    reached = (profile >= level * profile.max()).nonzero()[:, 0].tolist()
    return [reached[0], reached[-1] + 1]
