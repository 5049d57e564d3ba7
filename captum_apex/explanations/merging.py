"""The maps of overlapping windows, merged on one time axis and cut into events."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import max_pool1d, pad

from captum_apex.attribution.decomposition import Decomposition
from captum_apex.bases.schemes import Scheme
from captum_apex.classifiers.classifier import Classifier
from captum_apex.explanations.events import Event, RecordingExplanation
from captum_apex.recordings.windows import Windows

__all__ = ["Findings"]


@dataclass(frozen=True, eq=False)
class _Grid:
    """The layer's grid on the recording.

    Args:
        offset: from the start of a window to its first column, in s.
        step: the length of a column, in s.
        n_columns: how many of them a window covers.
        hertz: where each row begins and the last one ends, (frequency + 1,); two values for the whole band.
    """

    offset: float
    step: float
    n_columns: int
    hertz: Tensor

    @classmethod
    def of(cls, classifier: Classifier, length: float, inputs: Tensor, maps: Tensor, *, bands: bool) -> _Grid:
        """The grid of maps (…, frequency, time), which the layer has for inputs of windows of a length in s; one row without bands."""
        (n_rows, n_columns), axes = maps.shape[-2:], classifier.axes
        if axes is None:
            return cls(0.0, length / n_columns, n_columns, torch.tensor([0.0, classifier.sample_rate / 2]).double())
        n_frames = inputs.shape[-1 if classifier.input_layout is None else classifier.input_layout.split().index("t")]
        start, end = axes.seconds(0.0), axes.seconds(float(n_frames))
        step, rows = (end - start) / n_columns, torch.linspace(0, axes.n_bins, (n_rows if bands else 1) + 1).double()
        return cls(start, step, _n_whole(length / step), axes.hertz(rows))

    def first(self, start: float) -> int:
        """The recording's column that is the first one of a window at `start`, in s."""
        return round(start / self.step)

    def within(self, duration: float) -> int:
        """How many of the recording's columns begin before its end, in s."""
        return _n_whole((duration - self.offset) / self.step)

    def laid(self, maps: Tensor) -> Tensor:
        """Maps (…, time) on the columns that a window covers: without what a transform pads; what it leaves out is as its last column."""
        return maps[..., torch.arange(self.n_columns).clamp(max=maps.shape[-1] - 1)]


class _Voice(NamedTuple):
    """Who speaks, and for whom."""

    label: int
    channel: int
    side: int


class _Shown(NamedTuple):
    """What a window shows of one voice, beside its map: its first column in the recording, and how much."""

    first: int
    contribution: float
    score: float


@dataclass
class _Stretch:
    """The maps of windows that overlap or touch, as sums and numbers of windows: kept one by one they would leave the memory in pieces.

    Args:
        first: its first column in the recording.
        sums: (frequency, time), longer than the stretch, which may grow.
        counts: (time,).
        shown: by each window.
    """

    first: int
    sums: Tensor
    counts: Tensor
    shown: list[_Shown] = field(default_factory=list)

    def add(self, shown: _Shown, relevance: Tensor) -> None:
        """One more window, with its map (frequency, time)."""
        own = slice(shown.first - self.first, shown.first - self.first + relevance.shape[1])
        if own.stop > len(self.counts):
            room = own.stop  # twice as long, so that a long stretch is copied a few times only
            self.sums, self.counts = pad(self.sums, (0, room)), pad(self.counts, (0, room))
        self.sums[:, own] += relevance
        self.counts[own] += 1
        self.shown.append(shown)

    def merged(self, n_columns: int) -> Tensor:
        """The mean of the maps at every column, (frequency, time), for windows of so many columns."""
        end = self.shown[-1].first + n_columns - self.first
        return self.sums[:, :end] / self.counts[:end]

    def showing(self, first: int, end: int, n_columns: int) -> list[_Shown]:
        """What the windows, of so many columns, show that cover one of the recording's columns from `first` to `end`."""
        # They are in order. A night has many windows and many events: to look at all for each would take hours.
        begins = bisect_right(self.shown, first - n_columns, key=lambda one: one.first)
        return self.shown[begins : bisect_left(self.shown, end, key=lambda one: one.first)]


@dataclass
class Findings:
    """What the windows have shown so far: sums and numbers of windows of each class's evidence, open stretches, events of closed ones."""

    grid: _Grid
    scheme: Scheme
    level: float
    names: Sequence[str]
    duration: float
    n_columns: int
    evidence: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    stretches: dict[_Voice, _Stretch] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        classifier: Classifier,
        windows: Windows,
        inputs: Tensor,
        parts: Decomposition,
        scheme: Scheme,
        level: float,
    ) -> Findings:
        """Nothing yet, for windows of which the first inputs were taken apart."""
        rate, bands = windows.sample_rate, scheme is not Scheme.TIME
        grid = _Grid.of(classifier, windows.length / rate, inputs, parts.relevance, bands=bands)
        n_columns = grid.first(windows.starts[-1] / rate) + grid.n_columns
        return cls(grid, scheme, level, tuple(classifier.class_names), windows.n_samples / rate, n_columns)

    def add(self, start: float, label: int, score: float, parts: Decomposition, clip: int, chosen: Tensor) -> None:
        """What the window at `start`, in s, shows of a class that is heard in it."""
        channels = chosen[clip].nonzero()[:, 0]
        maps, first = parts.relevance[clip, channels].cpu(), self.grid.first(start)
        contributions = maps.sum((1, 2)).tolist()
        sides = [1 if activation > 0 else -1 for activation in parts.activations[clip, channels].tolist()]
        if len(self.grid.hertz) == 2:
            maps = maps.sum(1, keepdim=True)
        if self.scheme is Scheme.FREQUENCY:
            maps = maps.mean(2, keepdim=True).expand_as(maps)
        maps = self.grid.laid(maps)
        self._add_evidence(label, first, maps.sum((0, 1)))
        for channel, side, own, contribution in zip(channels.tolist(), sides, maps, contributions, strict=True):
            voice = _Voice(label, channel, side)
            if voice in self.stretches and first > self.stretches[voice].shown[-1].first + self.grid.n_columns:
                self._close(voice)
            stretch = self.stretches.setdefault(
                voice, _Stretch(first, torch.zeros_like(own), torch.zeros(own.shape[1]))
            )
            stretch.add(_Shown(first, contribution, score), own)

    def _add_evidence(self, label: int, first: int, profile: Tensor) -> None:
        sums, counts = self.evidence.setdefault(
            label, (torch.zeros(self.n_columns), torch.zeros(self.n_columns, dtype=torch.int32))
        )
        own = slice(first, first + len(profile))
        sums[own] += profile / self.grid.step
        counts[own] += 1

    def _close(self, voice: _Voice) -> None:
        """Turns a stretch that is over into its events."""
        stretch, grid = self.stretches.pop(voice), self.grid
        origin, merged = stretch.first, stretch.merged(grid.n_columns)
        merged[:, max(0, grid.within(self.duration) - origin) :] = (
            0  # the zeros after a short recording are no sound to be quieter than
        )
        for first, end in _runs(merged.sum(0), self.level, grid.n_columns):
            start, stop = (grid.offset + (origin + column) * grid.step for column in (first, end))
            low, high = grid.hertz[_hull(merged[:, first:end].sum(1), self.level)].tolist()
            shown = stretch.showing(origin + first, origin + end, grid.n_columns)
            score, contribution = max(one.score for one in shown), max(one.contribution for one in shown)
            about = (voice.label, self.names[voice.label], score, voice.channel, voice.side, contribution)
            self.events.append(Event(max(0.0, start), min(stop, self.duration), low, high, *about))

    def result(self) -> RecordingExplanation:
        """The end of the recording."""
        for voice in list(self.stretches):
            self._close(voice)
        order = sorted(self.events, key=lambda event: (event.start, event.label, event.channel, event.side))
        n_columns = min(self.n_columns, self.grid.within(self.duration))
        evidence = {
            label: (sums / counts.clamp_min(1))[:n_columns] for label, (sums, counts) in sorted(self.evidence.items())
        }
        times = self.grid.offset + (torch.arange(n_columns).double() + 0.5) * self.grid.step
        return RecordingExplanation(tuple(order), evidence, times, self.duration)


def _n_whole(columns: float) -> int:
    """So many columns, the last one whole: one that is there by a rounding error alone is none."""
    return math.ceil(round(columns, 6))


def _runs(profile: Tensor, level: float, reach: int) -> list[tuple[int, int]]:
    """First and end of each run of columns that reach the level: a share of the largest value within `reach` columns on either side."""
    largest = max_pool1d(profile[None], 2 * reach + 1, stride=1, padding=reach)[0]
    edges = pad(((profile >= level * largest) & (profile > 0)).int(), (1, 1)).diff()
    return list(zip((edges == 1).nonzero()[:, 0].tolist(), (edges == -1).nonzero()[:, 0].tolist(), strict=True))


def _hull(profile: Tensor, level: float) -> list[int]:
    """The first row that reaches the level, a share of the largest, and the one after the last."""
    reached = (profile >= level * profile.max()).nonzero()[:, 0].tolist()
    return [reached[0], reached[-1] + 1]
