"""`python -m benchmarks`, from the arguments to the files."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError
from matplotlib.figure import Figure

from benchmarks.__main__ import main
from benchmarks.commands import (
    fits_command,
    heads_command,
    measure_command,
    prototypes_command,
    regions_command,
    run_command,
)
from benchmarks.methods import METHODS
from benchmarks.reports.norm_table import MEASURES
from benchmarks.reports.region_tables import LINE_COLUMNS
from benchmarks.runs import subject
from benchmarks.runs.rows import COLUMNS
from benchmarks.runs.stage import Stage
from benchmarks.tasks import TASKS
from captum_apex import SCHEMES
from captum_apex.masking.fills import FILLS
from tests.small import small_subject

README = Path(__file__).parents[3] / "benchmarks" / "README.md"
MASKING_TEST = run_command.TABLES["masking_test.csv"]  # before a test replaces the tables
README_METHOD = "gradient × distance from the fill"


@pytest.fixture(scope="module")
def small():
    return small_subject()


@pytest.fixture
def prepared(small, monkeypatch):
    monkeypatch.setattr(run_command, "prepare", lambda *_, **__: small)
    monkeypatch.setattr(run_command, "TABLES", {"truth.csv": run_command.TABLES["truth.csv"]})


def arguments(folder, *more, methods=("APEX time", "LayerGradCam", "random")):
    common = ["--grid", "time", "--fill", "mean", "--clips", "3", "--points", "3", "--jobs", "1"]
    return ["run", "--methods", *methods, *common, "--out", str(folder), *more]


def test_a_run_from_end_to_end(prepared, tmp_path, capsys):
    folder = tmp_path / "out"
    assert main(arguments(folder)) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == str(folder)
    assert any(line.startswith("APEX time ") for line in printed)
    about = json.loads((folder / "run.json").read_text())
    assert (about["key"]["clips"], about["settings"]["methods"]) == (3, ["APEX time", "LayerGradCam", "random"])
    rows = pd.read_csv(folder / "rows.csv")
    assert tuple(rows.columns) == COLUMNS
    assert len(rows) == 3 * 3
    assert {"report.md", "report.tex", "cells.csv", "truth.csv"} <= {path.name for path in folder.iterdir()}


def test_the_same_command_again_computes_nothing_and_more_methods_are_added(prepared, tmp_path, capsys):
    folder = tmp_path / "out"
    main(arguments(folder))
    former = {path.name: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()}
    assert main(arguments(folder)) == 0
    assert "3 of 3 cells were finished before" in capsys.readouterr().out
    assert main(arguments(folder, methods=("energy",))) == 0
    now = {path.name: path.stat().st_mtime_ns for path in (folder / "cells").iterdir()}
    assert {name: now[name] for name in former} == former
    assert set(pd.read_csv(folder / "rows.csv").method) == {"APEX time", "LayerGradCam", "random", "energy"}


def test_segments_of_a_file_divide_each_clip_and_belong_to_the_name_of_the_run(prepared, tmp_path, capsys):
    times = tmp_path / "words.csv"
    times.write_text("clip,time\n0,0.5\n8,0.4\n8,1.2\n15,0.3\n15,0.6\n")
    words = ["--grid", "segments", "segment-means", "--segments", str(times)]
    assert main(arguments(tmp_path / "out", *words, methods=("energy",))) == 0
    rows = pd.read_csv(tmp_path / "out" / "rows.csv")
    points = rows[rows.grid == "segments"].set_index("clip")["fraction"].str.split().map(len)
    assert points.to_dict() == {0: 3, 8: 3, 15: 3}
    assert set(rows.grid) == {"segments", "segment-means"}
    times.write_text("clip,time\n0,0.5\n8,0.4\n8,1.2\n15,0.3\n15,0.7\n")
    assert main(arguments(tmp_path / "out", *words, methods=("energy",))) == 2
    assert "segments" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected --segments, and test clips, with --grid segments"),
        (["--segments", "nothing.csv"], "expected a CSV file or a folder of .TextGrid files at"),
    ],
)
def test_a_grid_of_segments_needs_their_times(words, message, prepared, tmp_path, capsys):
    assert main(arguments(tmp_path / "out", "--grid", "segments", *words)) == 2
    assert message in capsys.readouterr().err


def test_an_interruption_is_reported_and_keeps_what_is_finished(prepared, tmp_path, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_command, "run", stop)
    assert main(arguments(tmp_path / "out")) == 130
    assert "the same command goes on from there" in capsys.readouterr().err


def test_a_folder_of_another_run_exits_with_2(prepared, tmp_path, capsys):
    main(arguments(tmp_path / "out"))
    assert main(arguments(tmp_path / "out", "--seed", "7")) == 2
    assert "seed 0 and not 7" in capsys.readouterr().err


def test_an_unknown_layer_exits_with_2(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(subject, "load_task", lambda *_: small.task)
    monkeypatch.setattr(subject, "trained_classifier", lambda *_, **__: small.model)
    assert main(arguments(tmp_path / "out", "--layer", "features.relu9")) == 2
    assert "one of features.conv0, features.norm0" in capsys.readouterr().err


def test_a_run_explains_the_given_layer_with_the_given_kind_of_bases(small, tmp_path, monkeypatch):
    monkeypatch.setenv("CAPTUM_APEX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(subject, "load_task", lambda *_: small.task)
    monkeypatch.setattr(subject, "trained_classifier", lambda *_, **__: small.model)
    monkeypatch.setattr(subject, "FIT", {"epochs": 1, "n_prototypes": (4, 2)})
    monkeypatch.setattr(run_command, "TABLES", {})
    seen = []
    monkeypatch.setattr(run_command, "run", lambda own, *_, **__: seen.append(own))
    monkeypatch.setattr(run_command, "_finished_status", lambda *_: 0)  # nothing is computed here
    monkeypatch.setattr(run_command.run_report, "write", lambda _: "")
    assert main(arguments(tmp_path / "out", "--layer", "features.relu2", "--invertible")) == 0
    own, U = seen[0], seen[0].bases[SCHEMES[1]].U
    assert own.layer is small.model.features.relu2
    assert (own.bank.n_channels, own.bank.origin.grid) == (64, (8, 15))
    assert (U @ U.T - torch.eye(64)).abs().max() > 1e-3


def test_report_of_an_unfinished_run(prepared, tmp_path, capsys):
    folder = tmp_path / "out"
    main(arguments(folder))
    (folder / "report.md").unlink()
    (folder / "cells" / "README").write_text("not a cell")
    next((folder / "cells").glob("random*")).unlink()
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(folder / "report.md")
    assert set(pd.read_csv(folder / "rows.csv").method) == {"APEX time", "LayerGradCam"}


def test_a_failed_experiment_does_not_prevent_the_report(prepared, tmp_path, monkeypatch, capsys):
    def fails(*_):
        raise RuntimeError("no convergence")

    monkeypatch.setattr(run_command, "TABLES", {"evidence.csv": fails})
    assert main(arguments(tmp_path / "out")) == 0
    assert "evidence.csv could not be made: RuntimeError: no convergence" in capsys.readouterr().err
    assert (tmp_path / "out" / "report.md").exists()


@pytest.mark.parametrize(("more", "jobs"), [((), 2), (("--backend", "threading"), 1)])
def test_the_masking_test_runs_in_the_processes_of_the_run_or_in_one(more, jobs, prepared, tmp_path, monkeypatch):
    """Another backend of joblib may be chosen since processes cannot take the model."""
    seen = []
    table = pd.DataFrame([{"scheme": "time"}])
    monkeypatch.setattr(run_command, "masking_test", lambda *_, jobs: seen.append(jobs) or table)
    monkeypatch.setattr(run_command, "TABLES", {"masking_test.csv": MASKING_TEST})
    monkeypatch.setattr(run_command, "run", lambda *_, **__: None)
    monkeypatch.setattr(run_command, "_finished_status", lambda *_: 0)  # nothing is computed here
    monkeypatch.setattr(run_command.run_report, "write", lambda _: "")
    assert main(arguments(tmp_path / "out", "--jobs", "2", *more)) == 0
    assert seen == [jobs]


def test_a_run_on_training_clips_has_no_tables_of_test_clips(prepared, small, tmp_path):
    assert main(arguments(tmp_path / "out", "--part", "train", methods=("energy",))) == 0
    rows = pd.read_csv(tmp_path / "out" / "rows.csv")
    assert rows.label.tolist() == [small.task.train[index][1] for index in rows["clip"]]
    assert not (tmp_path / "out" / "truth.csv").exists()
    assert rows.pointing.isna().all()


def test_a_worker_that_the_system_ends_is_reported(prepared, tmp_path, monkeypatch, capsys):
    def killed(*_, **__):
        raise TerminatedWorkerError("SIGKILL")

    monkeypatch.setattr(run_command, "run", killed)
    assert main(arguments(tmp_path / "out")) == 2
    assert "memory is not enough: the system ended a worker" in capsys.readouterr().err


def test_report_refuses_a_folder_without_a_run(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "has no run.json" in capsys.readouterr().err


def test_the_readmes_own_method_is_judged_beside_the_others(prepared, small, tmp_path):
    path = tmp_path / "my_method.py"
    path.write_text(re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)[0])
    try:
        assert main(arguments(tmp_path / "out", "--add", str(path), methods=(README_METHOD, "random"))) == 0
        stage = Stage.of(small, 3)
        query = stage.query(stage.grid("time"), stage.fill("mean"))
        clips = query.inputs.clone().requires_grad_()
        small.model(clips).gather(1, query.target[:, None]).sum().backward()
        asked = replace(
            query, inputs=query.inputs.clone().requires_grad_()
        )  # Captum warns where it has to ask for gradients itself
        torch.testing.assert_close(METHODS[README_METHOD].explain(asked), clips.grad * (query.inputs - query.fill))
    finally:
        METHODS.pop(README_METHOD, None)
    rows = pd.read_csv(tmp_path / "out" / "rows.csv")
    assert rows[rows.method == README_METHOD].status.tolist() == ["ok"] * 3
    assert not rows[rows.method == README_METHOD].deletion.equals(rows[rows.method == "random"].deletion)


def test_a_file_of_methods_that_cannot_be_read_exits_with_2(tmp_path, capsys):
    assert main(["run", "--add", str(tmp_path / "none.py")]) == 2
    assert "none.py" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["run", "--clips", "0"], "expected a number of at least 1, but got '0'"),
        (["run", "--points", "1"], "expected at least 2 points"),
        (["run", "--limit", "0"], "expected more than 0 seconds"),
        (["run", "--sensitivity", "-1"], "expected a number of at least 0"),
        (["run", "--task", "birds"], "invalid choice: 'birds'"),
        (["run", "--methods", "Magic"], "invalid choice: 'Magic'"),
        (["run", "--methods", "gradcam"], "'gradcam'; did you mean 'GradCAM++' or 'LayerGradCam' or 'GuidedGradCam'?"),
        (["run", "--methods", "APEX tme"], "did you mean 'APEX time' or 'APEX time, n=3' or 'APEX time, n=1'?"),
        (["run", "--reference", "Magic"], "invalid choice: 'Magic'"),
        (["run", "--device", "abacus"], "expected a device that is here, but got 'abacus'"),
    ],
)
def test_wrong_arguments_exit_with_2_and_say_why(wrong, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(wrong)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_missing_recordings_exit_with_2_and_say_what_to_do(monkeypatch, capsys):
    monkeypatch.delenv("CAPTUM_APEX_DATA", raising=False)
    assert main(["run", "--task", "digits"]) == 2
    assert "CAPTUM_APEX_DATA" in capsys.readouterr().err


def test_list_names_everything(capsys):
    assert main(["list"]) == 0
    printed = capsys.readouterr().out
    assert all(f"  {name}\n" in printed for name in (*METHODS, *TASKS, *FILLS, "cnn", "convnext"))


def test_the_places_of_the_norm_are_printed_and_written_into_a_file(tmp_path, monkeypatch, capsys):
    def table(tasks, seeds, progress):
        lines = [(task, place, seed) for task in tasks for place in ("layer", "norm") for seed in seeds]
        frame = pd.DataFrame(lines, columns=["task", "place", "seed"]).assign(scheme="time")
        return frame.assign(**dict.fromkeys(MEASURES, frame["seed"] / 10))

    monkeypatch.setattr(measure_command, "norm_place_table", table)
    page = tmp_path / "page.md"
    page.write_text("<!-- Place of the norm -->\nold\n<!-- end of Place of the norm -->\n")
    assert main(["norm", "--task", "scenes", "digits", "--seeds", "1", "3", "--out", str(page)]) == 0
    for text in (capsys.readouterr().out, page.read_text()):
        rows = [line.split(" | ")[:5] for line in text.splitlines() if "1, 3" in line]
        assert [row[:3] for row in rows] == [
            [f"| {task}", "time", place] for task in ("scenes", "digits") for place in ("layer", "norm")
        ]
        assert {row[4] for row in rows} == {"0.20 (0.10 to 0.30)"}
    assert "old" not in page.read_text()


def test_regions_are_measured_once_and_written_into_a_file(tmp_path, monkeypatch, capsys):
    measured = []
    line = {"scheme": "time", "clips": 3, **dict.fromkeys(LINE_COLUMNS, 0.5)}
    monkeypatch.setattr(regions_command, "prepare", lambda task, network, seed, progress: (task, network, seed))

    def summary(subject, n_clips):
        measured.append(subject)
        return pd.DataFrame([dict(zip(("task", "network", "seed"), subject, strict=True)) | line])

    monkeypatch.setattr(regions_command, "region_summary", summary)
    page = tmp_path / "page.md"
    page.write_text("<!-- Regions -->\nold\n<!-- end of Regions -->\n")
    command = ["regions", "--clips", "3", "--csv", str(tmp_path / "lines.csv"), "--out", str(page)]
    assert main([*command, "--seeds", "0", "1"]) == 0
    assert main([*command, "--seeds", "1", "2"]) == 0
    assert measured == [("scenes", "cnn", seed) for seed in (0, 1, 2)]
    assert len(pd.read_csv(tmp_path / "lines.csv")) == 3
    printed = capsys.readouterr()
    assert "| scenes | cnn | time |" in printed.out
    assert printed.err.splitlines() == [f"scenes, cnn, seed 1: from {tmp_path / 'lines.csv'}, not computed again"]
    assert "old" not in page.read_text()
    assert "| scenes | cnn | time | 1, 2 |" in page.read_text()
    page.write_text("no marks")
    assert main(command) == 2


def test_ways_of_fitting_are_measured_once_and_written_into_a_file(tmp_path, monkeypatch, capsys):
    measured = []
    prepared = []

    def lines(subject, name):
        measured.append((*subject, name))
        values = {"purity": 0.25 + subject[2] / 10, "unseen": 0.2, "removed": 0.1, "alone": 0.3, "seconds": 1.5}
        return pd.DataFrame([{"scheme": "time", **values}])

    def prepare(task, network, seed, progress):
        prepared.append(seed)
        return task, network, seed

    monkeypatch.setattr(fits_command, "prepare", prepare)
    monkeypatch.setattr(fits_command, "fit_lines", lines)
    page = tmp_path / "page.md"
    page.write_text("<!-- Ways of fitting -->\nold\n<!-- end of Ways of fitting -->\n")
    path = tmp_path / "lines.csv"
    command = ["fits", "--fits", "gradient", "closed form", "--csv", str(path), "--out", str(page)]
    assert main([*command, "--seeds", "0"]) == 0
    assert "| digits | cnn | time | gradient | 0.250 | 0.200 | 0.100 | 0.300 | 1.500 |" in capsys.readouterr().out
    assert main([*command, "--seeds", "0", "1"]) == 0
    assert measured == [("digits", "cnn", seed, fit) for seed in (0, 1) for fit in ("gradient", "closed form")]
    assert prepared == [0, 1]
    assert pd.read_csv(path).columns.tolist() == [*fits_command.KEY, *fits_command.COLUMNS, "code"]
    assert len(pd.read_csv(path)) == 4
    for text in (capsys.readouterr().out, page.read_text()):
        assert "| digits | cnn | time | closed form | 0.300 (0.250 to 0.350) |" in text
    assert "old" not in page.read_text()
    path.write_text("task,network,seed,fit,scheme\n")
    assert main(command) == 2
    assert "it lacks the column purity" in capsys.readouterr().err


def test_heads_are_trained_once_and_written_into_a_file(tmp_path, monkeypatch, capsys):
    measured = []

    def line(subject, name):
        measured.append((*subject, name))
        return pd.DataFrame([dict.fromkeys(heads_command.COLUMNS, 0.25 + subject[2] / 10)])

    monkeypatch.setattr(heads_command, "prepare", lambda task, network, seed, progress: (task, network, seed))
    monkeypatch.setattr(heads_command, "head_line", line)
    page = tmp_path / "page.md"
    page.write_text("<!-- Trained heads -->\nold\n<!-- end of Trained heads -->\n")
    path = tmp_path / "lines.csv"
    command = ["heads", "--heads", "own head", "InfoDisent", "--csv", str(path), "--out", str(page)]
    assert main([*command, "--seeds", "0"]) == 0
    assert "| digits | cnn | InfoDisent | 0.250 |" in capsys.readouterr().out
    assert main([*command, "--seeds", "0", "1"]) == 0
    assert measured == [("digits", "cnn", seed, head) for seed in (0, 1) for head in ("own head", "InfoDisent")]
    for text in (capsys.readouterr().out, page.read_text()):
        assert "| digits | cnn | InfoDisent | 0.300 (0.250 to 0.350) |" in text
    assert "old" not in page.read_text()


def test_the_picture_of_heads_is_of_the_first_subject(tmp_path, monkeypatch, capsys):
    line = pd.DataFrame([dict.fromkeys(heads_command.COLUMNS, 0.5)])
    monkeypatch.setattr(heads_command, "prepare", lambda task, network, seed, progress: (task, network, seed))
    monkeypatch.setattr(heads_command, "head_line", lambda subject, name: line)
    monkeypatch.setattr(heads_command, "recognised_clip", lambda subject, name: 11)
    drawn = []
    monkeypatch.setattr(heads_command, "head_picture", lambda *what: drawn.append(what) or Figure(figsize=(1, 1)))
    path = tmp_path / "heads.png"
    command = ["heads", "--heads", "own head", "--csv", str(tmp_path / "lines.csv"), "--tasks", "scenes", "digits"]
    assert main([*command, "--seeds", "2", "0", "--picture", str(path)]) == 0
    assert drawn == [(("scenes", "cnn", 2), "AudioProtoPNet, 10 prototypes", 11)]
    assert path.read_bytes()[1:4] == b"PNG"
    assert main([*command, "--picture", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_prototypes_are_measured_once_and_written_into_a_file(tmp_path, monkeypatch, capsys):
    measured = []

    def lines(subject, name, clips):
        measured.append((*subject, name, clips))
        return pd.DataFrame([dict.fromkeys(prototypes_command.COLUMNS, 0.25 + subject[2] / 10) | {"scheme": "time"}])

    monkeypatch.setattr(prototypes_command, "prepare", lambda task, network, seed, progress: (task, network, seed))
    monkeypatch.setattr(prototypes_command.UnseenClips, "of", lambda subject: "test clips")
    monkeypatch.setattr(prototypes_command, "quality_lines", lines)
    page = tmp_path / "page.md"
    page.write_text("<!-- Quality of prototypes -->\nold\n<!-- end of Quality of prototypes -->\n")
    path = tmp_path / "lines.csv"
    command = ["prototypes", "--bases", "raw", "PCA", "--csv", str(path), "--out", str(page)]
    assert main([*command, "--seeds", "0"]) == 0
    assert "| digits | cnn | time | raw | 0.250 [0.250, 0.250] |" in capsys.readouterr().out
    assert main([*command, "--seeds", "0", "1"]) == 0
    assert measured == [("digits", "cnn", seed, basis, "test clips") for seed in (0, 1) for basis in ("raw", "PCA")]
    assert pd.read_csv(path).columns.tolist() == [*prototypes_command.KEY, *prototypes_command.COLUMNS, "code"]
    assert len(pd.read_csv(path)) == 4
    assert "| digits | cnn | time | PCA | 0.300 [0.250, 0.350] |" in page.read_text()
    assert "old" not in page.read_text()
    path.write_text("task,network,seed,basis,scheme\n")
    assert main(command) == 2
    assert "it lacks the column purity" in capsys.readouterr().err


def test_prototypes_of_heads_have_measures_of_their_own(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prototypes_command, "prepare", lambda task, network, seed, progress: seed)
    monkeypatch.setattr(prototypes_command.UnseenClips, "of", lambda subject: "test clips")
    for name, value in (("quality_lines", 0.25), ("head_quality_lines", 0.75)):
        line = dict.fromkeys(prototypes_command.COLUMNS, value) | {"scheme": "square"}
        monkeypatch.setattr(prototypes_command, name, lambda *_, line=line: pd.DataFrame([line]))
    names = ["raw", "AudioProtoPNet, 1 prototype"]
    assert main(["prototypes", "--bases", *names, "--csv", str(tmp_path / "lines.csv")]) == 0
    text = capsys.readouterr().out
    assert "| digits | cnn | square | raw | 0.250 [0.250, 0.250] |" in text
    assert "| digits | cnn | square | AudioProtoPNet, 1 prototype | 0.750 [0.750, 0.750] |" in text


def test_lines_that_another_process_adds_meanwhile_stay(tmp_path, monkeypatch):
    path = tmp_path / "lines.csv"
    monkeypatch.setattr(regions_command, "prepare", lambda task, network, seed, progress: seed)

    def line(seed):
        return pd.DataFrame(
            [{"task": "scenes", "network": "cnn", "seed": seed, "clips": 3, **dict.fromkeys(LINE_COLUMNS, 0.5)}]
        )

    def summary(seed, n_clips):
        line(7).to_csv(path, index=False)
        return line(seed)

    monkeypatch.setattr(regions_command, "region_summary", summary)
    regions_command._lines("scenes", "cnn", 1, 3, path)
    assert pd.read_csv(path).seed.tolist() == [7, 1]
