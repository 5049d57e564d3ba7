"""The README: it is short, it runs as it is pasted, and it leads to files that exist."""

import re
from pathlib import Path

import pytest

from tests.test_guides import PYTHON, run_blocks

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def test_it_is_short():
    assert len(TEXT.encode()) <= 8192


def test_its_example_runs_and_prints_what_it_says(tmp_path, monkeypatch, capsys):
    (block,) = PYTHON.findall(TEXT)
    names = run_blocks([block], tmp_path, monkeypatch)
    printed = capsys.readouterr().out.splitlines()
    promised = re.findall(r"```text\n(.*?)```", TEXT, flags=re.DOTALL)[0].splitlines()
    assert len(printed) == len(promised)
    for line, expected in zip(printed, promised, strict=True):
        assert line.split(":")[0] == expected.split(":")[0]  # the class; channels may differ on another machine
    sounds = names["sounds"]
    for page, index in zip(names["explained"], (0, 5), strict=True):
        assert page.class_name(page.target) == sounds.class_names[sounds.labels[index]]
        labels = [names["training_clips"].labels[prototype] for prototype in page.shown_prototypes]
        assert labels.count(page.target) > len(labels) / 2
    for row in names["explained"].rows():
        assert row["channel_falls"] > max(0.2, row["random_falls"])
    assert Path("page.html").is_file()


def test_it_names_the_two_commands():
    makefile = (ROOT / "Makefile").read_text()
    for command in ("benchmark", "test", "docs"):
        assert f"make {command}" in TEXT
        assert f"\n{command}:" in makefile


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https://)([^)#]+)", TEXT))
def test_its_links_lead_somewhere(target):
    assert (ROOT / target).exists()
