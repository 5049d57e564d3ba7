"""Layouts that contradict the layer are refused, and the right one is recommended."""

import pytest
import torch
from torch import nn

from captum_apex import FeatureBank
from captum_apex.layers.layout import Layout, check_layout

OVER_TIME = "n c t -> n c 1 t"
TOKENS = "n t c -> n c 1 t"

CHANNELS_FIRST = {
    "Conv1d": nn.Conv1d(3, 4, 3),
    "ConvTranspose1d": nn.ConvTranspose1d(3, 4, 3),
    "BatchNorm1d": nn.BatchNorm1d(4),
    "GroupNorm": nn.GroupNorm(2, 4),
    "InstanceNorm1d": nn.InstanceNorm1d(4),
    "with an activation": nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Dropout()),
    "nested": nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Conv1d(3, 4, 3), nn.GELU())),
}
CHANNELS_LAST = {
    "Linear": nn.Linear(3, 4),
    "LayerNorm": nn.LayerNorm(4),
    "RMSNorm": nn.RMSNorm(4),
    "with an activation": nn.Sequential(nn.Conv1d(3, 4, 3), nn.Linear(3, 4), nn.SiLU()),
}
UNKNOWN = {
    "activation": nn.ReLU(),
    "pooling": nn.AvgPool1d(2),
    "own module": type("Own", (nn.Module,), {})(),
    "behind an own module": nn.Sequential(nn.Conv1d(3, 4, 3), type("Own", (nn.Module,), {})()),
}
CASES = [
    *((layer, OVER_TIME, TOKENS) for layer in CHANNELS_FIRST.values()),
    *((layer, TOKENS, OVER_TIME) for layer in CHANNELS_LAST.values()),
]


@pytest.mark.parametrize(("layer", "right", "wrong"), CASES, ids=[*CHANNELS_FIRST, *CHANNELS_LAST])
def test_the_kind_of_the_layer_says_where_its_channels_are(layer, right, wrong):
    output = torch.zeros(2, 4, 4)
    check_layout(Layout(right), layer, output)
    with pytest.raises(ValueError, match=f'expected channels on axis [12] of the layer, .* pass "{right}"'):
        check_layout(Layout(wrong), layer, output)
    with pytest.raises(ValueError, match=rf'but got shape \(2, 4, 4\) of a .*; pass "{right}"'):
        check_layout(Layout(), layer, output)


@pytest.mark.parametrize("layer", UNKNOWN.values(), ids=UNKNOWN)
@pytest.mark.parametrize("pattern", [OVER_TIME, TOKENS])
def test_a_layer_of_another_kind_may_have_any_layout(layer, pattern):
    check_layout(Layout(pattern), layer, torch.zeros(2, 4, 4))


def test_axes_in_brackets_are_one_axis():
    patches = Layout("n (f t) c -> n c f t", {"f": 2})
    check_layout(patches, nn.LayerNorm(4), torch.zeros(2, 6, 4))
    with pytest.raises(ValueError, match="channels on axis 1 of the layer, a Conv1d, but .* has axis 2"):
        check_layout(patches, nn.Conv1d(3, 6, 3), torch.zeros(2, 6, 4))
    check_layout(Layout("n (c f) t -> n c f t", {"f": 2}), nn.Conv1d(3, 6, 3), torch.zeros(2, 6, 4))


def test_planes_need_no_layout():
    check_layout(Layout(), nn.Conv2d(1, 4, 3), torch.zeros(2, 4, 5, 6))
    check_layout(Layout("n f t c -> n c f t"), nn.Linear(3, 4), torch.zeros(2, 5, 6, 4))
    with pytest.raises(ValueError, match="channels on axis 3 of the layer, a LayerNorm"):
        check_layout(Layout(), nn.LayerNorm(6), torch.zeros(2, 4, 5, 6))


class OverTime(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Conv1d(4, 6, 3)
        self.head = nn.Linear(6, 2)

    def forward(self, inputs):
        return self.head(self.features(inputs[:, 0]).mean(2))


def test_a_bank_refuses_the_swapped_layout():
    model = OverTime().eval()
    clips = list(torch.rand(3, 1, 4, 9))
    assert FeatureBank.from_dataset(model, model.features, clips, layout=OVER_TIME).n_channels == 6
    for layout in (TOKENS, None):
        with pytest.raises(ValueError, match=f'pass "{OVER_TIME}"'):
            FeatureBank.from_dataset(model, model.features, clips, layout=layout)
