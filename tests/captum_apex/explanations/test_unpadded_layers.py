"""Layers without padding: cells, maps and events lie where the sound is, not where padded layers would have them."""

import pytest
import torch
from torch import nn

from captum_apex import (
    APEX,
    Classifier,
    FeatureBank,
    LayerAPEX,
    RegionSearch,
    SpectrogramAxes,
    basis_from_matrix,
    explain,
    explain_recording,
)

KERNEL, STRIDE, N_SAMPLES = 301, 10, 1000


class Energy(nn.Module):
    """Short energies of a waveform without padding: the first cell has its middle at sample 150."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Conv1d(1, 2, KERNEL, STRIDE, bias=False), nn.ReLU())
        window = torch.hann_window(KERNEL)
        with torch.no_grad():
            self.layer[0].weight.copy_(torch.stack([window, -window])[:, None])

    def forward(self, waveforms):
        return self.layer(waveforms[:, None]).mean(2)


def click(sample, n_samples=N_SAMPLES):
    waveform = torch.zeros(n_samples)
    waveform[sample] = 5.0
    return waveform


def subject():
    model = Energy()
    clips = [click(sample) for sample in (300, 500, 700)]
    bank = FeatureBank.from_dataset(model, model.layer, clips, schemes=["time"], layout="n c t -> n c 1 t")
    return model, basis_from_matrix(bank, "time", torch.eye(2), n_prototypes=1)


@pytest.mark.parametrize("sample", [150, 500, 840])
def test_the_peak_cell_and_the_enlarged_map_lie_at_the_click(sample):
    model, basis = subject()
    apex = APEX(model, model.layer, basis)
    waveform = click(sample)[None]
    evidence = explain(apex, waveform, 0, n_prototypes=1, search=None)[0].evidence[0]
    (box,) = evidence.cell.boxes
    assert (box.start + box.end) / 2 * N_SAMPLES == pytest.approx(sample + 0.5, abs=STRIDE / 2 + 0.5)
    relevance = apex.attribute(waveform, 0)[0]
    assert relevance.argmax().item() == pytest.approx(sample, abs=STRIDE / 2 + 0.5)
    assert relevance.sum().item() == pytest.approx(explain(apex, waveform, 0, n_prototypes=1)[0].total, rel=1e-5)


def test_the_peak_cells_of_prototypes_lie_at_their_clicks():
    model, basis = subject()
    clips = {0: 300, 1: 500, 2: 700}
    prototype = explain(LayerAPEX(model, model.layer, basis), click(400)[None], 0, n_prototypes=1, search=None)
    (shown,) = prototype[0].evidence[0].prototypes
    (box,) = shown.region.boxes
    assert (box.start + box.end) / 2 * N_SAMPLES == pytest.approx(clips[shown.index] + 0.5, abs=STRIDE / 2 + 0.5)


@pytest.mark.parametrize("search", [None, RegionSearch()])
def test_a_call_in_a_recording_is_one_event_at_its_time(search):
    """Windows of 1 s that overlap by half: a layer taken for a padded one shows the call twice, beside its time."""
    model, basis = subject()
    classifier = Classifier(model, lambda waveform: waveform, N_SAMPLES, ["up", "down"], exclusive=False)
    recording = click(2_600, 6_000) + click(2_640, 6_000)
    explanation = explain_recording(
        LayerAPEX(model, model.layer, basis),
        recording,
        window=1.0,
        hop=0.5,
        classifier=classifier,
        threshold=0.505,
        level=0.9,
        search=search,
    )
    (event,) = explanation.events
    assert (event.start + event.end) / 2 == pytest.approx(2.62, abs=0.02)
    assert event.end - event.start < 0.1


def test_rows_without_padding_have_their_band():
    """A layer of unpadded rows: bins 0–63, kernel 17, stride 8: the first row has its middle at bin 8.5."""
    layer = nn.Sequential(nn.Conv2d(1, 1, (17, 1), stride=(8, 1), bias=False), nn.ReLU())
    with torch.no_grad():
        layer[0].weight.copy_(torch.hann_window(17)[None, None, :, None])
    model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    loud = torch.zeros(1, 1, 65, 12)
    loud[:, :, 8] = 3.0  # 1 kHz
    bank = FeatureBank.from_dataset(model, layer, list(loud), schemes=["frequency"])
    basis = basis_from_matrix(bank, "frequency", torch.eye(1), n_prototypes=1)
    (box,) = explain(LayerAPEX(model, layer, basis), loud, 0, n_prototypes=1, search=None)[0].evidence[0].cell.boxes
    axes = SpectrogramAxes(16000, 128, 64)
    assert axes.hertz(65 * (box.low + box.high) / 2) == pytest.approx(1000, abs=70)
