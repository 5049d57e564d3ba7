"""The registry of attribution methods: functions from a query to maps, by the names that tables show."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.methods.learners import LEARNERS
from benchmarks.methods.query import CLIPS_AT_ONCE, Query

Explained = Tensor | tuple[Tensor, Tensor]
Explain = Callable[[Query], Explained | Sequence[Explained]]


@dataclass(frozen=True)
class Method:
    """A function from a query to maps, and what the maps depend on: cells that share a map compute it once.

    Attributes:
        names: names of the maps that the function can compute; several if the maps share forward passes.
        explain: the function. It returns a map of shape (clip, 1, frequency, time) or of the shape of the inputs, or a
            tuple (map, convergence delta (clip,)). With several `names` it returns a list of these, one for each of the
            query's `names`.
        uses_fill: whether the map depends on the fill.
        uses_grid: whether the map depends on the region grid.
        default: whether a run without `--methods` includes the method.
        batch: largest number of clips that the function gets in one call.
        learned: names of the learners whose networks the function needs, in `benchmarks.methods.LEARNERS`.

    Example:
        >>> from benchmarks.methods import METHODS
        >>> METHODS["FeatureAblation"].uses_grid
        True
        >>> METHODS["Saliency"].uses_fill
        False
    """

    names: tuple[str, ...]
    explain: Explain
    uses_fill: bool = False
    uses_grid: bool = False
    default: bool = True
    batch: int = CLIPS_AT_ONCE
    learned: tuple[str, ...] = ()

    def maps(self, query: Query) -> list[Explained]:
        """The maps of each of the query's `names`, computed for at most `batch` clips at a time.

        Raises:
            ValueError: the function returns another number of maps.
        """
        batches = [self._maps_of_batch(batch) for batch in self._batches(query)]
        return [joined(batches_of_name) for batches_of_name in zip(*batches, strict=True)]

    def _batches(self, query: Query) -> list[Query]:
        if self.uses_grid and query.grid.dim() == 3:  # every clip has its own regions, and another number of them
            return [replace(clip, grid=clip.grid[0]) for clip in query.batches(1)]
        return query.batches(self.batch)

    def _maps_of_batch(self, query: Query) -> list[Explained]:
        result = self.explain(query)
        results = [result] if len(self.names) == 1 else list(result)
        if len(results) != len(query.names):
            raise ValueError(f"expected a map for each of {len(query.names)} names, but got {len(results)}")
        return [_detached(result_of_name) for result_of_name in results]


METHODS: dict[str, Method] = {}
"""All registered methods by name, in the order of the tables."""

_LOADED: dict[Path, list[str]] = {}  # file → the names that it registered
_LOADED_MODULE = "benchmarks.methods.loaded_"  # begins the names of the modules that `load_methods` imports


def method(
    *names: str,
    uses_fill: bool = False,
    uses_grid: bool = False,
    default: bool = True,
    batch: int = CLIPS_AT_ONCE,
    learned: Sequence[str] = (),
) -> Callable[[Explain], Explain]:
    """Registers a function as an attribution method; a decorator.

    Args:
        names: names of the maps that the function computes, as tables show them.
        uses_fill: whether the map depends on the fill.
        uses_grid: whether the map depends on the region grid.
        default: whether a run without `--methods` includes the method.
        batch: largest number of clips that the function gets in one call.
        learned: names of the learners whose networks the function needs; a run trains them before it explains. See
            `benchmarks.methods.learner`.

    Returns:
        A decorator that registers the function and returns it unchanged; see `Method` for what the function returns.

    Raises:
        TypeError: there is no name, or one that is no text, as of `@method` without brackets.
        ValueError: a method is registered under one of the names already; a name begins with =, +, - or @, as formulas
            of spreadsheets do; or there is no learner of one of the names in `learned`.

    Example:
        >>> from benchmarks.methods import METHODS, Query, method
        >>> @method("distance from the fill", uses_fill=True)
        ... def explain(query: Query):
        ...     return query.inputs - query.fill
        >>> METHODS["distance from the fill"].uses_fill
        True
        >>> del METHODS["distance from the fill"]  # leaves the registry as it was
    """
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError(
            f"expected `@method` with the names of its maps, such as `@method('my method')`, but got {names[0]!r}"
            if names
            else "expected `@method` with the names of its maps, such as `@method('my method')`, but got none"
        )

    def register(explain: Explain) -> Explain:
        if unknown := [name for name in learned if name not in LEARNERS]:
            raise ValueError(f"expected names of learners, such as {', '.join(LEARNERS)}, but got {unknown[0]!r}")
        for name in names:
            if name.startswith(("=", "+", "-", "@")):
                raise ValueError(
                    f"expected a name for a method that begins with no =, +, - or @, because spreadsheets take such a "
                    f"cell of a table for a formula, but got {name!r}"
                )
            if name in METHODS:
                raise ValueError(f"expected a new name for a method, but {name!r} is registered already")
            METHODS[name] = Method(names, explain, uses_fill, uses_grid, default, batch, tuple(learned))
        return explain

    return register


def load_methods(path: str | PathLike[str]) -> list[str]:
    r"""Imports a Python file that registers methods; a file that was loaded before is not run again.

    The file is a Python module like any other. This one is complete::

        from captum.attr import Saliency
        from torch import Tensor

        from benchmarks.methods import Query, method


        @method("my gradient × distance from the fill", uses_fill=True)
        def explain(query: Query) -> Tensor:
            gradient = Saliency(query.model).attribute(query.inputs, query.target, abs=False)
            return gradient * (query.inputs - query.fill)

    Args:
        path: path of the Python file.

    Returns:
        The names that the file registered.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not Python, raises an exception, takes a name that is registered already, or registers
            none. Methods and learners that it registered before the error are removed.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from benchmarks.methods import METHODS, load_methods
        >>> text = "from benchmarks.methods import method\nmethod('the inputs')(lambda query: query.inputs)"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "mine.py")
        ...     _ = path.write_text(text)
        ...     load_methods(path)
        ['the inputs']
        >>> del METHODS["the inputs"]  # leaves the registry as it was
    """
    path = Path(path).resolve()
    if path in _LOADED:
        return _LOADED[path]
    if not path.is_file():
        raise FileNotFoundError(f"expected a Python file with methods at {path}, but there is none")
    before = dict(METHODS)
    learners_before = dict(LEARNERS)
    try:
        _run(path)
    except (Exception, SystemExit) as error:
        METHODS.clear()
        METHODS.update(before)
        LEARNERS.clear()
        LEARNERS.update(learners_before)
        place = place_in_loaded_file(error)  # a SyntaxError says its line itself
        raise ValueError(
            f"expected a Python file that registers methods, but {path} raises {type(error).__name__}: {error}"
            + (f" ({place})" if place else "")
        ) from error
    names = [name for name in METHODS if name not in before]
    if not names:
        raise ValueError(f"expected {path} to register a method by `@method`, but it registers none")
    _LOADED[path] = names
    return names


def place_in_loaded_file(error: BaseException) -> str:
    """The last line of a file that `load_methods` imported which an exception passed, such as `line 7 of mine.py`.

    Args:
        error: the exception, which was raised.

    Returns:
        The place, or nothing where the exception passed no such file.

    Example:
        >>> from benchmarks.methods.registry import place_in_loaded_file
        >>> place_in_loaded_file(ValueError("raised elsewhere"))
        ''
    """
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        if str(frame.f_globals.get("__name__")).startswith(_LOADED_MODULE):
            place = f"line {line} of {Path(frame.f_code.co_filename).name}"
    return place


def _run(path: Path) -> None:
    name = f"{_LOADED_MODULE}{len(_LOADED)}"
    loader = SourceFileLoader(name, str(path))  # accepts any suffix
    module = module_from_spec(spec_from_loader(name, loader))  # type: ignore[arg-type]  # never None with a loader
    sys.modules[name] = module  # dataclasses and pickle look a module up by its name
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise


def _detached(result: Any) -> Any:
    """Without the graph, which would hold the activations of a batch until the last batch is done."""
    if isinstance(result, Tensor):
        return result.detach()
    return tuple(map(_detached, result)) if isinstance(result, tuple) else result


def joined(batches: Sequence[Any]) -> Any:
    """The results of several batches as one: maps, or tuples (map, delta); any other result is returned unchanged.

    A result that is neither is an error of the method, which `benchmarks.runs.maps` reports.
    """
    if len(batches) == 1:
        return batches[0]
    if all(isinstance(batch, Tensor) for batch in batches):
        return torch.cat(list(batches))
    if all(isinstance(batch, tuple) for batch in batches):
        return tuple(joined(elements) for elements in zip(*batches, strict=True))
    return batches[0]
