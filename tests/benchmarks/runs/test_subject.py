"""What a run explains comes from the cache where it was made before."""

import inspect
import re
import subprocess
import sys

import pandas as pd
import pytest
import torch

from benchmarks.classifiers.networks import PlainCNN, convnext
from benchmarks.experiments.norm_place import norm_place_table, place_lines
from benchmarks.runs import subject
from benchmarks.runs.stage import Stage
from benchmarks.tasks.scenes import make_scenes
from captum_apex import SCHEMES, FeatureBank, insert_basis


@pytest.fixture
def small_run(tmp_path, monkeypatch):
    """Function that sets up a run on few clips, with an untrained network and an empty cache; it gives the network."""

    def set_up(network):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = network(8).eval()
        monkeypatch.setenv("CAPTUM_APEX_CACHE", str(tmp_path))
        monkeypatch.setattr(subject, "load_task", lambda name, seed: make_scenes(seed, train_clips=16, test_clips=8))
        monkeypatch.setattr(subject, "trained_classifier", lambda *_, **__: model)
        monkeypatch.setattr(subject, "FIT", {"epochs": 1, "n_prototypes": (4, 2)})
        return model

    return set_up


def test_banks_and_bases_come_from_the_cache(tmp_path, small_run):
    model = small_run(PlainCNN)
    first = subject.prepare("scenes", "cnn")
    passes = []
    handle = model.register_forward_hook(lambda *_: passes.append(1))
    second = subject.prepare("scenes", "cnn")
    handle.remove()
    assert not passes
    assert torch.equal(first.bank.means, second.bank.means)
    assert all(torch.equal(first.bases[scheme].U, second.bases[scheme].U) for scheme in SCHEMES)
    for path in [next(tmp_path.glob("bank/*/means*")), next(tmp_path.glob("basis/*"))]:
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.warns(UserWarning, match="cannot be used .*making it again") as warned:
        third = subject.prepare("scenes", "cnn")
    assert len(warned) == 2
    assert torch.equal(first.bank.means, third.bank.means)
    assert all(torch.equal(first.bases[scheme].U, third.bases[scheme].U) for scheme in SCHEMES)
    other = subject.prepare("scenes", "cnn", seed=1)
    assert not torch.equal(first.bank.means, other.bank.means)


def test_places_are_those_that_a_bank_finds(small_run):
    small_run(convnext)
    placed = subject.prepare("scenes", "convnext")
    wanted = FeatureBank.from_dataset(placed.model, placed.layer, placed.task.train).origin
    assert wanted.places.time is not None
    assert placed.bank.origin.places == wanted.places
    assert {basis.origin.places for basis in placed.bases.values()} == {wanted.places}
    assert subject.fitted(placed, "time", orthogonal=False).origin.places == wanted.places
    assert subject.fitted(placed, "time", orthogonal=False).origin.places == wanted.places  # from the cache
    assert Stage.of(placed, 2).query(torch.zeros(64, 126, dtype=torch.int64), torch.zeros(())).places == wanted.places


def test_the_place_of_the_norm_is_in_the_key(small_run):
    model = small_run(convnext)
    at_layer = subject.prepare("scenes", "convnext")
    at_norm = subject.prepare("scenes", "convnext", at_norm=True)
    assert at_layer.norm is None
    assert at_norm.norm is model.head.norm
    assert not torch.equal(at_layer.bank.means, at_norm.bank.means)
    inside = subject.with_spectrogram_inside(subject.replace(at_norm, task=subject.load_task("scenes", 0)))
    assert inside.norm is inside.model.get_submodule(inside.bank.origin.norm)
    assert inside.norm.weight.shape == model.head.norm.weight.shape
    lines = place_lines(at_norm)
    assert list(lines["scheme"]) == [str(scheme) for scheme in SCHEMES]
    for scheme, line in zip(SCHEMES, lines.itertuples(), strict=True):
        basis = at_norm.bases[scheme]
        assert line.purity == basis.purity_history[-1].item()
        assert line.removed == pytest.approx(removed(model, basis, at_norm.task), abs=1e-6)

    both = norm_place_table(["scenes"])
    assert list(both["place"]) == ["layer"] * 4 + ["norm"] * 4
    pd.testing.assert_frame_equal(both[4:].drop(columns=["task", "place", "seed"]).reset_index(drop=True), lines)


def removed(model, basis, task):
    """By how much the probability falls without the five strongest channels, from the copy with the basis inside."""
    inputs = torch.stack([clip for clip, _ in (task.test[index] for index in range(len(task.test)))])
    copy = insert_basis(model, model.stages[-1], basis, inputs)
    with torch.no_grad():
        before = model(inputs).softmax(1)
        target = before.argmax(1)
        pooled = copy.stages[-1](copy.stages[:-1](copy.stem(inputs))).mean((2, 3))
        contributions = pooled * copy.head.fc.weight[target]
        drops = []
        for clip in range(len(inputs)):
            able = [k for k in range(pooled.shape[1]) if contributions[clip, k] > 0 and pooled[clip, k] > 0]
            strongest = sorted(able, key=lambda k: -contributions[clip, k])[:5]
            pooled[clip, strongest] = 0
            after = copy.head.fc(pooled[clip]).softmax(0)
            drops.append((before[clip, target[clip]] - after[target[clip]]).item())
    return sum(drops) / len(drops)


COMPUTES_NO_FEATURES = {
    "captum_apex.layers.models",  # its results are in the key
    "captum_apex.layers.chosen_run",  # it finds modules by their names
    "captum_apex.layers.kinds",  # it refuses layouts
    "captum_apex.layers.input_summaries",  # it notices other inputs
    "captum_apex.layers.cell_places",  # it is for regions and maps
    "captum_apex.layers.placing",
    "captum_apex.layers.suggestions",  # it is for the messages of errors
    "captum_apex.bases.fit_progress",
    "captum_apex.bases.summaries",  # it is for what is printed
}


def test_cached_features_and_bases_depend_on_all_code_that_computes_them():
    """Every module of `bases` and `layers` that these import, but for those that compute no features."""
    for package in ("bases", "layers"):
        modules = {name for module in subject.CODE for name in imports_of(module, f"captum_apex.{package}")}
        assert modules - COMPUTES_NO_FEATURES <= {module.__name__ for module in subject.CODE}


def imports_of(module, package):
    """Names of the modules of a package that a module imports."""
    found = re.findall(rf"^from ({re.escape(package)}\.\w+) import", inspect.getsource(module), flags=re.MULTILINE)
    return set(found)


def test_the_library_imports_neither_torchaudio_nor_the_benchmarks():
    """Captum itself imports matplotlib; our own modules do not."""
    names = ("torchaudio", "benchmarks", "pandas", "timm")
    code = f"import captum_apex, sys; print([name for name in {names} if name in sys.modules])"
    imported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert imported.stdout.strip() == "[]"
