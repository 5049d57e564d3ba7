"""Cells on the axes of the input: their sides, shares of bins, other sizes, and what is kept in files."""

from dataclasses import asdict

import pytest
import torch

from captum_apex.layers.cell_places import CellLine, CellPlaces
from captum_apex.layers.origin import Origin


def test_cells_that_fill_the_input_share_it_equally():
    line = CellLine.spread(8)
    assert line.fills
    assert [line.sides(cell) for cell in range(8)] == [(cell / 8, (cell + 1) / 8) for cell in range(8)]
    assert line.sides(2, 5) == (2 / 8, 5 / 8)


@pytest.mark.parametrize(
    ("first", "step", "cell", "sides"),
    [
        (4.5, 4.0, 2, (10.5, 14.5)),
        (0.5, 4.0, 0, (0.0, 2.5)),  # half of it lies in the padding
        (-9.0, 4.0, 0, (0.0, 2.0)),  # in the padding as a whole: the edge of the input remains
        (60.0, 20.0, 3, (90.0, 100.0)),
    ],
)
def test_a_cell_begins_and_ends_half_a_step_beside_its_centre_and_inside_the_input(first, step, cell, sides):
    line = CellLine(first, step, size=100, n_cells=4)
    assert line.sides(cell) == pytest.approx([side / 100 for side in sides])


def test_shares_are_those_of_a_fine_grid():
    line = CellLine(first=3.0, step=4.0, size=20, n_cells=4)  # cells 1–5, 5–9, 9–13, 13–17
    fine = (torch.arange(20_000) + 0.5) / 1000
    for cell in range(4):
        inside = (fine - line.centre(cell)).abs() < 2
        bins = (fine * 7 / 20).long()
        expected = torch.bincount(bins, inside.double(), minlength=7)
        torch.testing.assert_close(line.shares(7)[cell], expected / expected.sum(), rtol=0, atol=1e-3)


def test_an_input_with_more_cells_is_longer_and_one_of_other_steps_is_stretched():
    line = CellLine(first=4.5, step=4.0, size=100, n_cells=23)
    assert line.of(25).size == 108
    assert line.of(25, 110) == CellLine(4.5, 4.0, 110, 25)  # a rest of two steps is in no cell
    assert line.of(23, 1000) == CellLine(45.0, 40.0, 1000, 23)


def test_unknown_places_fill_the_input():
    places = CellPlaces(time=CellLine(4.5, 4.0, 100, 23))
    assert places.rows(5, 40) == CellLine.spread(5)
    assert places.columns(23).size == 100


def test_places_are_kept_in_records_and_missing_ones_are_unknown():
    origin = Origin(places=CellPlaces(frequency=CellLine(0.5, 2.0, 8, 4, exact=False)))
    assert Origin.from_dict(asdict(origin)) == origin
    old = asdict(Origin(layer="features"))
    del old["places"]
    assert Origin.from_dict(old).places == CellPlaces()
