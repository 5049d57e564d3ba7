"""Choosing prototypes and maximising purity, against the slow formulas."""

from functools import partial

import pytest
import torch

from captum_apex import SCHEMES, FeatureBank, Scheme, basis_from_matrix, fit_basis
from captum_apex.bases import fitting
from captum_apex.bases.fit_plan import prototype_count
from captum_apex.bases.fitting import _Matrix, pair_purity
from captum_apex.layers.origin import Origin
from tests import oracles
from tests.networks import invertible

GRIDS = torch.randn(17, 6, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).relu() + 0.01


def bank(grids=GRIDS):
    cells = {scheme: scheme.cells(grids)[0].contiguous() for scheme in (Scheme.SQUARE, Scheme.TIME, Scheme.FREQUENCY)}
    return FeatureBank(
        cells, grids.mean((2, 3)), torch.arange(len(grids)) % 3, Origin("layer", grid=(3, 4), n_clips=len(grids))
    )


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("side", ["positive", "negative"])
def test_prototypes_peaks_and_purities_follow_the_formulas(scheme, side):
    U, sign = invertible(), 1 if side == "positive" else -1
    prototypes = getattr(basis_from_matrix(bank(), scheme, U, n_prototypes=4), side)
    for channel in range(6):
        expected = oracles.prototypes(GRIDS, U, channel, 4, sign)
        assert prototypes.indices[channel].tolist() == expected
        for rank, clip in enumerate(expected):
            peaks, purity = oracles.peaks_and_purity(GRIDS[clip], U, channel, scheme, sign)
            assert prototypes.peaks[channel, rank].tolist() == peaks
            assert prototypes.purities[channel, rank].item() == pytest.approx(purity, abs=1e-12)
            assert prototypes.activations[channel, rank].item() == pytest.approx(
                oracles.activation(GRIDS[clip], U, channel), abs=1e-12
            )
            assert prototypes.labels[channel, rank].item() == clip % 3


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_gradient_of_the_purity_is_right(scheme):
    pairs = torch.tensor([[k, clip] for k in range(6) for clip in range(0, 17, 4)])
    sequences = bank().sequences(scheme)
    U = invertible().requires_grad_()
    assert torch.autograd.gradcheck(lambda matrix: pair_purity(sequences, matrix, pairs)[0], (U,), eps=1e-7, atol=1e-6)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("orthogonal", [True, False])
def test_fitting_raises_purity_and_keeps_its_promise_on_the_matrix(scheme, orthogonal):
    basis = fit_basis(bank(), scheme, orthogonal=orthogonal, learning_rate=2e-2, n_prototypes=(8, 3))
    raw = basis_from_matrix(bank(), scheme, torch.eye(6, dtype=torch.float64), n_prototypes=3)
    assert basis.purity_history.shape == (21,)
    assert basis.purity_history[0].item() == pytest.approx(raw.positive.purities.mean().item(), abs=1e-6)
    assert basis.purity_history[-1].item() == pytest.approx(basis.positive.purities.mean().item(), abs=1e-6)
    assert basis.purity_history[-1] > basis.purity_history[0] + 0.02
    identity = torch.eye(6, dtype=torch.float64)
    assert ((basis.U @ basis.U.T - identity).abs().max() < 1e-10) == orthogonal
    torch.testing.assert_close(basis.U @ basis.inverse, identity, rtol=0, atol=1e-10)


def test_one_step_is_adams_on_the_oracles_gradient():
    """With one pair per channel and one step, A moves by the learning rate against the gradient's sign, as in Adam."""
    fitted = fit_basis(
        bank(), "time", orthogonal=False, epochs=1, n_prototypes=(1, 1), learning_rate=1e-3, weight_decay=0.0
    )
    A = torch.zeros(6, 6, dtype=torch.float64, requires_grad=True)
    U = torch.matrix_exp(A)
    purities = []
    for channel in range(6):
        clip = oracles.prototypes(GRIDS, torch.eye(6, dtype=torch.float64), channel, 1)[0]
        cells = oracles.sequences(GRIDS[clip], "time")[0]
        best = max(cells, key=lambda cell: cell[channel].item())
        vector = U @ best
        purities.append(vector[channel] / vector.norm())
    gradient = torch.autograd.grad(-torch.stack(purities).mean(), A)[0]
    expected = torch.matrix_exp(-1e-3 * gradient / (gradient.abs() + 1e-8))
    torch.testing.assert_close(fitted.U, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_wide_layers_step_begins_where_the_last_one_led_to(scheme, monkeypatch):
    """Against Adam on a fresh `A` at every step, `U = exp(A − Aᵀ) V`, by autograd through the exponential itself."""
    monkeypatch.setattr(fitting, "_WIDE", 5)
    settings = {
        "epochs": 2,
        "n_prototypes": (4, 4),
        "reselect_every": 2,
        "weight_decay": 0.0,
        "batch_size": 512,
        "learning_rate": 1e-2,
    }
    fitted = fit_basis(bank(), scheme, **settings)
    A = torch.zeros(6, 6, dtype=torch.float64, requires_grad=True)
    adam, V = torch.optim.Adam([A], 1e-2), torch.eye(6, dtype=torch.float64)
    pairs = torch.tensor([[k, clip] for k in range(6) for clip in oracles.prototypes(GRIDS, V, k, 4)])
    for _ in range(2):
        adam.zero_grad()
        (-pair_purity(bank().sequences(scheme), torch.matrix_exp(A - A.T) @ V, pairs)[0].mean()).backward()
        adam.step()
        with torch.no_grad():
            V = torch.matrix_exp(A - A.T) @ V
            A.zero_()
    torch.testing.assert_close(fitted.U, V, rtol=0, atol=1e-9)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_wide_layer_is_fitted_as_well_and_stays_orthogonal(scheme, monkeypatch):
    plain = fit_basis(bank(), scheme, learning_rate=2e-2, n_prototypes=(8, 3))
    monkeypatch.setattr(fitting, "_WIDE", 5)
    rebased = fit_basis(bank(), scheme, learning_rate=2e-2, batch_size=512, n_prototypes=(8, 3))
    assert (rebased.U @ rebased.U.T - torch.eye(6, dtype=torch.float64)).abs().max() < 1e-12
    assert rebased.purity_history[-1] > plain.purity_history[-1] - 0.01 > plain.purity_history[0]
    invertible_fit = partial(
        fit_basis, bank(), scheme, orthogonal=False, epochs=1, learning_rate=1e-2, n_prototypes=(8, 3)
    )
    as_wide = invertible_fit(batch_size=512).U
    monkeypatch.setattr(fitting, "_WIDE", 256)
    assert torch.equal(as_wide, invertible_fit().U)


def test_a_wide_layers_matrix_stays_orthogonal_over_many_steps_in_float32(monkeypatch):
    """Without a correction the rounding of 300 steps adds up to ten times as much."""
    monkeypatch.setattr(fitting, "_WIDE", 5)
    matrix, generator = _Matrix(torch.zeros(1, 32), orthogonal=True), torch.Generator().manual_seed(0)
    for _ in range(300):
        with torch.no_grad():
            matrix.A.copy_(1e-2 * torch.randn(32, 32, generator=generator).sign())
        matrix.rebase()
    assert (matrix.U() @ matrix.U().T - torch.eye(32)).abs().max() < 1e-6


def wide_bank(width):
    grids = torch.rand(4, width, 1, 2, generator=torch.Generator().manual_seed(0))
    cells = {Scheme.TIME: Scheme.TIME.cells(grids)[0].contiguous()}
    return FeatureBank(cells, grids.mean((2, 3)), None, Origin("layer", grid=(1, 2), n_clips=4))


def test_a_step_has_512_pairs_or_four_of_each_channel():
    def steps(width, **settings):
        taken = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fitting, "pair_purity", lambda *a: taken.append(len(a[2])) or pair_purity(*a))
            fit_basis(wide_bank(width), "time", epochs=1, n_prototypes=(4, 4), **settings)
        return max(taken[1:-3])

    assert (steps(200), steps(300), steps(300, batch_size=100)) == (512, 1200, 100)


def test_the_learning_rate_falls_with_the_width_of_wide_layers():
    def fitted(width, **settings):
        return fit_basis(wide_bank(width), "time", epochs=1, n_prototypes=(4, 4), **settings).U

    assert torch.equal(fitted(256), fitted(256, learning_rate=1e-2))
    assert torch.equal(fitted(512), fitted(512, learning_rate=5e-3))
    assert not torch.equal(fitted(512), fitted(512, learning_rate=1e-2))


def test_the_number_of_prototypes_falls_linearly():
    counts = [prototype_count(epoch, 20, 2, 100, 5) for epoch in range(0, 20, 2)]
    assert counts == [100, 89, 79, 68, 58, 47, 37, 26, 16, 5]
    assert prototype_count(0, 2, 2, 100, 5) == 5


@pytest.mark.parametrize("scheme", SCHEMES)
def test_fits_repeat_bit_for_bit_and_leave_the_global_generator_alone(scheme):
    state = torch.get_rng_state()
    first, second, other = (
        fit_basis(bank(), scheme, epochs=3, n_prototypes=(8, 3), batch_size=8, seed=seed) for seed in (1, 1, 2)
    )
    assert torch.equal(first.U, second.U)
    assert not torch.equal(first.U, other.U)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("axis", "other"), [(2, Scheme.TIME), (3, Scheme.FREQUENCY)])
@pytest.mark.parametrize("padded", [False, True])
def test_in_a_grid_of_one_row_or_column_square_has_the_basis_of_another_scheme(axis, other, padded):
    """Bit for bit, so that the default of `Explainer.fit` may leave `square` out."""
    grids = GRIDS.narrow(axis, 1, 1)
    columns = torch.arange(len(grids)) % 2 + 3 if padded and axis == 2 else None
    cells = {scheme: scheme.cells(grids, columns)[0].contiguous() for scheme in (Scheme.SQUARE, other)}
    of_line = FeatureBank(
        cells, cells[other].nanmean(2), None, Origin("layer", grid=tuple(grids.shape[2:]), n_clips=len(grids))
    )
    square, same = (fit_basis(of_line, scheme, epochs=3, n_prototypes=(8, 3)) for scheme in (Scheme.SQUARE, other))
    assert not torch.equal(square.U, torch.eye(6))
    assert torch.equal(square.U, same.U)
    for side in ("positive", "negative"):
        for name in ("indices", "purities", "peaks", "activations"):
            assert torch.equal(getattr(getattr(square, side), name), getattr(getattr(same, side), name))


def test_a_fit_from_disk_is_the_fit_from_memory(tmp_path):
    bank().save(tmp_path / "bank")
    assert torch.equal(
        fit_basis(FeatureBank.load(tmp_path / "bank"), "square", epochs=2, n_prototypes=(8, 3)).U, short_fit().U
    )


def short_fit(**settings):
    return fit_basis(bank(), "square", **({"epochs": 2, "n_prototypes": (8, 3)} | settings))


def test_no_epochs_give_the_raw_channels():
    assert torch.equal(short_fit(epochs=0).U, torch.eye(6, dtype=torch.float64))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_fit_works_where_gradients_are_off(mode):
    with mode():
        inside = short_fit()
    assert torch.equal(inside.U, short_fit().U)


def test_fewer_clips_than_prototypes_are_used_and_said():
    with pytest.warns(UserWarning, match="17 clips are fewer than 100 prototypes per channel; 17 are used"):
        basis = fit_basis(bank(), "time", epochs=1)
    assert basis.prototype_indices.shape == (6, 5)
    with pytest.warns(UserWarning, match="3 clips are fewer than 100"):
        assert fit_basis(bank(GRIDS[:3]), "time", epochs=1).prototype_indices.shape == (6, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": -1}, "expected `epochs` to be an int of at least 0, but got -1"),
        ({"batch_size": 0}, "expected `batch_size` to be an int of at least 1, but got 0"),
        ({"reselect_every": 0}, "expected `reselect_every`"),
        ({"n_prototypes": (3, 5)}, r"expected `n_prototypes` as \(start, end\) with start ≥ end ≥ 1, but got \(3, 5\)"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        short_fit(**settings)


def test_a_matrix_keeps_as_many_prototypes_as_there_are_clips_and_says_so():
    with pytest.warns(UserWarning, match="17 clips are fewer than 30"):
        assert basis_from_matrix(bank(), "time", invertible(), n_prototypes=30).prototype_indices.shape == (6, 17)
    with pytest.raises(ValueError, match="expected `n_prototypes`"):
        basis_from_matrix(bank(), "time", invertible(), n_prototypes=0)


def test_a_matrix_of_another_width_is_refused():
    with pytest.raises(ValueError, match=r"expected `U` of shape \(6, 6\), but got \(5, 5\)"):
        basis_from_matrix(bank(), "time", torch.eye(5))
