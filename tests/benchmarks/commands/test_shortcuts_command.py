"""`python -m benchmarks shortcuts`: every classifier is trained once, and the table goes into a file."""

import argparse

import pandas as pd
import pytest

from benchmarks.__main__ import main
from benchmarks.commands import shortcuts_command
from benchmarks.commands.shortcuts_command import level
from captum_apex import SCHEMES


def test_shortcuts_are_measured_once_and_written_into_a_file(tmp_path, monkeypatch, capsys):
    measured = []

    def table(task, network, sound, schemes, seed):
        measured.append((*task, network, type(sound).__name__, sound.level, seed))
        assert tuple(schemes) == SCHEMES
        values = dict.fromkeys(shortcuts_command.COLUMNS, 0.25 + seed / 10)
        return pd.DataFrame([values | {"trained": "with it", "scheme": "time"}])

    monkeypatch.setattr(shortcuts_command, "load_task", lambda name, seed: (name, seed))
    monkeypatch.setattr(shortcuts_command, "shortcut_table", table)
    page = tmp_path / "page.md"
    page.write_text("<!-- Shortcuts -->\nold\n<!-- end of Shortcuts -->\n")
    command = ["shortcuts", "--csv", str(tmp_path / "lines.csv"), "--out", str(page)]
    assert main([*command, "--levels", "-40"]) == 0
    assert "| digits | cnn | hum | -40 | with it | time | 0.250 |" in capsys.readouterr().out
    assert main([*command, "--seeds", "0", "1"]) == 0
    assert measured == [
        ("digits", seed, "cnn", "Hum", decibels, seed) for seed, decibels in ((0, -40), (0, -60), (1, -40), (1, -60))
    ]
    assert main([*command, "--plant", "hum", "click", "--levels", "-20"]) == 0
    assert measured[4:] == [("digits", 0, "cnn", name, -20, 0) for name in ("Hum", "Click")]
    assert "| digits | cnn | click | -20 | with it" in page.read_text()
    assert "| digits | cnn | hum | -60 | with it | time | 0.300 (0.250 to 0.350) |" in page.read_text()
    assert "old" not in page.read_text()


def test_levels_are_checked():
    assert level("-40") == -40.0
    for text in ("1", "-201", "nan", "loud"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"expected a level from -200 to 0 dB, but got '{text}'"):
            level(text)
