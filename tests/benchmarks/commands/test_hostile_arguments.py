"""Whatever an option of the benchmark is given, it ends in a line, and before the work."""

import argparse
import json
import math
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import command_parser, main
from benchmarks.commands import measure_command, regions_command, run_command, truth_command
from benchmarks.reports import pictures

NUMBERS = (
    *(
        "",
        " ",
        "-1",
        "0",
        "1",
        "2",
        "1.5",
        "nan",
        "inf",
        "-inf",
        "1e308",
        "-1e308",
        "1e-320",
        "0x10",
        "1_0",
        "half",
        "½",
    ),
    *("9" * 30, "9" * 5000, "1" + "0" * 18, "\udce9", "²"),
)
PATHS = (
    "",
    ".",
    "file",
    "file/b",
    "/dev/null",
    "/proc/none/b",
    "x" * 300,
    "\udce9",
    "none/b",
    "folder",
    "b.md",
    "b.png",
)
RUN = {
    "key": {"task": "scenes", "network": "cnn", "part": "test", "clips": 3, "layer": ""},
    "settings": {"methods": ["a"], "grids": ["time"], "fills": ["mean"], "accuracy": 1.0, "test_clips": 9}
    | {"reference": None, "command": "run", "sources": {}},
}
BASE = {
    **{name: [] for name in ("run", "speed", "events", "norm", "regions", "pictures")},
    "report": ["folder"],
    "overview": ["folder"],
    "list": [],
    "truth": ["--model", "m:f", "--recordings", "folder", "--annotations", "file"],
}


class StartedError(Exception):
    """The work has begun."""


def commands():
    (subparsers,) = (each for each in command_parser()._actions if isinstance(each, argparse._SubParsersAction))
    return subparsers.choices


def options_of(command):
    """The options of a command that take a value without choices."""
    return [each for each in commands()[command]._actions if each.nargs != 0 and each.choices is None]


def is_path(action):
    return action.type in (None, Path) or action.type.__name__ in ("absolute_path", "picture", "device")


ALL = [(command, action) for command in BASE for action in options_of(command)]
NUMERIC = [
    pytest.param(command, action, id=f"{command} {action.dest}") for command, action in ALL if not is_path(action)
]
OTHERS = [pytest.param(command, action, id=f"{command} {action.dest}") for command, action in ALL if is_path(action)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("no run")
    Path("folder").mkdir()
    sys.stderr.reconfigure(errors="backslashreplace")


def started(*_, **__):
    raise StartedError


def ended(arguments, capsys):
    """What a command says that ends with status 2; empty where it started the work."""
    try:
        status = main(arguments)
    except SystemExit as error:
        status = error.code
    except StartedError:
        status = 0
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert status in (0, 2) or "StartedError" in said, said
    return said if status == 2 else ""


@pytest.mark.parametrize(("command", "action"), NUMERIC)
def test_a_number_out_of_range_is_refused_by_the_parser(command, action, here, capsys):
    for value in NUMBERS:
        try:
            options = vars(
                command_parser().parse_args([command, *BASE[command], f"{action.option_strings[0]}={value}"])
            )
        except SystemExit:
            assert f"argument {action.option_strings[0]}: expected " in capsys.readouterr().err
        else:
            number = options[action.dest][0] if isinstance(options[action.dest], list) else options[action.dest]
            assert math.isfinite(number)
            assert 0 <= number < 2**32


@pytest.mark.parametrize(("command", "action"), OTHERS)
def test_every_text_is_refused_in_a_line_or_the_work_starts(command, action, here, monkeypatch, capsys):
    for module in (run_command, measure_command, regions_command, pictures):
        monkeypatch.setattr(module, "prepare", started)
    monkeypatch.setattr(measure_command.speed, "measure", started)
    monkeypatch.setattr(truth_command, "load_classifier", started)
    monkeypatch.setattr(measure_command, "norm_place_table", started)
    for value in PATHS:
        words = [action.option_strings[0], value] if action.option_strings else [value]
        ended([command, *(BASE[command] if action.option_strings else []), *words], capsys)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--out", "file"], "in a folder that can be written to"),
        (["run", "--backend", "abacus"], "expected --backend to be a backend of joblib, but got 'abacus'"),
        (["regions", "--csv", "file/a.csv"], "in a folder that can be written to"),
        (["regions", "--csv", "folder"], "expected a file to write, but folder is a folder"),
        (["regions", "--out", "file"], "to have a place for a table"),
        (["regions", "--csv", "file"], "but it lacks the column task"),
        (["regions", "--out", "none.md"], "that has a place for tables, but none.md is no file"),
        (["norm", "--out", "file"], "to have a place for a table"),
        (["heads", "--picture", "a.jpg"], "expected --picture to end in .png, but got a.jpg"),
        (["overview", "folder", "--pictures", "file/a"], "in a folder that can be written to"),
        (["events", "--picture", "file/a.png"], "in a folder that can be written to"),
        (["pictures", "--out", "file"], "in a folder that can be written to"),
        (["truth", *BASE["truth"], "--csv", "file/a.csv"], "in a folder that can be written to"),
        (["truth", *BASE["truth"], "--rows", "folder"], "expected a file to write, but folder is a folder"),
        (["truth", *BASE["truth"], "--out", "file"], "to have a place for a table"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(arguments, message, here, monkeypatch, capsys):
    for module in (run_command, measure_command, regions_command, pictures):
        monkeypatch.setattr(module, "prepare", started)
    monkeypatch.setattr(measure_command, "norm_place_table", started)
    monkeypatch.setattr(truth_command, "load_classifier", started)
    said = ended(arguments, capsys)
    assert message in said
    assert said.count("\n") == 1


def odd_runs():
    for part, entries in RUN.items():
        for name in entries:
            for value in (3, "text", [3], [], {"a": 1}, True, None):
                if type(value) is not type(entries[name]):
                    yield {**RUN, part: {**entries, name: value}}
            yield {**RUN, part: {each: entries[each] for each in entries if each != name}}
    yield from ({}, [], None, "text", {"key": 3}, {"key": {}, "settings": {}}, {**RUN, "versions": [1]})


@pytest.mark.parametrize("command", ["report", "overview"])
def test_an_odd_run_is_refused_in_a_line(command, here, capsys):
    """A run without a finished cell is the most that these settings can be."""
    Path("folder", "run.json").write_text(json.dumps(RUN))
    assert "finished cells" in ended([command, "folder"], capsys)
    for run in odd_runs():
        Path("folder", "run.json").write_text(json.dumps(run))
        assert (
            "run.json to hold a run's settings" in (said := ended([command, "folder"], capsys))
            or "finished cells" in said
        )
    for text in ("", "{", "[" * 100_000, "\x00", "\ud83d".encode("utf-8", "surrogatepass").decode("latin-1")):
        Path("folder", "run.json").write_text(text, encoding="latin-1")
        assert "run.json to hold a run's settings" in ended([command, "folder"], capsys)


def test_an_odd_run_is_not_continued(here, monkeypatch, capsys):
    monkeypatch.setattr(run_command, "prepare", started)
    Path("folder", "run.json").write_text(json.dumps({"key": {}, "settings": {}}))
    assert "'methods' is missing" in ended(["run", "--out", "folder"], capsys)
