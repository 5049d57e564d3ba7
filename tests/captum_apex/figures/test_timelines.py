"""The picture of a part of a recording: its events are outlined, and the evidence below is that of its times."""

from dataclasses import replace

import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from captum_apex import Clip, Event, RecordingExplanation, SpectrogramAxes, figures

AXES = SpectrogramAxes(8000, 512, 160)
CLIP = Clip(torch.linspace(-60, 0, 257 * 501).view(257, 501), AXES, torch.zeros(80_000), name="night.wav")


def event(start, end, label=0, low=1000.0, high=2000.0):
    return Event(start, end, low, high, label, ["dog", "$5 bell", "rain", "wind", "siren"][label], 0.9, 2.0)


def whole(*events, peaks=None):
    times = torch.arange(120).double() + 0.5
    peaks = {event.label: 1.0 for event in events} if peaks is None else peaks
    return RecordingExplanation(events, {label: (times == 22.5) * peak for label, peak in peaks.items()}, times, 120.0)


def boxes(panel):
    """(start, end, low, high) of the closed lines of every outline."""
    lines = [[loop.T.tolist() for loop in patch.get_path().to_polygons()] for patch in panel.patches]
    return [sorted((min(x), max(x), min(y), max(y)) for x, y in outline) for outline in lines]


def test_events_are_outlined_where_they_are_in_the_part():
    """Those before and after it are not seen, and what reaches over its ends is cut."""
    drawn = figures.recording(whole(event(18, 23), event(25, 26), event(29, 40), event(50, 51)), CLIP, 20.0)
    assert boxes(drawn.axes[0]) == [
        [(0.0, 3.0, 1000.0, 2000.0), (5.0, 6.0, 1000.0, 2000.0), (9.0, 10.0, 1000.0, 2000.0)]
    ]
    assert [tick.get_text() for tick in drawn.axes[1].get_xticklabels()] == ["20", "22", "24", "26", "28", "30"]
    assert drawn.axes[1].get_xticks().tolist() == [0, 2, 4, 6, 8, 10]


def test_overlapping_events_of_a_class_have_one_outline():
    drawn = figures.recording(whole(event(21, 23), event(22, 24)), CLIP, 20.0)
    assert boxes(drawn.axes[0]) == [[(1.0, 4.0, 1000.0, 2000.0)]]


def test_an_event_without_a_band_is_outlined_over_all_frequencies():
    drawn = figures.recording(whole(event(21, 23, low=None, high=None)), CLIP, 20.0)
    assert boxes(drawn.axes[0]) == [[(1.0, 3.0, 0.0, 4000.0)]]


def test_the_evidence_below_is_that_of_the_strongest_classes():
    peaks = {label: 1.0 + label for label in range(5)}
    drawn = figures.recording(whole(*(event(22, 23, label) for label in range(5)), peaks=peaks), CLIP, 20.0)
    lines = drawn.axes[1].get_lines()
    assert [line.get_label() for line in lines] == ["siren", "wind", "rain", "$5 bell"]
    for line, peak in zip(lines, (5.0, 4.0, 3.0, 2.0), strict=True):
        assert line.get_xdata().tolist() == [x + 0.5 for x in range(10)]
        assert line.get_ydata().tolist() == [0, 0, peak, 0, 0, 0, 0, 0, 0, 0]
    FigureCanvasAgg(drawn).draw()  # "$" is no formula


def test_classes_differ_by_markers_and_not_by_dashes_which_mean_something_else():
    """A marker stands over each event, and at the largest evidence of it."""
    drawn = figures.recording(whole(event(21, 24), event(26, 27, 1), peaks={0: 2.0, 1: 1.0}), CLIP, 20.0)
    spectrogram, evidence = drawn.axes[:2]
    assert [patch.get_linestyle() for patch in spectrogram.patches] == [(0.0, []), (0.0, [])]
    marks = [each.get_offsets().tolist() for each in spectrogram.collections[1::2]]  # beside the edges of outlines
    assert marks == [[[2.5, 0.95]], [[6.5, 0.95]]]
    lines = evidence.get_lines()
    assert [(line.get_label(), line.get_marker()) for line in lines] == [("dog", "o"), ("$5 bell", "s")]
    assert lines[0].get_markevery() == [2]  # the time 22.5 s
    assert [line.get_linestyle() for line in lines] == ["-", "-"]


def test_a_class_whose_name_begins_with_an_underscore_is_in_the_legend():
    drawn = figures.recording(whole(replace(event(22, 23), name="_noise")), CLIP, 20.0)
    assert [text.get_text() for text in drawn.axes[1].get_legend().get_texts()] == ["_noise"]


def test_a_part_without_events_is_drawn():
    drawn = figures.recording(whole(event(50, 51)), CLIP, 60.0)
    assert not drawn.axes[0].patches
    FigureCanvasAgg(drawn).draw()


@pytest.mark.parametrize("start", [-1.0, 115.0])
def test_a_part_outside_of_the_recording_is_refused(start):
    with pytest.raises(
        ValueError,
        match=f"expected an excerpt of the 120 s of the recording, but got one from {start:g} to {start + 10:g} s",
    ):
        figures.recording(whole(event(50, 51)), CLIP, start)
