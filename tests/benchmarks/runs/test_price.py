"""Flops and bytes, against counts by hand."""

import gc

import pytest
import torch
from torch import nn

from benchmarks.runs.price import Meter


def test_a_convolution_costs_two_operations_per_product():
    layer = nn.Conv2d(3, 5, kernel_size=(3, 2), bias=False)
    with Meter() as meter, torch.no_grad():
        layer(torch.zeros(4, 3, 10, 8))
    assert meter.flops == 2 * (4 * 5 * 8 * 7) * (3 * 3 * 2)


@pytest.mark.parametrize(("wanted", "passes"), [("inputs", 2), ("both", 3)])
def test_a_backward_pass_costs_one_forward_pass_for_the_inputs_and_one_for_the_weights(wanted, passes):
    layer = nn.Linear(6, 7, bias=False).requires_grad_(wanted == "both")
    inputs = torch.ones(5, 6, requires_grad=True)
    with Meter() as forward, torch.no_grad():
        layer(inputs)
    with Meter() as meter:
        layer(inputs).sum().backward()
    assert meter.flops == passes * forward.flops == passes * 2 * 5 * 6 * 7


def test_memory_is_that_of_the_tensors_alive_at_one_time():
    x = torch.zeros(1000)  # before the meter: not counted
    with Meter() as meter:
        y = x + 1
        y = y + 1  # the first two live together while the third is made
        y.add_(1)  # in place: nothing new
        y.view(10, 100)
        del y
        gc.collect()
        x * 2
    assert meter.peak == 2 * 4000
    assert meter.flops == 0


def test_what_a_graph_keeps_counts_until_it_is_gone():
    x = torch.ones(100, requires_grad=True)
    with Meter() as meter:
        y = x.exp().exp().exp()  # exp keeps its result
    assert meter.peak == 3 * 400
    del y
