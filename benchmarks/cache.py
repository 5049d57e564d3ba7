"""The cache folder: tensors that take long to make, kept under a name that says all they depend on."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import platformdirs
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor


def cache_folder() -> Path:
    """The folder named by the environment variable `CAPTUM_APEX_CACHE`, else the user's own cache folder."""
    named = os.environ.get("CAPTUM_APEX_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("captum-apex"))


def cache_path(kind: str, key: Mapping[str, Any]) -> Path:
    """Where the tensors of this kind and key lie.

    Args:
        kind: what they are, as a folder name: "log-mel", "classifier".
        key: everything that they depend on; whatever JSON can write.

    Raises:
        TypeError: the key holds something that JSON cannot write, so that its text would not be the same in every run.
    """
    text = json.dumps(key, sort_keys=True)
    return cache_folder() / kind / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.safetensors"


def cached_tensors(kind: str, key: Mapping[str, Any], make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors kept under this kind and key; made, and kept, where there are none.

    A file that cannot be read is made again, with a warning.

    Args:
        kind: what they are, as a folder name.
        key: everything that they depend on, as JSON can write it: parameters, seeds, names and sizes of files.
        make: makes them, on the CPU; called only where the cache has none.
    """
    path = cache_path(kind, key)
    if path.exists():
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            warnings.warn(f"{path} is damaged ({error}); making it again", stacklevel=2)
    tensors = {name: tensor.detach().contiguous() for name, tensor in make().items()}
    _write(path, tensors)
    return tensors


def _write(path: Path, tensors: dict[str, Tensor]) -> None:
    """Writes beside and renames, so that an interrupted run never leaves half a file under the final name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=path.parent, prefix=f"{path.stem}-", suffix=".part", delete=False) as unfinished:
        beside = Path(unfinished.name)
    try:
        save_file(tensors, beside)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
