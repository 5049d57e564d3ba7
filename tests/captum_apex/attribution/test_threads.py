"""Explanations from several threads at once, of one model, in both modes."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from captum.attr import IntegratedGradients

from captum_apex import APEX, FeatureBank, LayerAPEX
from captum_apex.metrics import deletion
from tests.networks import bare_basis, build, clips

N_THREADS = 4
N_CALLS = 60


def every_flag(model):
    return (
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
    )


def at_once(*functions):
    """The results of functions that run at the same time, each in its own thread."""
    barrier = threading.Barrier(len(functions))

    def run(function):
        barrier.wait(60)
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        return [future.result(timeout=300) for future in [pool.submit(run, function) for function in functions]]


def explainers(model, layer):
    """Functions that run the model in different ways."""
    basis = bare_basis("pooling after relu")
    inputs = clips()
    apex, at_layer = APEX(model, layer, basis), LayerAPEX(model, layer, basis)
    integrated = APEX(model, layer, basis, projection=IntegratedGradients)
    grid = torch.arange(inputs.shape[-1]).expand(inputs.shape[-2], -1) // 4
    return [
        lambda: apex.attribute(inputs, target=1, return_convergence_delta=True)[1],
        lambda: at_layer.attribute(inputs, target=[0, 1, 2, 3, 0, 1, 2, 3][: len(inputs)]),
        lambda: integrated.attribute(inputs[:1], target=2),
        lambda: FeatureBank.from_dataset(model, layer, list(inputs[:3])).means,
        lambda: deletion(model, inputs, inputs, torch.zeros_like(inputs), grid=grid, target=1, points=3),
    ]


@pytest.mark.parametrize("training", [True, False])
def test_every_thread_gets_the_value_computed_alone(training):
    model, layer = build("pooling after relu")
    model.train(training)
    functions = explainers(model, layer)
    alone = [function() for function in functions]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = every_flag(model)

    def repeated(first):
        for call in range(N_CALLS):
            number = (first + call) % len(functions)
            assert torch.equal(functions[number](), alone[number])

    at_once(*[lambda first=first: repeated(first) for first in range(N_THREADS)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert every_flag(model) == flags


def test_plain_calls_of_a_model_in_evaluation_mode_go_on_meanwhile():
    model, layer = build("pooling after relu")
    functions = explainers(model, layer)
    expected = model(clips())
    expected_gradients = torch.autograd.grad(expected.sum(), list(model.parameters()))
    finished = threading.Event()

    def explain():
        for call in range(N_CALLS):
            functions[call % len(functions)]()
        finished.set()

    def plain():
        n_calls = 0
        while not finished.is_set() or not n_calls:
            output = model(clips())
            assert torch.equal(output, expected)
            gradients = torch.autograd.grad(output.sum(), list(model.parameters()))  # as in training
            assert all(map(torch.equal, gradients, expected_gradients))
            n_calls += 1
        return n_calls

    assert at_once(explain, plain)[1] > 0


def test_two_objects_on_one_model_and_one_inside_the_other():
    model, layer = build("pooling after relu")
    basis = bare_basis("pooling after relu")
    first, second = LayerAPEX(model, layer, basis), LayerAPEX(model, model.features, basis)
    inputs = clips()
    expected = first.attribute(inputs, target=1), second.attribute(inputs, target=2)
    inner = []

    def explain_inside(module, arguments):
        if not inner:
            inner.append(None)  # the call below comes here again
            inner[0] = second.attribute(inputs, target=2)

    handle = model.stem.register_forward_pre_hook(explain_inside)
    outer = first.attribute(inputs, target=1)
    handle.remove()
    assert torch.equal(outer, expected[0])
    assert torch.equal(inner[0], expected[1])
