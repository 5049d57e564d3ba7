"""The benchmark's runner, evidence figures, report and command line, on a small subject."""

import json
import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from benchmarks import __main__ as command_line
from benchmarks import report, speed, subject
from benchmarks.classifiers import PlainCNN
from benchmarks.evidence import findings, probability_drop
from benchmarks.methods import METHODS, Method, Query
from benchmarks.runner import Settings, run
from benchmarks.statistics import interval
from benchmarks.tasks.scenes import make_scenes
from captum_apex import SCHEMES, FeatureBank, basis_from_matrix, fit_basis
from captum_apex.masking import FILLS, GRIDS, mean_fill, named_grid
from captum_apex.metrics import deletion, insertion

SMALL = Settings(clips=4, points=3)


@pytest.fixture(scope="module")
def small():
    """An untrained network on a few scenes, with bases hardly fitted: the numbers mean nothing, their bookkeeping does."""
    task = make_scenes(3, train_clips=24, test_clips=16)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PlainCNN(len(task.classes)).eval()
    bank = FeatureBank.from_dataset(model, model.features, task.train)
    bases = {scheme: fit_basis(bank, scheme, epochs=1, n_prototypes=(8, 2)) for scheme in SCHEMES}
    return subject.Subject(task, "cnn", model, bank, bases, seed=0)


@pytest.fixture(scope="module")
def rows(small):
    return list(run(small, SMALL))


def test_every_method_gives_a_row_for_every_clip_of_every_cell(rows):
    frame = report.rows_frame(rows)
    assert set(frame.method) == set(METHODS)
    counts = frame[frame["clip"] >= 0].groupby(["method", "grid", "fill"]).size()
    assert set(counts) == {4}
    assert len(counts) == len(METHODS) * len(GRIDS) * len(FILLS)
    assert frame[["deletion", "insertion"]].notna().all().all()


def test_rows_hold_the_areas_of_the_methods_own_map(small, rows):
    row = next(row for row in rows if (row.method, row.grid, row.fill) == ("energy", "frequency", "mean"))
    clip = small.task.test[row.clip][0][None]
    probability = nn.Sequential(small.model, nn.Softmax(1))
    settings = {"grid": named_grid("frequency", (64, 126)), "target": row.predicted, "points": 3, "seed": 0}
    assert row.deletion == pytest.approx(
        deletion(probability, clip, clip - small.task.silence, mean_fill(clip), **settings).item(), abs=1e-5
    )
    assert row.insertion == pytest.approx(
        insertion(probability, clip, clip - small.task.silence, mean_fill(clip), **settings).item(), abs=1e-5
    )
    assert row.label == small.task.test[row.clip][1]
    assert row.predicted == small.model(clip).argmax().item()


def test_a_run_repeats_and_leaves_model_and_generators_alone(small, rows):
    before = {name: tensor.clone() for name, tensor in small.model.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    settings = Settings(
        methods=["GradientShap", "KernelShap", "LRP", "DeepLift", "random"], grids=["time"], fills=["mean"], clips=4, points=3
    )
    again = list(run(small, settings))
    wanted = [row for row in rows if row.method in settings.methods and (row.grid, row.fill) == ("time", "mean")]
    assert [(row.method, row.clip, row.deletion, row.insertion) for row in again] == [
        (row.method, row.clip, row.deletion, row.insertion) for method in settings.methods for row in wanted if row.method == method
    ]
    assert all(torch.equal(tensor, before[name]) for name, tensor in small.model.state_dict().items())
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()  # noqa: NPY002


def broken(kind):
    def explain(query: Query):
        if kind == "raises TypeError":
            raise TypeError("Module LayerNorm has no rule")
        if kind == "raises":
            raise RuntimeError("two\nlines")
        if kind == "spoils":
            query.model.classifier.weight.data.zero_()
            query.inputs.zero_()
        values = torch.rand_like(query.inputs)
        return {
            "nan": values * torch.nan,
            "shape": values[:, :, :3],
            "constant": torch.ones_like(values),
            "incomplete": (values, values.sum((1, 2, 3)) * 0.5),
            "spoils": values,
        }[kind]

    return explain


@pytest.mark.parametrize(
    ("kind", "status", "scored"),
    [
        ("raises TypeError", "unsupported (Module LayerNorm has no rule)", False),
        ("raises", "error (two)", False),
        ("nan", "non-finite", False),
        ("shape", "bad shape ((4, 1, 3, 126))", False),
        ("constant", "degenerate (constant maps)", False),
        ("incomplete", "axiom violated (1.00)", True),
        ("spoils", "ok", True),
    ],
)
def test_a_method_that_fails_is_a_row_that_says_so_and_the_run_goes_on(small, rows, monkeypatch, kind, status, scored):
    monkeypatch.setitem(METHODS, "broken", Method(broken(kind)))
    got = list(run(small, Settings(["broken", "Saliency"], ["time"], ["mean"], clips=4, points=3)))
    own = [row for row in got if row.method == "broken"]
    assert {row.status for row in own} == {status}
    assert [row.clip >= 0 for row in own] == ([True] * 4 if scored else [False])
    assert all(math.isnan(row.deletion) != scored for row in own)
    saliency = [row.deletion for row in got if row.method == "Saliency"]
    assert saliency == [row.deletion for row in rows if (row.method, row.grid, row.fill) == ("Saliency", "time", "mean")]


def test_lrp_on_a_network_with_layer_norm_is_unsupported():
    """As Captum 0.9 has it: LRP knows no rule for LayerNorm or GELU, and says so."""
    from benchmarks.classifiers import convnext, explained_layer

    task = make_scenes(3, train_clips=8, test_clips=8)
    model = convnext(8).eval()
    bank = FeatureBank.from_dataset(model, explained_layer(model), task.train)
    bases = {scheme: basis_from_matrix(bank, scheme, torch.eye(bank.n_channels)) for scheme in SCHEMES}
    tiny = subject.Subject(task, "convnext", model, bank, bases, seed=0)
    got = list(run(tiny, Settings(["LRP", "APEX time"], ["time"], ["mean"], clips=2, points=2)))
    assert got[0].status.startswith("unsupported (Module of type")
    assert [row.status for row in got[1:]] == ["ok", "ok"]


def test_the_probability_lost_is_that_of_the_channels_removed(small):
    """By hand: subtract the chosen channels' part of the features, pool, classify."""
    inputs, basis = small.test_clips(4)[1], small.bases[SCHEMES[0]]
    model, U = small.model.double(), basis.U.double()
    try:
        Z = model.features(inputs.double())
        logits = model(inputs.double())
        lost = probability_drop(small, basis, inputs.double(), n_channels=3)
        for clip in range(4):
            target = logits[clip].argmax()
            pooled = Z[clip].mean((1, 2)) @ U.T
            contributions = (model.classifier.weight @ torch.linalg.inv(U))[target] * pooled
            able = [k for k in contributions.argsort(descending=True).tolist() if contributions[k] > 0 and pooled[k] > 0][:3]
            kept = pooled.clone()
            kept[able] = 0
            after = model.classifier(kept @ torch.linalg.inv(U).T).softmax(0)[target]
            assert lost[clip].item() == pytest.approx((logits[clip].softmax(0)[target] - after).item(), abs=1e-9)
    finally:
        model.float()


def test_findings_name_every_scheme_and_chance_is_the_mean_over_places(small):
    found = {finding.scheme: finding for finding in findings(small)}
    assert list(found) == list(SCHEMES)
    own = [i for i in range(16) if small.task.classes[small.task.test[i][1]] in ("low band", "high band")]
    chance = [small.task.truth(i).reshape(8, 8, 126).any(2).any(1).double().mean().item() for i in own]
    assert found["frequency"].on_truth_random == pytest.approx(sum(chance) / len(chance), abs=1e-9)


def test_a_map_that_is_the_truth_always_points_at_it(small):
    from benchmarks.evidence import _share_met, _strongest_places

    truths = [small.task.truth(i) for i in range(16)]
    for scheme in ("square", "time", "frequency"):
        places = _strongest_places(torch.stack(truths)[:, None].double(), SCHEMES[SCHEMES.index(scheme)], small.bases[scheme])
        assert _share_met(places, truths) == 1.0


def test_the_report_holds_what_a_run_found(small, rows, tmp_path):
    settings = {"task": "scenes", "network": "cnn", "seed": 0}
    text = report.write(tmp_path, rows, findings(small), settings)
    assert {path.name for path in tmp_path.iterdir()} == {"rows.csv", "curves.csv", "cells.csv", "evidence.csv", "figure.png", "run.json"}
    written = json.loads((tmp_path / "run.json").read_text())
    assert written["settings"] == settings
    assert written["versions"]["torch"] == torch.__version__.split("+")[0]
    frame, cells = pd.read_csv(tmp_path / "rows.csv"), pd.read_csv(tmp_path / "cells.csv")
    own = frame[(frame.method == "Saliency") & (frame.grid == "time") & (frame.fill == "mean")]
    cell = cells[(cells.method == "Saliency") & (cells.grid == "time") & (cells.fill == "mean")].iloc[0]
    assert cell.difference == pytest.approx((own.insertion - own.deletion).mean(), abs=1e-12)
    assert cell.low <= cell.difference <= cell.high
    curves = pd.read_csv(tmp_path / "curves.csv")
    first = curves[
        (curves.method == "Saliency") & (curves.grid == "time") & (curves.fill == "mean") & (curves["clip"] == own["clip"].iloc[0])
    ]
    assert np.trapezoid(first.deletion, first.fraction) == pytest.approx(own.deletion.iloc[0], abs=1e-5)
    assert all(name in text for name in METHODS)


def test_intervals_cover_the_mean_at_their_rate():
    """Of 200 samples from a normal distribution, about 95% of the intervals hold its mean."""
    random = np.random.default_rng(0)
    held = [low <= 1.0 <= high for low, high in (interval(random.normal(1.0, 2.0, 40), seed=i) for i in range(200))]
    assert 0.89 <= np.mean(held) <= 0.99


def test_the_command_line_runs_from_end_to_end(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command_line, "prepare", lambda *_, **__: small)
    arguments = [
        "run",
        "--methods",
        "APEX time",
        "random",
        "--grid",
        "time",
        "--fill",
        "mean",
        "--clips",
        "3",
        "--out",
        str(tmp_path / "out"),
    ]
    assert command_line.main(arguments) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == str(tmp_path / "out")
    assert any(line.startswith("APEX time ") for line in printed)
    settings = json.loads((tmp_path / "out" / "run.json").read_text())["settings"]
    assert (settings["clips"], settings["methods"], settings["grids"]) == (3, ["APEX time", "random"], ["time"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--clips", "0"], "expected a number of at least 1, but got 0"),
        (["run", "--points", "1"], "expected at least 2 points"),
        (["run", "--task", "birds"], "invalid choice: 'birds'"),
        (["run", "--methods", "Magic"], "invalid choice: 'Magic'"),
        (["run", "--device", "abacus"], "expected a device that is here, but got 'abacus'"),
    ],
)
def test_wrong_arguments_exit_with_2_and_say_why(arguments, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        command_line.main(arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_missing_recordings_exit_with_2_and_say_what_to_do(monkeypatch, capsys):
    monkeypatch.delenv("CAPTUM_APEX_DATA", raising=False)
    assert command_line.main(["run", "--task", "digits"]) == 2
    assert "CAPTUM_APEX_DATA" in capsys.readouterr().err


def test_list_names_everything(capsys):
    assert command_line.main(["list"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name}\n" in printed for name in (*METHODS, "scenes", "digits", "environment", "cnn", "convnext"))


def test_banks_and_bases_come_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CAPTUM_APEX_CACHE", str(tmp_path))
    monkeypatch.setattr(subject, "load_task", lambda name, seed: make_scenes(seed, train_clips=16, test_clips=8))
    monkeypatch.setattr(subject, "trained_classifier", lambda *_, **__: model)
    monkeypatch.setattr(subject, "FIT", {"epochs": 1, "n_prototypes": (4, 2)})
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = PlainCNN(8).eval()
    first = subject.prepare("scenes", "cnn")
    passes = []
    handle = model.register_forward_hook(lambda *_: passes.append(1))
    second = subject.prepare("scenes", "cnn")
    handle.remove()
    assert not passes
    assert torch.equal(first.bank.means, second.bank.means)
    assert all(torch.equal(first.bases[scheme].U, second.bases[scheme].U) for scheme in SCHEMES)
    other = subject.prepare("scenes", "cnn", seed=1)
    assert not torch.equal(first.bank.means, other.bank.means)


def test_speed_measures_everything_it_promises(monkeypatch):
    monkeypatch.setattr(speed, "FIT_CLIPS", 100)
    monkeypatch.setattr(speed, "BATCH", 2)
    timings = speed.measure(repeats=1)
    assert [timing.limit for timing in timings] == [1.5, 1.0, 1.1, 1.15] * 2 + [15.0, 4.0, 4.0, 4.0]
    assert all(timing.seconds > 0 for timing in timings)
    printed = speed.table(timings)
    assert all(timing.what in printed for timing in timings)


def test_the_library_imports_neither_torchaudio_nor_the_benchmarks():
    """Captum itself imports matplotlib; our own modules do not."""
    code = "import captum_apex, sys; print([name for name in ('torchaudio', 'benchmarks', 'pandas', 'timm') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
