"""The cache folder: tensors that take long to compute, by everything that they are computed from."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import platformdirs
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from captum_apex.files import replaced


def cache_folder() -> Path:
    """The folder named by the environment variable `CAPTUM_APEX_CACHE`; without it, the cache folder of the user."""
    named = os.environ.get("CAPTUM_APEX_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("captum-apex"))


def cache_path(kind: str, key: Mapping[str, Any]) -> Path:
    """The file that holds the tensors of this kind and key.

    Args:
        kind: name of a sub-folder, for what the tensors are: "log-mel", "classifier".
        key: everything that the tensors depend on, of types that JSON can write.

    Raises:
        TypeError: the key holds something that JSON cannot write. Its text would not be the same in every run.
    """
    text = json.dumps(key, sort_keys=True)
    return cache_folder() / kind / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.safetensors"


def cached_tensors(kind: str, key: Mapping[str, Any], make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors stored under this kind and key; if there are none, they are computed and stored.

    If the file cannot be read, a warning is given and the tensors are computed again.

    Args:
        kind: name of a sub-folder, for what the tensors are.
        key: everything that the tensors depend on, of types that JSON can write: parameters, seeds, names and sizes
            of files.
        make: computes the tensors, on the CPU; called only when the cache does not hold them.
    """
    path = cache_path(kind, key)
    if path.exists():
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            warnings.warn(f"{path} is damaged ({error}); making it again", stacklevel=2)
    tensors = {name: tensor.detach().contiguous() for name, tensor in make().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as unfinished:
        save_file(tensors, unfinished)
    return tensors
