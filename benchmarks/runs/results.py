"""The folder of a run: one file per finished cell, and one per finished map, so that an interrupted run goes on where it stopped."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import platform
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pandas as pd
from safetensors import SafetensorError

import benchmarks
import captum_apex
from benchmarks.runs.maps import Summed
from benchmarks.runs.rows import COLUMNS, Cell, Row, frame

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
FAILED = ("timeout", "out of memory", "error")  # what another try may mend


class FolderError(ValueError):
    """A folder that cannot be that of the run."""


@dataclass(frozen=True)
class Results:
    """A run's folder.

    Attributes:
        folder: holds `run.json`, `sums/` of the maps, `cells/` of their scores and whatever is made of them.
    """

    folder: Path

    @classmethod
    def open(cls, folder: Path, key: Mapping[str, Any], about: Mapping[str, Any]) -> Results:
        """Makes the folder, or takes up the run that is in it.

        Args:
            folder: made where it is missing.
            key: what a cell's numbers depend on beside its own names; must be the same when a run is taken up.
            about: what else a reader wants to know, with the `methods`, `grids` and `fills` of the run, its `command`, its `reference`
                (None for the former one), and the `sources` of methods that are not the benchmark's own: name → digest of the file.
                What a run that is taken up has had comes first.

        Raises:
            FolderError: the folder holds a run of another key, naming what differs, or files that are not a run's.
        """
        path, settings = folder / "run.json", dict(about)
        if path.exists():
            former = _read(path)
            for name, value in key.items():
                if former["key"].get(name) != _plain(value):
                    raise FolderError(
                        f"expected a new folder, or one of a run with the same settings, but {folder} holds one with "
                        f"{name} {former['key'].get(name)!r} and not {value!r}; choose another --out"
                    )
            for name in ("methods", "grids", "fills"):
                settings[name] = list(dict.fromkeys([*former["settings"][name], *about[name]]))
            settings["command"] = "\n".join(
                dict.fromkeys([*former["settings"].get("command", "").splitlines(), about["command"]])
            )
            settings["reference"] = about["reference"] or former["settings"]["reference"]
            settings["sources"] = {**former["settings"].get("sources", {}), **about["sources"]}
        elif folder.is_dir() and any(
            path.suffix != ".part" for path in folder.iterdir()
        ):  # such are left where a run was killed
            raise FolderError(
                f"expected a new folder or one of a run, but {folder} holds other files; choose another --out"
            )
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"key": key, "settings": settings}, indent=2) + "\n"
        write_whole(path, lambda target: target.write_text(text))
        (folder / "cells").mkdir(exist_ok=True)
        return cls(folder)

    @property
    def cells(self) -> list[Cell]:
        """All cells that the run was ever asked for, in the order of the rows."""
        settings = _read(self.folder / "run.json")["settings"]
        return [Cell(*names) for names in itertools.product(settings["methods"], settings["grids"], settings["fills"])]

    def missing(self, cells: Iterable[Cell], *, retry: bool = False) -> list[Cell]:
        """Those of the cells that are not finished; with `retry` also those that failed for want of time or memory, or by an error."""
        return [
            cell for cell in cells if (status := self._status(cell)) is None or (retry and status.startswith(FAILED))
        ]

    def add(self, cell: Cell, rows: Sequence[Row]) -> None:
        """Keeps the rows of a finished cell: all of them, or, when interrupted, none."""
        write_whole(self._path(cell), lambda target: frame(rows).to_csv(target, index=False))

    def keep(self, cell: Cell, found: Summed) -> None:
        """Keeps the sums of a cell's map until it is scored, and after that as what was ranked."""
        path = self._sums_path(cell)
        path.parent.mkdir(exist_ok=True)
        write_whole(path, found.save)

    def sums(self, cell: Cell) -> Summed | None:
        """The sums of a cell's map, None where it was not computed yet or the file is damaged."""
        try:
            return Summed.load(self._sums_path(cell))
        except (FileNotFoundError, SafetensorError):
            return None

    def collect(self) -> Path:
        """The rows of all finished cells in their order, as `rows.csv`; their numbers are copied as they stand.

        Raises:
            FolderError: a cell has other columns, those of another version.
        """
        head, texts = ",".join(COLUMNS) + "\n", []
        for cell in self.cells:
            if self._status(cell) is not None:
                texts.append(self._path(cell).read_text())
                if not texts[-1].startswith(head):
                    raise FolderError(
                        f"expected the columns of this version, but {self._path(cell)} has others; run it again elsewhere"
                    )
        path = self.folder / "rows.csv"
        write_whole(path, lambda target: target.write_text(head + "".join(text.split("\n", 1)[1] for text in texts)))
        return path

    def write(self, name: str, table: pd.DataFrame) -> None:
        """A table as CSV in the run's folder."""
        write_whole(self.folder / name, lambda target: table.to_csv(target, index=False))

    @cached_property
    def _sources(self) -> dict[str, str]:
        return _read(self.folder / "run.json")["settings"].get("sources", {})

    def _status(self, cell: Cell) -> str | None:
        """None where the cell is not finished; what was left of a file by a loss of power is none."""
        path = self._path(cell)
        if not path.exists():
            return None
        rows = pd.read_csv(path, nrows=1, dtype=str) if path.stat().st_size else frame([])
        return None if rows.empty else str(rows.status[0])

    def _path(self, cell: Cell) -> Path:
        return self.folder / "cells" / f"{self._name(cell)}.csv"

    def _sums_path(self, cell: Cell) -> Path:
        return self.folder / "sums" / f"{self._name(cell)}.safetensors"

    def _name(self, cell: Cell) -> str:
        text = "--".join(filter(None, (*cell, self._sources.get(cell.method))))
        readable = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:80]
        return f"{readable}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Writes beside and renames: the file is there whole or not at all."""
    with NamedTemporaryFile(dir=path.parent, prefix=f"{path.stem}-", suffix=".part", delete=False) as unfinished:
        beside = Path(unfinished.name)
    try:
        write(beside)
        beside.chmod(0o666 & ~_umask())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def code_fingerprint() -> str:
    """Changes when a source file of the benchmark or of the library does."""
    digest = hashlib.sha256()
    for package in (benchmarks, captum_apex):
        folder = Path(package.__path__[0])
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Of Python and of the packages that numbers depend on."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def digest(key: Mapping[str, Any]) -> str:
    """A short name for a key."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:8]


def _read(path: Path) -> dict[str, Any]:
    try:
        former = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise FolderError(f"expected {path} to hold a run's settings, but it is not JSON ({error})") from error
    if not isinstance(former, dict) or not all(isinstance(former.get(part), dict) for part in ("key", "settings")):
        raise FolderError(f"expected {path} to hold a run's settings, but it has no key")
    return former


def _plain(value: Any) -> Any:
    """As it comes back from JSON."""
    return json.loads(json.dumps(value))
