"""Tables of events with odd names and numbers, read back as other programs read them."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from captum_apex import ChannelEvent, Event, RegionEffect, write_audacity, write_csv, write_json, write_raven
from tests.fuzz.texts import odd_text

NUMBERS = (0.0, 1.25, 1e-9, 12345.678, 1e12, -0.0, -1.5, math.nan, math.inf)
FORMULA = tuple("=+-@")


def tables(random: np.random.Generator, folder: Path) -> None:
    """Every event is one line with as many columns as the header, and its numbers and name come back."""
    events = [_event(random) for _ in range(int(random.integers(0, 6)))]
    path = folder / "events.txt"
    write_raven(path, events)
    head, *lines = _lines(path)
    columns = head.split("\t")
    assert len(lines) == len(events), "a name broke a line"
    for line, event in zip(lines, events, strict=True):
        entries = line.split("\t")
        assert len(entries) == len(columns), "a name broke a column"
        row = dict(zip(columns, entries, strict=True))
        _check_numbers([row["Begin Time (s)"], row["End Time (s)"]], [event.start, event.end], 1e-6)
        if event.low is not None:
            _check_numbers([row["Low Freq (Hz)"], row["High Freq (Hz)"]], [event.low, event.high], 1e-3)
        _check_name(row["Annotation"], event.name)
        assert not row["Annotation"].startswith(FORMULA), f"a spreadsheet takes {row['Annotation']!r} for a formula"
    write_audacity(path, events, bands=False)
    labels = _lines(path)
    assert len(labels) == len(events), "a name broke a line"
    for line, event in zip(labels, events, strict=True):
        start, end, text = line.split("\t")
        _check_numbers([start, end], [event.start, event.end], 1e-6)
        assert f"(channel {event.channels[0].channel})" in text
    _check_table(path, events)
    write_json(path, events)
    assert len(json.loads("\n".join(_lines(path)), parse_constant=pytest.fail)["events"]) == len(events)
    assert [entry.name for entry in folder.iterdir()] == ["events.txt"], "a temporary file is left"


def _check_table(path: Path, events: list[Event]) -> None:
    """The CSV of the events, read by Python's reader, has their times and names."""
    write_csv(path, events)
    rows = list(csv.DictReader(_lines(path), strict=True))
    assert len(rows) == len(events)
    for row, event in zip(rows, events, strict=True):
        _check_numbers([row["onset_s"], row["offset_s"]], [event.start, event.end], 1e-6)
        _check_name(row["label"], event.name)


def _event(random: np.random.Generator) -> Event:
    start, end, low, high, score, contribution = (
        float(random.choice(NUMBERS)) if random.random() < 0.2 else float(random.uniform(0, 9)) for _ in range(6)
    )
    effect = None
    if random.random() < 0.3:
        effect = RegionEffect(0.5, (0.25,), 0.5, str(random.choice(["", "silence"])))
    label, channel = random.integers(0, 99, 2).tolist()
    band = (low, high) if random.random() < 0.7 else (None, None)
    name = odd_text(random)
    inside = ChannelEvent(start, end, *band, label, name, score, channel, 1, contribution, effect)
    return Event(start, end, *band, label, name, score, contribution, channels=(inside,))


def _lines(path: Path) -> list[str]:
    """The lines of a file, as a program that knows only line feeds and one that knows all line ends see them."""
    text = path.read_bytes().decode("utf-8")
    assert text == "" or text.endswith("\n")
    assert text.splitlines() == text.split("\n")[:-1], "some programs see a line end inside a line"
    assert "\0" not in text
    return text.split("\n")[:-1]


def _check_numbers(texts: list[str], numbers: list[float], precision: float) -> None:
    for text, number in zip(texts, numbers, strict=True):
        read = float(text)
        assert read == number or math.isclose(read, number, abs_tol=precision) or math.isnan(number), (text, number)


def _check_name(text: str, name: str) -> None:
    """The letters and digits of the name are those of the entry, in their order."""
    letters = [letter for letter in name if letter.isalnum()]
    assert [letter for letter in text if letter.isalnum()] == letters, (text, name)
