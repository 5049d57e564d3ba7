"""The four perspectives against the slow formulas."""

import pytest
import torch

from captum_apex import SCHEMES, Scheme
from captum_apex.bases.schemes import distinct_schemes, peak_cells, purity
from captum_apex.defaults import SCHEME_NAMES
from tests import oracles
from tests.networks import invertible

GRID = torch.randn(3, 6, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_there_are_four_in_the_order_of_the_paper():
    assert [str(scheme) for scheme in SCHEMES] == ["square", "time", "frequency", "time-frequency"]
    assert tuple(map(str, SCHEMES)) == SCHEME_NAMES


def test_a_scheme_is_asked_for_by_name_or_object():
    assert Scheme("time") is Scheme(Scheme.TIME) is SCHEMES[1]
    assert Scheme("time") == "time"
    with pytest.raises(
        ValueError,
        match="expected a scheme to be one of 'square', 'time', 'frequency', 'time-frequency', but got 'mel'",
    ):
        Scheme("mel")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_cells_are_the_means_of_the_formula(scheme):
    for clip in range(len(GRID)):
        expected = oracles.sequences(GRID[clip], scheme)
        got = scheme.cells(GRID)
        assert len(got) == len(expected)
        for cells, slow in zip(got, expected, strict=True):
            torch.testing.assert_close(cells[clip], torch.stack(slow, 1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_cells_commute_with_the_basis(scheme):
    U = invertible()
    turned = torch.einsum("kc,ncft->nkft", U, GRID)
    for cells, plain in zip(scheme.cells(turned), scheme.cells(GRID), strict=True):
        torch.testing.assert_close(cells, torch.einsum("kc,ncl->nkl", U, plain), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_spreading_follows_the_formula_and_keeps_the_total(scheme):
    maps = GRID[:, 0]
    spread = scheme.spread(maps)
    for got, plain in zip(spread, maps, strict=True):
        torch.testing.assert_close(got, oracles.laid_out(plain, scheme), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(spread.sum((1, 2)), maps.sum((1, 2)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("sign", [1, -1])
def test_peaks_and_purity_follow_the_formula(scheme, sign):
    U = invertible()
    for clip in range(len(GRID)):
        for channel in range(6):
            expected_peaks, expected_purity = oracles.peaks_and_purity(GRID[clip], U, channel, scheme, sign)
            peaks, purities = [], []
            for cells in scheme.cells(GRID[clip : clip + 1]):
                peak = int(peak_cells(cells, sign * U[channel][None]))
                peaks.append(peak)
                purities.append(purity(sign * (cells[:, :, peak] @ U.T), torch.tensor([channel])).item())
            assert peaks == expected_peaks
            assert sum(purities) / len(purities) == pytest.approx(expected_purity, abs=1e-12)


def test_purity_of_a_zero_vector_is_zero():
    assert purity(torch.zeros(1, 3), torch.tensor([1])).item() == 0.0


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", [(4, 5), (8, 10), (13, 31)])
@pytest.mark.parametrize("intersection", [False, True])
def test_regions_cover_the_peak_cells_part_of_the_input(scheme, size, intersection):
    n_cells = {"square": (20,), "time": (5,), "frequency": (4,), "time-frequency": (5, 4)}[scheme]
    for peaks in [[0] * len(n_cells), [n - 1 for n in n_cells], [n // 2 for n in n_cells]]:
        got = scheme.region(peaks, 4, 5, intersection=intersection).mask(*size)
        assert torch.equal(got, oracles.region_mask(peaks, scheme, (4, 5), size, intersection))


def test_a_grid_of_one_row_supports_square_and_time():
    with pytest.raises(
        ValueError,
        match=r"'encoder' gives 1 frequency row\(s\) and 7 time.*\(.*no frequency axis\); it supports: square, time",
    ):
        Scheme.FREQUENCY.check(1, 7, "'encoder'")
    with pytest.raises(ValueError, match="it supports: square, time"):
        Scheme.TIME_FREQUENCY.check(1, 7)
    Scheme.TIME.check(1, 7)
    Scheme.SQUARE.check(1, 1)


@pytest.mark.parametrize(
    ("grid", "schemes"),
    [((1, 7), ["time"]), ((7, 1), ["frequency"]), ((1, 1), ["square"]), ((2, 2), list(SCHEME_NAMES))],
)
def test_square_is_left_out_where_another_scheme_has_its_cells(grid, schemes):
    assert [str(scheme) for scheme in distinct_schemes(*grid)] == schemes
