"""The guides: every page runs from its first block to its last, in an empty folder and without a network."""

import ast
import re
import socket
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from benchmarks.methods import LEARNERS, METHODS
from benchmarks.tasks import TASKS
from captum_apex import Event, RegionEffect, write_csv, write_raven
from captum_apex.explaining.explained_clips import COLUMNS
from captum_apex.explanations import ChannelEvent
from captum_apex.explanations.event_files import event_records

ROOT = Path(__file__).parents[1]
GUIDES = ROOT / "tutorials" / "guides"
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(path.stem for path in GUIDES.glob("*.md") if PYTHON.search(path.read_text()))
# Pages with a test of their own: the block of the command line is a module.
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
    with torch.random.fork_rng(), patch.dict(TASKS), patch.dict(METHODS), patch.dict(LEARNERS):
        for block in blocks:
            exec(compile(block, "guide", "exec"), names)
    return names


@pytest.mark.filterwarnings("ignore:digital silence gets")  # as the small models of some guides do
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


def texts_in_the_code():
    """Every string of the library; a null character stands for each value that is put into it."""
    for path in (ROOT / "captum_apex").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                yield "".join(str(part.value) if isinstance(part, ast.Constant) else "\0" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_the_messages_of_the_faq_occur_in_the_code():
    section = (GUIDES / "faq.md").read_text().split("## Error messages")[1]
    messages = [message.strip() for message in re.findall(r"^\| `+(.*?)`+ \| ", section, flags=re.MULTILINE)]
    assert len(messages) > 30
    texts = list(texts_in_the_code())
    for message in messages:
        pattern = re.compile(".*".join(re.escape(piece.strip()) for piece in message.split("…")), re.DOTALL)
        assert any(pattern.search(text) for text in texts), f"no message of the library reads {message!r}"


def test_the_glossary_is_in_alphabetical_order_and_has_the_symbols():
    text = (GUIDES / "glossary.md").read_text()
    terms = [term.lower() for term in re.findall(r"^### (.+)", text, flags=re.MULTILINE)]
    assert len(terms) > 60
    assert terms == sorted(terms)
    symbols = re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)
    assert set("UZGR") | {"c_k", "a_k"} <= set(symbols)


def rows_below(page, heading):
    """The cells of the table below a heading of a guide, without its two first lines."""
    section = (GUIDES / f"{page}.md").read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_guide_has_all_columns_of_the_evidence_in_their_order():
    rows = rows_below("first_explanations", "The columns of evidence.csv")
    listed = [name for names, _ in rows for name in names.split(", ")]
    assert listed == [f"`{name}`" for name in COLUMNS]


def test_the_guide_has_all_columns_of_the_files_of_events(tmp_path):
    effect = RegionEffect(channel=0.5, random=(0.1,))
    event = Event.of([ChannelEvent(1.0, 2.0, 150.0, 3500.0, 0, "dog", 0.9, 17, 1, 2.5, effect)])
    write_csv(tmp_path / "events.csv", [event])
    write_raven(tmp_path / "events.txt", [event])
    rows = rows_below("long_recordings", "The columns of the files of events")
    in_csv, in_raven, in_json = ([name for row in rows for name in row[i].split(", ") if name] for i in range(3))
    header = (tmp_path / "events.csv").read_text().splitlines()[0].split(",")
    assert sorted(in_csv) == sorted(f"`{name}`" for name in header)
    assert ["Selection", "View", "Channel", *in_raven] == header_of_raven(tmp_path / "events.txt")
    (record,) = event_records([event])
    names = [name.strip("`").partition(".") for name in in_json]
    assert {first for first, dot, _ in names if not dot} == set(record) - {"label"}  # which the first line names
    assert {last for _, dot, last in names if dot} <= set(record["channels"][0]["effect"])


def header_of_raven(path):
    return path.read_text().splitlines()[0].split("\t")
