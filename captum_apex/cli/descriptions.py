"""What a basis or a bank holds, read without torch where the checksum of the file is right.

A file with the right checksum is what `save` wrote, which is valid. Every other file is loaded by the class itself,
which reads former formats and says what is wrong.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load as arrays_from_bytes
from tqdm import tqdm

from captum_apex.defaults import SCHEME_NAMES
from captum_apex.progress import bar_settings

__all__ = ["BANK_FILE", "PARTS", "PART_FILE", "describe_bank", "describe_basis", "origin_facts", "schemes_of"]

BANK_FILE = "bank.json"
PART_FILE = "part.json"
PARTS = "part-*-of-*"
_BASIS_FORMATS = ("captum-apex basis 2", "captum-apex basis 3")
_BANK_FORMAT = "captum-apex bank 2"
_TOLERANCE = 1e-3  # of U Uᵀ, for matrices in float32
_SEQUENCES = {"time-frequency": ("time", "frequency")}  # of cells, where they are not those of the name
_DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
_SECONDS = 2  # that pass without a progress bar


def describe_basis(path: Path) -> dict[str, Any]:
    """What a file of a basis holds.

    Args:
        path: path of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or no basis, as in `PrototypeBasis.load`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from captum_apex import PrototypeBasis
        >>> from captum_apex.cli.descriptions import describe_basis
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     PrototypeBasis(torch.eye(2), "time").save(Path(folder, "time.safetensors"))
        ...     description = describe_basis(Path(folder, "time.safetensors"))
        >>> description["scheme"], description["n_channels"], description["orthogonal"]
        ('time', 2, True)
    """
    checked = _checked_basis(path)
    with suppress(Exception):  # a right checksum can be put into a wrong file
        if checked is not None:
            return _basis_facts(*checked)
    return _basis_facts(*_loaded_basis(path))


def _basis_facts(arrays: Mapping[str, np.ndarray], about: Mapping[str, Any], written_as: str) -> dict[str, Any]:
    scheme = about["scheme"]
    origin = about["origin"]
    matrix = arrays["U"].astype(np.float64)
    purities = arrays.get("positive.purities")
    boxes = arrays.get("positive.boxes")
    return {
        "kind": "basis",
        "scheme": scheme,
        "n_channels": len(matrix),
        "orthogonal": bool(np.abs(matrix @ matrix.T - np.eye(len(matrix))).max() < _TOLERANCE),
        "n_prototypes": None if purities is None else purities.shape[1],
        "mean_purity": float(purities.mean()) if purities is not None and purities.size else None,
        "n_located": 0 if boxes is None else int((boxes[:, :, 0, 0] >= 0).any(0).sum()),
        "negative_side": "negative.indices" in arrays,
        "fingerprint": _fingerprint(matrix, scheme, origin),
        **origin_facts(origin),
        "format": written_as,
    }


def describe_bank(folder: Path) -> dict[str, Any]:
    """What the folder of a feature bank holds.

    Args:
        folder: path of the folder.

    Raises:
        ValueError: the folder holds no bank or a damaged one, as in `FeatureBank.load`.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from captum_apex import FeatureBank
        >>> from captum_apex.cli.descriptions import describe_bank
        >>> model = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     FeatureBank.from_dataset(model, model[0], torch.ones(3, 1, 4, 5), schemes=["time"]).save(folder)
        ...     description = describe_bank(Path(folder))
        >>> description["n_clips"], description["schemes"], description["grid"]
        (3, ['time'], [4, 5])
    """
    checked = _checked_bank(folder)
    with suppress(Exception):
        if checked is not None:
            return _bank_facts(*checked)
    return _bank_facts(*_loaded_bank(folder))


def _bank_facts(arrays: Mapping[str, np.ndarray], origin: Mapping[str, Any], written_as: str) -> dict[str, Any]:
    n_clips, n_channels = arrays["means"].shape
    return {
        "kind": "bank",
        "n_channels": n_channels,
        "schemes": schemes_of(arrays),
        "has_labels": "labels" in arrays,
        "n_bytes": sum(array.nbytes for array in arrays.values()),
        **origin_facts(origin),
        "n_clips": n_clips,
        "format": written_as,
    }


def _checked_basis(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], str] | None:
    """The arrays, the scheme with the origin, and the format of a file whose checksum is right; None otherwise."""
    try:
        content = path.read_bytes()
        header = content[8 : 8 + int.from_bytes(content[:8], "little")]
        metadata = json.loads(header)["__metadata__"]
        checksum = metadata.pop("checksum")
        arrays = arrays_from_bytes(content)
        if metadata["format"] in _BASIS_FORMATS and checksum == _digest(arrays, metadata):
            return arrays, json.loads(metadata["about"]), metadata["format"]
    except Exception:  # the loader of the class says what is wrong
        return None
    return None


def _digest(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> str:
    """The digest that `captum_apex.files.write_tensors` stores, without torch."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(json.dumps([name, f"torch.{array.dtype}", list(array.shape)]).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _loaded_basis(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], str]:
    """The same of a basis that was loaded by its class."""
    from captum_apex.bases.basis import PrototypeBasis

    basis = PrototypeBasis.load(path)
    arrays = {"U": basis.U.numpy(force=True)}
    for side in ("positive", "negative"):
        prototypes = getattr(basis, side)
        for each in () if prototypes is None else fields(prototypes):
            tensor = getattr(prototypes, each.name)
            arrays |= {} if tensor is None else {f"{side}.{each.name}": tensor.float().numpy(force=True)}
    return arrays, {"scheme": str(basis.scheme), "origin": asdict(basis.origin)}, "captum-apex basis 1"


def _checked_bank(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], str] | None:
    """The mapped arrays, the origin and the format of a bank whose checksums are right; None otherwise."""
    try:
        content = json.loads((folder / BANK_FILE).read_bytes())
        checksum = content.pop("checksum")
        if content["format"] != _BANK_FORMAT or checksum != _digest_of_json(content):
            return None
        entries = content["arrays"]
        for entry in tqdm(
            entries.values(), desc=f"checking {folder}", unit="file", delay=_SECONDS, **bar_settings(True)
        ):
            with open(folder / entry["file"], "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != entry["sha256"]:
                    return None
        arrays = {
            name: np.load(folder / entry["file"], mmap_mode="r", allow_pickle=False) for name, entry in entries.items()
        }
    except _DAMAGED:  # the loader of the class says what is wrong
        return None
    return arrays, content["origin"], content["format"]


def _digest_of_json(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _loaded_bank(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, Any], str]:
    """The same of a bank that was loaded by its class."""
    from captum_apex.bases.features import FeatureBank

    bank = FeatureBank.load(folder)
    tensors = {str(sequence): cells for sequence, cells in bank.cells.items()} | {"means": bank.means}
    arrays = {name: tensor.numpy(force=True) for name, tensor in tensors.items()}
    if bank.labels is not None:
        arrays["labels"] = bank.labels.numpy(force=True)
    return arrays, asdict(bank.origin), "captum-apex bank 1"


def schemes_of(names: Iterable[str]) -> list[str]:
    """The schemes that bases can be fitted for with some arrays.

    Args:
        names: names of the arrays.

    Example:
        >>> from captum_apex.cli.descriptions import schemes_of
        >>> schemes_of(["means", "time", "frequency"])
        ['time', 'frequency', 'time-frequency']
    """
    return [name for name in SCHEME_NAMES if set(_SEQUENCES.get(name, (name,))) <= set(names)]


def origin_facts(origin: Mapping[str, Any]) -> dict[str, Any]:
    """The record of the layer, the model and the dataset, by names that say which is which.

    Args:
        origin: fields of the `Origin`.

    Example:
        >>> from dataclasses import asdict
        >>> from captum_apex.cli.descriptions import origin_facts
        >>> from captum_apex.layers import Origin
        >>> origin_facts(asdict(Origin("features", grid=(4, 15))))["grid"]
        [4, 15]
    """
    layout = origin["layout"]
    sizes = "".join(f", {name}={size}" for name, size in (layout["sizes"] or {}).items())
    return {
        "layer": origin["layer"],
        "at_input": origin["at_input"],
        "norm": origin.get("norm", ""),
        "layout": layout["pattern"] + sizes,
        "grid": None if origin["grid"] is None else list(origin["grid"]),
        "input_shape": None if origin["input_shape"] is None else list(origin["input_shape"]),
        "n_clips": origin["n_clips"],
        "dataset_fingerprint": origin.get("dataset", ""),
        "model_fingerprint": origin["fingerprint"],
    }


def _fingerprint(matrix: np.ndarray, scheme: str, origin: Mapping[str, Any]) -> str:
    """`PrototypeBasis.fingerprint`, without torch."""
    shape = f"torch.Size({list(matrix.shape)})"
    about = f"({scheme!r}, {origin['layer']!r}, {origin['fingerprint']!r}, {shape})"
    return hashlib.sha256(about.encode(errors="replace") + matrix.tobytes()).hexdigest()
