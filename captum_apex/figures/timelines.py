"""An excerpt of a long recording: its spectrogram with the events outlined, and the evidence over time below it."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from captum_apex.audio.clip import Clip, level_limits
from captum_apex.audio.regions import Place
from captum_apex.explanations.events import Event, RecordingExplanation
from captum_apex.figures.canvas import canvas, panel_width, root
from captum_apex.figures.colours import DARK, class_mark
from captum_apex.figures.outlines import draw_places
from captum_apex.figures.panels import as_array, colour_bar, small_ticks
from captum_apex.figures.spectrogram import draw_clip
from captum_apex.figures.ticks import time_locator
from captum_apex.figures.titles import TINY, fitted, title

__all__ = ["recording"]

_MOST_CLASSES = 4  # in one picture
_MARK = 5.0  # size of a marker, in points
_TOP = 0.95  # height of the markers of events, as a share of the panel


def recording(
    found: RecordingExplanation, clip: Clip, start: float = 0.0, *, figure: Figure | SubFigure | None = None
) -> Figure:
    """Draws an excerpt of a recording: the spectrogram with the events of each class above the evidence over time.

    A class has a colour and a marker, which stands at the top of the spectrogram over each event, and at the largest
    evidence of the event below.

    The four classes with the largest evidence over time in this excerpt are drawn. One outline is around all channel
    events of a class. An event without a band is outlined over all frequencies.

    Args:
        found: the explanation of the whole recording.
        clip: the excerpt to draw, such as `classifier.drawn(waveform[first:end])`; its title is drawn.
        start: the time in the recording at which the excerpt begins, in s.
        figure: the figure or subfigure to draw on; by default a new figure.

    Returns:
        The figure.

    Raises:
        ValueError: the excerpt does not lie in the recording.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, Event, RecordingExplanation, SpectrogramAxes, figures
        >>> event = Event(21.0, 22.0, 1000.0, 2000.0, 0, "dog", 0.9, contribution=2.0)
        >>> times = torch.arange(60.0) + 0.5
        >>> explanation = RecordingExplanation((event,), {0: torch.ones(60)}, times, 60.0)
        >>> clip = Clip(torch.zeros(9, 1001), SpectrogramAxes(8000, 16, 80))
        >>> figure = figures.recording(explanation, clip, start=20.0)
        >>> [line.get_label() for line in figure.axes[1].get_lines()]
        ['dog']
        >>> [tick.get_text() for tick in figure.axes[1].get_xticklabels()]
        ['20', '22', '24', '26', '28', '30']
    """
    end = start + clip.duration
    if not (start >= 0 and end <= found.duration + 0.01):
        raise ValueError(
            f"expected an excerpt of the {found.duration:g} s of the recording, but got one from {start:g} to {end:g} s"
        )
    target = canvas(figure, 8.0, 4.0)
    spectrogram, evidence = target.subplots(2, 1, height_ratios=[2, 1])
    image = draw_clip(spectrogram, clip, level_limits([clip]))
    for rank, label in enumerate(_strongest_classes(found, start, end)):
        places = _places(found, label, start, clip)
        draw_places(spectrogram, places, rank)
        _draw_marks(spectrogram, places, rank)
        _draw_evidence(evidence, found, label, start, end, rank)
    _label_axes(spectrogram, evidence, start, clip.duration)
    _draw_legend(evidence)
    title(spectrogram, [clip.title], panel_width(target, 1))
    colour_bar(target, [spectrogram], image, "level in dB")
    return root(target)


def _strongest_classes(explanation: RecordingExplanation, start: float, end: float) -> list[int]:
    """The classes with the largest positive evidence over time between two times, strongest first, at most four."""
    inside = (explanation.times >= start) & (explanation.times <= end)
    if not inside.any():
        return []
    largest = {label: values[inside].max().item() for label, values in explanation.evidence.items()}
    labels = sorted((label for label in largest if largest[label] > 0), key=lambda label: -largest[label])
    return labels[:_MOST_CLASSES]


def _places(explanation: RecordingExplanation, label: int, start: float, clip: Clip) -> list[Place]:
    """Where the events of a class lie in an excerpt that begins at `start`, in seconds from there."""
    end = start + clip.duration
    places = []
    for event in explanation.events:
        if event.label == label and event.start < end and event.end > start:
            times = max(event.start, start) - start, min(event.end, end) - start
            places.append(Place(*_band(event, clip), *times))
    return places


def _band(event: Event, clip: Clip) -> tuple[float, float]:
    """The band of an event, in Hz; that of the clip's axes where the event has none."""
    if event.low is None or event.high is None:
        return clip.axes.hertz(0.0), clip.axes.hertz(float(clip.axes.n_bins))
    return event.low, event.high


def _draw_marks(panel: Axes, places: Sequence[Place], rank: int) -> None:
    """Marks the class of each event at the top of the panel, because a dashed outline means something else."""
    colour, marker = class_mark(rank)
    middles = [(place.start + place.end) / 2 for place in places]
    on_panel = panel.get_xaxis_transform()  # x in seconds, y as a share of the panel
    panel.scatter(
        middles,
        [_TOP] * len(middles),
        s=_MARK**2,
        c=colour,
        marker=marker,
        transform=on_panel,
        clip_on=False,
        edgecolors=DARK,
    )


def _peaks(explanation: RecordingExplanation, label: int, inside: Tensor) -> list[int]:
    """Where the evidence of a class is largest in each of its events, as places among the drawn times."""
    times = explanation.times[inside]
    values = explanation.evidence[label][inside]
    peaks = []
    for event in explanation.events:
        of_event = ((times >= event.start) & (times <= event.end)).nonzero()[:, 0]
        if event.label == label and len(of_event):
            peaks.append(int(of_event[values[of_event].argmax()]))
    return peaks


def _draw_evidence(
    panel: Axes, explanation: RecordingExplanation, label: int, start: float, end: float, rank: int
) -> None:
    inside = (explanation.times >= start) & (explanation.times <= end)
    names = {event.label: event.name for event in explanation.events}
    colour, marker = class_mark(rank)
    panel.plot(
        as_array(explanation.times[inside] - start),
        as_array(explanation.evidence[label][inside]),
        color=colour,
        marker=marker,
        markersize=_MARK,
        markevery=_peaks(explanation, label, inside),
        label=fitted(names.get(label, f"class {label}"), 2.0, TINY, lines=1),
    )


def _label_axes(spectrogram: Axes, evidence: Axes, start: float, duration: float) -> None:
    ticks = [tick for tick in time_locator(8).tick_values(start, start + duration) if 0 <= tick - start <= duration]
    for panel in (spectrogram, evidence):
        panel.set_xlim(0, duration)
        panel.set_xticks([tick - start for tick in ticks], [f"{tick:g}" for tick in ticks])
        small_ticks(panel)
    spectrogram.tick_params(labelbottom=False)
    spectrogram.set_ylabel("frequency in Hz", fontsize=TINY)
    evidence.set_facecolor(DARK)  # as dark as the spectrogram, so that the same pale lines can be seen on both panels
    evidence.set_ylim(bottom=min(0.0, evidence.get_ylim()[0]))
    evidence.set_ylabel("evidence,\nlogit per s", fontsize=TINY)
    evidence.set_xlabel("time in s", fontsize=TINY)


def _draw_legend(evidence: Axes) -> None:
    if not evidence.lines:
        return
    legend = evidence.legend(
        handles=evidence.lines,  # by default, matplotlib leaves out a class with a name that begins with "_"
        loc="lower right",
        bbox_to_anchor=(1, 1),
        borderaxespad=0.2,
        ncols=len(evidence.lines),
        fontsize=TINY,
        facecolor=DARK,
        edgecolor=DARK,
        labelcolor="white",
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
