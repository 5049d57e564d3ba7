"""The regions of batdetect2's evidence lie on the calls, also though its head takes the maximum of a map."""

import math

import pytest
import torch

from benchmarks.experiments.published_regions import _compared, region_lines
from benchmarks.published.bat_calls import COLUMNS, HIGHEST, LOWEST, RATE, SAMPLES, Call, box_of, whole_spectrogram
from tests.benchmarks.published.subjects import needing, subject

pytestmark = pytest.mark.filterwarnings("ignore")


@needing("batdetect2")
def test_regions_meet_the_calls_of_the_explained_species():
    table = region_lines(subject("batdetect2"), every=5)
    (line,) = table.to_dict("records")
    assert line["regions"] >= 6
    assert line["met"] >= 0.8 > line["met_random"] + 0.2
    assert line["inside"] > 2 * line["inside_random"]
    assert line["iou"] > 2 * line["iou_random"]


@pytest.mark.parametrize("seconds", [0.012, 0.03, 0.05])
def test_a_click_lies_in_its_box(seconds):
    """A tone burst of 2 ms at 60 kHz is where `box_of` says, to a column and two rows."""
    samples = torch.arange(SAMPLES) / RATE
    sounding = (samples >= seconds) & (samples < seconds + 0.002)
    picture = whole_spectrogram(0.3 * torch.sin(2 * math.pi * 60_000 * samples) * sounding)[0]
    box = box_of(Call(seconds, seconds + 0.002, 60_000.0, 60_000.0, "bat"), start=0.0)
    row = ((picture.sum(1) / picture.sum()) * (torch.arange(128) + 0.5)).sum().item()
    assert abs(box.low * 128 - picture.sum(1).argmax().item() - 0.5) < 2
    assert 0 < row < 128
    column = picture.sum(0).argmax().item() + 0.5
    assert box.start * COLUMNS - 1.5 < column < box.end * COLUMNS + 1.5
    assert box_of(Call(0.0, 1.0, LOWEST, HIGHEST, "bat"), start=0.0).low == 0


def test_regions_are_compared_along_the_axes_of_their_scheme():
    region, boxes = torch.zeros(4, 8, dtype=torch.bool), torch.zeros(4, 8, dtype=torch.bool)
    region[:, 2:4] = True  # a strip
    boxes[1, 3:5] = True  # a call
    measures = _compared(region, boxes, "time", torch.Generator().manual_seed(0))
    assert (measures["met"], measures["inside"], measures["iou"]) == (1.0, 0.5, pytest.approx(1 / 3))
    assert measures["inside_random"] == pytest.approx(2 / 8, abs=0.1)  # a shifted strip has a quarter in the call
    square = _compared(region, boxes, "square", torch.Generator().manual_seed(0))
    assert (square["inside"], square["iou"]) == (1 / 8, 1 / 9)
