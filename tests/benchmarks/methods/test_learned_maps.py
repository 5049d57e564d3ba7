"""The decoder of L-MAC and the network of twins: the loss against a slow one, and planted places that they find."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.methods import LEARNERS, mask_decoder, twin_network
from benchmarks.methods.learners import TrainingClips
from benchmarks.methods.mask_decoder import MASK_DECODER, mask_loss
from benchmarks.methods.twin_network import TWIN_NETWORK, twin_difference
from captum_apex.masking.grids import region_grid
from tests.benchmarks.methods.queries import maps, query_of, random_query


class Corner(nn.Module):
    """The second class where the corner of the input is loud; the layer is the input, averaged over blocks of 2 × 2."""

    def __init__(self):
        super().__init__()
        self.layer = nn.AvgPool2d(2)

    def forward(self, inputs):
        loud = self.layer(inputs)[:, 0, :2, :2].mean((1, 2))
        return torch.stack([-4 * loud, 4 * loud], 1)


def corner_clips():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 1, 8, 12, generator=generator)
    inputs[::2, :, :4, :4] += 2
    inputs[1::2, :, :4, :4] -= 2
    model = Corner().eval()
    target = model(inputs).argmax(1)
    grid = region_grid((8, 12), 2, 3)
    query = query_of(model, model.layer, inputs, target, torch.full_like(inputs, -2.0), grid, {})
    shared = {
        each.name: getattr(query, each.name) for each in dataclasses.fields(TrainingClips) if each.name != "labels"
    }
    return query, TrainingClips(**shared, labels=target)


def test_the_loss_of_the_mask_is_the_published_one():
    query = random_query(dtype=torch.float64)
    mask = torch.rand(query.inputs.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    wanted = 0.0
    for i, clip in enumerate(query.inputs):
        within, without = (
            query.model((-2.0 + weight * (clip + 2.0))[None])[0].softmax(0)[query.target[i]].log().item()
            for weight in (mask[i], 1 - mask[i])
        )
        wanted += (4.0 * -within - 0.2 * -without) / len(query.inputs) + 0.4 * np.abs(mask[i].numpy()).mean()
    assert mask_loss(query.model, query.inputs, query.target, mask, -2.0).item() == pytest.approx(wanted, rel=1e-10)


def test_the_decoder_learns_the_corner_that_decides(monkeypatch):
    monkeypatch.setattr(mask_decoder, "STEPS", 150)
    query, clips = corner_clips()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = LEARNERS[MASK_DECODER].build(clips)
        LEARNERS[MASK_DECODER].train(network, clips)
    before = [tensor.clone() for tensor in query.model.state_dict().values()]
    mask = maps("L-MAC", dataclasses.replace(query, learned={MASK_DECODER: network.eval()}))[0]
    assert 0 <= mask.min() <= mask.max() <= 1
    loud = mask[query.target == 1]
    assert loud[..., :4, :4].mean() > 3 * loud[..., 4:, 4:].mean()
    assert all(torch.equal(one, other) for one, other in zip(before, query.model.state_dict().values(), strict=True))


def test_the_difference_of_twins_is_smooth_and_needs_twins():
    query = random_query(dtype=torch.float64)
    query.twins[:] = query.inputs
    query.twins[0, 0, 20, 10] += 3
    found = maps("twin difference", query)[0]
    rows, columns = torch.meshgrid(torch.arange(64.0) - 20, torch.arange(32.0) - 10, indexing="ij")
    wanted = torch.exp(-(rows**2 + columns**2) / (2 * 1.5**2)).double()
    torch.testing.assert_close(found[0, 0], 3 * wanted / wanted.sum(), atol=1e-4, rtol=0)
    assert not found[1].any()
    with pytest.raises(NotImplementedError, match="needs log-mels of clips that have twins"):
        twin_difference(dataclasses.replace(query, twins=None))


def test_the_network_of_twins_learns_where_they_differ(monkeypatch):
    monkeypatch.setattr(twin_network, "STEPS", 60)
    _, clips = corner_clips()
    twins = clips.inputs.clone()
    places = torch.arange(len(twins)) % 2
    for i, place in enumerate(places):
        twins[i, :, :, 6 * place : 6 * place + 6] += 4  # the half that is quiet in the clip, too
        clips.inputs[i, :, :, 6 * place : 6 * place + 6] -= 4
    clips = dataclasses.replace(clips, twins=twins)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = LEARNERS[TWIN_NETWORK].build(clips)
        LEARNERS[TWIN_NETWORK].train(network, clips)
    with torch.no_grad():
        found = network(clips.inputs)
    assert (found[places == 0][..., :5].mean() > 2 * found[places == 0][..., 7:].mean()).item()
    assert (found[places == 1][..., 7:].mean() > 2 * found[places == 1][..., :5].mean()).item()
    with pytest.raises(NotImplementedError, match="clips that have twins"):
        LEARNERS[TWIN_NETWORK].train(network, dataclasses.replace(clips, twins=None))


def test_a_decoder_for_spectra_is_refused():
    query = random_query()
    with pytest.raises(NotImplementedError, match="masks log-mels, and not the spectra"):
        LEARNERS[MASK_DECODER].build(dataclasses.replace(query, band_shares=torch.ones(3, 4)))
