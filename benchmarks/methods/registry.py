"""The registry of attribution methods: what a method is asked, and under which name its map is judged."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from captum_apex import PrototypeBasis, Scheme

Explained = Tensor | tuple[Tensor, Tensor]
Explain = Callable[["Query"], Explained | Sequence[Explained]]
CLIPS_AT_ONCE = 32  # in one forward pass


@dataclass(frozen=True)
class Query:
    """What a method is asked to explain; each call gets a deep copy of the model, so that none can spoil it for the next.

    Attributes:
        model: the classifier, in evaluation mode.
        layer: its explained layer.
        inputs: log-mels (clip, 1, frequency, time), or spectra, (clip, 2, frequency, time), real and imaginary parts.
        target: the class of each clip whose logit is explained, int64 (clip,).
        fill: what the inputs are judged against: the baseline of every method that takes one, of the inputs' shape.
        grid: the region of each bin, int64 (frequency, time).
        silence: a bin without sound.
        bases: the fitted bases.
        seed: of methods that draw random numbers; torch's and numpy's own generators are set to it as well.
        names: of the maps that are wanted, for functions that are registered under several.
        band_shares: where the inputs are spectra, how much of each of the model's own mel bands lies on each of their bins, (bin, band);
            else None. See `benchmarks.methods.region_maps.enlarged`.
    """

    model: nn.Module
    layer: nn.Module
    inputs: Tensor
    target: Tensor
    fill: Tensor
    grid: Tensor
    silence: float
    bases: Mapping[Scheme, PrototypeBasis]
    seed: int
    names: tuple[str, ...] = ()
    band_shares: Tensor | None = None

    def clips(self, own: slice) -> Query:
        """The same query for some of the clips."""
        return replace(self, inputs=self.inputs[own], target=self.target[own], fill=self.fill[own])

    def batches(self, size: int = CLIPS_AT_ONCE) -> list[Query]:
        """The same query for a few clips at a time."""
        return [self.clips(slice(start, start + size)) for start in range(0, len(self.inputs), size)]


@dataclass(frozen=True)
class Method:
    """A function from a query to maps, and what the maps depend on, so that each is computed once for all cells that share it.

    Attributes:
        names: of the maps that the function can give; more than one where they share their passes.
        explain: gives a map (clip, 1, frequency, time), or of the inputs' shape, or (map, convergence delta (clip,)); with several names a
            list of these, one for each of the query's `names`.
        uses_fill: whether it takes the fill as a baseline.
        uses_grid: whether it works on the regions.
        default: whether a run without `--methods` judges it.
        batch: the most clips that the function is given at once.
    """

    names: tuple[str, ...]
    explain: Explain
    uses_fill: bool = False
    uses_grid: bool = False
    default: bool = True
    batch: int = CLIPS_AT_ONCE

    def maps(self, query: Query) -> list[Explained]:
        """What the function gives for each of the query's `names`, a few clips at a time.

        Raises:
            ValueError: it gives another number of maps.
        """
        parts = [self._of_batch(batch) for batch in query.batches(self.batch)]
        return [joined(own) for own in zip(*parts, strict=True)]

    def _of_batch(self, query: Query) -> list[Explained]:
        result = self.explain(query)
        results = [result] if len(self.names) == 1 else list(result)
        if len(results) != len(query.names):
            raise ValueError(f"expected a map for each of {len(query.names)} names, but got {len(results)}")
        return [_detached(own) for own in results]


METHODS: dict[str, Method] = {}
_LOADED: dict[Path, list[str]] = {}  # files that were loaded, and the names that they registered


def method(
    *names: str, uses_fill: bool = False, uses_grid: bool = False, default: bool = True, batch: int = CLIPS_AT_ONCE
) -> Callable[[Explain], Explain]:
    """Registers a function under the names that tables show; see `Method` for the arguments.

    Raises:
        ValueError: a name is taken.
    """

    def register(explain: Explain) -> Explain:
        for name in names:
            if name in METHODS:
                raise ValueError(f"expected a new name for a method, but {name!r} is registered already")
            METHODS[name] = Method(names, explain, uses_fill, uses_grid, default, batch)
        return explain

    return register


def load_methods(path: str | PathLike[str]) -> list[str]:
    """Imports a Python file that registers methods of its own; a file that was loaded before is not run again.

    The file is a Python module like any other. This one is complete::

        from captum.attr import Saliency
        from torch import Tensor

        from benchmarks.methods import Query, method


        @method("my gradient × distance from the fill", uses_fill=True)
        def explain(query: Query) -> Tensor:
            gradient = Saliency(query.model).attribute(query.inputs, query.target, abs=False)
            return gradient * (query.inputs - query.fill)

    Args:
        path: of the file.

    Returns:
        The names that it registered.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not Python, raises an exception, takes a name that is registered already, or registers none; nothing of it stays.
    """
    path = Path(path).resolve()
    if path in _LOADED:
        return _LOADED[path]
    if not path.is_file():
        raise FileNotFoundError(f"expected a Python file with methods at {path}, but there is none")
    before = dict(METHODS)
    try:
        _run(path)
    except Exception as error:
        METHODS.clear()
        METHODS.update(before)
        raise ValueError(
            f"expected a Python file that registers methods, but {path} raises {type(error).__name__}: {error}"
        ) from error
    names = [name for name in METHODS if name not in before]
    if not names:
        raise ValueError(f"expected {path} to register a method by `@method`, but it registers none")
    _LOADED[path] = names
    return names


def _run(path: Path) -> None:
    name = f"benchmarks.methods.loaded_{len(_LOADED)}"
    loader = SourceFileLoader(name, str(path))  # whatever its suffix
    module = module_from_spec(spec_from_loader(name, loader))  # type: ignore[arg-type]  # never None with a loader
    sys.modules[name] = module  # dataclasses and pickle look a module up by its name
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _detached(result: Any) -> Any:
    """Without the graph, which would keep a batch's activations until the last batch is done."""
    if isinstance(result, Tensor):
        return result.detach()
    return tuple(map(_detached, result)) if isinstance(result, tuple) else result


def joined(parts: Sequence[Any]) -> Any:
    """The clips of several batches in one: of a map, or of each part of (map, delta); what is neither is left for who judges it."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, Tensor) for part in parts):
        return torch.cat(list(parts))
    if all(isinstance(part, tuple) for part in parts):
        return tuple(joined(own) for own in zip(*parts, strict=True))
    return parts[0]
