"""Which of the modules that ran can be explained, and which of them are worth listing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from captum_apex.layers.changes import recording
from captum_apex.layers.chosen_run import RunOutput
from captum_apex.layers.hooks import frozen, hooked
from captum_apex.layers.kinds import kind_name, takes_hooks
from captum_apex.layers.layer_output import tensor_in, with_tensor
from captum_apex.layers.layout import Layout
from captum_apex.layers.probe import Reading
from captum_apex.layers.visits import Visit

__all__ = ["Candidate", "candidates"]

_NARROW = 0.5  # share of the channels of another block on the same grid, below which that block is listed too
_NO_GRADIENT = "no gradient of the scores reaches its grid"
_IN_PLACE = "the model changes in place what a gradient at its output needs"
_FAILS = "no gradient at its output can be computed ({})"
_SCRIPT = "it is TorchScript, which takes no hooks; put it into an nn.Sequential in the model, and explain that"


@dataclass(eq=False)
class Candidate:
    """A module whose output is a grid.

    Args:
        visit: the module in the forward pass.
        reading: its output as a grid.
        level: number of the modules around it that give a grid themselves.
        reason: why it is listed.
        is_read_at_end: whether a gradient of the highest score reaches only the last of its columns.

    Example:
        >>> import torch
        >>> from captum_apex.layers.proposals import Candidate
        >>> from captum_apex.layers.layout import Layout
        >>> from captum_apex.layers.probe import Reading
        >>> from captum_apex.layers.visits import Visit
        >>> Candidate(Visit("0", torch.nn.ReLU()), Reading(Layout(), 1, 16, (8, 16), (0.6, 0.5)), 0).reason
        ''
    """

    visit: Visit
    reading: Reading
    level: int
    reason: str = ""
    is_read_at_end: bool = False


def candidates(
    model: Callable, modules: Mapping[str, nn.Module], visits: Mapping[str, Visit], clip: Tensor
) -> tuple[list[Candidate], dict[str, str]]:
    """The modules to propose, in the order of preference, and why others are left out, by name.

    Args:
        model: the model, or a function that runs it.
        modules: its modules by name.
        visits: what the modules gave in a pass.
        clip: a clip with its clip axis, for a pass with gradients.

    Example:
        >>> import torch
        >>> from captum_apex.layers.proposals import candidates
        >>> from captum_apex.layers.probe import changed_clips
        >>> from captum_apex.layers.visits import visited
        >>> model = torch.nn.Sequential(torch.nn.Conv1d(1, 4, 3), torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten())
        >>> clips = changed_clips(torch.zeros(1, 1, 90), ["n", "c", "t"])
        >>> modules = dict(model.named_children())
        >>> found, left_out = candidates(model, modules, visited(modules, lambda: model(clips)), clips[1:2])
        >>> [candidate.visit.name for candidate in found], left_out
        (['0'], {})
    """
    left_out: dict[str, str] = {}
    on_path = sorted(_path(modules, visits, left_out), key=lambda candidate: -candidate.visit.order)
    distinct = _distinct(on_path)
    class_maps = _check_gradients(model, distinct, clip, left_out)
    reached = [candidate for candidate in distinct if candidate.visit.name not in left_out]
    found = [candidate for candidate in reached if candidate.visit.name not in class_maps]
    listed = _one_or_two_per_grid(found)
    for i, candidate in enumerate(listed):
        candidate.reason = f"{_place(i, listed, left_out)}{_source(candidate)}"
    last = [candidate for candidate in reached if candidate.visit.name in class_maps]
    for candidate in last:
        candidate.reason = f"its channels are the classes themselves{_source(candidate)}"
    return listed + last, left_out


def _path(modules: Mapping[str, nn.Module], visits: Mapping[str, Visit], left_out: dict[str, str]) -> list[Candidate]:
    """The modules that give a grid and are not inside a block; it notes those that cannot be explained."""
    kinds = Counter(kind_name(module) for module in modules.values())
    children: dict[str, list[str]] = {}
    for name in modules:
        children.setdefault(_parent(name, modules), []).append(name)
    path: list[Candidate] = []

    def walk(parent: str, level: int) -> None:
        for name in children.get(parent, ()):
            visit = visits.get(name)
            reading = None if visit is None else visit.reading
            fault = _fault(modules[name], visit)
            if fault and level == 0:  # inside a module that gives a grid nobody misses it
                left_out[name] = fault
            if visit is None or reading is None:
                walk(name, level)
            elif not fault:
                if reading.channels > 1:
                    path.append(Candidate(visit, reading, level))
                if isinstance(visit.module, nn.Sequential) or kinds[kind_name(visit.module)] == 1:
                    walk(name, level + 1)

    walk("", 0)
    values = {candidate.visit.value for candidate in path}
    for name in list(left_out):
        if name in visits and visits[name].value in values:  # a module inside it gives the same tensor alone
            del left_out[name]
    return path


def _parent(name: str, modules: Mapping[str, nn.Module]) -> str:
    parent = name.rpartition(".")[0]
    while parent and parent not in modules:
        parent = parent.rpartition(".")[0]
    return parent


def _fault(module: nn.Module, visit: Visit | None) -> str:
    """Why a module that gives a grid cannot be explained; empty where it can, or where it gives no grid."""
    if not takes_hooks(module):
        return _SCRIPT
    if visit is None or visit.reading is None:
        return ""
    if visit.runs > 1:
        return (
            f"it runs {visit.runs} times in a pass; give each place a module of its own, such as an nn.Identity(), or "
            "choose a run by captum_apex.ChosenRun"
        )
    return ""


def _distinct(path: Sequence[Candidate]) -> list[Candidate]:
    """One of the modules that give the same values: the outermost, or one that gives no tuple or needs no layout.

    A module that gives its input unchanged, such as an identity or a dropout, counts only where no other module gives
    these values: after a function call.
    """
    chosen: dict[Any, Candidate] = {}
    for candidate in path:  # the last first
        other = chosen.get(candidate.visit.value)
        if other is None or _preference(candidate) > _preference(other):
            chosen[candidate.visit.value] = candidate
    return sorted(chosen.values(), key=lambda candidate: -candidate.visit.order)


def _preference(candidate: Candidate) -> tuple[bool, bool, bool]:
    visit = candidate.visit
    return not visit.passes, visit.is_alone, candidate.reading.layout == Layout()


def _check_gradients(
    model: Callable, path: Sequence[Candidate], clip: Tensor, left_out: dict[str, str]
) -> frozenset[str]:
    """Notes the modules whose grid no gradient reaches; returns those of which a class has one channel alone."""
    outputs, of_class, of_all, n_scores = _gradients_at(model, path, clip, left_out)
    class_maps = set()
    for candidate, gradient, other in zip(_in_order(path, outputs), of_class, of_all, strict=True):
        name = candidate.visit.name
        if not any(_on_grid(candidate, each).any() for each in (gradient, other) if each is not None):
            left_out[name] = _NO_GRADIENT
        elif _is_class_map(candidate, gradient, n_scores):
            class_maps.add(name)
        candidate.is_read_at_end = gradient is not None and _columns_reached(candidate, gradient) == [-1]
    return frozenset(class_maps)


def _gradients_at(
    model: Callable, path: Sequence[Candidate], clip: Tensor, left_out: dict[str, str]
) -> tuple[dict[str, Tensor], Sequence[Tensor | None], Sequence[Tensor | None], int]:
    """What the modules gave, the gradients of the highest score and of all scores there, and the number of scores.

    Before modules that are no candidates of a user, such as those of a front end, a model may work in place on what
    a gradient needs. The first module is then left out, until the gradient can be computed.
    """
    outputs: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, _: tuple, output: Any) -> Any:
        tensor = tensor_in(output, module)
        if tensor is None:
            return output
        outputs[name] = tensor if tensor.requires_grad else tensor.detach().requires_grad_()
        return with_tensor(output, module, outputs[name].clone())  # modules behind it may change it in place

    with ExitStack() as blocks:
        blocks.enter_context(recording())
        for candidate in path:
            blocks.enter_context(hooked(candidate.visit.module, partial(keep, candidate.visit.name)))
        blocks.enter_context(frozen(model))
        scores = model(clip).flatten()
        places = list(outputs.values())
        try:
            return outputs, _gradients(scores.max(), places), _gradients(scores.square().sum(), places), len(scores)
        except RuntimeError as error:
            if not outputs:
                raise
            reason = _why_not(str(error))
    first = next(iter(outputs))
    left_out[first] = reason
    later = [candidate for candidate in path if candidate.visit.name != first]
    return _gradients_at(model, later, clip, left_out)


def _why_not(error: str) -> str:
    """Why there is no gradient at the output of a module, from what torch says."""
    return _IN_PLACE if "modified by an inplace operation" in error else _FAILS.format(error.partition("\n")[0])


def _columns_reached(candidate: Candidate, gradient: Tensor) -> list[int]:
    """The columns, counted from the end, that a gradient reaches; none of a grid with one column."""
    reached = _on_grid(candidate, gradient).any(dim=(0, 1, 2))
    return [] if len(reached) == 1 else (reached.nonzero()[:, 0] - len(reached)).tolist()


def _is_class_map(candidate: Candidate, gradient: Tensor | None, n_scores: int) -> bool:
    """Whether a score depends on one channel alone, of as many as there are scores, or one more for the background."""
    if gradient is None or candidate.reading.channels not in (n_scores, n_scores + 1) or n_scores == 1:
        return False
    return int(_on_grid(candidate, gradient).any(dim=(0, 2, 3)).sum()) == 1


def _in_order(path: Sequence[Candidate], outputs: Mapping[str, Tensor]) -> Iterator[Candidate]:
    by_name = {candidate.visit.name: candidate for candidate in path}
    return (by_name[name] for name in outputs)


def _gradients(score: Tensor, places: Sequence[Tensor]) -> Sequence[Tensor | None]:
    if not score.requires_grad or not places:
        return [None] * len(places)
    return torch.autograd.grad(score, places, retain_graph=True, allow_unused=True)


def _on_grid(candidate: Candidate, gradient: Tensor) -> Tensor:
    return candidate.reading.layout.grid(gradient) != 0


def _one_or_two_per_grid(path: Sequence[Candidate]) -> list[Candidate]:
    """For each size of the grid the last module, the last block that is not inside another, and chosen runs.

    Where the last module has few of the channels that there were on this grid, the last block with most of them too.
    """
    by_grid: dict[tuple[int, int], list[Candidate]] = {}
    for candidate in path:
        by_grid.setdefault(candidate.reading.grid, []).append(candidate)
    listed: list[Candidate] = []
    for same_grid in by_grid.values():
        outermost = min(candidate.level for candidate in same_grid)
        outer = [candidate for candidate in same_grid if candidate.level == outermost]
        blocks = [candidate for candidate in outer if next(candidate.visit.module.children(), None) is not None]
        runs = [candidate for candidate in same_grid if isinstance(candidate.visit.module, RunOutput)]
        widest = max(outer, key=lambda candidate: candidate.reading.channels)  # the last of them
        is_narrow = same_grid[0].reading.channels < _NARROW * widest.reading.channels
        listed += dict.fromkeys([same_grid[0], (blocks or outer)[0], *runs, *[widest] * is_narrow])
    return sorted(listed, key=lambda candidate: -candidate.visit.order)


def _place(index: int, listed: Sequence[Candidate], left_out: Mapping[str, str]) -> str:
    if index == 0 and listed[index].is_read_at_end:
        return "last with places; the scores depend on its last column alone"
    if index == 0:
        return "last that the scores depend on" if _NO_GRADIENT in left_out.values() else "last before pooling"
    grids = [candidate.reading.grid for candidate in listed[:index]]
    return "earlier, the same grid" if listed[index].reading.grid in grids else "earlier, another grid"


def _source(candidate: Candidate) -> str:
    """Which tensor of a tuple is meant, and how the layout is known where the layer needs one."""
    reading = candidate.reading
    visit = candidate.visit
    texts = [] if visit.is_alone else [f"the first tensor of its {visit.given}"]
    if reading.layout == Layout():
        return "".join(f"; {text}" for text in texts)
    if visit.known is not None:
        texts.append(f"channels by its kind, {visit.known.kind}")
        if reading.as_before:
            texts.append(f"the other axes as in {reading.as_before}")
        elif "(n t)" in reading.layout.pattern:
            texts.append("the model takes each frame for a clip")
    elif visit.taker is not None:
        texts.append(f"channels as {visit.taker.kind} takes them")
    else:
        texts.append("axes by the changes that they follow")
    if reading.patches is not None:
        tokens = reading.layout.class_tokens
        before = f"{tokens} class token{'s' * (tokens > 1)}, then " if tokens else ""
        texts.append(f"{before}the patches of {reading.patches.name}")
    return "; " + "; ".join(texts)
