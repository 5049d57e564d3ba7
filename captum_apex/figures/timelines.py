"""A part of a long recording: its spectrogram with the events outlined, and the evidence over time below it."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import PathPatch
from matplotlib.ticker import MaxNLocator

from captum_apex.audio.clip import Clip, Place, level_limits
from captum_apex.explanations.events import RecordingExplanation
from captum_apex.figures.canvas import canvas, panel_width, root
from captum_apex.figures.colours import REGIONS
from captum_apex.figures.outlines import region_line, union_path
from captum_apex.figures.panels import array, bar
from captum_apex.figures.spectrogram import draw_clip
from captum_apex.figures.titles import TINY, fitted, title

__all__ = ["recording"]

_NIGHT = "#000004"  # the darkest of the levels' colours: the same pale lines are seen on both panels


def recording(
    found: RecordingExplanation, clip: Clip, start: float = 0.0, *, figure: Figure | SubFigure | None = None
) -> Figure:
    """A part of a recording: where each class has events, on the spectrogram, and how much evidence there is for it, below.

    The four classes with the most evidence in this part are drawn. The outline is around all events of a class, whatever their channels.

    Args:
        found: in the whole recording.
        clip: the part's sound, such as `classifier.drawn(waveform[first:end])`; its title is drawn.
        start: where in the recording the part begins, in s.
        figure: where to draw; by default a new figure.

    Raises:
        ValueError: the part does not lie in the recording.
    """
    end = start + clip.duration
    if not (start >= 0 and end <= found.duration + 0.01):
        raise ValueError(
            f"expected a part of the {found.duration:g} s of the recording, but got one from {start:g} to {end:g} s"
        )
    target = canvas(figure, 8.0, 4.0)
    spectrogram, evidence = target.subplots(2, 1, height_ratios=[2, 1])
    image = draw_clip(spectrogram, clip, level_limits([clip]))
    inside = (found.times >= start) & (found.times <= end)
    largest = {label: values[inside].max().item() for label, values in found.evidence.items() if inside.any()}
    strongest = sorted((label for label in largest if largest[label] > 0), key=lambda label: -largest[label])[
        : len(REGIONS)
    ]
    names = {event.label: event.name for event in found.events}
    for rank, label in enumerate(strongest):
        colour, style = region_line(rank)
        parts = [event for event in found.events if event.label == label and event.start < end and event.end > start]
        _draw_events(
            spectrogram,
            [Place(e.low, e.high, max(e.start, start) - start, min(e.end, end) - start) for e in parts],
            rank,
        )
        name = fitted(names.get(label, f"class {label}"), 2.0, TINY, lines=1)
        evidence.plot(
            array(found.times[inside] - start),
            array(found.evidence[label][inside]),
            color=colour,
            linestyle=style,
            label=name,
        )
    _finish(spectrogram, evidence, start, clip.duration)
    title(spectrogram, [clip.title], panel_width(target, 1))
    bar(target, [spectrogram], image, "level in dB")
    return root(target)


def _draw_events(ax: Axes, places: list[Place], rank: int) -> None:
    colour, style = region_line(rank)
    path = union_path(places)
    ax.add_collection(
        PathCollection([path], facecolors="none", edgecolors="black", linewidths=3.2, alpha=0.5, zorder=0.9)
    )
    ax.add_patch(PathPatch(path, fill=False, edgecolor=colour, linestyle=style, linewidth=1.5, joinstyle="miter"))


def _finish(spectrogram: Axes, evidence: Axes, start: float, duration: float) -> None:
    ticks = [
        tick
        for tick in MaxNLocator(8, steps=[1, 2, 2.5, 5, 10]).tick_values(start, start + duration)
        if 0 <= tick - start <= duration
    ]
    for panel in (spectrogram, evidence):
        panel.set_xlim(0, duration)
        panel.set_xticks([tick - start for tick in ticks], [f"{tick:g}" for tick in ticks])
        panel.tick_params(labelsize=TINY, length=2.5, pad=2)
    spectrogram.tick_params(labelbottom=False)
    spectrogram.set_ylabel("frequency in Hz", fontsize=TINY)
    evidence.set_facecolor(_NIGHT)
    evidence.set_ylim(bottom=min(0.0, evidence.get_ylim()[0]))
    evidence.set_ylabel("evidence,\nlogit per s", fontsize=TINY)
    evidence.set_xlabel("time in s", fontsize=TINY)
    if evidence.lines:
        legend = evidence.legend(
            handles=evidence.lines,  # else a class whose name begins with "_" would be left out
            loc="lower right",
            bbox_to_anchor=(1, 1),
            borderaxespad=0.2,
            ncols=len(evidence.lines),
            fontsize=TINY,
            facecolor=_NIGHT,
            edgecolor=_NIGHT,
            labelcolor="white",
        )
        for text in legend.get_texts():
            text.set_parse_math(False)
