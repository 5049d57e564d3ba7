"""The choice of prototypes in blocks of clips, against a sorted list of each channel's activations in float64."""

import pytest
import torch

from captum_apex import FeatureBank, Scheme, fit_basis
from captum_apex.bases import prototype_choice, shared_bank
from captum_apex.bases.prototype_choice import most_active
from captum_apex.bases.shared_bank import SharedBank
from captum_apex.layers.origin import Origin
from tests import oracles


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_choice(means, U, n, among=None):
    """For each channel the clips in the order of their activations, by a sum over channels of the layer."""
    chosen = []
    for channel, row in enumerate(U.tolist()):
        activations = {
            clip: sum(weight * value for weight, value in zip(row, values, strict=True))
            for clip, values in enumerate(means.tolist())
            if among is None or clip in among[channel]
        }
        chosen.append(sorted(activations, key=activations.get, reverse=True)[:n])
    return chosen


@pytest.mark.parametrize("at_once", [1, 3, 7, 22, 23, 100])
@pytest.mark.parametrize("n", [1, 5, 23])
def test_the_blocks_of_clips_give_the_most_active_of_all(at_once, n, monkeypatch):
    """Where a block has fewer clips than are chosen, too."""
    monkeypatch.setattr(prototype_choice, "CLIPS_AT_ONCE", at_once)
    means = random(23, 70)  # more channels than are taken at once
    U = random(70, 70, seed=1)
    assert most_active(means, U, n).tolist() == slow_choice(means, U, n)
    assert most_active(means, -U, n).tolist() == slow_choice(means, -U, n)


def test_of_many_clips_the_choice_is_among_those_before(monkeypatch):
    means = random(23, 70)
    U = random(70, 70, seed=1)
    before = most_active(means, random(70, 70, seed=2), 6)
    origin = Origin("layer", grid=(1, 2), n_clips=23)
    shared = SharedBank(FeatureBank({Scheme.TIME: means[..., None].repeat(1, 1, 2)}, means, None, origin), "time")
    assert shared.most_active_again(U, before, 3).tolist() == slow_choice(means, U, 3)
    monkeypatch.setattr(shared_bank, "CLIPS_AT_ONCE", 22)
    among = slow_choice(means, U, 3, among=before.tolist())
    assert shared.most_active_again(U, before, 3).tolist() == among
    assert among != slow_choice(means, U, 3)


GRIDS = random(40, 6, 3, 4).relu() + 0.01


def bank():
    cells = {scheme: scheme.cells(GRIDS)[0].contiguous() for scheme in (Scheme.TIME, Scheme.FREQUENCY)}
    return FeatureBank(cells, GRIDS.mean((2, 3)), None, Origin("layer", grid=(3, 4), n_clips=len(GRIDS)))


def counted(monkeypatch, name):
    """The numbers of prototypes in the calls of a method of the bank by the fit."""
    function = getattr(SharedBank, name)
    calls = []

    def wrapped(*arguments):
        calls.append(arguments[-1])
        return function(*arguments)

    monkeypatch.setattr(SharedBank, name, wrapped)
    return calls


@pytest.mark.parametrize("method", ["gradient", "closed-form"])
def test_a_fit_compares_all_clips_only_where_prototypes_change_and_at_its_end(method, monkeypatch):
    for module in (prototype_choice, shared_bank):
        monkeypatch.setattr(module, "CLIPS_AT_ONCE", 8)
    choices = counted(monkeypatch, "most_active")
    again = counted(monkeypatch, "most_active_again")
    basis = fit_basis(bank(), "time", method=method, epochs=6, n_prototypes=(8, 2))
    falling = [8, 5, 2] if method == "gradient" else [8, 8, 8]
    assert choices == [*falling, 2, 2, 2]  # before epochs 0, 2 and 4; at the end; and of both sides
    assert again == [2, 2, 2]
    assert basis.purity_history.shape == (7,)
    assert basis.purity_history[-1].item() == pytest.approx(basis.positive.purities.mean().item(), abs=1e-7)


@pytest.mark.parametrize("settings", [{}, {"orthogonal": False}, {"method": "closed-form"}], ids=str)
@pytest.mark.parametrize("scheme", ["time", "time-frequency"])
def test_the_history_is_the_mean_purity_after_each_epoch(scheme, settings):
    """With one number of prototypes, a fit of a few epochs is the beginning of one of more epochs."""
    fits = [fit_basis(bank(), scheme, epochs=epochs, n_prototypes=(4, 4), **settings) for epochs in range(4)]
    for epochs, fit in enumerate(fits):
        purities = [
            oracles.peaks_and_purity(GRIDS[clip], fit.U, channel, scheme)[1]
            for channel in range(6)
            for clip in oracles.prototypes(GRIDS, fit.U, channel, 4)
        ]
        assert fits[-1].purity_history[epochs].item() == pytest.approx(sum(purities) / 24, abs=1e-7)
