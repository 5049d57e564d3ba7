"""Reads the parts of a feature bank from their folder, and joins them."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_apex.bases.mapped_arrays import nameless_array
from captum_apex.bases.part_files import PartFiles
from captum_apex.files import read_json
from captum_apex.layers.origin import Origin

__all__ = ["begun_parts", "differences", "has_parts", "joined_arrays", "joined_size", "read_parts", "unfinished_parts"]

_LARGEST_COPY = 2**32  # bytes of arrays that are read into memory; larger banks are mapped
_FOLDER = re.compile(r"part-(\d+)-of-(\d+)")
_IN_WORDS = {
    "clips": "the clips of the part",
    "n_clips": "the number of clips",
    "layer": "the layer",
    "layout": "the layout",
    "at_input": "`at_input`",
    "norm": "the norm",
    "weights": "the weights of the model",
    "dataset": "the dataset",
    "dtype": "the dtype",
    "padded": "`columns`",
    "sequences": "the schemes' cells",
}


def has_parts(folder: Path) -> bool:
    """Whether a folder holds parts of a bank.

    Args:
        folder: the folder, which may be missing.

    Example:
        >>> from pathlib import Path
        >>> from captum_apex.bases.joined_parts import has_parts
        >>> has_parts(Path("nothing"))
        False
    """
    return folder.is_dir() and any(_FOLDER.fullmatch(path.name) for path in folder.iterdir())


def read_parts(folder: Path) -> tuple[dict[str, Tensor], Origin, bool]:
    """Joins the parts of a folder, after a comparison of their files with the checksums.

    Args:
        folder: the folder of the bank.

    Returns:
        The arrays by name, the record of the whole bank, and whether all clips are known to have the same number of
        columns. Arrays of up to 4 GiB together are in memory. Larger ones
        are mapped: where there is one part, and clips have one length, its own files; otherwise a copy without a name.

    Raises:
        ValueError: parts are missing, not finished, damaged, or of different features.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from captum_apex import FeatureBank
        >>> from captum_apex.bases.joined_parts import read_parts
        >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.AdaptiveAvgPool2d(1))
        >>> clips = torch.tensor([[[[1.0, 3.0]]], [[[5.0, 7.0]]]])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for i in range(2):
        ...         _ = FeatureBank.from_dataset(model, model[0], clips, folder=folder, part=(i, 2))
        ...     read_parts(Path(folder))[0]["means"]
        tensor([[2.],
                [6.]])
    """
    unfinished = unfinished_parts(folder)
    if unfinished:
        n_parts = len(_folders(folder))
        raise ValueError(
            f"of its {n_parts} parts {', '.join(unfinished)}; run `FeatureBank.from_dataset` with this `folder` and "
            f"each of these as `part`, such as part=(0, {n_parts})"
        )
    parts = begun_parts(folder)
    origins = [Origin.from_dict(part.details["origin"]) for part in parts]
    arrays = joined_arrays(parts, joined_size(parts) <= _LARGEST_COPY, folder)
    shapes = {origin.input_shape for origin in origins}
    grid = (parts[0].details["grid_rows"], max(part.widest for part in parts))
    shape = next(iter(shapes)) if len(shapes) == 1 else None
    is_even = all(part.is_even and part.widest == grid[1] for part in parts) and not parts[0].about["padded"]
    return arrays, replace(origins[0], n_clips=len(arrays["means"]), grid=grid, input_shape=shape), is_even


def begun_parts(folder: Path) -> list[PartFiles]:
    """The parts of a folder that have counted clips, in order, after a comparison of their files with the checksums.

    Args:
        folder: the folder of the bank.

    Raises:
        ValueError: parts are damaged, or of different features.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from captum_apex import FeatureBank
        >>> from captum_apex.bases.joined_parts import begun_parts
        >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.AdaptiveAvgPool2d(1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     bank = FeatureBank.from_dataset(model, model[0], torch.ones(4, 1, 2, 2), folder=folder, part=(1, 2))
        ...     [(part.folder.name, part.n_written) for part in begun_parts(Path(folder))]
        [('part-1-of-2', 2)]
    """
    parts = [PartFiles.read(path) for path in _folders(folder) if (path / "part.json").exists()]
    for part in parts[1:]:
        kinds = {**part.about, "clips": None, "kinds": part.kinds}
        of_first = {**parts[0].about, "clips": None, "kinds": parts[0].kinds}
        if kinds != of_first:
            differing = differences(of_first, kinds) or "the arrays are of another kind"
            raise ValueError(f"{parts[0].folder.name} and {part.folder.name} are not of one bank: {differing}")
    return parts


def unfinished_parts(folder: Path) -> list[str]:
    """What the parts of a folder lack, in words; none where all are finished.

    Args:
        folder: the folder of the bank.

    Raises:
        ValueError: the folder holds parts of several banks.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.bases.joined_parts import unfinished_parts
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "part-0-of-2").mkdir()
        ...     unfinished_parts(Path(folder))
        ['part-0-of-2 is missing', 'part-1-of-2 is missing']
    """
    return [text for path in _folders(folder) if (text := _missing(path))]


def _folders(folder: Path) -> list[Path]:
    """The folders of all parts, in order, also of those that are missing."""
    matches = [match for path in folder.iterdir() if (match := _FOLDER.fullmatch(path.name))]
    numbers = sorted({int(match[2]) for match in matches})
    if len(numbers) > 1:
        raise ValueError(f"it holds parts of banks of {' and '.join(map(str, numbers))} parts; delete those of one")
    return [folder / f"part-{index}-of-{numbers[0]}" for index in range(numbers[0])]


def _missing(path: Path) -> str:
    """What a part lacks, in words; empty for a part that is complete."""
    try:
        record = read_json(path / "part.json")
    except FileNotFoundError:
        return f"{path.name} is missing"
    if "origin" in record["details"]:
        return ""
    return f"{path.name} has {record['n_written']} of {record['n_rows']} clips"


def joined_arrays(parts: Sequence[PartFiles], in_memory: bool, folder: Path) -> dict[str, Tensor]:
    """The arrays of all parts by name, one after the other, padded with NaN to the widest clip.

    Args:
        parts: the parts, in order.
        in_memory: whether the arrays are made in memory. Otherwise they are mapped: for one part whose clips have one
            length its own files, for others files without a name.
        folder: folder of the files without a name.

    Raises:
        OSError: the disk has no room for them.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from captum_apex.bases.joined_parts import joined_arrays
        >>> from captum_apex.bases.part_files import PartFiles
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = PartFiles(Path(folder), {}, n_rows=2)
        ...     for width in (1, 2):
        ...         files.append({"time": np.ones((1, 1, 1, width)), "columns": np.array([width])})
        ...     joined_arrays([files], True, Path(folder))["time"].tolist()
        ...     files.close()
        [[[1.0, nan]], [[1.0, 1.0]]]
    """
    arrays = {}
    for name in parts[0].names:
        if len(parts) == 1 and parts[0].is_even and not in_memory:
            array = torch.from_numpy(parts[0].mapped(name))
        else:
            dtype = torch.from_numpy(np.empty(0, parts[0].dtype(name))).dtype
            shape = _shape(parts, name)
            array = torch.empty(shape, dtype=dtype) if in_memory else nameless_array(shape, dtype, os.fspath(folder))
            start = 0
            for part in parts:
                part.copy_to(name, array[start : start + part.n_written].numpy())
                start += part.n_written
        arrays[name] = array.flatten(2) if array.dim() == 4 else array
    del arrays["columns"]
    return arrays


def _shape(parts: Sequence[PartFiles], name: str) -> tuple[int, ...]:
    """The shape of an array of all parts together, as wide as the widest."""
    shapes = [part.shape(name) for part in parts]
    sizes = zip(*(shape[1:] for shape in shapes), strict=True)
    return (sum(shape[0] for shape in shapes), *map(max, sizes))


def joined_size(parts: Sequence[PartFiles]) -> int:
    """The number of bytes that the arrays of all parts take together.

    Args:
        parts: the parts.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from captum_apex.bases.joined_parts import joined_size
        >>> from captum_apex.bases.part_files import PartFiles
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     files = PartFiles(Path(folder), {}, n_rows=2)
        ...     files.append({"means": np.ones((2, 3)), "columns": np.array([1, 1])})
        ...     joined_size([files])
        ...     files.close()
        64
    """
    return sum(math.prod(_shape(parts, name)) * parts[0].dtype(name).itemsize for name in parts[0].names)


def differences(former: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs between the settings of two parts, in words; empty where nothing does.

    Args:
        former: settings by name, as in part.json.
        now: other settings by name.

    Example:
        >>> from captum_apex.bases.joined_parts import differences
        >>> differences({"layer": "stem", "n_clips": 8}, {"layer": "features", "n_clips": 8})
        "the layer 'stem' became 'features'"
    """
    texts = [
        f"{_IN_WORDS[name]} {_value(former.get(name))} became {_value(now.get(name))}"
        for name in _IN_WORDS
        if former.get(name) != now.get(name)
    ]
    return ", ".join(texts)


def _value(value: Any) -> str:
    text = "nothing" if value in ("", None) else repr(value)
    return text if len(text) < 80 else f"{text[:40]}…"
