"""Calls that are interrupted at any moment leave the model and torch's modes as they were."""

import ctypes
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from captum_apex import APEX, FeatureBank, basis_from_matrix, explain, explain_classes
from captum_apex.attribution import insert_basis
from captum_apex.attribution.recorded_pass import shared_passes, shares_passes
from captum_apex.layers import changes, holding, hooks, still_models
from captum_apex.layers.changes import LOCK, THREAD
from captum_apex.metrics import deletion_insertion
from tests.interrupting import Interrupted, Interruption
from tests.networks import build, clips, invertible

N_MOMENTS = 120


def lock_is_free():
    free = []

    def attempt():
        free.append(LOCK.acquire(blocking=False))
        if free[0]:
            LOCK.release()

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return free[0]


def everything(model):
    """All that an interruption could leave changed."""
    return (
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
        [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
        [tensor.tolist() for tensor in model.state_dict().values()],
        (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        len(torch.overrides._get_current_function_mode_stack()),
        (len(holding._HELD), len(THREAD.undo), len(THREAD.runs), len(THREAD.prepared), len(changes._OPEN)),
        shares_passes(),
        len(holding.torch_module._global_forward_pre_hooks),
        lock_is_free(),
    )


def fail(*_):
    raise KeyError("the model fails")


def calls(model, layer):
    bank = FeatureBank.from_dataset(model, layer, list(clips(3)))
    basis = basis_from_matrix(bank, "time", invertible(), n_prototypes=1)
    apex = APEX(model, layer, basis)
    inputs = clips(2)
    grid = torch.arange(10).expand(8, 10) // 4
    every = torch.ones(1, 4, dtype=torch.bool)

    @changes.restored
    def attribute_twice():
        with shared_passes():
            return [apex.attribute(inputs, label) for label in (0, 1)]

    return {
        "attribute": lambda: apex.attribute(inputs, 1, return_convergence_delta=True),
        "explain": lambda: explain(apex, inputs[:1], 1, n_prototypes=1, n_channels=1),
        "classes": lambda: explain_classes(apex, inputs[:1], every, n_prototypes=1, n_channels=1, search=None),
        "shared": attribute_twice,
        "bank": lambda: FeatureBank.from_dataset(model, layer, list(inputs)),
        "measure": lambda: deletion_insertion(
            model, inputs, inputs, torch.zeros_like(inputs), grid=grid, target=1, points=2
        ),
        "copy": lambda: insert_basis(model, layer, basis, inputs),
    }


@pytest.fixture
def model_in_training():
    model, layer = build("pooling after relu")
    functions = calls(model, layer)
    model.train()
    model.dropout.eval()
    return model, functions


# Python drops an exception that arrives while it closes a generator that nobody needs any more.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("name", ["attribute", "explain", "classes", "shared", "bank", "measure", "copy"])
def test_nothing_is_left_after_an_interruption(model_in_training, name, fails, inference):
    model, functions = model_in_training
    if fails:
        model.classifier.register_forward_pre_hook(fail)  # the interruption may come while the error is on its way
    before = everything(model)

    def interrupted_at(moment):
        """Whether the call was interrupted, and the number of moments that it has."""
        with torch.inference_mode(inference), Interruption(moment) as interruption:
            try:
                functions[name]()
            except Interrupted:
                sys.setprofile(None)
                # With the exception in hand, since its frames keep alive what was not left.
                state = everything(model)
                assert state == (*before[:4], (not inference, inference), *before[5:])
                return True, interruption.n_moments
            except KeyError:
                assert fails
        return False, interruption.n_moments

    _, n_moments = interrupted_at(None)
    moments = random.Random(0).sample(range(1, n_moments + 1), min(N_MOMENTS, n_moments))
    n_interrupted = 0
    for moment in moments:
        n_interrupted += interrupted_at(moment)[0]
        assert everything(model) == before
    assert n_interrupted > 0.9 * len(moments)


@pytest.mark.parametrize("function", [hooks.held, hooks.frozen, still_models.prepared])
def test_nothing_is_left_at_any_moment_of_a_hold(model_in_training, function):
    model, _ = model_in_training
    before = everything(model)

    @changes.restored
    def hold():
        with function(model), hooks.captured(model.relu, "relu"):
            model(clips())

    moment = 0
    interrupted = True
    while interrupted:
        moment += 1
        with Interruption(moment):
            try:
                hold()
                interrupted = False
            except Interrupted:
                sys.setprofile(None)
                assert everything(model) == before
    assert moment > 100


def test_an_exception_that_another_thread_raises_leaves_nothing(model_in_training):
    model, functions = model_in_training
    before = everything(model)
    generator = random.Random(0)
    for _ in range(30):
        entered = threading.Event()
        left = []

        def explain_for_ever(entered=entered, left=left):
            try:
                while True:
                    entered.set()
                    functions["attribute"]()
            except Interrupted:
                left.append((len(THREAD.undo), len(THREAD.runs), torch.is_grad_enabled()))

        thread = threading.Thread(target=explain_for_ever)
        thread.start()
        assert entered.wait(60)
        for _ in range(generator.randrange(200)):
            pass
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Interrupted))
        thread.join(60)
        assert left == [(0, 0, True)]
        assert everything(model) == before


SCRIPT = """
import os, random, signal, sys, threading
from tests.captum_apex.attribution.test_interruptions import build, calls, everything

model, layer = build("pooling after relu")
functions = calls(model, layer)
model.train()
before = everything(model)
generator = random.Random(int(sys.argv[1]))
n_sent = 0

def interrupt(*_):
    global n_sent
    n_sent += 1
    os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGALRM, interrupt)
for number in range(60):
    function = list(functions.values())[number % len(functions)]
    try:
        signal.setitimer(signal.ITIMER_REAL, generator.uniform(0.0005, 0.03), 0.5)
        while True:
            function()
    except KeyboardInterrupt:
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert everything(model) == before, everything(model)[:3]
print(n_sent)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the system has no such signals")
def test_ctrl_c_leaves_nothing_and_is_not_swallowed():
    root = Path(__file__).parents[3]
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, "0"], cwd=root, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    # Python itself drops an exception that arrives while it closes a generator or runs a callback of a weak reference.
    assert 60 <= int(result.stdout) <= 65
