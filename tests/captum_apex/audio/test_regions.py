"""Regions as masks of bins."""

import itertools
import math

import pytest
import torch

from captum_apex.audio import Box, Region

BOXES = {
    "edges of bins": (Box(0.25, 0.75, 0.5, 1.0),),
    "edges inside bins": (Box(0.3, 0.7, 0.05, 0.55),),
    "edges on the centres of bins": (Box(0.125, 0.375, 0.3125, 0.6875),),
    "smaller than a bin, beside its centre": (Box(0.26, 0.3, 0.26, 0.3),),
    "a cross": (Box(0.0, 1.0, 0.25, 0.5), Box(0.25, 0.5, 0.0, 1.0)),
    "two boxes apart": (Box(0.0, 0.25, 0.0, 0.25), Box(0.5, 1.0, 0.75, 1.0)),
    "no box": (),
}


@pytest.mark.parametrize("size", [(4, 8), (5, 7), (1, 3)], ids=str)
@pytest.mark.parametrize("boxes", BOXES.values(), ids=BOXES)
def test_a_mask_has_the_bins_with_their_centre_in_a_box(boxes, size):
    """A box contains its lower edges and not its upper ones, so that boxes side by side share no bin."""
    mask = Region(boxes).mask(*size)
    for row in range(size[0]):
        for column in range(size[1]):
            hertz = (row + 0.5) / size[0]
            time = (column + 0.5) / size[1]
            inside = any(box.low <= hertz < box.high and box.start <= time < box.end for box in boxes)
            assert mask[row, column].item() == inside


def test_boxes_side_by_side_tile_the_clip():
    edges = [0.0, 0.0625, 0.1875, 0.5, 0.8, 1.0]
    masks = [Region((Box(0.0, 1.0, start, end),)).mask(3, 8) for start, end in itertools.pairwise(edges)]
    assert torch.stack(masks).sum(0).eq(1).all()


@pytest.mark.parametrize("start", [0.0, 0.0009980039920159667, 0.013])
@pytest.mark.parametrize("n_turns", [1, 2, 3, 7, 10])
@pytest.mark.parametrize("n_cells", [4, 5, 10, 16])
def test_a_region_is_folded_as_its_columns_are_and_stays_so(n_cells, n_turns, start):
    """Columns of whole numbers are the oracle: edges of cells on a seam, as in a second that fills a clip of three.

    Folded a second time nothing may change, because pages and prints look for the places of regions that are folded.
    """
    n_columns = math.lcm(n_cells, n_turns)
    n_period = n_columns // n_turns
    span = 1 - start
    for first, end in itertools.combinations(range(n_cells + 1), 2):
        columns = range(first * n_columns // n_cells, end * n_columns // n_cells)
        if len(columns) >= n_period:
            columns = range(n_period)
        edges = [start + span * side / n_cells for side in (first, end)]
        once = Region((Box(0.0, 1.0, *edges),)).folded(span / n_turns, start)
        wanted = [start + span * side / n_columns for run in _runs({c % n_period for c in columns}) for side in run]
        assert [side for box in once.boxes for side in (box.start, box.end)] == pytest.approx(wanted, abs=1e-12)
        assert once.folded(span / n_turns, start) == once


def _runs(columns):
    """The first column of each run of columns that follow one another, and the column after its last one."""
    firsts = sorted(column for column in columns if column - 1 not in columns)
    return zip(firsts, sorted(column + 1 for column in columns if column + 1 not in columns), strict=True)
