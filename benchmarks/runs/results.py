"""The folder of a run: a file per finished cell and per finished map, so that an interrupted run can go on."""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import platform
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

import benchmarks
import captum_apex
from benchmarks.runs.maps import RegionSums
from benchmarks.runs.rows import COLUMNS, Cell, Row, rows_in, text_of
from captum_apex.files import locked, read_json, replaced, write_json

PACKAGES = (
    "captum",
    "captum-apex",
    "numpy",
    "pandas",
    "scikit-learn",
    "scipy",
    "timm",
    "torch",
    "torchaudio",
    "torchmetrics",
    "zennit",
)
_HEAD = ",".join(COLUMNS) + "\n"
FAILED = ("timeout", "out of memory", "error")  # beginnings of the status of a cell that may succeed in another try


class FolderError(ValueError):
    """A folder that does not hold the run."""


@dataclass(frozen=True)
class Results:
    """The folder of a run.

    Attributes:
        folder: path of the folder; it holds `run.json`, the `sums/` of the maps, the `cells/` with their scores, and
            tables and figures.
    """

    folder: Path

    @classmethod
    def open(cls, folder: Path, key: Mapping[str, Any], about: Mapping[str, Any]) -> Results:
        """Makes the folder, or continues the run that it holds.

        Args:
            folder: path of the folder, which is made if it is missing.
            key: everything besides its own names that the numbers of a cell depend on; a run is continued only with the
                same key.
            about: further settings for readers: the `methods`, `grids` and `fills` of the run, its `command`, its
                `reference` (None for that of the continued run), and the `sources` of methods that are not the
                benchmark's, a digest of the file by name. Those of a continued run come first.

        Raises:
            FolderError: the folder holds a run with another key, or files that do not belong to a run.
        """
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):  # another run may enter its methods at this moment
            path = folder / "run.json"
            settings = dict(about)
            if path.exists():
                former = _read(path)
                _check_key(former["key"], key, folder)
                settings = _merged(former["settings"], about)
            elif any(not each.name.startswith(".run.json.") for each in folder.iterdir()):
                # The unfinished run.json of a killed run does not count.
                raise FolderError(
                    f"expected a new folder or one of a run, but {folder} holds other files; choose another --out"
                )
            write_json(path, {"key": key, "settings": settings})
            (folder / "cells").mkdir(exist_ok=True)
        return cls(folder)

    @property
    def cells(self) -> list[Cell]:
        """All cells of the run, in the order of the rows."""
        settings = _read(self.folder / "run.json")["settings"]
        return [Cell(*names) for names in itertools.product(settings["methods"], settings["grids"], settings["fills"])]

    def missing(self, cells: Iterable[Cell], *, retry: bool = False) -> list[Cell]:
        """The cells that are not finished; with `retry` also those that ran out of time or memory, or had an error."""
        return [
            cell for cell in cells if (status := self._status(cell)) is None or (retry and status.startswith(FAILED))
        ]

    def add(self, cell: Cell, rows: Sequence[Row]) -> None:
        """Stores the rows of a finished cell; if it is interrupted, none of them."""
        with replaced(self._path(cell)) as unfinished:
            unfinished.write_bytes(text_of(rows).encode())

    def add_sums(self, cell: Cell, sums: RegionSums) -> None:
        """Stores the sums of a cell's map: for its scores, and to look up afterwards how the regions were ranked."""
        path = self._sums_path(cell)
        path.parent.mkdir(exist_ok=True)
        sums.save(path)

    def sums(self, cell: Cell) -> RegionSums | None:
        """The sums of a cell's map; None if they are not computed yet or, with a warning, if the file is damaged."""
        path = self._sums_path(cell)
        try:
            return RegionSums.load(path)
        except FileNotFoundError:
            return None
        except ValueError as error:
            warnings.warn(f"{path} is damaged ({error}); the map is computed again", stacklevel=2)
            return None

    def collect(self) -> Path:
        """Writes the rows of all finished cells, in the order of the cells and without any rounding, to `rows.csv`.

        Returns:
            Path of the file.

        Raises:
            FolderError: a cell has the columns of another version.
        """
        texts = [(cell, text) for cell in self.cells if (text := self._rows(cell)) is not None]
        for cell, text in texts:
            if not text.startswith(_HEAD):
                raise FolderError(
                    f"expected the columns of this version, but {self._path(cell)} has others; run it again elsewhere"
                )
        path = self.folder / "rows.csv"
        with replaced(path) as unfinished:
            unfinished.write_text(_HEAD + "".join(text.removeprefix(_HEAD) for _, text in texts))
        return path

    def write(self, name: str, table: pd.DataFrame) -> None:
        """Writes a table as a CSV file of this name in the folder."""
        with replaced(self.folder / name) as unfinished:
            table.to_csv(unfinished, index=False)

    @cached_property
    def _sources(self) -> dict[str, str]:
        return _read(self.folder / "run.json")["settings"].get("sources", {})

    def _status(self, cell: Cell) -> str | None:
        """The status of a finished cell; None if it is not finished."""
        text = self._rows(cell)
        return None if text is None else str(pd.read_csv(io.StringIO(text), nrows=1, dtype=str).get("status", [""])[0])

    def _rows(self, cell: Cell) -> str | None:
        """The rows of a finished cell as CSV; None if there is no file or, with a warning, if it is damaged."""
        path = self._path(cell)
        try:
            text = rows_in(path.read_bytes().decode())
            first = next(csv.DictReader(io.StringIO(text)), None)
            ours = text.startswith(_HEAD)
            if first is None or (ours and any(first[name] != value for name, value in cell._asdict().items())):
                raise ValueError(f"it has no rows of {', '.join(cell)}")
        except FileNotFoundError:
            return None
        except (ValueError, csv.Error) as error:
            warnings.warn(f"{path} is damaged ({error}); its cell counts as not finished", stacklevel=2)
            return None
        return text

    def _path(self, cell: Cell) -> Path:
        return self.folder / "cells" / f"{self._name(cell)}.csv"

    def _sums_path(self, cell: Cell) -> Path:
        return self.folder / "sums" / f"{self._name(cell)}.safetensors"

    def _name(self, cell: Cell) -> str:
        text = "--".join(filter(None, (*cell, self._sources.get(cell.method))))
        readable = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:80]
        return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def code_fingerprint() -> str:
    """A digest of all source files of the benchmark and of the library, in all their folders."""
    digest = hashlib.sha256()
    for package in (benchmarks, captum_apex):
        folder = Path(package.__path__[0])
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that numbers depend on, by name; "absent" for a missing package."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def digest_of(values: Tensor) -> str:
    """SHA-256 of the shape and the values of a tensor.

    Example:
        >>> import torch
        >>> from benchmarks.runs.results import digest_of
        >>> digest_of(torch.zeros(2)) == digest_of(torch.zeros(3))
        False
    """
    values = values.detach().cpu().contiguous()
    return hashlib.sha256(str(tuple(values.shape)).encode() + values.numpy().tobytes()).hexdigest()


def digest(key: Mapping[str, Any]) -> str:
    """A short name for a key, 8 hexadecimal digits; the order of the entries does not matter.

    Example:
        >>> digest({"task": "scenes", "clips": 8}) == digest({"clips": 8, "task": "scenes"})
        True
    """
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:8]


def _read(path: Path) -> dict[str, Any]:
    try:
        former = read_json(path)
    except ValueError as error:
        raise FolderError(f"expected {path} to hold a run's settings, but it cannot be read: {error}") from error
    if not all(isinstance(former.get(name), dict) for name in ("key", "settings")):
        raise FolderError(f"expected {path} to hold a run's settings, but it has no key")
    return former


def _check_key(former: Mapping[str, Any], key: Mapping[str, Any], folder: Path) -> None:
    """Raises a FolderError if the key of the run in the folder is another one."""
    for name, value in key.items():
        if former.get(name) != _through_json(value):
            raise FolderError(
                f"expected a new folder, or one of a run with the same settings, but {folder} holds one with "
                f"{name} {former.get(name)!r} and not {value!r}; choose another --out"
            )


def _merged(former: Mapping[str, Any], about: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a continued run: the new ones, with the methods, grids, fills, commands and sources of both."""
    settings = dict(about)
    for name in ("methods", "grids", "fills"):
        settings[name] = list(dict.fromkeys([*former[name], *about[name]]))
    commands = [*former.get("command", "").splitlines(), about["command"]]
    settings["command"] = "\n".join(dict.fromkeys(commands))
    settings["reference"] = about["reference"] or former["reference"]
    settings["sources"] = {**former.get("sources", {}), **about["sources"]}
    return settings


def _through_json(value: Any) -> Any:
    """The value as it is after being written to JSON and read again."""
    return json.loads(json.dumps(value))
