"""The guides: every page runs from its first block to its last, in an empty folder and without a network."""

import re
import socket
from pathlib import Path

import pytest
import torch

GUIDES = Path(__file__).parents[1] / "tutorials" / "guides"
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(path.stem for path in GUIDES.glob("*.md") if PYTHON.search(path.read_text()))
# Pages with a test of their own: the block of the command line is a module, and the architectures are tested row by row.
NOT_HERE = {"command_line"}


def run_blocks(blocks, folder, monkeypatch):
    """Runs blocks of Python one after the other in an empty folder; returns the names that they leave."""

    connect = socket.socket.connect

    def connect_here(self, address):
        assert self.family == socket.AF_UNIX, f"a page of the documentation asked for a network: {address}"
        return connect(self, address)

    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket.socket, "connect", connect_here)
    names = {"__name__": "guide"}
    with torch.random.fork_rng():
        for block in blocks:
            exec(compile(block, "guide", "exec"), names)
    return names


@pytest.mark.parametrize("page", sorted(set(PAGES) - NOT_HERE))
def test_a_guide_runs_as_it_is_pasted(page, tmp_path, monkeypatch):
    run_blocks(PYTHON.findall((GUIDES / f"{page}.md").read_text()), tmp_path, monkeypatch)


@pytest.mark.parametrize("path", sorted(GUIDES.glob("*.md")), ids=lambda path: path.stem)
def test_a_guide_begins_with_what_the_reader_wants(path):
    lines = [line for line in path.read_text().splitlines() if line]
    assert lines[0].startswith("# ")
    assert lines[1][0].isalpha()


def test_every_page_that_is_tested_elsewhere_exists():
    assert {path.stem for path in GUIDES.glob("*.md")} >= NOT_HERE
