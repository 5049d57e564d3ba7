"""The columns of a recording: where they begin, and how many there are."""

import pytest
import torch

from captum_apex.explanations.recording_grid import RecordingGrid


def grid(offset=0.0, step=0.25):
    return RecordingGrid(offset, step, n_columns=8, hertz=torch.tensor([0.0, 4000.0]).double())


@pytest.mark.parametrize("offset", [0.0, 0.1, 0.24])
@pytest.mark.parametrize("duration", [1.0, 1.05, 1.2, 30.0])
def test_the_columns_within_a_recording_begin_before_its_end(offset, duration):
    """Frames that are not centred begin later, so that fewer of them fit."""
    beginnings = [grid(offset).time(column) for column in range(200)]
    assert grid(offset).columns_within(duration) == sum(beginning < duration - 1e-9 for beginning in beginnings)


def test_a_window_that_begins_between_two_columns_takes_the_nearer_one():
    assert [grid().first_column(start) for start in (0.0, 0.1, 0.2, 0.95)] == [0, 0, 1, 4]


def test_maps_are_cut_or_continued_to_the_columns_of_a_window():
    maps = torch.arange(10.0)
    assert grid().fitted(maps).tolist() == list(range(8))
    assert grid().fitted(maps[:6]).tolist() == [0, 1, 2, 3, 4, 5, 5, 5]
