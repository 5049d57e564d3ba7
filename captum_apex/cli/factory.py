"""Loads the classifier that a function of the user's module returns."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import Timer
from types import ModuleType

from captum_apex.classifiers.class_names import closest_names
from captum_apex.classifiers.classifier import Classifier

__all__ = ["load_classifier", "said_where_slow"]

_SECONDS = 2.0  # that pass without a word


def load_classifier(name: str, device: str, convert: bool) -> Classifier:
    """The classifier that a factory returns, with its model on the device and in evaluation mode.

    Args:
        name: module and function, as `module:factory`.
        device: the device that the model runs on, such as `cuda`.
        convert: whether recordings of another sample rate or with several channels are converted; False refuses them.

    Returns:
        The classifier.

    Raises:
        ValueError: the module cannot be imported, has no such function, or the function gives no classifier.

    Example:
        >>> from captum_apex.cli.factory import load_classifier
        >>> try:
        ...     load_classifier("my_model", "cpu", convert=True)
        ... except ValueError as error:
        ...     print(error)
        expected --model as module:factory, such as my_model:classifier, but got 'my_model'
    """
    module_name, colon, factory_name = name.partition(":")
    if not (module_name and colon and factory_name):
        raise ValueError(f"expected --model as module:factory, such as my_model:classifier, but got {name!r}")
    if module_name.endswith(".py"):
        module_name = module_name.removesuffix(".py").replace(os.sep, ".").strip(".")
        raise ValueError(
            f"expected --model as module:factory, but got a file, {name!r}: write {module_name}:{factory_name}"
        )
    with said_where_slow(f"loading {name} …"):
        classifier = _made(name, module_name, factory_name)
        classifier.model.to(device).eval()
    return classifier if convert else replace(classifier, convert=False)


@contextmanager
def said_where_slow(text: str) -> Iterator[None]:
    """Says on the error stream what is done, where it takes more than two seconds.

    Args:
        text: what is done.

    Example:
        >>> from captum_apex.cli.factory import said_where_slow
        >>> with said_where_slow("loading my_model:classifier …"):
        ...     print("loaded")
        loaded
    """
    timer = Timer(_SECONDS, print, [text], {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _made(name: str, module_name: str, factory_name: str) -> Classifier:
    """What the factory gives."""
    module = _module(module_name)
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        names = closest_names(factory_name, _functions_of(module)) or "none"
        raise ValueError(
            f"expected a function {factory_name!r} in {module.__file__}, but there is none; there are: {names}"
        )
    try:
        classifier = factory()
    except (Exception, SystemExit) as error:  # the user's code can raise anything; the message says where it did
        raise ValueError(
            f"expected {name} to return a captum_apex.Classifier, but it raised {_with_line(error, module)}"
        ) from error
    if not isinstance(classifier, Classifier):
        raise ValueError(f"expected {name} to return a captum_apex.Classifier, but got {type(classifier).__name__}")
    return classifier


def _module(name: str) -> ModuleType:
    here = os.getcwd()
    if not {"", here} & set(sys.path):
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # the user's code can raise anything
        raise ValueError(
            f"expected a module {name!r} that can be imported from {here}, but got {type(error).__name__}: {error}"
        ) from error


def _functions_of(module: ModuleType) -> list[str]:
    """The names of what can be called and was written in a module, functions before classes."""
    public = {name: value for name, value in vars(module).items() if not name.startswith("_") and callable(value)}
    written = [name for name, value in public.items() if getattr(value, "__module__", "") == module.__name__]
    return sorted(written, key=lambda name: isinstance(public[name], type))


def _with_line(error: BaseException, module: ModuleType) -> str:
    """An error with the last line of the user's module that led to it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == module.__file__]
    return f"{type(error).__name__}: {error}" + (f" ({module.__file__}, line {lines[-1]})" if lines else "")
