"""Events as files: Raven's selection tables and Audacity's labels, read back as these programs read them."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from captum_apex.explanations.events import Event, RecordingExplanation, write_audacity, write_raven
from captum_apex.locating import RegionEffect

EVENTS = [
    Event(1.25, 2.5, 150.0, 8000.0, 0, "dog", 0.875, 17, 1, 2.5),
    Event(3599.123456, 3600.0, 0.0, 16000.5, 1, "Türk\tkuşu\n(call)\u2028x", 0.5, 3, -1, 0.00001),
]


def test_a_selection_table_has_ravens_columns(tmp_path):
    """Tab-separated with a header, a row per selection; selections and the recording's channels count from 1."""
    path = tmp_path / "night.Table.1.selections.txt"
    write_raven(path, EVENTS)
    rows = list(
        csv.DictReader(path.read_bytes().decode().splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
    )
    assert [list(row.values())[:9] for row in rows] == [
        ["1", "Spectrogram 1", "1", "1.250000", "2.500000", "150.000", "8000.000", "dog", "0.8750"],
        ["2", "Spectrogram 1", "1", "3599.123456", "3600.000000", "0.000", "16000.500", "Türk kuşu (call) x", "0.5000"],
    ]
    assert list(rows[0]) == [
        *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"),
        *("Class", "Score", "Prototype Channel", "Side", "Contribution"),
    ]
    assert [(row["Prototype Channel"], row["Side"], row["Contribution"]) for row in rows] == [
        ("17", "1", "2.5000"),
        ("3", "-1", "0.0000"),
    ]


def test_labels_are_audacitys_with_a_line_for_the_band(tmp_path):
    write_audacity(tmp_path / "labels.txt", EVENTS)
    assert (tmp_path / "labels.txt").read_bytes().decode() == (
        "1.250000\t2.500000\tdog 0.88 (channel 17)\n\\\t150.000000\t8000.000000\n"
        "3599.123456\t3600.000000\tTürk kuşu (call) x 0.50 (channel 3)\n\\\t0.000000\t16000.500000\n"
    )


@pytest.mark.parametrize(
    ("name", "written"),
    [
        *(
            ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
            ("+1", "'+1"),
            ("-noise", "'-noise"),
            ("@SUM(A1)", "'@SUM(A1)"),
        ),
        *(("\t=1+1", "'=1+1"), ("\r\n=1+1", "'=1+1"), ('"=1+1"', '\'"=1+1"'), ("a=1", "a=1"), ("caf\udce9", "caf�")),
    ],
)
@pytest.mark.parametrize("write", [write_raven, write_audacity])
def test_the_name_of_a_class_is_text_for_a_spreadsheet_too(tmp_path, write, name, written):
    write(tmp_path / "table.txt", [replace(EVENTS[0], name=name)])
    cells = [line.split("\t") for line in (tmp_path / "table.txt").read_text(encoding="utf-8").split("\n")]
    assert written in ([row[7] for row in cells[1:2]] if write is write_raven else [cells[0][2].split(" 0.88")[0]])


def test_labels_without_bands_are_a_line_each(tmp_path):
    write_audacity(tmp_path / "labels.txt", EVENTS[:1], bands=False)
    assert (tmp_path / "labels.txt").read_text() == "1.250000\t2.500000\tdog 0.88 (channel 17)\n"


EFFECTS = [
    RegionEffect(0.75, (0.0, 0.1), score=2.5),
    RegionEffect(0.05, (0.0, 0.1), fires_on="silence"),
    RegionEffect(0.75, (0.0,), fires_on="the end of a sound"),
    RegionEffect(0.0, (0.0,)),
    None,
]


def test_a_table_of_refined_events_has_their_effects(tmp_path):
    path = tmp_path / "night.Table.1.selections.txt"
    write_raven(path, (replace(EVENTS[0], effect=effect) for effect in EFFECTS))
    rows = list(csv.DictReader(path.read_text().splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE, strict=True))
    assert list(rows[0])[12:] == ["Masking Effect", "Effect of Random Places", "Better than Random", "Fires On"]
    assert [list(row.values())[11:] for row in rows] == [
        ["2.5000", "0.7500", "0.0500", "yes", ""],
        ["2.5000", "0.0500", "0.0500", "no", "silence"],
        ["2.5000", "0.7500", "0.0000", "yes", "the end of a sound"],
        ["2.5000", "0.0000", "0.0000", "no", ""],
        ["2.5000", "", "", "", ""],
    ]


def test_a_label_says_what_speaks_against_its_event(tmp_path):
    write_audacity(tmp_path / "labels.txt", [replace(EVENTS[0], effect=effect) for effect in EFFECTS], bands=False)
    texts = [line.split("\t")[2] for line in (tmp_path / "labels.txt").read_text().splitlines()]
    assert texts == [
        "dog 0.88 (channel 17)",
        "dog 0.88 (channel 17), no better than a random place, fires on silence",
        "dog 0.88 (channel 17), fires at the end of a sound",
        "dog 0.88 (channel 17), no better than a random place",
        "dog 0.88 (channel 17)",
    ]


def test_no_events_are_a_header_or_nothing(tmp_path):
    write_raven(tmp_path / "raven.txt", [])
    write_audacity(tmp_path / "labels.txt", [])
    assert (tmp_path / "raven.txt").read_text().count("\n") == 1
    assert (tmp_path / "labels.txt").read_text() == ""


@pytest.mark.parametrize("write", [write_raven, write_audacity])
def test_an_interrupted_write_leaves_the_old_file(write, tmp_path, monkeypatch):
    path = tmp_path / "labels.txt"
    path.write_text("old")

    def interrupted(self, *_, **__):
        self.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(path, EVENTS)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_events_of_a_recording_are_counted_by_class():
    names = ["dog", "rain", "dog", "<b>", "siren", "fox"]
    found = [Event(t, t + 0.5, 150.0, 800.0, 0, name, 0.875, 17, 1, 2.5) for t, name in enumerate(names)]
    explanation = RecordingExplanation(tuple(found), {}, torch.empty(0), duration=12.0)
    assert repr(explanation).splitlines() == [
        "RecordingExplanation of 12.0 s, 6 events",
        *("  dog: 2", "  rain: 1", "  <b>: 1", "  siren: 1", "  …"),
    ]
    table = explanation._repr_html_()
    assert "<caption>6 events in 12.0 s</caption>" in table
    assert "<tr><td>3.00</td><td>3.50</td><td>&lt;b&gt;</td><td>0.88</td></tr>" in table
    many = RecordingExplanation(tuple(found) * 100, {}, torch.empty(0), duration=12.0)._repr_html_()
    assert many.count("<tr>") == 101
    assert "600 events in 12.0 s, the first 100" in many
