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
    assert printed[0].startswith("sweep: logit ")
    assert names["attributions"].shape == names["inputs"][:1].shape
    sweeps = {index for index, label in enumerate(names["labels"].tolist()) if label == 1}
    prototypes = {prototype.index for evidence in names["explanation"].evidence for prototype in evidence.prototypes}
    assert len(prototypes & sweeps) > len(prototypes) / 2
    for evidence in names["explanation"].evidence:
        assert lies_on_the_sweep(names["clip"].place(evidence.region.boxes[0]))


def lies_on_the_sweep(place):
    """Whether a place meets the example's sound, which rises from 500 Hz at 0.3 s to 2900 Hz at 0.5 s."""
    start = max(place.start, 0.3)
    end = min(place.end, 0.5)
    return start < end and place.low < 500 + 12_000 * (end - 0.3) and place.high > 500 + 12_000 * (start - 0.3)


def test_it_names_the_two_commands():
    makefile = (ROOT / "Makefile").read_text()
    for command in ("benchmark", "test", "docs"):
        assert f"make {command}" in TEXT
        assert f"\n{command}:" in makefile


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https://)([^)#]+)", TEXT))
def test_its_links_lead_somewhere(target):
    assert (ROOT / target).exists()
