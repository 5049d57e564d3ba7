"""Ways of fitting: what the lines of `fits` hold, and the variants of the closed form, against slow formulas."""

import dataclasses
import math
import statistics

import pytest
import scipy.linalg
import torch

from benchmarks.experiments import fits
from benchmarks.experiments.channels import NamedBasis, channel_removal_table, raw_channels
from benchmarks.experiments.fits import FITS, Fit, alternated, fit_lines, fitted_basis, mean_purity
from benchmarks.runs import subject
from captum_apex import SCHEMES, FeatureBank, Scheme, fit_basis
from captum_apex.layers.origin import Origin
from tests import oracles
from tests.small import small_subject

GRIDS = torch.randn(11, 5, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).relu() + 0.01
QUICK = {"epochs": 1, "n_prototypes": (8, 2)}


def bank():
    cells = {scheme: scheme.cells(GRIDS)[0].contiguous() for scheme in SCHEMES if len(scheme.sequences) == 1}
    return FeatureBank(cells, GRIDS.mean((2, 3)), None, Origin("layer", grid=(3, 4), n_clips=11))


def slow_alternation(scheme, counts, variant):
    """Prototypes, peaks, and the polar factor of the (averaged, weighted) mean directions, by loops."""
    U = torch.eye(5, dtype=torch.float64)
    average = torch.zeros(5, 5, dtype=torch.float64)
    for epoch in range(variant.epochs):
        M = torch.zeros(5, 5, dtype=torch.float64)
        means = []
        if epoch % variant.reselect_every == 0:
            prototypes = [oracles.prototypes(GRIDS, U, channel, counts[epoch]) for channel in range(5)]
        for channel, clips in enumerate(prototypes):
            activations = [oracles.activation(GRIDS[clip], U, channel) for clip in clips]
            means.append(sum(activations) / len(clips))
            strengths = [max(activation, 0) if variant.weighted else 1 for activation in activations]
            for clip, strength in zip(clips, strengths, strict=True):
                peaks, _ = oracles.peaks_and_purity(GRIDS[clip], U, channel, scheme)
                for peak, cells in zip(peaks, oracles.sequences(GRIDS[clip], scheme), strict=True):
                    M[channel] += strength / sum(strengths) * cells[peak] / cells[peak].norm() / len(peaks)
        mean = statistics.geometric_mean(means)
        exponent = min(1, variant.spread / statistics.pstdev(math.log(value) for value in means))
        for channel in range(5):
            M[channel] *= (means[channel] / mean) ** exponent
        average = variant.memory * average + (1 - variant.memory) * M
        U = torch.from_numpy(scipy.linalg.polar(average.numpy())[0])
    return U


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("memory", "weighted"), [(0.0, False), (0.5, False), (0.0, True), (0.25, True)])
def test_the_variants_of_the_closed_form_are_those_of_loops(scheme, memory, weighted):
    for spread, reselect_every in ((0.0, 1), (0.1, 2)):
        variant = Fit("", 4, (6, 3), reselect_every=reselect_every, spread=spread, memory=memory, weighted=weighted)
        expected = slow_alternation(scheme, [6, 5, 4, 3] if reselect_every == 1 else [6, None, 3], variant)
        torch.testing.assert_close(alternated(bank(), scheme, variant), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_without_memory_and_weights_a_variant_is_the_fit_in_closed_form(scheme):
    plain = Fit("closed-form", epochs=4, n_prototypes=(6, 6))
    basis, seconds = fitted_basis(bank(), scheme, plain)
    assert seconds > 0
    assert basis.positive.indices.shape == (5, 5)
    torch.testing.assert_close(alternated(bank(), scheme, plain), basis.U)
    gradient, _ = fitted_basis(bank(), scheme, Fit("gradient", epochs=2, n_prototypes=(6, 5)), seed=4)
    assert torch.equal(gradient.U, fit_basis(bank(), scheme, epochs=2, n_prototypes=(6, 5), seed=4).U)


def test_mean_purity_is_that_of_the_five_clips_of_another_bank_that_activate_a_channel_most():
    basis, _ = fitted_basis(bank(), Scheme.TIME, Fit(epochs=4, n_prototypes=(6, 5)))
    few = dataclasses.replace(bank(), cells={"time": bank().cells["time"][:7]}, means=bank().means[:7])
    purities = [
        oracles.peaks_and_purity(GRIDS[clip], basis.U, channel, "time")[1]
        for channel in range(5)
        for clip in oracles.prototypes(GRIDS[:7], basis.U, channel, 5)
    ]
    assert mean_purity(basis, few) == pytest.approx(sum(purities) / 25, abs=1e-6)


def test_the_lines_of_a_subject_are_of_its_training_and_test_clips(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPTUM_APEX_CACHE", str(tmp_path))
    monkeypatch.setattr(subject, "FIT", QUICK)
    monkeypatch.setattr(fits, "FITS", FITS | {"quick": Fit("closed-form", epochs=2, n_prototypes=(8, 8))})
    small = small_subject()
    lines = fit_lines(small, "quick").set_index("scheme")
    unseen = FeatureBank.from_dataset(small.model, small.layer, small.task.test, places=False)
    for scheme in SCHEMES:
        basis = fit_basis(small.bank, scheme, method="closed-form", epochs=2, n_prototypes=(8, 5))
        table = channel_removal_table(small, (5,), [raw_channels(small.bank), NamedBasis("it", basis)])
        drops = table.set_index(["basis", "kind"])["drop"]
        expected = {
            "purity": mean_purity(basis, small.bank),
            "unseen": mean_purity(basis, unseen),
            "removed": drops["it", "removed"],
            "alone": drops["it", "kept"],
        }
        assert lines.loc[str(scheme), list(expected)].to_dict() == pytest.approx(expected, abs=1e-6)
