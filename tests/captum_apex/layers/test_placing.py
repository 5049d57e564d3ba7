"""The places of cells against the receptive fields that follow from kernels, strides, dilations and paddings."""

import random

import pytest
import timm
import torch
from torch import nn

from captum_apex import FeatureBank
from captum_apex.layers.cell_places import CellLine, CellPlaces
from captum_apex.layers.layout import Layout
from captum_apex.layers.placing import cell_line, cell_places

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
    return nn.Sequential(*layers), first, step, size, field


@pytest.mark.parametrize("seed", range(60))
def test_cells_lie_within_half_a_step_of_their_receptive_fields(seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers, first, step, n_cells, field = stack(seed)
        clip = torch.randn(1, 1, SIZE)
    with torch.no_grad():
        line = cell_line(layers, clip, axis=2)
    for cell in (0, n_cells - 1):
        assert line.centre(cell) == pytest.approx(first + cell * step, abs=0.5)
    assert line.receptive_field == pytest.approx(field, abs=1)


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


@pytest.mark.parametrize("forwards", [True, False])
def test_cells_of_a_recurrent_layer_lie_at_the_last_step_that_they_hear(forwards):
    """A convolution of 4 taps and a stride of 4 gives the frames, and a GRU hears all of them up to its own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        convolution = nn.Conv1d(1, 6, 4, stride=4).double()
        gru = nn.GRU(6, 5, batch_first=True).double()

    def respond(clips):
        frames = convolution(clips).transpose(1, 2)
        if forwards:
            return gru(frames)[0].transpose(1, 2)
        return gru(frames.flip(1))[0].flip(1).transpose(1, 2)

    clip = torch.randn(1, 1, 80, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with torch.no_grad():
        line = cell_line(respond, clip, axis=2)
    assert line == CellLine(first=2.0, step=4.0, size=80, n_cells=20, exact=False, receptive_field=80)


def test_the_search_ends_when_its_time_is_over():
    layer = nn.Conv1d(1, 4, 9)
    model = nn.Sequential(layer, nn.Flatten())
    with pytest.raises(TimeoutError, match="not placed in time"):
        cell_places(model, layer, torch.zeros(1, 1, 30), layout=Layout("n c t -> n c 1 t"), until=-1.0)


def test_two_cells_that_padding_cuts_off_alike_are_not_taken_for_whole_ones():
    """Four rows of eight bins: the inner two hear seven bins each, the first without the last and vice versa."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv1d(1, 6, 3, padding=1), nn.MaxPool1d(2), nn.Conv1d(6, 6, 3, padding=1))
    with torch.no_grad():
        line = cell_line(layers, clip=torch.randn(1, 1, 8, generator=torch.Generator().manual_seed(1)), axis=2)
    assert line is None or line.step == pytest.approx(2, rel=0.15)


def published(name, layer):
    """A network of timm with random weights, and its layer."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model(name, in_chans=1, num_classes=3).eval()
    return model, model.get_submodule(layer)


@pytest.mark.parametrize(
    ("name", "layer", "first", "within"),
    [
        ("resnet18", "layer4", 0.5, 0.5),
        ("convnext_atto", "stages", 16.0, 0.5),
        ("mobilenetv3_small_050", "blocks", 0.5, 4),
    ],
)
def test_networks_whose_strides_do_not_divide_the_input(name, layer, first, within):
    """All have columns of 32 frames. Those of MobileNet hear the whole input, because of squeeze-and-excitation."""
    model, module = published(name, layer)
    clip = torch.randn(1, 1, 64, 626, generator=torch.Generator().manual_seed(0))
    places = cell_places(model, module, clip)
    assert places.time.exact == (within == 0.5)
    for cell in (0, 18):
        assert places.time.centre(cell) == pytest.approx(first + 32 * cell, abs=within)


def test_a_model_that_gives_other_values_each_time_has_no_places():
    class Noisy(nn.Module):
        def forward(self, clips):
            return clips + 0.1 * torch.rand_like(clips)

    layer = Noisy()
    with torch.random.fork_rng():
        assert cell_places(layer, layer, torch.zeros(1, 1, 4, 30)) == CellPlaces()


def test_inputs_of_ambiguous_axes_have_places_where_the_layout_is_given():
    layer = nn.Conv1d(20, 4, 9, stride=4)
    model = nn.Sequential(layer, nn.Flatten())
    clip = torch.randn(1, 20, 100, generator=torch.Generator().manual_seed(0))
    settings = {"layout": Layout("n c t -> n c 1 t")}
    assert cell_places(model, layer, clip, input_layout="n f t", **settings).time == CellLine(
        4.5, 4.0, 100, 23, receptive_field=9
    )
    two_rows = {"layout": Layout("n (c f) t -> n c f t", {"f": 2})}
    assert cell_places(model, layer, clip, **two_rows) == CellPlaces()


def test_the_bank_notes_the_places_and_runs_few_copies_for_them():
    model = nn.Sequential(nn.Conv1d(1, 4, 9, stride=4), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    clips = list(torch.randn(3, 1, 100, generator=torch.Generator().manual_seed(0)))
    seen = []
    with model[0].register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0]))):
        bank = FeatureBank.from_dataset(model, model[0], clips, layout="n c t -> n c 1 t")
    assert bank.origin.places.time == CellLine(4.5, 4.0, 100, 23, receptive_field=9)
    assert sum(seen) - len(clips) < 60
    unknown = FeatureBank.from_dataset(model, model[0], clips, layout="n c t -> n c 1 t", places=False)
    assert unknown.origin.places == CellPlaces()


def test_a_model_that_refuses_altered_copies_fills_the_input_with_a_warning():
    class Strict(nn.Module):
        def forward(self, clips):
            if clips.abs().max() > 3:
                raise RuntimeError("too loud")
            return clips

    layer = Strict()
    model = nn.Sequential(layer, nn.Flatten())
    with pytest.warns(UserWarning, match=r"taken to fill the input.*RuntimeError: too loud"):
        bank = FeatureBank.from_dataset(model, layer, [torch.rand(1, 4, 30)])
    assert bank.origin.places == CellPlaces()


def test_what_has_no_places():
    assert cell_line(lambda clips: clips.mean(2, keepdim=True), torch.zeros(1, 1, 50), axis=2) is None
    assert cell_line(lambda clips: 0 * clips, torch.zeros(1, 1, 50), axis=2) is None
    assert cell_line(lambda clips: clips.repeat_interleave(2, 2), torch.zeros(1, 1, 50), axis=2) is None
