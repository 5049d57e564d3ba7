"""The regions of batdetect2's evidence lie on the calls, also though its head takes the maximum of a map."""

import math

import pytest
import torch

from benchmarks.experiments.published_regions import ROWS, _compared, elsewhere_lines, region_lines
from benchmarks.published import bat_calls
from benchmarks.published.bat_calls import COLUMNS, HIGHEST, LOWEST, RATE, SAMPLES, Call, box_of, whole_spectrogram
from captum_apex import APEX, Box, explain
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


@needing("batdetect2")
def test_regions_of_channels_that_fire_elsewhere_meet_calls_and_their_peaks_do_not():
    (line,) = elsewhere_lines(subject("batdetect2"), every=8, n_channels=3).to_dict("records")
    assert line["channels"] >= 9
    assert line["elsewhere"] > 0.5
    assert line["level"] < 0.7
    assert line["region_met"] > line["cell_met"] + 0.4


@needing("batdetect2")
def test_it_is_said_of_the_channels_whose_peak_is_beside_the_pixel_of_the_maximum():
    """Both places by hand: the pixel with the largest score in the network's map, and the largest column of U Z."""
    whole = subject("batdetect2")
    (basis,) = whole.bases
    inputs = whole.inputs[::8]
    network = bat_calls.load()
    held = []
    network.conv_op_bn.register_forward_hook(lambda *called: held.append(called[-1].clone()))  # a ReLU works in place
    with torch.no_grad():
        logits = network(inputs).pred_class_un_norm
    scores = (logits[:, :-1] - logits[:, -1:]).amax(2)  # (clip, species, column)
    levels = torch.einsum("kc,ncft->nkt", basis.U, held[0]) / ROWS
    said = []
    for clip, explanation in enumerate(explain(APEX(whole.classifier.model, whole.classifier.layer, basis), inputs)):
        deciding = int(scores[clip, int(explanation.target)].argmax())
        for evidence in explanation.evidence:
            peak = int(levels[clip, evidence.channel].argmax())
            assert evidence.cell.boxes == (Box(0.0, 1.0, peak / COLUMNS, (peak + 1) / COLUMNS),)
            in_region = any(
                COLUMNS * box.start < peak + 1 and peak < COLUMNS * box.end for box in evidence.region.boxes
            )
            said.append(evidence.effect.fires_elsewhere)
            assert said[-1] == (peak != deciding and not in_region)
            assert ("fires more strongly elsewhere" in str(evidence.effect)) == said[-1]
    assert set(said) == {False, True}
