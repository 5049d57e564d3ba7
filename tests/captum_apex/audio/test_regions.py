"""Regions as masks of bins."""

import itertools

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
