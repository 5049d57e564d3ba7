"""Channels that fire on no sound: silence, the border, the end or the beginning of a sound."""

from functools import partial

import pytest
import torch

from captum_apex.locating.nothing import NO_SOUNDS, fires_on


def in_columns(n_columns, *columns, n_rows=2):
    grid = torch.zeros(n_rows, n_columns)
    grid[:, list(columns)] = 1.0
    return grid


def levels_of(*loud, n_columns=8, n_rows=2):
    levels = torch.full((n_rows, n_columns), -80.0)
    levels[:, list(loud)] = -10.0
    return levels


ALL = torch.ones(2, 8)
NONE = torch.zeros(2, 8)


def fires(mask, levels, channel, silent, shifted, attribution=None):
    return fires_on(mask, levels, channel, lambda: silent, lambda: shifted, attribution)


def test_the_silent_and_the_shifted_clip_are_not_asked_for_a_sound_inside_the_clip():
    channel = in_columns(8, 2, 3)
    unasked = partial(pytest.fail, "the clip is not needed")
    assert fires_on(channel > 0, levels_of(2, 3), channel, unasked, unasked) == ""


def test_a_sound_is_no_nothing():
    channel = in_columns(8, 2, 3)
    assert fires(channel > 0, levels_of(2, 3), channel, NONE, channel.roll(4, 1)) == ""


def test_a_channel_that_fires_in_silence_too_fires_on_silence():
    channel = in_columns(8, 4, 5)
    assert fires(channel > 0, levels_of(1, 2), channel, ALL, channel.roll(4, 1)) == "silence"


def test_a_channel_that_fires_in_silence_fires_on_a_sound_where_there_is_one():
    channel = in_columns(8, 1, 2)
    assert fires(channel > 0, levels_of(1, 2), channel, ALL, channel.roll(4, 1)) == ""


def test_a_silent_region_after_a_sound_is_its_end_and_before_a_sound_its_beginning():
    channel = in_columns(8, 3)
    assert fires(channel > 0, levels_of(1, 2), channel, NONE, channel.roll(4, 1)) == "the end of a sound"
    assert fires(channel > 0, levels_of(4, 5), channel, NONE, channel.roll(4, 1)) == "the beginning of a sound"


def test_a_channel_that_stays_at_an_edge_when_the_clip_moves_fires_on_the_border():
    channel = in_columns(8, 0)
    assert fires(channel > 0, levels_of(0, 1), channel, NONE, shifted=channel) == "the border"
    assert fires(channel > 0, levels_of(0, 1), channel, NONE, shifted=channel.roll(4, 1)) == ""
    both = in_columns(8, 0, 4)  # it fires on the sound that moved, and on another that came in
    assert fires(channel > 0, levels_of(0, 1, 4), channel, NONE, shifted=both) == ""


def test_a_band_at_an_edge_that_fires_in_a_silent_clip_fires_on_the_border():
    channel = torch.zeros(4, 8)
    channel[0] = 1.0
    levels = torch.full((4, 8), -80.0)
    levels[:2] = -10.0
    assert fires(channel > 0, levels, channel, silent=channel, shifted=channel) == "the border"
    assert fires(channel > 0, levels, channel, silent=torch.ones(4, 8), shifted=channel) == ""
    inside = channel.roll(1, 0)
    assert fires(inside > 0, levels, inside, silent=inside, shifted=inside) == ""


def test_a_channel_without_a_value_in_its_region_fires_on_nothing_in_particular():
    region = in_columns(8, 0) > 0
    assert fires(region, levels_of(4), -ALL, ALL, ALL) == ""


def test_a_region_that_is_finer_than_the_grid_counts_in_the_cells_that_it_touches():
    mask = torch.zeros(8, 32, dtype=torch.bool)
    mask[:, 17:18] = True  # a quarter of a cell
    levels = torch.full((8, 32), -80.0)
    levels[:, 4:8] = -10.0
    assert fires(mask, levels, in_columns(8, 4), ALL, NONE) == "silence"


def test_the_cells_of_a_region_are_those_that_lie_in_it_for_the_most_part():
    """The region has the whole cell 4 and a quarter of cell 5, where the channel is stronger, but not in silence."""
    mask = torch.zeros(8, 32, dtype=torch.bool)
    mask[:, 16:21] = True
    levels = torch.full((8, 32), -80.0)
    levels[:, 4:8] = -10.0
    channel = in_columns(8, 4) + 9 * in_columns(8, 5)
    assert fires(mask, levels, channel, silent=in_columns(8, 4), shifted=NONE) == "silence"


@pytest.mark.parametrize(("level", "text"), [(-80.0, "silence"), (-77.0, "silence"), (-75.0, ""), (-60.0, "")])
def test_a_bin_is_silent_up_to_a_twentieth_of_the_range_of_levels(level, text):
    """The range of 70 dB begins at −80 dB, so that −76.5 dB is the loudest silence."""
    channel = in_columns(8, 4)
    levels = levels_of(1)
    levels[:, 4] = level
    assert fires(channel > 0, levels, channel, ALL, channel.roll(4, 1)) == text


def test_every_text_has_a_number_for_the_file():
    texts = ("", "silence", "the border", "the end of a sound", "the beginning of a sound")
    assert texts == NO_SOUNDS  # a new text goes to the end, or files would change their meaning


def test_the_silent_share_is_that_of_what_counts_in_the_region():
    """A region around a sound that the channel does not respond to."""
    levels = torch.full((1, 10), -80.0)
    levels[0, 4:6] = 0.0
    quiet = (levels < -60).float()
    mask = torch.ones(1, 10, dtype=torch.bool)
    mask[0, 9] = False
    grids = (quiet, torch.ones(1, 10), quiet)
    assert fires(mask, levels, *grids) == ""
    assert fires(mask, levels, *grids, attribution=quiet) == "silence"
    assert fires(mask, levels, *grids, attribution=1 - quiet) == ""
    assert fires(mask, levels, *grids, attribution=torch.zeros(1, 10)) == ""
