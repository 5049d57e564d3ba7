"""The folder of a run: whole cells or none, and no mixing of runs."""

import json
import shutil

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

import benchmarks
import captum_apex
from benchmarks.runs.maps import RegionSums
from benchmarks.runs.results import FolderError, Results, code_fingerprint, digest, versions
from benchmarks.runs.rows import COLUMNS, Cell, Row

KEY = {"task": "scenes", "clips": 2}
ABOUT = {
    "methods": ["b", "a, n=1"],
    "grids": ["time"],
    "fills": ["mean"],
    "accuracy": 0.5,
    "command": "run b",
    "reference": "b",
    "sources": {},
}


def row(cell, clip=0, **values):
    return Row(*cell, "ok", clip=clip, **values)


def test_rows_come_back_exactly_and_in_the_order_of_the_run(tmp_path):
    results = Results.open(tmp_path / "run", KEY, ABOUT)
    first, second = results.cells
    assert (first, second) == (Cell("b", "time", "mean"), Cell("a, n=1", "time", "mean"))
    results.add(second, [row(second, 0, deletion=0.1 + 0.2), row(second, 1)])
    assert results.missing([first, second]) == [first]
    results.add(first, [row(first, 7, deletion=1 / 3)])
    path = results.collect()
    found = pd.read_csv(path, dtype=str)
    assert list(found.columns) == list(COLUMNS)
    assert found.method.tolist() == ["b", "a, n=1", "a, n=1"]
    assert [float(text) for text in found.deletion[:2]] == [1 / 3, 0.1 + 0.2]


def test_names_that_differ_only_in_signs_do_not_share_a_file(tmp_path):
    results = Results.open(tmp_path / "run", KEY, {**ABOUT, "methods": ["a b", "a, b"]})
    for cell in results.cells:
        results.add(cell, [row(cell)])
    assert len(list((tmp_path / "run" / "cells").iterdir())) == 2


def test_a_run_is_taken_up_with_the_same_key_and_grows(tmp_path):
    results = Results.open(tmp_path / "run", KEY, ABOUT)
    results.add(results.cells[0], [row(results.cells[0])])
    grown = {
        **ABOUT,
        "methods": ["c", "b"],
        "fills": ["silence"],
        "command": "run c",
        "reference": None,
        "sources": {"c": "1"},
    }
    more = Results.open(tmp_path / "run", KEY, grown)
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert (settings["command"], settings["reference"], settings["sources"]) == ("run b\nrun c", "b", {"c": "1"})
    assert list(dict.fromkeys(cell.method for cell in more.cells)) == ["b", "a, n=1", "c"]
    assert len(more.cells) == 6
    assert len(more.missing(more.cells)) == 5


@pytest.mark.parametrize("status", ["timeout (more than 3 s)", "out of memory (no room)", "error (two)"])
def test_what_failed_is_finished_unless_it_shall_be_tried_again(tmp_path, status):
    results = Results.open(tmp_path / "run", KEY, ABOUT)
    failed, unable = results.cells
    results.add(failed, [Row(*failed, status)])
    results.add(unable, [Row(*unable, "unsupported (no rule)")])
    assert results.missing(results.cells) == []
    assert results.missing(results.cells, retry=True) == [failed]


def test_a_cell_of_a_method_whose_file_changed_is_not_finished(tmp_path):
    results = Results.open(tmp_path / "run", KEY, {**ABOUT, "sources": {"b": "1"}})
    for cell in results.cells:
        results.add(cell, [row(cell)])
    changed = Results.open(tmp_path / "run", KEY, {**ABOUT, "sources": {"b": "2"}})
    assert [cell.method for cell in changed.missing(changed.cells)] == ["b"]


def test_an_empty_file_is_no_cell(tmp_path):
    """As a loss of power may leave it."""
    results = Results.open(tmp_path / "run", KEY, ABOUT)
    for cell in results.cells:
        results.add(cell, [row(cell)])
    next((tmp_path / "run" / "cells").glob("b*")).write_text("")
    with pytest.warns(UserWarning, match="is damaged .*counts as not finished"):
        assert [cell.method for cell in results.missing(results.cells)] == ["b"]
    with pytest.warns(UserWarning, match="is damaged"):
        assert pd.read_csv(results.collect()).method.tolist() == ["a, n=1"]


def test_a_cell_of_a_version_before_the_checksum_is_finished_unless_a_line_is_cut(tmp_path):
    results = Results.open(tmp_path / "run", KEY, ABOUT)
    for cell in results.cells:
        results.add(cell, [row(cell), row(cell, 1)])
    path = next((tmp_path / "run" / "cells").glob("b*"))
    text = path.read_text().split("\n", 1)[1]
    path.write_text(text)
    assert results.missing(results.cells) == []
    assert len(pd.read_csv(results.collect())) == 4
    path.write_text(text[:-3])
    with pytest.warns(UserWarning, match=r"is damaged \(it holds no whole rows\); its cell counts as not finished"):
        assert [cell.method for cell in results.missing(results.cells)] == ["b"]


def test_rows_of_another_cell_are_damage(tmp_path):
    results = Results.open(tmp_path / "run", KEY, ABOUT)
    for cell in results.cells:
        results.add(cell, [row(cell)])
    first, second = sorted((tmp_path / "run" / "cells").iterdir())
    shutil.copy(first, second)
    with pytest.warns(UserWarning, match="is damaged .it has no rows of b, time, mean"):
        assert [cell.method for cell in results.missing(results.cells)] == ["b"]


def test_changed_settings_are_damage(tmp_path):
    Results.open(tmp_path / "run", KEY, ABOUT)
    path = tmp_path / "run" / "run.json"
    path.write_text(path.read_text().replace('"a, n=1"', '"a, n=3"'))
    with pytest.raises(FolderError, match="run.json to hold a run's settings, but it cannot be read: its checksum"):
        Results.open(tmp_path / "run", KEY, ABOUT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors, texts: tensors.pop("sums"), r"expected finite sums \(clip, region\)"),
        (lambda tensors, texts: tensors.update(sums=torch.tensor([[torch.nan]])), "expected finite sums"),
        (lambda tensors, texts: tensors.update(pointing=torch.zeros(3)), "expected finite sums"),
        (lambda tensors, texts: texts.pop("status"), "it lacks status"),
        (lambda tensors, texts: texts.update(passes="many"), "could not convert"),
        (lambda tensors, texts: texts.update(format="captum-apex sums 2"), "the file is damaged"),
    ],
)
def test_sums_of_a_version_before_the_checksum_must_fit(tmp_path, change, message):
    tensors, texts = {"sums": torch.zeros(2, 3)}, {"status": "ok", "passes": "1.0", "memory": "1.0", "seconds": "nan"}
    save_file(tensors, tmp_path / "sums", texts)
    assert RegionSums.load(tmp_path / "sums").sums.shape == (2, 3)
    change(tensors, texts)
    save_file(tensors, tmp_path / "sums", texts)
    with pytest.raises(ValueError, match=message):
        RegionSums.load(tmp_path / "sums")


def test_files_are_readable_as_the_users_others_are(tmp_path):
    results = Results.open(tmp_path / "run", KEY, ABOUT)
    (tmp_path / "plain").write_text("")
    assert (results.folder / "run.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_of_another_run_is_refused_and_left_alone(tmp_path):
    Results.open(tmp_path / "run", KEY, ABOUT)
    before = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.raises(FolderError, match="holds one with clips 2 and not 3; choose another --out"):
        Results.open(tmp_path / "run", {**KEY, "clips": 3}, ABOUT)
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_what_a_kill_left_before_the_settings_is_no_other_run(tmp_path):
    (tmp_path / ".run.json.x1").write_text("{")
    Results.open(tmp_path, KEY, ABOUT)
    assert (tmp_path / "run.json").is_file()


def test_cells_of_another_version_are_refused(tmp_path):
    results = Results.open(tmp_path / "run", KEY, ABOUT)
    results._path(results.cells[0]).write_text("method,status\nmine,ok\n")
    with pytest.raises(FolderError, match="columns of this version"):
        results.collect()


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FolderError, match="holds other files"):
        Results.open(tmp_path, KEY, ABOUT)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("text", "message"), [("{", "cannot be read"), ("[]", "holds no object"), ('{"key": 3}', "has no key")]
)
def test_damaged_settings_are_named(tmp_path, text, message):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(FolderError, match=message):
        Results.open(tmp_path, KEY, ABOUT)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    results = Results(tmp_path)
    results.write("table.csv", pd.DataFrame({"a": [1]}))

    class Interrupted(pd.DataFrame):
        def to_csv(self, path, **_):
            path.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        results.write("table.csv", Interrupted())
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("table.csv", "a\n1\n")]


def test_a_map_without_sums_is_not_stored(tmp_path):
    with pytest.raises(ValueError, match="expected the sums of a map, but there is no map: non-finite"):
        RegionSums(None, "non-finite", 1.0, 1.0, 1.0).save(tmp_path / "sums")


def test_a_key_has_one_name_whatever_its_order():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})
    assert json.dumps(versions())


def test_the_fingerprint_covers_every_folder_of_both_packages(tmp_path, monkeypatch):
    before = code_fingerprint()
    assert len(before) == 16
    for package in (benchmarks, captum_apex):
        copy = tmp_path / package.__name__
        shutil.copytree(package.__path__[0], copy, ignore=shutil.ignore_patterns("__pycache__", "pictures"))
        monkeypatch.setattr(package, "__path__", [str(copy)])
    assert code_fingerprint() == before
    for path in (tmp_path / "benchmarks" / "runs" / "stage.py", tmp_path / "captum_apex" / "bases" / "collation.py"):
        path.write_text(path.read_text() + "\n")
        assert code_fingerprint() != before
        before = code_fingerprint()


def test_sums_come_back_bit_for_bit_and_a_damaged_file_is_none(tmp_path):
    results, cell = Results.open(tmp_path / "run", KEY, ABOUT), Cell("b", "time", "mean")
    assert results.sums(cell) is None
    sums = torch.rand(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) / 3
    stored = RegionSums(
        sums, "axiom violated (0.20)", 1 / 3, 1e9, 0.1 + 0.2, {"pointing": torch.tensor([1.0, 0.0, float("nan"), 0.5])}
    )
    results.add_sums(cell, stored)
    loaded = results.sums(cell)
    assert torch.equal(loaded.sums, sums)
    for name in ("status", "passes", "memory", "seconds"):
        assert getattr(loaded, name) == getattr(stored, name)
    torch.testing.assert_close(loaded.columns, stored.columns, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(loaded.clips(slice(1, 3)).sums, sums[1:3])
    path = next((tmp_path / "run" / "sums").iterdir())
    path.write_bytes(path.read_bytes()[:50])
    with pytest.warns(UserWarning, match="is damaged .*the map is computed again"):
        assert results.sums(cell) is None
    assert results.missing([cell]) == [cell]
