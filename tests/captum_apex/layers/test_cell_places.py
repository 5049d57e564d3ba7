"""The places of cells against the receptive fields that follow from kernels, strides, dilations and paddings."""

import random

import pytest
import torch
from torch import nn

from captum_apex.layers.cell_places import cell_line

SIZE = 240


def stack(seed):
    """Layers with all paddings, strides, dilations and poolings; the centre of cell 0, the step, the field."""
    rng = random.Random(seed)
    layers = []
    n_channels, size, first, step, field = 1, SIZE, 0.5, 1.0, 1.0
    for _ in range(rng.randint(1, 5)):
        kind = rng.choice(["convolution", "convolution", "maximum", "mean"])
        kernel, stride = rng.randint(1, 7), rng.randint(1, 3)
        dilation = 1 if kind == "mean" else rng.randint(1, 3)
        reach = dilation * (kernel - 1)
        padding = (
            rng.choice([0, reach // 2, rng.randint(0, reach)])
            if kind == "convolution"
            else rng.choice([0, kernel // 2])
        )
        n_cells = (size + 2 * padding - reach - 1) // stride + 1
        if n_cells < 8 or field + reach * step > SIZE / 2:
            continue
        if kind == "convolution":
            layers += [nn.Conv1d(n_channels, 6, kernel, stride, padding, dilation), nn.ReLU()]
            n_channels = 6
        elif kind == "maximum":
            layers.append(nn.MaxPool1d(kernel, stride, padding, dilation))
        else:
            layers.append(nn.AvgPool1d(kernel, stride, padding))
        first += (reach / 2 - padding) * step
        field += reach * step
        step *= stride
        size = n_cells
    return nn.Sequential(*layers), first, step, size


@pytest.mark.parametrize("seed", range(60))
def test_cells_lie_within_half_a_step_of_their_receptive_fields(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers, first, step, n_cells = stack(seed)
        clip = torch.randn(1, 1, SIZE)
    with torch.no_grad():
        line = cell_line(layers, clip, axis=2)
    for cell in (0, n_cells - 1):
        assert line.centre(cell) == pytest.approx(first + cell * step, abs=0.5)


@pytest.mark.parametrize(("axis", "wanted"), [(2, (-0.5, 2.0)), (3, (5.0, 3.0))])
def test_both_axes_of_a_spectrogram(axis, wanted):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.Conv2d(1, 4, (3, 10), stride=(2, 3), padding=(2, 0))
    other = 5 - axis
    with torch.no_grad():
        line = cell_line(lambda clips: layer(clips).movedim(other, 1).flatten(1, 2), torch.zeros(1, 1, 40, 90), axis)
    assert (line.first, line.step) == wanted
    assert line.exact


def test_cells_that_hear_the_whole_clip_lie_where_half_of_their_change_has_come():
    """Each frame has a little of the mean over all frames, as attention gives it."""

    def mixed(clips):
        return clips + 0.3 * clips.mean(2, keepdim=True)

    line = cell_line(mixed, torch.zeros(1, 3, 50), axis=2)
    assert not line.exact
    for cell in (0, 24, 49):
        assert line.centre(cell) == pytest.approx(cell + 0.5, abs=1)


def test_what_has_no_places():
    assert cell_line(lambda clips: clips.mean(2, keepdim=True), torch.zeros(1, 1, 50), axis=2) is None
    assert cell_line(lambda clips: 0 * clips, torch.zeros(1, 1, 50), axis=2) is None
