"""`python -m benchmarks truth` on made sounds, on a published selection table, and on wrong input."""

import os
import re
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.experiments.annotated_truth import MEASURES
from benchmarks.methods import METHODS
from benchmarks.runs.annotated_clips import recordings_at
from captum_apex import Classifier, SpectrogramAxes
from captum_apex.cli import factory
from tests import bursts
from tests.benchmarks.experiments.test_annotated_truth import LONG, SHORT

MODEL = ("--model", "tests.bursts:classifier")
HEADS = "AUC, segments | AUC, bins | IoU at the threshold | best IoU | frame F1 | pointing game | relevance mass"
MINE = """from benchmarks.methods import method
method("the evidence")(lambda query: query.inputs * query.layer.rows[query.target][:, None])
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with recordings, their annotations and a basis."""
    monkeypatch.chdir(tmp_path)
    bursts.write_recordings(Path("sounds"), SHORT, bursts.SECONDS)
    bursts.write_annotations(Path("events.csv"), SHORT)
    with patch.dict(METHODS):  # `--add` registers methods
        yield tmp_path


def truth(*arguments, recordings="sounds", annotations="events.csv"):
    paths = ("--recordings", recordings, "--annotations", annotations)
    try:
        return main(["truth", *MODEL, *paths, *map(str, arguments)])
    except SystemExit as error:
        return error.code


def fault(capsys, *arguments, **paths):
    """The line that says why a command failed."""
    assert truth(*arguments, **paths) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_it_prints_and_writes_every_measure(here, capsys):
    Path("mine.py").write_text(MINE)
    files = ("--csv", "new/truth.csv", "--rows", "rows.csv")
    assert truth("--add", "mine.py", "--methods", "the evidence", "random", *files) == 0
    printed = capsys.readouterr()
    table = [line for line in printed.out.splitlines() if line.startswith("|")]
    assert table[0] == f"| method | {HEADS} |"
    ones = r" \| ".join([r"1\.00 \[1\.00, 1\.00\] \(0\.\d\d\) ↑"] * len(MEASURES))
    assert re.fullmatch(rf"\| the evidence \| {ones} \|", table[2])
    assert "4 clips of 3 recordings with 5 annotations. The annotated class, which is explained," in printed.out
    assert "has the largest score in 3 of them; its sound takes 6% of the bins." in printed.out
    lines = pd.read_csv("new/truth.csv")
    assert lines[lines["method"] == "the evidence"]["mean"].to_numpy() == pytest.approx(1.0)
    assert lines["measure"].tolist() == list(MEASURES) * 2
    rows = pd.read_csv("rows.csv")
    assert rows["recording"].tolist() == ["a.wav", "b.wav", "c.wav", "c.wav"] * 2
    random = rows[rows["method"] == "random"]
    expected = lines[lines["method"] == "random"].set_index("measure")["mean"]
    assert random[list(MEASURES)].mean().to_numpy() == pytest.approx(expected[list(MEASURES)].to_numpy())


def test_a_soundscape_has_a_row_for_each_event_and_a_table_of_events(here, capsys):
    bursts.write_recordings(Path("field"), LONG, 5.0)
    bursts.write_annotations(Path("field.csv"), LONG)
    own = factory.load_classifier(MODEL[1], "cpu", convert=True)
    bursts.basis("time", recordings_at(Path("sounds"), own)).save(Path("time.safetensors"))
    basis = ("--basis", "time.safetensors", "--events", "--probability", "0.5")
    methods = ("--methods", "found, time", "InputXGradient")
    paths = {"recordings": "field", "annotations": "field.csv"}
    assert truth(*basis, *methods, "--rows", "rows.csv", "--times-only", **paths) == 0
    printed = capsys.readouterr().out
    assert "4 clips of 1 recording with 4 annotations, 4 of them around an event of a long recording." in printed
    events = re.findall(r"^\| time \| (\d+) \| 4 \| [\d.]+ \([\d.]+\) \| 1\.00 \([\d.]+\) \|", printed, re.MULTILINE)
    assert len(events) == 1
    rows = pd.read_csv("rows.csv")
    assert rows["event_start"].tolist() == [start for _, start, _ in LONG["night.wav"]] * 2
    regions = rows[rows["method"] == "found, time"]
    assert (regions["segment_auroc"] > 0.5).all()
    gradient = rows[rows["method"] == "InputXGradient"]
    assert gradient[["segment_auroc", "frame_f1", "pointing"]].to_numpy() == pytest.approx(1.0)
    assert gradient["threshold_iou"].to_numpy() == pytest.approx(1 / bursts.ROWS)  # one row of five


def test_what_is_left_out_is_said(here, capsys):
    text = Path("events.csv").read_text().replace("b.wav", "lost.wav").replace("0.5,250.0,350.0,high", "0.5,,,fox")
    Path("events.csv").write_text(text)
    assert truth("--methods", "random") == 0
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("left out")] == [
        "left out: 1 annotation of files that are not among the recordings: lost.wav (1)",
        "left out: 1 annotation of classes that the model does not have: fox (1)",
        "left out: 1 recording without annotations of the classes",
    ]


def test_names_can_be_translated(here, capsys):
    text = Path("events.csv").read_text().replace("label", "Code").replace("low\n", "L1\n").replace("high\n", "H1\n")
    Path("events.csv").write_text(text)
    names = ("--label-column", "Code", "--rename", "L1=low", "H1=high")
    assert truth(*names, "--methods", "energy", "--csv", "a.csv") == 0
    assert "4 clips of 3 recordings with 5 annotations." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("label", "kind"),
            "expected events.csv to have a column of labels, but its columns are file, start, end, low,",
        ),
        (("file,start", "file,from"), "expected events.csv to have a column 'start', but its columns are file, from"),
        ((".wav", ".mp3"), "of 5 annotations none is; 5 annotations of files that are not among the recordings: "),
        (("low\n", "fox\n"), "left out"),
    ],
)
def test_wrong_annotations(change, message, here, capsys):
    text = Path("events.csv").read_text().replace(*change)
    if message == "left out":
        text = text.replace("high\n", "owl\n")
        message = "none is; 5 annotations of classes that the model does not have: fox (3), owl (2); 3 recordings"
    Path("events.csv").write_text(text)
    assert message in fault(capsys, "--methods", "random")


def test_bands_beside_those_of_the_model_are_an_error_if_nothing_else_is_annotated(here, capsys):
    text = Path("events.csv").read_text()
    Path("events.csv").write_text(re.sub(r",\d+\.0,\d+\.0,(low|high)\n", r",1e7,2e7,\1\n", text))
    said = fault(capsys, "--methods", "energy")
    assert "expected annotations, of frequencies in Hz, that have bins of the model's input, but none has: " in said
    assert re.search(r"line \d of events.csv is of 10000000.0 to 20000000.0 Hz; --times-only takes the times", said)
    Path("events.csv").write_text(re.sub(r",\d+\.0,\d+\.0,high\n", r",1e7,2e7,high\n", text))
    assert truth("--methods", "energy") == 0
    printed = capsys.readouterr().out
    assert "In 2 of them, the annotated band has no bin of the model's input, so that nothing is measured." in printed
    assert truth("--methods", "energy", "--times-only") == 0
    assert "has no bin" not in capsys.readouterr().out


def test_wrong_arguments(here, capsys):
    Path("empty.txt").write_text("")
    assert "expected annotations at none.csv, but there is" in fault(capsys, annotations="none.csv")
    assert "expected empty.txt to have annotations of the 3 recordings" in fault(capsys, annotations="empty.txt")
    assert "expected audio files, which end in .aif" in fault(capsys, recordings="nowhere")
    assert "expected --basis with --events" in fault(capsys, "--events")
    assert "expected LABEL=CLASS, such as NOCA='Northern Cardinal', but got 'low'" in fault(capsys, "--rename", "low")
    said = fault(capsys, "--rename", "L1=lwo")
    assert said.endswith("expected --rename to name classes of the model, low, high, but got 'lwo'")
    assert "invalid choice: 'magic'" in fault(capsys, "--methods", "magic")
    assert "expected events.csv to be of crowsetta's" in (said := fault(capsys, "--format", "raven")) or (
        "expected crowsetta, which reads other formats of annotations, but it cannot be imported" in said
    )


class Bands(torch.nn.Module):
    """A layer for the dawn chorus: the level of two bands."""

    def forward(self, inputs):
        rows = torch.arange(inputs.shape[2])[:, None]
        return torch.cat([inputs * (rows < 8), inputs * (rows >= 8)], 1).relu()


def dawn_classifier():
    """A made classifier of the two loudest species of the dawn chorus, by their bands."""
    layer = Bands()
    model = torch.nn.Sequential(layer, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()

    def transform(waveform):
        spectrum = torch.stft(waveform, 128, 320, window=torch.hann_window(128), return_complex=True)
        return 20 * spectrum.abs().clamp_min(1e-4).log10()[None]

    axes = SpectrogramAxes(32_000, 128, 320)
    return Classifier(model, transform, 32_000, ["WOTH", "EATO"], axes, length=96_000, layer=layer, exclusive=False)


def test_a_dawn_chorus_with_its_published_table(tmp_path, monkeypatch, capsys):
    """Chronister et al.: five boxes of the two species begin in the excerpt, each of which gives a clip of 3 s."""
    folder = Path(os.environ.get("CAPTUM_APEX_DATA") or "nowhere", "field")
    table = folder / "Recording_1_Segment_07.Table.1.selections.txt"
    if not table.exists():
        pytest.skip("the field recordings are not here: CAPTUM_APEX_DATA names the folder of all recordings")
    monkeypatch.chdir(tmp_path)
    model = f"{__name__}:dawn_classifier"
    paths = ["--recordings", str(folder / "Recording_1_Segment_07-snippet.wav"), "--annotations", str(table)]
    assert main(["truth", "--model", model, *paths, "--methods", "energy", "random", "--rows", "rows.csv"]) == 0
    printed = capsys.readouterr()
    assert "5 clips of 1 recording with 5 annotations, 5 of them around an event of a long recording." in printed.out
    assert "annotations after the end of their recording" in printed.err
    rows = pd.read_csv("rows.csv")
    energy = rows[rows["method"] == "energy"]
    starts = [0.923460279, 3.133168803, 5.050864985, 7.775072808, 7.972957153]
    assert energy["event_start"].tolist() == pytest.approx(starts)
    middle = ((energy["event_start"] + energy["event_end"]) / 2 - 1.5).clip(0, 7)
    assert energy["start"].to_numpy() == pytest.approx(middle.to_numpy(), abs=1e-4)  # the excerpt is 10.00003 s long
    assert np.isfinite(rows[list(MEASURES)].drop(columns="segment_auroc").to_numpy()).all()
    assert (energy["bin_auroc"] > 0.6).all()  # the birds are louder than the wood
