"""Everything that the project writes, in two contents each, and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.cache import _load_tensors, _save_tensors
from benchmarks.runs.maps import RegionSums
from benchmarks.runs.results import Results
from benchmarks.runs.rows import Cell, Row
from captum_apex import FeatureBank, PrototypeBasis, Prototypes, Scheme, report
from captum_apex.explanations.event_files import write_audacity, write_csv, write_json, write_raven
from captum_apex.explanations.events import Event
from captum_apex.layers import Origin
from captum_apex.listening import write as write_sound
from tests.pages import page

CELL = Cell("energy", "time", "mean")
KEY = {"task": "small"}
ABOUT = {
    "methods": ["energy"],
    "grids": ["time"],
    "fills": ["mean"],
    "command": "run",
    "reference": "energy",
    "sources": {},
}
DATE = datetime(2026, 5, 4, 12, 30)
N_CHANNELS, N_PROTOTYPES, N_CLIPS, GRID = 4, 3, 7, (3, 5)


def random(seed: int) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.rand(shape, generator=generator)


def origin(seed: int) -> Origin:
    return Origin(layer=f"layer {seed}", grid=GRID, input_shape=(1, 6, 10), fingerprint=f"{seed:064x}", n_clips=N_CLIPS)


def basis(seed: int) -> PrototypeBasis:
    draw = random(seed)
    shape = (N_CHANNELS, N_PROTOTYPES)
    low = 0.4 * draw(*shape, 2, 4)
    boxes = (low + torch.tensor([0.0, 0.5, 0.0, 0.5])).masked_fill(torch.tensor([False, True])[:, None], -1.0)
    side = Prototypes(
        indices=(draw(*shape) * N_CLIPS).long(),
        activations=draw(*shape),
        purities=draw(*shape),
        peaks=(draw(*shape, 2) * 3).long(),
        labels=(draw(*shape) * 5).long(),
        boxes=boxes.double(),
        effects=draw(*shape, 4),
        fires_on=(draw(*shape) * 5).long(),
    )
    return PrototypeBasis(
        torch.eye(N_CHANNELS) + 0.1 * draw(N_CHANNELS, N_CHANNELS), "time-frequency", side, side, draw(9), origin(seed)
    )


def bank(seed: int) -> FeatureBank:
    draw = random(seed)
    grid = draw(N_CLIPS, N_CHANNELS, *GRID)
    grid[2, :, :, 3:] = torch.nan  # a shorter clip
    cells = {Scheme.SQUARE: grid.flatten(2), Scheme.TIME: grid.mean(2), Scheme.FREQUENCY: grid.nanmean(3)}
    return FeatureBank(cells, grid.nanmean((2, 3)), torch.arange(N_CLIPS) + seed, origin(seed))


def rows(seed: int) -> list[Row]:
    return [Row(*CELL, "ok", clip=clip, deletion=value) for clip, value in enumerate(random(seed)(20).tolist())]


def sums(seed: int) -> RegionSums:
    values = random(seed)(20, 6).double()
    return RegionSums(values, "ok", 1.5, 1e6, 0.1 + seed, {"pointing": values[:, 0]})


def events(seed: int) -> list[Event]:
    return [Event(start + seed, start + 1.0, 100.0, 200.0, 0, "bird", 1.0, 0.5) for start in range(9)]


@dataclass(frozen=True)
class Writer:
    """One kind of file or folder.

    Attributes:
        name: name of the file or folder.
        write: writes it with the content of a seed.
        read: its content, as bytes or text; raises an exception where it is damaged.
        checked: whether damage in it is noticed.
    """

    name: str
    write: Callable[[Path, int], object]
    read: Callable[[Path], object] = Path.read_bytes
    checked: bool = False


def read_basis(path: Path) -> str:
    loaded = PrototypeBasis.load(path)
    sides = [{name: _exact(value) for name, value in vars(side).items()} for side in (loaded.positive, loaded.negative)]
    return repr((_exact(loaded.U), str(loaded.scheme), sides, _exact(loaded.purity_history), asdict(loaded.origin)))


def read_bank(path: Path) -> str:
    loaded = FeatureBank.load(path)
    arrays = {**loaded.cells, "means": loaded.means, "labels": loaded.labels}
    return repr(({str(name): _exact(array) for name, array in arrays.items()}, asdict(loaded.origin)))


def read_tensors(path: Path) -> str:
    return repr({name: _exact(tensor) for name, tensor in _load_tensors(path).items()})


def read_rows(folder: Path) -> str:
    text = Results(folder)._rows(CELL)
    if text is None:
        raise ValueError("the cell is not finished")
    return text


def read_sums(folder: Path) -> str:
    loaded = Results(folder).sums(CELL)
    if loaded is None:
        raise ValueError("there are no sums")
    return repr((_exact(loaded.sums), loaded.status, loaded.passes, loaded.seconds, sorted(loaded.columns)))


def read_settings(folder: Path) -> str:
    return repr(Results(folder).cells)


def _exact(tensor: Tensor | None) -> object:
    return None if tensor is None else (str(tensor.dtype), tuple(tensor.shape), tensor.numpy().tobytes().hex())


def results(folder: Path) -> Results:
    return Results.open(folder, KEY, ABOUT)


WRITERS = {
    "basis": Writer("a.safetensors", lambda path, seed: basis(seed).save(path), read_basis, checked=True),
    "bank": Writer("bank", lambda path, seed: bank(seed).save(path), read_bank, checked=True),
    "cache": Writer(
        "cached.safetensors",
        lambda path, seed: _save_tensors({"a": random(seed)(99)}, path),
        read_tensors,
        checked=True,
    ),
    "cell": Writer("run", lambda path, seed: results(path).add(CELL, rows(seed)), read_rows, checked=True),
    "sums": Writer("run", lambda path, seed: results(path).add_sums(CELL, sums(seed)), read_sums, checked=True),
    "settings": Writer("run", lambda path, _: results(path), read_settings, checked=True),
    "page": Writer("a.html", lambda path, seed: report.write(path, [PAGES[seed]], date=DATE)),
    "wav": Writer("a.wav", lambda path, seed: write_sound(path, random(seed)(4000), 8000)),
    "flac": Writer("a.flac", lambda path, seed: write_sound(path, random(seed)(4000), 8000)),
    "Raven table": Writer("a.txt", lambda path, seed: write_raven(path, events(seed))),
    "Audacity labels": Writer("b.txt", lambda path, seed: write_audacity(path, events(seed))),
    "events as CSV": Writer("c.csv", lambda path, seed: write_csv(path, events(seed))),
    "events as JSON": Writer("d.json", lambda path, seed: write_json(path, events(seed))),
}
PAGES = [page(seed) for seed in (50, 51)]
