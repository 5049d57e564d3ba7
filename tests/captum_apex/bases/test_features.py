"""The feature bank: what it keeps, that memory and disk agree, and what it refuses."""

import errno
import hashlib
import json
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import IterableDataset

from captum_apex import SCHEMES, FeatureBank, Scheme
from captum_apex.bases.bank_folder import write_bank
from captum_apex.files import locked, read_json, write_json
from tests import oracles
from tests.networks import NETWORKS, build, clips


def dataset(n=11, **kwargs):
    return [(clip, i % 3) for i, clip in enumerate(clips(n, **kwargs))]


def captured(model, layer, inputs, layout):
    taken = []
    handle = layer.register_forward_hook(lambda _, __, output: taken.append(output.detach().clone()))
    model(inputs)
    handle.remove()
    return taken[0] if layout is None else taken[0].transpose(1, 2)[:, :, None]


@pytest.mark.parametrize("name", NETWORKS)
def test_cells_means_and_labels_are_the_layers_in_dataset_order(name):
    model, layer = build(name)
    layout, items = NETWORKS[name].layout, dataset()
    bank = FeatureBank.from_dataset(model, layer, items, batch_size=4, layout=layout)
    grids = captured(model, layer, torch.stack([clip for clip, _ in items]), layout)
    assert bank.labels.tolist() == [label for _, label in items]
    assert bank.origin.grid == tuple(grids.shape[2:])
    assert (bank.origin.layer, bank.origin.n_clips, bank.origin.input_shape) == (NETWORKS[name].layer, 11, (1, 8, 10))
    for clip, grid in enumerate(grids):
        torch.testing.assert_close(bank.means[clip], grid.mean((1, 2)), rtol=1e-12, atol=1e-12)
        for scheme in ("square", "time", "frequency"):
            expected = torch.stack(oracles.sequences(grid, scheme)[0], 1)
            torch.testing.assert_close(bank.cells[Scheme(scheme)][clip], expected, rtol=1e-12, atol=1e-12)


def test_memory_and_disk_agree_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model, layer = build("pooling", dtype=torch.float32)
    items = dataset(dtype=torch.float32)
    in_memory = FeatureBank.from_dataset(model, layer, items, batch_size=4)
    mapped = FeatureBank.from_dataset(model, layer, items, batch_size=4, max_memory=0)
    in_memory.save(tmp_path / "bank")
    loaded = FeatureBank.load(tmp_path / "bank")
    for other in (mapped, loaded):
        assert torch.equal(other.means, in_memory.means)
        assert torch.equal(other.labels, in_memory.labels)
        assert other.origin == in_memory.origin
        assert other.cells.keys() == in_memory.cells.keys()
        assert all(torch.equal(other.cells[sequence], in_memory.cells[sequence]) for sequence in in_memory.cells)
    assert [path.name for path in tmp_path.iterdir()] == ["bank"], "a mapped bank leaves nothing behind"


def test_only_what_the_schemes_need_is_kept():
    model, layer = build("pooling")
    assert set(FeatureBank.from_dataset(model, layer, dataset(), schemes=["time"]).cells) == {"time"}
    both = FeatureBank.from_dataset(model, layer, dataset(), schemes=["time-frequency"])
    assert set(both.cells) == {"time", "frequency"}
    with pytest.raises(
        ValueError, match="expected a bank with the cells of 'square', but it was made for time, frequency"
    ):
        both.sequences("square")


def test_a_grid_of_one_row_says_which_schemes_fit():
    model, layer = build("tokens")
    bank = FeatureBank.from_dataset(model, layer, dataset(), layout="n t c -> n c 1 t")
    with pytest.raises(ValueError, match="it supports: square, time"):
        bank.sequences("frequency")


def test_the_model_runs_once_per_clip_and_stays_as_it_was():
    model, layer = build("pooling")
    model.train()
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    seen = []
    handle = model.register_forward_pre_hook(lambda _, arguments: seen.append(len(arguments[0])))
    random = torch.get_rng_state()
    FeatureBank.from_dataset(model, layer, dataset(), batch_size=4, places=False)
    handle.remove()
    assert seen == [4, 4, 3, 1]  # the last is the first clip alone, up to the layer
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(random, torch.get_rng_state())
    assert not layer._forward_hooks


def test_items_may_be_inputs_alone_and_collated_by_the_user():
    model, layer = build("pooling")
    alone = FeatureBank.from_dataset(model, layer, list(clips(5)))
    assert alone.labels is None
    short = [(clip[..., : 8 + i % 3], i) for i, clip in enumerate(clips(6))]

    def cut(items):
        return torch.stack([clip[..., :8] for clip, _ in items]), torch.tensor([label for _, label in items])

    bank = FeatureBank.from_dataset(model, layer, short, collate_fn=cut, batch_size=4)
    assert bank.labels.tolist() == list(range(6))
    with pytest.raises(
        ValueError, match=r"expected clips of one shape, but got \(1, 8, 8\) and \(1, 8, 9\); pass a `collate_fn`"
    ):
        FeatureBank.from_dataset(model, layer, short)


def test_multi_label_targets_are_kept():
    model, layer = build("pooling")
    bank = FeatureBank.from_dataset(model, layer, [(clip, torch.tensor([1.0, 0.0, 1.0])) for clip in clips(3)])
    assert bank.labels.tolist() == [[1.0, 0.0, 1.0]] * 3


class Stream(IterableDataset):
    def __iter__(self):
        return iter(dataset())


def test_datasets_that_cannot_be_used_are_refused():
    model, layer = build("pooling")
    with pytest.raises(TypeError, match="expected a map-style dataset .* but got Stream"):
        FeatureBank.from_dataset(model, layer, Stream())
    with pytest.raises(ValueError, match="at least one clip, but it is empty"):
        FeatureBank.from_dataset(model, layer, [])
    with pytest.raises(TypeError, match=r"but got tuple \(Tensor, int\)"):
        FeatureBank.from_dataset(model, layer, [(clip, 1)[: 1 + index % 2] for index, clip in enumerate(clips(3), 1)])
    with pytest.raises(ValueError, match="expected entry 2 of the dataset's items, an argument of the model"):
        FeatureBank.from_dataset(model, layer, [(clip, 1, "dog") for clip in clips(3)])
    with pytest.raises(TypeError, match="expected labels to be numbers or tensors"):
        FeatureBank.from_dataset(model, layer, [(clip, "dog") for clip in clips(3)])
    with pytest.raises(ValueError, match="expected `layer` to be part of the model"):
        FeatureBank.from_dataset(model, nn.ReLU(), dataset())


def test_values_that_are_not_finite_name_the_clip():
    model, layer = build("pooling")
    items = dataset()
    items[6][0][0, 2, 3] = torch.inf
    with pytest.raises(ValueError, match="the inputs of clip 6 have NaN or infinity"):
        FeatureBank.from_dataset(model, layer, items, batch_size=4)
    items[6][0][0, 2, 3] = 0.0
    hook = layer.register_forward_hook(lambda _, __, output: output.masked_fill(output == output[-1].max(), torch.nan))
    with pytest.raises(ValueError, match="the output of 'features' of clip 3 have NaN or infinity"):
        FeatureBank.from_dataset(model, layer, items, batch_size=4)
    hook.remove()


def test_grids_whose_rows_change_between_batches_are_refused():
    model, layer = build("pooling")
    items = [(clip[:, : 8 if i < 4 else 6], i) for i, clip in enumerate(clips(8))]
    with pytest.raises(
        ValueError, match=r"'features' to give a grid of 4 frequency rows for every clip, but got 3 from clip 4 on"
    ):
        FeatureBank.from_dataset(model, layer, items, batch_size=4)


def test_folders_that_hold_no_whole_bank_are_named(tmp_path):
    with pytest.raises(ValueError, match="expected .*nothing to hold a feature bank"):
        FeatureBank.load(tmp_path / "nothing")
    model, layer = build("pooling")
    FeatureBank.from_dataset(model, layer, dataset()).save(tmp_path / "bank")
    (array,) = (tmp_path / "bank").glob("time-*.npy")
    array.write_bytes(array.read_bytes()[:200])
    with pytest.raises(ValueError, match="expected .*bank to hold a feature bank"):
        FeatureBank.load(tmp_path / "bank")


def test_every_scheme_is_kept_by_default():
    model, layer = build("pooling")
    bank = FeatureBank.from_dataset(model, layer, dataset())
    for scheme in SCHEMES:
        assert len(bank.sequences(scheme)) == len(scheme.sequences)


def test_a_layer_that_gives_another_number_of_clips_is_named():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(1, 3, 1)

        def forward(self, x):
            return self.layer(x[::2])

    model = Half().double()
    with pytest.raises(ValueError, match="expected 'layer' to give one grid per clip, but got 2 for 4 clips"):
        FeatureBank.from_dataset(model, model.layer, dataset(8), batch_size=4)


def test_a_collate_function_that_drops_clips_is_refused():
    model, layer = build("pooling")

    def drop(items):
        return torch.stack([clip for clip, _ in items[1:]])

    with pytest.raises(ValueError, match="expected `collate_fn` to keep all 8 clips of the dataset, but 6 came"):
        FeatureBank.from_dataset(model, layer, dataset(8), batch_size=4, collate_fn=drop)


def test_arrays_of_different_shape_ask_for_a_collate_function():
    model, layer = build("pooling")
    with pytest.raises(ValueError, match="pass a `collate_fn`"):
        FeatureBank.from_dataset(model, layer, [clip.numpy()[..., : 8 + i] for i, clip in enumerate(clips(3))])


def test_a_loaded_bank_can_be_saved_where_it_lies(tmp_path):
    model, layer = build("pooling")
    in_memory = FeatureBank.from_dataset(model, layer, dataset())
    in_memory.save(tmp_path)
    FeatureBank.load(tmp_path).save(tmp_path)
    assert torch.equal(FeatureBank.load(tmp_path).cells[Scheme.SQUARE], in_memory.cells[Scheme.SQUARE])


def test_a_bank_without_one_of_its_arrays_is_named(tmp_path):
    model, layer = build("pooling")
    FeatureBank.from_dataset(model, layer, dataset()).save(tmp_path)
    (array,) = tmp_path.glob("means-*.npy")
    array.write_bytes(b"")
    with pytest.raises(ValueError, match="to hold a feature bank, but it cannot be read"):
        FeatureBank.load(tmp_path)


def test_half_precision_is_kept_as_float32():
    model, layer = build("pooling", dtype=torch.bfloat16)
    bank = FeatureBank.from_dataset(model, layer, dataset(dtype=torch.bfloat16), max_memory=0)
    assert {tensor.dtype for tensor in (*bank.cells.values(), bank.means)} == {torch.float32}


def test_an_interrupted_save_leaves_the_old_bank(tmp_path, monkeypatch):
    model, layer = build("pooling")
    bank = FeatureBank.from_dataset(model, layer, dataset())
    bank.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    save = np.save

    def interrupted(file, array, **settings):
        if array.ndim == 2:  # the means, after the cells
            file.write(b"half")
            raise KeyboardInterrupt
        save(file, array, **settings)

    monkeypatch.setattr("captum_apex.bases.bank_folder.np.save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        FeatureBank.from_dataset(model, layer, dataset(9)).save(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert FeatureBank.load(tmp_path).n_clips == 11


def test_a_bank_is_on_the_disk_before_it_is_named(tmp_path, monkeypatch):
    model, layer = build("pooling")
    bank = FeatureBank.from_dataset(model, layer, dataset(), schemes=["time"])
    events = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor):
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.split("-")[0].split(".")[0])
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", lambda source, target: events.append("named") or replace(source, target))
    bank.save(tmp_path / "bank")
    # The arrays, their names in the folder, the unfinished bank.json (its name begins with a point), its name.
    assert events == ["time", "means", "labels", "bank", "", "named", "bank"]


def test_files_of_others_in_the_folder_stay(tmp_path):
    model, layer = build("pooling")
    bank = FeatureBank.from_dataset(model, layer, dataset())
    for name in ("labels.npy", "time.txt", "notes-0123456789abcdef.npy"):
        (tmp_path / name).write_text("mine")
    for _ in range(2):
        bank.save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3 + 6
    assert (tmp_path / "labels.npy").read_text() == "mine"


def test_a_bank_keeps_the_permissions_of_its_files(tmp_path):
    model, layer = build("pooling")
    bank = FeatureBank.from_dataset(model, layer, dataset())
    bank.save(tmp_path)
    for path in tmp_path.iterdir():
        path.chmod(0o640)
    bank.save(tmp_path)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o640}


def test_what_a_killed_writer_left_is_deleted_unless_another_writer_works(tmp_path):
    model, layer = build("pooling")
    bank = FeatureBank.from_dataset(model, layer, dataset())
    left = tmp_path / "time-0123456789abcdef.npy"
    left.write_text("half")
    with locked(tmp_path, shared=True):
        bank.save(tmp_path)
        assert left.exists()
    bank.save(tmp_path)
    assert not left.exists()


def test_a_bank_of_the_former_format_is_read_and_replaced(tmp_path):
    model, layer = build("pooling")
    bank = FeatureBank.from_dataset(model, layer, dataset())
    arrays = {**{str(sequence): cells for sequence, cells in bank.cells.items()}, "means": bank.means}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array.numpy())
    about = {"format": "captum-apex bank 1", "arrays": list(arrays), "origin": asdict(bank.origin)}
    (tmp_path / "bank.json").write_text(json.dumps(about))
    loaded = FeatureBank.load(tmp_path)
    assert torch.equal(loaded.cells[Scheme.SQUARE], bank.cells[Scheme.SQUARE])
    assert loaded.labels is None
    loaded.save(tmp_path)
    assert sorted(path.name.split("-")[0] for path in tmp_path.iterdir()) == sorted(
        [*map(str, loaded.cells), "bank.json", "means"]
    )
    assert torch.equal(FeatureBank.load(tmp_path).means, bank.means)


def test_a_large_bank_is_mapped_and_never_changed(tmp_path, monkeypatch):
    monkeypatch.setattr("captum_apex.bases.bank_folder._LARGEST_COPY", 0)
    model, layer = build("pooling")
    bank = FeatureBank.from_dataset(model, layer, dataset())
    bank.save(tmp_path)
    loaded = FeatureBank.load(tmp_path)
    bank.save(tmp_path)
    loaded.means.zero_()
    assert torch.equal(loaded.cells[Scheme.SQUARE], bank.cells[Scheme.SQUARE]), "the replaced file is still there"
    assert torch.equal(FeatureBank.load(tmp_path).means, bank.means)


def test_a_loaded_bank_is_no_mapping_of_its_files(tmp_path):
    model, layer = build("pooling")
    bank = FeatureBank.from_dataset(model, layer, dataset())
    bank.save(tmp_path)
    loaded = FeatureBank.load(tmp_path)
    for path in tmp_path.iterdir():
        os.truncate(path, 0)
    assert torch.equal(loaded.cells[Scheme.SQUARE], bank.cells[Scheme.SQUARE])


def changed(tensor, value, *index):
    tensor = tensor.clone()
    tensor[index] = value
    return tensor


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda bank: {"means": torch.tensor(1.0)}, "`means` to be finite floats"),
        (lambda bank: {"means": changed(bank.means, torch.nan, 3, 1)}, "with NaN or infinity"),
        (lambda bank: {"means": bank.means.long()}, "`means` to be finite floats .* but got torch.int64"),
        (lambda bank: {"means": bank.means[:5]}, "the features of 11 clips, but got those of 5"),
        (lambda bank: {"labels": bank.labels[:5]}, "`labels` of 11 clips, but got an array of shape"),
        (lambda bank: {"labels": torch.tensor(0)}, "`labels` of 11 clips, but got an array of shape"),
        (lambda bank: {"labels": bank.labels / 0}, "`labels` to be finite"),
        (lambda bank: {"time": bank.cells["time"][:, :3]}, "`time` to hold 6 channels of 11 clips"),
        (lambda bank: {"time": bank.cells["time"].float()}, "`time` to hold 6 channels of 11 clips"),
        (lambda bank: {"time": bank.cells["time"][..., :4]}, "`time` to have 5 cells, but got 4"),
        (lambda bank: {"square": changed(bank.cells["square"], torch.inf, 2, 1, 3)}, "`square` to be finite"),
        (lambda bank: {"square": changed(bank.cells["square"], torch.nan, 2, 1, 3)}, "`square` to be finite"),
        (lambda bank: {"square": changed(bank.cells["square"], torch.nan, 2, ..., 4)}, "`square` to be finite"),
        (lambda bank: {"time": changed(bank.cells["time"], torch.nan, 2, ..., 1)}, "`time` to be finite"),
        (lambda bank: {"time": changed(bank.cells["time"], torch.nan, 2)}, "`time` to be finite"),
        (
            lambda bank: {"frequency": changed(bank.cells["frequency"], torch.nan, 2, ..., 3)},
            "`frequency` to be finite",
        ),
    ],
)
def test_arrays_that_are_no_bank_are_refused_on_both_ways(tmp_path, change, message):
    model, layer = build("pooling")
    bank = FeatureBank.from_dataset(model, layer, dataset())
    arrays = {
        **{str(sequence): cells for sequence, cells in bank.cells.items()},
        "means": bank.means,
        "labels": bank.labels,
    }
    arrays |= change(bank)
    write_bank(tmp_path, arrays, asdict(bank.origin))
    with pytest.raises(
        ValueError, match=f"expected {tmp_path} to hold a feature bank, but it cannot be read: .*{message}"
    ):
        FeatureBank.load(tmp_path)
    cells = {Scheme(name): array for name, array in arrays.items() if name not in ("means", "labels")}
    with pytest.raises(ValueError, match=message):
        FeatureBank(cells, arrays["means"], arrays["labels"], bank.origin).save(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_padding_of_shorter_clips_is_no_damage(tmp_path):
    model, layer = build("pooling")
    bank = FeatureBank.from_dataset(model, layer, dataset())
    cells = dict(bank.cells)
    for sequence in (Scheme.TIME, Scheme.SQUARE):
        cells[sequence] = cells[sequence].clone()
        cells[sequence].unflatten(2, (-1, 5))[4, ..., 3:] = torch.nan
    FeatureBank(cells, bank.means, bank.labels, bank.origin).save(tmp_path)
    assert FeatureBank.load(tmp_path).columns.tolist() == [5, 5, 5, 5, 3, 5, 5, 5, 5, 5, 5]


def test_nothing_is_unpickled_and_no_file_outside_the_folder_is_read(tmp_path):
    model, layer = build("pooling")
    FeatureBank.from_dataset(model, layer, dataset()).save(tmp_path)
    (array,) = tmp_path.glob("labels-*")
    np.save(array, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    about = read_json(tmp_path / "bank.json")
    about["arrays"]["labels"]["sha256"] = hashlib.sha256(array.read_bytes()).hexdigest()
    write_json(tmp_path / "bank.json", about)
    with pytest.raises(ValueError, match="to hold a feature bank, but it cannot be read"):
        FeatureBank.load(tmp_path)
    about["arrays"]["labels"]["file"] = "../labels.npy"
    write_json(tmp_path / "bank.json", about)
    with pytest.raises(ValueError, match="it names '../labels.npy', which is no file of an array"):
        FeatureBank.load(tmp_path)


@pytest.mark.parametrize("with_call", [True, False])
def test_mapped_files_have_their_room_before_they_are_mapped(tmp_path, monkeypatch, with_call):
    """Also where the system has no call that sets room aside."""
    model, layer = build("pooling", dtype=torch.float32)
    items = dataset(dtype=torch.float32)
    expected = FeatureBank.from_dataset(model, layer, items)
    sizes, mapping = [], np.memmap

    def recorded(file, *arguments, **settings):
        sizes.append(os.fstat(file.fileno()).st_blocks * 512)
        return mapping(file, *arguments, **settings)

    if not with_call:
        monkeypatch.delattr(os, "posix_fallocate")
    monkeypatch.setattr(np, "memmap", recorded)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    mapped = FeatureBank.from_dataset(model, layer, items, max_memory=0)
    assert torch.equal(mapped.cells[Scheme.SQUARE], expected.cells[Scheme.SQUARE])
    assert len(sizes) == 3
    assert sizes[0] >= mapped.cells[Scheme.SQUARE].nbytes


def test_a_full_disk_is_named_with_the_size_of_the_array(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    model, layer = build("pooling")
    with pytest.raises(
        OSError, match=r"room for an array of 0.0 MiB, but there is none \(No space left on device\)"
    ) as error:
        FeatureBank.from_dataset(model, layer, dataset(), max_memory=0)
    assert error.value.filename == str(tmp_path)
    assert error.value.errno == errno.ENOSPC
