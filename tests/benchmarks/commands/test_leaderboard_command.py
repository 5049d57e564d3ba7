"""`python -m benchmarks leaderboard`: methods join it once, and a version is checked by published scores."""

import dataclasses

import pandas as pd
import pytest

from benchmarks.__main__ import main
from benchmarks.commands import leaderboard_command
from benchmarks.runs.frozen import Entry, FrozenError, FrozenVersion


@pytest.fixture
def board(tmp_path, monkeypatch):
    """A version with two entries and published lines; scores depend on the method and the entry alone."""
    entry = Entry("scenes", "cnn", 0, [0, 1], 0.5, "", [0, 0], "", [0.0], [1.0], {}, {}, {}, "", [], [], -1.0, "", [])
    entries = {name: dataclasses.replace(entry, task=name) for name in ("scenes", "digits")}
    version = FrozenVersion(tmp_path / "frozen", 1, ("time",), ("mean",), 3, entries)
    version.folder.mkdir()
    scored = []

    def rows(version, name, methods, folder, **_):
        scored.append((name, *methods))
        status = "error (broken)" if version.folder.joinpath("broken").exists() else "ok"
        values = {"grid": "time", "fill": "mean", "status": status, "label": 0, "predicted": 0, "passes": 1.0}
        names = {"pointing": float("nan"), "relevance_mass": float("nan"), "deletion": 0.25}
        score = {"random": 0.25, "LayerGradCam": 0.75, "energy": 0.5}
        lines = [
            {"method": method, "clip": clip, "insertion": score[method], **values, **names}
            for method in methods
            for clip in ((0, 1) if status == "ok" else (-1,))
        ]
        return pd.DataFrame(lines, columns=[*values, *names, "method", "clip", "insertion"]), name == "scenes"

    monkeypatch.setattr(leaderboard_command.FrozenVersion, "load", lambda number: version)
    monkeypatch.setattr(leaderboard_command, "frozen_rows", rows)
    return scored


def test_methods_are_scored_once_and_join_the_leaderboard(board, tmp_path, capsys):
    command = ["leaderboard", "--csv", str(tmp_path / "results" / "own.csv")]
    assert main(command) == 2
    assert "nothing is scored yet; name some by --methods or --add" in capsys.readouterr().err
    assert main([*command, "--entries", "scenes", "--methods", "random"]) == 0
    printed = capsys.readouterr()
    assert "| random (control) | 0.000 | 1.000 |" in printed.out
    assert "scenes: network, clips, fills and grids are those of the version exactly" in printed.err
    assert main([*command, "--methods", "random", "LayerGradCam"]) == 0
    assert "digits: network, clips, fills and grids are those of the version up to rounding" in capsys.readouterr().err
    assert board == [("scenes", "random"), ("scenes", "LayerGradCam"), ("digits", "random", "LayerGradCam")]
    assert main(command) == 0
    assert "| LayerGradCam | 0.500 | 0.500 | 1.000 |" in capsys.readouterr().out
    assert len(board) == 3
    assert main([*command, "--entries", "vocoded"]) == 2
    assert "expected --entries among scenes, digits, but got 'vocoded'" in capsys.readouterr().err


def test_a_version_is_checked_by_scores_that_are_published(board, tmp_path, capsys):
    published = tmp_path / "frozen" / "rows.csv"
    assert main(["leaderboard", "--methods", "random", "LayerGradCam", "--csv", str(published)]) == 0
    capsys.readouterr()
    check = ["leaderboard", "--check", "--csv", str(tmp_path / "own.csv")]
    assert main(check) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  LayerGradCam: 0.5000, as published" in lines
    assert lines[0] == "scenes: network, clips, fills and grids are those of the version exactly"
    changed = pd.read_csv(published)
    changed.loc[(changed["method"] == "random") & (changed["entry"] == "digits"), "difference"] += 0.1
    changed.to_csv(published, index=False)
    assert main(check) == 2
    assert "  random: 0.0000, published: 0.1000" in capsys.readouterr().out
    assert not (tmp_path / "own.csv").exists()


def test_a_version_is_frozen_by_its_own_option(monkeypatch, tmp_path, capsys):
    made = []

    def freeze(version, entries):
        made.append((version.number, entries))
        raise FrozenError("expected a new version, but it is there")

    monkeypatch.setattr(leaderboard_command, "freeze", freeze)
    assert main(["leaderboard", "--freeze", "--version", "7", "--csv", str(tmp_path / "own.csv")]) == 2
    assert made == [(7, leaderboard_command.ENTRIES)]
    assert "expected a new version" in capsys.readouterr().err


def test_a_changed_file_or_code_or_a_failure_is_scored_again(board, tmp_path, monkeypatch, capsys):
    command = ["leaderboard", "--entries", "scenes", "--csv", str(tmp_path / "own.csv")]
    path = tmp_path / "mine.py"
    path.write_text("from benchmarks.methods import METHODS")
    digests = iter(["1f", "1f", "2e", "2e", "2e", "2e"])
    monkeypatch.setattr("benchmarks.__main__.run_command.add_methods", lambda _: {"energy": next(digests)})
    for n_scored in (1, 1, 2):
        assert main(command) == 0
        assert len(board) == n_scored
    assert len(pd.read_csv(tmp_path / "own.csv")) == 1
    monkeypatch.setattr(leaderboard_command, "code_fingerprint", lambda: "new code")
    (tmp_path / "frozen" / "broken").touch()
    assert main(command) == 0
    assert "  energy: error (broken)" in capsys.readouterr().err
    (tmp_path / "frozen" / "broken").unlink()
    assert main(command) == 0
    assert main(command) == 0
    assert len(board) == 4
    (line,) = pd.read_csv(tmp_path / "own.csv").to_dict("records")
    assert (line["status"], line["code"], line["file"]) == ("ok", "new code", "2e")


def test_a_check_without_published_scores_says_so_and_one_of_a_failure_is_no_success(board, tmp_path, capsys):
    check = ["leaderboard", "--check", "--csv", str(tmp_path / "own.csv")]
    assert main(check) == 0
    assert (
        "digits: network, clips, fills and grids are those of the version up to rounding; no published scores to repeat"
        in (capsys.readouterr().out)
    )
    published = tmp_path / "frozen" / "rows.csv"
    assert main(["leaderboard", "--methods", "random", "--csv", str(published)]) == 0
    (tmp_path / "frozen" / "broken").touch()
    assert main(check) == 2
    assert "  random: nan, published: 0.0000" in capsys.readouterr().out
