"""Summaries of inputs: what is another input, and what is the same one with rounding errors."""

import math

import pytest
import torch

from captum_apex.layers.input_summaries import input_summary, is_same_input

VALUES = torch.randn(1, 8, 20, generator=torch.Generator().manual_seed(0)) + 0.5
FORMER = input_summary(VALUES)


def test_a_summary_is_that_of_the_finite_values():
    flat = VALUES.double().flatten().tolist()
    assert FORMER["shape"] == [1, 8, 20]
    assert FORMER["mean"] == pytest.approx(sum(flat) / len(flat), abs=1e-12)
    assert FORMER["size"] == pytest.approx(math.sqrt(sum(value**2 for value in flat)), abs=1e-12)
    assert input_summary(torch.tensor([3.0, math.nan])) == {"shape": [2], "mean": 1.5, "size": 3.0}


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (VALUES + 1e-6 * VALUES.flip(2), True),
        (VALUES.half().float(), True),
        (-VALUES, False),  # of the same size
        (VALUES - 2 * VALUES.mean(), False),  # of the same size, up to rounding
        (1.1 * (VALUES - VALUES.mean()) + VALUES.mean(), False),  # of the same mean
        (VALUES[:, :, :10].repeat(1, 1, 2), False),
        (VALUES.transpose(1, 2), False),  # of the same mean and size
        (torch.zeros_like(VALUES), False),
    ],
)
def test_another_mean_size_or_shape_is_another_input(other, same):
    assert is_same_input(FORMER, input_summary(other)) == same
    assert is_same_input(input_summary(other), FORMER) == same


def test_silence_is_the_same_as_silence():
    silence = input_summary(torch.zeros(2, 3))
    assert is_same_input(silence, silence)
