"""A model that is held: by several threads, by other models with the same modules, over a fork, in training mode."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from torch import nn

from captum_apex.layers import holding
from captum_apex.layers.changes import LOCK, THREAD
from captum_apex.layers.holding import ConstantParameters
from captum_apex.layers.hooks import captured, copied, frozen, held, watched
from captum_apex.layers.models import models_of
from captum_apex.layers.selected_output import SelectedOutput


def in_thread(function, *arguments):
    """The result of a function that runs in another thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result(timeout=60)


def lock_is_free():
    free = LOCK.acquire(blocking=False)
    if free:
        LOCK.release()
    return free


def nothing_is_left():
    return not holding._HELD and not THREAD.undo and not THREAD.runs and in_thread(lock_is_free)


def flags(model):
    return [module.training for module in model.modules()]


def test_the_last_of_several_holders_restores_the_flags():
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2))
    model[0].eval()
    first, second = held(model), held(nn.Sequential(model, nn.Softmax(1)))
    first.__enter__()
    in_thread(second.__enter__)
    first.__exit__(None, None, None)
    assert flags(model) == [False, False, False]
    in_thread(second.__exit__, None, None, None)
    assert flags(model) == [True, False, True]


def test_a_model_in_evaluation_mode_is_not_touched():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).eval()
    writes = []

    class Noting(nn.BatchNorm1d):
        def __setattr__(self, name, value):
            writes.append(name)
            super().__setattr__(name, value)

    model[1] = Noting(2).eval()
    writes.clear()
    with frozen(model):
        # Another thread trains the model meanwhile: its parameters have gradients.
        output = in_thread(model, torch.ones(3, 2))
        assert output.requires_grad
        assert not model(torch.ones(3, 2)).requires_grad
        assert not holding.torch_module._global_forward_pre_hooks
    assert writes == []


def test_a_call_in_another_thread_waits_for_the_flags_of_a_model_in_training(monkeypatch):
    model = nn.Sequential(nn.BatchNorm1d(2, momentum=1.0))
    waiting = threading.Event()
    wait_for = holding._wait_for

    def noting(is_free):
        waiting.set()
        wait_for(is_free)

    monkeypatch.setattr(holding, "_wait_for", noting)
    with ThreadPoolExecutor(1) as pool:
        with frozen(model):
            trained = pool.submit(model, torch.tensor([[1.0, 1.0], [3.0, 5.0]]))
            assert waiting.wait(60)
            assert torch.equal(model[0].running_mean, torch.zeros(2))
        trained.result(timeout=60)
    assert torch.equal(model[0].running_mean, torch.tensor([2.0, 3.0]))
    assert nothing_is_left()


def test_a_call_that_would_wait_too_long_is_an_error_that_says_what_to_do(monkeypatch):
    monkeypatch.setattr(holding, "_PATIENCE", 0.01)
    model = nn.Sequential(nn.Dropout())
    with frozen(model), pytest.raises(RuntimeError, match=r"other threads have held it .* `model.eval\(\)`"):
        in_thread(model, torch.ones(1))


def test_a_model_that_is_put_into_training_meanwhile_is_an_error():
    model = nn.Sequential(nn.Dropout())
    with (
        pytest.raises(RuntimeError, match="expected the model to stay in evaluation mode .* `training`"),
        frozen(model),
    ):
        in_thread(model.train)
    assert flags(model) == [True, True]
    assert nothing_is_left()


def test_hooks_see_only_the_calls_of_their_own_thread():
    layer = nn.ReLU()
    inputs = torch.tensor([-1.0, 2.0])
    for at_input in (False, True):
        with watched(layer, "relu", torch.neg, at_input=at_input), captured(layer, "relu") as capture:
            others = [in_thread(layer, inputs) for _ in range(3)]  # neither changed nor counted as runs
            own = layer(inputs)
        assert all(torch.equal(other, torch.tensor([0.0, 2.0])) for other in others)
        assert torch.equal(own, torch.tensor([1.0, 0.0]) if at_input else torch.tensor([0.0, -2.0]))
        assert torch.equal(capture.value, own)


def test_hooks_do_not_see_a_run_inside_their_run():
    layer = nn.ReLU()

    class Outer(nn.Module):
        def forward(self, inputs):
            with captured(layer, "relu", stop=True) as inner, frozen(layer):
                layer(inputs - 1)
            return layer(inputs) + inner.value

    model = Outer()
    with captured(layer, "relu") as capture, frozen(model):
        output = model(torch.tensor([3.0]))
    assert capture.value.item() == 3.0
    assert output.item() == 5.0


def held_until(leave, model, entered):
    """Holds a model with a hook on its second module until `leave` is set; `entered` is set as soon as it is held."""
    with watched(model[1], "relu", torch.neg), frozen(model):
        model(torch.ones(1))
        entered.set()
        assert leave.wait(60)


def test_a_copy_is_as_the_user_left_the_model_also_while_it_is_held():
    model = nn.Sequential(nn.Dropout(), nn.ReLU())
    entered, copying, leave = (threading.Event() for _ in range(3))

    with ThreadPoolExecutor(2) as pool:
        holder = pool.submit(held_until, leave, model, entered)
        assert entered.wait(60)

        def copy():
            copying.set()
            return copied(model)

        copy_of_model = pool.submit(copy)
        assert copying.wait(60)
        leave.set()
        holder.result(timeout=60)
        copy_of_model = copy_of_model.result(timeout=60)
    assert flags(copy_of_model) == [True] * 3
    assert not copy_of_model[1]._forward_hooks


def test_a_copy_has_no_hooks_of_ours_but_those_of_the_user():
    layer = nn.ReLU()
    layer.register_forward_hook(lambda *_: None)
    with watched(layer, "relu", torch.neg):
        copy = copied(layer)
        layer(torch.ones(1))
    assert len(copy._forward_hooks) == 1


def test_a_copy_that_is_made_while_a_selected_module_runs_has_no_hook_of_the_selection():
    class Copying(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = nn.Linear(2, 2)

        def forward(self, inputs):
            copies.append(copied(self.logits))
            return self.logits(inputs).softmax(1)

    copies = []
    model = Copying()
    SelectedOutput(model, model.logits)(torch.ones(1, 2))
    assert len(copies) == 1
    assert not copies[0]._forward_hooks


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_has_the_model_as_its_user_left_it():
    model = nn.Sequential(nn.Dropout(), nn.ReLU())
    entered, leave = threading.Event(), threading.Event()

    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(held_until, leave, model, entered)
        assert entered.wait(60)
        child = os.fork()
        if not child:  # only the thread that forked goes on here
            try:
                whole = flags(model) == [True] * 3 and not model[1]._forward_hooks and not holding._HELD
                with frozen(model):
                    whole = whole and model(torch.ones(1)).item() == 1.0 and flags(model) == [False] * 3
                os._exit(0 if whole and flags(model) == [True] * 3 else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert flags(model) == [False] * 3
        leave.set()
        holder.result(timeout=60)
    assert flags(model) == [True] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_of_the_holder_goes_on_holding():
    model = nn.Dropout()
    block = frozen(model)
    block.__enter__()
    child = os.fork()
    if not child:
        try:
            whole = not model.training
            block.__exit__(None, None, None)
            os._exit(0 if whole and model.training else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert not model.training
    block.__exit__(None, None, None)
    assert model.training


@pytest.mark.parametrize("flag", ["grad_checkpointing", "gradient_checkpointing", "use_checkpoint"])
def test_switches_of_gradient_checkpointing_are_off_meanwhile(flag):
    model = nn.Sequential(nn.ReLU()).eval()
    setattr(model[0], flag, True)
    with frozen(model):
        assert getattr(model[0], flag) is False
    assert getattr(model[0], flag) is True


def test_parameters_are_constants_in_this_thread_alone():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Flatten(2), nn.LSTM(4, 3))
    model.eval()
    inputs = torch.ones(1, 1, 2, 2)
    with ConstantParameters():
        assert not model(inputs)[0].requires_grad
        assert in_thread(lambda: model(inputs)[0]).requires_grad
        (gradient,) = torch.autograd.grad(model(inputs.requires_grad_())[0].sum(), inputs)
    assert gradient.any()
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_what_a_model_writes_into_its_parameters_is_kept():
    layer = nn.Linear(1, 1)
    with ConstantParameters():
        layer.weight.data = torch.tensor([[2.0]])
        layer.weight.requires_grad_(False)
        with torch.no_grad():
            layer.weight += 1
            layer.bias.copy_(torch.tensor([4.0]))
    assert layer.weight.item() == 3.0
    assert layer.bias.item() == 4.0
    assert not layer.weight.requires_grad


def test_held_models_are_freed():
    import weakref

    model = nn.Sequential(nn.Dropout())
    with frozen(model):
        pass
    reference = weakref.ref(model)
    del model
    assert reference() is None


def test_the_modules_behind_a_function_are_found():
    model, other = nn.ReLU(), nn.Sequential()

    class Scorer:
        def __init__(self):
            self.network = model

        def __call__(self, inputs):
            return self.network(inputs)

        def score(self, inputs):
            return self.network(inputs)

    scorer = Scorer()
    assert models_of(lambda inputs: other(model(inputs))) == [model, other]
    assert models_of(scorer) == models_of(scorer.score) == models_of(lambda inputs: scorer(inputs)) == [model]

    @torch.no_grad()
    def scores(inputs):
        return model(inputs)

    def probabilities(inputs):
        return scores(inputs).softmax(1)

    assert models_of(scores) == models_of(partial(probabilities)) == [model]
    assert models_of(torch.relu) == models_of(lambda inputs: inputs) == []
