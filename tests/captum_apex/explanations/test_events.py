"""Channel events joined to events, against a slow walk over columns."""

from dataclasses import replace

import pytest
import torch

from captum_apex.explanations.events import ChannelEvent, Event, RecordingExplanation, joined
from captum_apex.locating import RegionEffect

STEP = 0.185  # s, no binary fraction


def channel_event(start, end, label=0, channel=0, contribution=1.0, band=(None, None), score=0.5, **more):
    return ChannelEvent(start, end, *band, label, "ab"[label], score, channel, 1, contribution, **more)


def random_events(seed, n_columns=200, n_events=40):
    """Channel events of two classes with edges at columns, in no order."""
    generator = torch.Generator().manual_seed(seed)
    events = []
    for _ in range(n_events):
        first, length, label, channel = (int(torch.randint(most, (), generator=generator)) for most in (200, 4, 2, 9))
        end = min(first + length + 1, n_columns)
        contribution = torch.rand((), generator=generator).item()
        events.append(channel_event(first * STEP, end * STEP, label, channel, contribution))
    return events


def by_columns(events, pause):
    """(label, start, end) of each run of columns in which a channel event lasts; `pause` free columns end no run."""
    runs = []
    for label in (0, 1):
        covered = set()
        for event in events:
            if event.label == label:
                covered |= set(range(round(event.start / STEP), round(event.end / STEP)))
        last = None
        for column in sorted(covered):
            if last is None or column - last - 1 > pause:
                runs.append([label, column, column + 1])
            last = runs[-1][2] = column
            runs[-1][2] += 1
    return sorted((start * STEP, label, end * STEP) for label, start, end in runs)


@pytest.mark.parametrize("pause", [0, 1, 3])
@pytest.mark.parametrize("seed", range(20))
def test_events_are_the_runs_of_columns_in_which_a_channel_lasts(seed, pause):
    events = random_events(seed)
    given = joined(events, pause * STEP)
    wanted = by_columns(events, pause)
    assert 2 < len(wanted) < len(events)
    assert [event.label for event in given] == [label for _, label, _ in wanted]
    assert [(event.start, event.end) for event in given] == [pytest.approx((start, end)) for start, _, end in wanted]
    for event in given:
        inside = [
            each for each in events if each.label == event.label and event.start <= each.start and each.end <= event.end
        ]
        assert sorted(each.contribution for each in inside) == [each.contribution for each in event.channels][::-1]
        assert event.contribution == max(each.contribution for each in inside)
    assert sum(len(event.channels) for event in given) == len(events)


def test_the_order_of_channel_events_does_not_matter():
    events = random_events(0)
    assert joined(events[::-1]) == joined(events)


def test_an_event_has_the_best_of_its_channels():
    events = [
        channel_event(1.0, 2.0, channel=3, contribution=1.0, score=0.9, band=(500.0, 900.0)),
        channel_event(1.5, 3.0, channel=5, contribution=2.0, score=0.6, band=(400.0, 600.0)),
        channel_event(1.5, 1.6, channel=6, contribution=1.5, score=0.7),
    ]
    (event,) = joined(events)
    assert event == Event(1.0, 3.0, 400.0, 900.0, 0, "a", 0.9, 2.0, channels=(events[1], events[2], events[0]))


def test_bands_that_are_the_whole_one_together_are_none():
    events = [channel_event(1.0, 2.0, band=(0.0, 900.0)), channel_event(1.5, 3.0, band=(700.0, 4000.0))]
    (event,) = joined(events, whole_band=(0.0, 4000.0))
    assert (event.low, event.high) == (None, None)
    (event,) = joined(events, whole_band=(0.0, 8000.0))
    assert (event.low, event.high) == (0.0, 4000.0)


def test_the_effect_is_that_of_the_strongest_channel_that_has_one():
    weak, strong = RegionEffect(0.25, (0.0,)), RegionEffect(0.75, (0.0,))
    events = [
        channel_event(1.0, 2.0, contribution=1.0, effect=weak),
        channel_event(1.0, 2.0, contribution=2.0, effect=strong),
        channel_event(1.0, 2.0, contribution=3.0),
    ]
    assert Event.of(events).effect == strong
    assert Event.of(events[2:]).effect is None


def test_channel_events_of_an_explanation_are_in_the_order_of_time():
    events = random_events(1)
    explanation = RecordingExplanation(tuple(joined(events)), {}, torch.empty(0), 40.0)
    wanted = sorted(events, key=lambda each: (each.start, each.label, each.channel, each.side))
    assert list(explanation.channel_events) == wanted


def test_joining_takes_a_number_of_comparisons_that_grows_about_with_the_events():
    """Starts are numbers that count how often they are compared."""
    counts = {}
    for n_events in (1000, 16_000):
        compared = 0

        class Time(float):
            __slots__ = ()

            def __lt__(self, other):
                nonlocal compared
                compared += 1
                return float(self) < float(other)

        starts = torch.randperm(n_events, generator=torch.Generator().manual_seed(0)).tolist()
        events = [channel_event(Time(start), Time(start + 0.5)) for start in starts]
        assert len(joined(events)) == n_events
        counts[n_events] = compared
    assert 0 < counts[16_000] < 16 * 2 * counts[1000]


def test_the_events_of_a_recording_are_counted_by_class():
    names = ["dog", "rain", "dog", "<b>", "siren", "fox"]
    found = [Event(t, t + 0.5, 150.0, 800.0, 0, name, 0.875, 2.5) for t, name in enumerate(names)]
    explanation = RecordingExplanation(tuple(found), {}, torch.empty(0), duration=12.0)
    assert repr(explanation).splitlines() == [
        "RecordingExplanation of 12.0 s, 6 events",
        *("  dog: 2", "  rain: 1", "  <b>: 1", "  siren: 1", "  …"),
    ]
    table = explanation._repr_html_()
    assert "<caption>6 events in a recording of 12.0 s</caption>" in table
    assert "<tr><td>3.00</td><td>3.50</td><td>&lt;b&gt;</td><td>0.88</td></tr>" in table
    many = RecordingExplanation(tuple(found) * 100, {}, torch.empty(0), duration=12.0)._repr_html_()
    assert many.count("<tr>") == 101
    assert "600 events in a recording of 12.0 s, the first 100" in many


def test_an_event_is_one_line_when_it_is_printed():
    """`print(event)` says what, when and where, and not every channel with its numbers."""
    (event,) = joined([channel_event(1.0, 2.0, channel=17), channel_event(1.5, 2.5, channel=3)])
    assert repr(event) == "Event of a, 1.00–2.50 s, probability 0.50, 2 channels"
    assert repr(replace(event, low=150.0, high=3500.4, silent=True)) == (
        "Event of a, 1.00–2.50 s, 150–3500 Hz, probability 0.50, 2 channels, in digital silence"
    )
