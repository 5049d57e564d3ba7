"""Events in the background, against a slow definition, and how they are said to be such."""

import csv
import math

import pytest
import torch
from torch import nn

from captum_apex import (
    Classifier,
    Event,
    LayerAPEX,
    PrototypeBasis,
    explain_recording,
    write_audacity,
    write_csv,
    write_raven,
)
from captum_apex.explanations.event_files import event_records
from captum_apex.explanations.quiet_events import BackgroundLevel
from captum_apex.layers.cell_places import CellLine, CellPlaces
from captum_apex.layers.origin import Origin

RATE = 2000


def recording(seed):
    """Noise of three levels, and digital silence, in pieces of 0.2 to 2 s."""
    generator = torch.Generator().manual_seed(seed)
    levels = torch.tensor([0.0, 0.001, 0.001, 0.003, 0.1])
    pieces = []
    for _ in range(60):
        length, kind = torch.randint(400, 4000, (), generator=generator), torch.randint(5, (), generator=generator)
        pieces.append(levels[kind] * torch.randn(int(length), generator=generator))
    return torch.cat(pieces)


@pytest.mark.parametrize(("window", "hop"), [(4000, 4000), (4000, 1700), (20000, 333), (377, 376)])
def test_background_is_within_6_db_of_the_level_that_a_tenth_of_the_frames_does_not_exceed(window, hop):
    waveform = recording(window)
    background = BackgroundLevel(RATE)
    for start in range(0, len(waveform), hop):
        background.add(start, waveform[start : start + window])
    n_frames = len(waveform) // 100
    frames = [waveform[100 * i : 100 * i + 100].double().tolist() for i in range(n_frames)]
    powers = [sum(x * x for x in frame) / 100 for frame in frames]
    levels = [math.floor(10 * math.log10(power)) if power > 1e-12 else -120 for power in powers]
    sounding = [level for level in levels if level > -120]
    least = next(bar for bar in range(-120, 20) if 10 * sum(level <= bar for level in sounding) >= len(sounding))
    generator = torch.Generator().manual_seed(1)
    spans = torch.randint(n_frames, (500, 2), generator=generator).sort(1).values.tolist()
    spans = [(first, min(end, first + 1 + index % 9)) for index, (first, end) in enumerate(spans) if first < end]
    wanted = [all(level <= least + 6 for level in levels[first:end]) for first, end in spans]
    assert 50 < sum(wanted) < len(wanted) - 50
    assert [background.covers(first / 20, end / 20) for first, end in spans] == wanted


def test_where_nothing_is_louder_than_the_background_it_is_not_told_from_sound():
    background = BackgroundLevel(RATE)
    background.add(0, 0.1 * torch.randn(4 * RATE, generator=torch.Generator().manual_seed(0)))
    assert not background.covers(0.0, 4.0)
    background.add(4 * RATE, torch.ones(RATE))
    assert background.covers(0.0, 4.0)
    assert not background.covers(0.0, 5.0)


class Levels(nn.Module):
    """One channel and two classes: loud, and what is left."""

    def __init__(self, bias):
        super().__init__()
        self.layer = nn.ReLU()
        self.bias = bias
        self.n_silent = 0

    def forward(self, inputs):  # (clip, 2, 1, time): the level of each half second, and 1 less that
        self.n_silent += int(not inputs[:, 0].any())
        loud, quiet = self.layer(inputs).mean((2, 3)).unbind(1)
        return torch.stack([20 * loud - 1, 20 * quiet + self.bias], 1)


def explained(bias, names=("dog", "rain"), threshold=0.5, sound=None):
    model = Levels(bias)

    def transform(waveform):
        loud = waveform.reshape(-1, RATE // 2).square().mean(1).sqrt().clamp(max=0.5)
        return torch.stack([loud, (0.1 - loud).clamp_min(0)])[:, None]

    classifier = Classifier(model, transform, RATE, list(names), exclusive=False)
    apex = LayerAPEX(model, model.layer, PrototypeBasis(torch.eye(2), "time"))
    if sound is None:
        generator = torch.Generator().manual_seed(0)
        sound = 0.001 * torch.randn(20 * RATE, generator=generator)
        sound[8 * RATE : 10 * RATE] *= 300
    found = explain_recording(apex, sound, 2.0, 2.0, classifier=classifier, threshold=threshold)
    return found, model


def test_an_event_of_a_class_of_silence_that_is_no_louder_than_the_background_is_marked(tmp_path):
    """Rain has 0.88 of silence, 2 of the logit; noise of −60 dB is no digital silence."""
    message = (
        r"digital silence gets rain \(probability 0.88\), at least the threshold of 0.5: 2 of 3 events are no louder"
    )
    with pytest.warns(UserWarning, match=message) as caught:
        found, _ = explained(0.0)
    assert len(caught) == 1
    assert [(event.name, event.start, event.end, event.silent, event.quiet) for event in found.events] == [
        ("rain", 0.0, 8.0, False, True),
        ("dog", 8.0, 10.0, False, False),
        ("rain", 10.0, 20.0, False, True),
    ]
    write_csv(tmp_path / "a.csv", found.events)
    with open(tmp_path / "a.csv", newline="") as file:
        assert [line["silent"] for line in csv.DictReader(file)] == ["background", "no", "background"]
    write_raven(tmp_path / "a.txt", found.events)
    assert [line.split("\t")[-1] for line in (tmp_path / "a.txt").read_text().splitlines()] == [
        *("Silent", "background", "no", "background")
    ]
    write_audacity(tmp_path / "b.txt", found.events)
    labels = (tmp_path / "b.txt").read_text().splitlines()
    assert [label.endswith(", no louder than the background") for label in labels] == [True, False, True]
    assert repr(found.events[0]).endswith(", no louder than the background")
    assert [record["quiet"] for record in event_records(found.events)] == [True, False, True]


def test_no_event_is_marked_of_a_class_that_silence_does_not_get():
    """Rain has 0.62 of the noise and 0.61 of silence, below the threshold or named as nothing: warnings are errors."""
    for settings in ({"bias": -1.55, "threshold": 0.611}, {"bias": 0.0, "names": ("dog", "no call")}):
        found, _ = explained(**settings)
        assert not any(event.quiet for event in found.events)


def test_silence_is_only_asked_for_where_an_event_lies_in_the_background():
    sound = 0.001 * torch.randn(20 * RATE, generator=torch.Generator().manual_seed(0))
    sound[8 * RATE : 10 * RATE] *= 300
    found, model = explained(-9.0, sound=sound)  # nothing but the dog
    assert [event.name for event in found.events] == ["dog"]
    assert model.n_silent == 0


@pytest.mark.parametrize(
    ("field", "exact", "hears"),
    [(3.9, True, 1.95), (3.5, True, None), (None, True, None), (None, False, 2.0), (9.0, True, 2.0)],
)
def test_a_column_that_hears_a_whole_window_is_said_to(field, exact, hears):
    model = Levels(-9.0)

    def transform(waveform):
        loud = waveform.reshape(-1, RATE // 2).abs().mean(1)
        return torch.stack([loud, 0 * loud])[:, None]

    classifier = Classifier(model, transform, RATE, ["dog", "rain"], exclusive=False)
    line = CellLine(first=0.5, step=1.0, size=4.0, n_cells=4, exact=exact, receptive_field=field)
    basis = PrototypeBasis(torch.eye(2), "time", origin=Origin(places=CellPlaces(time=line)))
    sound = torch.zeros(20 * RATE)
    sound[8 * RATE : 10 * RATE] = 0.5
    found = explain_recording(LayerAPEX(model, model.layer, basis), sound, 2.0, 1.0, classifier=classifier)
    assert found.column_hears == hears
    text = "" if hears is None else f"\n  a column of the layer hears {hears:.1f} s: the start and the end of an event"
    assert text in repr(found)
    assert ("hears" in repr(found)) == (hears is not None)


def test_digital_silence_is_no_background():
    background = BackgroundLevel(RATE)
    background.add(0, torch.zeros(100))
    assert not background.covers(0.0, 0.5)
    assert Event(1.0, 2.0, None, None, 0, "dog", 0.9, 1.0, silent=True, quiet=True).quiet_text == "in digital silence"
