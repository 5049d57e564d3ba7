"""Long recordings: events and evidence against the definition, and known sounds at known times."""

import dataclasses
import gc
import math
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torch import nn
from torch.nn.functional import pad

from captum_apex import (
    APEX,
    SCHEMES,
    Box,
    Classifier,
    FeatureBank,
    LayerAPEX,
    PrototypeBasis,
    Region,
    RegionEffect,
    RegionSearch,
    SpectrogramAxes,
    basis_from_matrix,
)
from captum_apex.attribution.decomposition import select_channels
from captum_apex.explanations.event_regions import EventRegions
from captum_apex.explanations.events import UnfinishedExplanationError
from captum_apex.explanations.long_recordings import explain_recording
from captum_apex.layers.layout import Layout
from captum_apex.layers.origin import Origin
from captum_apex.locating import LocatedRegion
from captum_apex.recordings import read
from tests.networks import build, invertible
from tests.odd_files import damaged, edited, flac_length

RATE = 80  # Hz
CLASSES = ["dog", "rain", "siren", "wind"]
AXES = SpectrogramAxes(RATE, 14, 8, center=False)  # eight bins; the centre of frame i is sample 8 i + 7


def noise(samples, seed=0):
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed))


class OverSamples(nn.Module):
    """A model of waveforms: its layer gives (clip, channel, time), four columns to a second, without a ReLU."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv1d(1, 6, 30, 20, padding=5)
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        return self.head(self.layer(x[:, None]).mean(2))


def of_spectra(scheme):
    """A grid of 4 × 5 for a window of 1 s: its columns begin 3 samples after the window and last 16 samples."""
    model, layer = build("pooling after relu", dtype=torch.float32)
    classifier = Classifier(
        model, lambda waveform: waveform.reshape(-1, 8).T[None], RATE, CLASSES, axes=AXES, exclusive=False
    )
    return LayerAPEX(model, layer, PrototypeBasis(invertible(), scheme)), classifier, (3 / RATE, 16 / RATE)


def of_samples(scheme):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = OverSamples().eval()
    basis = PrototypeBasis(invertible(), scheme, origin=Origin(layout=Layout("n c t -> n c 1 t")))
    return (
        LayerAPEX(model, model.layer, basis),
        Classifier(model, lambda waveform: waveform, RATE, CLASSES, exclusive=False),
        (0.0, 20 / RATE),
    )


# --- the slow oracle ----------------------------------------------------------


def starts_of(samples, window, hop):
    starts = list(range(0, samples - window + 1, hop))
    return starts if starts[-1] + window == samples else [*starts, samples - window]


def detected_in(apex, classifier, sound, threshold, n_channels, sides):
    """The classes detected in a window: class → (probability, {(channel, side): map})."""
    inputs = classifier.transform(sound)[None]
    explanation = {}
    for label, probability in enumerate(torch.sigmoid(apex.forward_func(inputs))[0].tolist()):
        if probability >= threshold:
            decomposition = apex.decompose(inputs, label)
            chosen = select_channels(decomposition.contributions, decomposition.activations, n_channels, sides)[0]
            channels = [channel for channel in range(len(chosen)) if chosen[channel]]
            signs = {channel: 1 if decomposition.activations[0, channel] > 0 else -1 for channel in channels}
            maps = {
                (channel, signs[channel]): decomposition.relevance[0, channel].double().numpy() for channel in channels
            }
            explanation[label] = (probability, maps)
    return explanation


def laid_out(scheme, relevance, n_columns):
    """A map as the scheme lays it out, as a list of columns; the last one is repeated where the grid ends too early."""
    if scheme == "frequency":
        relevance = np.repeat(relevance.mean(1, keepdims=True), relevance.shape[1], 1)
    columns = list(relevance.T)
    return (columns + columns[-1:] * n_columns)[:n_columns]


def stretches_of(windows, n_columns):
    """Lists of consecutive windows that overlap or touch."""
    stretches = []
    for window in windows:
        if stretches and window["first"] <= stretches[-1][-1]["first"] + n_columns:
            stretches[-1].append(window)
        else:
            stretches.append([window])
    return stretches


def events_of(stretch, scheme, level, n_columns, inside):
    """(first column, end column, first row, end row, score, contribution) of each event in a stretch."""
    columns = {}
    for window in stretch:
        for place, column in enumerate(window["columns"]):
            if window["first"] + place < inside:
                columns.setdefault(window["first"] + place, []).append(column)
    merged = {place: sum(values) / len(values) for place, values in columns.items()}
    profile = {place: column.sum() for place, column in merged.items()}
    active = []
    for place, value in profile.items():
        largest = max(profile[other] for other in profile if abs(other - place) <= n_columns)
        if value > 0 and value >= level * largest * (1 - 1e-6):
            active.append(place)
    runs = []
    for place in sorted(active):
        if runs and runs[-1][-1] == place - 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    for run in runs:
        band = sum(merged[place] for place in run)
        rows = [row for row in range(len(band)) if scheme == "time" or band[row] >= level * band.max()]
        windows = [window for window in stretch if set(run) & set(range(window["first"], window["first"] + n_columns))]
        score, contribution = (max(window[name] for window in windows) for name in ("score", "contribution"))
        yield run[0], run[-1] + 1, rows[0], rows[-1] + 1, score, contribution


def oracle(apex, classifier, grid, sound, window, hop, *, threshold, n_channels, sides, level):
    (offset, step), scheme, duration = grid, apex.basis.scheme, len(sound) / RATE
    n_columns = math.ceil(window / RATE / step - 1e-9)
    by_key, by_class = {}, {}
    for start in starts_of(len(sound), window, hop):
        first = round(start / RATE / step)
        for label, (score, maps) in detected_in(
            apex, classifier, sound[start : start + window], threshold, n_channels, sides
        ).items():
            for (channel, side), relevance in maps.items():
                about = {
                    "first": first,
                    "columns": laid_out(scheme, relevance, n_columns),
                    "score": score,
                    "contribution": relevance.sum(),
                }
                by_key.setdefault((label, channel, side), []).append(about)
            by_class.setdefault(label, []).append((first, [laid_out(scheme, one, n_columns) for one in maps.values()]))
    n_rows = len(next(iter(by_key.values()))[0]["columns"][0])
    edges = [AXES.hertz(8 * row / n_rows) if classifier.axes else row / n_rows * RATE / 2 for row in range(n_rows + 1)]
    events, inside = [], math.ceil((duration - offset) / step - 1e-9)
    for (label, channel, side), windows in by_key.items():
        for stretch in stretches_of(windows, n_columns):
            for first, last, low, high, score, contribution in events_of(stretch, scheme, level, n_columns, inside):
                start, end = offset + first * step, min(offset + last * step, duration)
                about = {"label": label, "name": CLASSES[label], "channel": channel, "side": side}
                is_whole = (low, high) == (0, n_rows) or scheme == "time" or classifier.axes is None
                about |= {"score": score, "contribution": contribution, "columns": (first, last)}
                about |= {"low": None, "high": None} if is_whole else {"low": edges[low], "high": edges[high]}
                events.append({"start": start, "end": end, **about})
    events.sort(key=lambda event: (event["start"], event["label"], event["channel"], event["side"]))
    evidence, covered = {}, round((len(sound) - window) / RATE / step) + n_columns
    for label, windows in by_class.items():
        for place in range(min(covered, inside)):
            values = [
                sum(one[place - first].sum() for one in maps)
                for first, maps in windows
                if 0 <= place - first < n_columns
            ]
            evidence.setdefault(label, []).append(sum(values) / len(values) / step if values else 0.0)
    return events, evidence


def joined_by_columns(events, pause=0):
    """Lists of the events of a class that share a run of columns, where at most `pause` columns are free."""
    groups = []
    for label in sorted({event["label"] for event in events}):
        of_class = [event for event in events if event["label"] == label]
        columns = sorted({column for event in of_class for column in range(*event["columns"])})
        runs = []
        for column in columns:
            if runs and column - runs[-1][-1] <= 1 + pause:
                runs[-1].append(column)
            else:
                runs.append([column])
        groups += [[event for event in of_class if event["columns"][0] in run] for run in runs]
    return sorted(groups, key=lambda group: (min(event["start"] for event in group), group[0]["label"]))


def check_joined(event, group):
    """An event is the union of a group of channel events, strongest first."""
    bands = [(each["low"], each["high"]) for each in group if each["low"] is not None]
    lowest, highest = (min(low for low, _ in bands), max(high for _, high in bands)) if bands else (None, None)
    if highest is not None and highest - lowest == pytest.approx(AXES.hertz(8.0) - AXES.hertz(0.0)):
        lowest, highest = None, None
    assert (event.start, event.end) == pytest.approx(
        (min(each["start"] for each in group), max(each["end"] for each in group))
    )
    assert (event.low, event.high) == pytest.approx((lowest, highest))
    assert event.score == pytest.approx(max(each["score"] for each in group))
    strongest = sorted((each["contribution"] for each in group), reverse=True)
    assert event.contribution == pytest.approx(strongest[0], rel=1e-4, abs=1e-6)
    assert [each.contribution for each in event.channels] == pytest.approx(strongest, rel=1e-4, abs=1e-6)
    given = {(each.channel, each.side, round(each.start, 6)) for each in event.channels}
    assert given == {(each["channel"], each["side"], round(each["start"], 6)) for each in group}


@pytest.mark.parametrize("sides", ["positive", "both"])
@pytest.mark.parametrize(
    ("make", "scheme"), [*((of_spectra, scheme) for scheme in SCHEMES), (of_samples, "square"), (of_samples, "time")]
)
@pytest.mark.parametrize(
    ("hop", "level", "threshold", "pause"), [(80, 0.5, 0.49, 0), (40, 0.7, 0.505, 2), (26, 0.3, 0.51, 0)]
)
def test_events_and_evidence_are_those_of_the_definition(make, scheme, sides, hop, level, threshold, pause):
    apex, classifier, grid = make(scheme)
    sound = noise(1203)
    settings = {"threshold": threshold, "n_channels": 2, "sides": sides, "level": level}
    events, evidence = oracle(apex, classifier, grid, sound, 80, hop, **settings)
    explanation = explain_recording(
        apex, sound, 1.0, hop / RATE, classifier=classifier, batch_size=5, gap=pause * grid[1], **settings
    )
    assert len(events) > 10
    assert len(explanation.channel_events) == len(events)
    for event, other in zip(explanation.channel_events, events, strict=True):
        values = dataclasses.asdict(event)
        assert (values.pop("name"), values.pop("low"), values.pop("high")) == pytest.approx(
            (other["name"], other["low"], other["high"])
        )
        assert (values.pop("effect"), values.pop("prototypes")) == (None, ())
        assert values == pytest.approx({name: other[name] for name in values}, rel=1e-4, abs=1e-6)
    groups = joined_by_columns(events, pause)
    assert 1 < len(groups) < len(events)
    for event, group in zip(explanation.events, groups, strict=True):
        assert event.label == group[0]["label"]
        check_joined(event, group)
    assert sorted(explanation.evidence) == sorted(evidence)
    for label, values in evidence.items():
        assert explanation.evidence[label].tolist() == pytest.approx(values, rel=1e-3, abs=1e-5)
    assert explanation.times.tolist() == pytest.approx(
        [grid[0] + (place + 0.5) * grid[1] for place in range(len(explanation.times))]
    )
    assert explanation.duration == 1203 / RATE


# --- known sounds -------------------------------------------------------------


class Levels(nn.Module):
    """The logits are the levels of two rows, dog and rain. The layer's two channels are the rows."""

    def __init__(self):
        super().__init__()
        self.layer = nn.ReLU()
        self.bias = nn.Parameter(torch.tensor(-1.0))

    def forward(self, x):
        return 40 * self.layer(x).mean((2, 3)) + self.bias


def blocks(waveform):
    """The mean of each ten samples, above zero in row 0, below zero in row 1: (sample,) → (channel, 1, block)."""
    means = waveform.reshape(-1, 10).mean(1)
    return torch.stack([means, -means])[:, None].relu()


def sounding(sounds, duration):
    """Sounds (start, end, amplitude) in silence."""
    waveform = torch.zeros(round(duration * RATE))
    for start, end, amplitude in sounds:
        waveform[round(start * RATE) : round(end * RATE)] = amplitude
    return waveform


def of_levels(model=None, transform=blocks, names=("dog", "rain"), exclusive=False):
    """A column lasts 1/8 s."""
    model = Levels() if model is None else model
    return LayerAPEX(model, model.layer, PrototypeBasis(torch.eye(2), "time")), Classifier(
        model, transform, RATE, names, exclusive=exclusive
    )


def explained(sounds, duration=30.0, window=2.0, hop=1.0, source=None, exclusive=False, **settings):
    apex, classifier = of_levels(exclusive=exclusive)
    return explain_recording(
        apex, sounding(sounds, duration) if source is None else source, window, hop, classifier=classifier, **settings
    )


def places(explanation):
    return [(event.start, event.end, event.name) for event in explanation.events]


@pytest.mark.parametrize("hop", [2.0, 1.0, 0.5, 0.375])
@pytest.mark.parametrize(
    "sounds",
    [
        [(5.5, 6.25, 1.0)],  # in two windows and more
        [(3.0, 17.5, 1.0)],  # longer than a window
        [(5.25, 5.75, 1.0), (6.0, 6.5, 1.0)],  # two in one window
        [(4.0, 4.5, 1.0), (20.0, 20.5, 0.5)],  # a quiet one long after a loud one
        [(8.0, 8.5, 1.0), (8.5, 10.0, -1.0)],  # another class right after
        [(0.0, 0.5, 1.0), (29.5, 30.0, -1.0)],  # at both ends
    ],
)
def test_every_sound_is_one_event_where_it_is(sounds, hop):
    assert places(explained(sounds, hop=hop)) == [
        (start, end, "dog" if amplitude > 0 else "rain") for start, end, amplitude in sounds
    ]


def test_an_event_says_how_sure_the_model_is_and_what_the_channel_adds():
    (event,) = explained([(5.0, 6.0, 1.0)]).events
    assert event.score == pytest.approx(1 / (1 + math.exp(-(40 / 2 - 1))))  # half of the window from 5 to 7 s is sound
    assert event.contribution == pytest.approx(20.0)
    assert (event.label, event.low, event.high) == (0, None, None)  # the basis is for columns
    assert [(each.channel, each.side) for each in event.channels] == [(0, 1)]


def test_evidence_over_time_adds_up_to_the_logit():
    explanation = explained([(5.0, 6.0, 1.0)])
    assert list(explanation.evidence) == [0]
    assert explanation.evidence[0].sum().item() / 8 == pytest.approx(20.0)
    assert explanation.times[explanation.evidence[0] > 0].tolist() == [5 + (place + 0.5) / 8 for place in range(8)]


def test_the_table_is_one_line_of_pandas():
    table = pd.DataFrame(explained([(4.0, 4.5, 1.0), (20.0, 20.5, -0.5)]).channel_events)
    assert list(table.columns) == [
        "start",
        "end",
        "low",
        "high",
        "label",
        "name",
        "score",
        "channel",
        "side",
        "contribution",
        "effect",
        "prototypes",
    ]
    assert table["name"].tolist() == ["dog", "rain"]


def test_silence_has_no_events():
    explanation = explained([])
    assert (explanation.events, explanation.evidence, len(explanation.times), explanation.duration) == ((), {}, 0, 30.0)


@pytest.mark.parametrize("duration", [1.0, 2.0, 2.875])
def test_a_recording_of_any_length_ends_where_it_does(duration):
    """A recording shorter than a window is padded; the padding is in no event and not in the evidence."""
    explanation = explained([(0.5, duration, 1.0)], duration=duration)
    assert places(explanation) == [(0.5, duration, "dog")]
    assert len(explanation.evidence[0]) == len(explanation.times) == duration * 8


def test_a_short_recording_is_heard_though_its_padding_is_louder():
    """The model responds more to the padding than to the sound, which must not hide the sound."""
    apex, classifier = of_levels(transform=lambda waveform: blocks(torch.where(waveform == 0, 0.9, waveform)))
    explanation = explain_recording(apex, torch.full((80,), 0.3), 2.0, 1.0, classifier=classifier)
    assert places(explanation) == [(0.0, 1.0, "dog")]
    assert explanation.evidence[0].shape == explanation.times.shape == (8,)


def repeating(model=None):
    """A classifier that repeats short recordings to its clips of 2 s."""
    apex, classifier = of_levels(model)
    return apex, dataclasses.replace(classifier, length=2 * RATE, short="repeat")


@pytest.mark.parametrize("duration", [0.5, 0.875, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("search", [None, RegionSearch()])
def test_a_short_recording_is_repeated_where_the_classifier_repeats_short_clips(duration, search):
    """Its evidence is that of all repetitions at the second of the recording, and adds up to the logit of the clip."""
    apex, classifier = repeating()
    sound = sounding([(0.25, 0.5, 1.0)], duration)
    explanation = explain_recording(apex, sound, 2.0, 1.0, classifier=classifier, search=search)
    assert places(explanation) == [(0.25, 0.5, "dog")]
    inputs = classifier.inputs(classifier.fitted(sound))[None]
    (event,) = explanation.events
    assert event.contribution == pytest.approx(apex.decompose(inputs, 0).contributions[0, 0].item())
    expected = torch.zeros(round(duration * 8))
    for column in range(16):
        expected[column % len(expected)] += apex.decompose(inputs, 0).relevance[0, 0, 0, column].item() * 8
    torch.testing.assert_close(explanation.evidence[0], expected)


@pytest.mark.parametrize("duration", [0.5, 0.875, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("search", [None, RegionSearch()])
def test_a_short_recording_is_kept_where_the_classifier_keeps_short_clips(duration, search):
    apex, classifier = of_levels()
    classifier = dataclasses.replace(classifier, length=2 * RATE, short="keep")
    sound = sounding([(0.25, 0.375, 1.0)], duration)
    explanation = explain_recording(apex, sound, 2.0, 2.0, classifier=classifier, search=search)
    assert places(explanation) == [(0.25, 0.375, "dog")]
    assert explanation.duration == duration
    if duration <= 2:
        inputs = classifier.inputs(classifier.fitted(sound))[None]
        expected = apex.decompose(inputs, 0).relevance[0, 0, 0] * 8
        torch.testing.assert_close(explanation.evidence[0], expected)


@pytest.mark.parametrize("duration", [0.5, 1.5, 2.0])
@pytest.mark.parametrize("fill", [0.0, 0.5])
def test_what_a_transform_fills_a_short_recording_with_is_no_part_of_it(duration, fill):
    """As the transform of AST, which always gives the same number of frames."""

    class Rows(Levels):
        def forward(self, x):
            return super().forward(x[:, :, :1])[:, :1]

    def filled(waveform):
        return pad(blocks(waveform), (0, 16 - len(waveform) // 10), value=fill).expand(2, 6, -1)

    model = Rows()
    apex = LayerAPEX(model, model.layer, PrototypeBasis(torch.eye(2), "time"))
    axes = SpectrogramAxes(RATE, 10, 10, center=False)
    classifier = Classifier(model, filled, RATE, ["dog"], axes=axes, length=2 * RATE, short="keep")
    explanation = explain_recording(apex, sounding([(0.25, 0.375, 1.0)], duration), 2.0, 2.0, classifier=classifier)
    assert places(explanation) == [(0.25, 0.375, "dog")]
    assert len(explanation.evidence[0]) == round(duration * 8)


def test_what_counts_only_in_a_repetition_is_at_the_second_of_the_recording():
    """The model hears the last second alone; of a sound of 1.25 s, that is its end and its begin."""

    class Late(Levels):
        def forward(self, inputs):
            return super().forward(torch.where(torch.arange(inputs.shape[-1]) < 8, 0.0, inputs))

    apex, classifier = repeating(Late())
    sound = sounding([(0.5, 0.625, 1.0)], 1.25)
    explanation = explain_recording(apex, sound, 2.0, 1.0, classifier=classifier)
    assert places(explanation) == [(0.5, 0.625, "dog")]


def test_an_event_ends_with_a_recording_that_ends_inside_a_column():
    (event,) = explained([(1.0, 2.95, 1.0)], duration=2.95).events
    assert event.end == pytest.approx(2.95)


def test_a_probability_exactly_at_the_threshold_is_a_detection():
    (event,) = explained([(5.0, 6.0, 0.25)], hop=2.0).events
    assert 0.5 < event.score < 1
    assert places(explained([(5.0, 6.0, 0.25)], hop=2.0, threshold=event.score)) == [(5.0, 6.0, "dog")]
    above = torch.nextafter(torch.tensor(event.score), torch.tensor(1.0)).item()
    assert places(explained([(5.0, 6.0, 0.25)], hop=2.0, threshold=above)) == []


def test_an_event_is_refined_in_the_window_that_covers_most_of_it(monkeypatch):
    """The window at 3 s has more evidence, from a louder sound before, but only a part of the event."""
    events = []
    monkeypatch.setattr(
        EventRegions, "refined", lambda _, found, progress: events.extend(found) or [one.event for one in found]
    )
    explained([(3.0, 3.5, 3.0), (4.0, 5.5, 1.0)], level=0.3, search=RegionSearch())
    (event,) = [each for each in events if each.event.start == 4.0]
    assert (event.window, event.columns) == (4.0, (0, 12))


def test_a_sound_in_the_padding_alone_is_no_event():
    """The padding is louder than the sound, and of another class."""
    apex, classifier = of_levels(transform=lambda waveform: blocks(torch.where(waveform == 0, 0.9, waveform)))
    explanation = explain_recording(apex, torch.full((80,), -0.3), 2.0, 1.0, classifier=classifier)
    assert places(explanation) == [(0.0, 1.0, "rain")]
    assert explanation.evidence[0].tolist() == [0.0] * 8


def test_a_level_of_one_keeps_the_columns_at_the_peak():
    assert places(explained([(5.0, 5.5, 1.0), (5.5, 6.0, 0.5)], level=1.0)) == [(5.0, 5.5, "dog")]


def test_a_column_exactly_at_the_level_belongs_to_the_event():
    assert places(explained([(5.0, 5.5, 1.0), (5.5, 6.0, 0.5)], level=0.5)) == [(5.0, 6.0, "dog")]


@pytest.mark.parametrize("n_columns", [12, 14])  # 0.14 / (0.14 / 14) is a little above 14
def test_a_window_covers_no_column_of_the_next_one(n_columns):
    """A rounding error could add a column to the window, and so to a sound at its end."""
    model, axes, window = Levels(), SpectrogramAxes(8000, 80, 80, center=False), n_columns / 100
    classifier = Classifier(
        model, lambda waveform: blocks(waveform[::8]), 8000, ["dog", "rain"], axes=axes, exclusive=False
    )
    sound = torch.zeros(3 * 80 * n_columns)
    sound[80 * (n_columns - 1) : 80 * n_columns] = 1.0
    apex = LayerAPEX(model, model.layer, PrototypeBasis(torch.eye(2), "time"))
    explanation = explain_recording(apex, sound, window, window, classifier=classifier)
    assert [(event.start, event.end) for event in explanation.events] == [pytest.approx((window - 0.01, window))]
    assert len(explanation.times) == 3 * n_columns


def test_exclusive_classes_are_heard_by_their_softmax():
    sounds = [(4.0, 4.5, -0.9), (4.5, 5.0, 1.0)]
    assert places(explained(sounds, hop=2.0)) == [(4.0, 4.5, "rain"), (4.5, 5.0, "dog")]
    assert places(explained(sounds, hop=2.0, exclusive=True)) == [(4.5, 5.0, "dog")]


def test_apex_at_the_input_gives_the_same():
    apex, classifier = of_levels()
    at_input = APEX(apex.forward_func, apex.layer, apex.basis)
    given = [explain_recording(one, noise(1600), 2.0, 1.0, classifier=classifier) for one in (apex, at_input)]
    assert given[0].events
    assert given[0].events == given[1].events


def test_a_file_gives_what_its_waveform_gives(tmp_path):
    sounds = [(5.0, 6.0, 0.5), (20.0, 20.5, -0.5)]
    soundfile.write(tmp_path / "night.wav", sounding(sounds, 30.0).numpy(), RATE)
    explanation = explained([], source=tmp_path / "night.wav")
    assert places(explanation) == [(5.0, 6.0, "dog"), (20.0, 20.5, "rain")]
    assert explanation.events == explained(sounds).events


@pytest.mark.parametrize("search", [None, RegionSearch()], ids=["columns", "search"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda data: flac_length(data, 0), None),
        (lambda data: flac_length(data, 2**36 - 1), None),
        (lambda data: flac_length(data, 90_000), "night.flac ends at 750 s, but its header says 1125 s"),
        (
            lambda data: data[: len(data) // 3],
            r"night.flac cannot be decoded after \d+\.?\d* s \(its header says 750 s",
        ),
        (damaged, r"night.flac cannot be decoded after \d+\.?\d* s \(its header says 750 s"),
    ],
    ids=["unknown", "implausible", "too long", "truncated", "damaged"],
)
def test_what_was_explained_before_a_file_ends_is_kept(tmp_path, change, says, search):
    """The explanation is that of the sound up to the end, whatever the header says."""
    sounds = sounding([(start, start + 1.0, 0.5) for start in (5.0, 90.5, 240.0, 600.0)], 750.0)
    path = tmp_path / "night.flac"
    soundfile.write(path, (sounds + 0.01 * noise(len(sounds))).numpy(), RATE)
    waveform = read(path, RATE)
    edited(path, change)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        explanation = explained([], source=path, search=search)
    assert bool(caught) == bool(says)
    assert all(re.search(says, str(warning.message)) for warning in caught)
    samples = round(explanation.duration * RATE)
    assert samples == len(waveform) if "cannot" not in (says or "") else RATE * 150 < samples < len(waveform)
    expected = explained([], source=waveform[:samples], search=search)
    assert len(expected.events) >= 2
    assert [(event.start, event.end, event.name) for event in explanation.events] == [
        (event.start, event.end, event.name) for event in expected.events
    ]
    assert torch.equal(explanation.times, expected.times)
    assert explanation.evidence.keys() == expected.evidence.keys()
    assert all(explanation.evidence[label].shape == expected.evidence[label].shape for label in expected.evidence)


@pytest.mark.parametrize("search", [None, RegionSearch()], ids=["columns", "search"])
@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("fault", ["samples", "model"])
def test_an_error_keeps_what_was_explained_before_it(fault, batch_size, search):
    """NaN in the recording after 20 s, or scores that are not finite for the sound at 22 s; no region was searched."""

    class Failing(Levels):
        def forward(self, inputs):
            logits = super().forward(inputs)
            return logits.where(inputs.amax((1, 2, 3))[:, None] < 50, torch.nan)

    sounds = [(3.0, 4.5, 1.0), (8.0, 9.0, -1.0)]
    waveform = sounding(sounds, 30.0)
    if fault == "samples":
        waveform[20 * RATE] = torch.nan
    else:
        waveform[22 * RATE : 23 * RATE] = 100.0
    apex, classifier = of_levels(Failing() if fault == "model" else None)
    with pytest.raises(UnfinishedExplanationError, match="NaN") as caught:
        explain_recording(apex, waveform, 2.0, 1.0, classifier=classifier, batch_size=batch_size, search=search)
    assert all(event.effect is None for event in caught.value.explanation.events)
    assert places(caught.value.explanation) == places(explained(sounds))
    assert 10 <= caught.value.explanation.duration <= 22


@pytest.mark.parametrize("error", [RuntimeError, ValueError, MemoryError])
@pytest.mark.parametrize("late", ["model", "search"])
def test_an_exception_of_the_model_keeps_what_was_explained_before_it(late, error, monkeypatch):
    """The model raises in a late window, or the search for regions does after the last one."""

    class Failing(Levels):
        def forward(self, inputs):
            if (inputs > 50).any():
                raise error("it is too loud")
            return super().forward(inputs)

    sounds = [(3.0, 4.5, 1.0), (8.0, 9.0, -1.0)]
    waveform = sounding(sounds, 30.0)
    if late == "model":
        waveform[22 * RATE : 23 * RATE] = 100.0
    else:

        def refined(*_, **__):
            raise error("it is too loud")

        monkeypatch.setattr(EventRegions, "refined", refined)
    apex, classifier = of_levels(Failing())
    with pytest.raises(UnfinishedExplanationError, match="it is too loud") as caught:
        explain_recording(apex, waveform, 2.0, 1.0, classifier=classifier, batch_size=1, search=RegionSearch())
    assert isinstance(caught.value.__cause__, error)
    assert places(caught.value.explanation) == places(explained(sounds))
    assert caught.value.explanation.duration == (30 if late == "search" else 22)


@pytest.mark.parametrize("search", [None, RegionSearch()], ids=["columns", "search"])
def test_a_file_shorter_than_a_window_and_than_its_header_has_no_events_in_its_padding(tmp_path, search):
    path = tmp_path / "night.flac"
    soundfile.write(path, sounding([(0.5, 1.0, 0.5)], 1.5).numpy(), RATE)
    edited(path, lambda data: flac_length(data, 9000))
    with pytest.warns(UserWarning, match=r"night.flac ends at 1.5 s, but its header says 112.5 s"):
        explanation = explained([], source=path, search=search)
    assert explanation.duration == 1.5
    assert places(explanation) == [(0.5, 1.0, "dog")]


@pytest.mark.parametrize("one_axis", [True, False])
def test_a_detector_has_one_logit(one_axis):
    class Detector(Levels):
        def forward(self, x):
            logit = super().forward(x)[:, :1]
            return logit[:, 0] if one_axis else logit

    apex, classifier = of_levels(Detector(), names=["real"])
    assert places(explain_recording(apex, sounding([(5.0, 6.0, 1.0)], 20.0), 2.0, 1.0, classifier=classifier)) == [
        (5.0, 6.0, "real")
    ]


def test_a_transform_that_pads_does_not_stretch_the_time():
    """As the transform of AST, which always gives the same number of frames: frames after the window are cut off."""
    axes = SpectrogramAxes(RATE, 10, 10, center=False)  # frame i is samples 10 i to 10 i + 10

    class Rows(Levels):
        def forward(self, x):
            return super().forward(x[:, :, :1])[:, :1]

    def padded(waveform):
        return torch.nn.functional.pad(blocks(waveform), (0, 16), value=0.5).expand(2, 6, -1)

    model = Rows()
    apex = LayerAPEX(model, model.layer, PrototypeBasis(torch.eye(2), "time"))
    classifier = Classifier(model, padded, RATE, ["dog"], axes=axes)
    explanation = explain_recording(
        apex, sounding([(5.0, 6.0, 1.0)], 20.0), 2.0, 2.0, classifier=classifier, threshold=0.99999
    )
    assert places(explanation) == [(5.0, 6.0, "dog")]


@pytest.mark.parametrize("input_layout", [None, "n c t f"])
def test_time_is_the_axis_that_the_classifier_says(input_layout):
    class Turned(Levels):
        def forward(self, x):
            return super().forward(x if input_layout is None else x.transpose(2, 3))

    model, axes = Turned(), SpectrogramAxes(RATE, 10, 10, center=False)
    classifier = Classifier(
        model,
        lambda waveform: (
            blocks(waveform).expand(2, 6, -1)
            if input_layout is None
            else blocks(waveform).expand(2, 6, -1).transpose(1, 2)
        ),
        RATE,
        ["dog", "rain"],
        axes=axes,
        input_layout=input_layout,
        exclusive=False,
    )
    apex = LayerAPEX(model, model.layer, PrototypeBasis(torch.eye(2), "time"))
    explanation = explain_recording(apex, sounding([(5.0, 6.0, 1.0)], 20.0), 2.0, 1.0, classifier=classifier)
    assert places(explanation) == [(5.0, 6.0, "dog")]


def test_a_grid_without_axes_has_no_bands():
    """For rows of a spectrogram inside the model, the frequencies are unknown."""
    apex, classifier = of_levels(
        transform=lambda waveform: blocks(waveform).expand(2, 3, -1) * torch.tensor([0.0, 1.0, 0.0])[:, None]
    )
    apex.basis = PrototypeBasis(torch.eye(2), "square")
    (event,) = explain_recording(apex, sounding([(5.0, 6.0, 1.0)], 20.0), 2.0, 1.0, classifier=classifier).events
    assert (event.low, event.high) == (None, None)


def test_a_model_that_takes_lengths_gets_those_of_whole_windows():
    lengths = []

    class WithLengths(Levels):
        def forward(self, x, n):
            lengths.extend(n.tolist())
            return super().forward(x)

    apex, classifier = of_levels(WithLengths())
    apex.columns = lambda n: n
    assert places(explain_recording(apex, sounding([(5.0, 6.0, 1.0)], 10.0), 2.0, 2.0, classifier=classifier)) == [
        (5.0, 6.0, "dog")
    ]
    assert lengths == [16] * 5


# --- regions at the input -----------------------------------------------------


class Coarse(Levels):
    """Columns of four frames: half a second in recordings of ten samples to a frame."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.AvgPool2d((1, 4)), nn.ReLU())


SEARCH = RegionSearch()


def refined(sounds, duration=40.0, window=8.0, hop=4.0, search=SEARCH, **settings):
    apex, classifier = of_levels(Coarse())
    return explain_recording(
        apex, sounding(sounds, duration), window, hop, classifier=classifier, search=search, **settings
    )


@pytest.mark.parametrize(
    "sounds",
    [
        [(5.125, 5.875, 1.0)],  # begins and ends inside a column
        [(5.25, 6.125, 1.0)],  # its last frame is the first of a column that is in no event
        [(5.375, 7.125, -1.0)],  # the second class
        [(21.125, 21.875, 1.0)],  # in a later window
        [(7.625, 8.375, 1.0)],  # over the end of the first window, whole in the second
        [(9.125, 9.875, 1.0), (13.625, 14.625, 1.0)],  # two in one window
        [(9.125, 9.875, 1.0), (11.125, 12.375, 0.7)],  # and of different level
        [(9.125, 9.875, 1.0), (10.125, 11.375, -1.0)],  # two classes
        [(0.125, 0.875, 1.0), (39.125, 39.875, 1.0)],  # in the first and in the last window
        [(0.0, 0.875, 1.0), (39.125, 40.0, 1.0)],  # at both ends
    ],
)
def test_an_event_begins_and_ends_with_its_sound(sounds):
    coarse = refined(sounds, search=None)
    explanation = refined(sounds)
    assert places(coarse) != places(explanation)
    assert places(explanation) == [(start, end, "dog" if level > 0 else "rain") for start, end, level in sounds]
    for event, before in zip(explanation.events, coarse.events, strict=True):
        assert 0.5 < event.effect.channel < 1.3
        assert event.effect.better_than_random
        assert event.effect.score > 0
        assert (event.low, event.high) == (None, None)
        assert (event.score, event.contribution) == (before.score, before.contribution)
    for label, values in coarse.evidence.items():
        assert torch.equal(explanation.evidence[label], values)


def test_a_recording_that_is_padded_keeps_its_end():
    """Three seconds in a window of eight."""
    assert places(refined([(1.125, 1.875, 1.0)], duration=3.0)) == [(1.125, 1.875, "dog")]
    (event,) = refined([(2.125, 3.0, 1.0)], duration=3.0).events
    assert (event.start, event.end) == (2.125, 3.0)


def test_a_last_window_of_another_hop_is_refined():
    assert places(refined([(38.125, 38.875, 1.0)], duration=39.5)) == [(38.125, 38.875, "dog")]


def test_a_sound_that_goes_on_beyond_the_window_keeps_the_edge_of_the_columns():
    """Without overlap, the window shows the sound from its start to the end of the window."""
    (event,) = refined([(7.125, 8.5, 1.0)], hop=8.0).events
    assert (event.start, event.end) == (7.125, 8.5)


@pytest.mark.parametrize(("start", "end"), [(5.0, 7.5), (6.0, 9.5), (2.0, 33.0)])
def test_a_sound_that_no_region_covers_keeps_its_edges(start, end):
    """A candidate covers at most half of the window, here 4 s, where the sound is longer than a quarter of it."""
    (event,) = refined([(start, end, 1.0)]).events
    assert (event.start, event.end) == (start, end)


def test_the_edges_of_a_band_are_found():
    """Rows 5 to 7 of 16 sound; the layer has four rows."""
    axes = SpectrogramAxes(RATE, 30, 10, center=False)

    class Rows(Coarse):
        def __init__(self):
            super().__init__()
            self.layer = nn.Sequential(nn.AvgPool2d(4), nn.ReLU())

    def transform(waveform):
        rows = torch.zeros(16, 1)
        rows[5:8] = 1
        return blocks(waveform) * rows

    model = Rows()
    classifier = Classifier(model, transform, RATE, ["dog", "rain"], axes=axes, exclusive=False)
    sound = sounding([(5.25, 6.0, 5.0)], 24.0)
    for scheme in ("square", "frequency", "time-frequency", "time"):
        apex = LayerAPEX(model, model.layer, PrototypeBasis(torch.eye(2), scheme))
        coarse, fine = (
            explain_recording(apex, sound, 8.0, 8.0, classifier=classifier, search=search).events
            for search in (None, RegionSearch(cross=True))
        )
        assert fine[0].effect.better_than_random or scheme == "time"
        band = (axes.hertz(5.0), axes.hertz(8.0)) if scheme != "time" else (None, None)
        assert (fine[0].low, fine[0].high) == pytest.approx(band)
        if scheme == "frequency":
            assert (fine[0].start, fine[0].end) == (coarse[0].start, coarse[0].end)
        else:
            first, last = axes.seconds(42.0), axes.seconds(48.0)
            assert (fine[0].start, fine[0].end) == pytest.approx((first, last))


def test_a_channel_that_supports_by_a_negative_activation_is_refined():
    apex, classifier = of_levels(Coarse())
    apex.basis = PrototypeBasis(-torch.eye(2), "time")
    sound = sounding([(5.125, 5.875, 1.0)], 24.0)
    (event,) = explain_recording(apex, sound, 8.0, 4.0, classifier=classifier, sides="both", search=SEARCH).events
    assert (event.start, event.end, event.channels[0].side) == (5.125, 5.875, -1)
    assert event.effect.better_than_random


def test_a_model_of_one_logit_that_takes_lengths_is_refined():
    class Detector(Coarse):
        def forward(self, x, n):
            assert (n == x.shape[-1]).all()
            return super().forward(x)[:, 0]

    apex, classifier = of_levels(Detector(), names=["real"])
    apex.columns = lambda n: n // 4
    sound = sounding([(5.125, 5.875, 1.0)], 24.0)
    explanation = explain_recording(apex, sound, 8.0, 4.0, classifier=classifier, search=SEARCH)
    assert places(explanation) == [(5.125, 5.875, "real")]


@pytest.mark.parametrize("at_input", [False, True])
def test_the_search_masks_along_the_axes_that_the_classifier_says(at_input):
    """The axes of this input are (clip, time, row), which its shape does not tell."""

    class Turned(Coarse):
        def forward(self, x):
            return super().forward(x.transpose(1, 2)[:, :, None])

    model = Turned()
    classifier = Classifier(
        model, lambda waveform: blocks(waveform)[:, 0].T, RATE, ["dog", "rain"], input_layout="n t f", exclusive=False
    )
    basis = PrototypeBasis(torch.eye(2), "time")
    apex = APEX(model, model.layer, basis, input_layout="n t f") if at_input else LayerAPEX(model, model.layer, basis)
    sound = sounding([(5.125, 5.875, 1.0)], 24.0)
    explanation = explain_recording(apex, sound, 8.0, 4.0, classifier=classifier, search=SEARCH)
    assert places(explanation) == [(5.125, 5.875, "dog")]


def test_a_waveform_is_refined_in_seconds():
    """A column lasts an eighth of a second; the sound is found to a hop of the Fourier transform."""

    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Sequential(nn.AvgPool1d(80), nn.ReLU())

        def forward(self, x):
            return 60 * self.layer(x.abs()[:, None]).mean(2)

    model = Mean()
    basis = PrototypeBasis(torch.eye(1), "time", origin=Origin(layout=Layout("n c t -> n c 1 t")))
    classifier = Classifier(model, lambda waveform: waveform, RATE, ["dog"])
    sound = 0.001 * noise(80 * 60)
    sound[80 * 22 + 40 : 80 * 24 - 24] += noise(80 * 2 - 64)
    apex = LayerAPEX(model, model.layer, basis)
    (event,) = explain_recording(apex, sound, 20.0, 10.0, classifier=classifier, search=SEARCH, threshold=0.9).events
    assert (event.start, event.end) == (pytest.approx(22.5, abs=0.2), pytest.approx(23.7, abs=0.2))
    assert (event.low, event.high) == (None, None)


def test_a_file_is_refined_as_its_waveform(tmp_path):
    sounds = [(5.125, 5.875, 0.5), (21.125, 21.875, -0.5)]
    soundfile.write(tmp_path / "night.wav", sounding(sounds, 30.0).numpy(), RATE)
    apex, classifier = of_levels(Coarse())
    from_file = explain_recording(apex, tmp_path / "night.wav", 8.0, 4.0, classifier=classifier, search=SEARCH)
    assert places(from_file) == [(5.125, 5.875, "dog"), (21.125, 21.875, "rain")]


def test_a_search_costs_as_many_passes_as_the_docstring_says(capsys):
    apex, classifier = of_levels(Coarse())
    runs = []
    handle = classifier.model.register_forward_pre_hook(lambda _, inputs: runs.append(len(inputs[0])))
    sound = sounding([(5.125, 5.875, 1.0)], 24.0)
    explanation = explain_recording(apex, sound, 8.0, 8.0, classifier=classifier, search=SEARCH, progress=True)
    handle.remove()
    assert len(explanation.events) == 1
    passes = sum(runs) - 3  # a pass for each window
    assert passes + 4 <= 12 + 5 + 1  # the two backward passes count twice; the score of the clip itself is one more
    assert "1/1" in capsys.readouterr().err


def test_silence_needs_no_search(capsys):
    assert refined([], progress=True).events == ()


# --- cost ---------------------------------------------------------------------


def test_the_model_runs_once_on_every_window_for_all_classes():
    apex, classifier, _ = of_spectra("time")
    runs = []
    handle = classifier.model.register_forward_pre_hook(lambda _, inputs: runs.append(len(inputs[0])))
    explanation = explain_recording(apex, noise(1203), 1.0, 0.5, classifier=classifier, threshold=0.0, batch_size=8)
    handle.remove()
    assert len(explanation.evidence) == 4
    assert runs == [8, 8, 8, 6]


def test_memory_does_not_grow_with_the_recording(tmp_path):
    """The bytes of all live tensors, counted during the call; a fifth of the recording is sound."""
    cycle, most = sounding([(1.0, 3.0, 0.5)], 10.0), {}
    for cycles in (5, 50):
        soundfile.write(tmp_path / "long.wav", cycle.repeat(cycles).numpy(), RATE)
        windows, alive = iter(range(10 * cycles + 3)), []  # three clicks are tried, too

        def transform(waveform, windows=windows, alive=alive, every=cycles):
            if next(windows) % every == 0:
                alive.append(bytes_alive())
            return blocks(waveform)

        apex, classifier = of_levels(transform=transform)
        gc.collect()  # what other tests have left in circles of references would count at the beginning only
        explanation = explain_recording(apex, tmp_path / "long.wav", 2.0, 1.0, classifier=classifier)
        assert len(explanation.events) == cycles
        most[cycles] = max(alive) - alive[0]
    evidence = (50 - 5) * 80 * (4 + 4)  # a sum and a number of windows for each column
    assert most[50] - most[5] <= evidence + 2000 < 50 * 800 * 4 / 4  # a quarter of the samples


@pytest.mark.parametrize(
    "moved", [lambda waveform: waveform.repeat(2), lambda waveform: waveform.flip(0), lambda waveform: waveform[80:]]
)
def test_a_transform_that_moves_sounds_gives_no_events(moved):
    apex, classifier = of_levels(transform=lambda waveform: blocks(moved(waveform)))
    with pytest.raises(ValueError, match='a click at 0.25 s of a clip of 2 s .*short="repeat"'):
        explain_recording(apex, sounding([(1.0, 3.0, 0.5)], 10.0), 2.0, 1.0, classifier=classifier)


def bytes_alive():
    tensors = [thing for thing in gc.get_objects() if type(thing) in (torch.Tensor, nn.Parameter)]
    return sum({one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}.values())


def test_progress_is_shown_where_it_is_asked_for(capsys):
    explained([])
    assert capsys.readouterr().err == ""
    explained([], progress=True)
    assert "29/29" in capsys.readouterr().err


def test_the_model_and_the_recording_stay_as_they_are():
    apex, classifier, _ = of_spectra("square")
    classifier.model.train()
    sound = noise(500)
    before, weights = sound.clone(), {name: tensor.clone() for name, tensor in classifier.model.state_dict().items()}
    explain_recording(apex, sound, 1.0, 0.5, classifier=classifier)
    assert torch.equal(sound, before)
    assert classifier.model.training
    assert all(torch.equal(tensor, weights[name]) for name, tensor in classifier.model.state_dict().items())


# --- errors -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threshold": 1.5}, r"expected `threshold` to be a finite number in \[0, 1\], but got 1.5"),
        ({"level": 0.0}, r"expected `level` in \(0, 1\], but got 0"),
        ({"batch_size": 0}, "expected `batch_size` to be an int of at least 1, but got 0"),
        ({"hop": 3.0}, "expected 0 < `hop` <= `window`, in s, but got a hop of 3.0 and a window of 2.0"),
        (
            {"source": torch.zeros(2, 800)},
            r"expected a waveform of floats of shape \(sample,\), but got torch.float32 of shape \(2, 800\)",
        ),
        ({"source": torch.full((800,), torch.nan)}, "expected finite samples, but got NaN or infinity after 0 s"),
        ({"gap": -0.5}, "expected `gap` to be a finite number of at least 0, but got -0.5"),
        (
            {"exclusive": None},
            r"a Classifier that says whether its classes exclude each other, .* but got `exclusive=None`; give .* "
            r"`exclusive=True` .* cross-entropy \(one class per clip\), or `exclusive=False`",
        ),
        ({"sides": "negative"}, "expected `sides` to be one of 'positive', 'both'"),
        ({"window": 2.01}, "the transform to take the 161 samples of the window at 0 s, but it raised RuntimeError"),
    ],
)
def test_what_cannot_be_heard_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        explained([(2.0, 3.0, 1.0)], **settings)


def test_a_model_of_other_classes_is_refused():
    apex, classifier = of_levels(names=CLASSES)
    with pytest.raises(ValueError, match=r"one score for each of the 4 classes, but got \(8, 2\)"):
        explain_recording(apex, torch.zeros(1600), 2.0, 1.0, classifier=classifier)


@pytest.mark.parametrize(
    ("boxes", "effect", "place", "is_told"),
    [
        ([(0.28, 0.36)], RegionEffect(0.5, (0.1,)), (10.24, 10.88), True),
        ([(0.0, 0.1), (0.28, 0.3), (0.32, 0.36)], RegionEffect(0.5, (0.1,)), (10.24, 10.88), True),
        ([(0.28, 1.0)], RegionEffect(0.5, (0.1,)), (10.24, 11.0), True),  # may go on after the window
        ([(0.0, 0.36)], RegionEffect(0.5, (0.1,)), (10.0, 10.88), True),  # may begin before it
        ([(0.28, 0.36)], RegionEffect(0.5, (0.6,)), (10.0, 11.0), True),  # no better than a random place
        ([(0.5, 0.6)], RegionEffect(0.5, (0.1,)), (10.0, 11.0), False),  # elsewhere
        ([(0.28, 0.36)], None, (10.0, 11.0), False),  # nothing to take away
    ],
)
def test_an_event_takes_the_edges_of_its_region_where_they_mean_something(boxes, effect, place, is_told):
    """The columns of the event are those from 10 to 11 s, in the window from 8 to 16 s."""

    class Given(RegionSearch):
        def locate(self, channels, cells, target=None, *, score=None):
            return [LocatedRegion(Region(tuple(Box(0.0, 1.0, *times) for times in boxes)), effect) for _ in cells]

    (event,) = refined([(10.0, 11.0, 1.0)], hop=8.0, search=Given()).events
    assert (event.start, event.end) == pytest.approx(place)
    assert event.effect == (effect if is_told else None)


def test_events_of_one_sound_stay_joined_where_their_regions_lie_apart():
    """Two channels respond to the sound, and the search gives them its beginning and its end."""

    class Given(RegionSearch):
        def locate(self, channels, cells, target=None, *, score=None):
            times = [(0.26, 0.28), (0.34, 0.36)]
            return [LocatedRegion(Region((Box(0.0, 1.0, *each),)), RegionEffect(0.5, (0.1,))) for each in times]

    apex, classifier = of_levels(Coarse())
    apex.basis = PrototypeBasis(torch.tensor([[1.0, 1.0], [0.5, -0.5]]), "time")
    sound = sounding([(10.0, 11.0, 1.0)], 40.0)
    (event,) = explain_recording(apex, sound, 8.0, 8.0, classifier=classifier, search=Given()).events
    assert (event.start, event.end) == pytest.approx((8 + 8 * 0.26, 8 + 8 * 0.36))
    assert sorted((each.start, each.end) for each in event.channels) == [
        pytest.approx((10.08, 10.24)),
        pytest.approx((10.72, 10.88)),
    ]


# --- silence, prototypes, pauses ----------------------------------------------


def test_events_in_digital_silence_are_marked_with_a_warning():
    """The model takes silence for rain. A recorder's noise is silent too, but not digitally."""
    apex, classifier = of_levels(transform=lambda waveform: blocks(torch.where(waveform.abs() < 0.01, -0.9, waveform)))
    sound = sounding([(0.0, 4.0, 1.0), (4.0, 8.0, 0.5e-6), (8.0, 12.0, 1.0), (12.0, 14.0, 2e-6)], 14.0)
    with pytest.warns(UserWarning, match="1 of 4 events lie in digital silence, such as rain at 4–8 s") as warned:
        events = explain_recording(apex, sound, 2.0, 2.0, classifier=classifier).events
    assert len(warned) == 1
    assert [(event.start, event.end, event.name, event.silent) for event in events] == [
        *((0.0, 4.0, "dog", False), (4.0, 8.0, "rain", True)),
        *((8.0, 12.0, "dog", False), (12.0, 14.0, "rain", False)),
    ]


def test_sound_in_a_part_of_an_event_is_not_silence():
    apex, classifier = of_levels(transform=lambda waveform: blocks(torch.where(waveform == 0, -0.9, waveform)))
    sound = torch.zeros(800)
    sound[400] = -0.9
    (event,) = explain_recording(apex, sound, 2.0, 1.0, classifier=classifier).events
    assert (event.start, event.end, event.silent) == (0.0, 10.0, False)


def test_the_channels_of_an_event_name_their_prototypes():
    model = Levels()
    bank = FeatureBank.from_dataset(model, model.layer, [blocks(sounding([(0.0, 1.0, x)], 2.0)) for x in (1, -1, 2)])
    apex, classifier = of_levels(model)
    apex.basis = basis_from_matrix(bank, "time", torch.eye(2), n_prototypes=2)
    sound = sounding([(4.0, 4.5, 1.0), (20.0, 20.5, -0.5)], 30.0)
    explanation = explain_recording(apex, sound, 2.0, 1.0, classifier=classifier)
    assert [each.prototypes for each in explanation.channel_events] == [(2, 0), (1, 0)]


@pytest.mark.parametrize(("gap", "n_events"), [(0.0, 3), (0.25, 2), (0.5, 1)])
def test_pauses_up_to_the_gap_do_not_end_an_event(gap, n_events):
    sounds = [(5.0, 5.25, 1.0), (5.5, 5.75, 1.0), (6.25, 6.5, 1.0)]
    explanation = explained(sounds, gap=gap)
    assert len(explanation.events) == n_events
    assert [(each.start, each.end) for each in explanation.channel_events] == [sound[:2] for sound in sounds]


def test_a_search_that_fails_says_where_and_how_to_do_without():
    """The model takes one window at a time, but a search masks several copies at once."""

    class One(Coarse):
        def forward(self, x):
            if len(x) > 1:
                raise RuntimeError("one at a time")
            return super().forward(x)

    apex, classifier = of_levels(One())
    sound = sounding([(13.125, 13.875, 1.0)], 24.0)
    settings = {"classifier": classifier, "batch_size": 1}
    assert len(explain_recording(apex, sound, 8.0, 8.0, **settings).events) == 1
    message = r"the search in the window at 8 s raised RuntimeError: one at a time; leave out `search` \(--refine"
    with pytest.raises(ValueError, match=message):
        explain_recording(apex, sound, 8.0, 8.0, search=SEARCH, **settings)


def test_an_input_of_unknown_axes_is_not_searched():
    class Turned(Coarse):
        def __init__(self):
            super().__init__()
            self.layer = nn.Sequential(nn.AvgPool2d((1, 4)), nn.ReLU())

        def forward(self, x):  # (clip, time, row)
            return super().forward(x.transpose(1, 2).unflatten(1, (2, 2)))

    model = Turned()
    classifier = Classifier(
        model, lambda waveform: blocks(waveform)[:, 0].repeat_interleave(2, 0).T, RATE, ["dog", "rain"], exclusive=False
    )
    apex = LayerAPEX(model, model.layer, PrototypeBasis(torch.eye(2), "time"))
    sound = sounding([(13.125, 13.875, 1.0)], 24.0)
    with pytest.raises(ValueError, match=r"raised ValueError: expected inputs .*; say with `input_layout` which axis"):
        explain_recording(apex, sound, 8.0, 8.0, classifier=classifier, search=SEARCH)
