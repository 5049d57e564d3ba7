"""The tables of architectures in the guide to the layer: every row is run at its real size, with random weights."""

import dataclasses
import math
import re
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from captum_apex import APEX, SCHEMES, LayerAPEX, PrototypeBasis, SpectrogramAxes, suggest_layers
from captum_apex.attribution.projection import enlarged
from captum_apex.layers.layout import Layout
from captum_apex.layers.models import fingerprint
from captum_apex.layers.origin import Origin
from tests.architectures import HandWrittenHead, PrototypeHead
from tutorials.reference.architectures import GUIDE, ROUNDING, architectures, built, defined_names, measured

ROWS = architectures()


def grid_shape(row):
    """(channel, frequency, time)."""
    return tuple(map(int, row.grid.split(" × ")))


def supported(row):
    return set(SCHEMES if row.schemes == "all" else row.schemes.split(", "))


@pytest.fixture(scope="module")
def names():
    """The names that the section's Python blocks define; the networks are large enough to profit from two threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield defined_names()
    torch.set_num_threads(threads)


def state(model):
    """What must not change: weights, flags, and hooks, but for those that transformers adds when a model first runs."""
    hooks = [
        hook
        for module in model.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    ]
    ours = [hook for hook in hooks if "transformers" not in getattr(hook, "__module__", "")]
    flags = (
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
    )
    return fingerprint(model), ours, flags


def outer_cells(n_rows, n_columns):
    """(row, column): the first and the last row after a third of the time, and the last of both."""
    return [(0, n_columns // 3), (n_rows - 1, n_columns // 3), (n_rows - 1, n_columns - 1)]


def burst(row, model, cell):
    """An input with a sound at the place of one cell: a bright patch, or a sine wave."""
    axes, (_, n_rows, n_columns) = row.axes.split()[1:], grid_shape(row)
    sound, size = torch.zeros(row.input_shape), dict(zip(axes, row.input_shape, strict=True))
    columns = slice(math.ceil(cell[1] * size["t"] / n_columns), (cell[1] + 1) * size["t"] // n_columns)
    if "f" in axes:
        bands = slice(math.ceil(cell[0] * size["f"] / n_rows), (cell[0] + 1) * size["f"] // n_rows)
        sound[tuple({"f": bands, "t": columns, "c": slice(None)}[axis] for axis in axes)] = 3.0
    else:
        cycles = 0.05  # per sample
        if n_rows > 1:
            scale = SpectrogramAxes.from_transform(model[0])
            cycles = scale.hertz((cell[0] + 0.5) * scale.n_bins / n_rows) / scale.sample_rate
        sound[..., columns] = 3 * torch.sin(2 * torch.pi * cycles * torch.arange(size["t"]))[columns]
    return sound


def rotated(basis):
    U = nn.init.orthogonal_(torch.empty_like(basis.U), generator=torch.Generator().manual_seed(3))
    return PrototypeBasis(U, basis.scheme, origin=basis.origin)


def check_orientation(grids, cells):
    """A burst changes the columns at its time most; of two at the same time, the later row changes higher rows.

    The places agree up to two columns: the kernels and paddings of a random network spread a burst.
    """
    change = (grids[1:] - grids[:1]).abs().mean(1)  # (burst, channel, frequency, time) → (burst, frequency, time)
    for column, (_, wanted) in zip(change.mean(1).argmax(1).tolist(), cells, strict=True):
        assert abs(column - wanted) <= 2
    if change.shape[1] > 2:  # where there are two rows, both depend on every band
        heights = change.sum(2) @ torch.arange(change.shape[1], dtype=change.dtype) / change.sum((1, 2))
        assert heights[1] > heights[0]


def check_schemes(row, model, layer, origin, clip):
    n_channels, *grid = grid_shape(row)
    assert supported(row) == {scheme for scheme in SCHEMES if scheme.supports(*grid)}
    name = next(name for name, module in model.named_modules() if module is layer)
    for scheme in set(SCHEMES) - supported(row):
        with pytest.raises(ValueError, match=f"'{re.escape(name)}' gives 1 frequency row.*it supports: {row.schemes}"):
            APEX(model, layer, PrototypeBasis(torch.eye(n_channels), scheme, origin=origin)).attribute(clip, target=0)


def check_delta(row, delta):
    """The first clip, noise, is that of the table; where all behind the layer is linear, all contributions add up."""
    told = float(row.delta)
    if told <= ROUNDING:
        assert (delta <= ROUNDING).all()
    else:
        assert abs(delta[0].item() - told) <= 0.5 * 10 ** math.floor(math.log10(told))  # one digit


def test_the_table_has_every_architecture():
    assert len({row.name for row in ROWS}) == len(ROWS) == 19


@pytest.mark.parametrize("name", ["MobileNetV3-Large (torchvision)"])
def test_the_committed_row_is_what_the_command_writes(name, names):
    """`python tutorials/reference/architectures.py`, for those that take a few seconds."""
    (row,) = (row for row in ROWS if row.name == name)
    assert row.line in GUIDE.read_text()
    assert measured(dataclasses.replace(row, grid="", schemes="", delta=""), names).line == row.line


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_a_row_of_the_table_holds(row, names):
    model, layer, layout = built(row, names)
    cells = outer_cells(*grid_shape(row)[1:])
    noise = torch.randn(1, *row.input_shape, generator=torch.Generator().manual_seed(1))
    clips = noise + torch.stack([torch.zeros(row.input_shape), *(burst(row, model, cell) for cell in cells)])
    basis = PrototypeBasis(torch.eye(grid_shape(row)[0]), "square", origin=Origin(layout=layout))
    before = state(model)

    at_layer = LayerAPEX(model, layer, basis)
    whole = at_layer.decompose(clips, predicted=True)  # in the raw channels: the features are the layer's grid
    assert tuple(whole.features.shape[1:]) == grid_shape(row)
    check_orientation(whole.features, cells)
    check_schemes(row, model, layer, basis.origin, clips[:1])

    relevance = whole.relevance.sum(1)  # (clip, channel, frequency, time) → (clip, frequency, time)
    maps = enlarged(relevance, clips, row.axes)
    for i, own_basis in ((1, basis), (2, rotated(basis))):  # one by one, and in another basis
        apex = APEX(model, layer, own_basis, input_layout=row.axes)
        alone = apex.attribute(clips[i : i + 1], target=int(whole.target[i]), n_channels=None)
        torch.testing.assert_close(alone, maps[i : i + 1], rtol=1e-4, atol=1e-4 * maps[i].abs().max().item())

    silent = at_layer.output_without_layer(clips[:1])[0, whole.target]  # nothing else of a clip reaches the output
    gained = whole.score - silent
    delta = ((relevance.sum((1, 2)) - gained) / gained).abs()
    check_delta(row, delta)
    assert state(model) == before


# Swin's last norm comes after the layer of the table; the layer for bands is not meant to be the last.
PLACES = {"Swin-T (torchvision)": 1, "Swin-T (timm)": 1, "CNN14 of PANNs, for bands (checkout)": 2}
WHOLE = {"AST-Base (transformers)", "Swin-T (timm)"}  # they take inputs of one size


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_the_layer_of_the_table_is_proposed(row, names):
    model, layer, layout = built(row, names)
    before = state(model)
    shape = list(row.input_shape)
    if row.name not in WHOLE:
        shape[row.axes.split()[1:].index("t")] //= 4
    clip = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    proposed = suggest_layers(model, clip, input_layout=row.axes)[PLACES.get(row.name, 0)]
    assert proposed.module is layer
    assert Layout.of(proposed.layout) == layout
    assert (proposed.channels, proposed.grid[0]) == grid_shape(row)[:2]
    assert state(model) == before


def test_a_normalisation_that_is_written_out_by_hand_hides_the_total():
    """Both heads give the same logits; the map has its total only where the normalisation is a call of torch. The other
    is a warning."""
    torch.manual_seed(0)
    by_call, by_hand = PrototypeHead(16, n_classes=3, n_prototypes=2), HandWrittenHead(16, n_classes=3, n_prototypes=2)
    by_hand.load_state_dict(by_call.state_dict())
    layer, clips = nn.Conv2d(1, 16, 3), torch.randn(2, 1, 6, 8)
    totals = []
    for head in (by_call, by_hand):
        model = nn.Sequential(layer, head)
        apex = LayerAPEX(model, layer, PrototypeBasis(torch.eye(16), "square"))
        with nullcontext() if head is by_call else pytest.warns(UserWarning, match="channels of '0' add up to 0"):
            totals.append(apex.attribute(clips, target=1, n_channels=None).sum((1, 2, 3)))
        torch.testing.assert_close(model(clips), by_call(layer(clips)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        totals[0], by_call(layer(clips))[:, 1] + 2, rtol=1e-3, atol=1e-3
    )  # the head's bias is −2
    assert (totals[1].abs() < 1e-3 * totals[0].abs()).all()
