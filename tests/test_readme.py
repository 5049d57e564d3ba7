"""The README: it is short, it runs as it is pasted, and it leads to files that exist."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn

import captum_apex
from captum_apex import listening
from tests.test_guides import PYTHON, run_blocks

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def numbers_of(line):
    return [float(number) for number in re.findall(r"(\d+\.\d+|\d+(?=%))", line)]


def test_it_is_short():
    assert len(TEXT.encode()) <= 8192


def test_its_example_runs_and_prints_what_it_says(tmp_path, monkeypatch):
    (block,) = PYTHON.findall(TEXT)
    names, (output,) = run_blocks([block], tmp_path, monkeypatch)
    printed = output.splitlines()
    promised = re.findall(r"```text\n(.*?)```", TEXT, flags=re.DOTALL)[0].splitlines()
    assert len(printed) == len(promised)
    for line, expected in zip(printed, promised, strict=True):
        assert line.split(":")[0] == expected.split(":")[0]  # the class; channels may differ on another machine
        if re.findall(r"channel \d+", line) == re.findall(r"channel \d+", expected):
            (*numbers, share), (*promised_numbers, promised_share) = map(numbers_of, (line, expected))
            assert numbers == pytest.approx(promised_numbers, abs=0.02)  # logits and seconds
            assert share == pytest.approx(promised_share, abs=2)  # percent
    sounds = names["sounds"]
    for page, index in zip(names["explained"], (0, 5), strict=True):
        assert page.class_name(page.target) == sounds.class_names[sounds.labels[index]]
        labels = [names["training_clips"].labels[prototype] for prototype in page.shown_prototypes]
        assert labels.count(page.target) > len(labels) / 2
    for row in names["explained"].rows():
        assert row["channel_falls"] > max(0.2, row["random_falls"])
    assert Path("page.html").is_file()


@pytest.mark.filterwarnings("ignore:digital silence gets")  # the model is not trained
def test_the_lines_for_a_model_of_ones_own_run(tmp_path, monkeypatch, capsys):
    transforms = pytest.importorskip("torchaudio.transforms", reason="torchaudio is missing")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    for path, seconds in (
        ("new.wav", 5),
        ("night.wav", 12),
        *((f"recordings/{name}/a.wav", 5) for name in ("dog", "rain")),
    ):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        listening.write(path, 0.1 * torch.randn(seconds * 16_000), 16_000)
    model = nn.Sequential()
    model.add_module("features", nn.Sequential(nn.Conv2d(1, 4, 9, stride=8), nn.ReLU()))
    model.append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten()).append(nn.Linear(4, 2))
    block = next(block for block in re.findall(r"```py\n(.*?)```", TEXT, flags=re.DOTALL) if "Recordings" in block)
    names = {name: getattr(captum_apex, name) for name in captum_apex.__all__}
    exec(block, {**names, **vars(transforms), "model": model})
    assert Path("page.html").is_file()
    assert capsys.readouterr().out.startswith("RecordingExplanation of 12.0 s")


def test_it_names_the_two_commands():
    makefile = (ROOT / "Makefile").read_text()
    for command in ("benchmark", "test", "docs"):
        assert f"make {command}" in TEXT
        assert f"\n{command}:" in makefile


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https://)([^)#]+)", TEXT))
def test_its_links_lead_somewhere(target):
    assert (ROOT / target).exists()
