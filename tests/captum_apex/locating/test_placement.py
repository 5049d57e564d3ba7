"""The same mask at random places."""

import pytest
import torch

from captum_apex.locating.placement import elsewhere


def masked(n_rows, n_columns, *boxes):
    mask = torch.zeros(n_rows, n_columns, dtype=torch.bool)
    for low, high, start, end in boxes:
        mask[low:high, start:end] = True
    return mask


def shapes_of(mask):
    """Height and width of each box of a mask with disjoint boxes, sorted."""
    left = mask.clone()
    shapes = []
    while left.any():
        row, column = left.nonzero()[0].tolist()
        height = next((i for i in range(row, len(left)) if not left[i, column]), len(left)) - row
        width = next((j for j in range(column, left.shape[1]) if not left[row, j]), left.shape[1]) - column
        assert left[row : row + height, column : column + width].all()
        left[row : row + height, column : column + width] = False
        shapes.append((height, width))
    return sorted(shapes)


def places_of(mask, n=60):
    generator = torch.Generator().manual_seed(0)
    return [elsewhere(mask, generator) for _ in range(n)]


@pytest.mark.parametrize(
    "mask",
    [
        masked(1, 7, (0, 1, 2, 4)),
        masked(5, 7, (0, 5, 2, 4)),
        masked(5, 7, (3, 5, 0, 7)),
        masked(5, 7, (1, 3, 2, 6)),
        masked(4, 4, (0, 3, 0, 3)),
        masked(2, 12, (0, 2, 1, 3), (0, 2, 5, 6), (0, 2, 9, 11)),
        masked(6, 9, (0, 2, 1, 3), (3, 5, 6, 8)),
    ],
)
def test_a_random_place_has_the_same_shapes_and_is_another_one(mask):
    for place in places_of(mask):
        assert place.sum() == mask.sum()
        assert shapes_of(place) == shapes_of(mask)
        assert not torch.equal(place, mask)


def test_a_strip_moves_along_time_and_a_band_along_frequency_only():
    assert all(place.all(0).sum() == 2 for place in places_of(masked(5, 7, (0, 5, 2, 4))))
    assert all(place.all(1).sum() == 2 for place in places_of(masked(5, 7, (3, 5, 0, 7))))


def test_all_other_places_occur():
    places = {tuple(place[0].nonzero()[:, 0].tolist()) for place in places_of(masked(1, 5, (0, 1, 1, 3)))}
    assert places == {(0, 1), (2, 3), (3, 4)}


def test_a_rhythm_that_repeats_itself_does_not_come_back_to_its_place():
    """A shift by a period would give the same bins again."""
    rhythm = masked(2, 8, (0, 2, 0, 1), (0, 2, 2, 3), (0, 2, 4, 5), (0, 2, 6, 7))
    assert all(torch.equal(place, ~rhythm) for place in places_of(rhythm))


def test_a_chessboard_moves_though_its_last_place_is_the_same():
    """The places before the one that was drawn are tried where those after it give the same bins."""
    chessboard = masked(2, 2, (0, 1, 0, 1), (1, 2, 1, 2))
    assert all(torch.equal(place, ~chessboard) for place in places_of(chessboard))


@pytest.mark.parametrize("mask", [torch.ones(3, 4, dtype=torch.bool), torch.zeros(3, 4, dtype=torch.bool)])
def test_a_mask_without_another_place_stays(mask):
    assert torch.equal(elsewhere(mask, torch.Generator()), mask)


def test_the_mask_is_not_changed():
    mask = masked(3, 4, (0, 1, 0, 2))
    places_of(mask)
    assert torch.equal(mask, masked(3, 4, (0, 1, 0, 2)))
