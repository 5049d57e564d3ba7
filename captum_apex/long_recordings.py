"""Long recordings: what the model heard in each of their windows, merged on one time axis, as events."""

from __future__ import annotations

import math
import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import max_pool1d, pad
from tqdm.auto import tqdm

from captum_apex.attribution import APEX, LayerAPEX
from captum_apex.classifier import Classifier
from captum_apex.events import Event
from captum_apex.evidence import Decomposition
from captum_apex.layers import model_of
from captum_apex.schemes import Scheme
from captum_apex.windows import Windows

__all__ = ["RecordingExplanation", "explain_recording"]


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


def explain_recording(
    apex: APEX | LayerAPEX,
    waveform: Tensor | str | os.PathLike,
    window: float,
    hop: float,
    *,
    classifier: Classifier,
    threshold: float = 0.5,
    probabilities: Callable[[Tensor], Tensor] = torch.sigmoid,
    n_channels: int = 3,
    sides: str = "positive",
    level: float = 0.5,
    batch_size: int = 8,
    progress: bool = False,
) -> RecordingExplanation:
    """Slides over a recording of any length, and lists what the model heard in it.

    The model runs once on every window, for all classes. A class is *heard* in a window where its probability reaches `threshold`. Its
    evidence there are the `n_channels` channels that add most to its logit; each has a map `R_k` on the layer's grid, which is laid on the
    recording's columns: a window that begins at `s` has its first column at the one nearest to `s`.

    *Merging.* A channel's merged map for a class, `M(f, t)`, is the mean of its maps in the windows that cover `t` and have the channel in
    the class's evidence. Such windows that overlap or touch make one stretch; between stretches there is nothing.

    *Events* are the runs of columns with `r(t) ≥ level · max r > 0`, where `r(t) = Σ_f M(f, t)`, and the maximum is taken over a window's
    length on either side of `t`, within the stretch. So what several windows hear is one event, also where it is longer than a window, and
    a quiet sound is not lost because a loud one comes minutes later. The band of an event spans the rows with `q(f) ≥ level · max q`, where
    `q` sums `M` over the event. The scheme `time` does not look at bands: the band is the whole one, as it is for a classifier without
    axes. Nor does `frequency` look at times: each map is spread evenly over its window.

    *Evidence over time* of a class is the sum of its evidence channels' maps over frequency, averaged over the windows that cover `t` and
    hear the class.

    Memory grows with what is heard, not with the recording: it takes the events, two numbers per column and class, and a map of each
    stretch that is not over yet. A file is read window by window.

    Args:
        apex: `APEX` or `LayerAPEX`; prototypes are not needed.
        waveform: (sample,) at the classifier's rate, or the path of an audio file.
        window: in s; what the model was trained on, as a rule. The last one ends where the recording does; a shorter recording is padded
            with zeros, in which nothing is found.
        hop: from one window to the next, in s, at most a window; half of it is usual.
        classifier: how the model hears: the transform, the rate, the axes and the class names.
        threshold: in [0, 1].
        probabilities: from logits (clip, class) to probabilities; the sigmoid suits several labels per clip, and a single logit. For
            exclusive classes `lambda logits: logits.softmax(-1)`.
        n_channels: size of a class's evidence in a window.
        sides: `"positive"`, or `"both"` to count channels that speak through a negative activation.
        level: in (0, 1]; the smaller, the longer and wider an event.
        batch_size: windows per forward pass.
        progress: show a progress bar.

    Raises:
        ValueError: a setting is out of range, the recording holds NaN or infinity, or it cannot be cut or heard; see `Windows`.
        FileNotFoundError: there is no such file.

    >>> from captum_apex import PrototypeBasis
    >>> from captum_apex.layers import Layout, Origin
    >>> layer = torch.nn.Sequential(torch.nn.Conv1d(1, 2, 400, 400), torch.nn.ReLU())
    >>> model = torch.nn.Sequential(layer, torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten(), torch.nn.Linear(2, 3))
    >>> basis = PrototypeBasis(torch.eye(2), "time", origin=Origin(layout=Layout("n c t -> n c 1 t")))
    >>> classifier = Classifier(model, lambda waveform: waveform[None], 8000, ["dog", "rain", "siren"])
    >>> found = explain_recording(LayerAPEX(model, layer, basis), torch.randn(80000), 1.0, 0.5, classifier=classifier, threshold=0.0)
    >>> found.duration, sorted(found.evidence)
    (10.0, [0, 1, 2])
    """
    if not 0 <= threshold <= 1 or not 0 < level <= 1:
        raise ValueError(f"expected `threshold` in [0, 1] and `level` in (0, 1], but got {threshold} and {level}")
    if batch_size < 1:
        raise ValueError(f"expected `batch_size` to be at least 1, but got {batch_size}")
    at_layer = apex.layer_apex if isinstance(apex, APEX) else apex
    windows = Windows.of(waveform, classifier.sample_rate, window, hop, convert=classifier.convert)
    sounds, found = iter(windows), None
    with tqdm(total=len(windows), unit="window", desc="explaining", disable=not progress) as bar:
        while batch := list(islice(sounds, batch_size)):
            starts = [start / windows.sample_rate for start, _ in batch]
            inputs = torch.stack(
                [classifier.inputs(sound, f"the window at {at:g} s") for at, (_, sound) in zip(starts, batch, strict=True)]
            )
            for label, parts, heard in _heard(at_layer, inputs, len(classifier.class_names), threshold, probabilities):
                found = found or _Found.of(classifier, windows, inputs, parts, at_layer.basis.scheme, level)
                chosen = at_layer.evidence(parts, n_channels, sides)
                for clip in (heard >= threshold).nonzero()[:, 0].tolist():
                    found.add(starts[clip], label, heard[clip].item(), parts, clip, chosen)
            bar.update(len(batch))
    if found is None:
        return RecordingExplanation((), {}, torch.empty(0, dtype=torch.float64), windows.n_samples / windows.sample_rate)
    return found.result()


def _heard(
    at_layer: LayerAPEX, inputs: Tensor, n_classes: int, threshold: float, probabilities: Callable[[Tensor], Tensor]
) -> Iterator[tuple[int, Decomposition, Tensor]]:
    """Each class that is heard in some clip, with the clips taken apart for it, and its probability in each, (clip,)."""
    heard: list[Tensor] = []

    def targets(output: Tensor) -> list[int | None]:
        logits = output[:, None] if output.dim() == 1 else output
        if logits.shape != (len(inputs), n_classes):
            raise ValueError(f"expected the model to give one score for each of the {n_classes} classes, but got {tuple(output.shape)}")
        heard.append(_checked(probabilities(logits), logits))
        labels = (heard[0] >= threshold).any(0).nonzero()[:, 0].tolist()
        return labels if logits.shape[1] > 1 else [None for _ in labels]

    model = model_of(at_layer.forward_func) or at_layer.layer
    device = next((tensor.device for tensor in model.parameters()), inputs.device)
    lengths = None if at_layer.columns is None else torch.full((len(inputs),), inputs.shape[-1], device=device)  # no window is padded
    for parts in at_layer.decompose_each(inputs.to(device), targets, lengths):
        label = 0 if parts.target is None else parts.target
        assert isinstance(label, int)
        yield label, parts, heard[0][:, label].cpu()


def _checked(probabilities: Tensor, logits: Tensor) -> Tensor:
    if probabilities.shape != logits.shape or not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError(
            f"expected `probabilities` to give (clip, class) of shape {tuple(logits.shape)}, in [0, 1], but got shape "
            f"{tuple(probabilities.shape)} with values from {probabilities.min():g} to {probabilities.max():g}"
        )
    return probabilities


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
class _Found:
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
    def of(cls, classifier: Classifier, windows: Windows, inputs: Tensor, parts: Decomposition, scheme: Scheme, level: float) -> _Found:
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
            stretch = self.stretches.setdefault(voice, _Stretch(first, torch.zeros_like(own), torch.zeros(own.shape[1])))
            stretch.add(_Shown(first, contribution, score), own)

    def _add_evidence(self, label: int, first: int, profile: Tensor) -> None:
        sums, counts = self.evidence.setdefault(label, (torch.zeros(self.n_columns), torch.zeros(self.n_columns, dtype=torch.int32)))
        own = slice(first, first + len(profile))
        sums[own] += profile / self.grid.step
        counts[own] += 1

    def _close(self, voice: _Voice) -> None:
        """Turns a stretch that is over into its events."""
        stretch, grid = self.stretches.pop(voice), self.grid
        origin, merged = stretch.first, stretch.merged(grid.n_columns)
        merged[:, max(0, grid.within(self.duration) - origin) :] = 0  # the zeros after a short recording are no sound to be quieter than
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
        evidence = {label: (sums / counts.clamp_min(1))[:n_columns] for label, (sums, counts) in sorted(self.evidence.items())}
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
