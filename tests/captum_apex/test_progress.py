"""Progress bars by where they are written."""

import io
import subprocess
import sys
import time
import warnings

import pytest
import soundfile
import torch
from tqdm import tqdm

from captum_apex.caller import warn_caller
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


def test_a_bar_that_nobody_has_asked_for_is_on_a_terminal_alone_and_after_a_while(monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    assert written(monkeypatch, Terminal(), shown=None) == ""
    assert "delay" in bar_settings(None)
    monkeypatch.setattr("captum_apex.progress._SECONDS_WITHOUT", 0.3)
    assert written(monkeypatch, io.StringIO(), shown=None) == ""
    text = written(monkeypatch, Terminal(), shown=None)
    assert "running" in text
    assert " 0/300 " not in text
    assert " 300/300 " in text


def test_warnings_do_not_write_the_bar_in_a_log_file_again(monkeypatch):
    """Shown or not, a warning would make a bar of tqdm write itself again; and no line is erased in a file."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with warnings.catch_warnings(action="default"):
        monkeypatch.setattr(warnings, "showwarning", lambda message, *_: stream.write(f"{message}\n"))
        for _ in tqdm(range(50), desc="running", **bar_settings(True)):
            warn_caller("files are resampled")
    begin, warned, end = stream.getvalue().splitlines()
    assert begin.startswith("running")
    assert " 0/50 " in begin
    assert warned == "files are resampled"
    assert " 50/50 " in end
    assert "\r" not in stream.getvalue()


FACTORY = """
import torch
from captum_apex import Classifier, SpectrogramAxes
from torch import nn

def transform(waveform):
    return torch.stft(waveform, 62, 16, window=torch.ones(62), return_complex=True).abs()[None]

def classifier():
    torch.manual_seed(0)
    layer = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU())
    model = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)).eval()
    axes = SpectrogramAxes(8000, n_fft=62, hop_length=16)
    return Classifier(model, transform, 8000, ["frog", "owl"], axes, length=800, layer=layer, exclusive=True)
"""


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """What three commands write to a file as their error stream; every recording is resampled with a warning."""
    folder = tmp_path_factory.mktemp("logged")
    (folder / "log_model.py").write_text(FACTORY)
    (folder / "sounds").mkdir()
    sounds = torch.randn(12, 1600, generator=torch.Generator().manual_seed(0)) / 9
    for index, sound in enumerate(sounds):
        soundfile.write(folder / "sounds" / f"{index}.wav", sound.numpy(), 16_000)
    soundfile.write(folder / "long.wav", sounds.flatten().numpy(), 16_000)
    model = ["--model", "log_model:classifier"]
    commands = {
        "fit": ["fit", *model, "sounds", "--scheme", "time", "--epochs", "1", "--out", "time.safetensors"],
        "explain": ["explain", *model, "--basis", "time.safetensors", "--data", "sounds", "sounds"],
        "events": ["events", *model, "--basis", "time.safetensors", "--threshold", "0.1", "long.wav"],
    }
    texts = {}
    for name, arguments in commands.items():
        with open(folder / f"{name}.log", "w+", encoding="utf-8", newline="") as log:
            done = subprocess.run(
                [sys.executable, "-m", "captum_apex", *arguments], cwd=folder, stdout=subprocess.DEVNULL, stderr=log
            )
            log.seek(0)
            texts[name] = log.read()
        assert done.returncode == 0, texts[name]
    return texts


@pytest.mark.parametrize(
    ("command", "bar"), [("fit", "running the model:"), ("explain", "explaining:"), ("events", "explaining:")]
)
def test_a_bar_of_a_command_is_two_lines_of_its_log_file(logged, command, bar):
    text = logged[command]
    begin, end = [line for line in text.splitlines() if line.startswith(bar)]
    assert " 0/" in begin
    assert "100%" in end
    assert text.count("are resampled to 8000 Hz") == 1
    assert "\r" not in text
    assert all(line.strip() for line in text.splitlines())


@pytest.mark.parametrize("action", ["always", "ignore"])
def test_a_warning_does_not_draw_a_bar_that_is_not_due(monkeypatch, action):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        for _ in tqdm(range(3), desc="running", disable=False, delay=bar_settings(None)["delay"]):
            warn_caller("files are resampled")
    assert "running" not in stream.getvalue()


def test_the_variable_of_tqdm_holds_in_notebooks_too(monkeypatch):
    monkeypatch.setattr("captum_apex.progress._IN_NOTEBOOK", True)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    assert bar_settings(None)["disable"]
    assert not bar_settings(True)["disable"]
    monkeypatch.delenv("TQDM_DISABLE")
    assert not bar_settings(None)["disable"]
