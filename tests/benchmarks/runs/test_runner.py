"""Jobs, statuses, prices, and runs that are interrupted."""

import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from captum.attr import Saliency
from captum.metrics import sensitivity_max
from torch import nn

from benchmarks.classifiers.networks import convnext, explained_layer
from benchmarks.methods import CLIPS_AT_ONCE, METHODS, Method, Query
from benchmarks.runs import runner, scoring
from benchmarks.runs.maps import RADIUS, Map, RegionSums, run_method, time_limit
from benchmarks.runs.results import Results
from benchmarks.runs.rows import COLUMNS, Cell
from benchmarks.runs.runner import Job, Settings, default_methods, run
from benchmarks.runs.scoring import SCORES, _fidelity, masked_logits, score_methods
from benchmarks.runs.stage import Stage
from benchmarks.runs.subject import Subject
from benchmarks.runs.workers import started
from captum_apex import SCHEMES, FeatureBank, basis_from_matrix
from captum_apex.masking.fills import mean_fill
from captum_apex.masking.grids import GRIDS, named_grid, region_sums
from captum_apex.metrics import deletion, insertion
from tests.small import small_subject

QUICK = ("energy", "random", "Saliency", "APEX time", "FeatureAblation")
KEY = {"task": "small"}
DELTA = "expected a delta of shape (4,), a real number for each clip"


@pytest.fixture(scope="module")
def small():
    return small_subject()


def about(settings):
    names = {"methods": settings.methods, "grids": settings.grids, "fills": settings.fills}
    return names | {"command": "run", "reference": "energy", "sources": {}}


def scores(subject, settings, folder, **options):
    results = Results.open(folder, KEY, about(settings))
    run(subject, settings, results, **options)
    return pd.read_csv(results.collect())


@pytest.fixture(scope="module")
def quick(small, tmp_path_factory):
    return scores(small, Settings(QUICK, clips=4, points=4), tmp_path_factory.mktemp("runs") / "quick")


def test_every_cell_has_a_row_for_every_clip(quick):
    assert tuple(quick.columns) == COLUMNS
    counts = quick.groupby(["method", "grid", "fill"]).size()
    assert set(counts) == {4}
    assert len(counts) == len(QUICK) * len(GRIDS) * 2
    assert set(quick.status) == {"ok"}
    assert quick.sensitivity.isna().all()
    assert quick.drop(columns=["sensitivity", "relevance_mass"]).notna().all().all()
    assert (
        quick[quick.method == "energy"].relevance_mass.notna().all()
    )  # another's map may have nothing positive to have a share of


def test_rows_hold_the_areas_of_the_methods_own_map(small, quick):
    row = quick[(quick.method == "energy") & (quick.grid == "frequency") & (quick.fill == "mean")].iloc[1]
    clip = small.task.test[row["clip"]][0][None]
    settings = {"grid": named_grid("frequency", (64, 126)), "target": int(row.predicted), "points": 4, "seed": 0}
    arguments = (clip, clip - small.task.silence, mean_fill(clip))
    for suffix, score in SCORES.items():
        model = nn.Sequential(small.model)
        model.register_forward_hook(lambda module, inputs, logits, score=score: score(logits))
        assert row[f"deletion{suffix}"] == pytest.approx(deletion(model, *arguments, **settings).item(), abs=1e-5)
        assert row[f"insertion{suffix}"] == pytest.approx(insertion(model, *arguments, **settings).item(), abs=1e-5)
    curve = np.array(row.deletion_curve.split(), float)
    assert np.trapezoid(curve, np.array(row.fraction.split(), float)) == pytest.approx(row.deletion, abs=1e-6)
    assert row.aopc == pytest.approx((curve[0] - curve[1:]).mean(), abs=1e-6)
    assert row.label == small.task.test[row["clip"]][1]
    assert row.predicted == small.model(clip).argmax().item()


def test_pointing_is_where_the_largest_value_lies(small, quick):
    for _, row in quick[(quick.method == "energy") & (quick.grid == "time") & (quick.fill == "mean")].iterrows():
        clip, truth = small.task.test[row["clip"]][0][0], small.task.truth(row["clip"])
        largest = clip == clip.max()
        assert row.pointing == pytest.approx((largest & truth).sum().item() / largest.sum().item())
        energy = (clip - small.task.silence).clamp_min(0)
        assert row.relevance_mass == pytest.approx((energy[truth].sum() / energy.sum()).item(), rel=1e-5)


def test_jobs_share_a_map_where_it_depends_on_neither_grid_nor_fill():
    cells = Settings(("energy", "FeatureAblation", "IntegratedGradients")).cells
    sizes = {job.cells[0].method: [] for job in Job.plan(cells)}
    for job in Job.plan(cells):
        sizes[job.cells[0].method].append(len(job.cells))
    assert sizes == {"energy": [6], "FeatureAblation": [1] * 6, "IntegratedGradients": [3] * 2}


def test_the_rows_do_not_depend_on_the_number_of_processes(small, quick, tmp_path):
    methods = ("Saliency", "APEX time", "random")
    several = scores(small, Settings(methods, clips=4, points=4), tmp_path / "two", jobs=2)
    pd.testing.assert_frame_equal(several.drop(columns="seconds"), of_methods(quick, methods), check_exact=True)


def of_methods(rows, methods):
    return pd.concat([rows[rows.method == name] for name in methods], ignore_index=True).drop(columns="seconds")


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from benchmarks.methods import method
from benchmarks.runs.results import Results
from benchmarks.runs.runner import Settings, run
from tests.small import small_subject
from tests.benchmarks.runs.test_runner import about
settings = Settings({methods!r}, clips=4, points=4)
run(small_subject(), settings, Results.open(Path({folder!r}), {key!r}, about(settings)))
"""


def test_a_run_that_was_killed_goes_on_where_it_stopped(small, quick, tmp_path):
    folder = tmp_path / "run"
    code = KILLED.format(root=os.getcwd(), methods=QUICK, folder=str(folder), key=KEY)
    process = subprocess.Popen([sys.executable, "-c", code])
    cells = folder / "cells"
    while process.poll() is None and len(list(cells.glob("*.csv"))) < 8:
        time.sleep(0.005)
    process.kill()
    process.wait()
    finished = {path.name: path.stat().st_mtime_ns for path in cells.glob("*.csv")}
    assert 8 <= len(finished) < len(quick) // 4, "it was killed in the middle"
    assert all(len(pd.read_csv(cells / name, skiprows=1)) == 4 for name in finished)
    rows = scores(small, Settings(QUICK, clips=4, points=4), folder)
    assert {name: (cells / name).stat().st_mtime_ns for name in finished} == finished
    pd.testing.assert_frame_equal(rows.drop(columns="seconds"), quick.drop(columns="seconds"), check_exact=True)


def test_a_map_that_is_deleted_before_its_score_is_said_and_made_again(small, quick, tmp_path, monkeypatch):
    settings = Settings(("energy", "Saliency"), ("time",), ("mean",), clips=4, points=4)
    folder, jobs = tmp_path / "run", runner._scoring_calls

    def deleted_first(*arguments):
        for path in (folder / "sums").glob("Saliency*"):
            path.unlink()
        return jobs(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "_scoring_calls", deleted_first)
        with pytest.warns(UserWarning, match="the map of Saliency, time, mean was deleted"):
            assert set(scores(small, settings, folder).method) == {"energy"}
    rows = scores(small, settings, folder)
    expected = quick[quick.method.isin(settings.methods) & (quick.grid == "time") & (quick.fill == "mean")]
    pd.testing.assert_frame_equal(
        rows.drop(columns="seconds"), expected.drop(columns="seconds").reset_index(drop=True), check_exact=True
    )


def test_a_finished_run_asks_the_model_for_nothing(small, tmp_path):
    settings = Settings(("energy",), ("time",), ("mean",), clips=2, points=3)
    scores(small, settings, tmp_path / "run")
    handle = small.model.register_forward_pre_hook(lambda *_: pytest.fail("the model was run"))
    try:
        scores(small, settings, tmp_path / "run")
    finally:
        handle.remove()


def test_a_run_leaves_model_and_generators_alone(small, tmp_path):
    before = {name: tensor.clone() for name, tensor in small.model.state_dict().items()}
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    threads = torch.get_num_threads()
    names = ("GradientShap", "KernelShap", "LRP", "DeepLift", "random")
    first = scores(small, Settings(names, ("time",), ("mean",), clips=4, points=3), tmp_path / "a")
    again = scores(small, Settings(names[::-1], ("time",), ("mean",), clips=4, points=3), tmp_path / "b")
    pd.testing.assert_frame_equal(of_methods(again, names), first.drop(columns="seconds"), check_exact=True)
    assert all(torch.equal(tensor, before[name]) for name, tensor in small.model.state_dict().items())
    assert torch.equal(states[0], torch.get_rng_state())
    assert (states[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert torch.get_num_threads() == threads


def broken(kind):
    def explain(query: Query):
        if kind == "raises TypeError":
            raise TypeError("Module LayerNorm has no rule")
        if kind == "raises":
            raise RuntimeError("two\nlines")
        if kind == "memory":
            raise MemoryError("no room")
        if kind == "key":
            return {}["weights"]
        if kind == "exits":
            sys.exit(3)
        if kind == "slow":
            try:
                time.sleep(20)
            except Exception:
                pytest.fail("a method could swallow the interruption")
        if kind == "allocates":
            torch.empty(2**50)
        if kind == "spoils":
            query.model.classifier.weight.data.zero_()
            query.bases[SCHEMES[1]].U.zero_()
            query.inputs.zero_()
        values = torch.rand_like(query.inputs)
        return {
            "nan": values * torch.nan,
            "shape": values[:, :, :3],
            "numpy": values.numpy(),
            "1-tuple": (values,),
            "float delta": (values, 0.5),
            "constant": torch.ones_like(values),
            "complex": values.to(torch.complex64),
            "long delta": (values, torch.zeros(2 * len(values))),
            "complex delta": (values, torch.zeros(len(values), dtype=torch.complex64)),
            "incomplete": (values, values.sum((1, 2, 3)) * 0.5),
            "spoils": values,
        }[kind]

    return explain


@pytest.mark.parametrize(
    ("kind", "status", "scored"),
    [
        ("raises TypeError", "unsupported (Module LayerNorm has no rule)", False),
        ("raises", "error (two)", False),
        ("memory", "out of memory (no room)", False),
        ("slow", "timeout (more than 0.3 s)", False),
        ("numpy", "error (expected a tensor, or a tensor and its delta, but got ndarray)", False),
        ("1-tuple", "error (expected a tensor, or a tensor and its delta, but got (Tensor))", False),
        ("float delta", "error (expected a tensor, or a tensor and its delta, but got (Tensor, float))", False),
        ("nan", "non-finite", False),
        ("shape", "bad shape ((4, 1, 3, 126); expected (4, 1, 64, 126))", False),
        ("constant", "degenerate (constant maps)", False),
        ("complex", "error (expected a map of real numbers, but got torch.complex64)", False),
        ("long delta", f"error ({DELTA}, but got (8,) of torch.float32)", False),
        ("complex delta", f"error ({DELTA}, but got (4,) of torch.complex64)", False),
        ("key", "error (KeyError: 'weights')", False),
        ("exits", "error (SystemExit: 3)", False),
        ("incomplete", "axiom violated (1.00)", True),
        ("spoils", "ok", True),
    ],
)
def test_a_method_that_fails_is_a_row_that_says_so_and_the_run_goes_on(
    small, quick, monkeypatch, tmp_path, kind, status, scored
):
    monkeypatch.setitem(METHODS, "broken", Method(("broken",), broken(kind)))
    limit = 0.3 if kind == "slow" else None
    got = scores(
        small, Settings(("broken", "energy"), ("time",), ("mean",), clips=4, points=4, limit=limit), tmp_path / "run"
    )
    own = got[got.method == "broken"]
    assert set(own.status) == {status}
    assert (own["clip"] >= 0).tolist() == ([True] * 4 if scored else [False])
    assert own.deletion.notna().tolist() == ([True] * 4 if scored else [False])
    wanted = quick[(quick.method == "energy") & (quick.grid == "time") & (quick.fill == "mean")]
    assert got[got.method == "energy"].deletion.tolist() == wanted.deletion.tolist()


def test_a_tensor_that_does_not_fit_is_out_of_memory(small):
    stage = Stage.of(small, 2)
    found = run_method(Method(("large",), broken("allocates")), stage.query(stage.grid("time"), stage.fill("mean")))
    assert found["large"].status.startswith("out of memory (")


def test_a_cell_that_cannot_be_scored_is_a_row_that_says_so(small, tmp_path, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    settings = Settings(("energy",), ("time",), ("mean",), clips=2, points=3)
    with monkeypatch.context() as broken:
        broken.setattr("benchmarks.runs.scoring.mixed_outputs", fails)
        rows = scores(small, settings, tmp_path / "run")
    assert rows.status.tolist() == ["out of memory ([enforce fail] DefaultCPUAllocator: can't allocate memory)"]
    assert scores(small, settings, tmp_path / "run").status.tolist() == rows.status.tolist()
    monkeypatch.setattr("benchmarks.runs.runner.run_method", lambda *_, **__: pytest.fail("the map was there"))
    again = scores(small, replace(settings, retry=True), tmp_path / "run")
    assert again.status.tolist() == ["ok", "ok"]


def test_a_mask_that_several_ask_about_costs_one_pass_and_says_the_same_to_each(small):
    stage = Stage.of(small, 2)
    grid, fill = stage.grid("time"), stage.fill("mean")
    shares = torch.rand(2, 40, 25, generator=torch.Generator().manual_seed(0), dtype=torch.float64).round()
    passes = []
    handle = small.model.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    twice = torch.cat([shares, shares.flip(1), shares[:, :3]], 1)
    try:
        once = masked_logits(stage, fill, grid, shares)
        assert passes == [CLIPS_AT_ONCE] * 4  # 40 masks of a clip are two batches
        again = masked_logits(stage, fill, grid, twice)
    finally:
        handle.remove()
    assert passes == [CLIPS_AT_ONCE] * 8
    assert torch.equal(again, torch.cat([once, once.flip(1), once[:, :3]], 1))
    assert torch.equal(masked_logits(stage, fill, grid, shares[:, :1]), once[:, :1])  # alone, too
    with torch.no_grad():
        for i in range(2):
            masked = torch.where(shares[i, 7][grid].bool(), stage.inputs[i], fill[i])
            torch.testing.assert_close(once[i, 7], small.model(masked[None])[0])


def test_a_map_is_not_lost_with_its_sensitivity(small):
    calls = []

    def once(query):
        calls.append(1)
        if len(calls) > 2:  # the first clip, and the other
            raise RuntimeError("only once")
        return query.inputs

    stage = Stage.of(small, 2)
    found = run_method(Method(("once",), once), stage.query(stage.grid("time"), stage.fill("mean")), sensitivity=2)[
        "once"
    ]
    assert (found.status, found.sensitivity) == ("ok", None)
    assert found.attributions is not None


def test_a_gain_near_certainty_is_not_rounded_away():
    """1 − p is 3e-7 here: float32 holds p to 6e-8."""
    whole = torch.tensor([[[15.0, 0.0, 0.0, 0.0]]]).double()
    inside = whole + torch.tensor([0.3, 0.0, 0.0, 0.0])
    found = _fidelity(whole, torch.cat([whole, inside, whole], 1), torch.tensor([0]))
    assert found["average_gain"].item() == pytest.approx(100 * (1 - math.exp(-0.3)), rel=1e-3)


class Certain(nn.Module):
    """Two classes; what the clip holds in its first column, of 25, moves the logit of the first one by a hundredth."""

    def forward(self, inputs):
        first = inputs[:, 0, :, :5].mean((1, 2))
        return torch.stack([18 + 0.01 * first, torch.zeros_like(first)], 1)


def test_what_happens_near_certainty_agrees_with_the_map(small):
    stage = replace(Stage.of(small, 2), model=Certain(), target=torch.zeros(2, dtype=torch.long))
    grid = stage.grid("time")
    sums = (
        torch.zeros(2, 25).index_fill(1, grid[0, 0], 1.0)
        * (stage.inputs - stage.fill("silence"))[:, 0, :, :5].mean((1, 2))[:, None]
    )
    found = RegionSums(sums, "ok", 1.0, 1.0, 1.0)
    for row in score_methods(stage, "time", "silence", {"mine": found}, 4)["mine"]:
        assert row.correlation == pytest.approx(1, abs=0.02)  # exactly linear in the removal, but for the softmax


def test_a_map_that_cannot_be_scored_leaves_the_others_their_rows(small, monkeypatch):
    stage = Stage.of(small, 2)
    good = RegionSums(torch.arange(50.0).reshape(2, 25), "ok", 1.0, 1.0, 1.0)
    wanted = score_methods(stage, "time", "mean", {"good": good}, 4)["good"]

    def fail(sums):
        if (sums < 0).any():
            raise ValueError("of this map alone")
        return {}

    monkeypatch.setattr(scoring, "_concentration", fail)
    rows = score_methods(stage, "time", "mean", {"bad": replace(good, sums=-good.sums), "good": good}, 4)
    assert [row.status for row in rows["bad"]] == ["error (of this map alone)"]
    assert [row.deletion for row in rows["good"]] == [row.deletion for row in wanted]


def test_sums_that_overflow_are_not_scored(small):
    stage = Stage.of(small, 2)
    huge = Map(torch.full_like(stage.inputs, 1e308, dtype=torch.float64), "ok")
    assert RegionSums.of(huge, stage.grid("time"), None).status == "non-finite"


def test_a_stage_of_some_clips_is_sent_without_the_others(small):
    stage = Stage.of(small, 16)
    whole = len(pickle.dumps(stage))
    size = stage.inputs[0].nbytes
    batches = list(stage.batches(6))
    assert [selection for selection, _ in batches] == [slice(0, 6), slice(6, 12), slice(12, 18)]
    assert [len(batch.indices) for _, batch in batches] == [6, 6, 4]
    for selection, batch in batches:
        assert len(pickle.dumps(batch)) < whole - 9 * size
        assert torch.equal(batch.inputs, stage.inputs[selection])
        assert torch.equal(batch.target, stage.target[selection])
        assert batch.labels == stage.labels[selection]
        assert batch.truth is None


def test_a_query_has_the_clips_and_the_model_of_the_stage(small):
    stage = Stage.of(small, 3)
    grid, fill = stage.grid("time"), stage.fill("mean")
    query = stage.query(grid, fill, ("energy",))
    assert query.grid is grid
    assert query.fill is fill
    assert query.names == ("energy",)
    for name in ("model", "layer", "inputs", "target", "silence", "bases", "seed", "band_shares"):
        assert getattr(query, name) is getattr(stage, name)


def test_sums_of_some_clips_travel_without_the_others():
    found = RegionSums(torch.zeros(2000, 40), "ok", 1.0, 1.0, 1.0, {"pointing": torch.zeros(2000)})
    assert len(pickle.dumps(found.clips(slice(8, 16)))) < 10_000


def test_a_family_gives_a_map_for_each_of_its_names(small, monkeypatch, tmp_path):
    calls = []

    def explain(query):
        calls.append((len(query.inputs), query.names))
        both = {"up": query.inputs, "down": (-query.inputs, torch.zeros(len(query.inputs)))}
        return [both[name] for name in query.names]

    family = Method(("up", "down"), explain)
    monkeypatch.setitem(METHODS, "up", family)
    monkeypatch.setitem(METHODS, "down", family)
    rows = scores(small, Settings(("down", "up"), ("time",), ("mean",), clips=4, points=4), tmp_path / "run")
    assert calls == [(1, ("down",)), (1, ("up",)), (3, ("down", "up"))]  # each alone for its price, then together
    up, down = (rows[rows.method == name].reset_index(drop=True) for name in ("up", "down"))
    assert set(rows.status) == {"ok"}
    # The opposite order: what deletion leaves, insertion puts back.
    np.testing.assert_allclose(up.insertion, down.deletion, atol=0.02)
    assert not np.allclose(up.insertion, up.deletion, atol=1e-4)


def test_a_family_that_gives_too_few_maps_is_an_error(small):
    stage = Stage.of(small, 2)
    query = stage.query(stage.grid("time"), stage.fill("mean"))
    found = run_method(Method(("a", "b"), lambda query: []), query)
    assert {name: one.status for name, one in found.items()} == dict.fromkeys(
        "ab", "error (expected a map for each of 1 names, but got 0)"
    )


def test_a_member_of_a_family_does_not_spoil_the_others(small):
    def explain(query):
        if "slow" in query.names:
            time.sleep(5)
        if "wrong" in query.names:
            raise ValueError("of this name")
        return [query.inputs.numpy() if name == "array" else query.inputs for name in query.names]

    stage = Stage.of(small, 2)
    query = stage.query(stage.grid("time"), stage.fill("mean"))
    for bad, status in (
        ("slow", "timeout (more than 0.5 s)"),
        ("wrong", "error (of this name)"),
        ("array", "error (expected a tensor"),
    ):
        found = run_method(Method(("good", bad), explain), query, limit=0.5)
        assert found["good"].status == "ok"
        assert found[bad].status.startswith(status)


def test_what_a_method_sets_for_all_of_torch_does_not_reach_the_next_one(small):
    def explain(query):
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.set_num_threads(torch.get_num_threads() + 1)
        return query.inputs

    stage = Stage.of(small, 2)
    query = stage.query(stage.grid("time"), stage.fill("mean"))
    threads = torch.get_num_threads()
    expected = run_method(METHODS["random"], replace(query, names=("random",)))["random"].attributions
    assert run_method(Method(("sets",), explain), query)["sets"].status == "ok"
    assert (torch.get_default_dtype(), torch.is_grad_enabled()) == (torch.float32, True)
    assert torch.get_num_threads() == threads
    after = run_method(METHODS["random"], replace(query, names=("random",)))["random"].attributions
    assert after.dtype == expected.dtype
    assert torch.equal(after, expected)


def test_a_delta_that_is_not_a_number_breaks_the_axiom(small):
    stage = Stage.of(small, 2)
    query = stage.query(stage.grid("time"), stage.fill("mean"))
    method = Method(("odd",), lambda query: (query.inputs, torch.full((len(query.inputs),), math.nan)))
    assert run_method(method, query)["odd"].status == "axiom violated (nan)"


def test_prices_are_counted_in_forward_passes(quick):
    passes = quick.groupby("method").passes.first()
    assert passes["energy"] == passes["random"] == 0
    assert passes["Saliency"] == 2  # forward, and back to the input; the weights' gradients are not asked for
    assert 1.0 < passes["APEX time"] < 1.2  # forward, and matrix products on a small grid
    tiles = quick[(quick.method == "FeatureAblation") & (quick.grid == "square")]
    assert set(tiles.passes) == {41.0}
    assert (quick[quick.method == "Saliency"].memory > 64 * 126 * 4).all()


def only(inputs):
    return inputs[0] if isinstance(inputs, tuple) else inputs


def test_sensitivity_is_captums(small):
    stage = Stage.of(small, 3)
    query = stage.query(stage.grid("time"), stage.fill("mean"))
    own = run_method(METHODS["Saliency"], query, sensitivity=2)["Saliency"].sensitivity
    generator = torch.Generator().manual_seed(query.seed)
    draws = [(2 * torch.rand(query.inputs.shape, generator=generator) - 1) * RADIUS for _ in range(2)]
    method = Saliency(small.model)
    each = [
        sensitivity_max(
            lambda inputs, **_: (method.attribute(only(inputs).clone().requires_grad_(), query.target),),
            query.inputs,
            lambda inputs, radius, draw=draw: only(inputs) + draw,
            n_perturb_samples=1,
        )
        for draw in draws
    ]
    torch.testing.assert_close(own, torch.stack(each).amax(0), rtol=1e-4, atol=1e-6)


def test_a_limit_is_only_kept_in_a_main_thread():
    with pytest.raises(BaseException) as interruption, time_limit(0.05):  # noqa: PT011 - it is no Exception, on purpose
        time.sleep(5)
    assert not isinstance(interruption.value, Exception)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    finished = []

    def sleep():
        with time_limit(0.01):
            time.sleep(0.1)
        finished.append(True)

    thread = threading.Thread(target=sleep)
    thread.start()
    thread.join()
    assert finished == [True]


def test_random_masks_tell_a_true_map_from_a_random_one(small):
    """The score is nearly the sum of the clip's bins, so the clip minus the fill is nearly the perfect map."""

    class Sum(nn.Module):
        def forward(self, clips):
            total = clips.sum((1, 2, 3)) / 50000
            return torch.stack([total, -total], 1)

    stage = replace(Stage.of(small, 4), model=Sum(), target=torch.zeros(4).long())
    true = region_sums(stage.inputs - stage.silence, stage.grid("time"))
    about, draw = ("ok", 0.0, 0.0, 0.0), torch.Generator().manual_seed(0)
    maps = {
        "true": RegionSums(true, *about),
        "other": RegionSums(torch.randn(true.shape, generator=draw, dtype=torch.float64), *about),
    }
    rows = score_methods(stage, "time", "silence", maps, points=3)
    assert all(row.correlation > 0.999 and row.infidelity < 1e-4 for row in rows["true"])
    assert all(row.correlation < 0.9 and row.infidelity > 1e-3 for row in rows["other"])


def test_lrp_on_a_network_with_layer_norm_is_unsupported(tmp_path):
    """As Captum 0.9 has it: LRP knows no rule for LayerNorm or GELU, and says so."""
    task = small_subject().task
    model = convnext(8).eval()
    bank = FeatureBank.from_dataset(model, explained_layer(model), list(task.train.log_mels[:5]))
    bases = {scheme: basis_from_matrix(bank, scheme, torch.eye(bank.n_channels)) for scheme in SCHEMES}
    tiny = Subject(task, "convnext", model, bank, bases, seed=0)
    got = scores(tiny, Settings(("LRP", "APEX time"), ("time",), ("mean",), clips=2, points=2), tmp_path / "run")
    assert got.status[0].startswith("unsupported (Module of type")
    assert got.status.tolist()[1:] == ["ok", "ok"]


def test_the_oracle_and_other_dear_methods_are_not_judged_unasked():
    dear = {"greedy oracle", "NoiseTunnel (IntegratedGradients)", "twin network", "twin difference"}
    dear |= {"L-MAC", "AudioProtoPNet", "InfoDisent", "random forest"}
    dear |= {f"{name}, 1000 samples" for name in ("Lime", "audioLIME", "random forest")}
    assert dear <= set(METHODS)
    assert set(METHODS) - set(default_methods()) == dear


def test_a_cell_that_could_not_be_computed_is_a_row_without_a_clip(small, monkeypatch, tmp_path):
    monkeypatch.setitem(METHODS, "broken", Method(("broken",), broken("raises")))
    rows = scores(small, Settings(("broken",), ("time",), ("mean",), clips=2), tmp_path / "run")
    assert rows[["method", "grid", "fill", "clip"]].to_numpy().tolist() == [["broken", "time", "mean", -1]]
    assert math.isnan(rows.deletion[0])
    assert Cell("broken", "time", "mean") == ("broken", "time", "mean")


def blocked_signals(stage):
    return signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_workers_do_not_see_ctrl_c_and_the_run_does():
    """A terminal sends it to all processes, and a worker that handles it prints a traceback."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with started("no stage", jobs=2) as workers:
        masks = list(workers.results(blocked_signals, [()] * 4))
    assert all(signal.SIGINT in mask for mask in masks)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
