"""The attribution map of a method, or the reason why there is none, and what it costs."""

from __future__ import annotations

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
from torch import Tensor, nn

from benchmarks.methods import Explained, Method, Query
from benchmarks.methods.learners import FailedTrainingError
from benchmarks.methods.registry import joined, place_in_loaded_file
from benchmarks.runs.price import Meter
from captum_apex.files import read_tensors, write_tensors
from captum_apex.masking.grids import region_sums
from captum_apex.metrics import pointing_game, relevance_mass

LARGEST_DELTA = 0.1  # largest convergence delta of a complete method, relative to the sum that its map should have
OUT_OF_MEMORY = ("not enough memory", "can't allocate memory", "Cannot allocate memory")  # torch's and the system's
_FORMAT = "captum-apex sums 2"
FAULTS = (Exception, SystemExit)  # of a method; one that calls `exit` must not end the run
PRICE = ("passes", "memory", "seconds")
RADIUS = 0.02  # largest perturbation for the sensitivity, in standard deviations of the inputs: Captum's default


@dataclass(frozen=True)
class Map:
    """The maps of one method for all clips, with their status and price.

    Attributes:
        attributions: the maps, (clip, 1, frequency, time); None if there is nothing to score.
        status: `ok`, or what happened and why.
        passes: floating-point operations of explaining one clip, over those of one forward pass.
        memory: largest number of bytes of tensors that explaining one clip holds at one time.
        seconds: time per clip; maps that share their passes have an equal share.
        sensitivity: largest relative change of each clip's map under small perturbations, (clip,); None if not
            requested.
    """

    attributions: Tensor | None
    status: str
    passes: float = float("nan")
    memory: float = float("nan")
    seconds: float = float("nan")
    sensitivity: Tensor | None = None


@dataclass(frozen=True)
class RegionSums:
    """What is scored of a map: its sums over the regions of a grid, and the measures that need the whole map.

    Attributes:
        sums: sum of the map over each region, float64 (clip, region); None if there is no map. Where clips have grids
            of their own, a clip with fewer regions than another has zeros at the end.
        status: status of the map, see `Map`.
        passes: cost of the map in forward passes, see `Map`.
        memory: cost of the map in bytes, see `Map`.
        seconds: cost of the map in seconds, see `Map`.
        columns: name of a measure → its values, (clip,): those of `pointing`, `relevance_mass` and `sensitivity` that
            are known.
    """

    sums: Tensor | None
    status: str
    passes: float
    memory: float
    seconds: float
    columns: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, method_map: Map, grid: Tensor, truth: Tensor | None) -> RegionSums:
        """The sums of a map over the regions.

        Args:
            method_map: the map.
            grid: the region of each bin, int64 (frequency, time), or of each bin of each clip, (clip, frequency, time).
            truth: bins on which the class event lies, bool (clip, frequency, time); None if they are unknown.
        """
        price = (method_map.passes, method_map.memory, method_map.seconds)
        attributions = method_map.attributions
        if attributions is None:
            return cls(None, method_map.status, *price)
        columns = {} if method_map.sensitivity is None else {"sensitivity": method_map.sensitivity.cpu()}
        if truth is not None:
            truth = truth.to(attributions.device)
            columns["pointing"] = pointing_game(attributions, truth).cpu()
            columns["relevance_mass"] = relevance_mass(attributions, truth).cpu()
        sums = _sums(attributions, grid).cpu()
        if not sums.isfinite().all():  # a sum of finite values may be infinite
            return cls(None, "non-finite", *price)
        return cls(sums, method_map.status, *price, columns)

    def clips(self, selection: slice, n_regions: int | None = None) -> RegionSums:
        """The same for the selected clips only, without the memory of the others, since it is sent to a worker.

        With `n_regions`, only for the first regions, the number that a clip with a grid of its own has.
        """
        return replace(
            self,
            sums=None if self.sums is None else self.sums[selection, :n_regions].clone(),
            columns={name: column[selection].clone() for name, column in self.columns.items()},
        )

    def save(self, path: Path) -> None:
        """Replaces a safetensors file with a checksum; all numbers are stored exactly.

        Raises:
            OSError: the file cannot be written.
            ValueError: there are no sums.
        """
        if self.sums is None:
            raise ValueError(f"expected the sums of a map, but there is no map: {self.status}")
        price = {name: repr(getattr(self, name)) for name in PRICE}
        write_tensors(path, {"sums": self.sums, **self.columns}, {"format": _FORMAT, "status": self.status, **price})

    @classmethod
    def load(cls, path: Path) -> RegionSums:
        """Reads a file that `save` wrote.

        Raises:
            ValueError: the file is damaged.
            OSError: the file cannot be read.
        """
        columns, metadata = read_tensors(path, {_FORMAT: True, None: False})
        sums = columns.pop("sums", torch.empty(0))
        if sums.dim() != 2 or not sums.isfinite().all() or any(len(column) != len(sums) for column in columns.values()):
            raise ValueError(f"expected finite sums (clip, region), but got {tuple(sums.shape)}")
        if missing := {"status", *PRICE} - metadata.keys():
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
        price = {name: float(metadata[name]) for name in PRICE}
        return cls(sums, metadata["status"], **price, columns=columns)


def _sums(attributions: Tensor, grid: Tensor) -> Tensor:
    """The sums over the regions of one grid, or of the grid of each clip, padded with zeros, (clip, region)."""
    if grid.dim() == 2:
        return region_sums(attributions, grid)
    sums = [region_sums(one, own)[0] for one, own in zip(attributions.split(1), grid, strict=True)]
    return nn.utils.rnn.pad_sequence(sums, batch_first=True)


def run_method(method: Method, query: Query, *, limit: float | None = None, sensitivity: int = 0) -> dict[str, Map]:
    """The maps of one method by the query's names; an exception becomes a status.

    The method gets a copy of the model and of the inputs, so that it cannot change them for the next method. The price
    is counted on the first clip, which is explained for each name separately; the other clips are explained for all
    names together. If that fails, each name is tried separately, so that the failure of one map does not affect the
    others.

    Args:
        method: a method of the registry.
        query: the clips and the names of the maps; without `names`, all maps of the method are computed.
        limit: largest number of seconds for one call on all clips, None for no limit; see `time_limit`.
        sensitivity: number of perturbed copies of the inputs that are explained as well.
    """
    query = replace(query, names=query.names or method.names)
    start = time.perf_counter()
    failure = ""
    try:
        with time_limit(limit):
            results, meters, seconds = _call_method(method, query)
        forward = _flops_of_one_pass(query)
    except _TimeUp:
        failure = f"timeout (more than {limit:g} s)"
    except FAULTS as error:
        failure = status_of(error)
    if failure and len(query.names) > 1:
        separately: dict[str, Map] = {}
        for name in query.names:
            separately |= run_method(method, replace(query, names=(name,)), limit=limit, sensitivity=sensitivity)
        return separately
    if failure:
        return {query.names[0]: Map(None, failure, seconds=_elapsed(start, query.inputs))}
    maps = [_checked(result, query.inputs) for result in results]
    sensitivities: Sequence[Tensor | None] = [None] * len(maps)
    with suppress(_TimeUp, *FAULTS), time_limit(limit):  # the map itself is valid if its sensitivity fails
        sensitivities = _sensitivities(method, query, maps, sensitivity)
    return {
        name: replace(
            map_, passes=meter.flops / forward, memory=float(meter.peak), seconds=seconds, sensitivity=largest_change
        )
        for name, map_, meter, largest_change in zip(query.names, maps, meters, sensitivities, strict=True)
    }


@contextmanager
def time_limit(seconds: float | None) -> Iterator[None]:
    """Interrupts the block after a number of seconds, by an exception that `except Exception` does not catch.

    Only the main thread can be interrupted. In other threads, and on systems without timer signals, there is no limit.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def interrupt(*_: object) -> None:
        raise _TimeUp

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        # The signal is repeated, since Python ignores an exception that is raised while it finalises an object.
        signal.setitimer(signal.ITIMER_REAL, seconds, 0.1)
        yield
    finally:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
        finally:  # the signal may still come during the line before
            signal.signal(signal.SIGALRM, before)


class _TimeUp(BaseException):
    pass


def _call_method(method: Method, query: Query) -> tuple[list[Explained], list[Meter], float]:
    """The results of a method on a copy of the query.

    Returns:
        The result for each of the query's names; the meter of each name, which counted the first clip; and the seconds
        per clip and name of the other clips.
    """
    query = query.copy()
    meters = [Meter() for _ in query.names]
    start = time.perf_counter()
    with seeded(query.seed), warnings.catch_warnings():
        # Captum warns about hooks and requires_grad, which do not matter in a copy, and solvers about convergence.
        warnings.simplefilter("ignore")
        first_clip: list[Explained] = []
        for name, meter in zip(query.names, meters, strict=True):
            with meter:
                first_clip += method.maps(replace(query.clips(slice(1)), names=(name,)))
        batches = [first_clip]
        seconds = _elapsed(start, query.inputs[:1]) / len(query.names)
        if len(query.inputs) > 1:
            start = time.perf_counter()
            batches.append(method.maps(query.clips(slice(1, None))))
            seconds = _elapsed(start, query.inputs[1:]) / len(query.names)
    return [joined(results) for results in zip(*batches, strict=True)], meters, seconds


def _checked(result: Explained, inputs: Tensor) -> Map:
    """A result as a map with its status; it cannot be scored if its shape is wrong or a value is not finite.

    A map that violates completeness can be scored.
    """
    attributions, delta = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if not isinstance(attributions, Tensor) or not (delta is None or isinstance(delta, Tensor)):
        return Map(None, f"error (expected a tensor, or a tensor and its delta, but got {_type_text(result)})")
    attributions = attributions.detach()
    shape = tuple(inputs[:, :1].shape)
    if attributions.shape not in (inputs.shape, shape):
        return Map(None, f"bad shape ({tuple(attributions.shape)}; expected {shape})")
    if attributions.is_complex():
        return Map(None, f"error (expected a map of real numbers, but got {attributions.dtype})")
    if delta is not None and (delta.shape != shape[:1] or delta.is_complex()):
        got = f"{tuple(delta.shape)} of {delta.dtype}"
        return Map(None, f"error (expected a delta of shape {shape[:1]}, a real number for each clip, but got {got})")
    attributions = attributions.sum(1, keepdim=True)  # the real and the imaginary part of a bin are masked together
    if not attributions.isfinite().all():
        return Map(None, "non-finite")
    if bool((attributions.flatten(1) == attributions.flatten(1)[:, :1]).all()):
        return Map(None, "degenerate (constant maps)")
    relative = 0.0 if delta is None else _relative_delta(delta.detach(), attributions)
    return Map(attributions, "ok" if relative <= LARGEST_DELTA else f"axiom violated ({relative:.2f})")


def _relative_delta(delta: Tensor, attributions: Tensor) -> float:
    """Median over clips of |delta| / |expected sum of the map|; delta is the sum minus the expected sum."""
    total = attributions.flatten(1).sum(1)
    return (delta.abs() / (total - delta).abs().clamp_min(1e-6)).median().item()


def _sensitivities(method: Method, query: Query, maps: Sequence[Map], draws: int) -> list[Tensor | None]:
    """The sensitivity of each map, (clip,): the largest ‖map of a perturbed clip − map‖ / ‖map‖ over a number of draws.

    Source: Yeh et al., On the (In)fidelity and Sensitivity of Explanations (arXiv 1901.09392).
    """
    largest: list[Tensor | None] = [None] * len(maps)
    generator = torch.Generator().manual_seed(query.seed)
    for _ in range(draws if any(each.attributions is not None for each in maps) else 0):
        noise = (2 * torch.rand(query.inputs.shape, generator=generator) - 1) * RADIUS
        perturbed, _, _ = _call_method(method, replace(query, inputs=query.inputs + noise.to(query.inputs)))
        for i, (result, each) in enumerate(zip(perturbed, maps, strict=True)):
            if each.attributions is not None:
                change = _relative_change(_checked(result, query.inputs).attributions, each.attributions)
                former = largest[i]
                largest[i] = change if former is None else torch.maximum(former, change)
    return largest


def _relative_change(perturbed: Tensor | None, attributions: Tensor) -> Tensor:
    """‖perturbed map − map‖ / ‖map‖ of each clip, (clip,); infinite if there is no perturbed map."""
    if perturbed is None:
        change = attributions.new_full((len(attributions),), torch.inf)
    else:
        change = (perturbed - attributions).flatten(1).norm(dim=1)
    return change / attributions.flatten(1).norm(dim=1)


def status_of(error: Exception | SystemExit) -> str:
    """The status for an exception: its kind, the first line of its message, and its line in a file of `--add`.

    An exception whose message says nothing without its type, such as a KeyError, is named by its type as well.
    """
    if isinstance(error, FailedTrainingError):
        return str(error)
    text = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
    if isinstance(error, (KeyError, SystemExit)):
        text = f"{type(error).__name__}: {text}"
    if place := place_in_loaded_file(error):
        text = f"{text}; {place}"
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in str(error) for words in OUT_OF_MEMORY):
        return f"out of memory ({text})"
    kind = "unsupported" if isinstance(error, (TypeError, NotImplementedError, AssertionError)) else "error"
    return f"{kind} ({text})"


def _type_text(result: object) -> str:
    if isinstance(result, tuple):
        return f"({', '.join(type(element).__name__ for element in result)})"
    return type(result).__name__


def _flops_of_one_pass(query: Query) -> int:
    with Meter() as meter, torch.no_grad():
        query.model(query.inputs[:1])
    return max(meter.flops, 1)


def _elapsed(start: float, inputs: Tensor) -> float:
    """Seconds since `start`, per clip."""
    if inputs.is_cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / len(inputs)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Sets the global generators of torch and numpy to a seed and restores them: Captum's methods draw from both.

    What else a method may set for all of torch is restored as well: whether gradients are taken, the default type of
    numbers, and the number of threads. Otherwise a method could change the numbers of those after it.
    """
    numpy_state = np.random.get_state()  # noqa: NPY002
    dtype = torch.get_default_dtype()
    threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng(), torch.set_grad_enabled(torch.is_grad_enabled()):
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
