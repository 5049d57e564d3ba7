"""Numbers in words."""

from fractions import Fraction

import numpy as np
import pytest

from captum_apex.texts import band_text, fixed_text, times_text


@pytest.mark.parametrize("digits", range(5))
def test_a_number_is_the_nearest_one_with_so_many_digits_and_a_half_goes_away_from_zero(digits):
    step = Fraction(1, 10**digits)
    numbers = [k / 8 for k in range(-40, 40)] + np.random.default_rng(0).normal(0, 3, 99).tolist()
    for value in numbers:
        text = fixed_text(value, digits)
        shown, exact = Fraction(text), Fraction(value)
        assert len(text.partition(".")[2]) == digits
        assert (shown / step).denominator == 1
        assert abs(shown - exact) < step / 2 or (abs(shown - exact) == step / 2 and abs(shown) > abs(exact))


def test_times_and_bands_are_rounded_alike():
    assert times_text(0.125, 0.375) == "0.13–0.38 s"
    assert band_text(312.5, 2000.5) == "313–2001 Hz"
