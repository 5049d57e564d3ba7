"""The choice of the evidence's channels, by hand and against a loop over the channels."""

import pytest
import torch

from captum_apex.attribution.decomposition import select_channels


def by_hand(contributions, activations, n_channels, sides):
    """The definition: channels that support the class on a wanted side, those with the largest contributions."""
    eligible = [
        channel
        for channel in range(len(contributions))
        if contributions[channel] > 0 and (activations[channel] > 0 or (sides == "both" and activations[channel] < 0))
    ]
    chosen = sorted(eligible, key=lambda channel: -contributions[channel])[:n_channels]
    return [channel in chosen for channel in range(len(contributions))]


@pytest.mark.parametrize("sides", ["positive", "both"])
@pytest.mark.parametrize("n_channels", [1, 3, 8, 20])
def test_random_channels_are_those_of_the_definition(n_channels, sides):
    """Contributions and activations are independent, and half of both are negative; 20 are more than there are."""
    generator = torch.Generator().manual_seed(n_channels)
    contributions, activations = torch.randn(2, 50, 12, generator=generator, dtype=torch.float64)
    selected = select_channels(contributions, activations, n_channels, sides)
    for clip in range(50):
        expected = by_hand(contributions[clip].tolist(), activations[clip].tolist(), n_channels, sides)
        assert selected[clip].tolist() == expected


@pytest.mark.parametrize("sides", ["positive", "both"])
def test_a_channel_without_activation_is_no_evidence(sides):
    """Its cells cancel out, so that it has no side and no prototypes, however much it adds to the score."""
    selected = select_channels(torch.tensor([[9.0, 1.0]]), torch.tensor([[0.0, 1.0]]), n_channels=1, sides=sides)
    assert selected.tolist() == [[False, True]]


def test_the_largest_contribution_comes_first_whatever_its_activation():
    contributions = torch.tensor([[1.0, 2.0, 3.0]])
    activations = torch.tensor([[9.0, 0.5, 0.1]])
    assert select_channels(contributions, activations, n_channels=2).tolist() == [[False, True, True]]
