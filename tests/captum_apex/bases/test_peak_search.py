"""Peaks on grids of any size, against a loop over the cells in float64."""

import math

import pytest
import torch

from captum_apex import FeatureBank, Scheme, fit_basis
from captum_apex.bases import fit_plan, fitting, peak_search
from captum_apex.bases.peak_search import peaks_of_pairs, thinned
from captum_apex.layers.origin import Origin

GENERATOR = torch.Generator().manual_seed(0)


@pytest.fixture
def fine(monkeypatch):
    """Small grids are treated as fine ones."""
    monkeypatch.setattr(peak_search, "_FINE_CELLS", 8)
    monkeypatch.setattr(peak_search, "_FINE_VALUES", 16)
    monkeypatch.setattr(peak_search, "_MOST_CELLS", 8)
    monkeypatch.setattr(peak_search, "_GATHERED_BYTES", {"cpu": 1})


def slow_peak(cells, direction):
    """The first cell with the largest sum over channels; cells of padding are left out."""
    levels = {}
    for cell in range(cells.shape[1]):
        level = sum((direction[channel] * cells[channel, cell]).item() for channel in range(len(direction)))
        if not math.isnan(level):
            levels[cell] = level
    return max(levels, key=levels.get)


@pytest.mark.usefixtures("fine")
@pytest.mark.parametrize("n_pairs", [1, 7, 60])
def test_the_peaks_of_fine_grids_are_those_of_a_loop(n_pairs, monkeypatch):
    sequence = torch.randn(5, 4, 24, generator=GENERATOR, dtype=torch.float64)
    sequence[1, :, 20:] = torch.nan
    sequence[2] = sequence[2, :, :1]  # all cells are equal: the first is the peak
    clips = torch.randint(0, 5, (n_pairs,), generator=GENERATOR)
    directions = torch.randn(n_pairs, 4, generator=GENERATOR, dtype=torch.float64)
    monkeypatch.setattr(torch.Tensor, "index_select", None)  # no cells are copied
    peaks = peaks_of_pairs(sequence, clips, directions)
    assert peaks.tolist() == [slow_peak(sequence[clip], row) for clip, row in zip(clips, directions, strict=True)]


@pytest.mark.parametrize(
    ("n_channels", "n_cells", "is_fine"), [(64, 4096, False), (64, 4097, True), (32, 8192, False), (1024, 512, False)]
)
def test_only_fine_grids_are_searched_in_place(n_channels, n_cells, is_fine, monkeypatch):
    """The bounds: peaks of ordinary grids stay as they were, bit for bit."""
    sequence = torch.rand(2, n_channels, n_cells, generator=GENERATOR)
    searched = []
    monkeypatch.setattr(peak_search, "_peaks_in_place", lambda _, clips, __: searched.append(clips) or clips)
    peaks_of_pairs(sequence, torch.tensor([1, 0]), sequence[:, :, 0])
    assert bool(searched) == is_fine


@pytest.mark.parametrize(("n_cells", "n_left"), [(2**15, 2**15), (2**15 + 2, 2**14 + 1), (2**17, 2**17 // 5 + 1)])
def test_only_the_cells_of_very_fine_grids_are_thinned(n_cells, n_left):
    sequence = torch.zeros(1, 2, n_cells)
    assert thinned(sequence, 1 if n_cells < 2**16 else 256).shape == (1, 2, n_left)


@pytest.mark.usefixtures("fine")
@pytest.mark.parametrize("n_columns", [6, 8, 10])
def test_the_chosen_cells_of_a_fine_grid_are_in_all_columns(n_columns):
    n_cells = 8 * n_columns
    places = torch.arange(n_cells).expand(2, 3, n_cells)
    chosen = thinned(places, n_columns)
    assert chosen[0, 0, 0] == 0
    assert chosen.shape[2] <= 8
    assert len({place % n_columns for place in chosen[0, 0].tolist()}) == min(chosen.shape[2], n_columns)


def bank(grids):
    cells = {Scheme.SQUARE: Scheme.SQUARE.cells(grids)[0].contiguous()}
    origin = Origin("layer", grid=tuple(grids.shape[2:]), n_clips=len(grids))
    return FeatureBank(cells, grids.mean((2, 3)), None, origin)


GRIDS = torch.randn(12, 6, 5, 7, generator=GENERATOR, dtype=torch.float64).relu() + 0.01
SETTINGS = {"n_prototypes": (8, 3), "learning_rate": 2e-2}


@pytest.mark.usefixtures("fine")
def test_the_fit_of_a_fine_grid_on_all_cells_is_the_fit_of_an_ordinary_one(monkeypatch):
    monkeypatch.setattr(fit_plan, "_THINNED_EPOCHS", 0.0)
    in_place = fit_basis(bank(GRIDS), "square", **SETTINGS)
    monkeypatch.setattr(peak_search, "_FINE_CELLS", 10_000)
    copied = fit_basis(bank(GRIDS), "square", **SETTINGS)
    torch.testing.assert_close(in_place.U, copied.U, rtol=0, atol=1e-10)
    assert torch.equal(in_place.positive.peaks, copied.positive.peaks)


@pytest.mark.usefixtures("fine")
def test_a_fine_grid_starts_on_some_cells_and_ends_on_all(monkeypatch):
    n_cells = []
    step = fitting._step
    monkeypatch.setattr(
        fitting, "_step", lambda m, o, cells, *rest: n_cells.append(cells[0].shape[2]) or step(m, o, cells, *rest)
    )
    basis = fit_basis(bank(GRIDS), "square", epochs=10, **SETTINGS)
    assert n_cells == [7] * 6 + [35] * 4
    # What the basis holds is of all cells.
    positive = basis.positive
    for channel in range(6):
        for clip, (peak,) in zip(positive.indices[channel].tolist(), positive.peaks[channel].tolist(), strict=True):
            assert peak == slow_peak(GRIDS[clip].flatten(1), basis.U[channel])
    assert basis.purity_history[-1].item() == pytest.approx(positive.purities.mean().item(), abs=1e-6)


@pytest.mark.usefixtures("fine")
@pytest.mark.parametrize("epochs", range(1, 8))
def test_at_least_two_fifths_of_the_epochs_take_all_cells(epochs, monkeypatch):
    """Also where there are few: the last epoch of any fit is one of all cells."""
    n_cells = []
    step = fitting._step
    monkeypatch.setattr(
        fitting, "_step", lambda m, o, cells, *rest: n_cells.append(cells[0].shape[2]) or step(m, o, cells, *rest)
    )
    fit_basis(bank(GRIDS), "square", epochs=epochs, **SETTINGS)
    assert n_cells == [7] * (3 * epochs // 5) + [35] * (epochs - 3 * epochs // 5)


@pytest.mark.usefixtures("fine")
def test_cells_that_are_too_many_for_the_memory_are_not_copied(monkeypatch):
    """They stay where they are, such as in a mapped file, and the fit is the same."""
    usual = fit_basis(bank(GRIDS), "square", **SETTINGS)
    assert thinned(GRIDS.flatten(2), 7).is_contiguous()
    monkeypatch.setattr(peak_search, "_MOST_COPIED", 12 * 6 * 7 * 8 - 1)
    sequence = GRIDS.flatten(2)
    assert thinned(sequence, 7).data_ptr() == sequence.data_ptr()
    in_place = fit_basis(bank(GRIDS), "square", **SETTINGS)
    torch.testing.assert_close(in_place.U, usual.U, rtol=0, atol=1e-10)
    assert torch.equal(in_place.positive.peaks, usual.positive.peaks)


@pytest.mark.usefixtures("fine")
def test_clips_of_one_column_are_fitted_beside_long_ones():
    """Their padding is NaN; the first cell is never padding, so that a clip never has none."""
    columns = torch.tensor([1, 7] * 6)
    padded = GRIDS.where(torch.arange(7) < columns[:, None, None, None], torch.nan)
    cells = {Scheme.SQUARE: padded.flatten(2)}
    origin = Origin("layer", grid=(5, 7), n_clips=12)
    basis = fit_basis(FeatureBank(cells, padded.nanmean((2, 3)), None, origin), "square", **SETTINGS)
    assert basis.purity_history.isfinite().all()
    assert (basis.positive.peaks[..., 0] < 5 * columns[basis.positive.indices]).all()
