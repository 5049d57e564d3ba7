"""The CSV file of a command: what is computed again, and what is said of it."""

import re

import pandas as pd
import pytest

from benchmarks.commands import stored_lines
from benchmarks.commands.stored_lines import StoredLines
from benchmarks.runs.results import FolderError


@pytest.fixture
def stored(tmp_path):
    return StoredLines(tmp_path / "lines.csv", "fits", ["task", "seed"], ["purity"])


def measured_lines(task, number):
    return pd.DataFrame({"purity": [number / 2, number / 4], "more": 1})


def test_lines_that_are_there_are_not_measured_again(stored, capsys):
    first = stored.completed([("digits", 1)], measured_lines)
    assert capsys.readouterr().err == f"digits, 1: written to {stored.path}\n"
    both = stored.completed([("digits", 1), ("digits", 2)], measured_lines)
    assert both["purity"].tolist() == [0.5, 0.25, 1.0, 0.5]
    assert both.columns.tolist() == ["task", "seed", "purity"]
    pd.testing.assert_frame_equal(both[:2], first)
    assert capsys.readouterr().err.splitlines() == [
        f"digits, 2: written to {stored.path}",
        f"1 of 2 results from {stored.path}, not computed again",
    ]


def test_lines_of_other_code_are_said_to_be_such(stored, capsys, monkeypatch):
    stored.add(pd.DataFrame({"task": ["digits"], "seed": [0], "purity": [0.125]}))  # before the code was kept
    stored.completed([("digits", 1)], measured_lines)
    monkeypatch.setattr(stored_lines, "code_fingerprint", lambda: "other")
    stored.completed([("digits", 2)], measured_lines)
    capsys.readouterr()
    lines = stored.completed([("digits", number) for number in range(3)], measured_lines)
    assert lines["purity"].tolist() == [0.125, 0.5, 0.25, 1.0, 0.5]
    assert capsys.readouterr().err == (
        f"3 of 3 results from {stored.path}, not computed again; 2 of them by other code than this: remove their lines "
        "to compute them again\n"
    )


@pytest.mark.parametrize("kept", [12, 1])  # within the first and the second value of the last line
def test_a_file_that_ends_within_a_line_is_said_to_be_damaged(stored, kept):
    stored.completed([("digits", 1)], measured_lines)
    *lines, last = stored.path.read_text().splitlines()
    assert last.count(",") == 3
    stored.path.write_text("\n".join([*lines, last[:kept]]))
    message = (
        f"to hold the lines of `fits`, but line 3 has {last[:kept].count(',') + 1} of 4 cells; name another file for "
        "--csv, or remove all lines of its task, seed"
    )
    with pytest.raises(FolderError, match=re.escape(message)):
        stored.of("digits", 1)


def test_a_file_that_ends_within_its_last_value_is_said_to_be_damaged(stored):
    stored.completed([("digits", 1)], measured_lines)
    stored.path.write_text(stored.path.read_text()[:-3])
    with pytest.raises(FolderError, match="but its last line does not end; name another file for --csv"):
        stored.of("digits", 1)
