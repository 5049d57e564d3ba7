"""Progress bars by where they are written."""

import io
import sys
import time

import pytest
from tqdm import tqdm

from captum_apex.progress import bar_settings


class Terminal(io.StringIO):
    def isatty(self):
        return True


def written(monkeypatch, stream, *, shown=True, inner=False):
    """What a bar of 0.6 s writes."""
    monkeypatch.setattr(sys, "stderr", stream)
    for _ in tqdm(range(300), desc="running", **bar_settings(shown, inner=inner)):
        time.sleep(0.002)
    return stream.getvalue()


def test_a_bar_in_a_log_file_says_that_it_begins_and_ends(monkeypatch):
    text = written(monkeypatch, io.StringIO())
    assert text.count("running") == 2
    assert " 0/300 " in text
    assert " 300/300 " in text
    assert text.endswith("\n")


def test_a_bar_on_a_terminal_moves(monkeypatch):
    assert written(monkeypatch, Terminal()).count("running") >= 4


def test_a_bar_of_one_step_is_on_a_terminal_alone(monkeypatch):
    assert written(monkeypatch, io.StringIO(), inner=True) == ""
    assert "running" in written(monkeypatch, Terminal(), inner=True)


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_no_bar_is_shown_where_none_is_wanted(monkeypatch, stream):
    assert written(monkeypatch, stream(), shown=False) == ""
