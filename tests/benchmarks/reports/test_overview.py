"""Runs side by side, on synthetic runs with known numbers."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.__main__ import main
from benchmarks.reports.overview import overview, update
from benchmarks.runs.results import Results
from benchmarks.runs.rows import COLUMNS, Cell

LEADS = {"APEX all, two-sided": 0.7, "APEX time": 0.4, "Saliency": 0.3, "greedy oracle": 0.8}


def rows(shift):
    """Four clips per cell; tiles score 0.1 more than columns, the fill `mean` 0.2 more than `silence`."""
    parts = []
    for method, mean in LEADS.items():
        for grid, more in (("square", 0.1), ("time", 0.0)):
            for fill, again in (("silence", 0.0), ("mean", 0.2)):
                insertion = 0.5 + mean + more + again + shift
                cell = {
                    "method": method,
                    "grid": grid,
                    "fill": fill,
                    "status": "ok",
                    "clip": range(4),
                    "label": 0,
                    "predicted": 0,
                }
                parts.append(
                    pd.DataFrame(cell | {"deletion": 0.5, "insertion": insertion + 0.01 * np.array([1, -1, 1, -1])})
                )
    failed = {
        "method": ["LRP"],
        "grid": "time",
        "fill": "mean",
        "status": "unsupported (no rule 3.5)",
        "clip": -1,
        "label": -1,
        "predicted": -1,
    }
    return pd.concat([*parts, pd.DataFrame(failed)], ignore_index=True)


def run(folder, task, shift, **settings):
    folder.mkdir()
    about = {
        "accuracy": 0.875,
        "test_clips": 80,
        "methods": [*LEADS, "LRP"],
        "grids": ["square", "time"],
        "fills": ["silence", "mean"],
    }
    key = {"task": task, "network": "cnn", "part": "test", "clips": 4, **settings}
    (folder / "run.json").write_text(json.dumps({"key": key, "settings": about}))
    results = Results(folder)
    (folder / "cells").mkdir()
    for names, part in rows(shift).groupby(["method", "grid", "fill"]):
        part.reindex(columns=list(COLUMNS)).to_csv(results._path(Cell(*names)), index=False)
    results.collect()
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    first, second = (
        run(folder / "a", "scenes", 0.0),
        run(folder / "b", "digits", -0.2, layer="features.relu2", invertible=True),
    )
    kinds = [("removed", 0.6), ("kept", 0.2)]
    lines = [
        {"basis": basis, "n": n, "kind": kind, "drop": drop * n / 5, "energy": 0.25, "contribution": 0.5}
        for basis in ("raw", "APEX time")
        for n in (1, 5)
        for kind, drop in kinds
    ]
    pd.DataFrame(lines).to_csv(first / "evidence.csv", index=False)
    masked = {"scheme": "time", "drop": 0.3, "drop_random": 0.1, "difference": 0.2, "low": 0.15, "high": 0.25}
    others = masked | {"drop": 0.9}
    tests = [
        masked | {"fill": "mean", "region": "found"},
        others | {"fill": "silence", "region": "found"},
        others | {"fill": "mean", "region": "cell"},
    ]
    pd.DataFrame(tests).to_csv(second / "masking_test.csv", index=False)
    pd.DataFrame([{"scheme": "time", "raw": 0.2, "orthogonal": 0.3, "invertible": 0.5, "condition": 9}]).to_csv(
        first / "purity.csv", index=False
    )
    places = {
        "scheme": "time",
        "cell": 0.1,
        "found": 0.9,
        "enlarged": 0.2,
        "integrated": 0.3,
        "random": 0.05,
        "clips": 4,
    }
    pd.DataFrame([places]).to_csv(first / "truth.csv", index=False)
    models = [{"model": "plain", "accuracy": 0.9, "eer": 0.032, "largest_difference": 0.0, "status": "ok"}]
    models += [{"model": "APEX time", "accuracy": 0.9, "eer": np.nan, "largest_difference": 5.2e-5, "status": "ok"}]
    pd.DataFrame(models).to_csv(first / "invariance.csv", index=False)
    return [first, second]


@pytest.fixture(scope="module")
def text(folders):
    return overview(folders)


def table(text, title):
    block = text.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [
        [part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in block.splitlines()
        if line.startswith("|")
    ]
    return lines[0], {line[0]: line[1:] for line in lines[2:]}


def test_scores_are_the_means_over_fills_by_regions(text):
    head, lines = table(text, "Scores")
    assert head == ["method", "scenes cnn", "digits cnn features.relu2 invertible"]
    assert lines["APEX time"] == ["0.60 / 0.50", "0.40 / 0.30"]
    assert list(lines) == [
        "greedy oracle (control)",
        "APEX all, two-sided (control)",
        "APEX time",
        "Saliency",
        "LRP",
    ]  # best first, the unscored last
    assert lines["LRP"] == ["– / –", "– / –"]


def test_shares_are_those_of_the_oracles_score(text):
    lines = table(text, "Share of the greedy oracle")[1]
    assert lines["APEX time"][0] == f"{(0.5 / 0.9 + 0.7 / 1.1) / 2:.0%} / {(0.4 / 0.8 + 0.6 / 1.0) / 2:.0%}"


def test_a_lead_is_of_the_best_apex_that_selects_channels_over_the_best_other_and_not_over_the_oracle(text):
    lines = text.split("## Leads\n")[1].split("\n## ")[0]
    assert "| scenes cnn | square | APEX time, 0.600 | Saliency, 0.500 | 0.100 [0.100, 0.100] | 4 |" in lines


def test_the_experiments_are_in_the_columns_of_their_runs(text):
    assert table(text, "Channel removal")[1] == {"raw": ["0.60, 0.20"], "APEX time": ["0.60, 0.20"]}
    assert table(text, "Energy and contribution")[1]["raw"] == ["25%, 50%"]
    head, lines = table(text, "Masking test")
    assert (head[1:], lines) == (["digits cnn features.relu2 invertible"], {"time": ["0.30; 0.10; 0.20 [0.15, 0.25]"]})
    assert table(text, "Purity")[1] == {"time": ["0.20 → 0.30; 0.50"]}
    assert table(text, "Truth")[1] == {"time": ["0.10 / 0.90 / 0.20 / 0.30 / 0.05"]}
    assert table(text, "Invariance")[1] == {"plain": ["0; 90.0%; 3.2%"], "APEX time": ["5.2e-05; 90.0%"]}


def test_a_method_without_a_fill_has_no_mean_and_does_not_lead(tmp_path):
    folder = run(tmp_path / "partly", "scenes", 0.0)
    several = rows(0.0)
    partly = several[(several.method == "Saliency") & (several.fill == "mean")].assign(
        method="partly", insertion=lambda part: part.insertion + 0.5
    )
    others = [several[several.method == "Saliency"].assign(method=f"other {i}") for i in range(2)]
    pd.concat([several, partly, *others]).to_csv(folder / "rows.csv", index=False)
    text = overview([folder])
    assert table(text, "Scores")[1]["partly"] == ["– / –"]
    assert "Saliency, 0.500" in text.split("## Leads")[1].split("\n## ")[0]


def test_runs_with_the_same_name_get_the_names_of_their_folders(tmp_path):
    runs = [run(tmp_path / name, "scenes", shift) for name, shift in (("one", 0.0), ("two", -0.2))]
    head, lines = table(overview(runs), "Scores")
    assert head[1:] == ["scenes cnn (one)", "scenes cnn (two)"]
    assert lines["APEX time"] == ["0.60 / 0.50", "0.40 / 0.30"]


def test_methods_that_could_not_run_are_listed_with_their_reason(text):
    assert "| scenes cnn | LRP | unsupported (no rule …) | 1 |" in text


PLACE = (
    "# Title\n\nThe mark is `<!-- Leads -->`.\n\n<!-- Leads -->\nold table\n<!-- end of Leads -->\n\nProse | after.\n"
)


def test_the_tables_of_a_file_are_replaced_between_their_marks(folders, text, tmp_path, capsys):
    path = tmp_path / "results.md"
    path.write_text(PLACE + "\n<!-- Statistics -->stays<!-- end of Statistics -->\n<!-- Scores -->without an end\n")
    for _ in range(2):  # the second time changes nothing
        assert main(["overview", *map(str, folders), "--out", str(path)]) == 0
        assert capsys.readouterr().out == f"{path}: Leads\n"
        table = text.split("## Leads\n\n")[1].split("\n\n## ")[0]
        written = path.read_text()
        assert written.startswith(
            f"# Title\n\nThe mark is `<!-- Leads -->`.\n\n<!-- Leads -->\n\n{table}\n\n<!-- end of Leads -->\n"
        )
        assert written.endswith(
            "\n\nProse | after.\n\n<!-- Statistics -->stays<!-- end of Statistics -->\n<!-- Scores -->without an end\n"
        )


def test_several_tables_are_replaced_each_at_its_place(folders, text, tmp_path):
    path = tmp_path / "results.md"
    path.write_text("<!-- Purity -->\n<!-- end of Purity -->\nbetween\n<!-- Scores -->\n<!-- end of Scores -->\n")
    assert update(path, folders) == ["Scores", "Purity"]
    first, second = path.read_text().split("between")
    assert table("## Purity\n" + first, "Purity") == table(text, "Purity")
    assert table("## Scores\n" + second, "Scores") == table(text, "Scores")


def test_a_file_without_a_place_for_tables_is_refused_and_stays(folders, tmp_path, capsys):
    path = tmp_path / "results.md"
    path.write_text("no place")
    assert main(["overview", str(folders[0]), "--out", str(path)]) == 2
    assert "to have a place for a table, such as the lines `<!-- Scores -->`" in capsys.readouterr().err
    assert path.read_text() == "no place"
    assert main(["overview", str(folders[0]), "--out", str(tmp_path / "none.md")]) == 2
    assert "none.md" in capsys.readouterr().err


def test_the_command_prints_the_overview_and_refuses_a_folder_without_a_run(folders, text, tmp_path, capsys):
    assert main(["overview", *map(str, folders)]) == 0
    assert capsys.readouterr().out.strip() == text.strip()
    assert main(["overview", str(folders[0]), str(tmp_path)]) == 2
    assert "has no run.json" in capsys.readouterr().err


def test_no_table_of_the_results_is_empty():
    text = (Path(__file__).parents[3] / "benchmarks" / "RESULTS.md").read_text()
    tables = re.findall(r"^<!-- (?!end of )(\S.*?) -->$(.*?)^<!-- end of (.+?) -->$", text, re.DOTALL | re.MULTILINE)
    assert len(tables) > 15
    assert [name for name, body, end in tables if name != end or body.count("\n|") < 3] == []
