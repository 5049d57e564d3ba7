"""A method's attribution map, or why there is none, and what it cost."""

from __future__ import annotations

import copy
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from benchmarks.methods import Explained, Method, Query
from benchmarks.price import Meter

LARGEST_DELTA = 0.1  # of a complete method, relative to the change it should add up to
OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "Cannot allocate memory")  # as torch and the system say it
RADIUS = 0.02  # of the perturbations for the sensitivity, in the inputs' own standard deviations: Captum's default on normalised inputs


@dataclass(frozen=True)
class Map:
    """A method's map with its status and price.

    Attributes:
        attributions: (clip, 1, frequency, time); None where there is none to score.
        status: `ok`, or what happened and why.
        passes: what it cost per clip, in forward passes' worth of arithmetic.
        memory: the most bytes of tensors that the call held at one time, for as many clips as it takes at once.
        seconds: per clip, with the counting of passes, which slows methods of many small steps.
        sensitivity: the largest relative change of each clip's map under small perturbations, (clip,); None where it was not asked for.
    """

    attributions: Tensor | None
    status: str
    passes: float = float("nan")
    memory: float = float("nan")
    seconds: float = float("nan")
    sensitivity: Tensor | None = None


def explained(method: Method, query: Query, *, limit: float | None = None, sensitivity: int = 0) -> dict[str, Map]:
    """The maps of one method under each of its names; an exception becomes a status.

    The method works on a deep copy of the model and of the inputs: it cannot spoil them for the next one.

    Args:
        method: from the registry.
        query: what is to be explained.
        limit: seconds for all clips together, None for as long as it takes; kept where a signal can interrupt it: in a main thread.
        sensitivity: how many perturbed copies of the inputs are explained as well.
    """
    forward = _flops_of_one_pass(query)
    meter, start = Meter(), time.perf_counter()
    try:
        with time_limit(limit), meter:
            results = _results(method, query)
        seconds = _elapsed(start, query.inputs)
        maps = [_judged(result, query.inputs) for result in results]
    except _TimeUp:
        return dict.fromkeys(method.names, Map(None, f"timeout (more than {limit:g} s)", seconds=_elapsed(start, query.inputs)))
    except Exception as error:
        return dict.fromkeys(method.names, Map(None, status_of(error), seconds=_elapsed(start, query.inputs)))
    price = (meter.flops / forward / len(query.inputs), float(meter.peak), seconds)
    largest: Sequence[Tensor | None] = [None] * len(maps)
    with suppress(_TimeUp, Exception), time_limit(limit):  # a map that could be made is not lost with its sensitivity
        largest = _sensitivities(method, query, maps, sensitivity)
    return {
        name: replace(found, passes=price[0], memory=price[1], seconds=price[2], sensitivity=changes)
        for name, found, changes in zip(method.names, maps, largest, strict=True)
    }


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Interrupts the block after so many seconds, by an exception that no `except Exception` swallows.

    Only a main thread can be interrupted; elsewhere, and where the system has no timer signals, there is no limit.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def interrupt(*_: object) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        # Again and again: Python swallows what is raised while it finalises an object.
        signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _TimeUp(BaseException):
    pass


def _results(method: Method, query: Query) -> Sequence[Explained]:
    """What the method gives under each of its names."""
    model = copy.deepcopy(query.model)
    layer = dict(zip(query.model.modules(), model.modules(), strict=True))[query.layer]
    own = replace(
        query,
        model=model,
        layer=layer,
        inputs=query.inputs.clone(),
        target=query.target.clone(),
        fill=query.fill.clone(),
        grid=query.grid.clone(),
        bases=copy.deepcopy(query.bases),
    )
    with _seeded(query.seed), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Captum's notes on hooks and requires_grad, solvers' on convergence: the model is a copy
        result = method.explain(own)
    results = [result] if len(method.names) == 1 else list(result)
    if len(results) != len(method.names):
        raise ValueError(f"expected a map for each of {len(method.names)} names, but got {len(results)}")
    return results  # type: ignore[return-value]  # of one name, the result itself


def _judged(result: Explained, inputs: Tensor) -> Map:
    """The map with its status: a bad shape or a non-finite value cannot be scored, a broken axiom can."""
    attributions, delta = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if not isinstance(attributions, Tensor) or not (delta is None or isinstance(delta, Tensor)):
        raise ValueError(f"expected a tensor, or a tensor and its delta, but got {_kind(result)}")
    attributions = attributions.detach()
    if attributions.shape != inputs.shape:
        return Map(None, f"bad shape ({tuple(attributions.shape)})")
    if not attributions.isfinite().all():
        return Map(None, "non-finite")
    if bool((attributions.flatten(1) == attributions.flatten(1)[:, :1]).all()):
        return Map(None, "degenerate (constant maps)")
    relative = 0.0 if delta is None else _relative_delta(delta.detach(), attributions)
    return Map(attributions, f"axiom violated ({relative:.2f})" if relative > LARGEST_DELTA else "ok")


def _relative_delta(delta: Tensor, attributions: Tensor) -> float:
    """Median of |delta| over |what the map should add up to|; delta = what it adds up to − what it should."""
    total = attributions.flatten(1).sum(1)
    return (delta.abs() / (total - delta).abs().clamp_min(1e-6)).median().item()


def _sensitivities(method: Method, query: Query, maps: Sequence[Map], draws: int) -> list[Tensor | None]:
    """For each map: the largest of ‖map of a perturbed clip − map‖ / ‖map‖ over a few draws, (clip,); Yeh et al., arXiv 1901.09392."""
    largest: list[Tensor | None] = [None] * len(maps)
    generator = torch.Generator().manual_seed(query.seed)
    for _ in range(draws if any(found.attributions is not None for found in maps) else 0):
        noise = (2 * torch.rand(query.inputs.shape, generator=generator) - 1) * RADIUS
        perturbed = _results(method, replace(query, inputs=query.inputs + noise.to(query.inputs)))
        for i, (result, found) in enumerate(zip(perturbed, maps, strict=True)):
            if (own := found.attributions) is not None:
                other = _judged(result, query.inputs).attributions
                change = own.new_full((len(own),), torch.inf) if other is None else (other - own).flatten(1).norm(dim=1)
                change = change / own.flatten(1).norm(dim=1)
                former = largest[i]
                largest[i] = change if former is None else torch.maximum(former, change)
    return largest


def status_of(error: Exception) -> str:
    """What a table says of an exception: its kind, and the first line of its message."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in str(error) for words in OUT_OF_MEMORY):
        return f"out of memory ({text[:160]})"
    kind = "unsupported" if isinstance(error, (TypeError, NotImplementedError, AssertionError)) else "error"
    return f"{kind} ({text[:160]})"


def _kind(result: object) -> str:
    return f"({', '.join(type(part).__name__ for part in result)})" if isinstance(result, tuple) else type(result).__name__


def _flops_of_one_pass(query: Query) -> int:
    with Meter() as meter, torch.no_grad():
        query.model(query.inputs[:1])
    return max(meter.flops, 1)


def _elapsed(start: float, inputs: Tensor) -> float:
    if inputs.is_cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / len(inputs)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """The global generators of torch and numpy set to a seed, and put back: Captum's sampling methods draw from both."""
    numpy_state = np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
