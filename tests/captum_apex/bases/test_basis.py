"""The fitted artefact: what it accepts, and that a file gives back the same or an error that names it."""

import json
import os
import pathlib
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from captum_apex import FeatureBank, LayerAPEX, PrototypeBasis, Prototypes, fit_basis
from captum_apex.bases.basis import _N_NO_SOUNDS
from captum_apex.files import read_tensors, write_tensors
from captum_apex.locating.nothing import NO_SOUNDS
from tests.networks import build, clips


@pytest.fixture(scope="module")
def fitted():
    model, layer = build("layer norm", dtype=torch.float32)
    dataset = [(clip, i % 3) for i, clip in enumerate(clips(20, dtype=torch.float32))]
    bank = FeatureBank.from_dataset(model, layer, dataset)
    return model, layer, fit_basis(bank, "time-frequency", epochs=2, n_prototypes=(4, 3))


def test_saving_and_loading_gives_the_same_basis(fitted, tmp_path):
    model, layer, basis = fitted
    basis.save(tmp_path / "time.safetensors")
    again = PrototypeBasis.load(tmp_path / "time.safetensors")
    assert (again.scheme, again.origin) == (basis.scheme, basis.origin)
    assert torch.equal(again.U, basis.U)
    assert torch.equal(again.purity_history, basis.purity_history)
    for side in ("positive", "negative"):
        for name in ("indices", "activations", "purities", "peaks", "labels"):
            assert torch.equal(getattr(getattr(again, side), name), getattr(getattr(basis, side), name))
    inputs = clips(dtype=torch.float32)
    assert torch.equal(
        LayerAPEX(model, layer, again).attribute(inputs, 1), LayerAPEX(model, layer, basis).attribute(inputs, 1)
    )
    assert os.listdir(tmp_path) == ["time.safetensors"]


def test_an_interrupted_save_leaves_the_old_file_whole(fitted, tmp_path, monkeypatch):
    path = tmp_path / "basis.safetensors"
    fitted[2].save(path)
    before = path.read_bytes()

    def interrupted(beside, content):
        with open(beside, "wb") as file:
            file.write(content[: len(content) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(pathlib.Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        PrototypeBasis(torch.eye(3), "time").save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["basis.safetensors"]


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_a_truncated_file_is_an_error_that_names_it(fitted, tmp_path, keep):
    path = tmp_path / "cut.safetensors"
    fitted[2].save(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="cut.safetensors to be a captum-apex basis, but it cannot be read"):
        PrototypeBasis.load(path)


def test_foreign_files_are_errors_that_name_them(tmp_path):
    (tmp_path / "pickled.pt").write_bytes(b"\x80\x04\x95 not a basis")
    save_file({"U": torch.eye(3)}, tmp_path / "other.safetensors")
    save_file(
        {"weight": torch.eye(3)},
        tmp_path / "odd.safetensors",
        {"format": "captum-apex basis 1", "about": json.dumps({"scheme": "time"})},
    )
    for name in ("pickled.pt", "other.safetensors", "odd.safetensors"):
        with pytest.raises(ValueError, match=name):
            PrototypeBasis.load(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="expected a basis file at .*nowhere"):
        PrototypeBasis.load(tmp_path / "nowhere")


def test_a_file_with_nan_is_an_error_that_names_file_and_entry(fitted, tmp_path):
    basis = fitted[2]
    basis.save(tmp_path / "basis.safetensors")
    basis.U.data[0, 0], entry = torch.nan, basis.U[0, 0].item()
    basis.save(tmp_path / "nan.safetensors")
    basis.U.data[0, 0] = entry
    with pytest.raises(ValueError, match=r"nan.safetensors .* expected `U` to be finite"):
        PrototypeBasis.load(tmp_path / "nan.safetensors")


def test_a_loaded_basis_is_no_mapping_of_its_file(fitted, tmp_path):
    path = tmp_path / "basis.safetensors"
    fitted[2].save(path)
    loaded = PrototypeBasis.load(path)
    path.write_bytes(bytes(path.stat().st_size))
    os.truncate(path, 0)
    assert torch.equal(loaded.U, fitted[2].U)
    for name, tensor in vars(fitted[2].positive).items():
        assert tensor is None or torch.equal(getattr(loaded.positive, name), tensor)


def test_a_basis_keeps_the_permissions_of_its_file(fitted, tmp_path):
    path = tmp_path / "basis.safetensors"
    fitted[2].save(path)
    path.chmod(0o600)
    fitted[2].save(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_sides_that_share_their_prototypes_are_saved(fitted, tmp_path):
    both = replace(fitted[2], negative=fitted[2].positive)
    both.save(tmp_path / "both.safetensors")
    assert torch.equal(PrototypeBasis.load(tmp_path / "both.safetensors").negative.peaks, both.positive.peaks)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("purities", 1.01, "`positive.purities` to lie between -1 and 1"),
        ("peaks", 100, "`positive.peaks` to be cells of a grid of 4 rows and 5 columns, but they reach to 100"),
        ("columns", 6, "`positive.columns` to lie between 1 and 5"),
        ("columns", 0, "`positive.columns` to lie between 1 and 5"),
        ("fires_on", 5, "`positive.fires_on` to lie between -1 and 4"),
        ("boxes", 1.5, "`positive.boxes` to lie between 0 and 1"),
        ("boxes", -0.5, "`positive.boxes` to lie between 0 and 1"),
        ("boxes", 0.0, "`positive.boxes` to end behind their beginning"),
    ],
)
def test_values_out_of_range_are_refused(fitted, name, value, message):
    """A bit of a file without a checksum may have changed; a region outside the clip would be shown all the same."""
    basis = fitted[2]
    shape = tuple(basis.positive.indices.shape)
    known = {
        "columns": torch.full(shape, 5),
        "fires_on": torch.zeros(shape, dtype=torch.int64),
        "boxes": torch.tensor([0.0, 0.5, 0.25, 0.75]).expand(*shape, 1, 4),
    }
    located = replace(basis, positive=replace(basis.positive, **known))
    tensor = getattr(located.positive, name).clone()
    tensor.view(-1)[-1] = value
    with pytest.raises(ValueError, match=message):
        replace(located, positive=replace(located.positive, **{name: tensor}))


def test_the_number_of_what_a_channel_fires_on_is_that_of_its_names():
    assert len(NO_SOUNDS) == _N_NO_SOUNDS


def test_values_of_another_type_are_refused(fitted):
    basis = fitted[2]
    for name, message in {
        "purities": "to be floats",
        "fires_on": "to be torch.int64",
        "columns": "to be torch.int64",
    }.items():
        odd = torch.zeros(basis.positive.indices.shape, dtype=torch.int32)
        with pytest.raises(ValueError, match=f"`positive.{name}` {message}, but got torch.int32"):
            replace(basis, positive=replace(basis.positive, **{name: odd}))
    with pytest.raises(ValueError, match=r"`purity_history` \(epoch,\), but got shape \(1, 2\)"):
        PrototypeBasis(torch.eye(3), "time", purity_history=torch.zeros(1, 2))
    with pytest.raises(ValueError, match="`purity_history` to lie between -1 and 1, but they reach from 0.0 to 3.0"):
        PrototypeBasis(torch.eye(3), "time", purity_history=torch.tensor([0.0, 3.0]))


def test_a_file_without_a_checksum_loads(fitted, tmp_path):
    path = tmp_path / "basis.safetensors"
    fitted[2].save(path)
    tensors, metadata = read_tensors(path, {"captum-apex basis 2": True})
    save_file(tensors, path, {**metadata, "format": "captum-apex basis 1"})
    assert torch.equal(PrototypeBasis.load(path).U, fitted[2].U)
    save_file(tensors, path, metadata)
    with pytest.raises(ValueError, match=r"basis.safetensors .* its checksum is that of other content"):
        PrototypeBasis.load(path)


@pytest.mark.parametrize(
    "change", [{"grid": [0, 3]}, {"grid": [1, 2, 3]}, {"layer": 3}, {"n_clips": "many"}, {"input_shape": ["a"]}]
)
def test_a_record_of_the_layer_of_another_kind_is_refused(tmp_path, change):
    path = tmp_path / "basis.safetensors"
    PrototypeBasis(torch.eye(3), "time").save(path)
    tensors, metadata = read_tensors(path, {"captum-apex basis 2": True})
    about = json.loads(metadata["about"])
    about["origin"] |= change
    write_tensors(path, tensors, {**metadata, "about": json.dumps(about)})
    with pytest.raises(ValueError, match="basis.safetensors to be a captum-apex basis, but it cannot be read"):
        PrototypeBasis.load(path)


def test_matrices_that_are_no_basis_are_refused():
    with pytest.raises(
        ValueError, match=r"expected `U` to be a square matrix of floats, but got torch.float32 of shape \(2, 3\)"
    ):
        PrototypeBasis(torch.zeros(2, 3), "time")
    with pytest.raises(ValueError, match="expected `U` to be invertible"):
        PrototypeBasis(torch.zeros(3, 3), "time")
    with pytest.raises(ValueError, match="expected a scheme to be one of"):
        PrototypeBasis(torch.eye(3), "pitch")


def test_prototypes_must_fit_the_basis():
    def prototypes(indices):
        shape = indices.shape
        return Prototypes(indices, torch.zeros(shape), torch.zeros(shape), torch.zeros(*shape, 1, dtype=torch.int64))

    with pytest.raises(ValueError, match="with 3 channels, but got torch.int64 of shape"):
        PrototypeBasis(torch.eye(3), "time", prototypes(torch.zeros(2, 4, dtype=torch.int64)))
    with pytest.raises(ValueError, match=r"`positive.peaks` of shape \(3, 4, 2\), but got \(3, 4, 1\)"):
        PrototypeBasis(torch.eye(3), "time-frequency", prototypes(torch.zeros(3, 4, dtype=torch.int64)))
    with pytest.raises(ValueError, match="reach from -1 to -1"):
        PrototypeBasis(torch.eye(3), "time", prototypes(-torch.ones(3, 4, dtype=torch.int64)))


def with_many_classes(n_classes=9736, n_channels=24, dtype=torch.float32):
    """A basis whose prototypes have one to three of many classes each."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(n_channels, 5, n_classes, dtype=dtype)
    for _ in range(3):
        places = torch.randint(n_classes, (n_channels, 5, 1), generator=generator)
        labels.scatter_(2, places, 1)
    of_clips = torch.rand(n_channels, 5, generator=generator)
    peaks = torch.zeros(n_channels, 5, 1, dtype=torch.int64)
    indices = torch.randint(40, (n_channels, 5), generator=generator)
    prototypes = Prototypes(indices, of_clips, of_clips, peaks, labels)
    return PrototypeBasis(torch.eye(n_channels), "time", prototypes, replace(prototypes, labels=labels.flip(0)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bool])
def test_labels_of_many_classes_are_stored_without_their_zeros(tmp_path, dtype):
    basis = with_many_classes(dtype=dtype)
    basis.save(tmp_path / "many.safetensors")
    again = PrototypeBasis.load(tmp_path / "many.safetensors")
    for side in ("positive", "negative"):
        stored, expected = getattr(again, side).labels, getattr(basis, side).labels
        assert stored.dtype == dtype
        assert torch.equal(stored, expected)
    assert os.path.getsize(tmp_path / "many.safetensors") < basis.positive.labels.nbytes / 20


def test_files_with_all_zeros_load_as_before(tmp_path):
    basis = with_many_classes(n_classes=50)
    sparse, dense = tmp_path / "sparse.safetensors", tmp_path / "dense.safetensors"
    basis.save(sparse)
    _, metadata = read_tensors(sparse, {"captum-apex basis 3": True})
    entries = {
        f"{side}.{name}": getattr(getattr(basis, side), name)
        for side in ("positive", "negative")
        for name in ("indices", "activations", "purities", "peaks", "labels")
    }
    write_tensors(
        dense,
        {"U": basis.U, "purity_history": basis.purity_history, **entries},
        {**metadata, "format": "captum-apex basis 2"},
    )
    assert torch.equal(PrototypeBasis.load(dense).positive.labels, PrototypeBasis.load(sparse).positive.labels)


def test_a_basis_with_few_classes_is_a_file_that_earlier_versions_read(fitted, tmp_path):
    fitted[2].save(tmp_path / "few.safetensors")
    assert read_tensors(tmp_path / "few.safetensors", {"captum-apex basis 2": True})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("places", lambda tensor: tensor + 10**9, "places in `positive.labels`"),
        ("places", lambda tensor: tensor - 10**9, "places in `positive.labels`"),
        ("places", lambda tensor: tensor[:-1], "a place for each value"),
        ("places", lambda tensor: tensor.float(), "a place for each value"),
        ("shape", lambda tensor: tensor[:2], "three sizes"),
        ("shape", lambda tensor: tensor * torch.tensor([2, 1, 1]), "expected `positive.labels` of shape"),
        ("shape", lambda tensor: tensor * 10**5, "expected at most 4,294,967,296 values of `positive.labels`"),
        ("shape", lambda tensor: tensor - 10**5, "three sizes"),
        ("values", lambda _: None, "cannot be read"),
    ],
)
def test_damaged_sparse_labels_are_refused(tmp_path, name, change, message):
    path = tmp_path / "many.safetensors"
    with_many_classes().save(path)
    tensors, metadata = read_tensors(path, {"captum-apex basis 3": True})
    changed = change(tensors.pop(f"positive.labels.{name}"))
    tensors |= {} if changed is None else {f"positive.labels.{name}": changed}
    write_tensors(path, tensors, metadata)
    with pytest.raises(ValueError, match=message):
        PrototypeBasis.load(path)
