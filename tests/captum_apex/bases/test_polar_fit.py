"""The fit in closed form, against loops over channels, prototypes and sequences in float64."""

import math
import statistics
from functools import partial

import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_apex import SCHEMES, FeatureBank, Scheme, basis_from_matrix, fit_basis
from captum_apex.bases import fitting, polar_fit
from captum_apex.bases.polar_fit import (
    SPREAD,
    ClosedForm,
    channel_weights,
    check_method,
    mean_directions,
    polar_factor,
)
from captum_apex.layers.origin import Origin
from tests import oracles


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(width, seed=0):
    return torch.linalg.qr(random(width, width, seed=seed))[0]


GRIDS = random(17, 6, 3, 4).relu() + 0.01
ALL_BUT_ONE = (Scheme.SQUARE, Scheme.TIME, Scheme.FREQUENCY)


def bank(grids=GRIDS, columns=None):
    cells = {scheme: scheme.cells(grids, columns)[0].contiguous() for scheme in ALL_BUT_ONE}
    origin = Origin("layer", grid=tuple(grids.shape[2:]), n_clips=len(grids))
    return FeatureBank(cells, cells[Scheme.SQUARE].nanmean(2), None, origin)


def slow_directions(grids, U, chosen, scheme):
    """M: for each channel the mean of z / ‖z‖ over prototypes and sequences, z the cell where U z is largest."""
    M = torch.zeros(len(U), len(U), dtype=torch.float64)
    for channel, clips in enumerate(chosen):
        for clip in clips:
            peaks, _ = oracles.peaks_and_purity(grids[clip], U, channel, scheme)
            for peak, cells in zip(peaks, oracles.sequences(grids[clip], scheme), strict=True):
                length = math.sqrt(sum(value.item() ** 2 for value in cells[peak]))
                for i, value in enumerate(cells[peak]):
                    M[channel, i] += value.item() / length / len(clips) / len(peaks)
    return M


def slow_weights(grids, U, chosen, spread):
    """Powers of the mean activations, with an exponent of at most 1 and logarithms of at most this deviation."""
    activations = [
        abs(sum(oracles.activation(grids[clip], U, channel) for clip in clips) / len(clips))
        for channel, clips in enumerate(chosen)
    ]
    least = sum(activations) / len(activations) / 1000
    logarithms = [math.log(max(activation, least)) for activation in activations]
    exponent = min(1, spread / statistics.pstdev(logarithms))
    weights = [math.exp(exponent * (value - statistics.mean(logarithms))) for value in logarithms]
    return torch.tensor(weights, dtype=torch.float64)


def slow_fixed_purity(grids, V, U, chosen, scheme, weights=None):
    """The mean purity in the basis V at the prototypes and peaks of U, by the definition `p_k / ‖p‖` with p = V z."""
    purities = []
    for channel, clips in enumerate(chosen):
        weight = 1 if weights is None else weights[channel].item()
        for clip in clips:
            peaks, _ = oracles.peaks_and_purity(grids[clip], U, channel, scheme)
            for peak, cells in zip(peaks, oracles.sequences(grids[clip], scheme), strict=True):
                vector = V @ cells[peak]
                purities.append(weight * vector[channel].item() / math.sqrt(sum(value.item() ** 2 for value in vector)))
    return sum(purities) / len(purities)


def chosen_by(grids, U, n):
    return [oracles.prototypes(grids, U, channel, n) for channel in range(len(U))]


@pytest.mark.parametrize("spread", [0, 0.1, 10])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("large", [False, True])
def test_the_mean_directions_are_those_of_loops(scheme, large, spread, monkeypatch):
    """Where a clip has so many cells that they are not copied, and where it has few."""
    monkeypatch.setattr(polar_fit, "_LARGE_CLIP", 0 if large else 2**30)
    U = rotation(6)
    chosen = chosen_by(GRIDS, U, 4)
    M = slow_directions(GRIDS, U, chosen, scheme)
    torch.testing.assert_close(mean_directions(bank().sequences(scheme), U, torch.tensor(chosen)), M)
    weights = slow_weights(GRIDS, U, chosen, spread)
    torch.testing.assert_close(channel_weights(bank().means, U, torch.tensor(chosen), spread), weights)
    fit = ClosedForm(bank().means, spread)
    fit._U = U
    compared = []
    fit.improve(bank().sequences(scheme), torch.tensor(chosen), compared.append)
    torch.testing.assert_close(fit.U(), torch.from_numpy(scipy.linalg.polar((weights[:, None] * M).numpy())[0]))
    n_cells = {"square": 12, "time": 4, "frequency": 3, "time-frequency": 7}[scheme]
    assert sum(compared) == 6 * 4 * n_cells
    n_groups = len({clip for clips in chosen for clip in clips}) if large else 4  # clips, or ranks of prototypes
    assert len(compared) == n_groups * len(Scheme(scheme).sequences)


@pytest.mark.parametrize("large", [False, True])
def test_the_cells_of_half_precision_are_computed_with_in_that_of_the_matrix(large, monkeypatch):
    if large:
        monkeypatch.setattr(polar_fit, "_LARGE_CLIP", 1)
    cells = 3e4 * (random(5, 12, 7, seed=3) - 0.2)  # the lengths of these vectors are infinite in half precision
    chosen = torch.stack([random(5, seed=channel).argsort()[:3] for channel in range(12)])
    halved = cells.clamp(-65_504, 65_504).half()
    U = rotation(12).float()
    directions = mean_directions([halved], U, chosen)
    assert directions.dtype == torch.float32
    assert directions.norm(dim=1).min() > 0.3
    torch.testing.assert_close(directions, mean_directions([halved.float()], U, chosen), rtol=0, atol=0)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_mean_purity_of_an_orthogonal_basis_is_the_product_with_the_mean_directions(scheme):
    U = rotation(6)
    chosen = chosen_by(GRIDS, U, 4)
    M = mean_directions(bank().sequences(scheme), U, torch.tensor(chosen))
    of_basis = basis_from_matrix(bank(), scheme, U, n_prototypes=4).positive.purities.mean().item()
    assert (U * M).sum().item() / 6 == pytest.approx(of_basis, abs=1e-12)
    for seed in range(3):  # the same is true for any other orthogonal matrix at these peaks
        V = rotation(6, seed=seed + 1)
        expected = slow_fixed_purity(GRIDS, V, U, chosen, scheme)
        assert (V * M).sum().item() / 6 == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("spread", [0, 0.25])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_other_orthogonal_matrix_is_better_at_the_same_peaks(scheme, spread):
    U = rotation(6)
    chosen = chosen_by(GRIDS, U, 4)
    weights = slow_weights(GRIDS, U, chosen, spread)
    fit = ClosedForm(bank().means, spread)
    fit._U = U
    fit.improve(bank().sequences(scheme), torch.tensor(chosen), lambda n_cells: None)
    best = slow_fixed_purity(GRIDS, fit.U(), U, chosen, scheme, weights)
    others = [
        torch.matrix_exp(size * (random(6, 6, seed=seed) - random(6, 6, seed=seed).T))
        for size in (1e-3, 0.1)
        for seed in range(4)
    ]
    others += [
        torch.eye(6, dtype=torch.float64)[torch.randperm(6, generator=torch.Generator().manual_seed(seed))]
        for seed in range(1, 4)
    ]
    others += [torch.diag(torch.tensor([1.0, 1, 1, -1, 1, 1], dtype=torch.float64)), rotation(6, seed=9)]
    purities = [slow_fixed_purity(GRIDS, other @ fit.U(), U, chosen, scheme, weights) for other in others]
    assert max(purities) < best - 1e-8
    assert best > slow_fixed_purity(GRIDS, U, U, chosen, scheme, weights) + 0.1


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 7), rank=st.integers(0, 7), scale=st.sampled_from([1e-6, 1.0, 1e3]), seed=st.integers(0, 99)
)
def test_polar_factors_are_orthogonal_best_and_near_the_present_matrix(width, rank, scale, seed):
    rank = min(rank, width)
    M = scale * random(width, rank, seed=seed) @ random(rank, width, seed=seed + 1000)
    near = rotation(width, seed=seed + 2000)
    U = polar_factor(M, near)
    torch.testing.assert_close(U @ U.T, torch.eye(width, dtype=torch.float64), rtol=0, atol=1e-12)
    values = scipy.linalg.svdvals(M.numpy())
    assert (U * M).sum().item() == pytest.approx(values.sum(), rel=1e-7, abs=1e-7)
    if rank == width and values.min() > 1e-3:
        torch.testing.assert_close(U, torch.from_numpy(scipy.linalg.polar(M.numpy())[0]), rtol=0, atol=1e-5)
        procrustes = scipy.linalg.orthogonal_procrustes(torch.eye(width).numpy(), M.numpy())[0]
        torch.testing.assert_close(U, torch.from_numpy(procrustes), rtol=0, atol=1e-5)
    # What M says nothing of is as near as can be: any other completion is at least as far.
    left, _, right = torch.linalg.svd(M)
    for turn in range(4):
        inner = torch.linalg.qr(random(width - rank, width - rank, seed=turn))[0]
        other = left[:, :rank] @ right[:rank] + left[:, rank:] @ inner @ right[rank:]
        assert (U * near).sum() > (other * near).sum() - 1e-4


def test_a_matrix_of_zeros_keeps_the_present_one():
    near = rotation(5)
    torch.testing.assert_close(polar_factor(torch.zeros(5, 5, dtype=torch.float64), near), near)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_type_of_the_matrix_is_kept_and_its_polar_factor_is_that_of_float64(dtype):
    M = random(40, 40)
    U = polar_factor(M.to(dtype), torch.eye(40, dtype=dtype))
    assert U.dtype == dtype
    exact = torch.from_numpy(scipy.linalg.polar(M.numpy())[0])
    torch.testing.assert_close(U.double(), exact, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-6)


def slow_fit(grids, scheme, epochs, count):
    """The whole fit by loops: prototypes, peaks, polar factor; prototypes anew in every second epoch."""
    U = torch.eye(grids.shape[1], dtype=torch.float64)
    for epoch in range(epochs):
        if epoch % 2 == 0:
            chosen = chosen_by(grids, U, count)
        weights = slow_weights(grids, U, chosen, SPREAD)[:, None]
        U = torch.from_numpy(scipy.linalg.polar((weights * slow_directions(grids, U, chosen, scheme)).numpy())[0])
    return U


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_whole_fit_is_that_of_loops(scheme):
    fitted = fit_basis(bank(), scheme, method="closed-form", epochs=6, n_prototypes=(8, 3))
    expected = slow_fit(GRIDS, scheme, 6, 8)
    torch.testing.assert_close(fitted.U, expected, rtol=0, atol=1e-6)
    for epoch, U in ((0, torch.eye(6, dtype=torch.float64)), (6, expected)):
        purities = [
            oracles.peaks_and_purity(GRIDS[clip], U, channel, scheme)[1]
            for channel, clips in enumerate(chosen_by(GRIDS, U, 3))
            for clip in clips
        ]
        assert fitted.purity_history[epoch].item() == pytest.approx(sum(purities) / 18, abs=1e-6)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_it_is_at_least_as_pure_as_the_fit_by_gradient_and_orthogonal(scheme, monkeypatch):
    monkeypatch.setattr(fitting, "SPREAD", 0)  # the mean purity, in which all channels weigh the same
    closed = fit_basis(bank(), scheme, method="closed-form", n_prototypes=(3, 3))
    gradient = fit_basis(bank(), scheme, method="gradient", learning_rate=2e-2, n_prototypes=(8, 3))
    assert (len(closed.purity_history), len(gradient.purity_history)) == (11, 21)
    assert closed.purity_history[-1] > gradient.purity_history[-1] - 0.01 > gradient.purity_history[0]
    identity = torch.eye(6, dtype=torch.float64)
    torch.testing.assert_close(closed.U @ closed.U.T, identity, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_fits_repeat_bit_for_bit_whatever_the_seed_and_leave_the_global_generator_alone(scheme):
    state = torch.get_rng_state()
    first, other = (fit_basis(bank(), scheme, method="closed-form", n_prototypes=(8, 3), seed=seed) for seed in (1, 2))
    assert torch.equal(first.U, other.U)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_fit_works_where_gradients_are_off(mode):
    fit = partial(fit_basis, bank(), "time", method="closed-form", epochs=2, n_prototypes=(8, 3))
    with mode():
        inside = fit()
    assert torch.equal(inside.U, fit().U)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_planted_rotation_is_found_again(scheme, dtype):
    """Each clip has one of the rows of a rotation as its only event, so that the rotation has purity 1."""
    U = torch.matrix_exp(0.2 * (random(5, 5) - random(5, 5).T))
    assert 0.8 < U.diagonal().mean() < 0.95  # the raw channels are not far, but not right
    grids = torch.zeros(20, 5, 3, 4, dtype=torch.float64)
    for clip in range(20):
        grids[clip, :, clip % 3, clip % 4] = U[clip % 5]
    basis = fit_basis(bank(grids.to(dtype)), scheme, method="closed-form", n_prototypes=(4, 4))
    assert basis.U.dtype == dtype
    assert basis.purity_history[0] < 0.95
    assert basis.purity_history[-1].item() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(basis.U.double(), U, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(
    "grids",
    [
        random(2, 6, 3, 4),  # fewer clips than channels: M has a low rank
        torch.zeros(5, 6, 3, 4, dtype=torch.float64),  # all clips, cells and channels are equal
        torch.ones(5, 6, 3, 4, dtype=torch.float64),
        torch.cat([random(5, 3, 3, 4).relu(), torch.zeros(5, 3, 3, 4, dtype=torch.float64)], 1),  # silent channels
        random(5, 1, 3, 4),  # one channel
        -random(5, 1, 3, 4).abs(),  # one channel that is never active: its purity is -1, and its sign changes
        1e-12 * random(5, 6, 3, 4),
        1e12 * random(5, 6, 3, 4),
    ],
    ids=["few clips", "zeros", "ones", "silent channels", "one channel", "negative", "faint", "loud"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_awkward_features_give_finite_orthogonal_bases(scheme, grids, dtype):
    basis = fit_basis(bank(grids.to(dtype)), scheme, method="closed-form", epochs=4, n_prototypes=(2, 2))
    identity = torch.eye(grids.shape[1], dtype=dtype)
    torch.testing.assert_close(basis.U @ basis.U.T, identity, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12)
    assert basis.purity_history.isfinite().all()
    assert basis.purity_history[-1] > basis.purity_history[0] - 1e-6


def test_where_all_is_silent_the_raw_channels_stay():
    silent = bank(torch.zeros(5, 6, 3, 4, dtype=torch.float64))
    basis = fit_basis(silent, "square", method="closed-form", epochs=4, n_prototypes=(2, 2))
    torch.testing.assert_close(basis.U, torch.eye(6, dtype=torch.float64))
    assert basis.purity_history.tolist() == [0] * 5


def test_a_channel_that_is_only_negative_is_turned():
    basis = fit_basis(bank(-random(5, 1, 3, 4).abs()), "time", method="closed-form", epochs=2, n_prototypes=(2, 2))
    assert (basis.U.tolist(), basis.purity_history.tolist()) == ([[-1.0]], [-1.0, 1.0, 1.0])


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("large", [False, True])
def test_padding_is_never_a_peak(scheme, large, monkeypatch):
    monkeypatch.setattr(polar_fit, "_LARGE_CLIP", 0 if large else 2**30)
    columns = torch.tensor([1, 2, 3, 4] * 3)
    padded = bank(GRIDS[:12], columns)
    basis = fit_basis(padded, scheme, method="closed-form", epochs=4, n_prototypes=(6, 3))
    garbage = GRIDS[:12].where(torch.arange(4) < columns[:, None, None, None], 1e3)
    same = fit_basis(bank(garbage, columns), scheme, method="closed-form", epochs=4, n_prototypes=(6, 3))
    assert basis.U.isfinite().all()
    assert torch.equal(basis.U, same.U)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_fit_on_a_gpu_is_that_on_the_cpu():
    fits = [
        fit_basis(bank().to(device), "time-frequency", method="closed-form", epochs=4, n_prototypes=(8, 3))
        for device in ("cpu", "cuda")
    ]
    torch.testing.assert_close(fits[0].U, fits[1].U, rtol=0, atol=1e-9)


def test_an_invertible_basis_in_closed_form_is_refused():
    message = (
        "expected an orthogonal basis for the method 'closed-form', which gives no other, but got `orthogonal=False`"
    )
    with pytest.raises(ValueError, match=message):
        fit_basis(bank(), "time", method="closed-form", orthogonal=False)
    with pytest.raises(ValueError, match=message):
        check_method("closed-form", orthogonal=False)


@pytest.mark.parametrize("seed", [0, 1])
def test_few_clips_are_shared_by_few_prototypes(seed):
    """With 20 prototypes of 40 clips of ten classes the channels have most clips in common."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.rand(10, 24, generator=generator, dtype=torch.float64) ** 3  # (class, channel)

    def made(n_clips):
        level = torch.rand(n_clips, 1, 3, 8, generator=generator, dtype=torch.float64) ** 4
        noise = torch.rand(n_clips, 24, 3, 8, generator=generator, dtype=torch.float64)
        return bank(3 * level * classes[torch.arange(n_clips) % 10, :, None, None] + noise / 2)

    seen = made(40)
    unseen = made(80)

    def purity(**given):
        U = fit_basis(seen, "time", **{"method": "closed-form", **given}).U
        return basis_from_matrix(unseen, "time", U, n_prototypes=5).positive.purities.mean().item()

    assert purity() == purity(n_prototypes=(5, 5))
    assert purity() > purity(n_prototypes=(20, 5)) + 0.1
    assert purity() > purity(method="gradient", n_prototypes=(40, 5)) + 0.05


@pytest.mark.parametrize("setting", [{"learning_rate": 1e-2}, {"weight_decay": 0.0}, {"batch_size": 512}])
def test_settings_of_the_gradient_are_not_ignored(setting):
    (name, value), *_ = setting.items()
    message = f"expected no settings of steps for the method 'closed-form', .* but got `{name}={value}`; .*gradient"
    with pytest.raises(ValueError, match=message):
        fit_basis(bank(), "time", method="closed-form", **setting)
    for allowed in ({"method": "gradient"}, {"orthogonal": False}):
        fit_basis(bank(), "time", epochs=1, n_prototypes=(3, 3), **setting, **allowed)


def test_another_method_is_refused():
    with pytest.raises(ValueError, match="expected `method` to be one of 'gradient', 'closed-form', but got 'svd'"):
        fit_basis(bank(), "time", method="svd")
