"""Published models with bases of few clips, each made once; a test of a model needs its package and the recordings."""

import dataclasses
import functools
import importlib.metadata

import pytest

from benchmarks.experiments.published_rows import measured
from benchmarks.published.published_models import PUBLISHED_MODELS
from tests.captum_apex.datasets.tiny_collections import needs_recordings

FEW = {"Resemblyzer": (8, 4), "silero-vad": (10, 5), "speechmos": (1, 1)}  # clips per speaker


def is_installed(package):
    try:
        return bool(importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return False


def needs(package):
    """Marks of a test, or of a parameter, for which a package and the recordings must be there."""
    missing = pytest.mark.skipif(not is_installed(package), reason=f"{package} is not installed: `make install`")
    return [missing, needs_recordings]


def needing(package):
    """Marks a test as one that needs a package and the recordings."""

    def marked(function):
        for mark in needs(package):
            function = mark(function)
        return function

    return marked


@functools.cache
def subject(package, scheme=None):
    """The model with a basis of one scheme."""
    scheme = scheme or ("frequency" if package == "pesto-pitch" else "time")
    model = dataclasses.replace(PUBLISHED_MODELS[package], schemes=[scheme])
    return measured(model, FEW.get(package, (30, 8)))
