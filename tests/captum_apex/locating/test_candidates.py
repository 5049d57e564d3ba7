"""Boxes around the peaks of a map, against the definition: all rectangles are tried."""

import itertools

import pytest
import torch

from captum_apex import SCHEMES, Scheme
from captum_apex.locating.candidates import boxes_around_peaks, widened


def random_map(n_rows, n_columns, seed):
    return torch.randn(n_rows, n_columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rectangles(scheme, n_rows, n_columns):
    rows = [(0, n_rows)] if scheme == "time" else list(itertools.combinations(range(n_rows + 1), 2))
    columns = [(0, n_columns)] if scheme == "frequency" else list(itertools.combinations(range(n_columns + 1), 2))
    return [(*of_rows, *of_columns) for of_rows in rows for of_columns in columns]


def peak_of(heat_map, scheme):
    """The largest moving mean; the axis that the scheme does not look at is added up."""
    if scheme in ("time", "frequency"):
        profile = heat_map.sum(0 if scheme == "time" else 1)
        width = max(1, round(len(profile) / 32))
        return max(profile[i : i + width].mean() for i in range(len(profile) - width + 1))
    return heat_map.max()


def boxes_by_trial(heat_map, scheme, level):
    """Greedily the rectangle with the largest sum above the level, without the bins of those before."""
    peak = peak_of(heat_map, scheme)
    excess = heat_map - level * peak
    if scheme in ("time", "frequency"):  # the level counts once for a whole column or row
        excess = heat_map - level * peak / heat_map.shape[0 if scheme == "time" else 1]
    free = torch.ones_like(heat_map, dtype=torch.bool)
    boxes = []
    first = None
    while peak > 0 and len(boxes) < (1 if scheme == "time-frequency" else 3):
        sums = {
            box: excess[box[0] : box[1], box[2] : box[3]].sum().item()
            for box in rectangles(scheme, *heat_map.shape)
            if free[box[0] : box[1], box[2] : box[3]].all()
        }
        best = max(sums, key=lambda box: sums[box], default=None)
        first = sums[best] if first is None else first
        if best is None or sums[best] <= 0 or sums[best] < first / 4:
            break
        boxes.append(best)
        free[best[0] : best[1], best[2] : best[3]] = False
    return boxes


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("level", [0.5, 0.1, 0.0])
@pytest.mark.parametrize("size", [(5, 7), (1, 9), (6, 1), (3, 4)])
def test_the_boxes_have_the_largest_sums_of_all_rectangles(scheme, level, size):
    for seed in range(5):
        heat_map = random_map(*size, seed)
        assert boxes_around_peaks(heat_map[None], Scheme(scheme), level) == [boxes_by_trial(heat_map, scheme, level)]


@pytest.mark.parametrize("seed", range(4))
def test_the_peak_of_a_long_map_is_a_moving_mean(seed):
    heat_map = random_map(1, 70, seed)  # two bins are a thirty-second of the axis
    assert boxes_around_peaks(heat_map[None], Scheme.TIME, 0.5) == [boxes_by_trial(heat_map, "time", 0.5)]


def test_each_map_of_a_batch_has_its_boxes():
    maps = torch.stack([random_map(4, 6, seed) for seed in range(3)] + [-torch.ones(4, 6, dtype=torch.float64)])
    for scheme in map(Scheme, SCHEMES):
        alone = [boxes_around_peaks(heat_map[None], scheme, 0.25)[0] for heat_map in maps]
        assert boxes_around_peaks(maps, scheme, 0.25) == alone
        assert alone[-1] == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_map_of_zeros_has_no_boxes(scheme):
    assert boxes_around_peaks(torch.zeros(2, 4, 6), Scheme(scheme), 0.1) == [[], []]


@pytest.mark.parametrize("size", [(128, 300), (65, 129), (200, 513)])
def test_a_large_map_is_searched_in_blocks_that_end_with_the_map(size):
    heat_map = torch.zeros(size)
    heat_map[-2:, -3:] = 1.0
    row_step, column_step = -(-size[0] // 64), -(-size[1] // 128)
    ((box,),) = boxes_around_peaks(heat_map[None], Scheme.TIME_FREQUENCY, 0.1)
    assert box[0] % row_step == box[2] % column_step == 0
    assert size[0] - 2 - row_step < box[0] <= size[0] - 2
    assert size[1] - 3 - column_step < box[2] <= size[1] - 3
    assert (box[1], box[3]) == size


def test_time_and_frequency_are_each_others_transposes():
    heat_map = random_map(6, 9, 3)
    by_time = boxes_around_peaks(heat_map[None], Scheme.TIME, 0.25)[0]
    by_frequency = boxes_around_peaks(heat_map.T[None], Scheme.FREQUENCY, 0.25)[0]
    assert [(start, end, low, high) for low, high, start, end in by_frequency] == by_time


@pytest.mark.parametrize(
    ("boxes", "wider"),
    [
        ([(10, 12, 20, 30)], [(9, 13, 18, 32)]),  # a bin of 64 rows, two of 128 columns
        ([(0, 64, 1, 30)], [(0, 64, 0, 32)]),
        ([(63, 64, 0, 128)], [(62, 64, 0, 128)]),
        ([(0, 64, 50, 60), (0, 64, 20, 30)], [(0, 64, 18, 32), (0, 64, 48, 62)]),
        ([(0, 64, 34, 40), (0, 64, 20, 30), (0, 64, 44, 50)], [(0, 64, 18, 52)]),  # strips that meet
        ([(12, 14, 0, 128), (8, 10, 0, 128)], [(7, 15, 0, 128)]),  # bands that meet
        ([(10, 12, 20, 30), (12, 14, 30, 40)], [(9, 13, 18, 32), (11, 15, 28, 42)]),  # their union is no box
        ([(0, 64, 20, 30), (10, 12, 0, 128)], [(0, 64, 18, 32), (9, 13, 0, 128)]),  # a cross
    ],
)
def test_boxes_are_widened_inside_the_clip_and_joined_where_they_meet(boxes, wider):
    assert widened(boxes, n_rows=64, n_columns=128) == wider


def test_a_small_clip_has_a_margin_of_one_bin():
    assert widened([(1, 2, 3, 4)], n_rows=4, n_columns=8) == [(0, 3, 2, 5)]
