"""Ticks are round, even or octaves, and few enough to be read."""

import numpy as np
import pytest

from captum_apex import SpectrogramAxes
from captum_apex.figures.ticks import hertz_ticks, second_ticks


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 48000, 192000])
def test_ticks_of_a_linear_axis_are_round_and_even(rate):
    values = hertz_ticks(SpectrogramAxes(rate, 256, 64))
    assert values[0] == 0
    assert 4 <= len(values) <= 7
    assert {values[1] / 10 ** np.floor(np.log10(values[1]))} <= {1, 2, 5}
    assert np.diff(values) == pytest.approx(values[1])
    assert values[-1] <= rate / 2


@pytest.mark.parametrize("n_mels", [32, 64, 128])
@pytest.mark.parametrize("rate", [8000, 44100])
def test_ticks_of_mel_bands_are_octaves_that_lie_apart(rate, n_mels):
    axes = SpectrogramAxes(rate, 1024, 64, n_mels=n_mels)
    values = hertz_ticks(axes)
    assert len(values) >= 4
    assert all(np.log2(value / 125).is_integer() for value in values)
    assert min(np.diff([axes.bin_position(value) for value in values])) >= n_mels / 12


@pytest.mark.parametrize(
    ("end", "step"), [(0.05, 0.01), (0.4, 0.05), (1.0, 0.2), (5.0, 1.0), (59.0, 10.0), (3600.0, 500.0)]
)
def test_seconds_are_round_from_zero_to_the_end(end, step):
    values = second_ticks(end)
    assert values == pytest.approx([step * count for count in range(len(values))])
    assert end - step < values[-1] <= end
    assert [float(f"{value:.6g}") for value in values] == values  # 0.3, not 0.30000000000000004
