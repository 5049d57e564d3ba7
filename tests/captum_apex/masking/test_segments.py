"""Grids with given boundaries, and maps with one value for each segment, bin by bin."""

import numpy as np
import pytest
import torch

from captum_apex import SpectrogramAxes
from captum_apex.masking import discretised, n_regions, region_grid, region_means, region_sums, segment_grid


def segment_of(centre, boundaries):
    return sum(boundary <= centre for boundary in boundaries)


@pytest.mark.parametrize("seed", range(5))
def test_each_bin_belongs_to_the_segment_of_its_centre(seed):
    random = np.random.default_rng(seed)
    times = (random.random(9) * 44 - 2).tolist()  # some outside, several in one frame
    frequencies = (random.random(3) * 8).tolist()
    grid = segment_grid((8, 40), times, frequencies)
    pairs = [
        (segment_of(y + 0.5, frequencies), segment_of(x + 0.5, times)) for y in range(8) for x in range(40)
    ]  # in the order of the bins
    number = {pair: i for i, pair in enumerate(sorted(set(pairs)))}
    assert grid.flatten().tolist() == [number[pair] for pair in pairs]
    assert n_regions(grid) == len(grid.unique())


def test_even_boundaries_are_those_of_a_region_grid():
    even = segment_grid((8, 40), times=range(4, 40, 4), frequencies=[2, 4, 6])
    assert torch.equal(even, region_grid((8, 40), rows=4, columns=10))
    assert segment_grid((6,), times=[2.0]).tolist() == [0, 0, 1, 1, 1, 1]
    assert segment_grid((2, 3)).tolist() == [[0] * 3] * 2


def test_seconds_become_frames_by_the_axes():
    """Frames are 10 ms apart, the first one is at 0 s: the boundary at 42 ms lies between the centres of 4 and 5."""
    axes = SpectrogramAxes(16_000, n_fft=512, hop_length=160)
    grid = segment_grid((1, 10), times=[axes.frame_position(0.042)])
    assert grid[0].tolist() == [0] * 5 + [1] * 5


@pytest.mark.parametrize("boundary", [float("nan"), float("inf")])
def test_boundaries_that_are_no_numbers_are_refused(boundary):
    with pytest.raises(ValueError, match="expected finite `times`"):
        segment_grid((2, 3), times=[boundary])


@pytest.mark.parametrize("mean", [True, False])
def test_a_discretised_map_has_the_mean_or_the_sum_of_each_clips_own_segments(mean):
    torch.manual_seed(0)
    maps = torch.randn(3, 2, 4, 9)
    boundaries = [[3.0, 5.2], [1.0], [2.0, 4.0, 8.0]]
    grids = [segment_grid((4, 9), times) for times in boundaries]
    found = discretised(maps, grids, mean=mean)
    assert found.shape == (3, 1, 4, 9)
    for clip, times in enumerate(boundaries):
        for x in range(9):
            same = [other for other in range(9) if segment_of(other + 0.5, times) == segment_of(x + 0.5, times)]
            total = sum(maps[clip, c, y, other].double().item() for c in range(2) for y in range(4) for other in same)
            wanted = total / (4 * len(same)) if mean else total
            assert found[clip, 0, :, x].tolist() == pytest.approx([wanted] * 4)
    if mean:  # the sums over segments stay
        for clip, grid in enumerate(grids):
            kept = region_sums(found[clip : clip + 1], grid)
            torch.testing.assert_close(kept, region_sums(maps[clip : clip + 1], grid))


def test_a_number_without_bins_has_the_mean_zero():
    grid = torch.tensor([[0, 2, 2]])
    assert region_means(torch.tensor([[[1.0, 2.0, 4.0]]]), grid).tolist() == [[1.0, 0.0, 3.0]]


def test_one_grid_serves_all_clips_and_another_number_of_grids_is_refused():
    maps = torch.rand(2, 1, 5)
    grid = segment_grid((1, 5), [2.0])
    assert torch.equal(discretised(maps, grid), discretised(maps, [grid, grid]))
    assert discretised(maps[:, None], grid).shape == (2, 1, 1, 5)
    with pytest.raises(ValueError, match="expected one grid for each of 2 clips, but got 1"):
        discretised(maps, [grid])
