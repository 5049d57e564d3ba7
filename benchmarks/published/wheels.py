"""The import of packages that ask for more than their model needs."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import MagicMock


@contextmanager
def without(*modules: str) -> Iterator[None]:
    """Imports inside the context find stand-ins for modules that are not installed.

    The models need no librosa, but the modules beside them import it. It brings a compiler of 150 MB.

    Args:
        modules: full names of modules, such as "librosa".

    Example:
        >>> import sys
        >>> from benchmarks.published.wheels import without
        >>> with without("no_such_module", "json"):
        ...     import json, no_such_module
        >>> json.dumps([1]), "no_such_module" in sys.modules
        ('[1]', False)
    """
    missing = [name for name in modules if importlib.util.find_spec(name.partition(".")[0]) is None]
    sys.modules.update({name: MagicMock() for name in missing})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the packages use names that newer versions of SciPy and torch have moved
            yield
    finally:
        for name in missing:
            del sys.modules[name]


def file_of(package: str, path: str) -> Path:
    """The path of a file inside an installed package, which is not imported.

    Raises:
        ModuleNotFoundError: the package is not installed.

    Example:
        >>> from benchmarks.published.wheels import file_of
        >>> file_of("benchmarks", "README.md").name
        'README.md'
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"expected the package {package}, but it is not installed; run `make install`")
    return Path(spec.submodule_search_locations[0]) / path
