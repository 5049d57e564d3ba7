"""Whatever an option is given, a command ends in a result or in one line, and never in a traceback."""

import argparse
import math
import re
import sys
from pathlib import Path

import pytest
import soundfile
import torch

from captum_apex.__main__ import main
from captum_apex.cli.parser import parser

pytestmark = pytest.mark.filterwarnings("ignore:digital silence gets")  # of an untrained model
MODEL = """
import torch
from torch import nn
from captum_apex import Classifier, SpectrogramAxes

def classifier():
    torch.manual_seed(0)
    features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU())
    model = nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    axes = SpectrogramAxes(8000, 64, 64)
    window = torch.hann_window(64)
    def transform(waveform):
        return 20 * torch.stft(waveform, 64, 64, window=window, return_complex=True).abs().clamp_min(1e-4).log10()[None]
    names = ["dog", "rain"]
    return Classifier(
        model, transform, 8000, names, axes=axes, decibels=lambda x: x[0], length=800, exclusive=True
    )
"""
NUMBERS = (
    *("", " ", "-1", "0", "-0", "1.5", "nan", "inf", "-inf", "1e308", "-1e308", "1e-320", "0x10", "1_0", "half", "½"),
    *("9" * 30, "9" * 5000, "1" + "0" * 18, "\udce9", "²"),
)
TEXTS = (
    "",
    ".",
    "none",
    "none.safetensors",
    "/dev/null",
    "a.wav/b",
    "x" * 300,
    "\udce9",
    "=cmd",
    "my_model:torch",
    "\n",
)
BASE = {
    "fit": {"data": "recordings", "--model": "my_model:classifier", "--layer": "0", "--out": "new.safetensors"}
    | {"--scheme": "time", "--epochs": "1"},
    "explain": {"clips": "a.wav", "--model": "my_model:classifier", "--basis": "time.safetensors", "--out": "new.html"}
    | {"--cells": None},
    "events": {"recordings": "a.wav", "--model": "my_model:classifier", "--basis": "time.safetensors"}
    | {"--raven": "new.txt", "--window": "0.1"},
}


def commands():
    (subparsers,) = (each for each in parser()._actions if isinstance(each, argparse._SubParsersAction))
    return subparsers.choices


def options_of(command):
    """The options of a command that take a value, by their name as it is typed."""
    actions = [each for each in commands()[command]._actions if each.nargs != 0]
    return {(action.option_strings or [action.dest])[-1]: action for action in actions}


def is_number(action):
    return action.type not in (None, Path) and action.type.__name__ != "device"


NUMERIC = [(command, name) for command in BASE for name, action in options_of(command).items() if is_number(action)]
OTHERS = [(command, name) for command in BASE for name, action in options_of(command).items() if not is_number(action)]


def words(command, name=None, value=None):
    """A command line of which one option is replaced."""
    given = BASE[command] | ({} if name is None else {name: value})
    positional = [word for key, word in given.items() if not key.startswith("-")]
    options = [word for key, word in given.items() if key.startswith("-") for word in (key, word) if word is not None]
    return [command, *positional, *options]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "my_model.py").write_text(MODEL)
    generator = torch.Generator().manual_seed(0)
    for name in ("a.wav", "recordings/dog/0.wav", "recordings/rain/0.wav"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, torch.randn(800, generator=generator).mul(0.1).numpy(), 8000)
    return folder


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "my_model", raising=False)
    if not Path("time.safetensors").exists():
        assert main([*words("fit"), "--out", "time.safetensors"]) == 0
    yield folder
    sys.modules.pop("my_model", None)


@pytest.fixture(autouse=True)
def streams(capsys):
    """The error stream takes every name, as that of a process does."""
    sys.stderr.reconfigure(errors="backslashreplace")
    sys.stdout.reconfigure(errors="surrogateescape")


def ended(arguments, capsys):
    """The status of a command, after a check that what it says is one line where it fails."""
    try:
        status = main(arguments)
        said = capsys.readouterr().err
    except SystemExit as error:  # of the parser
        status = error.code
        said = capsys.readouterr().err[-4000:]
        said = said[said.rfind("\npython -m captum_apex ") + 1 :]
    assert status in (0, 2), said
    assert "Traceback" not in said
    if status == 2:
        line = said.splitlines()[-1]
        assert re.match("python -m captum_apex", line), said
        assert said.endswith("\n")
    return status


def parsed(arguments):
    """The options by name; None where the parser ends the program."""
    try:
        return vars(parser().parse_args(arguments))
    except SystemExit:
        return None


@pytest.mark.parametrize(("command", "name"), NUMERIC)
def test_a_number_out_of_range_is_refused_by_the_parser(command, name, capsys):
    """What the parser accepts is finite and in the range of its type."""
    for value in NUMBERS:
        options = parsed([*words(command), f"{name}={value}"])
        if options is None:
            assert f"argument {name}: expected " in capsys.readouterr().err
        else:
            number = options[name.removeprefix("--").replace("-", "_")]
            assert math.isfinite(number)
            assert number >= 0
            assert number < 2**32 or name == "--limit"


@pytest.mark.parametrize(("command", "name"), NUMERIC)
def test_every_number_that_the_parser_takes_gives_a_result_or_a_line(command, name, here, capsys):
    for value in (*NUMBERS, "0.001", "1", "2147483647"):
        is_taken = parsed([*words(command), f"{name}={value}"]) is not None
        if is_taken and (name != "--epochs" or int(value) < 5):  # more take long
            capsys.readouterr()
            ended(words(command, name, value), capsys)


@pytest.mark.parametrize(("command", "name"), OTHERS)
def test_every_text_gives_a_result_or_a_line(command, name, here, capsys):
    before = {path: path.read_bytes() for path in here.rglob("*.wav")}
    for value in TEXTS:
        ended(words(command, name, value), capsys)
    assert {path: path.read_bytes() for path in here.rglob("*.wav")} == before
