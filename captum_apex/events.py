"""Long recordings: what the model heard, when and in which band, as a table of events."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_apex.attribution import APEX, LayerAPEX
from captum_apex.classifier import Classifier
from captum_apex.evidence import Decomposition
from captum_apex.files import replaced
from captum_apex.schemes import Scheme
from captum_apex.windows import Windows

__all__ = ["Event", "RecordingExplanation", "explain_recording", "write_audacity", "write_raven"]


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
        score: the class's largest probability in the windows that the event was found in, in [0, 1].
        channel: of the basis.
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
    contribution: float


@dataclass(frozen=True, eq=False)
class RecordingExplanation:
    """What was found in a recording.

    Args:
        events: sorted by start, then by class and channel; `pandas.DataFrame(found.events)` is the table.
        evidence: class → its evidence over time, (time,), in logit per second; 0 where the class is not heard.
        step: seconds from one value of the evidence to the next.
        duration: of the recording, in s.
    """

    events: tuple[Event, ...]
    evidence: Mapping[int, Tensor]
    step: float
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
    evidence there are the `n_channels` channels that add most to its logit; each has a map `R_k` on the layer's grid. With the map's sums
    `r(t)` over frequency, a channel's *parts* are the runs of columns with `r(t) ≥ level · max r`, and the band of a part spans the rows
    with `q(f) ≥ level · max q`, where `q` sums the part over time. The scheme `time` does not look at bands, nor `frequency` at times: a
    part is then the whole band, or the whole window.

    Parts of one class and channel that overlap or touch in time (up to half a column), and overlap in frequency, are one event: it spans
    them all. So what several windows hear is one event, also where it is longer than a window.

    The evidence over time is the evidence channels' `r(t)`, averaged over the windows that cover `t` and hear the class.

    Memory does not grow with the recording, but for the events and one number per column and class that is heard. A file is read window by
    window.

    Args:
        apex: `APEX` or `LayerAPEX`; prototypes are not needed.
        waveform: (sample,) at the classifier's rate, or the path of an audio file.
        window: in s; what the model was trained on, as a rule. The last one ends where the recording does; a shorter recording is padded.
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
    """
    if not 0 <= threshold <= 1 or not 0 < level <= 1:
        raise ValueError(f"expected `threshold` in [0, 1] and `level` in (0, 1], but got {threshold} and {level}")
    at_layer = apex.layer_apex if isinstance(apex, APEX) else apex
    windows = Windows.of(waveform, classifier.sample_rate, window, hop, convert=classifier.convert)
    found: _Found | None = None
    with tqdm(total=len(windows), unit="window", desc="explaining", disable=not progress) as bar:
        sounds = iter(windows)
        while batch := list(islice(sounds, batch_size)):
            inputs = torch.stack([classifier.inputs(sound, f"the window at {start / windows.sample_rate:g} s") for start, sound in batch])
            starts = [start / windows.sample_rate for start, _ in batch]
            for label, parts, heard in _heard(at_layer, inputs, threshold, probabilities):
                found = found or _Found(_Place.of(classifier, windows, inputs, parts), at_layer.basis.scheme, level)
                chosen = at_layer.evidence(parts, n_channels, sides)
                for i in (heard >= threshold).nonzero()[:, 0].tolist():
                    found.add(starts[i], label, heard[i].item(), parts.relevance[i], chosen[i])
            bar.update(len(batch))
    duration = windows.n_samples / windows.sample_rate
    if found is None:
        return RecordingExplanation((), {}, window, duration)
    return found.result(classifier.class_names, duration)


def _heard(
    at_layer: LayerAPEX, inputs: Tensor, threshold: float, probabilities: Callable[[Tensor], Tensor]
) -> Iterator[tuple[int, Decomposition, Tensor]]:
    """Each class that is heard in some clip, with the clips taken apart for it, and its probability in each, (clip,)."""
    heard: list[Tensor] = []

    def targets(output: Tensor) -> list[int | None]:
        logits = output[:, None] if output.dim() == 1 else output
        heard.append(probabilities(logits))
        labels = (heard[0] >= threshold).any(0).nonzero()[:, 0].tolist()
        return labels if logits.shape[1] > 1 else [None for _ in labels]

    device = next((tensor.device for tensor in at_layer.layer.parameters()), inputs.device)
    for parts in at_layer.decompose_each(inputs.to(device), targets):
        label = 0 if parts.target is None else parts.target
        assert isinstance(label, int)
        yield label, parts, heard[0][:, label].cpu()


class _Part(NamedTuple):
    """Where one window shows a channel; in s of the recording, and Hz."""

    start: float
    end: float
    low: float
    high: float


@dataclass(frozen=True)
class _Place:
    """The grid's columns in seconds of the window, (time + 1,) edges, and its rows in Hz, (frequency + 1,)."""

    seconds: Tensor
    hertz: Tensor
    length: float

    @classmethod
    def of(cls, classifier: Classifier, windows: Windows, inputs: Tensor, parts: Decomposition) -> _Place:
        n_rows, n_columns = parts.relevance.shape[2:]
        rows, columns = torch.linspace(0, 1, n_rows + 1).double(), torch.linspace(0, 1, n_columns + 1).double()
        axes, length = classifier.axes, windows.length / windows.sample_rate
        if axes is None:
            return cls(columns * length, rows * windows.sample_rate / 2, length)
        return cls(axes.seconds(columns * inputs.shape[-1]), axes.hertz(rows * axes.n_bins), length)

    @property
    def n_columns(self) -> int:
        """Columns that begin within the window; what a transform pads after its end is no sound."""
        return int((self.seconds[:-1] < self.length).sum())

    @property
    def step(self) -> float:
        """Seconds of a column."""
        return ((self.seconds[-1] - self.seconds[0]) / (len(self.seconds) - 1)).item()


@dataclass
class _Track:
    """A class's evidence on the recording's columns: sums over windows, and how much of each column they covered."""

    sums: Tensor
    covered: Tensor

    def add(self, position: float, profile: Tensor) -> None:
        """A window's profile, (time,), at a position in columns: each value is shared by the two columns that it lies on."""
        first, share = int(position), position - int(position)
        for offset, weight in ((first, 1 - share), (first + 1, share)):
            own = slice(offset, min(offset + len(profile), len(self.sums)))
            self.sums[own] += weight * profile[: own.stop - own.start]
            self.covered[own] += weight


@dataclass
class _Found:
    """What the windows have shown so far."""

    place: _Place
    scheme: Scheme
    level: float
    tracks: dict[int, _Track] = field(default_factory=dict)
    open: dict[tuple[int, int], list[Event]] = field(default_factory=dict)
    closed: list[Event] = field(default_factory=list)

    def add(self, start: float, label: int, score: float, relevance: Tensor, chosen: Tensor) -> None:
        """What a window at `start` shows of a class: the maps of all channels, (channel, frequency, time), and which are evidence."""
        channels = chosen.nonzero()[:, 0].tolist()
        maps = relevance[channels].double().cpu()
        self._track(label, start, maps.sum((0, 1))[: self.place.n_columns])
        for channel, own in zip(channels, maps, strict=True):
            for part in _parts(own, self.scheme, self.level, self.place):
                event = Event(start + part.start, start + part.end, part.low, part.high, label, "", score, channel, own.sum().item())
                self._join(event, start)

    def _join(self, event: Event, window_start: float) -> None:
        """The event, as one with all those that it overlaps; those that no later window can reach are closed."""
        slack, rest = self.place.step / 2, []
        for other in self.open.get((event.label, event.channel), []):
            if event.start <= other.end + slack and other.start <= event.end + slack and event.low < other.high and other.low < event.high:
                event = _joined(event, other)
            elif other.end + slack < window_start:
                self.closed.append(other)
            else:
                rest.append(other)
        self.open[event.label, event.channel] = [*rest, event]

    def _track(self, label: int, start: float, profile: Tensor) -> None:
        position = start / self.place.step
        track = self.tracks.setdefault(label, _Track(torch.zeros(0), torch.zeros(0)))
        missing = int(position) + len(profile) + 1 - len(track.sums)
        if missing > 0:
            room = torch.zeros(max(missing, len(track.sums)))  # twice as long, so that a long recording is copied a few times only
            track.sums, track.covered = torch.cat([track.sums, room]), torch.cat([track.covered, room])
        track.add(position, profile / self.place.step)

    def result(self, class_names: Iterable[str], duration: float) -> RecordingExplanation:
        names = tuple(class_names)
        cut = [
            Event(e.start, min(e.end, duration), e.low, e.high, e.label, names[e.label], e.score, e.channel, e.contribution)
            for e in (*self.closed, *(event for events in self.open.values() for event in events))
            if e.start < duration
        ]
        n_columns = round(duration / self.place.step)
        evidence = {label: _mean(track, n_columns) for label, track in sorted(self.tracks.items())}
        order = sorted(cut, key=lambda event: (event.start, event.label, event.channel, event.low))
        return RecordingExplanation(tuple(order), evidence, self.place.step, duration)


def _parts(relevance: Tensor, scheme: Scheme, level: float, place: _Place) -> Iterator[_Part]:
    """The parts of a channel's map, (frequency, time): runs of columns that reach the level, each with its band."""
    n_rows, n_columns = relevance.shape
    rows = scheme is not Scheme.TIME
    for first, end in [(0, n_columns)] if scheme is Scheme.FREQUENCY else _runs(relevance.sum(0), level):
        band = _hull(relevance[:, first:end].sum(1), level) if rows else (0, n_rows)
        start, stop = place.seconds[first].item(), min(place.seconds[end].item(), place.length)
        if start < stop:  # what a transform pads is no sound
            yield _Part(start, stop, place.hertz[band[0]].item(), place.hertz[band[1]].item())


def _runs(profile: Tensor, level: float) -> list[tuple[int, int]]:
    """First and end of each run of values that reach the level, as a share of the largest."""
    reached = (profile >= level * profile.max()).int()
    edges = torch.nn.functional.pad(reached, (1, 1)).diff()
    return list(zip((edges == 1).nonzero()[:, 0].tolist(), (edges == -1).nonzero()[:, 0].tolist(), strict=True))


def _hull(profile: Tensor, level: float) -> tuple[int, int]:
    runs = _runs(profile, level)
    return runs[0][0], runs[-1][1]


def _joined(one: Event, other: Event) -> Event:
    return Event(
        min(one.start, other.start),
        max(one.end, other.end),
        min(one.low, other.low),
        max(one.high, other.high),
        one.label,
        one.name,
        max(one.score, other.score),
        one.channel,
        max(one.contribution, other.contribution),
    )


def _mean(track: _Track, n_columns: int) -> Tensor:
    whole = torch.zeros(n_columns)
    sums, covered = track.sums[:n_columns], track.covered[:n_columns]
    whole[: len(sums)] = torch.where(covered > 0, sums / covered.clamp_min(1e-9), 0.0)
    return whole


def write_raven(path: str | os.PathLike, events: Iterable[Event]) -> None:
    """Writes a selection table that Raven Pro and Raven Lite open: tab-separated, one line per event.

    Args:
        path: of the file, such as `recording.Table.1.selections.txt`.
        events: of one recording.

    Source: the selection table format of Raven Pro, Cornell Lab of Ornithology.
    """
    columns = ("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)")
    lines = ["\t".join((*columns, "Class", "Score", "Prototype Channel", "Contribution"))]
    for number, event in enumerate(events, 1):
        place = (f"{event.start:.6f}", f"{event.end:.6f}", f"{event.low:.3f}", f"{event.high:.3f}")
        more = (_one_line(event.name), f"{event.score:.4f}", str(event.channel), f"{event.contribution:.4f}")
        lines.append("\t".join((str(number), "Spectrogram 1", "1", *place, *more)))
    with replaced(path) as beside:
        beside.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_audacity(path: str | os.PathLike, events: Iterable[Event]) -> None:
    """Writes a label track that Audacity imports, with the band of each label.

    Args:
        path: of the file, such as `recording.txt`.
        events: of one recording.

    Source: the label file format of Audacity's manual, "Importing and Exporting Labels".
    """
    lines = []
    for event in events:
        lines.append(f"{event.start:.6f}\t{event.end:.6f}\t{_one_line(event.name)} {event.score:.2f} (channel {event.channel})")
        lines.append(f"\\\t{event.low:.6f}\t{event.high:.6f}")
    with replaced(path) as beside:
        beside.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _one_line(name: str) -> str:
    return " ".join(name.split())
