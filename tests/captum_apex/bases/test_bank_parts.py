"""Banks that are kept in a folder while they are made: parts, kills, other settings, damage and half precision."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from captum_apex import SCHEMES, FeatureBank, Scheme, basis_from_matrix, fit_basis
from captum_apex.bases import joined_parts, part_files
from captum_apex.bases.part_writer import clips_of_part
from captum_apex.files import read_json, write_json
from captum_apex.layers.cell_places import CellPlaces
from tests.networks import build, clips


def dataset(n=11, **kwargs):
    return [(clip, i % 3) for i, clip in enumerate(clips(n, **kwargs))]


def of_several_lengths(n=11):
    """Clips that become longer and shorter again."""
    return [(clip[..., : 4 + 2 * (i * 5 % 4)], i % 3) for i, clip in enumerate(clips(n))]


def assert_equal(bank, expected):
    assert bank.origin == expected.origin
    assert bank.cells.keys() == expected.cells.keys()
    for sequence, cells in expected.cells.items():
        assert bank.cells[sequence].dtype == cells.dtype
        np.testing.assert_array_equal(bank.cells[sequence].numpy(), cells.numpy())  # NaN is equal to NaN
    assert torch.equal(bank.means, expected.means)
    assert bank.means.dtype == expected.means.dtype
    if expected.labels is None:
        assert bank.labels is None
    else:
        assert torch.equal(bank.labels, expected.labels)


def made(model, layer, items, places=False, **settings):
    """A bank without the places of the cells, which take hundreds of passes."""
    return FeatureBank.from_dataset(model, layer, items, places=places, **settings)


def in_parts(folder, n_parts, model, layer, items, **settings):
    for i in range(n_parts):
        made(model, layer, items, folder=folder, part=(i, n_parts), **settings)
    return FeatureBank.load(folder)


# --- parts --------------------------------------------------------------------


@pytest.mark.parametrize("n_clips", [1, 7, 20, 33])
@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_parts_are_contiguous_and_whole_batches_where_there_are_enough(n_clips, batch_size):
    for n_parts in range(1, n_clips + 1):
        parts = [clips_of_part((i, n_parts), n_clips, batch_size) for i in range(n_parts)]
        assert [clip for part in parts for clip in part] == list(range(n_clips))
        assert all(parts)
        if n_parts <= -(-n_clips // batch_size):
            assert all(part.start % batch_size == 0 for part in parts)
        else:
            assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("n_parts", "batch_size"), [(1, 4), (2, 4), (3, 2), (5, 4), (11, 4), (11, 1)])
def test_the_parts_together_are_the_whole_bank_bit_for_bit(tmp_path, n_parts, batch_size):
    """Also with more parts than batches, and with a part for each clip."""
    model, layer = build("pooling")
    whole = made(model, layer, dataset(), batch_size=batch_size)
    assert_equal(in_parts(tmp_path, n_parts, model, layer, dataset(), batch_size=batch_size), whole)


def test_the_joined_parts_know_the_places_of_the_cells(tmp_path):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = nn.Conv2d(1, 2, 3)
    model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    settings = {"batch_size": 4, "places": True}
    whole = made(model, layer, dataset(), **settings)
    assert whole.origin.places != CellPlaces()
    assert_equal(in_parts(tmp_path, 2, model, layer, dataset(), **settings), whole)


@pytest.mark.parametrize("n_parts", [1, 2, 3, 11])
def test_parts_of_clips_of_several_lengths_are_the_whole_bank(tmp_path, n_parts):
    model, layer = build("pooling")
    items = of_several_lengths()
    whole = made(model, layer, items, batch_size=1)
    assert len(set(whole.columns.tolist())) > 2
    assert_equal(in_parts(tmp_path, n_parts, model, layer, items, batch_size=1), whole)


def test_parts_of_padded_batches_are_the_whole_bank(tmp_path):
    class Padded(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Conv2d(1, 3, 1)

        def forward(self, inputs, lengths):
            return self.features(inputs).mean((2, 3))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Padded().double()
    settings = {"columns": lambda lengths: lengths, "batch_size": 3}
    items = of_several_lengths()
    whole = made(model, model.features, items, **settings)
    assert whole.columns is not None
    assert_equal(in_parts(tmp_path, 3, model, model.features, items, **settings), whole)


@pytest.mark.parametrize("labels", ["none", "several"])
def test_parts_keep_labels_of_every_kind(tmp_path, labels):
    model, layer = build("pooling")
    items = list(clips(6)) if labels == "none" else [(clip, torch.tensor([1.0, 0.0, 0.5])) for clip in clips(6)]
    whole = made(model, layer, items, batch_size=2)
    assert_equal(in_parts(tmp_path, 3, model, layer, items, batch_size=2), whole)


def test_parts_that_are_too_large_for_the_memory_are_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr(joined_parts, "_LARGEST_COPY", 0)
    model, layer = build("pooling")
    whole = made(model, layer, dataset(), batch_size=4)
    assert_equal(in_parts(tmp_path / "one", 1, model, layer, dataset(), batch_size=4), whole)
    assert_equal(in_parts(tmp_path / "three", 3, model, layer, dataset(), batch_size=4), whole)
    items = of_several_lengths()
    several = made(model, layer, items, batch_size=1)
    assert_equal(in_parts(tmp_path / "several", 2, model, layer, items, batch_size=1), several)
    loaded = FeatureBank.load(tmp_path / "one")
    loaded.means.zero_()
    assert_equal(FeatureBank.load(tmp_path / "one"), whole)


def test_a_bank_of_one_part_is_mapped_and_the_same(tmp_path):
    model, layer = build("pooling")
    whole = made(model, layer, dataset())
    kept = made(model, layer, dataset(), folder=tmp_path)
    assert_equal(kept, whole)
    kept.means.zero_()
    assert_equal(FeatureBank.load(tmp_path), whole)
    part = made(model, layer, dataset(), folder=tmp_path / "parts", part=(1, 2), batch_size=4)
    assert part.origin.n_clips == part.n_clips == 7
    assert torch.equal(part.means, whole.means[4:])


def test_joined_parts_can_be_saved_as_one(tmp_path):
    model, layer = build("pooling")
    joined = in_parts(tmp_path / "parts", 3, model, layer, dataset(), batch_size=4)
    joined.save(tmp_path / "one")
    assert_equal(FeatureBank.load(tmp_path / "one"), joined)


def test_files_are_as_long_as_their_rows(tmp_path):
    """The room that was claimed for longer clips is given back."""
    model, layer = build("pooling")
    items = [(clip[..., : 10 if i == 0 else 4], 0) for i, clip in enumerate(clips(9))]
    bank = made(model, layer, items, batch_size=1, folder=tmp_path, schemes=["time"])
    columns = torch.full((9,), bank.origin.grid[1]) if bank.columns is None else bank.columns
    assert (tmp_path / "part-0-of-1" / "time.rows").stat().st_size == int(columns.sum()) * bank.n_channels * 8


def test_the_room_for_all_clips_is_claimed_before_the_second_batch(tmp_path):
    model, layer = build("pooling")
    sizes = []

    class Looking(Dataset):
        def __len__(self):
            return 11

        def __getitem__(self, index):
            path = tmp_path / "part-0-of-1" / "time.rows"
            sizes.append(path.stat().st_blocks * 512 if path.exists() else 0)
            return dataset()[index]

    bank = made(model, layer, Looking(), batch_size=4, folder=tmp_path, schemes=["time"])
    assert max(sizes[:8]) == 0  # the first batch, which is read twice
    assert min(sizes[8:]) >= bank.cells[Scheme.TIME].nbytes


# --- loaders ------------------------------------------------------------------


def test_a_loader_in_order_brings_its_settings(tmp_path):
    model, layer = build("pooling")
    sizes = []
    model.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0])))

    def doubled(items):
        return torch.stack([2 * clip for clip, _ in items]), torch.tensor([label for _, label in items])

    expected = made(model, layer, [(2 * clip, label) for clip, label in dataset()], batch_size=4)
    sizes.clear()
    loader = DataLoader(dataset(), batch_size=4, collate_fn=doubled, num_workers=1, prefetch_factor=3)
    assert_equal(made(model, layer, loader), expected)
    assert sizes == [4, 4, 3, 1]
    assert_equal(made(model, layer, loader, folder=tmp_path), expected)
    assert_equal(made(model, layer, DataLoader(dataset(), 3)), made(model, layer, dataset(), batch_size=3))


@pytest.mark.parametrize(
    "settings",
    [{"shuffle": True}, {"drop_last": True}, {"sampler": [2, 0]}, {"batch_sampler": [[2], [0]], "batch_size": 1}],
)
def test_a_loader_in_another_order_is_refused(settings):
    model, layer = build("pooling")
    loader = DataLoader(dataset(), **({"batch_size": 4} | settings))
    with pytest.raises(ValueError, match="a DataLoader that gives every clip in the order of its dataset"):
        made(model, layer, loader)


def test_a_loader_of_a_stream_is_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(dataset())

    with pytest.raises(TypeError, match="a DataLoader of a map-style dataset, .* but got one of Stream"):
        made(*build("pooling"), DataLoader(Stream(), batch_size=4))


# --- kills and interruptions --------------------------------------------------


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_ctrl_c_loses_no_finished_batch(tmp_path, monkeypatch, seconds):
    """Also where the batches were not yet counted when it came."""
    monkeypatch.setattr(part_files, "_SECONDS", seconds)
    model, layer = build("pooling")
    seen = []

    def interrupt(_, arguments):
        seen.append(len(arguments[0]))
        if len(seen) == 4:
            raise KeyboardInterrupt

    handle = model.relu.register_forward_pre_hook(interrupt)  # after the layer, before the end of the model
    with pytest.raises(KeyboardInterrupt):
        made(model, layer, dataset(), batch_size=2, folder=tmp_path)
    assert read_json(tmp_path / "part-0-of-1" / "part.json")["n_written"] == 6
    bank = made(model, layer, dataset(), batch_size=2, folder=tmp_path)
    handle.remove()
    assert seen == [2, 2, 2, 2, 2, 2, 1]
    assert_equal(bank, made(model, layer, dataset(), batch_size=2))


def test_rows_are_counted_after_they_are_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(part_files, "_SECONDS", 0.0)
    model, layer = build("pooling")
    events = []
    fsync, replace = os.fsync, os.replace

    def recorded(descriptor):
        events.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name.split(".")[0])
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", recorded)
    monkeypatch.setattr(os, "replace", lambda source, target: events.append("counted") or replace(source, target))
    made(model, layer, dataset(4), batch_size=4, folder=tmp_path, schemes=["time"])
    of_count = ["time", "means", "columns", "labels", "", "counted", "part-0-of-1"]
    assert events[: len(of_count)] == of_count
    assert events.count("counted") == 2  # the batch, and the end


def test_rows_after_the_counted_ones_are_written_again(tmp_path, monkeypatch):
    """What a kill leaves between the rows and their count."""
    model, layer = build("pooling")
    fails = iter([False, False, True])

    def fail(*_):
        if next(fails, False):
            raise RuntimeError("the model fails")

    handle = model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match="the model fails"):
        made(model, layer, dataset(), batch_size=4, folder=tmp_path)
    handle.remove()
    for path in (tmp_path / "part-0-of-1").glob("*.rows"):
        with open(path, "r+b") as file:
            file.seek(-8, os.SEEK_END)
            file.write(b"\xff" * 800)
    bank = made(model, layer, dataset(), batch_size=4, folder=tmp_path)
    assert_equal(bank, made(model, layer, dataset(), batch_size=4))
    assert_equal(FeatureBank.load(tmp_path), bank)


def test_the_batch_size_may_change_where_the_clips_of_the_part_do_not(tmp_path):
    model, layer = build("pooling")
    items = dataset()
    items[9][0][0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="the inputs of clip 9 have NaN or infinity"):
        made(model, layer, items, batch_size=4, folder=tmp_path)
    items[9][0][0, 0, 0] = 0.0
    bank = made(model, layer, items, batch_size=1, folder=tmp_path)
    torch.testing.assert_close(bank.means, made(model, layer, items).means)


def test_errors_name_the_clip_by_its_index_in_the_dataset(tmp_path):
    model, layer = build("pooling")
    items = dataset()
    items[9][0][0, 2, 3] = torch.inf
    settings = {"folder": tmp_path, "part": (1, 2), "batch_size": 4}
    with pytest.raises(ValueError, match="the inputs of clip 9 have NaN or infinity"):
        made(model, layer, items, **settings)
    items[9][0][0, 2, 3] = 0.0
    hook = layer.register_forward_hook(
        lambda _, __, output: output.masked_fill(torch.tensor([len(output) == 3]), torch.nan)
    )
    with pytest.raises(ValueError, match="the output of 'features' of clip 8 have NaN or infinity"):
        made(model, layer, items, **settings)
    hook.remove()


# --- other settings, missing parts, damage ------------------------------------


class Named(list):
    def __init__(self, items, text):
        super().__init__(items)
        self.text = text

    def fingerprint(self):
        return self.text


def fail_on_three(_, arguments):
    if len(arguments[0]) == 3:
        raise RuntimeError("the model fails")


def other_weights(arguments):
    model, layer = build("pooling")
    with torch.no_grad():
        layer.bias.add_(1)
    return {"model": model, "layer": layer}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_weights, "the weights of the model '.*' became '.*'"),
        (lambda old: {"layer": old["model"].stem}, "the layer 'features' became 'stem'"),
        (lambda old: {"layout": "n c f t -> n c (f t) 1"}, "the layout {.*} became {.*}"),
        (lambda old: {"at_input": True}, "`at_input` False became True"),
        (lambda old: {"dtype": torch.float16}, "the dtype nothing became 'torch.float16'"),
        (lambda old: {"schemes": ["time", "square"]}, "the schemes' cells .*'time', 'frequency'.* became .*'square'"),
        (lambda old: {"dataset": Named(dataset(), "b")}, "the dataset 'a' became 'b'"),
        (lambda old: {"dataset": Named(dataset(12), "a")}, "the number of clips 11 became 12"),
        (lambda old: {"columns": lambda lengths: lengths // 2}, "`columns` False became True"),
        (lambda old: {"dataset": Named(dataset(seed=2), "a")}, "the recording or the transform is another one"),
        (lambda old: {"dataset": Named(dataset(columns=12), "a")}, r"of shape \[1, 8, 10\], .* but got \[1, 8, 12\]"),
    ],
)
@pytest.mark.parametrize("is_complete", [True, False])
def test_a_part_that_was_begun_with_something_else_says_what_differs(tmp_path, change, message, is_complete):
    model, layer = build("pooling")
    arguments = {"model": model, "layer": layer, "dataset": Named(dataset(), "a"), "schemes": ["time-frequency"]}
    arguments |= {"places": False, "batch_size": 4, "folder": tmp_path, "layout": "n c f t -> n c f t"}
    if is_complete:
        bank = FeatureBank.from_dataset(**arguments)
    else:
        handle = model.register_forward_pre_hook(fail_on_three)
        with pytest.raises(RuntimeError, match="the model fails"):
            FeatureBank.from_dataset(**arguments)
        handle.remove()
    record = (tmp_path / "part-0-of-1" / "part.json").read_bytes()
    with pytest.raises(ValueError, match=message):
        FeatureBank.from_dataset(**arguments | change(arguments))
    assert (tmp_path / "part-0-of-1" / "part.json").read_bytes() == record
    again = FeatureBank.from_dataset(**arguments)
    if is_complete:
        assert_equal(again, bank)


def test_other_batches_of_parts_are_refused(tmp_path):
    model, layer = build("pooling")
    made(model, layer, dataset(), batch_size=4, folder=tmp_path, part=(0, 2))
    with pytest.raises(ValueError, match=r"the clips of the part \[0, 4\] became \[0, 6\]"):
        made(model, layer, dataset(), batch_size=2, folder=tmp_path, part=(0, 2))


def test_fewer_schemes_take_a_bank_of_more(tmp_path):
    model, layer = build("pooling")
    bank = made(model, layer, dataset(), folder=tmp_path)
    model.register_forward_pre_hook(lambda *_: 1 / 0)
    assert_equal(made(model, layer, dataset(), folder=tmp_path, schemes=["time"]), bank)


def test_missing_and_unfinished_parts_are_named(tmp_path):
    model, layer = build("pooling")
    settings = {"batch_size": 2, "folder": tmp_path}
    made(model, layer, dataset(), part=(1, 3), **settings)
    with pytest.raises(ValueError, match=r"of its 3 parts part-0-of-3 is missing, part-2-of-3 is missing; run `Feat"):
        FeatureBank.load(tmp_path)
    made(model, layer, dataset(), part=(0, 2), **settings)
    with pytest.raises(ValueError, match="it holds parts of banks of 2 and 3 parts; delete those of one"):
        FeatureBank.load(tmp_path)


def test_parts_of_different_features_are_not_joined(tmp_path):
    model, layer = build("pooling")
    settings = {"batch_size": 2, "folder": tmp_path}
    made(model, layer, dataset(), part=(0, 2), **settings)
    made(model, model.stem, dataset(), part=(1, 2), **settings)
    with pytest.raises(
        ValueError, match="part-0-of-2 and part-1-of-2 are not of one bank: the layer 'features' became 'stem'"
    ):
        FeatureBank.load(tmp_path)


def test_parts_that_cannot_be_made_are_refused(tmp_path):
    model, layer = build("pooling")
    with pytest.raises(ValueError, match=r"expected a `folder` that keeps the part \(0, 2\), but there is none"):
        made(model, layer, dataset(), part=(0, 2))
    for part in ((2, 2), (0, 12)):
        with pytest.raises(ValueError, match="an index below the number of parts, and at most 11 parts"):
            made(model, layer, dataset(), folder=tmp_path, part=part)
    with pytest.raises(ValueError, match="expected `part` to be an int of at least 0, but got -1"):
        made(model, layer, dataset(), folder=tmp_path, part=(-1, 2))
    with pytest.raises(TypeError, match="expected `part` as"):
        made(model, layer, dataset(), folder=tmp_path, part=1)
    with pytest.raises(ValueError, match="expected `collate_fn` to keep all 4 clips of a batch, but 3 came"):
        drop = {"collate_fn": lambda items: torch.stack([clip for clip, _ in items[1:]])}
        made(model, layer, dataset(8), folder=tmp_path, batch_size=4, **drop)
    assert not list(tmp_path.iterdir()), "what was never begun leaves nothing behind"
    made(model, layer, dataset()).save(tmp_path)
    with pytest.raises(ValueError, match=r"expected a `folder` without a bank of `FeatureBank\.save`"):
        made(model, layer, dataset(), folder=tmp_path)


def test_labels_of_some_clips_only_are_refused(tmp_path):
    model, layer = build("pooling")
    items = [(clip, 1) if i < 4 else (clip, None) for i, clip in enumerate(clips(8))]
    collate = {"collate_fn": lambda batch: (torch.stack([clip for clip, _ in batch]), _labels(batch))}
    with pytest.raises(ValueError, match="expected `labels` of one kind for all clips, but the clips from 4 .* none"):
        made(model, layer, items, folder=tmp_path, batch_size=4, **collate)


def _labels(batch):
    return None if batch[0][1] is None else [label for _, label in batch]


def test_grids_whose_rows_change_are_refused(tmp_path):
    model, layer = build("pooling")
    items = [(clip[:, : 8 if i < 4 else 6], i) for i, clip in enumerate(clips(8))]
    with pytest.raises(ValueError, match="a grid of 4 frequency rows for every clip, but got 3 from clip 4 on"):
        made(model, layer, items, folder=tmp_path, batch_size=4)


@pytest.mark.parametrize("name", ["time", "means", "columns", "labels"])
@pytest.mark.parametrize("damage", ["changed", "cut", "missing"])
def test_damaged_parts_are_refused(tmp_path, name, damage):
    model, layer = build("pooling")
    settings = {"schemes": ["time"], "folder": tmp_path}
    made(model, layer, dataset(), **settings)
    path = tmp_path / "part-0-of-1" / f"{name}.rows"
    content = path.read_bytes()
    path.write_bytes(content[:-1] if damage == "cut" else bytes([content[0] ^ 1]) + content[1:])
    if damage == "missing":
        path.unlink()
    message = f"{name}.rows" if damage != "missing" else "cannot be read"
    with pytest.raises(ValueError, match=message):
        FeatureBank.load(tmp_path)
    if damage != "missing":
        with pytest.raises(ValueError, match="delete the folder to make the part again"):
            made(model, layer, dataset(), **settings)


def test_a_changed_record_is_refused(tmp_path):
    model, layer = build("pooling")
    made(model, layer, dataset(), folder=tmp_path)
    path = tmp_path / "part-0-of-1" / "part.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "n_written": 10}))
    with pytest.raises(ValueError, match="its checksum is that of other content"):
        FeatureBank.load(tmp_path)
    record.pop("checksum")
    record["arrays"]["../secret"] = record["arrays"].pop("means")
    write_json(path, record)
    with pytest.raises(ValueError, match=r"names \['../secret'\], which are no arrays"):
        FeatureBank.load(tmp_path)


# --- half precision -----------------------------------------------------------


@pytest.mark.parametrize("kept", [True, False])
def test_half_precision_takes_half_of_the_room_and_rounds_each_cell_once(tmp_path, kept):
    model, layer = build("pooling", dtype=torch.float32)
    items = dataset(dtype=torch.float32)
    settings = {"folder": tmp_path / "kept"} if kept else {}
    whole = made(model, layer, items)
    half = made(model, layer, items, dtype=torch.float16, **settings)
    half.save(tmp_path / "saved")
    for bank in (half, FeatureBank.load(tmp_path / "saved"), *([FeatureBank.load(tmp_path / "kept")] if kept else [])):
        assert torch.equal(bank.means, whole.means)
        for sequence, cells in whole.cells.items():
            assert bank.cells[sequence].nbytes * 2 == cells.nbytes
            assert torch.equal(bank.cells[sequence], cells.half())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_half_precision_changes_a_purity_by_at_most_a_thousandth(scheme):
    """With a relative rounding of 2⁻¹¹, an orthogonal `U` turns a unit vector by at most twice as much."""
    model, layer = build("pooling", dtype=torch.float32)
    items = [(clip, 0) for clip in clips(64, dtype=torch.float32)]
    whole, half = (made(model, layer, items, dtype=dtype) for dtype in (None, torch.float16))
    noise = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    U = torch.linalg.qr(noise)[0]
    bases = [basis_from_matrix(bank, scheme, U, n_prototypes=16) for bank in (whole, half)]
    for side in ("positive", "negative"):
        exact, rounded = (getattr(basis, side) for basis in bases)
        assert torch.equal(exact.indices, rounded.indices)
        same_peaks = (exact.peaks == rounded.peaks).all(-1)
        assert same_peaks.float().mean() > 0.95
        difference = (exact.purities - rounded.purities).abs()
        assert 0 < difference[same_peaks].max() <= 2 * 2**-11
        assert difference.max() < 0.05


def test_fits_on_half_precision_reach_the_purity_of_others():
    model, layer = build("pooling", dtype=torch.float32)
    items = [(clip, 0) for clip in clips(64, dtype=torch.float32)]
    banks = [made(model, layer, items, dtype=dtype) for dtype in (None, torch.float16)]
    fits = [fit_basis(bank, "square", epochs=4, n_prototypes=(8, 4)) for bank in banks]
    assert all(fit.U.dtype == torch.float32 for fit in fits)
    exact, rounded = (fit.purity_history for fit in fits)
    assert exact[-1] - exact[0] > 0.02
    torch.testing.assert_close(rounded, exact, rtol=0, atol=2e-3)


def test_what_half_precision_cannot_hold_is_refused(tmp_path):
    model, layer = build("pooling")
    hook = layer.register_forward_hook(
        lambda _, __, output: output + 1e5 * (torch.arange(len(output)) == 2).view(-1, 1, 1, 1)
    )
    for settings in ({}, {"folder": tmp_path}):
        with pytest.raises(
            ValueError, match=r"'features' in half precision \(up to 65,504; leave out `dtype`\) of clip 2"
        ):
            made(model, layer, dataset(), batch_size=4, dtype=torch.float16, **settings)
    hook.remove()
    with pytest.raises(ValueError, match=r"expected `dtype` to be torch\.float16, or None .* but got torch\.bfloat16"):
        made(model, layer, dataset(), dtype=torch.bfloat16)
