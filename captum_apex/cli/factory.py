"""The function of the user's own module that says what the model is and how it hears."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType

from captum_apex.classifiers.classifier import Classifier

__all__ = ["made_classifier", "near"]


def made_classifier(name: str, device: str, convert: bool) -> Classifier:
    """What the factory returns, its model on the device and in evaluation mode; without `convert` it refuses what it would convert."""
    module_name, colon, factory_name = name.partition(":")
    if not (module_name and colon and factory_name):
        raise ValueError(f"expected --model as module:factory, such as my_model:classifier, but got {name!r}")
    module = _module(module_name)
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        there = near(factory_name, [own for own in vars(module) if not own.startswith("_")])
        raise ValueError(
            f"expected a function {factory_name!r} in {module.__file__}, but there is none; there are: {there}"
        )
    try:
        classifier = factory()
    except Exception as error:  # the user's code: what it raises is said with its place
        raise ValueError(
            f"expected {name} to return a captum_apex.Classifier, but it raised {_said(error, module)}"
        ) from error
    if not isinstance(classifier, Classifier):
        raise ValueError(f"expected {name} to return a captum_apex.Classifier, but got {type(classifier).__name__}")
    classifier.model.to(device).eval()
    return classifier if convert else replace(classifier, convert=False)


def _module(name: str) -> ModuleType:
    here = os.getcwd()
    if not {"", here} & set(sys.path):
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except Exception as error:  # the user's code
        raise ValueError(
            f"expected a module {name!r} that can be imported from {here}, but got {type(error).__name__}: {error}"
        ) from error


def _said(error: Exception, module: ModuleType) -> str:
    """An error with the last line of the user's module that led to it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == module.__file__]
    return f"{type(error).__name__}: {error}" + (f" ({module.__file__}, line {lines[-1]})" if lines else "")


def near(name: str, names: Sequence[str], most: int = 12) -> str:
    """The names that look like one that is not there; the first ones where none does."""
    close = difflib.get_close_matches(name, names, most, 0.5)
    listed = close or names[:most]
    return ", ".join(listed) + (", …" if len(listed) < len(names) else "")
