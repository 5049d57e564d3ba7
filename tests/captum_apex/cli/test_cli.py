"""`python -m captum_apex`, from audio files to bases and to the explanations that a page is made of."""

import collections
import contextlib
import csv
import dataclasses
import itertools
import json
import re
import shlex
import subprocess
import sys
import textwrap
import threading
import types
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

import captum_apex
from captum_apex import (
    SCHEMES,
    Classifier,
    FeatureBank,
    LayerAPEX,
    PrototypeBasis,
    RegionSearch,
    examine,
    explain,
    explain_recording,
    fit_basis,
    locate_prototypes,
    write_audacity,
    write_csv,
    write_json,
    write_raven,
)
from captum_apex.__main__ import main
from captum_apex.bases.feature_pass import FeaturePass
from captum_apex.cli import factory
from captum_apex.cli.parser import COMMANDS as PARSED
from captum_apex.cli.parser import parser
from captum_apex.explaining import explainer
from captum_apex.explaining.clip_pages import ClipPages
from captum_apex.explaining.clip_requests import ClipRequest
from captum_apex.report.page import Page
from tests.odd_files import edited, flac_length
from tests.shown_outputs import agree, blocks_of, on_the_processor_of_the_pages

GUIDE = (Path(__file__).parents[3] / "tutorials" / "guides" / "command_line.md").read_text()
FACTORY, MAKE_SOUNDS = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)
COMMANDS = [line for line in GUIDE.replace("\\\n", "").splitlines() if line.startswith("captum-apex ")]
CLASSES = ["siren", "dog", "rain"]  # as in the guide, not in the folders' order
MODEL = ["--model", "my_model:classifier"]


@pytest.fixture
def pages(monkeypatch):
    """What a stand-in for the report was given."""
    given = []

    def write(path, pages, *, title, limit, names, progress):
        given.extend(pages)
        path.write_text(title)
        return path

    monkeypatch.setitem(sys.modules, "captum_apex.report", types.SimpleNamespace(Page=Page, write=write))
    return given


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with the guide's module, a checkpoint for it, recordings and a clip."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_model", raising=False)
    Path("my_model.py").write_text(FACTORY)
    names = {}
    exec(FACTORY, names)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(names["Network"](len(CLASSES)).state_dict(), "checkpoint.pt")
    for index, label in enumerate(sorted(CLASSES)):
        for take in range(3):
            sound(f"recordings/{label}/{take}.wav", hertz=400 * 2**index + 50 * take)
    sound("new.wav", hertz=870)
    yield tmp_path
    sys.modules.pop("my_model", None)


def sound(path, hertz, rate=16000, seconds=1.0, kind="FLOAT"):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(rate * seconds)) / rate
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * hertz * time) * np.hanning(len(time)), rate, subtype=kind)


def model_and_inputs(paths):
    """The guide's model and its inputs, put together by hand."""
    names = {}
    exec(FACTORY, names)
    model = names["Network"](3).eval()
    model.load_state_dict(torch.load("checkpoint.pt", weights_only=True))
    mel, decibels = MelSpectrogram(16000, n_fft=512, hop_length=160, n_mels=64), AmplitudeToDB(top_db=80)
    waveforms = [torch.from_numpy(soundfile.read(path, dtype="float32")[0]) for path in paths]
    return model, [decibels(mel(waveform))[None] / 40 for waveform in waveforms]


RECORDINGS = [f"recordings/{label}/{take}.wav" for label in ("dog", "rain", "siren") for take in range(3)]
LABELS = [1] * 3 + [2] * 3 + [0] * 3


def training_inputs():
    return list(zip(model_and_inputs(RECORDINGS)[1], LABELS, strict=True))


def fitted(scheme="time", **settings):
    model, inputs = model_and_inputs(RECORDINGS)
    bank = FeatureBank.from_dataset(model, model.features, list(zip(inputs, LABELS, strict=True)))
    return fit_basis(bank, scheme, **{"n_prototypes": (9, 5), **settings})


def run(*arguments):
    return main([str(argument) for argument in arguments])


def fit(*more, out="time.safetensors", scheme=("--scheme", "time")):
    return run("fit", "recordings", *MODEL, "--layer", "features", *scheme, "--epochs", 2, "--out", out, *more)


def explained(*more, clips=("new.wav",), basis=("time.safetensors",), data=("--data", "recordings")):
    return run("explain", *clips, *MODEL, "--basis", *basis, *data, "--out", "page.html", *more)


def test_fit_gives_the_basis_that_the_library_gives(here, capsys):
    assert fit() == 0
    assert capsys.readouterr().out == "time.safetensors\n"
    basis, wanted = PrototypeBasis.load("time.safetensors"), fitted(epochs=2)
    torch.testing.assert_close(basis.U, wanted.U)
    assert torch.equal(basis.prototype_indices, wanted.prototype_indices)
    assert torch.equal(basis.positive.labels, torch.tensor(LABELS)[wanted.prototype_indices])
    assert dataclasses.replace(basis.origin, dataset="") == wanted.origin
    assert basis.prototype_indices.shape == (32, 5)


@pytest.fixture
def batches(monkeypatch):
    """Numbers of clips that the model has run on for a bank; a function that is added to it is called before each."""
    run_model, seen = FeaturePass._run, types.SimpleNamespace(sizes=[], before=lambda: None)

    def recorded(self, inputs, *arguments):
        seen.sizes.append(len(inputs))
        seen.before()
        run_model(self, inputs, *arguments)

    monkeypatch.setattr(FeaturePass, "_run", recorded)
    return seen


def test_a_bank_is_kept_for_fits_with_other_settings(here, capsys, batches):
    settings = ("--bank", "features", "--batch-size", 4, "--workers", 1)
    assert fit(*settings) == 0
    assert batches.sizes == [1, 4, 4, 1]  # one clip is tried before the others
    kept = PrototypeBasis.load("time.safetensors")
    assert fit(*settings, "--seed", 1, out="other.safetensors") == 0
    assert batches.sizes == [1, 4, 4, 1, 1]
    assert fit("--batch-size", 4) == 0
    torch.testing.assert_close(kept.U, PrototypeBasis.load("time.safetensors").U, rtol=0, atol=0)
    sound("recordings/dog/0.wav", hertz=555)
    refused(capsys, fit(*settings), "expected the inputs of clip 0 that features/part-0-of-1 was begun with")
    sound("recordings/dog/9.wav", hertz=555)
    refused(capsys, fit(*settings), "the number of clips 9 became 10, the dataset '.*' became '.*'; name another")


def test_a_bank_of_half_precision_takes_half_of_the_room(here, capsys):
    whole = fit("--bank", "features"), fit("--bank", "smaller", "--half", out="half.safetensors")
    assert whole == (0, 0)
    sizes = [Path(folder, "part-0-of-1", "time.rows").stat().st_size for folder in ("features", "smaller")]
    assert sizes[0] == 2 * sizes[1]
    rounded, exact = PrototypeBasis.load("half.safetensors"), PrototypeBasis.load("time.safetensors")
    assert not torch.equal(rounded.U, exact.U)
    torch.testing.assert_close(rounded.positive.purities, exact.positive.purities, rtol=0, atol=0.02)
    refused(capsys, fit("--bank", "features", "--half"), "the dtype nothing became 'torch.float16'")


def test_a_fit_keeps_the_cells_of_candidates_alone(here, capsys, batches):
    settings = ("--bank", "features", "--candidates", 9, "--batch-size", 9)
    assert fit("--batch-size", 9) == 0
    assert fit(*settings, out="all.safetensors") == 0
    whole, found = PrototypeBasis.load("time.safetensors"), PrototypeBasis.load("all.safetensors")
    torch.testing.assert_close(found.U, whole.U)
    assert torch.equal(found.prototype_indices, whole.prototype_indices)
    assert found.origin == whole.origin
    assert sorted(path.name for path in Path("features").iterdir()) == ["candidates-9", "means"]
    capsys.readouterr()
    assert run("describe", "features") == 0
    described = capsys.readouterr().out
    assert described.startswith("features/candidates-9\n")
    assert "\nfeatures/means\n  bank     of 32 channels" in described
    assert "\n  schemes  none, means alone\n" in described
    batches.sizes.clear()
    assert fit(*settings, "--seed", 1) == 0
    assert len(batches.sizes) == 2  # one clip is tried, and the prototypes are found


def test_an_interrupted_fit_goes_on_with_its_bank(here, batches):
    settings = ("--bank", "features", "--batch-size", 2)

    def interrupt():
        if len(batches.sizes) == 4:
            raise KeyboardInterrupt

    batches.before = interrupt
    assert fit(*settings) == 130
    assert fit(*settings) == 0
    assert batches.sizes == [1, 2, 2, 2, 1, 2, 2, 1]
    kept = PrototypeBasis.load("time.safetensors")
    assert fit("--batch-size", 2) == 0
    torch.testing.assert_close(kept.U, PrototypeBasis.load("time.safetensors").U, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "stopped", "notes"),
    [
        ((), "clips", "no basis is finished; with --bank FOLDER the features are kept, and the same command goes on"),
        (
            ("--bank", "features"),
            "clips",
            "no basis is finished; the same command goes on with the features in features",
        ),
        (
            (),
            "frequency",
            "finished: bases/time.safetensors\n"
            "for the others: the same command with --scheme and the schemes that have no file yet",
        ),
        (
            ("--locate", "2"),
            "regions of frequency",
            "finished: bases/time.safetensors\n"
            "finished: bases/frequency.safetensors, without regions of prototypes: explain searches for those that it "
            "shows\n"
            "for the others: the same command with --scheme and the schemes that have no file yet",
        ),
    ],
)
def test_an_interrupted_fit_says_what_is_finished_and_how_to_go_on(here, monkeypatch, capsys, options, stopped, notes):
    def stopping(function, is_reached):
        def called(*arguments, **more):
            if is_reached(*arguments):
                raise KeyboardInterrupt
            return function(*arguments, **more)

        return called

    bases = "captum_apex.explaining.classifier_bases"
    if stopped == "clips":
        monkeypatch.setattr(FeaturePass, "_run", stopping(FeaturePass._run, lambda *_: True))
    elif stopped == "frequency":
        monkeypatch.setattr(f"{bases}.fit_basis", stopping(fit_basis, lambda _, scheme: scheme == stopped))
    else:
        locating = stopping(locate_prototypes, lambda apex, _: apex.basis.scheme == "frequency")
        monkeypatch.setattr("captum_apex.explaining.explainer.locate_prototypes", locating)
    assert fit(*options, out="bases", scheme=("--scheme", "time", "frequency")) == 130
    assert capsys.readouterr().err.endswith(f"\ninterrupted\n{notes}\n")
    for line in notes.splitlines():
        path = re.match(r"finished: ([^,]*)", line)
        assert path is None or PrototypeBasis.load(path[1]).positive is not None


def test_several_schemes_are_a_file_each_in_a_folder(here, capsys):
    assert fit(out="new/bases", scheme=("--scheme", "time", "square", "time")) == 0
    assert capsys.readouterr().out.splitlines() == ["new/bases/time.safetensors", "new/bases/square.safetensors"]
    torch.testing.assert_close(PrototypeBasis.load("new/bases/square.safetensors").U, fitted("square", epochs=2).U)


def test_without_a_scheme_all_that_the_layer_supports_are_fitted(here):
    assert fit(out="bases", scheme=()) == 0
    assert sorted(path.stem for path in Path("bases").iterdir()) == sorted(map(str, SCHEMES))


@pytest.mark.parametrize(
    ("right", "said"), [(None, ""), (9, " 9 of the 9 that were tried"), (4, "tried: few, if it was")]
)
def test_few_recordings_that_are_recognised_are_explained(here, monkeypatch, capsys, right, said):
    monkeypatch.setattr("captum_apex.cli.fit_command.recognised", lambda _: None if right is None else (right, 9))
    assert fit() == 0
    line = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("9 recordings in recordings"))
    assert said in line
    assert ("few" in line) == (right == 4)


def test_an_invertible_basis_is_fitted_where_it_is_asked_for(here):
    assert fit("--invertible") == 0
    torch.testing.assert_close(PrototypeBasis.load("time.safetensors").U, fitted(epochs=2, orthogonal=False).U)


def test_a_basis_is_fitted_in_closed_form_where_it_is_asked_for(here, capsys):
    assert fit("--method", "closed-form") == 0
    basis = PrototypeBasis.load("time.safetensors")
    torch.testing.assert_close(basis.U, fitted(epochs=2, method="closed-form", n_prototypes=(5, 5)).U)
    assert fit("--method", "closed-form", "--invertible") == 2
    assert "expected an orthogonal basis for the method 'closed-form'" in capsys.readouterr().err


def test_a_folder_without_classes_has_no_labels(here):
    for index, path in enumerate(RECORDINGS):
        Path("flat").mkdir(exist_ok=True)
        Path(path).rename(f"flat/{index}.wav")
    assert (
        run(
            "fit", "flat", *MODEL, "--layer", "features", "--scheme", "time", "--epochs", 1, "--out", "flat.safetensors"
        )
        == 0
    )
    assert PrototypeBasis.load("flat.safetensors").positive.labels is None


def test_explain_gives_what_the_library_gives(here, pages, capsys):
    fit()
    sound("other.wav", hertz=3000)
    assert explained("--channels", 2, "--prototypes", 3, clips=("new.wav", "other.wav")) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "page.html"
    assert Path("page.html").read_text() == "Why the model heard that"
    model, inputs = model_and_inputs(["new.wav", "other.wav"])
    apex = LayerAPEX(model, model.features, PrototypeBasis.load("time.safetensors"))
    for page, given, name in zip(pages, inputs, ("new.wav", "other.wav"), strict=True):
        wanted = explain(apex, given[None], n_channels=2, n_prototypes=3, dataset=training_inputs())
        assert page.explanations == wanted
        assert page.scores == pytest.approx(model(given[None])[0].tolist())
        assert page.class_names == CLASSES
        torch.testing.assert_close(page.clip.decibels, given[0] * 40)
        assert torch.equal(page.clip.waveform, torch.from_numpy(soundfile.read(name, dtype="float32")[0]))
        assert page.clip.title == name


def prototypes_in(page):
    return [prototype for channel in page.explanations[0].evidence for prototype in channel.prototypes]


def test_cells_are_shown_without_a_search(here, pages):
    fit()
    assert explained("--cells") == 0
    model, (inputs,) = model_and_inputs(["new.wav"])
    apex = LayerAPEX(model, model.features, PrototypeBasis.load("time.safetensors"))
    assert pages[0].explanations == explain(apex, inputs[None], search=None)
    assert all(each.effect is None for each in (*pages[0].explanations[0].evidence, *prototypes_in(pages[0])))


def test_a_fit_can_explain_the_grid_that_the_norm_normalises(here, capsys):
    normed = WAVEFORMS.replace("self.head =", "self.norm = nn.LayerNorm(6)\n        self.head =")
    Path("my_model.py").write_text(
        normed.replace("self.head(", "self.head(self.norm(").replace(".mean(1))", ".mean(1)))")
    )
    tokens = ["recordings", *MODEL, "--layer", "tokens", "--epochs", 1, "--scheme", "time"]
    assert run("fit", *tokens, "--norm", "norm", "--out", "normed.safetensors") == 0
    assert run("fit", *tokens, "--out", "plain.safetensors") == 0
    assert [PrototypeBasis.load(f"{name}.safetensors").origin.norm for name in ("normed", "plain")] == ["norm", ""]
    refused(capsys, run("fit", *tokens, "--norm", "nrm", "--out", "x.safetensors"), "expected --norm to be a module of")


def test_a_cross_is_a_strip_and_a_band(here, pages):
    fit(out="bases", scheme=("--scheme", "time-frequency"))
    assert explained("--cross", basis=("bases",)) == 0
    assert explained(basis=("bases",)) == 0
    for page, n_boxes in zip(pages, (2, 1), strict=True):
        for each in (*page.explanations[0].evidence, *prototypes_in(page)):
            assert len(each.region.boxes) == n_boxes


@pytest.mark.parametrize(("given", "n_prototypes"), [(1, 1), (5, 5)])
def test_regions_of_prototypes_are_found_in_the_fit_and_kept(here, capsys, given, n_prototypes):
    assert fit("--locate", given) == 0
    printed = capsys.readouterr()
    assert printed.out == "time.safetensors\n"
    assert "locating" in printed.err
    basis = PrototypeBasis.load("time.safetensors")
    model, _ = model_and_inputs([])
    apex = LayerAPEX(model, model.features, fitted(epochs=2))
    wanted = locate_prototypes(apex, training_inputs(), n_prototypes=n_prototypes)
    torch.testing.assert_close(basis.positive.boxes, wanted.positive.boxes)
    torch.testing.assert_close(basis.positive.effects, wanted.positive.effects)
    assert basis.origin.dataset


def test_regions_that_a_basis_keeps_are_not_found_again(here, pages, monkeypatch):
    fit("--locate", 2)
    searched = []
    usual = RegionSearch.locate

    def locate(self, channels, *arguments, **settings):
        searched.append(len(channels.directions))
        return usual(self, channels, *arguments, **settings)

    monkeypatch.setattr(RegionSearch, "locate", locate)
    assert explained("--channels", 3, "--prototypes", 2) == 0
    assert searched == [3]  # the channels of the clip, at once
    assert all(prototype.effect is not None for prototype in prototypes_in(pages[0]))
    assert explained("--channels", 3, "--prototypes", 3) == 0
    assert (searched[:2], sum(searched[2:])) == ([3, 3], 9)
    assert all(prototype.effect is not None for prototype in prototypes_in(pages[1]))


def test_more_regions_than_prototypes_are_refused_before_the_fit(here, capsys, monkeypatch):
    monkeypatch.setattr("captum_apex.cli.fit_command.load_classifier", None)
    refused(capsys, fit("--locate", 6), "expected --locate to be at most 5, the prototypes of a channel .*, but got 6")


def test_a_fit_on_few_recordings_locates_what_there_is(here):
    for path in RECORDINGS[1:]:
        Path(path).unlink()
    Path("recordings/rain").rmdir()
    Path("recordings/siren").rmdir()
    with pytest.warns(UserWarning, match="no recordings of siren, rain"):
        assert fit("--locate", 4) == 0
    assert PrototypeBasis.load("time.safetensors").positive.boxes.shape[1] == 1


def test_a_model_that_cannot_be_searched_is_explained_by_its_cells(here, pages, capsys):
    """It takes one clip at a time, but a search masks several copies at once."""
    changed("        return self.head", "        assert len(x) == 1\n        return self.head")
    assert fit("--batch-size", 1) == 0
    refused(
        capsys,
        explained(),
        "new.wav cannot be explained: expected regions that can be found by masking, but the search raised "
        "AssertionError: .*; `search=None`, or --cells on the command line, explains without a search",
    )
    assert explained("--cells") == 0
    assert prototypes_in(pages[0])
    Path("time.safetensors").unlink()
    refused(
        capsys,
        fit("--batch-size", 1, "--locate", 1),
        "time.safetensors is written without regions, because the search for them raised AssertionError: .*--cells",
    )
    assert PrototypeBasis.load("time.safetensors").positive.boxes is None


def test_the_search_masks_along_the_axes_of_the_factory(here, pages):
    """The axes of this input are (clip, time, mel), which its shape does not tell."""
    source = FACTORY.replace("[None] / 40", ".T / 40").replace("inputs[0] * 40", "inputs.T * 40")
    source = source.replace("self.features(x)", "self.features(x.transpose(1, 2)[:, None])")
    source = source.replace("class_names=class_names,", 'class_names=class_names,\n        input_layout="n t f",')
    Path("my_model.py").write_text(source)
    assert fit("--locate", 1) == 0
    assert explained("--prototypes", 2) == 0
    turned = pages[0].explanations
    sys.modules.pop("my_model")
    Path("my_model.py").write_text(FACTORY)
    assert fit() == 0
    assert explained("--prototypes", 2) == 0
    for one, other in zip(turned[0].evidence, pages[1].explanations[0].evidence, strict=True):
        assert one.region == other.region
        assert [each.region for each in one.prototypes] == [each.region for each in other.prototypes]


def test_prototypes_are_the_recordings_of_their_index(here, pages):
    fit()
    assert explained() == 0
    indices = {prototype.index for part in pages[0].explanations[0].evidence for prototype in part.prototypes}
    assert set(pages[0].prototypes) == indices
    for index, clip in pages[0].prototypes.items():
        assert torch.equal(clip.waveform, torch.from_numpy(soundfile.read(RECORDINGS[index], dtype="float32")[0]))
        assert clip.label == CLASSES[LABELS[index]]


def test_a_folder_of_bases_is_shown_in_the_schemes_order(here, pages):
    fit(out="bases", scheme=())
    assert explained(basis=("bases",)) == 0
    assert [explanation.scheme for explanation in pages[0].explanations] == list(SCHEMES)


@pytest.mark.parametrize(("text", "target"), [("dog", 1), ("2", 2), ("siren", 0)])
def test_a_class_is_named_or_numbered(here, pages, text, target):
    fit()
    assert explained("--target", text) == 0
    assert pages[0].explanations[0].target == target
    assert pages[0].explanations[0].score == pytest.approx(pages[0].scores[target])


def test_without_data_there_are_no_prototypes_and_this_is_said(here, pages, capsys):
    fit()
    assert explained(data=()) == 0
    assert pages[0].prototypes == {}
    assert pages[0].explanations[0].evidence
    assert all(part.prototypes == () for part in pages[0].explanations[0].evidence)
    assert "the page has no prototypes" in capsys.readouterr().err


def test_a_basis_from_python_is_compared_by_the_number_of_recordings(here, pages, capsys):
    fitted(epochs=1).save("time.safetensors")
    with pytest.warns(UserWarning, match="time.safetensors does not know its recordings by name: only their number"):
        assert explained() == 0
    Path(RECORDINGS[0]).unlink()
    assert explained() == 2
    assert "the 9 recordings that time.safetensors was fitted on, but got 8" in capsys.readouterr().err


WAVEFORMS = """
import torch
from torch import nn
from captum_apex import Classifier

class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv1d(1, 6, 400, 320)
        self.tokens = nn.Linear(6, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.tokens(self.stem(x).relu().transpose(1, 2)).mean(1))

def classifier():
    names = ["siren", "dog", "rain"]
    return Classifier(Tokens(), lambda waveform: waveform[None], 16000, names, length=16000, layout="n t c -> n c 1 t")
"""


def test_a_model_of_waveforms_is_explained_on_its_samples(here, pages, capsys):
    Path("my_model.py").write_text(WAVEFORMS)
    tokens = ["recordings", *MODEL, "--layer", "tokens", "--epochs", 1]
    assert run("fit", *tokens, "--out", "bases") == 0
    assert sorted(path.stem for path in Path("bases").iterdir()) == ["time"]
    assert explained("--sides", "both", basis=("bases",)) == 0
    assert pages[0].clip.of_samples
    box = pages[0].explanations[0].evidence[0].region.boxes[0]
    assert 1 / 49 < box.end - box.start <= 0.25
    assert pages[0].clip.place(box).high == 8000
    assert explained("--sides", "both", "--cells", basis=("bases",)) == 0
    box = pages[1].explanations[0].evidence[0].region.boxes[0]
    assert (box.end - box.start) == pytest.approx(320 / 16000)  # a frame of 320 samples
    assert run("fit", *tokens, "--scheme", "frequency", "--out", "f.safetensors") == 2
    assert "it supports: square, time" in capsys.readouterr().err


def test_a_detector_with_one_score_is_explained(here, pages):
    """Its output is (clip,), without an axis of classes."""
    changed("self.head(self.features(x).mean((2, 3)))", "self.head(self.features(x).mean((2, 3)))[:, 0] - 10")
    source = Path("my_model.py").read_text().replace("class_names=class_names", 'class_names=["siren"]')
    Path("my_model.py").write_text(source.replace("exclusive=True", "exclusive=None"))
    for index, path in enumerate(RECORDINGS):
        Path("flat").mkdir(exist_ok=True)
        Path(path).rename(f"flat/{index}.wav")
    assert (
        run(
            "fit", "flat", *MODEL, "--layer", "features", "--scheme", "time", "--epochs", 1, "--out", "time.safetensors"
        )
        == 0
    )
    model, inputs = model_and_inputs(["new.wav"])
    score = model(inputs[0][None])[0, 0].item() - 10
    for more in ((), ("--target", "siren"), ("--target", "0")):
        assert explained(*more, data=("--data", "flat")) == 0
        assert pages[-1].scores == pytest.approx([score])
        assert pages[-1].explanations[0].score == pytest.approx(score)


def events(*more, recording="night.wav"):
    return run("events", recording, *MODEL, "--basis", "time.safetensors", *more)


@pytest.mark.parametrize(
    ("options", "window", "settings"),
    [
        (["--threshold", 0.3], (1.0, 0.5), {"threshold": 0.3, "n_channels": 5}),
        (
            [
                "--window",
                0.5,
                "--hop",
                0.25,
                "--threshold",
                0.34,
                "--sides",
                "both",
                "--channels",
                2,
                "--level",
                0.8,
                "--gap",
                0.1,
                "--refine",
            ],
            (0.5, 0.25),
            {
                "threshold": 0.34,
                "sides": "both",
                "n_channels": 2,
                "level": 0.8,
                "gap": 0.1,
                "search": RegionSearch(),
            },
        ),
    ],
)
def test_events_are_those_of_the_library_in_all_files(here, capsys, options, window, settings):
    fit()
    sound("night.wav", hertz=870, seconds=4.3)
    capsys.readouterr()
    files = ("--raven", "new/raven.txt", "--audacity", "audacity.txt", "--table", "events.csv")
    assert events(*files, *options) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == list(files[1::2])
    names = {}
    exec(FACTORY, names)
    classifier = names["classifier"]()
    apex = LayerAPEX(classifier.model, classifier.model.features, PrototypeBasis.load("time.safetensors"))
    found = explain_recording(apex, "night.wav", *window, classifier=classifier, **settings)
    assert found.events
    assert f"{len(found.events)} events in a recording of 4.3 s\n" in printed.err
    for path, write in zip(files[1::2], (write_raven, write_audacity, write_csv), strict=True):
        write("wanted", found.events)
        assert Path(path).read_text() == Path("wanted").read_text()
    write_json("wanted", found.events)
    assert events("--table", "events.json", "--json", *options) == 0
    assert Path("events.json").read_text() == Path("wanted").read_text()
    assert json.loads(capsys.readouterr().out)["events"] == json.loads(Path("wanted").read_text())["events"]
    write_json("wanted", found.events, captum_apex.Recordings.in_folder("recordings"))
    assert events("--table", "events.json", "--data", "recordings", *options) == 0
    assert "prototype_clips" in Path("events.json").read_text()
    assert Path("events.json").read_text() == Path("wanted").read_text()
    assert ("Masking Effect" in Path("new/raven.txt").read_text()) == ("search" in settings)


def test_events_are_printed_where_no_file_is_named(here, capsys):
    fit()
    sound("night.wav", hertz=870, seconds=4.3)
    capsys.readouterr()
    assert events("--table", "events.csv", "--threshold", 0.3) == 0
    capsys.readouterr()
    assert events("--threshold", 0.3) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["class", "probability", "where"]
    rows = pd.read_csv("events.csv")
    assert len(lines) == 1 + len(rows) > 1
    for line, start, end in zip(lines[1:], rows["onset_s"], rows["offset_s"], strict=True):
        assert f"{start:.2f}–{end:.2f} s" in line


def test_events_in_silence_are_counted(here, capsys):
    fit()
    sound("night.wav", hertz=870, seconds=1.0)
    samples = soundfile.read("night.wav")[0]
    soundfile.write("night.wav", np.concatenate([samples, np.zeros(80_000)]), 16000)
    capsys.readouterr()
    with pytest.warns(UserWarning, match="lie in digital silence, such as ") as warned:
        assert events("--table", "events.csv", "--threshold", 0, "--hop", 1) == 0
    assert len(warned) == 1
    silent = pd.read_csv("events.csv")["silent"].tolist()
    n_silent = silent.count("yes")
    assert 0 < n_silent < len(silent)
    assert (
        f"{len(silent)} events in a recording of 6.0 s, {n_silent} of them in digital silence\n"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("command", ["events", "explain"])
def test_probabilities_are_asked_for_where_the_factory_leaves_them_open(here, pages, capsys, command):
    changed("exclusive=True,", "")
    fit()
    sound("night.wav", hertz=870)
    refused(
        capsys,
        events("--json") if command == "events" else explained("--threshold", 0.5),
        "expected a Classifier that says whether its classes exclude each other, .* `exclusive=True` if the model was",
    )
    assert explained() == 0  # the class with the largest score needs no probabilities


def test_wrong_recordings_and_files_for_events_are_refused(here, capsys):
    fit()
    sound("night.wav", hertz=870)
    out = ("--raven", "raven.txt")
    refused(
        capsys,
        events("--audacity", "night.wav"),
        r"expected a file for --audacity that ends in \.txt, but got night\.wav",
    )
    refused(capsys, events("--table", "a.txt"), r"a file for --table that ends in \.csv or \.json, but got a\.txt")
    refused(
        capsys,
        events(*out, "--audacity", "./raven.txt"),
        r"expected a file of its own for --audacity, but raven\.txt is given twice",
    )
    refused(
        capsys, events("--raven", "night.wav/raven.txt"), "in a folder that can be written to, but .*/night.wav is none"
    )
    refused(capsys, events(*out, recording="none.wav"), "an audio file at none.wav, but there is none")
    refused(
        capsys,
        events(*out, "--hop", 2),
        "expected 0 < `hop` <= `window`, in s, but got a hop of 2.0 and a window of 1.0",
    )
    fit(out="bases", scheme=())
    capsys.readouterr()
    refused(
        capsys,
        run("events", "night.wav", *MODEL, "--basis", "bases", *out),
        "expected one basis, but got bases/square.*, bases/time.*; give one of them, such as --basis bases/time",
    )
    changed("length=16_000", "length=None")
    sys.modules.pop("my_model")
    refused(
        capsys,
        events(*out),
        "expected `window` .*--window.*, in s, or a Classifier with a `length`, but there is neither",
    )
    changed("class_names=class_names", 'class_names=["siren"]')
    sys.modules.pop("my_model")
    refused(capsys, events(*out), "expected several classes with `exclusive=True`, but there is one")
    assert not Path("raven.txt").exists()


def test_several_classes_are_a_page_each(here, pages):
    fit()
    sound("other.wav", hertz=3000)
    assert explained("--target", "dog", "0", "siren", clips=("new.wav", "other.wav")) == 0
    assert [(page.clip.title, page.explanations[0].target) for page in pages] == [
        *(("new.wav", 1), ("new.wav", 0), ("other.wav", 1), ("other.wav", 0))
    ]
    for page in pages:
        assert page.explanations[0].score == pytest.approx(page.scores[page.explanations[0].target])
    assert pages[0].clip is pages[1].clip


@pytest.mark.parametrize(("shift", "n_detected"), [(0.0, 2), (100.0, 3), (-100.0, 1)])
@pytest.mark.filterwarnings("ignore:digital silence gets")  # as such a model does
def test_all_classes_over_a_threshold_are_explained_the_highest_first(here, pages, capsys, shift, n_detected):
    """The biases make the second score 0, plus the shift; if no class is detected, the predicted one is explained."""
    changed("exclusive=True", "exclusive=False")
    fit()
    model, inputs = model_and_inputs(["new.wav"])
    scores = model(inputs[0][None])[0]
    weights = torch.load("checkpoint.pt", weights_only=True)
    weights["head.bias"] += shift - scores.sort(descending=True)[0][1].item()
    torch.save(weights, "checkpoint.pt")
    fit()
    assert explained() == 0
    assert "--threshold 0.5 explains all classes that are detected" in capsys.readouterr().err
    pages.clear()
    assert explained("--threshold", 0.4999) == 0
    assert "--threshold" not in capsys.readouterr().err
    assert [page.explanations[0].target for page in pages] == scores.argsort(descending=True)[:n_detected].tolist()


def test_only_one_exclusive_class_reaches_half(here, pages):
    fit()
    assert explained("--threshold", 0.5) == 0
    assert [page.explanations[0].target for page in pages] == [int(torch.tensor(pages[0].scores).argmax())]


def test_dropout_is_off_in_the_scores_too(here, pages):
    changed("self.features(x).mean((2, 3))", "nn.functional.dropout(self.features(x).mean((2, 3)), 0.5, self.training)")
    fit()
    assert explained() == 0
    assert pages[0].explanations[0].score == pytest.approx(max(pages[0].scores))


def refused(capsys, code, *parts):
    error = capsys.readouterr().err
    assert code == 2
    assert "Traceback" not in error
    for part in parts:
        assert re.search(part, error, flags=re.MULTILINE), error


@pytest.mark.parametrize(
    ("name", "source", "message"),
    [
        ("my_model", None, "expected --model as module:factory, such as my_model:classifier, but got 'my_model'"),
        ("my_model.py:classifier", None, "got a file, 'my_model.py:classifier': write my_model:classifier"),
        (
            "no_such:classifier",
            None,
            "a module 'no_such' that can be imported from .*ModuleNotFoundError: No module named 'no_such'",
        ),
        (
            "my_model:clasifier",
            None,
            r"a function 'clasifier' in .*my_model\.py, but there is none; there are: classifier, …",
        ),
        ("my_model:classifier", "def classifier(:", "SyntaxError: invalid syntax"),
        ("my_model:classifier", "raise SystemExit(3)", "can be imported from .*SystemExit: 3"),
        ("my_model:classifier", "def classifier():\n    exit(0)", r"but it raised SystemExit: 0 \(.*line 2\)"),
        ("my_model:classifier", "import no_such_package", "No module named 'no_such_package'"),
        ("my_model:classifier", "def classifier():\n    return 3", "return a captum_apex.Classifier, but got int"),
        (
            "my_model:classifier",
            "def classifier():\n\n    open('none.pt')",
            r"FileNotFoundError: .*none\.pt.*my_model\.py, line 3\)",
        ),
    ],
)
def test_a_factory_that_is_none_is_refused(here, capsys, name, source, message):
    if source is not None:
        Path("my_model.py").write_text(source)
    refused(capsys, run("fit", "recordings", "--model", name, "--layer", "features", "--out", "bases"), message)


def changed(old, new):
    assert FACTORY.count(old) == 1
    Path("my_model.py").write_text(FACTORY.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "[None] / 40",
            " / 40",
            r"take what the transform gives for .*dog/0.wav, of shape \(64, 101\), .* end the transform in \[None\]",
        ),
        (
            "[None] / 40",
            "[None, None] / 40",
            r"of shape \(1, 1, 64, 101\), as a batch of one, .*; if the first axis is the batch's, leave it out",
        ),
        (
            "decibels(mel(waveform))[None] / 40",
            "1 / 0",
            "take the 16000 samples of .*0.wav, but it raised ZeroDivisionError",
        ),
        ('"dog", "rain"]', '"dog"]', r"it raised RuntimeError: Error\(s\) in loading state_dict"),
        (".mean((2, 3)))", ".mean((2, 3)))[:, :2]", r"one score for each of the 3 classes, but got shape \(1, 2\)"),
        (
            "length=16_000",
            "length=None",
            r"\(1, 64, 51\) for .*rain/1\.wav and \(1, 64, 101\).*give the Classifier a `length`",
        ),
    ],
)
def test_a_model_that_does_not_fit_its_transform_or_classes_is_refused(here, capsys, old, new, message):
    changed(old, new)
    if "length" in new:
        sound("recordings/rain/1.wav", hertz=100, seconds=0.5)
    refused(capsys, fit(), message)
    assert not Path("time.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layer", "feature"], "a module of Network, but got 'feature'; there are: features, .*features.0"),
        (["--layer", "xyz"], "but got 'xyz'; there are: features, features.0, features.1"),
        (["--layer", "features", "--out", "a.safetensors"], r"--out to be a folder.*but got a\.safetensors"),
        (
            ["--layer", "head", "--scheme", "time"],
            r"expected .head. to give a tensor that fits .*, but got shape \(1, 3\)",
        ),
    ],
)
def test_wrong_settings_of_a_fit_are_refused(here, capsys, arguments, message):
    refused(capsys, run("fit", "recordings", *MODEL, "--out", "bases", *arguments), message)


def test_layers_lists_what_the_library_proposes(here, capsys):
    assert run("layers", *MODEL) == 0
    printed = capsys.readouterr()
    assert printed.out in GUIDE
    assert printed.err == "to explain the first: --layer features\n"
    assert run("layers", "new.wav", *MODEL) == 0
    assert capsys.readouterr().out == printed.out
    assert run("layers", *MODEL, "--json") == 0
    listed = json.loads(capsys.readouterr().out)["layers"]
    assert [each["name"] for each in listed] == ["features", "features.1"]
    assert listed[0]["layout"] is None
    assert " × ".join(map(str, listed[0]["grid"])) in printed.out


def test_examine_reports_what_the_library_reports(here, capsys):
    assert run("examine", "new.wav", *MODEL) == 0
    printed = capsys.readouterr().out
    examination = examine(factory.load_classifier("my_model:classifier", "cpu", convert=True), "new.wav")
    assert printed == f"{examination}\n"
    assert run("examine", "new.wav", *MODEL, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["scores"] == pytest.approx(examination.scores)
    assert [layer["delta"] for layer in report["layers"]] == [layer.delta for layer in examination.layers]
    assert report["layers"][0]["places"]["time"]["receptive_field"] == 7
    assert report["code"] == examination.code
    refused(capsys, run("examine", *["new.wav"] * 3, *MODEL), "expected one or two audio files, but got 3")


def test_a_layer_that_is_missing_or_wrong_is_answered_by_those_to_choose_from(here, capsys):
    to_choose = "; those that can be explained, the best first: features, features.1$"
    fit_without = ["fit", "recordings", *MODEL, "--out", "bases"]
    refused(capsys, run(*fit_without), f"expected --layer, or a Classifier with a `layer`, .*{to_choose}")
    refused(capsys, run(*fit_without, "--layer", "feature"), f"but got 'feature'; there are: features, .*{to_choose}")


def test_a_layer_without_places_is_answered_by_where_others_are_listed(here, capsys):
    """The classifier itself: its output has one number per class, and no layout gives it time."""
    without_places = run("fit", "recordings", *MODEL, "--out", "bases", "--layer", "head")
    refused(
        capsys,
        without_places,
        "(?!.*1 1).*and time: captum_apex.examine.* or captum-apex examine lists them$",
    )


def test_a_page_without_a_name_takes_the_place_of_no_file(here, pages, capsys):
    fit()
    explain = ("explain", "new.wav", *MODEL, "--basis", "time.safetensors", "--data", "recordings", "--cells")
    capsys.readouterr()
    for name in ("page.html", "page-2.html", "page-3.html"):
        assert run(*explain, "--title", name) == 0
        assert capsys.readouterr().out == f"{name}\n"
    assert [Path(name).read_text() for name in ("page.html", "page-3.html")] == ["page.html", "page-3.html"]


def test_a_training_clip_is_shown_with_its_label_and_other_prototypes(here, pages, capsys):
    fit()
    capsys.readouterr()
    assert explained("--cells", clips=("new.wav", "recordings/rain/0.wav")) == 0
    assert [page.clip.label for page in pages] == ["", "rain"]
    assert "recordings/rain/0.wav" not in prototypes_in(pages[1])
    lines = [line.split() for line in capsys.readouterr().err.splitlines()]
    (header,) = [line for line in lines if line[:1] == ["clip"]]
    assert header[:3] == ["clip", "label", "explained"]
    assert [line[1] for line in lines if line[:1] == ["0.wav"]] == ["rain"]  # without the folder


def test_a_factory_that_takes_long_is_named_meanwhile(monkeypatch, capsys):
    """The work ends when the text is there, or after a minute."""
    said = threading.Event()
    monkeypatch.setattr(factory, "_SECONDS", 0.0)
    monkeypatch.setattr(factory, "print", lambda *words, **_: said.set(), raising=False)
    with factory.said_where_slow("loading …"):
        assert said.wait(60)
    monkeypatch.undo()
    with factory.said_where_slow("loading …"):
        pass
    assert capsys.readouterr() == ("", "")


def test_the_factory_is_named_where_it_takes_long(here, monkeypatch):
    named = []
    monkeypatch.setattr(factory, "said_where_slow", lambda text: contextlib.nullcontext(named.append(text)))
    assert run("layers", *MODEL) == 0
    assert named == ["loading my_model:classifier …"]


def test_wrong_recordings_are_refused(here, capsys):
    layer = [*MODEL, "--layer", "features", "--out", "bases"]
    refused(capsys, run("fit", "none", *layer), "a folder of audio at none, but there is none")
    Path("recordings/dog").rename("recordings/cat")
    refused(capsys, run("fit", "recordings", *layer), r"named like classes \(siren, dog, rain\), but got 'cat'")
    Path("recordings/cat").rename("recordings/dog")
    Path(RECORDINGS[4]).write_text("no audio")
    refused(capsys, run("fit", "recordings", *layer), r"rain/1\.wav to be audio, but it cannot be read")
    assert not Path("bases").exists()


def test_wrong_clips_bases_and_folders_are_refused(here, pages, capsys):
    fit()
    fit(out="again.safetensors")
    capsys.readouterr()
    refused(capsys, explained(clips=("none.wav",)), "an audio file at none.wav, but there is none")
    refused(capsys, explained(basis=("none.safetensors",)), "a basis file at none.safetensors, but there is none")
    refused(capsys, explained(basis=("my_model.py",)), "my_model.py to be a captum-apex basis")
    refused(
        capsys, explained(basis=("recordings",)), r"expected bases, \*\.safetensors, in recordings, but there are none"
    )
    refused(
        capsys,
        explained(basis=("time.safetensors", "again.safetensors")),
        "one basis per scheme, but time.* and again.* for 'time'",
    )
    refused(capsys, explained("--layer", "head"), "of the layer 'head', but time.safetensors was fitted on 'features'")
    refused(
        capsys, explained("--target", "sirene"), "a class or a number from 0 to 2, but got 'sirene'; there are: siren"
    )
    refused(capsys, explained("--target", "3"), "from 0 to 2, but got '3'; there are: siren, dog, rain")
    refused(capsys, explained("--target", "-1"), "from 0 to 2, but got '-1'")
    refused(capsys, explained("--out", "recordings"), "expected a file to write, but recordings is a folder")
    refused(
        capsys,
        explained("--prototypes", "6"),
        "^python -m captum_apex: new.wav cannot be explained: .* from 1 to the 5 that the basis keeps per channel, "
        "but got 6",
    )
    Path(RECORDINGS[2]).rename("recordings/dog/3.wav")
    refused(
        capsys, explained(), "the recordings that time.safetensors was fitted on, but names or sizes of files differ"
    )
    Path("recordings/dog/3.wav").rename(RECORDINGS[2])
    changed("length=16_000", "length=8_000")
    sys.modules.pop("my_model")
    refused(
        capsys, explained(), r"inputs of shape \(1, 64, 101\), as time.safetensors was fitted on, but .* \(1, 64, 51\)"
    )
    assert not pages
    assert not Path("page.html").exists()


def test_bad_recordings_stop_a_fit_or_are_left_out_and_listed(here, pages, capsys):
    sound("recordings/dog/0b.wav", hertz=500)
    Path("recordings/dog/0b.wav").write_bytes(Path("recordings/dog/0b.wav").read_bytes()[:40])
    Path("recordings/rain/9.wav").write_text("no sound")
    refused(capsys, fit(), r"recordings/dog/0b\.wav to (be audio|hold sound)")
    Path("recordings/dog/0b.wav").rename("0b.wav")
    refused(capsys, fit(), r"recordings/rain/9\.wav to be audio, .*; --skip-bad leaves out files that cannot be read")
    Path("0b.wav").rename("recordings/dog/0b.wav")
    assert fit("--skip-bad") == 0
    listed = capsys.readouterr().err
    assert "2 of 11 files are left out:" in listed
    assert re.search(
        r"^  recordings/dog/0b\.wav: .*\n  recordings/rain/9\.wav: .* cannot be read", listed, re.MULTILINE
    )
    assert "9 recordings in recordings; the model recognises " in listed
    basis = PrototypeBasis.load("time.safetensors")
    assert torch.equal(basis.prototype_indices, fitted(epochs=2).prototype_indices)

    refused(capsys, explained(), "but got 11; .* left out here, too .*--skip-bad")
    assert explained("--skip-bad") == 0
    for index, clip in pages[0].prototypes.items():
        assert clip.name == RECORDINGS[index]


def test_bad_clips_stop_a_page_or_are_left_out_and_listed(here, pages, capsys):
    fit()
    Path("bad.wav").write_text("no sound")
    clips = ("bad.wav", "new.wav", "gone.wav")
    refused(capsys, explained(clips=clips), "bad.wav to be audio, but .*; `skip_bad=True`, or --skip-bad on")
    assert explained("--skip-bad", clips=clips) == 0
    assert [page.clip.name for page in pages] == ["new.wav"]
    assert re.search(
        r"2 of 3 files are left out:\n  bad.wav: .*\n  gone.wav: .* there is none", capsys.readouterr().err
    )
    refused(
        capsys,
        explained("--skip-bad", clips=("bad.wav", "gone.wav")),
        "expected files that can be read, but all 2 are bad, such as bad.wav: expected bad.wav to be audio",
    )


def test_the_events_before_a_file_ends_are_written_with_a_message(here, capsys):
    fit("--skip-bad")
    sound("night.flac", hertz=870, seconds=4.0, kind="PCM_16")
    edited(Path("night.flac"), lambda data: flac_length(data, 16000 * 60))
    with pytest.warns(UserWarning, match="night.flac ends at 4 s, but its header says 60 s"):
        assert run("events", "night.flac", *MODEL, "--basis", "time.safetensors", "--audacity", "night.txt") == 0
    assert "in a recording of 4.0 s" in capsys.readouterr().err
    assert Path("night.txt").is_file()


def test_the_events_before_an_error_are_written_and_the_status_is_2(here, capsys):
    fit("--skip-bad")
    samples = np.full(16000 * 6, 0.01, dtype=np.float32)
    samples[16000 * 5] = np.nan
    soundfile.write("night.wav", samples, 16000, subtype="FLOAT")
    command = ["events", "night.wav", *MODEL, "--basis", "time.safetensors", "--threshold", 0.01]
    refused(capsys, run(*command, "--audacity", "night.txt"), "NaN or infinity after 5 s|night.wav .* NaN")
    assert Path("night.txt").read_text()


def test_a_page_does_not_take_the_place_of_a_recording(here, pages, capsys):
    fit()
    before = Path("new.wav").read_bytes()
    refused(capsys, explained("--out", "new.wav"), r"--out to end in \.html, but got new\.wav")
    assert Path("new.wav").read_bytes() == before
    assert not pages


def test_a_place_that_cannot_be_written_to_is_refused_before_the_work(here, pages, monkeypatch, capsys):
    fit()
    for command in ("fit", "explain"):
        monkeypatch.setattr(f"captum_apex.cli.{command}_command.load_classifier", None)  # not even the model is made
    refused(
        capsys, explained("--out", "new.wav/page.html"), "in a folder that can be written to, but .*/new.wav is none"
    )
    refused(capsys, fit(out="new.wav/time.safetensors"), "in a folder that can be written to, but .*/new.wav is none")
    refused(capsys, fit(out="new.wav/bases", scheme=()), "in a folder that can be written to, but .*/new.wav is none")


@pytest.mark.parametrize("command", ["fit", "explain", "events"])
def test_a_full_disk_is_said_before_the_work(here, monkeypatch, capsys, command):
    sound("night.wav", hertz=870)
    fit()
    monkeypatch.setattr(f"captum_apex.cli.{command}_command.load_classifier", None)  # not even the model is made

    def full(*_, **__):
        return open("/dev/full", "wb", buffering=0)

    monkeypatch.setattr("tempfile.NamedTemporaryFile", full)
    capsys.readouterr()
    status = {"fit": fit, "explain": explained, "events": lambda: events("--raven", "a.txt")}[command]()
    refused(capsys, status, f"written to, but {here} is none: No space left on device")


def test_a_disk_that_is_full_at_the_end_is_a_line(here, monkeypatch, capsys):
    def save(*_):
        raise OSError(28, "No space left on device", "time.safetensors")

    monkeypatch.setattr(PrototypeBasis, "save", save)
    refused(capsys, fit(), "^python -m captum_apex: .*No space left on device: 'time.safetensors'$")


LATE = """self.head(self.features(x).mean((2, 3)))
        if Path("broken").exists():
            raise RuntimeError("the layer before\\n is broken")
        return scores
"""


@pytest.mark.parametrize("more", [(), ("--cells",)])
def test_a_model_that_raises_late_is_named_with_the_clip(here, pages, monkeypatch, capsys, more):
    changed("return self.head(self.features(x).mean((2, 3)))", f"scores = {LATE}")
    Path("my_model.py").write_text("from pathlib import Path\n" + Path("my_model.py").read_text())
    fit()
    scores = ClipPages.scores

    def then_broken(*arguments):
        found = scores(*arguments)
        Path("broken").touch()
        return found

    monkeypatch.setattr(ClipPages, "scores", then_broken)
    capsys.readouterr()
    refused(
        capsys,
        explained(*more),
        r"^python -m captum_apex: new.wav cannot be explained: the model raised RuntimeError: "
        r"the layer before is broken \(.*my_model.py, line \d+\)$",
    )


def test_a_defect_in_an_explanation_is_one(here, pages, monkeypatch, capsys):
    fit()
    monkeypatch.setattr(ClipRequest, "labels", None)
    monkeypatch.setattr("tempfile.tempdir", str(here))
    capsys.readouterr()
    assert explained() == 1
    assert "this is a defect" in capsys.readouterr().err


@pytest.mark.parametrize(
    "device", ["meta", "cuda:99", "cuda:-1", "abacus", "", "cpu:x", "vulkan", "hpu", "fpga", "xla", "mps"]
)
def test_a_device_that_cannot_compute_is_refused(device, capsys):
    with pytest.raises(SystemExit):
        main(["fit", "recordings", *MODEL, "--out", "x", "--device", device])
    assert f"expected a device that is here, but got {device!r}" in capsys.readouterr().err


def test_a_page_has_a_largest_size(here, capsys):
    fit()
    refused(capsys, explained("--limit", "0.05"), "at most 0.05 MB, but got about 0.. MB")
    assert not Path("page.html").exists()
    assert explained("--limit", "1") == 0


def test_a_basis_of_other_weights_is_refused(here, pages, capsys):
    fit()
    weights = torch.load("checkpoint.pt", weights_only=True)
    torch.save({name: 2 * weight for name, weight in weights.items()}, "checkpoint.pt")
    refused(capsys, explained(), "time.safetensors does not fit this model: .*its weights differ")


def test_an_interruption_exits_with_130_and_leaves_the_old_page(here, pages, monkeypatch, capsys):
    def stop(*_, **__):
        raise KeyboardInterrupt

    fit()
    Path("page.html").write_text("the old page")
    monkeypatch.setattr("captum_apex.explaining.clip_pages.explain", stop)
    assert explained() == 130
    assert capsys.readouterr().err.endswith("interrupted\n")
    assert Path("page.html").read_text() == "the old page"


def test_recordings_of_another_rate_are_converted_with_a_message_or_refused(here, capsys):
    sound(RECORDINGS[0], hertz=440, rate=8000)
    with pytest.warns(UserWarning, match="recordings at 8000 Hz are resampled to 16000 Hz"):
        assert fit() == 0
    capsys.readouterr()
    refused(capsys, fit("--no-convert"), r"dog/0\.wav at 16000 Hz with one channel, but got 8000 Hz with 1")


def test_what_is_converted_is_said_in_one_line_without_a_place_in_the_code(here, monkeypatch, capsys):
    def show(message, category, filename, lineno, file=None, line=None):
        """As Python itself; pytest does otherwise."""
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno, line))

    sound(RECORDINGS[0], hertz=440, rate=8000)
    changed("def classifier():", "def classifier():\n    import warnings; warnings.warn('beware')")
    usual = warnings.formatwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")  # as after a library has changed the filters
        monkeypatch.setattr(warnings, "showwarning", show)
        assert fit() == 0
    lines = capsys.readouterr().err.splitlines()
    message = (
        "recordings at 8000 Hz are resampled to 16000 Hz; they have nothing above 4000 Hz, which other clips may have"
    )
    assert lines.count(f"python -m captum_apex: {message}") == 1
    assert not any(re.search(r"recordings\.py|return as_waveform", line) for line in lines)
    assert any(
        re.search(r"my_model\.py:\d+: UserWarning: beware", line) for line in lines
    )  # the user's own keep their place
    assert warnings.formatwarning is usual


@pytest.mark.parametrize("missing", ["soundfile", "torchaudio.functional"])
def test_a_missing_package_is_named(here, monkeypatch, capsys, missing):
    sound(RECORDINGS[0], hertz=440, rate=8000)
    monkeypatch.setitem(sys.modules, missing, None)
    refused(capsys, fit(), rf"expected {missing.partition('.')[0]}.*pip install 'captum-apex\[audio\]'")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "required: command"),
        (["fit", "recordings", "--out", "x"], "required: --model"),
        (["fit", "recordings", *MODEL, "--layer", "a", "--out", "x", "--scheme", "space"], "invalid choice: 'space'"),
        (
            ["fit", "recordings", *MODEL, "--layer", "a", "--out", "x", "--device", "abacus"],
            "a device that is here, but got 'abacus'",
        ),
        (
            ["explain", "a.wav", *MODEL, "--basis", "b", "--out", "x", "--channels", "0"],
            "a number of at least 1, but got '0'",
        ),
        (
            ["explain", "a.wav", *MODEL, "--basis", "b", "--out", "x", "--cells", "--cross"],
            "--cross: not allowed with argument --cells",
        ),
        (
            ["explain", "a.wav", *MODEL, "--basis", "b", "--out", "x", "--threshold", "50"],
            "a number from 0 to 1, but got '50'",
        ),
        (
            ["explain", "a.wav", *MODEL, "--basis", "b", "--out", "x", "--threshold", "half"],
            "a number from 0 to 1, but got 'half'",
        ),
    ],
)
def test_wrong_arguments_exit_with_2_and_say_why(wrong, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(wrong)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_the_output_has_the_paths_and_the_error_stream_the_table(here, capsys):
    assert fit() == 0
    captured = capsys.readouterr()
    assert captured.out == "time.safetensors\n"
    purity = PrototypeBasis.load("time.safetensors").positive.purities.mean().item()
    assert re.search(rf"^time\.safetensors  time +features +32 +5 +{purity:.3g} +0$", captured.err, flags=re.MULTILINE)
    assert explained("--cells", "--table", "new/evidence.csv") == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == ["page.html", "new/evidence.csv"]
    rows = list(csv.DictReader(Path("new/evidence.csv").read_text().splitlines()))
    strongest = max(rows, key=lambda row: float(row["contribution"]))
    line = next(line for line in captured.err.splitlines() if line.startswith("new.wav"))
    assert line.split()[:2] == ["new.wav", strongest["explained"]]
    assert line.split()[3:5] == [strongest["channel"], "time"]


def test_json_is_one_object_with_the_files_and_the_results(here, capsys):
    assert fit("--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["files"] == ["time.safetensors"]
    assert printed["n_recordings"] == 9
    assert [basis["scheme"] for basis in printed["bases"]] == ["time"]
    assert explained("--cells", "--json", "--table", "evidence.json", clips=("new.wav", "recordings/dog/0.wav")) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["files"] == ["page.html", "evidence.json"]
    rows = json.loads(Path("evidence.json").read_text())
    for clip in printed["clips"]:
        of_clip = [row for row in rows if row["clip"] == clip["clip"]]
        strongest = max(of_clip, key=lambda row: row["contribution"])
        assert {name: clip[name] for name in ("channel", "contribution", "start_s", "low_hz")} == {
            name: strongest[name] for name in ("channel", "contribution", "start_s", "low_hz")
        }
    assert [clip["clip"] for clip in printed["clips"]] == ["new.wav", "recordings/dog/0.wav"]
    events = ("events", "new.wav", *MODEL, "--basis", "time.safetensors", "--raven", "a.txt", "--threshold", 0)
    assert run(*events, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    names = pd.read_csv("a.txt", sep="\t")["Annotation"]
    assert {row["class"]: row["events"] for row in printed["classes"]} == dict(collections.Counter(names))
    assert printed["duration_s"] == 1.0


def test_a_table_does_not_take_the_place_of_a_recording(here, capsys):
    fit()
    before = Path("new.wav").read_bytes()
    refused(capsys, explained("--table", "new.wav"), r"expected --table to end in \.csv or \.json, but got new\.wav")
    assert Path("new.wav").read_bytes() == before


@pytest.mark.parametrize("command", [[], ["fit"], ["explain"], ["events"]])
def test_help_is_given_with_examples(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        main([*command, "--help"])
    assert exit_.value.code == 0
    printed = capsys.readouterr().out
    for other in ("fit", "explain", "events"):
        assert (f"\n  python -m captum_apex {other} " in printed) == (command in ([], [other]))
    assert "captum_apex.Classifier: the model, its transform, its class names" in printed


@pytest.mark.parametrize(
    ("arguments", "status"),
    [("--help", 0), ("--version", 0), ("", 2), ("fit --epochs half", 2), ("explain --device cpu", 2), ("layer", 2)]
    + [(f"{command} --help", 0) for command in PARSED],
)
def test_help_and_wrong_arguments_take_no_import_of_torch(arguments, status):
    """Which takes seconds."""
    source = "import sys; from captum_apex.__main__ import main; sys.argv[1:] = {}; status = main()\n"
    source += "print([name for name in ('torch', 'captum', 'numpy', 'matplotlib') if name in sys.modules], status)"
    done = subprocess.run(
        [sys.executable, "-c", source.format(arguments.split())], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == f"[] {status}"


@pytest.mark.parametrize("command", PARSED)
def test_the_help_says_where_the_columns_of_tables_are_explained(command, capsys):
    with pytest.raises(SystemExit):
        run(command, "--help")
    pattern = r'^The columns of the tables are explained in the guide (.*), "(.*)"\.$'
    said = re.findall(pattern, capsys.readouterr().out, re.MULTILINE)
    assert len(said) == (command in ("explain", "events"))  # which write tables
    for path, title in said:
        headings = re.findall(r"^#+ (.*)$", (Path(__file__).parents[3] / path).read_text(), re.MULTILINE)
        assert title in [heading.replace("`", "") for heading in headings]


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--version"])
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"captum-apex {captum_apex.__version__}\n"


@pytest.mark.parametrize(
    ("started", "name"),
    [
        ("/usr/bin/captum-apex", "captum-apex"),
        ("captum-apex.exe", "captum-apex"),
        ("captum_apex/__main__.py", "python -m captum_apex"),
    ],
)
def test_the_program_is_named_as_it_was_started(here, capsys, monkeypatch, started, name):
    monkeypatch.setattr(sys, "argv", [started])
    for command in ([], ["fit"]):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        printed = capsys.readouterr().out
        assert printed.startswith(f"usage: {name} ")
        assert f"\n  {name} fit recordings " in printed
    with pytest.raises(SystemExit):
        main(["fit"])
    assert f"\n{name} fit: error: the following arguments are required" in capsys.readouterr().err
    assert run("fit", "recordings", "--model", "my_model", "--out", "bases") == 2
    assert capsys.readouterr().err.startswith(f"{name}: expected --model as module:factory")


@pytest.mark.parametrize("command", ["explain", "events"])
def test_five_channels_are_evidence_by_default(command):
    files = {"explain": ["a.wav", "--out", "page.html"], "events": ["a.wav", "--raven", "a.txt"]}[command]
    assert parser().parse_args([command, *files, *MODEL, "--basis", "time.safetensors"]).channels == 5


def test_without_a_layer_of_the_factory_it_must_be_named(here, capsys):
    refused(
        capsys,
        run("fit", "recordings", *MODEL, "--out", "bases"),
        "expected --layer, or a Classifier with a `layer`.*: features, ",
    )


def test_the_factorys_layer_is_taken_unless_another_is_named(here):
    source = FACTORY.replace("class_names=class_names,", "class_names=class_names,\n        layer=model.features,")
    Path("my_model.py").write_text(source)
    assert run("fit", "recordings", *MODEL, "--scheme", "time", "--epochs", 1, "--out", "time.safetensors") == 0
    assert PrototypeBasis.load("time.safetensors").origin.layer == "features"
    assert (
        run(
            "fit",
            "recordings",
            *MODEL,
            "--layer",
            "features.1",
            "--scheme",
            "time",
            "--epochs",
            1,
            "--out",
            "time.safetensors",
        )
        == 0
    )
    assert PrototypeBasis.load("time.safetensors").origin.layer == "features.1"


def test_as_a_process_errors_are_one_line_and_status_2(here):
    command = [
        sys.executable,
        "-m",
        "captum_apex",
        "fit",
        "recordings",
        *MODEL,
        "--layer",
        "features",
        "--out",
        "bases",
    ]
    Path("checkpoint.pt").unlink()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(
        r"python -m captum_apex: expected my_model:classifier to return .*checkpoint\.pt.* line \d+\)\n", done.stderr
    )


def test_importing_the_library_does_not_import_what_only_some_parts_need():
    optional = {"soundfile", "torchaudio", "transformers", "IPython", "captum_apex.listening"}
    # captum itself imports IPython where it is installed
    source = "import sys, captum.attr; had = set(sys.modules); import captum_apex; "
    source += f"print({optional} & set(sys.modules) - had)"
    assert (
        subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout == "set()\n"
    )


def rows_that_are_not_in(path, table):
    """The rows of a table of the guide, whose columns are two or more spaces apart, that a file does not have."""
    names, *rows = (re.split(r" {2,}", line) for line in table.splitlines())
    shown = [dict(itertools.zip_longest(names, row, fillvalue="")) for row in rows]
    written = list(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))

    def is_written(row):
        return any(all(agree(row[name], line[name], rounded=True) for name in names) for line in written)

    return [row for row in shown if not is_written(row)]


@pytest.mark.filterwarnings("ignore:digital silence gets")  # as the guide says
def test_the_guide_runs_as_it_is_pasted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_model", raising=False)
    Path("my_model.py").write_text(FACTORY)
    with torch.random.fork_rng():
        exec(MAKE_SOUNDS, {})
    assert capsys.readouterr().out == "accuracy on the training clips: 1.00\n"
    assert {command.split()[1] for command in COMMANDS} == {"examine", "layers", "fit", "explain", "events", "describe"}
    for command in COMMANDS:
        assert main(shlex.split(command)[1:]) == 0
    sys.modules.pop("my_model")
    assert sorted(path.stem for path in Path("bases").iterdir()) == sorted(map(str, SCHEMES))
    assert "new.wav" in Path("page.html").read_text()
    columns, *rows = (line.split("\t") for line in Path("night.Table.1.selections.txt").read_text().splitlines())
    assert columns[:4] == ["Selection", "View", "Channel", "Begin Time (s)"]
    shown = re.findall(r"^([\d.]+) +([\d.]+) +(\w+) +[\d.]+ +(\d+)(?:; \d+)*$", GUIDE, flags=re.MULTILINE)
    assert [name for _, _, name, _ in shown] == [row[columns.index("Annotation")] for row in rows]
    for (begin, end, _, _), row in zip(shown, rows, strict=True):
        assert [float(time) for time in row[3:5]] == pytest.approx([float(begin), float(end)], abs=0.1)
    tables = [block.code for block in blocks_of(GUIDE) if block.kind == "text"]
    if on_the_processor_of_the_pages():
        for table, name in zip(tables, ("night", "refined"), strict=True):
            assert rows_that_are_not_in(Path(f"{name}.Table.1.selections.txt"), table) == []
    assert Path("night.txt").is_file()
    columns, *rows = (line.split("\t") for line in Path("refined.Table.1.selections.txt").read_text().splitlines())
    refined = [dict(zip(columns, row, strict=True)) for row in rows]
    shown = re.findall(
        r"^([\d.]+) +([\d.]+) +[\d.]+ +[\d.]+ +(\w+) +[\d.]+ +(yes|no) *(.*)$", GUIDE, flags=re.MULTILINE
    )
    assert len(shown) == 4
    for begin, end, *texts in shown:
        (row,) = (row for row in refined if abs(float(row["Begin Time (s)"]) - float(begin)) < 0.02)
        assert float(row["End Time (s)"]) == pytest.approx(float(end), abs=0.02)
        assert [row[name] for name in ("Annotation", "Better than Random", "Fires On")] == texts


@pytest.mark.parametrize("command", ["examine", "layers", "fit", "explain", "events"])
def test_the_guide_has_every_option_of_a_command(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    options = set(re.findall(r"^ +(--[a-z-]+)", capsys.readouterr().out, flags=re.MULTILINE))
    sections = re.split(r"^## ", GUIDE, flags=re.MULTILINE)
    (section,) = (section for section in sections if f"captum-apex {command} " in section)
    rows = re.findall(r"^\| `(--[a-z-]+)[^`]*` \| (?:of `(examine|layers)`)?", section, flags=re.MULTILINE)
    assert {option for option, of_command in rows if of_command in ("", command)} == options


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        ("fit", ["recordings", "--out", "bases"]),
        ("explain", ["new.wav", "--basis", "bases", "--out", "page.html"]),
        ("events", ["night.wav", "--basis", "bases"]),
    ],
)
def test_the_guide_has_the_defaults_of_a_command(command, needed):
    options = vars(parser().parse_args([command, *needed, *MODEL]))
    (section,) = (text for text in re.split(r"^## ", GUIDE, flags=re.MULTILINE) if f"captum-apex {command} " in text)
    defaults = re.findall(r"^\| `--([a-z-]+)[^\n]*\(`?([\w.]+)`?\) \|$", section, flags=re.MULTILINE)
    assert len(defaults) >= 4
    for name, default in defaults:
        assert str(options[name.replace("-", "_")]) == default


@pytest.mark.parametrize("command", ["fit", "explain", "events"])
def test_the_help_of_a_command_says_what_the_guide_says(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        main([command, "--help"])
    printed = capsys.readouterr().out
    (section,) = (text for text in re.split(r"^## ", GUIDE, flags=re.MULTILINE) if f"captum-apex {command} " in text)
    rows = re.findall(r"^\| `(-*[A-Za-z-]+)[^`]*` \| (.*) \|$", section, flags=re.MULTILINE)
    assert len(rows) > 8
    for option, text in rows:
        help_text = text.replace("`", "") + "; an example is at the end of this text" * (option == "--model")
        assert re.search(rf"^  {option}\b.*\s+{re.escape(help_text)}$", printed, flags=re.MULTILINE), option
    assert re.findall(r"^  (--[a-z-]+)", printed, flags=re.MULTILINE) == [row[0] for row in rows if "--" in row[0]]


@pytest.mark.filterwarnings("ignore:digital silence gets")  # as such a model does
def test_the_factory_in_the_help_can_be_pasted(here, capsys):
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    indented = re.search(r"^  import torch\n(?:  .*\n|\n)+", capsys.readouterr().out, flags=re.MULTILINE)[0]
    Path("my_network.py").write_text(FACTORY)
    Path("my_model.py").write_text(textwrap.dedent(indented))
    assert fit() == 0
    sys.modules.pop("my_network")


def test_the_guide_has_every_setting_of_a_classifier():
    settings = re.findall(r"^\| `([a-z_]+)` \|", GUIDE, flags=re.MULTILINE)
    assert set(settings) == {field.name for field in dataclasses.fields(Classifier)}


def test_the_page_is_written(here):
    """With the report itself, not its stand-in."""
    pytest.importorskip("captum_apex.report")
    fit(out="bases", scheme=())
    assert explained("--title", "Why <dog>?", basis=("bases",)) == 0
    page = Path("page.html").read_text()
    assert "new.wav" in page
    assert "Why <dog>?" not in page


# --- one table of many files --------------------------------------------------


def events_of(*recordings, more=(), table="events.csv"):
    return run("events", *recordings, *MODEL, "--basis", "time.safetensors", "--table", table, *more)


def test_events_of_several_recordings_are_one_table(here, capsys):
    fit()
    for index, name in enumerate(("field/a.wav", "field/north/b.wav", "field/c.wav")):
        sound(name, hertz=435 * 2**index, seconds=2.5 + index)
    settings = ("--threshold", 0.3, "--gap", 0.1, "--channels", 2)
    rows = []
    for name in ("field/a.wav", "field/c.wav", "field/north/b.wav"):
        assert events("--table", "one.csv", "--raven", "one.txt", *settings, recording=name) == 0
        header, *lines = Path("one.csv").read_text().splitlines()
        rows += [f"{name},{line}" for line in lines]
        Path("one.txt").rename(f"{Path(name).stem}.txt")
    capsys.readouterr()
    assert events_of("field", more=("--raven", "selections", *settings)) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines() == ["events.csv", "selections"]
    assert f"{len(rows)} events in 3 files\n" in printed.err
    assert Path("events.csv").read_text().splitlines() == [f"file,{header}", *rows]
    for name in ("a", "north/b", "c"):
        made = Path("selections", f"{name}.Table.1.selections.txt").read_text()
        assert made == Path(f"{Path(name).name}.txt").read_text()
    for i in (1, 0):
        more = ("--part", f"{i}/2", "--json", *settings)
        assert events_of("field/a.wav", "field/c.wav", "field/north", more=more, table="parts.csv") == 0
        printed = capsys.readouterr()
        result = json.loads(printed.out)
        assert result["n_missing"] == 2 * i
        assert result["files"] == (["parts.csv"] if not i else [])
        assert ("2 of 3 files are not; the part that ends last writes parts.csv" in printed.err) == bool(i)
    names = [line.split(",")[3] for line in rows]
    assert {row["class"]: row["events"] for row in result["classes"]} == dict(collections.Counter(names))
    assert Path("parts.csv").read_bytes() == Path("events.csv").read_bytes()


def test_an_interrupted_table_goes_on_and_bad_recordings_are_listed(here, capsys, monkeypatch):
    fit()
    for name in "acd":
        sound(f"field/{name}.wav", hertz=870, seconds=2.0)
    Path("field/b.wav").write_text("no sound")
    seen = []
    whole = explainer.explain_recording

    def interrupted(apex, path, *arguments, **settings):
        seen.append(str(path))
        if len(seen) == 4:
            raise KeyboardInterrupt
        return whole(apex, path, *arguments, **settings)

    monkeypatch.setattr(explainer, "explain_recording", interrupted)
    low = ("--threshold", 0.3)
    message = "expected field/b.wav to be audio.*; the files before it are kept in events.csv"
    refused(capsys, events_of("field", more=low), message)
    assert events_of("field", more=("--skip-bad", *low)) == 130
    assert "what is finished is kept in events.csv.parts; the same command goes on there" in capsys.readouterr().err
    assert events_of("field", more=("--skip-bad", *low)) == 0
    assert "1 of 4 files are left out:\n  field/b.wav: expected field/b.wav to be audio" in capsys.readouterr().err
    assert seen == [f"field/{name}.wav" for name in "abbcbcd"]
    assert set(pd.read_csv("events.csv")["file"]) == {f"field/{name}.wav" for name in "acd"}
    refused(
        capsys, events_of("field", more=("--gap", 1, *low)), "expected what events.csv.parts was .*`gap` 0.0 became 1.0"
    )


def test_a_table_without_a_page_is_that_of_the_page(here, pages, capsys):
    fit()
    clips = ("new.wav", "recordings/dog/0.wav")
    assert explained("--table", "wanted.json", "--cells", clips=clips) == 0
    assert Path("page.html").exists()
    Path("page.html").unlink()
    capsys.readouterr()
    command = ("explain", *clips, *MODEL, "--basis", "time.safetensors", "--data", "recordings", "--cells", "--no-page")
    for i in range(2):
        assert run(*command, "--table", "evidence.json", "--part", f"{i}/2") == 0
    printed = capsys.readouterr()
    assert printed.out == "evidence.json\n"
    assert "10 channels in 2 files" in printed.err
    assert Path("evidence.json").read_bytes() == Path("wanted.json").read_bytes()
    assert not list(Path().glob("page*.html"))


def test_wrong_options_for_tables_of_many_files_are_refused(here, monkeypatch, capsys):
    fit()
    sound("field/a.wav", hertz=870)
    for command in ("explain", "events"):
        monkeypatch.setattr(f"captum_apex.cli.{command}_command.load_classifier", None)  # before the model is made
    several = ("events", "field", *MODEL, "--basis", "time.safetensors")
    refused(capsys, run(*several), "expected --table for several recordings: the table of all files, FILE.csv or FILE")
    refused(capsys, events_of("field", table="a.wav"), r"expected --table to end in \.csv or \.json, but got a\.wav")
    refused(capsys, events_of("field", table="new.wav/a.csv"), "in a folder that can be written to, but .*/new.wav is")
    refused(
        capsys, events_of("field", more=("--raven", "a.txt")), "expected a folder for --raven, with a file for each rec"
    )
    refused(capsys, events_of("field", more=("--audacity", "new.wav")), "expected a folder for --audacity.*new.wav")
    refused(capsys, explained("--part", "0/2"), "expected --part with --no-page, because a page has all clips")
    refused(capsys, explained("--no-page", "--table", "a.csv"), "--out or --no-page, but got both: page.html would be")
    alone = ("explain", "new.wav", *MODEL, "--basis", "time.safetensors", "--no-page")
    refused(capsys, run(*alone), "expected --table for --no-page: the table of all files")


@pytest.mark.parametrize("text", ["2/2", "1", "a/2", "-1/2", "1/2/3", "0/0", ""])
def test_a_part_is_an_index_below_a_number(text, capsys):
    with pytest.raises(SystemExit) as exit_:
        parser().parse_args(["events", "a.wav", *MODEL, "--basis", "b.safetensors", f"--part={text}"])
    assert exit_.value.code == 2
    assert f"expected I/N with a part I from 0 to N − 1, such as 0/4, the first of four, but got '{text}'" in (
        capsys.readouterr().err
    )
