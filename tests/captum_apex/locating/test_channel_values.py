"""Channels of altered copies of a clip, against the whole model by hand."""

import pytest
import torch

from captum_apex import LayerAPEX
from captum_apex.locating.bins import Bins
from captum_apex.locating.channel_values import ChannelValues
from captum_apex.masking.fills import blur_fill
from tests.networks import bare_basis, build, clips, invertible

CLIP = clips(1, seed=6)
WEIGHTS = torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def channels_of(name="pooling after relu", **settings):
    model, layer = build(name)
    apex = LayerAPEX(model, layer, bare_basis(name))
    return ChannelValues(apex, Bins.of(CLIP, "n c f t"), invertible()[[1, 4]], WEIGHTS, **settings), model, layer


def value_by_hand(model, layer, inputs, channel):
    """`Σ w · û_k · Z`, with a graph to the inputs."""
    grids = []
    handle = layer.register_forward_hook(lambda _, __, output: grids.append(output.clone()))
    model(inputs)
    handle.remove()
    return torch.stack(
        [(WEIGHTS[channel] * torch.einsum("c,cft->ft", invertible()[[1, 4]][channel], grid)).sum() for grid in grids[0]]
    )


def test_the_values_are_the_weighted_sums_over_the_grid():
    channels, model, layer = channels_of()
    copies = clips(5, seed=7)
    for channel in range(2):
        expected = value_by_hand(model, layer, copies, channel)
        torch.testing.assert_close(channels.of(copies)[:, channel], expected, rtol=0, atol=1e-12)


def test_the_maps_are_gradient_times_difference_at_each_position():
    channels, model, layer = channels_of()
    fill = blur_fill(CLIP, (0.0, 0.25))
    maps = channels.maps(fill, (0.25, 0.75))
    assert maps.shape == (2, 2, 8, 10)
    for place, position in enumerate((0.25, 0.75)):
        for channel in range(2):
            point = (fill + position * (CLIP - fill)).requires_grad_()
            gradient = torch.autograd.grad(value_by_hand(model, layer, point, channel).sum(), point)[0]
            expected = (gradient * (CLIP - fill))[0, 0]
            torch.testing.assert_close(maps[place, channel], expected, rtol=0, atol=1e-12)


def test_maps_need_no_gradient_mode():
    channels, _, _ = channels_of()
    fill = torch.zeros_like(CLIP)
    expected = channels.maps(fill, (0.5,))
    with torch.no_grad():
        torch.testing.assert_close(channels.maps(fill, (0.5,)), expected, rtol=0, atol=0)


@pytest.mark.parametrize("batch_size", [1, 2, 16])
def test_the_scores_are_those_of_the_model_and_come_in_the_pass_of_the_values(batch_size):
    channels, model, layer = channels_of(batch_size=batch_size)
    copies = clips(5, seed=7)
    n_clips = []
    with layer.register_forward_pre_hook(lambda _, arguments: n_clips.append(len(arguments[0]))):
        values, scores = channels.with_scores(copies, 2)
    assert sum(n_clips) == len(copies)
    torch.testing.assert_close(scores, model(copies)[:, 2], rtol=0, atol=1e-12)
    torch.testing.assert_close(values, channels.of(copies), rtol=0, atol=1e-12)


def test_a_layer_whose_output_is_changed_in_place_afterwards_gives_its_own_output_with_the_scores():
    channels, _, _ = channels_of("pooling")
    copies = clips(3, seed=7)
    torch.testing.assert_close(channels.with_scores(copies, 1)[0], channels.of(copies), rtol=0, atol=1e-12)


def test_passes_for_the_values_end_at_the_layer_and_are_not_larger_than_a_batch():
    channels, model, layer = channels_of(batch_size=2)
    sizes = []
    layer.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0])))
    model.classifier.register_forward_pre_hook(lambda *_: pytest.fail("a pass went on after the layer"))
    channels.of(clips(5, seed=7))
    channels.maps(torch.zeros_like(CLIP), (0.25, 0.75))
    assert sizes == [2, 2, 1, 2]


def test_the_copies_are_not_changed_by_a_model_that_works_in_place():
    channels, model, _ = channels_of()
    model.stem.insert(0, torch.nn.ReLU(inplace=True))
    copies = clips(3, seed=7)
    before = copies.clone()
    channels.of(copies)
    channels.with_scores(copies, 1)
    assert torch.equal(copies, before)
    assert torch.equal(channels.bins.values, CLIP)
