"""The cache folder: tensors that take long to compute, by everything that they are computed from."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import platformdirs
from torch import Tensor

from captum_apex.files import read_tensors, write_tensors

_FORMAT = "captum-apex cache 2"
T = TypeVar("T")


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


def cached(path: Path, load: Callable[[Path], T], *, make: Callable[[], T], save: Callable[[T, Path], object]) -> T:
    """What the cache holds under a path; if it holds nothing there, it is computed and stored.

    A file that is damaged, or fails a check, is named in a warning and made again. If the result cannot be stored, as
    on a full or read-only disk, a warning says so, and the result is returned all the same.

    Args:
        path: the file or folder, from `cache_path`.
        load: reads it; raises a ValueError if it is damaged, or not what `make` would give.
        make: computes the result; called only when the cache does not hold it.
        save: stores the result as a whole.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "kind", "a.txt")
        ...     cached(path, Path.read_text, make=lambda: "made", save=lambda text, path: path.write_text(text))
        'made'
    """
    if path.exists():
        try:
            return load(path)
        except FileNotFoundError:  # deleted meanwhile
            pass
        except (ValueError, OSError) as error:
            warnings.warn(f"{path} cannot be used ({error}); making it again", stacklevel=2)
    result = make()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(result, path)
    except OSError as error:
        warnings.warn(f"{path} cannot be stored ({error}); the next run will make it again", stacklevel=2)
    return result


def cached_tensors(
    kind: str,
    key: Mapping[str, Any],
    make: Callable[[], dict[str, Tensor]],
    *,
    check: Callable[[dict[str, Tensor]], None] = lambda _: None,
) -> dict[str, Tensor]:
    """The tensors stored under this kind and key; if there are none, they are computed and stored.

    They are compared with a checksum; files of versions before the checksum are taken as they are if all values are
    finite.

    Args:
        kind: name of a sub-folder, for what the tensors are.
        key: everything that the tensors depend on, of types that JSON can write: parameters, seeds, names and sizes
            of files.
        make: computes the tensors, on the CPU; called only when the cache does not hold them.
        check: raises a ValueError if stored tensors are not those that `make` would compute, as far as that is quick to
            see; they are then computed again.
    """

    def load(path: Path) -> dict[str, Tensor]:
        tensors = _load_tensors(path)
        check(tensors)
        return tensors

    return cached(cache_path(kind, key), load, make=make, save=_save_tensors)


def _save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    write_tensors(path, tensors, {"format": _FORMAT})


def _load_tensors(path: Path) -> dict[str, Tensor]:
    tensors, metadata = read_tensors(path, {_FORMAT: True, None: False})
    for name, tensor in tensors.items():
        if not metadata and tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{name} has NaN or infinity")
    return tensors
