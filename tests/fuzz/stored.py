"""Files of bases and folders of banks with bytes flipped, cut or taken from another: equal, or refused."""

from __future__ import annotations

import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch

from captum_apex import FeatureBank, PrototypeBasis, fit_basis
from captum_apex.bases.basis import _tensors
from tests.fuzz.labels import small_model
from tests.fuzz.sounds import mutated


@cache
def _bank(seed: int) -> FeatureBank:
    model = small_model()
    clips = torch.randn(6 + seed, 2, 3, 4, generator=torch.Generator().manual_seed(seed))
    return FeatureBank.from_dataset(model, model[0], [(clip, index % 3) for index, clip in enumerate(clips)])


@cache
def _basis(scheme: str) -> tuple[PrototypeBasis, bytes]:
    basis = fit_basis(_bank(0), scheme, epochs=1, n_prototypes=(3, 2))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "basis.safetensors")
        basis.save(path)
        return basis, path.read_bytes()


@cache
def _saved_bank(seed: int) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        _bank(seed).save(folder)
        root = Path(folder)
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def bases(random: np.random.Generator, folder: Path) -> None:
    """A damaged file is refused, or holds the basis that was saved."""
    schemes = random.choice(["square", "time", "frequency", "time-frequency"], 2)
    basis, content = _basis(str(schemes[0]))
    damaged = _damaged(random, content, _basis(str(schemes[1]))[1])
    path = folder / "basis.safetensors"
    path.write_bytes(damaged)
    loaded = PrototypeBasis.load(path)
    same = [each for each in (basis, _basis(str(schemes[1]))[0]) if _equal(loaded, each)]
    assert same, "a damaged basis is taken for a whole one"


def _damaged(random: np.random.Generator, content: bytes, other: bytes) -> bytes:
    """The content as it is, with one bit flipped anywhere, or with more faults."""
    kind = random.random()
    if kind < 0.1:
        return content
    if kind < 0.5:
        place = int(random.integers(len(content)))
        return content[:place] + bytes([content[place] ^ (1 << int(random.integers(8)))]) + content[place + 1 :]
    return mutated(random, content, lambda: other)


def _equal(one: PrototypeBasis, other: PrototypeBasis) -> bool:
    tensors, others = _tensors(one), _tensors(other)
    if tensors.keys() != others.keys() or one.scheme != other.scheme or one.origin != other.origin:
        return False
    return all(
        torch.equal(tensor, others[name]) and tensor.dtype == others[name].dtype for name, tensor in tensors.items()
    )


def banks(random: np.random.Generator, folder: Path) -> None:
    """A bank with a damaged, missing or foreign file is refused, or is the bank that was saved."""
    files = dict(_saved_bank(0))
    name = str(random.choice(sorted(files)))
    kind = random.random()
    if kind < 0.6:
        files[name] = _damaged(random, files[name], files[str(random.choice(sorted(files)))])
    elif kind < 0.75:
        files[name] = _saved_bank(int(random.integers(1, 3))).get(name, b"")
    elif kind < 0.85:
        del files[name]
    elif kind < 0.95:
        other = str(random.choice(sorted(files)))
        files[name], files[other] = files[other], files[name]
    for each, content in files.items():
        (folder / each).parent.mkdir(parents=True, exist_ok=True)
        (folder / each).write_bytes(content)
    bank = _bank(0)
    loaded = FeatureBank.load(folder)
    assert loaded.cells.keys() == bank.cells.keys(), "a damaged bank is taken for a whole one"
    for sequence, tensor in bank.cells.items():
        assert torch.equal(loaded.cells[sequence], tensor), "a damaged bank is taken for a whole one"
    assert torch.equal(loaded.means, bank.means), "a damaged bank is taken for a whole one"
    assert loaded.labels is not None, "a damaged bank is taken for a whole one"
    assert torch.equal(loaded.labels, bank.labels), "a damaged bank is taken for a whole one"
    assert loaded.origin == bank.origin, "a damaged bank is taken for a whole one"
    shutil.rmtree(folder)
    folder.mkdir()
    loaded.save(folder)
    assert torch.equal(FeatureBank.load(folder).means, bank.means)
