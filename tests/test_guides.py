"""The guides: every page runs from its first block to its last, in an empty folder and without a network."""

import ast
import contextlib
import io
import re
import shlex
import socket
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from benchmarks.__main__ import main as benchmarks_main
from benchmarks.methods import LEARNERS, METHODS
from benchmarks.tasks import TASKS
from captum_apex import Event, RegionEffect, write_csv, write_raven
from captum_apex.explaining.explained_clips import COLUMNS
from captum_apex.explanations import ChannelEvent
from captum_apex.explanations.event_files import event_records
from tests.shown_outputs import agree, blocks_of, on_the_processor_of_the_pages

ROOT = Path(__file__).parents[1]
GUIDES = ROOT / "tutorials" / "guides"
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(path.stem for path in GUIDES.glob("*.md") if PYTHON.search(path.read_text()))
# Pages with a test of their own: the block of the command line is a module.
NOT_HERE = {"command_line"}
# Pages with trained networks or bases whose numbers are other ones on other processors.
TRAINED = {
    "benchmark",
    "does_the_model_listen_to_a_hum",
    "first_explanations",
    "long_recordings",
    "several_labels",
    "waveform_models",
    "your_own_model",
}
DOCUMENTS = ["README.md", "benchmarks/README.md", "tutorials/index.md"]
DOCUMENTS += sorted(str(path.relative_to(ROOT)) for path in GUIDES.glob("*.md"))
VALUE = re.compile(r"[-\d.,%\s()\[\]{}]*\d[-\d.,%\s()\[\]{}]*")
OF_COMMANDS = "tests/captum_apex/cli/test_cli.py::test_the_guide_runs_as_it_is_pasted"
# Outputs that are shown on a page whose blocks do not run here, or by a command: the test that compares each.
COMPARED_BY = {
    "README.md": ["tests/test_readme.py::test_its_example_runs_and_prints_what_it_says"],
    "tutorials/guides/command_line.md": [
        OF_COMMANDS,
        "tests/captum_apex/cli/test_cli.py::test_layers_lists_what_the_library_proposes",
        OF_COMMANDS,  # columns of two tables
        OF_COMMANDS,
    ],
    "tutorials/guides/your_own_model.md": [
        "tests/captum_apex/bases/test_guided_processes.py::test_the_script_prints_what_the_guide_shows"
    ],
}


def run_blocks(blocks, folder, monkeypatch):
    """Runs blocks of Python one after the other in an empty folder; returns the names that they leave and the outputs.

    An output is what a block prints: no warnings and no progress, which are on the error stream.
    """

    connect = socket.socket.connect

    def connect_here(self, address):
        assert self.family == socket.AF_UNIX, f"a page of the documentation asked for a network: {address}"
        return connect(self, address)

    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(socket.socket, "connect", connect_here)
    names = {"__name__": "guide"}
    outputs = []
    with torch.random.fork_rng(), patch.dict(TASKS), patch.dict(METHODS), patch.dict(LEARNERS):
        for block in blocks:
            with contextlib.redirect_stdout(io.StringIO()) as stream:
                exec(compile(block, "guide", "exec"), names)
            outputs.append(stream.getvalue())
    return names, outputs


@pytest.mark.filterwarnings("ignore:digital silence gets")  # as the small models of some guides do
@pytest.mark.parametrize("page", sorted(set(PAGES) - NOT_HERE))
def test_a_guide_runs_as_it_is_pasted_and_prints_what_it_shows(page, tmp_path, monkeypatch):
    blocks = [block for block in blocks_of((GUIDES / f"{page}.md").read_text()) if block.kind == "python"]
    _, outputs = run_blocks([block.code for block in blocks], tmp_path, monkeypatch)
    wrong = [
        f"{page}.md, line {block.line}, shows:\n{block.output}\nbut prints:\n{output}"
        for block, output in zip(blocks, outputs, strict=True)
        if not agree(block.output or "", output, rounded=page in TRAINED)
    ]
    if wrong and page in TRAINED and not on_the_processor_of_the_pages():
        pytest.skip(f"on this processor {len(wrong)} of {len(blocks)} blocks print other numbers of what is trained")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", DOCUMENTS)
def test_every_shown_output_is_compared(page):
    text = (ROOT / page).read_text()
    blocks = blocks_of(text)
    assert {block.kind for block in blocks} <= {"python", "py", "sh", "text"}
    n_shown = len(re.findall(r"``` *text", text))
    runs_here = page.startswith("tutorials/guides/") and Path(page).stem not in NOT_HERE
    n_compared = sum(block.kind == "python" and block.output is not None for block in blocks) if runs_here else 0
    assert n_shown == n_compared + len(COMPARED_BY.get(page, ()))
    assert {comment for block in blocks for comment in values_in_comments(block.code)} == set()


@pytest.mark.parametrize("test", sorted({test for tests in COMPARED_BY.values() for test in tests}))
def test_an_output_that_is_compared_elsewhere_has_its_test(test):
    path, name = test.split("::")
    assert f"\ndef {name}(" in (ROOT / path).read_text()


def values_in_comments(code):
    """Comments that are nothing but numbers, as in `print(1 + 1)  # 2`: outputs stand in blocks of their own."""
    return [comment for comment in re.findall(r"# *(.+)$", code, flags=re.MULTILINE) if VALUE.fullmatch(comment)]


@pytest.mark.parametrize(
    ("comment", "is_value"),
    [("0.426", True), ("[[6.0, 6.0]]", True), ("(1, 32, 63)", True), ("1 s", False), ("{'low'}", False)],
)
def test_a_value_in_a_comment_is_found(comment, is_value):
    assert bool(values_in_comments(f"print(x)  # {comment}\n")) == is_value


@pytest.mark.parametrize(
    ("shown", "printed", "exact", "rounded"),
    [
        ("p = 0.016\n", "p = 0.016\n", True, True),
        ("p = 0.016\n", "p = 0.017\n", False, True),
        ("p = 0.016\n", "p = 0.018\n", False, False),
        ("0.10\n", "0.09\n", False, True),
        ("0.00\n", "-0.01\n", False, True),
        ("accuracy: 1.0\n", "accuracy: 0.99\n", False, False),
        ("falls by 93%\n", "falls by 94%\n", False, True),
        ("falls by 93%\n", "falls by 95%\n", False, False),
        ("channel 13\n", "channel 14\n", False, False),
        ("channel 13 adds 0.78\n", "channel 12 adds 0.78\n", False, False),
        ("one 0.5\n", "two 0.5\n", False, False),
        ("0.5\n", "0.5\n0.5\n", False, False),
        ("", "0.5\n", False, False),
        ("[0, …, 9]\n", "[0, 1, 2, 9]\n", True, True),
        ("first\n…\nlast 0.50\n", "first\nsecond\nthird\nlast 0.51\n", False, True),
        ("first\n…\nlast\n", "first\nsecond\n", False, False),
    ],
)
def test_an_output_is_compared_with_what_is_shown(shown, printed, exact, rounded):
    assert agree(shown, printed) == exact
    assert agree(shown, printed, rounded=True) == rounded


def test_an_output_belongs_to_the_block_directly_above():
    page = "# Page\n\n```python\n1\n```\n\n```text\n2\n```\n\nText.\n\n```text\n3\n```\n\n```sh\n4\n```\n"
    blocks = [(block.kind, block.code, block.line, block.output) for block in blocks_of(page)]
    assert blocks == [("python", "1\n", 4, "2\n"), ("text", "3\n", 14, None), ("sh", "4\n", 18, None)]


def test_the_command_of_the_annotations_prints_the_table_of_the_guide(tmp_path, monkeypatch, capsys):
    """Its lines of the library's own methods; all six would take three times as long."""
    text = (GUIDES / "benchmark.md").read_text()
    blocks = blocks_of(text)
    (command,) = (block.code.replace("\\\n", "") for block in blocks if "benchmarks truth" in block.code)
    (sounds,) = (block.code for block in blocks if 'write_text("\\n".join(lines))' in block.code)
    run_blocks([sounds], tmp_path, monkeypatch)
    Path("captum_apex").symlink_to(ROOT / "captum_apex")
    arguments = command.partition("--methods")[0] + '--methods "found, square" "APEX square"'
    assert benchmarks_main(shlex.split(arguments)[3:]) == 0
    printed = capsys.readouterr().out.splitlines()
    table = re.search(r"^\| method \| AUC, segments (?:.+\n)+", text, re.MULTILINE)[0].splitlines()
    assert len(table) == 8  # two lines of names, six methods
    assert [line for line in table if line in printed] == table[:4]


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
