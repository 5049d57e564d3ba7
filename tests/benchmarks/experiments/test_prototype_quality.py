"""The quality of prototypes: what the lines of `prototypes` hold, beside the measures that are called one by one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from benchmarks.experiments import compared_bases, prototype_quality
from benchmarks.experiments.compared_bases import (
    BASES,
    CONDITION,
    dictionary_directions,
    matrix_of,
    sparse_codes,
)
from benchmarks.experiments.prototype_quality import (
    ATTACK,
    COLUMNS,
    MEASURES,
    UnseenClips,
    quality_lines,
    regions_of,
    subset,
)
from benchmarks.runs import subject
from benchmarks.tasks.scene_parts import parts_of
from captum_apex import FeatureBank, LayerAPEX, basis_from_matrix, fit_basis
from captum_apex.attribution import ChannelOutputs, select_channels
from captum_apex.metrics import prototypes as measures
from tests import oracles
from tests.small import small_subject

QUICK = {"epochs": 1, "n_prototypes": (8, 2)}


@pytest.fixture(scope="module")
def small():
    """A subject of scenes with the bases of two schemes."""
    whole = small_subject()
    return replace(whole, seed=3, bases={scheme: whole.bases[scheme] for scheme in ("time", "time-frequency")})


@pytest.fixture(scope="module")
def clips(small):
    return UnseenClips.of(small)


@pytest.fixture
def quick(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPTUM_APEX_CACHE", str(tmp_path))
    monkeypatch.setattr(subject, "FIT", QUICK)
    monkeypatch.setattr(prototype_quality, "LOWERED", (2, 1))


def test_contributions_and_activations_are_those_of_the_attribution(small, clips):
    basis = basis_from_matrix(small.bank, "time", matrix_of(small, "time", "rotation", 1), n_prototypes=2)
    inputs = small.test_clips(len(small.task.test))[1]
    decomposition = LayerAPEX(small.model, small.layer, basis).decompose(inputs, predicted=True)
    close = {"rtol": 1e-3, "atol": 1e-4}
    torch.testing.assert_close(clips.contributions(basis), decomposition.contributions.double(), **close)
    torch.testing.assert_close(clips.activations(basis), decomposition.activations.double(), **close)
    assert torch.equal(clips.predicted, decomposition.output.argmax(1))


@pytest.mark.parametrize(("name", "scheme"), [("raw", "time-frequency"), ("APEX closed form", "time")])
def test_the_lines_have_the_means_of_the_measures(small, clips, quick, name, scheme):
    lines = quality_lines(replace(small, bases={scheme: small.bases[scheme]}), name, clips).set_index("scheme")
    assert ("scheme", *lines.columns) == COLUMNS
    U = torch.eye(128) if name == "raw" else fit_basis(small.bank, scheme, method="closed-form").U
    line = lines.loc[scheme]
    basis = basis_from_matrix(small.bank, scheme, U, n_prototypes=5)
    unseen = basis_from_matrix(clips.bank, scheme, U, n_prototypes=5)
    fair = basis_from_matrix(subset(small.bank, 16, 3), scheme, U, n_prototypes=5)
    contributions = clips.contributions(basis)
    shown = contributions * select_channels(contributions, clips.activations(basis), 5)
    votes = measures.prototype_votes(shown, basis.positive.labels, 8)
    indices = unseen.positive.indices
    parts = {clip: parts_of(3, "test", clip) for clip in indices.unique().tolist()}
    found = measures.part_hits(regions_of(unseen, unseen.positive.peaks), indices, parts)
    expected = {
        "purity": basis.positive.purities.mean(),
        "unseen": unseen.positive.purities.mean(),
        "gap": fair.positive.purities.mean() - unseen.positive.purities.mean(),
        "class": measures.class_share(basis.positive.labels).mean(),
        "class_unseen": measures.class_share(unseen.positive.labels).mean(),
        "overlap": measures.prototype_overlap(basis.positive.indices).mean(),
        "cosine": 1.0,
        "jaccard": 1.0,
        "channels": measures.channels_needed(contributions).mean(),
        "votes": measures.vote_agreement(votes, clips.predicted).mean(),
        "part": measures.part_purity(found).nanmean(),
        "consistency": measures.part_consistency(found).nanmean(),
    }
    assert line[list(expected)].to_dict() == pytest.approx({k: float(v) for k, v in expected.items()}, abs=1e-5)
    assert (line[[f"{each}_low" for each in MEASURES]].to_numpy() <= line[list(MEASURES)].to_numpy() + 1e-9).all()
    assert line["class_chance"] == measures.chance_class_share(small.bank.labels, 5)
    assert line["condition"] == pytest.approx(1, abs=1e-3)


def test_the_lowered_channels_are_those_that_contribute_most(small, clips, quick):
    (line,) = quality_lines(replace(small, bases={"time": small.bases["time"]}), "raw", clips).to_dict("records")
    unseen = basis_from_matrix(clips.bank, "time", torch.eye(128), n_prototypes=5)
    contributions = clips.contributions(unseen)
    strength = [sum(max(value, 0) for value in column) for column in contributions.T.tolist()]
    channels = sorted(range(128), key=lambda channel: -strength[channel])[:2]
    indices = unseen.positive.indices[channels, 0]
    inputs = torch.stack([small.task.test[clip][0] for clip in indices.tolist()])
    peaks = unseen.positive.peaks[channels, 0]
    inside = torch.stack([unseen.region(each, *unseen.origin.grid).mask(*inputs.shape[2:]) for each in peaks.tolist()])
    outputs = ChannelOutputs(small.model, small.layer, unseen)
    outside = measures.misalignment(outputs, inputs, inside, channels, **ATTACK)
    anywhere = measures.misalignment(outputs, inputs, inside & False, channels, **ATTACK)
    assert line["fall"] == pytest.approx(outside.fall.mean().item(), abs=1e-4)
    assert line["fall_anywhere"] == pytest.approx(anywhere.fall.mean().item(), abs=1e-4)
    assert line["overtaken"] == pytest.approx(outside.rank_change.double().mean().item())


def test_a_task_without_parts_leaves_them_out(small, clips, quick):
    other = replace(small, task=replace(small.task, name="digits"), bases={"time": small.bases["time"]})
    (line,) = quality_lines(other, "raw", clips).to_dict("records")
    assert np.isnan([line[name] for name in ("part", "part_at_random", "consistency", "stability")]).all()
    assert np.isfinite(line["fall"])


def test_a_subset_of_a_bank_has_the_clips_in_their_order(small):
    some = subset(small.bank, 7, 0)
    chosen = [int((small.bank.means == row).all(1).nonzero()[0, 0]) for row in some.means]
    assert chosen == sorted(set(chosen))
    assert len(chosen) == some.n_clips == some.origin.n_clips == 7
    assert torch.equal(some.labels, small.bank.labels[chosen])
    assert all(torch.equal(cells, small.bank.cells[sequence][chosen]) for sequence, cells in some.cells.items())


# The bases


def test_fitted_bases_are_those_of_their_seed(small, quick):
    for name, orthogonal in (("APEX orthogonal", True), ("APEX invertible", False)):
        for seed in (3, 4):
            U = matrix_of(small, "time", name, seed)
            if seed == 3 and orthogonal:  # the subject's own
                assert torch.equal(U, small.bases["time"].U.double())
            else:
                expected = fit_basis(small.bank, "time", seed=seed, orthogonal=orthogonal, **QUICK).U
                torch.testing.assert_close(U, expected.double())


@pytest.mark.parametrize("name", ["rotation", "PCA"])
def test_directions_are_upright_and_invertible(small, name):
    assert name in BASES
    U = matrix_of(small, "time", name, 0)
    assert (small.bank.means.double() @ U.T).mean(0).min() >= -1e-9
    torch.testing.assert_close(U @ U.T, torch.eye(128, dtype=torch.float64))


def test_a_dictionary_finds_planted_sources():
    """Positions that are sparse sums of skew directions: the codes are the sources, up to order, sign and scale."""
    generator = np.random.default_rng(0)
    sources = generator.laplace(size=(4000, 4)) * (generator.random((4000, 4)) < 0.25)
    atoms = np.eye(4) + 0.5 * np.roll(np.eye(4), 1, axis=1)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    U = dictionary_directions(sources @ atoms, seed=0).numpy()
    codes = sources @ atoms @ U.T
    correlations = np.abs(np.corrcoef(codes.T, sources.T)[:4, 4:])
    assert correlations.max(1).min() > 0.95
    assert sorted(correlations.argmax(1)) == [0, 1, 2, 3]


def skew_positions(n_sources: int, skew: float, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sparse sources (position, source), atoms that are alike (source, channel), and their sums with noise."""
    generator = np.random.default_rng(0)
    shape = (3000, n_sources)
    sources = generator.laplace(size=shape) * (generator.random(shape) < 0.2)
    atoms = np.eye(n_sources) + skew * np.roll(np.eye(n_sources), 1, axis=1)
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    return sources, atoms, sources @ atoms + noise * generator.normal(size=shape)


def agreement(channels: np.ndarray, sources: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """The largest correlation of each channel with a source, without its sign, and which sources these are."""
    n_channels = channels.shape[1]
    correlations = np.abs(np.corrcoef(channels.T, sources.T)[:n_channels, n_channels:])
    return correlations.max(1), sorted(correlations.argmax(1).tolist())


def test_a_dictionary_finds_sources_where_the_inverse_of_the_atoms_does_not():
    """With noise and atoms that are alike, nearly as well as the best linear map, which knows the sources."""
    sources, atoms, positions = skew_positions(6, skew=0.95, noise=0.2)
    U = dictionary_directions(positions, seed=0).numpy()
    found, which = agreement(positions @ U.T, sources)
    best, _ = agreement(positions @ np.linalg.solve(positions.T @ positions, positions.T @ sources), sources)
    assert which == [0, 1, 2, 3, 4, 5]
    assert found.min() > 0.97 * best.min() > 0.8
    learnt, _ = sparse_codes(positions / positions.std(), seed=0)
    for inverse in (np.linalg.inv(atoms), np.linalg.inv(learnt)):
        assert agreement(positions @ inverse, sources)[0].max() < 0.4
    assert np.linalg.cond(U) < 10 < np.linalg.cond(atoms)


def test_the_channels_of_a_dictionary_are_the_nearest_to_its_codes():
    """Oracle: the normal equations, in raw channels; all of these hold variance, so that no direction is left out."""
    _, _, positions = skew_positions(6, skew=0.95, noise=0.2)
    scaled = positions / positions.std()
    _, codes = sparse_codes(scaled, seed=0)
    expected = np.linalg.solve(scaled.T @ scaled, scaled.T @ codes).T
    U = dictionary_directions(positions, seed=0).numpy()
    found, which = agreement(positions @ U.T, positions @ expected.T)
    assert which == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(found, 1, rtol=1e-6)
    lengths = (np.linalg.norm(rows, axis=1) for rows in (U, expected))
    np.testing.assert_allclose(*map(np.sort, lengths), rtol=1e-4)


def test_an_atom_that_is_never_used_is_its_own_direction_and_small_singular_values_are_raised(monkeypatch):
    _, _, positions = skew_positions(6, skew=0.0, noise=0.2)
    atoms = PCA().fit(positions).components_.T  # the raw channels, in principal directions
    scales = [1, 1, 1, 0, 1e-6, 1]  # the fourth atom is never used, the fifth hardly
    monkeypatch.setattr(compared_bases, "sparse_codes", lambda values, _: (atoms, values @ atoms.T * scales))
    U = dictionary_directions(positions, seed=0).numpy()
    np.testing.assert_allclose(U, np.diag([1, 1, 1, 1, 1 / CONDITION, 1]), atol=1e-9)


def test_an_oracle_of_the_peak_regions(small):
    """The region of a peak is the cell of the oracle, in the places of the layer's cells."""
    grids = torch.rand(3, 4, 2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bank = FeatureBank(
        {"time": grids.mean(2)}, grids.mean((2, 3)), None, replace(small.bank.origin, grid=(2, 5), n_clips=3)
    )
    basis = basis_from_matrix(bank, "time", torch.eye(4), n_prototypes=2)
    regions = regions_of(basis, basis.positive.peaks)
    for channel in range(4):
        for rank, clip in enumerate(oracles.prototypes(grids, torch.eye(4, dtype=torch.float64), channel, 2)):
            (peak,), _ = oracles.peaks_and_purity(grids[clip], torch.eye(4, dtype=torch.float64), channel, "time")
            assert regions[channel][rank] == basis.region([peak], 2, 5)
