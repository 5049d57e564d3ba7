"""`python -m benchmarks naming`: every basis is measured once, and the table goes into a file."""

import pandas as pd

from benchmarks.__main__ import main
from benchmarks.commands import naming_command


def test_names_are_measured_once_and_written_into_a_file(tmp_path, monkeypatch, capsys):
    measured = []

    def prepared(task, network, seed, progress):
        measured.append(("prepared", task, network, seed))
        return (task, network, seed)

    def lines(subject, name, unseen):
        assert unseen == f"test clips of {subject}"
        measured.append((subject[2], name))
        return pd.DataFrame([dict.fromkeys(naming_command.COLUMNS, 0.25 + subject[2] / 10) | {"scheme": "time"}])

    monkeypatch.setattr(naming_command, "prepare", prepared)
    monkeypatch.setattr(naming_command, "unseen_bank", lambda subject: f"test clips of {subject}")
    monkeypatch.setattr(naming_command, "naming_lines", lines)
    page = tmp_path / "page.md"
    page.write_text("<!-- Names of channels -->\nold\n<!-- end of Names of channels -->\n")
    command = ["naming", "--bases", "raw", "PCA", "--csv", str(tmp_path / "lines.csv"), "--out", str(page)]
    assert main(command) == 0
    assert "| scenes | cnn | time | raw | 0.25 |" in capsys.readouterr().out
    assert main([*command, "--seeds", "0", "1"]) == 0
    first, second = ([("prepared", "scenes", "cnn", seed), (seed, "raw"), (seed, "PCA")] for seed in (0, 1))
    assert measured == [*first, *second]
    assert "| scenes | cnn | time | PCA | 0.30 (0.25 to 0.35) |" in page.read_text()
    assert "old" not in page.read_text()
