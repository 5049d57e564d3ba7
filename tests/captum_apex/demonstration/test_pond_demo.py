"""The demonstration: its classifier, its bases, what it writes, and what it opens."""

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from captum_apex import SCHEMES, demo, demonstration, listening
from captum_apex.__main__ import main
from captum_apex.caller import ApexWarning
from captum_apex.demonstration import EveningSounds, classifier, explainer, pond_demo
from captum_apex.explaining import ExplainedClips, Explainer
from captum_apex.layers import fingerprint

PACKAGE = Path(demonstration.__file__).parent


@pytest.fixture(scope="module")
def pond():
    return explainer()


def test_the_classifier_is_right_on_clips_that_it_was_not_trained_on():
    pond = classifier()
    sounds = EveningSounds("test")
    inputs = torch.stack([pond.inputs(sounds.waveform(index)) for index in range(len(sounds))])
    with torch.no_grad():
        predicted = pond.model(inputs).argmax(1)
    assert (predicted == torch.tensor(sounds.labels)).float().mean() > 0.95


def test_the_bases_are_those_of_the_classifier_and_of_its_training_clips(pond):
    assert list(pond.bases) == list(SCHEMES)
    for basis in pond.bases.values():
        assert basis.origin.fingerprint == fingerprint(classifier().model)
        assert basis.origin.dataset == EveningSounds("train").fingerprint()
        assert (basis.positive.boxes[:, :4, 0, 0] >= 0).all()  # located


def test_what_is_in_the_package_is_small():
    assert sum(path.stat().st_size for path in PACKAGE.glob("*.safetensors")) < 2_000_000


def test_the_owl_is_explained_by_owls_where_it_hoots(pond):
    explanations = pond.explain(EveningSounds("demo").waveform(3), n_channels=1)[0].explanations
    for explanation in explanations:
        evidence = explanation.evidence[0]
        labels = [EveningSounds("train").labels[prototype.index] for prototype in evidence.prototypes]
        assert sum(label == 3 for label in labels) >= 3
        assert evidence.effect.better_than_random


@pytest.fixture
def one_clip(monkeypatch):
    """The demonstration with one clip and one channel, which is faster."""

    class OneSound(EveningSounds):
        @property
        def labels(self):
            return super().labels[:1] if self.part == "demo" else super().labels

    monkeypatch.setattr(pond_demo, "EveningSounds", OneSound)
    monkeypatch.setattr(pond_demo, "_N_CHANNELS", 1)


@pytest.fixture
def opened(monkeypatch):
    """The pages that were opened, and the sounds that were played."""
    opened = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) is None)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}" if name == "aplay" else None)
    monkeypatch.setattr(subprocess, "Popen", lambda command, **_: opened.append(command))
    return opened


def test_the_demonstration_writes_a_page_a_table_and_sounds_and_opens_them(tmp_path, one_clip, opened):
    folder = tmp_path / "pond"
    explained = demo(folder, progress=False)
    assert [page.clip.label for page in explained] == ["woodpecker"]
    assert sorted(path.name for path in folder.iterdir()) == ["evidence.csv", "page.html", "sounds"]
    assert [path.name for path in (folder / "sounds").iterdir()] == ["woodpecker.wav"]
    with open(folder / "evidence.csv", newline="") as file:
        assert {row["explained"] for row in csv.DictReader(file)} == {"woodpecker"}
    assert opened == [(folder / "page.html").as_uri(), ["/usr/bin/aplay", folder / "sounds" / "woodpecker.wav"]]


def test_nothing_is_opened_without_a_screen_or_where_nobody_wants_it(tmp_path, one_clip, opened, monkeypatch, capsys):
    assert main(["demo", "--out", str(tmp_path), "--no-show"]) == 0
    assert not opened
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "1 explained clip"
    assert printed[-1] == str(tmp_path / "page.html")
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.warns(ApexWarning, match=r"no browser could be opened here; open .*page\.html in one"):
        pond_demo._show(tmp_path / "page.html", tmp_path / "sounds" / "bell.wav")
    assert not opened


def test_a_page_that_the_browser_does_not_open_is_warned_of(tmp_path, opened, monkeypatch):
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    with pytest.warns(ApexWarning, match="no browser could be opened"):
        pond_demo._show(tmp_path / "page.html", tmp_path / "sounds" / "bell.wav")


def test_a_clip_with_two_sounds_is_labelled_by_both(pond):
    """The model recognises the rain behind the songbird, which is not wrong."""
    sounds = EveningSounds("demo")
    explained = pond_demo._with_all_labels(pond.explain(sounds, n_channels=1, search=None), sounds)
    assert [page.clip.label for page in explained][7:10] == ["rain", "owl, cricket", "songbird, rain"]
    assert all(page.right for page in explained)


def test_a_folder_that_cannot_be_written_is_refused_first(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["demo", "--out", str(tmp_path / "file" / "pond")]) == 2
    assert "in a folder that can be written to" in capsys.readouterr().err


def test_nothing_is_written_among_files_of_the_user(tmp_path, one_clip, capsys):
    (tmp_path / "page.html").write_text("a page of mine")
    assert main(["demo", "--out", str(tmp_path), "--no-show"]) == 2
    assert "expected a new or empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert (tmp_path / "page.html").read_text() == "a page of mine"
    for _ in range(2):  # the second time over the first
        assert main(["demo", "--out", str(tmp_path / "pond"), "--no-show"]) == 0


@pytest.mark.parametrize("step", ["explain", "write", "write_csv"])
def test_a_demonstration_that_fails_leaves_what_was_there_before(tmp_path, one_clip, monkeypatch, step):
    def stop(*_, **__):
        raise KeyboardInterrupt if step == "explain" else OSError("no space")

    monkeypatch.setattr(Explainer if step == "explain" else ExplainedClips, step, stop)
    with pytest.raises((KeyboardInterrupt, OSError)):
        demo(tmp_path / "new" / "pond", show=False, progress=False)
    assert list(tmp_path.iterdir()) == []
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises((KeyboardInterrupt, OSError)):
        demo(empty, show=False, progress=False)
    assert list(tmp_path.rglob("*")) == [empty]


def test_a_demonstration_that_fails_over_an_earlier_one_keeps_that(tmp_path, one_clip, monkeypatch):
    demo(tmp_path / "pond", show=False, progress=False)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    (tmp_path / "pond" / "sounds" / "mine.txt").write_text("a note")
    monkeypatch.setattr(ExplainedClips, "write", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        demo(tmp_path / "pond", show=False, progress=False)
    assert len(before) == 3
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*") if path.name != "mine.txt"} == before


def test_an_interrupted_demonstration_leaves_no_folder(tmp_path):
    """A signal to the process, as by Ctrl-C, as soon as there is a sound."""
    command = [sys.executable, "-m", "captum_apex", "demo", "--no-show", "--out", str(tmp_path / "pond")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in range(6000):
            if list(tmp_path.glob("pond/sounds/*.wav")) or process.poll() is not None:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.endswith("interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_the_classifier_serves_the_command_line(tmp_path, capsys):
    sounds = EveningSounds("demo")
    for index in range(8):
        listening.write(tmp_path / f"{sounds.name(index)}", sounds.waveform(index), 16_000)
    command = ["fit", str(tmp_path), "--model", "captum_apex.demonstration:classifier", "--scheme", "time"]
    assert main([*command, "--epochs", "1", "--out", str(tmp_path / "time.safetensors")]) == 0
