"""Which modules take the channels of a layer: those whose arguments change by a matrix when the layer's output does."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from captum_apex.layers.chosen_run import named_layers

__all__ = ["ChannelReader", "are_close", "arguments_taken", "next_reader", "relative_difference", "weighted_modules"]

Arguments = dict[int | str, Any]
"""What a module takes in one run, by position or name; the tensors are copies."""

Taken = dict[str, list[Arguments]]
"""What each module takes in each of its runs, in the order of the first runs."""


@dataclass(frozen=True)
class ChannelReader:
    """A module that takes channels of a layer.

    Args:
        name: name of the module in the model.
        axes: the axis of the channels in each argument that has them, by position or name.
        is_single: whether it takes this one argument and nothing else.
        is_on_last_axis: whether the channels are on the last axis of the first of these arguments.

    Example:
        >>> from captum_apex.attribution.channel_readers import ChannelReader
        >>> ChannelReader("head", {0: 1}, is_single=True, is_on_last_axis=True).axes
        {0: 1}
    """

    name: str
    axes: Mapping[int | str, int]
    is_single: bool
    is_on_last_axis: bool


def weighted_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The modules that themselves have weights, also those that compute them from others, by their names.

    Example:
        >>> from captum_apex.attribution.channel_readers import weighted_modules
        >>> from torch import nn
        >>> weighted_modules(nn.Sequential(nn.ReLU(), nn.Linear(2, 1)))
        {'1': Linear(in_features=2, out_features=1, bias=True)}
    """
    return {
        name: module
        for name, module in named_layers(model)
        if (is_parametrized(module) or any(True for _ in module.parameters(recurse=False)))
        and ".parametrizations." not in f".{name}."
    }


def arguments_taken(model: nn.Module, inputs: Tensor, modules: Mapping[str, nn.Module]) -> Taken:
    """Runs the model, and notes what some of its modules take.

    Args:
        model: the model.
        inputs: inputs of the model.
        modules: the modules, by their names.

    Example:
        >>> import torch
        >>> from captum_apex.attribution.channel_readers import arguments_taken
        >>> from torch import nn
        >>> model = nn.Sequential(nn.ReLU(), nn.Linear(2, 1))
        >>> arguments_taken(model, torch.tensor([[-1.0, 3.0]]), {"1": model[1]})
        {'1': [{0: tensor([[0., 3.]])}]}
    """
    taken: Taken = {}

    def note(name: str, _: nn.Module, arguments: tuple, named: dict[str, Any]) -> None:
        given: list[tuple[int | str, Any]] = [*enumerate(arguments), *named.items()]
        copies = {key: each.detach().clone() if isinstance(each, Tensor) else each for key, each in given}
        taken.setdefault(name, []).append(copies)

    with ExitStack() as hooks:
        for name, module in modules.items():
            handle = module.register_forward_pre_hook(partial(note, name), with_kwargs=True)
            hooks.callback(handle.remove)
        model(inputs)
    return taken


def next_reader(
    expected: Taken, taken: Taken, matrix: Tensor, done: Collection[str], layer: str
) -> ChannelReader | None:
    """The first module whose arguments have changed; None where no further one has.

    Args:
        expected: what the modules take in the model as it is.
        taken: what they take where the channels of the layer are multiplied by the matrix.
        matrix: the matrix, (channel, channel).
        done: names of the modules that are not looked at.
        layer: name of the layer, for messages.

    Raises:
        ValueError: an argument has changed otherwise than by the matrix; the message names the module.

    Example:
        >>> import torch
        >>> from captum_apex.attribution.channel_readers import next_reader
        >>> swapped = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> before = {"head": [{0: torch.tensor([[5.0, 7.0]]), "mask": torch.ones(1)}]}
        >>> after = {"head": [{0: torch.tensor([[7.0, 5.0]]), "mask": torch.ones(1)}]}
        >>> next_reader(before, after, swapped, done=(), layer="layer").axes
        {0: 1}
    """
    for name, runs in expected.items():
        if name in done:
            continue
        axes: dict[int | str, int] = {}
        for before, after in zip(runs, taken.get(name, []), strict=False):
            changed = [key for key in before if not _is_same(before[key], after.get(key))]
            axes |= {
                key: _axis_of(matrix, before[key], after.get(key), f"{layer!r} and {name!r}", key) for key in changed
            }
        if axes:
            key, axis = next(iter(axes.items()))
            is_single = set(runs[0]) == {0}
            return ChannelReader(name, axes, is_single, is_on_last_axis=axis == runs[0][key].dim() - 1)
    return None


def relative_difference(expected: Tensor, got: Tensor) -> float:
    """The largest difference of two tensors of one shape, divided by the largest value of the first.

    Example:
        >>> import torch
        >>> from captum_apex.attribution.channel_readers import relative_difference
        >>> relative_difference(torch.tensor([1.0, -4.0]), torch.tensor([2.0, -4.0]))
        0.25
    """
    if torch.equal(expected, got):
        return 0.0
    scale = expected.double().abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    return ((got.double() - expected.double()).abs().max() / scale).item()


def are_close(expected: Tensor, got: Tensor) -> bool:
    """Whether two tensors are equal within rounding; tensors of other shapes are not.

    Example:
        >>> import torch
        >>> from captum_apex.attribution.channel_readers import are_close
        >>> are_close(torch.ones(2), torch.tensor([1.0, 1.00001])), are_close(torch.ones(2), torch.tensor([1.0, 1.1]))
        (True, False)
    """
    if expected.shape != got.shape:
        return False
    eps = torch.finfo(expected.dtype).eps if expected.is_floating_point() else 0.0
    return relative_difference(expected, got) <= min(1e3 * eps, 0.05)  # half precision would allow everything


def _is_same(before: Any, after: Any) -> bool:
    """Whether an argument is unchanged; those without tensors are not looked at."""
    if isinstance(before, Tensor):
        return isinstance(after, Tensor) and are_close(before, after)
    if isinstance(before, (tuple, list)) and isinstance(after, (tuple, list)):
        return all(_is_same(*pair) for pair in zip(before, after, strict=False))
    return True


def _axis_of(matrix: Tensor, before: Any, after: Any, between: str, key: int | str) -> int:
    """The axis along which the matrix has changed an argument."""
    if isinstance(before, Tensor) and isinstance(after, Tensor) and before.shape == after.shape:
        for axis in (axis for axis, size in enumerate(before.shape) if size == len(matrix)):
            multiplied = torch.einsum("kc,...c->...k", matrix.to(before), before.movedim(axis, -1)).movedim(-1, axis)
            if are_close(multiplied, after):
                return axis
    argument = f"argument {key + 1}" if isinstance(key, int) else f"argument `{key}`"
    raise ValueError(
        f"expected only pooling between {between}, but {argument} of the latter does not hold the channels of the "
        "former alone: something in between does not treat all channels alike, such as an activation, a maximum, a sum "
        "with another branch, or a flattening of the grid; take a layer after it, or use LayerAPEX, which needs no "
        "changed copy"
    )
