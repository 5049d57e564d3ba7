"""Banks of clips of several lengths: what is copied, and what is read, does not grow with the number of lengths."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from captum_apex import FeatureBank
from captum_apex.bases import bank_writer
from tests.operations import Operations

N_CLIPS = 60


class Copies(TorchDispatchMode):
    """The number of values that are copied from one tensor into another."""

    def __init__(self):
        super().__init__()
        self.n_values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ == "copy_":
            self.n_values += args[0].numel()
        return func(*args, **(kwargs or {}))


def clips_of(lengths):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, 4, length, generator=generator) for length in lengths]


def bank_of(lengths, **settings):
    layer = nn.Identity()
    return FeatureBank.from_dataset(
        nn.Sequential(layer), layer, clips_of(lengths), batch_size=1, places=False, **settings
    )


@pytest.mark.parametrize("max_memory", [2**32, 0])
def test_clips_from_short_to_long_are_copied_a_few_times(max_memory):
    """At every new length anew, the values would be copied some twenty times."""
    lengths = range(2, 2 + N_CLIPS)
    with Copies() as copies:
        bank = bank_of(lengths, max_memory=max_memory)
    n_values = sum(cells.numel() for cells in bank.cells.values())
    assert copies.n_values < 6 * n_values


@pytest.mark.parametrize("max_memory", [2**32, 0, 3 * 4 * 40 * N_CLIPS * 4])
@pytest.mark.parametrize("order", [1, -1])
def test_the_order_of_lengths_changes_nothing(order, max_memory):
    lengths = list(range(2, 2 + N_CLIPS))[::order]
    bank = bank_of(lengths, max_memory=max_memory)
    assert bank.columns.tolist() == lengths
    assert bank.origin.grid == (4, N_CLIPS + 1)
    square = bank.cells["square"].unflatten(2, (4, -1))
    for index, clip in enumerate(clips_of(lengths)):
        n_columns = clip.shape[2]
        assert torch.equal(bank.cells["time"][index, :, :n_columns], clip.mean(1))
        assert bank.cells["time"][index, :, n_columns:].isnan().all()
        assert torch.equal(square[index, :, :, :n_columns], clip)
        assert square[index, :, :, n_columns:].isnan().all()
        torch.testing.assert_close(bank.cells["frequency"][index], clip.mean(2))


def test_a_disk_with_room_for_the_bank_alone_suffices(monkeypatch):
    """More than the clips so far need is asked for, and done without; in the end, no second array is made."""
    widths = []

    def array(shape, dtype, folder):
        widths.append(shape[3])
        if shape[3] > 9:
            raise OSError("no room")
        return torch.empty(shape, dtype=dtype)

    monkeypatch.setattr(bank_writer, "nameless_array", array)
    bank = bank_of([4, 5, 8, 9], max_memory=0, schemes=["square"])
    assert widths == [4, 6, 9]
    assert bank.columns.tolist() == [4, 5, 8, 9]
    widths.clear()
    bank = bank_of([4, 7, 9], max_memory=0, schemes=["square"])
    assert widths == [4, 7, 11, 9]
    assert bank.cells["square"].shape == (3, 3, 4 * 9)


def test_a_bank_that_fits_into_memory_stays_there(monkeypatch):
    """The room for longer clips is no reason to write files."""
    monkeypatch.setattr(bank_writer, "nameless_array", None)
    bank = bank_of(range(4, 10), max_memory=6 * 3 * 4 * 9 * 4, schemes=["square"])
    assert bank.columns.tolist() == list(range(4, 10))


@pytest.mark.parametrize("is_kept", [False, True])
@pytest.mark.parametrize("lengths", [[5, 5, 5], [3, 5, 4]])
def test_the_columns_of_a_new_bank_need_not_be_read(lengths, is_kept, tmp_path):
    bank = bank_of(lengths, folder=tmp_path if is_kept else None)
    counted = FeatureBank(bank.cells, bank.means, bank.labels, bank.origin).columns
    with Operations() as operations:
        known = bank.columns
        moved = bank.to("cpu").columns
    assert operations.counts["isfinite"] == operations.counts["eq"] == 0
    for columns in (known, moved):
        assert columns is counted is None or torch.equal(columns, counted)


def test_the_smaller_array_is_read_for_the_columns_of_a_stored_bank(tmp_path):
    bank_of([3, 5, 4]).save(tmp_path)
    again = FeatureBank.load(tmp_path)
    again.cells["square"].fill_(torch.nan)
    assert again.columns.tolist() == [3, 5, 4]
