"""What each module of a model gives in a forward pass, read as a grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from captum_apex.layers.hooks import hooked
from captum_apex.layers.kinds import KnownAxes, known_axes, takes_hooks
from captum_apex.layers.layer_output import tensor_in
from captum_apex.layers.probe import PatchGrid, Reading, readings

__all__ = ["Visit", "visited"]


@dataclass(eq=False)
class Visit:
    """A module in a forward pass.

    Args:
        name: name of the module.
        module: the module.
        runs: how often it ran; what follows is of the last time.
        order: position among the ends of all modules.
        value: the tensor that it gave, as a number that is the same for views of it and changes with its values.
        shape: shape of the tensor, or of the first one of a tuple; None where there is no tensor.
        given: name of the type that it gave.
        is_alone: whether it gave the tensor alone, also in a tuple.
        passes: whether it gave its input unchanged.
        known: the axes that its kind fixes; None where it fixes none.
        taker: the axes that the kind of a module fixes which takes the tensor.
        readings: ways to read the tensor as a grid; the likeliest first.

    Example:
        >>> import torch
        >>> from captum_apex.layers.visits import Visit
        >>> Visit("0", torch.nn.ReLU()).runs
        0
    """

    name: str
    module: nn.Module
    runs: int = 0
    order: int = 0
    value: tuple[int, int, int] | None = None
    shape: tuple[int, ...] | None = None
    given: str = ""
    is_alone: bool = True
    passes: bool = False
    known: KnownAxes | None = None
    taker: KnownAxes | None = None
    readings: list[Reading] = field(default_factory=list)

    @property
    def reading(self) -> Reading | None:
        """The tensor as a grid, by the axes that are known; None where it is none."""
        known = self.known or self.taker
        fitting = [reading for reading in self.readings if known is None or reading.channel_axis == known.channels]
        return next(iter(fitting), None)


@dataclass(eq=False)
class _Pass:
    """What was seen in a pass up to now."""

    visits: dict[str, Visit] = field(default_factory=dict)
    numbers: WeakTensorKeyDictionary = field(default_factory=WeakTensorKeyDictionary)
    patches: list[PatchGrid] = field(default_factory=list)
    inputs: list[tuple[nn.Module, object]] = field(default_factory=list)
    takers: dict[object, KnownAxes] = field(default_factory=dict)
    last: tuple[str, Reading] | None = None  # the module that was read last, and how
    n_ends: int = 0
    n_values: int = 0

    def value(self, tensor: Tensor) -> tuple[int, int, int]:
        """The number of a tensor's values: the same for its views, another after a change in place."""
        base = tensor if tensor._base is None else tensor._base
        if base not in self.numbers:
            self.n_values += 1
            self.numbers[base] = self.n_values
        version = 0
        with suppress(RuntimeError):  # tensors of the inference mode have none
            version = tensor._version
        return self.numbers[base], version, tensor.numel()

    def begin(self, module: nn.Module, arguments: tuple) -> None:
        taken = None
        if arguments and isinstance(arguments[0], Tensor):
            shape = tuple(arguments[0].shape)
            taken = (self.value(arguments[0]), shape)
            known = known_axes(module, shape, at_input=True)
            if known is not None:
                self.takers.setdefault(taken, known)
        self.inputs.append((module, taken))

    def end(self, name: str, module: nn.Module, _: tuple, output: Any) -> None:
        taken = None
        while self.inputs:  # also those of modules that an exception ended
            begun, taken = self.inputs.pop()
            if begun is module:
                break
        self.n_ends += 1
        visit = self.visits.setdefault(name, Visit(name, module))
        visit.runs += 1
        visit.order = self.n_ends
        visit.given = type(output).__name__
        visit.value = None
        visit.shape = None
        visit.readings = []
        tensor = tensor_in(output, module)
        if tensor is None:
            return
        visit.shape = tuple(tensor.shape)
        visit.is_alone = isinstance(output, Tensor) or len(output) == 1
        visit.value = self.value(tensor)
        visit.passes = (visit.value, visit.shape) == taken
        visit.known = known_axes(module, tensor.shape)
        visit.readings = readings(tensor, visit.known, self.patches)
        if visit.readings:
            self.last = (name, visit.readings[0])
        elif self.last is not None:
            carried_on = self.last[1].carried_on(self.last[0], tensor, visit.known)
            visit.readings = [carried_on] if carried_on is not None else []
        if tensor.dim() == 4 and visit.known is not None and visit.known.channels == 1:
            self.patches.append(PatchGrid(name, (tensor.shape[2], tensor.shape[3])))

    def finished(self) -> dict[str, Visit]:
        for visit in self.visits.values():
            visit.taker = self.takers.get((visit.value, visit.shape))
        return self.visits


def visited(modules: Mapping[str, nn.Module], run: Callable[[], object]) -> dict[str, Visit]:
    """Runs a model once and notes what each of its modules gives.

    Args:
        modules: the modules by name.
        run: runs the model on the clips of `captum_apex.layers.probe.changed_clips`.

    Returns:
        The modules that ran, by name. Modules inside TorchScript do not occur, because no hook reaches them.

    Example:
        >>> import torch
        >>> from captum_apex.layers.probe import changed_clips
        >>> from captum_apex.layers.visits import visited
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Sequential(torch.nn.Conv1d(1, 4, 3), torch.nn.AdaptiveAvgPool1d(1))
        >>> clips = changed_clips(torch.zeros(1, 1, 90), ["n", "c", "t"])
        >>> visits = visited(dict(model.named_children()), lambda: model(clips))
        >>> visits["0"].reading.grid, visits["1"].reading
        ((1, 88), None)
    """
    seen = _Pass()
    with torch.no_grad(), ExitStack() as hooks:
        for name, module in modules.items():
            if takes_hooks(module):
                hooks.enter_context(hooked(module, seen.begin, at_input=True))
                hooks.enter_context(hooked(module, partial(seen.end, name)))
        run()
    return seen.finished()
