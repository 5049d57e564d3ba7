"""The command line with odd options, in this process: it ends in a line and a status, never in a traceback."""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
import torch

from captum_apex.__main__ import main
from tests.fuzz.sounds import FORMATS, mutated, valid
from tests.fuzz.texts import odd_file_name

MODEL = """
import torch
from captum_apex import Classifier
from torch import nn

def network():
    torch.manual_seed(0)
    features = nn.Conv2d(1, 3, 3, padding=1)
    return nn.Sequential(features, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))

def transform(waveform):
    return waveform[: len(waveform) // 80 * 80].reshape(1, 8, -1)

def classifier(length=1600, layer=1, **others):
    model = network()
    return Classifier(
        model, transform, sample_rate=8000, class_names=["dog", "rain"], length=length,
        layer=None if layer is None else model[layer], input_layout="n c f t", exclusive=True, **others,
    )

def no_length():
    return classifier(length=None)

def no_layer():
    return classifier(layer=None)

def raises():
    raise RuntimeError("no weights")

def nothing():
    return None

def late():
    made = classifier()
    made.model.forward = lambda inputs: 1 / 0
    return made

def pairs():
    made = classifier()
    forward = made.model.forward
    made.model.forward = lambda inputs: (forward(inputs), 1)
    return made

not_callable = 3
"""
FACTORIES = (
    *("classifier",) * 12,
    *("no_length", "no_layer", "raises", "nothing", "late", "pairs", "not_callable", "missing", ""),
)
NUMBERS = ("0", "1", "2", "-1", "0.5", "1e308", "1e-308", "nan", "inf", "-inf", "", "abc", "١", "1_0", "0x1", " 1", "²")


@cache
def _ground() -> Path:
    """A folder with the module, recordings, bases and clips, made once; each case gets links to a copy."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-commands-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "fuzzed_model.py").write_text(MODEL)
    for name, hertz in (("dog", 300), ("rain", 900)):
        (folder / "recordings" / name).mkdir(parents=True)
        for take in range(2):
            time = np.arange(1600) / 8000
            soundfile.write(folder / "recordings" / name / f"{take}.wav", 0.3 * np.sin(hertz * (6 + take) * time), 8000)
    shutil.copy(folder / "recordings" / "dog" / "0.wav", folder / "new.wav")
    arguments = ["fit", "recordings", "--model", "fuzzed_model:classifier", "--out", "bases", "--epochs", "1"]
    status, _, told = _run(folder, arguments)
    assert status == 0, told
    return folder


def commands(random: np.random.Generator, folder: Path) -> str | None:
    """A command with up to three odd options or files."""
    shutil.copytree(_ground(), folder, dirs_exist_ok=True)
    for _ in range(int(random.choice([0, 0, 1, 2]))):
        _spoil(random, folder)
    command = str(random.choice(["fit", "explain", "events", "events"]))
    arguments = {"fit": _fit, "explain": _explain, "events": _events}[command](random, folder)
    factory = str(random.choice(FACTORIES))
    arguments = [command, *arguments, "--model", f"fuzzed_model:{factory}"]
    if random.random() < 0.1:
        arguments += [str(random.choice(["--no-convert", "--device", "--devic", "--help", "--model", "extra"]))]
    if random.random() < 0.05:
        arguments += ["--device", str(random.choice(["cpu", "meta", "cuda", "", "cpu:7", "🦊"]))]
    if random.random() < 0.1:
        arguments.pop(int(random.integers(len(arguments))))
    status, told, complained = _run(folder, arguments)
    _check(status, told, complained, arguments)
    return f"status {status}" if status else None


def _run(folder: Path, arguments: list[str]) -> tuple[int, str, str]:
    """The status of a command in a folder, and what it wrote to both streams."""
    before, path = os.getcwd(), list(sys.path)
    out, err = io.StringIO(), io.StringIO()
    try:
        os.chdir(folder)
        sys.path.insert(0, str(folder))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), torch.random.fork_rng():
            try:
                status = main(arguments)
            except SystemExit as exit_:  # argparse's
                status = exit_.code if isinstance(exit_.code, int) else 1
    finally:
        os.chdir(before)
        sys.path[:] = path
    return status, out.getvalue(), err.getvalue()


def _check(status: int, told: str, complained: str, arguments: list[str]) -> None:
    assert status in (0, 2), (status, arguments, complained)
    assert "Traceback" not in complained, (arguments, complained)
    if status == 2:
        said = any(words in complained for words in ("expected", "error: ", "the model raised"))
        assert said, (arguments, complained)
    elif "--help" not in arguments:
        assert told.endswith((".safetensors\n", ".html\n", ".htm\n", ".txt\n", ".csv\n", ".json\n")), (arguments, told)


def _spoil(random: np.random.Generator, folder: Path) -> None:
    """Damages, removes or adds a file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".py")
    path = files[int(random.integers(len(files)))]
    kind = int(random.integers(5))
    if kind == 0:
        path.write_bytes(mutated(random, path.read_bytes(), lambda: files[0].read_bytes()))
    elif kind == 1:
        path.unlink()
    elif kind == 2:
        path.unlink()
        path.mkdir()
    elif kind == 3:
        shutil.copy(path, path.with_name(f"{odd_file_name(random)}{path.suffix}"))
    else:
        content = valid(int(random.integers(len(FORMATS))), int(random.choice([8000, 16000])), 1, 0.1)[0]
        path.write_bytes(mutated(random, content, lambda: b"") if random.random() < 0.3 else content)


def _numbers(random: np.random.Generator, options: list[str], share: float = 0.3) -> list[str]:
    """Some of the options, each with a number that may be odd."""
    chosen = []
    for option in options:
        if random.random() < share:
            chosen += [option, str(random.choice(NUMBERS))]
    return chosen


def _path(random: np.random.Generator, folder: Path, usual: str, *others: str) -> str:
    if random.random() < 0.75:
        return usual
    odd = odd_file_name(random) + str(random.choice(["", ".txt", ".html", ".safetensors", ".wav"]))
    return str(
        random.choice(np.array([*others, odd, "", ".", "/dev/null", "/nowhere/x", "new.wav", "bases"], dtype=object))
    )


def _fit(random: np.random.Generator, folder: Path) -> list[str]:
    arguments = [_path(random, folder, "recordings", "recordings/dog"), "--epochs", "1"]
    arguments += ["--out", _path(random, folder, "new bases", "bases/time.safetensors")]
    if random.random() < 0.6:
        arguments += ["--scheme", *random.choice(["time", "square", "frequency", "time-frequency", "both"], 2).tolist()]
    arguments += _numbers(random, ["--seed", "--batch-size", "--locate"], 0.15)
    if random.random() < 0.3:
        arguments += ["--layer", str(random.choice(["0", "1", "4", "features", ""]))]
    return arguments


def _explain(random: np.random.Generator, folder: Path) -> list[str]:
    arguments = [_path(random, folder, "new.wav", "recordings/rain/1.wav"), "--out", _path(random, folder, "page.html")]
    arguments += ["--basis", _path(random, folder, "bases", "bases/time.safetensors", "recordings")]
    arguments += _numbers(random, ["--channels", "--prototypes", "--limit", "--threshold"], 0.2)
    if random.random() < 0.3:
        arguments += ["--target", str(random.choice(["dog", "rain", "0", "7", "-1", "dogs", "", "²"]))]
    if random.random() < 0.4:
        arguments += ["--data", _path(random, folder, "recordings", "recordings/dog")]
    return arguments + (["--cells"] if random.random() < 0.8 else ["--cross"] if random.random() < 0.5 else [])


def _events(random: np.random.Generator, folder: Path) -> list[str]:
    arguments = [_path(random, folder, "new.wav", "recordings/rain/1.wav")]
    arguments += ["--basis", _path(random, folder, "bases/time.safetensors", "bases/frequency.safetensors")]
    if random.random() < 0.8:
        arguments += ["--raven", _path(random, folder, "night.txt")]
    if random.random() < 0.4:
        arguments += ["--audacity", _path(random, folder, "labels.txt", "night.txt")]
    arguments += _numbers(random, ["--window", "--hop", "--threshold", "--level", "--gap", "--channels"], 0.25)
    if random.random() < 0.2:
        arguments += ["--table", _path(random, folder, "night.csv", "night.json")]
    return arguments + (["--refine"] if random.random() < 0.1 else [])
