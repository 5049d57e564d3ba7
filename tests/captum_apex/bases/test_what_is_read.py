"""Which cells of a bank a fit reads: those of clips that may be prototypes, and no others."""

import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

from captum_apex import FeatureBank, Scheme, fit_basis
from captum_apex.bases import fitting, peak_search, polar_fit
from captum_apex.bases.polar_fit import mean_directions
from captum_apex.bases.processes import Processes
from captum_apex.layers.origin import Origin
from tests.networks import build, clips

ROOT = Path(__file__).parents[3]
N_CHANNELS = 6
N_PROTOTYPES = (8, 3)


def bank(poisoned):
    """Sixteen clips with features, and many without: in every basis, eight of the sixteen activate a channel.

    For each clip there is one with the negative of its features, so that eight are at least as active as a clip without
    features, on both sides of each channel.
    """
    generator = torch.Generator().manual_seed(0)
    some = torch.randn(8, N_CHANNELS, 3, 5, generator=generator, dtype=torch.float64)
    empty = torch.full((200, N_CHANNELS, 3, 5), torch.nan if poisoned else 0.0, dtype=torch.float64)
    grids = torch.cat([empty[:120], some, empty[120:], -some])
    cells = {scheme: scheme.cells(grids)[0].contiguous() for scheme in (Scheme.TIME, Scheme.FREQUENCY)}
    origin = Origin("layer", grid=(3, 5), n_clips=len(grids))
    return FeatureBank(cells, grids.mean((2, 3)).nan_to_num(0.0), None, origin)._knowing(None)


@pytest.mark.parametrize("method", ["gradient", "closed-form"])
@pytest.mark.parametrize("scheme", ["time", "time-frequency"])
def test_cells_of_clips_that_are_no_prototypes_are_not_used(method, scheme):
    settings = {"method": method, "epochs": 4, "n_prototypes": N_PROTOTYPES}
    clean, poisoned = (fit_basis(bank(each), scheme, **settings) for each in (False, True))
    assert poisoned.U.isfinite().all()
    torch.testing.assert_close(poisoned.U, clean.U, rtol=0, atol=0)
    torch.testing.assert_close(poisoned.purity_history, clean.purity_history, rtol=0, atol=0)
    for side in ("positive", "negative"):
        ours, theirs = getattr(poisoned, side), getattr(clean, side)
        assert torch.equal(ours.indices, theirs.indices)
        assert torch.equal(ours.peaks, theirs.peaks)


FIT = """
import resource, sys
import numpy as np, torch
from captum_apex import FeatureBank, Scheme, fit_basis
from captum_apex.layers import Origin

n_clips, n_channels, n_cells = 16384, 4, 8192
path, method = sys.argv[1:]
with open(path, "wb") as file:
    file.truncate(n_clips * n_channels * n_cells * 4)  # 2 GiB without a block on the disk
cells = torch.from_numpy(np.memmap(path, np.float32, "c", shape=(n_clips, n_channels, n_cells)))
means = torch.rand(n_clips, n_channels, generator=torch.Generator().manual_seed(0))
bank = FeatureBank({Scheme.TIME: cells}, means, None, Origin("layer", grid=(1, n_cells)))._knowing(None)
small = FeatureBank({Scheme.TIME: torch.ones(9, 4, 4)}, means[:9], None, Origin("layer", grid=(1, 4)))
settings = {"method": method, "epochs": 2, "n_prototypes": (20, 5)}
fit_basis(small, "time", **{**settings, "n_prototypes": (5, 5)})  # imports
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
fit_basis(bank, "time", **settings)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="pages of mapped files count as the memory of a process on Linux")
@pytest.mark.parametrize("method", ["gradient", "closed-form"])
def test_a_mapped_bank_is_not_read_into_memory(tmp_path, method):
    """2 GiB in a file, of which at most 4 × 20 clips of 128 KiB may be prototypes in an epoch."""
    command = [sys.executable, "-c", FIT, str(tmp_path / "cells"), method]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert int(done.stdout) < 2**27


@pytest.mark.parametrize("large", [False, True])
def test_the_cells_of_each_clip_of_a_large_bank_are_read_once(large, monkeypatch):
    generator = torch.Generator().manual_seed(0)
    cells = torch.randn(9, 5, 7, generator=generator, dtype=torch.float64)
    chosen = torch.stack([torch.randperm(9, generator=generator)[:4] for _ in range(5)])
    U = torch.linalg.qr(torch.randn(5, 5, generator=generator, dtype=torch.float64))[0]
    expected = mean_directions([cells], U, chosen)
    monkeypatch.setattr(polar_fit, "_LARGE_BANK", cells.nbytes - 1 if large else cells.nbytes)
    read = []
    peak_cells = polar_fit.peak_cells
    monkeypatch.setattr(
        polar_fit, "peak_cells", lambda of_clip, rows: read.append(of_clip) or peak_cells(of_clip, rows)
    )
    torch.testing.assert_close(mean_directions([cells], U, chosen), expected, rtol=1e-12, atol=1e-12)
    assert len(read) == (len(chosen.unique()) if large else 0)


class Counted(torch.Tensor):
    """Cells of a bank; `read` has the clips that were read from it, one list for each call that read some."""

    read: ClassVar[list[list[int]]] = []

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunctionSubclass():
            if function is torch.Tensor.index_select:
                cls.read.append(args[2].tolist())
            elif function is torch.Tensor.__getitem__ and not isinstance(args[1], int):
                cls.read.append(args[1][0].tolist())
            return function(*args, **(kwargs or {}))


N_CLIPS = 90
GRADIENT = {"epochs": 4, "n_prototypes": (8, 3), "batch_size": 16}


def counted_bank(n_at_once, monkeypatch):
    """A bank that is large, of which the cells of some clips may be copied."""
    generator = torch.Generator().manual_seed(0)
    grids = torch.randn(N_CLIPS, N_CHANNELS, 3, 5, generator=generator)
    cells = {scheme: scheme.cells(grids)[0].contiguous() for scheme in (Scheme.TIME, Scheme.FREQUENCY)}
    n_bytes = sum(each[0].nbytes for each in cells.values())
    if n_at_once is not None:
        monkeypatch.setattr(peak_search, "_MOST_COPIED", n_at_once * n_bytes)
    Counted.read = []
    counted = {scheme: each.as_subclass(Counted) for scheme, each in cells.items()}
    return FeatureBank(counted, grids.mean((2, 3)), None, Origin("layer", grid=(3, 5), n_clips=N_CLIPS))._knowing(None)


def epochs_of(monkeypatch):
    """For each epoch by gradient and each measurement: which clips they get, and what they have read, when they end."""
    calls = []

    def recorded(function, chosen_of):
        def call(*args, **settings):
            before = len(Counted.read)
            result = function(*args, **settings)
            calls.append((chosen_of(args).flatten().tolist(), Counted.read[before:]))
            return result

        return call

    monkeypatch.setattr(fitting._Descent, "improve", recorded(fitting._Descent.improve, lambda args: args[2]))
    monkeypatch.setattr(fitting, "_measured", recorded(fitting._measured, lambda args: args[2]))
    return calls


@pytest.mark.parametrize("scheme", ["time", "time-frequency"])
def test_the_fit_by_gradient_reads_each_clip_of_a_large_bank_once_in_an_epoch(scheme, monkeypatch):
    expected = fit_basis(counted_bank(None, monkeypatch), scheme, **GRADIENT)
    calls = epochs_of(monkeypatch)
    found = fit_basis(counted_bank(48, monkeypatch), scheme, **GRADIENT)
    n_sequences = 2 if scheme == "time-frequency" else 1
    assert len(calls) == 4 + 5 + 2  # epochs, measurements of the purity, and both sides of the basis
    for chosen, read in calls:
        assert read == [sorted(set(chosen))] * n_sequences
    assert_same_basis(found, expected)


@pytest.mark.parametrize("scheme", ["time", "time-frequency"])
def test_where_the_clips_of_an_epoch_are_too_many_each_is_read_once_in_a_step(scheme, monkeypatch):
    expected = fit_basis(counted_bank(None, monkeypatch), scheme, **GRADIENT)
    calls = epochs_of(monkeypatch)
    found = fit_basis(counted_bank(16, monkeypatch), scheme, **GRADIENT)
    n_sequences = 2 if scheme == "time-frequency" else 1
    for chosen, read in [call for call in calls if len(set(call[0])) > 16 and len(call[0]) == N_CHANNELS * 8]:
        assert len(read) == n_sequences * len(chosen) // GRADIENT["batch_size"]
        assert all(each == sorted(set(each)) for each in read)
    assert any(len(set(chosen)) > 16 and len(chosen) == N_CHANNELS * 8 for chosen, _ in calls)
    assert_same_basis(found, expected)


def test_an_epoch_with_clips_of_other_processes_is_the_same_on_a_copy_of_its_cells(monkeypatch):
    chosen = torch.stack([torch.randperm(N_CLIPS, generator=torch.Generator().manual_seed(k))[:8] for k in range(6)])
    chosen[chosen % 3 == 0] = -1
    matrices = []
    for n_at_once in (None, 48):
        bank = counted_bank(n_at_once, monkeypatch)
        descent = fitting._Descent(fitting._Matrix(bank.means, True), None, 0.0, 16, 0, Processes())
        descent.improve(bank.sequences("time"), chosen, lambda _: None)
        matrices.append(descent.U())
    assert Counted.read == [sorted(set(chosen.flatten().tolist()) - {-1})]
    assert torch.equal(*matrices)
    assert not torch.equal(matrices[0], torch.eye(N_CHANNELS))


def assert_same_basis(found, expected):
    """Bit for bit."""
    assert torch.equal(found.U, expected.U)
    assert torch.equal(found.purity_history, expected.purity_history)
    for side in ("positive", "negative"):
        for field in ("indices", "peaks", "purities", "activations"):
            assert torch.equal(getattr(getattr(found, side), field), getattr(getattr(expected, side), field))


# --- numbers of columns -------------------------------------------------------


def made(items, folder=None, **settings):
    model, layer = build("pooling")
    return FeatureBank.from_dataset(model, layer, items, places=False, folder=folder, batch_size=2, **settings)


def columns_without_cells(bank):
    """What the bank knows of its columns after all of its cells were overwritten."""
    bank = bank.to("cpu")
    for cells in bank.cells.values():
        cells.fill_(torch.nan)
    return bank.columns


def test_parts_of_clips_of_one_length_know_that_without_their_cells(tmp_path):
    items = list(clips(6))
    for i in range(2):
        assert columns_without_cells(made(items, tmp_path / "parts", part=(i, 2))) is None
    assert columns_without_cells(made(items, tmp_path / "one")) is None
    assert columns_without_cells(FeatureBank.load(tmp_path / "parts")) is None
    assert columns_without_cells(FeatureBank.load(tmp_path / "one")) is None


@pytest.mark.parametrize("widths", [(8, 8, 8, 8, 4, 4), (4, 4, 8, 8, 8, 8), (8, 8, 4, 4, 8, 8)])
def test_the_columns_of_several_lengths_are_those_of_the_cells(tmp_path, widths):
    items = [clip[..., :width] for clip, width in zip(clips(6), widths, strict=True)]
    made(items).save(tmp_path / "saved")
    for i in range(3):  # each part has clips of one length
        made(items, tmp_path / "parts", part=(i, 3))
    banks = [made(items), made(items, tmp_path / "one")]
    banks += [FeatureBank.load(tmp_path / name) for name in ("saved", "parts", "one")]
    for each in banks:
        assert each.to("cpu").columns.tolist() == [made([item]).origin.grid[1] for item in items]


def test_padding_within_a_batch_is_found_in_loaded_parts(tmp_path):
    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Identity()

        def forward(self, inputs, lengths):
            return self.layer(inputs).mean((2, 3)) + 0 * lengths[:, None]

    model = Padded()
    items = [torch.ones(1, 2, length) for length in (4, 3, 4, 4)]
    settings = {"columns": lambda lengths: lengths, "places": False, "batch_size": 2, "folder": tmp_path}
    FeatureBank.from_dataset(model, model.layer, items, **settings)
    assert FeatureBank.load(tmp_path).columns.tolist() == [4, 3, 4, 4]
