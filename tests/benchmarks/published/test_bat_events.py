"""The events of a recording of bats are the calls that batdetect2's own detector finds."""

import math

import pandas as pd
import pytest

from benchmarks.experiments.published_events import compared, event_lines, pairs
from benchmarks.published.bat_calls import Call, detected_calls, recordings
from benchmarks.reports.bat_tables import elsewhere_section, events_section
from tests.benchmarks.published.subjects import needing, subject

pytestmark = pytest.mark.filterwarnings("ignore")
LOW, HIGH = 20e3, 40e3


def bat(start, end, species="bat", low=LOW):
    return Call(start, end, low, HIGH, species)


@needing("batdetect2")
def test_events_are_the_calls_of_the_detector():
    (line,) = event_lines(subject("batdetect2"), refined=(False,)).to_dict("records")
    assert line["events"] >= 15
    assert line["precision"] >= 0.8 > line["precision_random"] + 0.3
    assert line["recall"] > line["recall_random"] + 0.3
    assert abs(line["start"]) < 0.004


@needing("batdetect2")
def test_the_calls_of_the_detector_are_those_that_are_published():
    for path, samples, published in recordings():
        found = detected_calls(samples)
        matched = pairs(found, published)
        assert len(matched) == len(found) >= 6, path.name
        assert all(abs(mine.start - theirs.start) < 0.003 for mine, theirs in matched)
        assert all(abs(mine.low - theirs.low) < 3000 for mine, theirs in matched)


def test_an_event_and_a_call_are_one_pair_at_most_and_the_nearest_starts_come_first():
    calls = [bat(0.1, 0.2), bat(0.15, 0.25), bat(0.6, 0.7), bat(0.8, 0.9, "other")]
    events = [bat(0.14, 0.21), bat(0.55, 0.5975), bat(0.595, 0.6), bat(0.8, 0.9)]
    assert pairs(events, calls) == [(events[0], calls[1])]
    assert pairs([bat(0.598, 0.599)], calls) == [(bat(0.598, 0.599), calls[2])]  # 2 ms before it
    assert len(pairs([bat(0.1, 0.2), bat(0.1, 0.2)], calls)) == 2


def test_the_measures_of_pairs_are_those_by_hand():
    calls = [[bat(0.2, 0.3), bat(0.5, 0.6)], [bat(0.1, 0.2)]]
    events = [[bat(0.22, 0.3, low=LOW + 500), bat(0.9, 0.95)], [Call(0.1, 0.22, math.nan, math.nan, "bat")]]
    measures = compared(events, calls, [1.0, 1.0])
    assert (measures["events"], measures["calls"]) == (3, 3)
    assert measures["precision"] == measures["recall"] == pytest.approx(2 / 3)
    assert measures["iou"] == pytest.approx((0.8 + 0.1 / 0.12) / 2)
    assert measures["start"] == pytest.approx(0.01)
    assert measures["end"] == pytest.approx(0.01)
    assert (measures["low"], measures["high"]) == (500, 0)
    assert 0.1 < measures["precision_random"] < 0.45  # a call and its event meet in about 0.2 of a second


def test_without_pairs_there_are_no_differences():
    measures = compared([[bat(0.2, 0.3)]], [[]], [1.0])
    assert (measures["precision"], measures["recall"]) == (0, 0)
    assert math.isnan(measures["start"])
    assert math.isnan(measures["iou"])


def test_tables_say_differences_in_ms_and_khz():
    measures = compared([[bat(0.201, 0.3, low=LOW - 500)]], [[bat(0.2, 0.3)]], [1.0])
    lines = [{"scheme": "square", "refined": True} | measures]
    lines.append({"scheme": "time", "refined": False} | compared([[]], [[]], [1.0]))
    table = events_section(pd.DataFrame(lines)).tables["Events of bat calls"]
    assert table.loc[0, ["regions", "start", "end", "low", "high"]].tolist() == [
        *("yes", "+1.0 ms", "+0.0 ms", "−0.5 kHz", "+0.0 kHz"),
    ]
    assert table.loc[1, ["regions", "start", "low"]].tolist() == ["no", "", ""]
    channels = {"scheme": "time", "channels": 5, "elsewhere": 0.0, "level": math.nan}
    far = elsewhere_section(pd.DataFrame([channels | {"region_met": math.nan, "cell_met": math.nan}]))
    assert far.tables["Channels of bat calls"].loc[0].tolist() == ["time", "5", "0%", "", "", ""]
