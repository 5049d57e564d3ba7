"""The fitted artefact: what it accepts, and that a file gives back the same or an error that names it."""

import json
import os
import pathlib

import pytest
import torch
from safetensors.torch import save_file

from captum_apex import FeatureBank, LayerAPEX, PrototypeBasis, Prototypes, fit_basis
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


def test_matrices_that_are_no_basis_are_refused():
    with pytest.raises(
        ValueError, match=r"expected `U` to be a square matrix of floats, but got torch.float32 of shape \(2, 3\)"
    ):
        PrototypeBasis(torch.zeros(2, 3), "time")
    with pytest.raises(ValueError, match="expected `U` to be invertible"):
        PrototypeBasis(torch.zeros(3, 3), "time")
    with pytest.raises(ValueError, match="expected a scheme among"):
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
