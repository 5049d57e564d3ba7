"""A method's attribution map, or why there is none, and what it cost."""

from __future__ import annotations

import copy
import signal
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from benchmarks.methods import Explained, Method, Query
from benchmarks.methods.registry import joined
from benchmarks.runs.price import Meter
from captum_apex.masking.grids import region_sums
from captum_apex.metrics import pointing_game, relevance_mass

LARGEST_DELTA = 0.1  # of a complete method, relative to the change it should add up to
OUT_OF_MEMORY = (
    "not enough memory",
    "can't allocate memory",
    "Cannot allocate memory",
)  # as torch and the system say it
PRICE = ("passes", "memory", "seconds")
RADIUS = 0.02  # of the perturbations for the sensitivity, in the inputs' own standard deviations: Captum's default on normalised inputs


@dataclass(frozen=True)
class Map:
    """A method's map with its status and price.

    Attributes:
        attributions: (clip, 1, frequency, time); None where there is none to score.
        status: `ok`, or what happened and why.
        passes: what explaining one clip costs, in forward passes' worth of arithmetic.
        memory: the most bytes of tensors that explaining one clip holds at one time.
        seconds: per clip; of maps that share their passes, an equal share.
        sensitivity: the largest relative change of each clip's map under small perturbations, (clip,); None where it was not asked for.
    """

    attributions: Tensor | None
    status: str
    passes: float = float("nan")
    memory: float = float("nan")
    seconds: float = float("nan")
    sensitivity: Tensor | None = None


@dataclass(frozen=True)
class Summed:
    """What of a map is judged: its sums over the regions of a grid, and what else only the whole map can tell.

    Attributes:
        sums: float64 (clip, region); None where there is no map.
        status: of the map, as its `passes`, `memory` and `seconds`.
        columns: name of a measure → its values, (clip,): `pointing`, `relevance_mass`, `sensitivity`, as far as they are known.
    """

    sums: Tensor | None
    status: str
    passes: float
    memory: float
    seconds: float
    columns: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Map, grid: Tensor, truth: Tensor | None) -> Summed:
        """The map, summed.

        Args:
            found: the map.
            grid: the region of each bin, int64 (frequency, time).
            truth: where the evidence lies, bool (clip, frequency, time); None where that is unknown.
        """
        about, own = (found.status, found.passes, found.memory, found.seconds), found.attributions
        if own is None:
            return cls(None, *about)
        columns = {} if found.sensitivity is None else {"sensitivity": found.sensitivity.cpu()}
        if truth is not None:
            places = truth.to(own.device)
            columns |= {
                "pointing": pointing_game(own, places).cpu(),
                "relevance_mass": relevance_mass(own, places).cpu(),
            }
        sums = region_sums(own, grid).cpu()
        if not sums.isfinite().all():  # finite values may add up to infinity
            return cls(None, "non-finite", *about[1:])
        return cls(sums, *about, columns)

    def clips(self, own: slice) -> Summed:
        """The same for some of the clips, without the memory of the others: it travels."""
        sums = None if self.sums is None else self.sums[own].clone()
        return replace(self, sums=sums, columns={name: column[own].clone() for name, column in self.columns.items()})

    def save(self, path: Path) -> None:
        """As safetensors; the numbers keep every bit. Only where there are sums."""
        about = {"status": self.status, **{name: repr(getattr(self, name)) for name in PRICE}}
        assert self.sums is not None  # what has none is not scored
        save_file(
            {"sums": self.sums.contiguous(), **{name: column.contiguous() for name, column in self.columns.items()}},
            path,
            about,
        )

    @classmethod
    def load(cls, path: Path) -> Summed:
        """What `save` wrote.

        Raises:
            SafetensorError: the file is damaged.
            OSError: it cannot be read.
        """
        with safe_open(path, "pt") as file:
            about, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
        return cls(
            tensors.pop("sums"), about["status"], **{name: float(about[name]) for name in PRICE}, columns=tensors
        )


def explained(method: Method, query: Query, *, limit: float | None = None, sensitivity: int = 0) -> dict[str, Map]:
    """The maps of one method under each of the query's names; an exception becomes a status.

    The method works on a deep copy of the model and of the inputs: it cannot spoil them for the next one. The first clip is explained under
    each name alone, which tells its price; the others a few at a time, under all names together. Names that fail together are asked again
    one by one: what becomes of one does not depend on the others.

    Args:
        method: from the registry.
        query: what is to be explained; without `names`, under all that the method has.
        limit: seconds for one call on all clips, None for as long as it takes; kept where a signal can interrupt it: in a main thread.
        sensitivity: how many perturbed copies of the inputs are explained as well.
    """
    query, start = replace(query, names=query.names or method.names), time.perf_counter()
    failure = ""
    try:
        with time_limit(limit):
            results, meters, seconds = _asked(method, query)
        forward = _flops_of_one_pass(query)
    except _TimeUp:
        failure = f"timeout (more than {limit:g} s)"
    except Exception as error:
        failure = status_of(error)
    if failure and len(query.names) > 1:
        alone = (
            explained(method, replace(query, names=(name,)), limit=limit, sensitivity=sensitivity)
            for name in query.names
        )
        return {name: found for own in alone for name, found in own.items()}
    if failure:
        return {query.names[0]: Map(None, failure, seconds=_elapsed(start, query.inputs))}
    maps = [_judged(result, query.inputs) for result in results]
    largest: Sequence[Tensor | None] = [None] * len(maps)
    with suppress(_TimeUp, Exception), time_limit(limit):  # a map that could be made is not lost with its sensitivity
        largest = _sensitivities(method, query, maps, sensitivity)
    found = {}
    for name, own, meter, changes in zip(query.names, maps, meters, largest, strict=True):
        passes, memory = meter.flops / forward, float(meter.peak)
        found[name] = replace(own, passes=passes, memory=memory, seconds=seconds, sensitivity=changes)
    return found


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
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
        finally:  # the alarm may still ring in between
            signal.signal(signal.SIGALRM, before)


class _TimeUp(BaseException):
    pass


def _asked(method: Method, query: Query) -> tuple[list[Explained], list[Meter], float]:
    """What the method gives for each of the query's names, the meters that counted the first clip, and the others' seconds per clip."""
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
    meters, parts, start = [Meter() for _ in query.names], [], time.perf_counter()
    with _seeded(query.seed), warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # Captum's notes on hooks and requires_grad, solvers' on convergence: the model is a copy
        alone: list[Explained] = []
        for name, meter in zip(query.names, meters, strict=True):
            with meter:
                alone += method.maps(replace(own.clips(slice(1)), names=(name,)))
        parts.append(alone)
        seconds = _elapsed(start, query.inputs[:1]) / len(query.names)
        if len(query.inputs) > 1:
            start = time.perf_counter()
            parts.append(method.maps(own.clips(slice(1, None))))
            seconds = _elapsed(start, query.inputs[1:]) / len(query.names)
    return [joined(results) for results in zip(*parts, strict=True)], meters, seconds


def _judged(result: Explained, inputs: Tensor) -> Map:
    """The map with its status: a bad shape or a non-finite value cannot be scored, a broken axiom can."""
    attributions, delta = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if not isinstance(attributions, Tensor) or not (delta is None or isinstance(delta, Tensor)):
        return Map(None, f"error (expected a tensor, or a tensor and its delta, but got {_kind(result)})")
    attributions = attributions.detach()
    if attributions.shape not in (inputs.shape, inputs[:, :1].shape):
        return Map(None, f"bad shape ({tuple(attributions.shape)})")
    attributions = attributions.sum(1, keepdim=True)  # real and imaginary part of a bin go together
    if not attributions.isfinite().all():
        return Map(None, "non-finite")
    if bool((attributions.flatten(1) == attributions.flatten(1)[:, :1]).all()):
        return Map(None, "degenerate (constant maps)")
    relative = 0.0 if delta is None else _relative_delta(delta.detach(), attributions)
    return Map(attributions, "ok" if relative <= LARGEST_DELTA else f"axiom violated ({relative:.2f})")


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
        perturbed = _asked(method, replace(query, inputs=query.inputs + noise.to(query.inputs)))[0]
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
    return (
        f"({', '.join(type(part).__name__ for part in result)})" if isinstance(result, tuple) else type(result).__name__
    )


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
