"""The tutorials run from the first cell to the last; the committed ones were run in full and can be read anywhere."""

import base64
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import soundfile
import torch
from IPython.display import Audio
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook, new_output

from captum_apex import Clip

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "tutorials"
NAMES = (
    "1_getting_started",
    "2_four_perspectives",
    "3_apex_beside_other_methods",
    "4_a_deepfake_detector_under_the_loupe",
    "5_your_own_model",
    "6_a_bioacousticians_afternoon",
)
NEED_RECORDINGS = ("4_a_deepfake_detector_under_the_loupe",)
TAKE_RECORDINGS = ("6_a_bioacousticians_afternoon",)  # and run without them, too
OF_DEMONSTRATION = ("1_getting_started", "2_four_perspectives")
ABSOLUTE_PATH = re.compile(r"(?:^|[\s'\"(])(?:/[\w.-]+){2,}|[A-Z]:\\\\", re.MULTILINE)


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def code_cells(name):
    return [cell for cell in read(name).cells if cell.cell_type == "code"]


def outputs(name):
    return [output for cell in code_cells(name) for output in cell.outputs]


def printed(name):
    return "".join(
        output.text for output in outputs(name) if output.output_type == "stream" and output.name == "stdout"
    )


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """A few of the digits: two speakers, two takes of the test part and six of the training part."""
    if not (data := os.environ.get("CAPTUM_APEX_DATA")):
        pytest.skip("CAPTUM_APEX_DATA does not name a folder of recordings")
    folder = tmp_path_factory.mktemp("recordings")
    (folder / "fsdd").mkdir()
    for speaker in ("george", "theo"):
        for take in (0, 1, *range(5, 11)):
            for path in Path(data, "fsdd").glob(f"?_{speaker}_{take}.wav"):
                shutil.copy(path, folder / "fsdd")
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_it_runs(name, request, tmp_path, monkeypatch):
    if name in NEED_RECORDINGS:
        monkeypatch.setenv("CAPTUM_APEX_DATA", str(request.getfixturevalue("recordings")))
    else:
        monkeypatch.delenv("CAPTUM_APEX_DATA", raising=False)
    check_that_it_runs(name, tmp_path, monkeypatch)


@pytest.mark.parametrize("name", TAKE_RECORDINGS)
def test_it_runs_on_recordings(name, tmp_path, monkeypatch):
    if not Path(os.environ.get("CAPTUM_APEX_DATA", ""), "field").is_dir():
        pytest.skip("CAPTUM_APEX_DATA does not name a folder with field recordings")
    check_that_it_runs(name, tmp_path, monkeypatch)


def test_the_detector_is_trained_on_voices_from_formulas_where_there_are_no_recordings(tmp_path, monkeypatch):
    monkeypatch.delenv("CAPTUM_APEX_DATA", raising=False)
    check_that_it_runs("4_a_deepfake_detector_under_the_loupe", tmp_path, monkeypatch)


def check_that_it_runs(name, tmp_path, monkeypatch):
    settings = {"CAPTUM_APEX_QUICK": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "TQDM_DISABLE": "1"}
    folders = {
        variable: str(tmp_path / variable) for variable in ("CAPTUM_APEX_CACHE", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR")
    }
    for variable, value in (settings | folders).items():
        monkeypatch.setenv(variable, value)
    notebook = read(name)
    for cell in notebook.cells:
        cell.pop("outputs", None)
        if cell.cell_type == "code":
            cell.outputs = []
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    ).execute()
    said = [
        output.text for cell in notebook.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"
    ]
    assert said == []


def test_all_tutorials_are_tested():
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_was_run_once_from_top_to_bottom(name):
    assert [cell.execution_count for cell in code_cells(name)] == list(range(1, len(code_cells(name)) + 1))


@pytest.mark.parametrize("name", NAMES)
def test_its_outputs_are_clean(name):
    kinds = {output.get("name", output.output_type) for output in outputs(name)}
    assert kinds <= {"stdout", "execute_result", "display_data"}
    assert any("image/jpeg" in output.get("data", {}) for output in outputs(name))
    text = "\n".join(
        output.get("text", "") or json.dumps(output.data.get("text/plain", "")) for output in outputs(name)
    )
    assert ABSOLUTE_PATH.search(text) is None
    assert len((FOLDER / f"{name}.ipynb").read_bytes()) < 700_000


@pytest.mark.parametrize("name", NAMES)
def test_no_recording_is_stored(name):
    """The recordings are not part of the project; sounds that the package makes are stored, but small."""
    text = (FOLDER / f"{name}.ipynb").read_text()
    if "CAPTUM_APEX_DATA" in text:
        assert "<audio" not in text
        assert "data:audio" not in text
    assert set(re.findall(r"data:(audio/\w+)", text)) <= {"audio/mpeg"}


@pytest.mark.parametrize("name", OF_DEMONSTRATION)
def test_a_notebook_of_the_demonstration_needs_nothing_else_and_has_its_players(name):
    calls = 0
    for cell in code_cells(name):
        assert not re.search(r"benchmarks|sys\.path|CAPTUM_APEX_DATA|\._\w", cell.source)
        html = "".join(output.get("data", {}).get("text/html", "") for output in cell.outputs)
        assert html.count("data:audio/mpeg;base64,") == cell.source.count("listening.player(")
        calls += cell.source.count("listening.player(")
    assert calls >= 5


def stored(html, source="1"):
    """The data of an output after it was stored."""
    output = new_output("execute_result", {"text/html": html, "text/plain": "a text"})
    notebook = new_notebook(cells=[new_code_cell(source, outputs=[output])])
    notebook.cells[0].metadata = {"execution": 3.5}
    store = runpy.run_path(str(FOLDER / "reference" / "stored_outputs.py"))["stored"]
    store(notebook)
    assert not notebook.cells[0].metadata
    nbformat.validate(notebook)
    return notebook.cells[0].outputs[0].data


SOUND = torch.sin(torch.arange(8000) * 0.3) / 2
PLAYERS = {
    "player": lambda: Audio(SOUND.numpy(), rate=16_000, normalize=False)._repr_html_(),
    "clip": lambda: Clip.from_waveform(SOUND, 16_000)._repr_html_(),
}


@pytest.mark.parametrize("kind", PLAYERS)
def test_a_player_is_stored_with_its_sound_as_mp3(kind):
    before = PLAYERS[kind]()
    data = stored(before)
    (sound,) = re.findall(r'<p><audio controls src="data:audio/mpeg;base64,([^"]*)"></audio></p>', data["text/html"])
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(sound)), dtype="float32")
    assert rate == 16_000
    assert len(samples) == len(SOUND)
    assert (torch.from_numpy(samples) - SOUND)[200:-200].abs().max() < 0.05
    assert len(sound) < 0.4 * len(before)
    assert ("<figure" in data["text/html"]) == (kind == "clip")
    assert data["text/plain"] == "a text"


def test_of_recordings_no_player_and_of_a_page_in_a_frame_only_the_text_is_stored():
    recorded = stored(PLAYERS["player"](), 'os.environ["CAPTUM_APEX_DATA"]')
    assert recorded == {"text/plain": "a player: run this cell to hear the sound"}
    assert stored('<iframe srcdoc="&lt;audio"></iframe>') == {"text/plain": "a text"}
    assert stored("<table></table>")["text/html"] == "<table></table>"


@pytest.mark.parametrize("name", NAMES)
def test_its_outputs_are_those_of_the_full_settings(name):
    """The models of the quick settings are hardly better than chance."""
    found = [
        float(percent)
        for line in printed(name).splitlines()
        if "accuracy" in line
        for percent in re.findall(r"([\d.]+)%", line)
    ]
    assert found
    assert min(found) > 90


@pytest.mark.parametrize("name", NAMES)
def test_it_ends_with_what_to_be_careful_about(name):
    cells = read(name).cells
    assert cells[0].source.startswith("# ")
    assert cells[-1].source.startswith("## What to be careful about\n")


@pytest.mark.parametrize("name", NEED_RECORDINGS)
def test_it_says_which_recordings_it_needs(name):
    first = read(name).cells[0].source
    assert "github.com/Jakobovski/free-spoken-digit-dataset" in first
    assert "CAPTUM_APEX_DATA" in first


@pytest.mark.parametrize("task", [["check"], ["format", "--check"]], ids=" ".join)
def test_the_cells_are_formatted(task):
    done = subprocess.run([sys.executable, "-m", "ruff", *task, str(FOLDER)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("File /home/anna/x.py", True),
        ('"/tmp/report.html"', True),
        ("precision / recall", False),
        ("channels/classes", False),
        ("/path", False),
    ],
)
def test_an_absolute_path_is_found(text, expected):
    assert bool(ABSOLUTE_PATH.search(text)) == expected


def test_the_events_of_the_field_recordings_are_compared_with_the_truth():
    text = printed("6_a_bioacousticians_afternoon")
    wrong, events = map(int, re.search(r"^(\d+) of (\d+) events are wrong", text, re.MULTILINE).groups())
    assert 0 < wrong < events / 4
    assert "songs of" in text, "run on the real recordings, too"


def test_the_audit_finds_the_planted_shortcut_and_the_cure():
    text = printed("4_a_deepfake_detector_under_the_loupe")
    assert "misled: in every seed most of the explained fakes have their evidence in the last 0.1 s" in text
    on_silence = re.findall(r"and (\d+)% of them have it on silence", text)
    assert len(on_silence) == 3  # honest, misled, mended
    assert int(on_silence[1]) > 90
    assert max(int(on_silence[0]), int(on_silence[2])) < 10
    assert "the shortcut is confirmed" in text
    assert "Every mended detector is better than every misled one" in text
