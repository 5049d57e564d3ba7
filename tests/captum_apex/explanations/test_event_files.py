"""Events as files: Raven's selection tables, Audacity's labels, CSV and JSON, read back as other programs read them."""

import csv
import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from captum_apex import Recordings, listening
from captum_apex.explanations.event_files import write_audacity, write_csv, write_json, write_raven
from captum_apex.explanations.events import ChannelEvent, Event
from captum_apex.locating import RegionEffect

STRONG = ChannelEvent(1.25, 2.25, 150.0, 700.0, 0, "dog", 0.875, 17, 1, 2.5, prototypes=(4, 2))
WEAK = ChannelEvent(1.5, 2.5, 300.0, 8000.0, 0, "dog", 0.75, 3, -1, 1.5)
LATER = ChannelEvent(3599.123456, 3600.0, None, None, 1, "Türk\tkuşu\n(call)\u2028x", 0.5, 3, 1, 0.00001)
EVENTS = [
    Event.of([WEAK, STRONG, replace(STRONG, start=1.3, contribution=2.0)]),
    replace(Event.of([LATER]), silent=True),
]
WRITERS = [write_raven, write_audacity, write_csv, write_json]


def raven_rows(path):
    return list(
        csv.DictReader(path.read_text("utf-8").splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE, strict=True)
    )


def with_effect(effect):
    """The first event, where the effect of its strongest channel is known."""
    return Event.of([replace(STRONG, effect=effect), WEAK])


def test_a_selection_table_has_ravens_columns(tmp_path):
    """Tab-separated with a header, a row per selection; selections and the recording's channels count from 1."""
    path = tmp_path / "night.Table.1.selections.txt"
    write_raven(path, EVENTS)
    rows = raven_rows(path)
    assert list(rows[0]) == [
        *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"),
        *("Annotation", "Score", "Contribution", "Prototype Channels", "Silent"),
    ]
    assert [list(row.values()) for row in rows] == [
        [
            *("1", "Spectrogram 1", "1", "1.250000", "2.500000", "150.000", "8000.000", "dog", "0.8750", "2.5000"),
            *("17; 3 negative", "no"),
        ],
        [
            *("2", "Waveform 1", "1", "3599.123456", "3600.000000", "", "", "Türk kuşu (call) x", "0.5000", "0.0000"),
            *("3", "yes"),
        ],
    ]


def test_a_selection_table_without_any_band_has_no_frequencies(tmp_path):
    write_raven(tmp_path / "raven.txt", EVENTS[1:])
    (row,) = raven_rows(tmp_path / "raven.txt")
    assert list(row)[:6] == ["Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Annotation"]
    assert list(row.values())[:5] == ["1", "Waveform 1", "1", "3599.123456", "3600.000000"]


def test_labels_are_audacitys_with_a_line_for_a_band(tmp_path):
    write_audacity(tmp_path / "labels.txt", EVENTS)
    assert (tmp_path / "labels.txt").read_bytes().decode() == (
        "1.250000\t2.500000\tdog 0.88 (channels 17, 3 negative)\n\\\t150.000000\t8000.000000\n"
        "3599.123456\t3600.000000\tTürk kuşu (call) x 0.50 (channel 3), in digital silence\n"
    )


def test_labels_without_bands_are_a_line_each(tmp_path):
    write_audacity(tmp_path / "labels.txt", [Event.of([STRONG])], bands=False)
    assert (tmp_path / "labels.txt").read_text() == "1.250000\t2.250000\tdog 0.88 (channel 17)\n"


def test_a_table_begins_with_the_columns_of_crowsettas_simple_sequences(tmp_path):
    write_csv(tmp_path / "events.csv", EVENTS)
    table = pd.read_csv(tmp_path / "events.csv")
    assert list(table.columns) == [
        *("onset_s", "offset_s", "label", "low_freq_hz", "high_freq_hz", "score", "contribution", "channels", "silent")
    ]
    assert table["onset_s"].tolist() == [1.25, 3599.123456]
    assert table["offset_s"].tolist() == [2.5, 3600.0]
    assert table["label"].tolist() == ["dog", "Türk kuşu (call) x"]
    assert table["low_freq_hz"].tolist() == [150.0, pytest.approx(math.nan, nan_ok=True)]
    assert table["high_freq_hz"].tolist() == [8000.0, pytest.approx(math.nan, nan_ok=True)]
    assert table[["score", "contribution"]].to_numpy().tolist() == [[0.875, 2.5], [0.5, 0.0]]
    assert table[["channels", "silent"]].to_numpy().tolist() == [["17; 3 negative", "no"], ["3", "yes"]]


@pytest.mark.filterwarnings("ignore")  # what crowsetta calls of pandas is no concern of ours
def test_crowsetta_reads_the_table_the_labels_and_the_selections(tmp_path):
    crowsetta = pytest.importorskip("crowsetta", reason="crowsetta is missing: pip install crowsetta")
    write_csv(tmp_path / "events.csv", [with_effect(EFFECTS[0]), *EVENTS])
    write_audacity(tmp_path / "labels.txt", EVENTS, bands=False)
    write_raven(tmp_path / "raven.txt", EVENTS[:1])  # the format "raven" demands a band for each selection

    def segments(kind, name):
        read = crowsetta.Transcriber(format=kind).from_file(tmp_path / name)
        return [(each.onset_s, each.offset_s, each.label) for each in read.to_annot().seq.segments]

    later = (pytest.approx(3599.123), 3600.0, "Türk kuşu (call) x")  # rounded to milliseconds by crowsetta
    assert segments("simple-seq", "events.csv") == [(1.25, 2.5, "dog"), (1.25, 2.5, "dog"), later]
    assert [label for *_, label in segments("aud-seq", "labels.txt")] == [
        "dog 0.88 (channels 17, 3 negative)",
        "Türk kuşu (call) x 0.50 (channel 3), in digital silence",
    ]
    (box,) = crowsetta.Transcriber(format="raven").from_file(tmp_path / "raven.txt").to_annot().bboxes
    assert (box.onset, box.offset, box.low_freq, box.high_freq, box.label) == (1.25, 2.5, 150.0, 8000.0, "dog")


@pytest.mark.parametrize("name", ['a, "b"', "a;b", "'a'"])
def test_a_name_with_commas_and_quotation_marks_comes_back_from_a_table(tmp_path, name):
    write_csv(tmp_path / "events.csv", [replace(EVENTS[0], name=name)])
    assert pd.read_csv(tmp_path / "events.csv")["label"].tolist() == [name]


def test_json_holds_every_field_of_events_and_their_channels(tmp_path):
    events = [with_effect(RegionEffect(0.75, (0.0, 0.1), score=2.5)), *EVENTS]
    write_json(tmp_path / "events.json", events)
    content = json.loads((tmp_path / "events.json").read_text("utf-8"))
    assert content == {"events": json.loads(json.dumps([asdict(event) for event in events]))}
    assert content["events"][0]["channels"][0]["effect"]["random"] == [0.0, 0.1]
    assert content["events"][1]["channels"][0]["prototypes"] == [4, 2]


def test_json_names_the_prototypes_where_their_recordings_are_at_hand(tmp_path):
    for index in range(6):
        listening.write(tmp_path / f"{index}.wav", torch.zeros(100), 8000)
    recordings = Recordings.in_folder(tmp_path)
    write_json(tmp_path / "events.json", EVENTS, recordings)
    content = json.loads((tmp_path / "events.json").read_text("utf-8"))
    for record, event in zip(content["events"], EVENTS, strict=True):
        for channel, of_event in zip(record["channels"], event.channels, strict=True):
            assert channel["prototypes"] == list(of_event.prototypes)
            names = [str(tmp_path / f"{index}.wav") for index in of_event.prototypes]
            assert channel.pop("prototype_clips") == names
    assert content["events"][0]["channels"][0]["prototypes"] == [4, 2]
    write_json(tmp_path / "unnamed.json", EVENTS)
    assert content == json.loads((tmp_path / "unnamed.json").read_text("utf-8"))


def test_json_has_no_numbers_that_other_programs_cannot_read(tmp_path):
    odd = replace(EVENTS[0], score=math.nan, contribution=math.inf, name="caf\udce9", channels=())
    write_json(tmp_path / "events.json", [odd])
    (event,) = json.loads((tmp_path / "events.json").read_text("utf-8"), parse_constant=pytest.fail)["events"]
    assert (event["score"], event["contribution"], event["name"]) == (None, None, "caf�")


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
def test_the_name_of_a_class_is_text_for_a_spreadsheet_too(tmp_path, name, written):
    events = [replace(EVENTS[0], name=name)]
    write_raven(tmp_path / "raven.txt", events)
    assert raven_rows(tmp_path / "raven.txt")[0]["Annotation"] == written
    write_audacity(tmp_path / "audacity.txt", events)
    assert (tmp_path / "audacity.txt").read_text("utf-8").split("\t")[2].split(" 0.88")[0] == written
    write_csv(tmp_path / "events.csv", events)
    assert pd.read_csv(tmp_path / "events.csv")["label"].tolist() == [written]


EFFECTS = [
    RegionEffect(0.75, (0.0, 0.1), score=2.5),
    RegionEffect(0.05, (0.0, 0.1), fires_on="silence"),
    RegionEffect(0.75, (0.0,), fires_on="the end of a sound"),
    RegionEffect(0.0, (0.0,)),
    None,
]


def test_tables_of_refined_events_have_their_effects(tmp_path):
    write_raven(tmp_path / "raven.txt", map(with_effect, EFFECTS))
    write_csv(tmp_path / "events.csv", map(with_effect, EFFECTS))
    rows = raven_rows(tmp_path / "raven.txt")
    assert list(rows[0])[12:] == [
        "Masking Effect",
        "Effect of Random Places",
        "Better than Random",
        "Fires On",
        "Doubts",
    ]
    wanted = [
        ["0.7500", "0.0500", "yes", "", ""],
        ["0.0500", "0.0500", "no", "silence", "no better than a random place (up to 10%); fires on silence"],
        ["0.7500", "0.0000", "yes", "the end of a sound", "fires at the end of a sound"],
        ["0.0000", "0.0000", "no", "", "masking takes almost nothing"],
        ["", "", "", "", ""],
    ]
    assert [list(row.values())[12:] for row in rows] == wanted
    with open(tmp_path / "events.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0])[9:] == [
        "masking_effect",
        "effect_of_random_places",
        "better_than_random",
        "fires_on",
        "doubts",
    ]
    assert [list(row.values())[9:] for row in rows] == wanted


def test_a_label_says_what_speaks_against_its_event(tmp_path):
    write_audacity(tmp_path / "labels.txt", map(with_effect, EFFECTS), bands=False)
    texts = [line.split("\t")[2] for line in (tmp_path / "labels.txt").read_text().splitlines()]
    channels = "dog 0.88 (channels 17, 3 negative)"
    assert texts == [
        channels,
        f"{channels}, no better than a random place (up to 10%), fires on silence",
        f"{channels}, fires at the end of a sound",
        f"{channels}, masking takes almost nothing",
        channels,
    ]


@pytest.mark.parametrize(
    ("write", "text"),
    [
        (
            write_raven,
            "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tAnnotation\tScore\t"
            "Contribution\tPrototype Channels\tSilent\n",
        ),
        (write_audacity, ""),
        (write_csv, "onset_s,offset_s,label,low_freq_hz,high_freq_hz,score,contribution,channels,silent\n"),
        (write_json, '{\n "events": []\n}\n'),
    ],
)
def test_no_events_are_a_header_or_nothing(tmp_path, write, text):
    write(tmp_path / "events", [])
    assert (tmp_path / "events").read_text() == text


@pytest.mark.parametrize("write", WRITERS)
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
