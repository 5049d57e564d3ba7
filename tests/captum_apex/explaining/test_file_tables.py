"""Tables of many files: kills, parts, other settings, bad files, and what is kept in memory."""

import csv
import gc
import io
import json
import os
import re
import signal
import subprocess
import sys
import weakref
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import soundfile
import torch

from captum_apex import (
    Explainer,
    Recordings,
    RegionSearch,
    listening,
    write_audacity,
    write_csv,
    write_json,
    write_raven,
)
from captum_apex.demonstration import EveningSounds
from captum_apex.demonstration import explainer as pond_explainer
from captum_apex.explaining import clip_pages, file_tables, finished_files
from captum_apex.explaining import explainer as explainer_module
from captum_apex.explaining.finished_files import FinishedFiles, StoredFile
from captum_apex.explanations.event_tables import event_of, event_row, paths_beside, write_objects

NAMES = ["a.wav", "b.wav", "north/a.wav", "north/deep/c.wav", "z.wav"]
RATE = 16_000
EVENTS = {"hop": 1.0, "threshold": 0.3}
EVIDENCE = {"n_channels": 2, "n_prototypes": 1, "search": None}


def make_recordings(folder, names=NAMES):
    """Recordings of one to three sounds of the demonstration, of 2 s each, in folders that are no classes."""
    sounds = EveningSounds("demo")
    for index, name in enumerate(names):
        path = Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        waveform = torch.cat([sounds.waveform((index + k) % 12, RATE) for k in range(1 + index % 3)])
        listening.write(path, waveform, RATE)


@pytest.fixture(scope="module")
def explainer():
    pond = pond_explainer()
    return Explainer(pond.classifier, [pond.bases["square"]], pond.training.recordings)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_recordings("field")
    return tmp_path


def write(explainer, kind, table="table.csv", files="field", **settings):
    if kind == "events":
        return explainer.write_events(files, table, **{**EVENTS, **settings})
    paths = [str(path) for path in sorted(Path(files).rglob("*.wav"))] if isinstance(files, str) else files
    return explainer.write_evidence(paths, table, **{**EVIDENCE, **settings})


@pytest.fixture
def work(monkeypatch):
    """The paths that are explained, in order; a function in `before` is called with each path first."""
    seen = []
    recording = explainer_module.explain_recording
    clip = explainer_module.Explainer._explained

    def recorded(apex, path, *arguments, **settings):
        seen.append(str(path))
        return recording(apex, path, *arguments, **settings)

    def explained(self, sources, *arguments, **settings):
        sources = list(sources)
        seen.extend(source.name for source in sources)
        return clip(self, sources, *arguments, **settings)

    monkeypatch.setattr(explainer_module, "explain_recording", recorded)
    monkeypatch.setattr(explainer_module.Explainer, "_explained", explained)
    return seen


pytestmark = pytest.mark.filterwarnings("ignore:sounds longer than the classifier's clips are cut")
KINDS = pytest.mark.parametrize("kind", ["events", "evidence"])


# --- the table ----------------------------------------------------------------


@pytest.mark.parametrize("search", [None, RegionSearch()])
def test_the_table_of_events_has_the_rows_of_each_recording(here, explainer, search):
    names = NAMES[:1] if search else NAMES
    files = [f"field/{name}" for name in names]
    csv_rows = []
    json_rows = []
    for file in files:
        found = explainer.explain_recording(file, **EVENTS, search=search)
        assert found.events
        write_csv("one.csv", found.events)
        header, *rows = csv.reader(io.StringIO(Path("one.csv").read_text()))
        csv_rows += [[file, *row] for row in rows]
        write_json("one.json", found.events, explainer.training.recordings)
        json_rows += [{"file": file, **row} for row in json.loads(Path("one.json").read_text())["events"]]
        for folder, ending, write_one in (
            ("raven", ".Table.1.selections.txt", write_raven),
            ("audacity", ".txt", write_audacity),
        ):
            Path("expected", folder, Path(file[6:]).parent).mkdir(parents=True, exist_ok=True)
            write_one(Path("expected", folder, file[6:].replace(".wav", ending)), found.events)
    table = write(explainer, "events", files=files, search=search, raven="got/raven", audacity="got/audacity")
    assert list(csv.reader(io.StringIO(Path("table.csv").read_text()))) == [["file", *header], *csv_rows]
    assert table.is_complete
    assert table.n_files == len(files)
    assert sum(table.counts.values()) == len(csv_rows)
    assert [(name, len(rows)) for name, rows in table.rows()] == [
        (file, sum(row[0] == file for row in csv_rows)) for file in files
    ]
    write(explainer, "events", "table.json", files, search=search)
    assert Path("table.json").read_text() == json.dumps({"events": json_rows}, indent=1) + "\n"
    expected = sorted(path for path in Path("expected").rglob("*") if path.is_file())
    assert len(expected) == 2 * len(files)
    for path in expected:
        assert Path("got", path.relative_to("expected")).read_bytes() == path.read_bytes()


def test_a_folder_has_the_recordings_of_all_folders_in_it(here, explainer, work):
    Path("field/notes.txt").write_text("no sound")
    with pytest.warns(UserWarning, match=r"left out of field: files with other suffixes \(1: notes.txt\)"):
        write(explainer, "events")
    assert work == [f"field/{name}" for name in NAMES]
    one = Path("table.csv").read_bytes()
    write(explainer, "events", "other.csv", ["field/a.wav", "field/b.wav", "field/north", "field/z.wav", "field/a.wav"])
    assert Path("other.csv").read_bytes() == one
    write(explainer, "events", "third.csv", Recordings(Path("field"), tuple(NAMES)))
    assert Path("third.csv").read_bytes() == one


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_the_table_of_evidence_is_that_of_explain(here, explainer, suffix):
    files = [f"field/{name}" for name in NAMES]
    explained = explainer.explain(files, **EVIDENCE)
    (explained.write_csv if suffix == ".csv" else explained.write_json)(f"expected{suffix}")
    table = write(explainer, "evidence", f"table{suffix}", files)
    assert Path(f"table{suffix}").read_bytes() == Path(f"expected{suffix}").read_bytes()
    assert sum(table.counts.values()) == len(explained.rows()) > len(files)
    assert set(table.counts) == {row["explained"] for row in explained.rows()}


def test_clips_of_a_folder_keep_their_labels(tmp_path, monkeypatch, explainer):
    monkeypatch.chdir(tmp_path)
    make_recordings("clips", ["owl/a.wav", "rain/b.wav"])
    explained = explainer.explain("clips", **EVIDENCE)
    explained.write_csv("expected.csv")
    explainer.write_evidence("clips", "table.csv", **EVIDENCE)
    assert Path("table.csv").read_bytes() == Path("expected.csv").read_bytes()
    assert {row["label"] for row in csv.DictReader(io.StringIO(Path("table.csv").read_text()))} == {"owl", "rain"}


@pytest.mark.parametrize(("depth", "wrap"), [(0, lambda rows: rows), (1, lambda rows: {"rows": rows})])
@pytest.mark.parametrize("rows", [[], [{}], [{"a": [1, {"b": "x\ny"}]}, [], 3]])
def test_objects_are_written_as_one_list_would_be(depth, wrap, rows):
    file = io.StringIO()
    write_objects(file, iter(rows), depth=depth)
    text = file.getvalue() if not depth else '{\n "rows": ' + file.getvalue() + "\n}"
    assert text == json.dumps(wrap(rows), indent=1)


def test_an_event_is_the_same_after_it_was_a_row(here, explainer):
    found = explainer.explain_recording("field/b.wav", **EVENTS, search=RegionSearch())
    assert any(event.effect is not None for event in found.events)
    for event in found.events:
        again = event_of(json.loads(json.dumps(event_row(event))))
        assert again == event
        assert event_row(again) == event_row(event)


def test_each_recording_has_a_path_of_its_own():
    names = ["../a.wav", "a.wav", "b/a.flac", "b/a.wav", str(Path.cwd() / "c.wav")]
    paths = paths_beside("raven", names, ".txt")
    here = Path.cwd().name
    expected = ["a.txt", f"{here}/a.txt", f"{here}/b/a.flac.txt", f"{here}/b/a.wav.txt", f"{here}/c.txt"]
    assert paths == [Path("raven", name) for name in expected]


# --- kills and interruptions --------------------------------------------------

STOPPED = """
import os, signal, sys
from captum_apex.explaining import finished_files
from tests.captum_apex.explaining.test_file_tables import pond_explainer, write, Explainer
kind, last, part, n_parts = sys.argv[1], *map(int, sys.argv[2:])
written = 0
whole = finished_files._Lines.write

def stopping(self, record):
    global written
    written += 1
    if written == last:
        line = finished_files._line(record)
        self._file.write(line[: len(line) // 2])  # as a kill in the middle of a write would leave it
        self._file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    whole(self, record)

finished_files._Lines.write = stopping
pond = pond_explainer()
explainer = Explainer(pond.classifier, [pond.bases["square"]], pond.training.recordings)
write(explainer, kind, part=(part, n_parts))
print(written)
"""


def process(kind, last=0, part=0, n_parts=1):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, "-W", "ignore", "-c", STOPPED, kind, *map(str, (last, part, n_parts))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)


@pytest.fixture
def one_thread():
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@KINDS
def test_a_table_that_is_killed_twice_is_the_whole_one_in_the_end(here, explainer, kind, work, one_thread):
    write(explainer, kind, "whole.csv")
    for last in (3, 1):
        killed = process(kind, last)
        killed.communicate()
        assert killed.returncode == -signal.SIGKILL
        assert not Path("table.csv").exists()
    work.clear()
    write(explainer, kind)
    assert work == [f"field/{name}" for name in NAMES[2:]]
    assert Path("table.csv").read_bytes() == Path("whole.csv").read_bytes()


def test_parts_that_processes_make_at_once_are_the_whole_table(here, explainer, one_thread):
    write(explainer, "events", "whole.csv")
    processes = [process("events", part=i, n_parts=2) for i in range(2)]
    n_made = [int(each.communicate()[0]) for each in processes]
    assert [each.returncode for each in processes] == [0, 0]
    assert sum(n_made) == len(NAMES)
    assert Path("table.csv").read_bytes() == Path("whole.csv").read_bytes()


@KINDS
def test_an_interruption_keeps_what_is_finished(here, explainer, kind, work, monkeypatch):
    write(explainer, kind, "whole.csv")
    work.clear()

    def interrupted(self, record):
        if len(work) == 3:
            raise KeyboardInterrupt
        whole(self, record)

    with monkeypatch.context() as patch:
        whole = finished_files._Lines.write
        patch.setattr(finished_files._Lines, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write(explainer, kind)
    assert not Path("table.csv").exists()
    write(explainer, kind)
    assert work == [f"field/{name}" for name in [*NAMES[:3], *NAMES[2:]]]
    assert Path("table.csv").read_bytes() == Path("whole.csv").read_bytes()
    work.clear()
    Path("table.csv").unlink()
    write(explainer, kind)
    assert not work
    assert Path("table.csv").read_bytes() == Path("whole.csv").read_bytes()


@pytest.mark.parametrize("damage", ["cut", "flipped", "first line", "empty"])
def test_a_damaged_line_costs_its_file_alone(here, explainer, work, damage):
    write(explainer, "events")
    whole = Path("table.csv").read_bytes()
    work.clear()
    rows = Path("table.csv.parts/part-0-of-1/rows.jsonl")
    lines = rows.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + len(NAMES)
    index = {"cut": 5, "flipped": 3, "first line": 0, "empty": 0}[damage]
    changed = bytearray(lines[index])
    changed[len(changed) // 2] ^= 1
    lines[index] = lines[index][:-20] if damage == "cut" else bytes(changed)
    rows.write_bytes(b"" if damage == "empty" else b"".join(lines))
    write(explainer, "events")
    assert work == [f"field/{name}" for name in ([NAMES[index - 1]] if index else NAMES)]
    assert Path("table.csv").read_bytes() == whole
    assert len(rows.read_bytes().splitlines()) == 1 + len(NAMES)


def test_what_is_finished_gives_a_table_of_the_other_kind_of_file(here, explainer, work):
    write(explainer, "events", "wanted.json")
    write(explainer, "events")
    work.clear()
    Path("table.csv.parts").rename("table.json.parts")
    write(explainer, "events", "table.json")
    assert not work
    assert Path("table.json").read_bytes() == Path("wanted.json").read_bytes()


def test_records_of_files_with_odd_names_are_found_again(tmp_path):
    names = ['a, "rows": 1.wav', "b\nc.wav", "caf\udce9.wav", '{"checksum": "', "ü.wav"]
    files = [StoredFile(name, size=index, time=index) for index, name in enumerate(names)]
    with FinishedFiles(tmp_path, {"a": 1}).opened((0, 1)) as add:
        for file in files[:-1]:
            add(file, rows=[{"rows": file.name}, {"nan": float("inf")}])
        add(files[-1], error=names[0])
    finished = FinishedFiles(tmp_path, {"a": 1})
    assert list(finished.files) == files
    assert [file in finished for file in files] == [True] * 4 + [False]
    assert [finished.rows(file) for file in files[:-1]] == [
        [{"rows": name}, {"nan": float("inf")}] for name in names[:-1]
    ]
    assert [finished.error(file) for file in files] == [None] * 4 + [names[0]]
    assert replace(files[0], size=9) not in finished


# --- parts --------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("n_parts", [2, 3, 7])
def test_the_parts_together_are_the_whole_table(here, explainer, kind, n_parts):
    """In any order, and with more parts than files."""
    write(explainer, kind, "whole.csv")
    order = [*range(1, n_parts), 0]
    n_missing = []
    for i in order:
        assert not Path("table.csv").exists()
        table = write(explainer, kind, part=(i, n_parts))
        n_missing.append(table.n_missing)
        assert table.is_complete == (i == order[-1])
    assert n_missing == [len(NAMES) - sum(len(NAMES[i::n_parts]) for i in order[: k + 1]) for k in range(n_parts)]
    assert Path("table.csv").read_bytes() == Path("whole.csv").read_bytes()


def test_what_parts_have_finished_counts_for_other_numbers_of_parts(here, explainer, work):
    write(explainer, "events", part=(1, 2))
    write(explainer, "events", part=(0, 3))
    write(explainer, "events")
    assert sorted(work) == [f"field/{name}" for name in NAMES]
    assert work[:3] == [f"field/{name}" for name in (NAMES[1], NAMES[3], NAMES[0])]
    assert Path("table.csv").exists()


@pytest.mark.parametrize("part", [(2, 2), (-1, 2), (0, 0)])
def test_parts_that_do_not_exist_are_refused(here, explainer, part):
    with pytest.raises(ValueError, match="expected `part`"):
        write(explainer, "events", part=part)
    with pytest.raises(TypeError, match=r"expected `part` as \(index, number of parts\), but got 3"):
        write(explainer, "events", part=3)


# --- other settings, other files ----------------------------------------------


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("events", {"threshold": 0.4}, "`threshold` 0.3 became 0.4"),
        ("events", {"hop": 2.0}, "`hop` 1.0 became 2.0"),
        ("events", {"window": 1.0}, "what the transform .*, `window` 2.0 became 1.0"),
        ("events", {"n_channels": 2, "gap": 1}, "`n_channels` 5 became 2, `gap` 0.0 became 1"),
        ("events", {"search": RegionSearch()}, "`search` nothing became {'fill': None"),
        ("evidence", {"target": "owl"}, r"`target` \[\] became \[3\]"),
        ("evidence", {"threshold": 0.5}, "`threshold` nothing became 0.5"),
        ("evidence", {"n_channels": 3}, "`n_channels` 2 became 3"),
        ("evidence", {"n_prototypes": 2}, "`n_prototypes` 1 became 2"),
    ],
)
def test_rows_of_other_arguments_are_refused(here, explainer, work, kind, settings, message):
    write(explainer, kind, part=(0, 2))
    work.clear()
    for part in ((0, 2), (1, 2)):
        with pytest.raises(ValueError, match=f"expected what table.csv.parts was begun with, but {message}.*; name an"):
            write(explainer, kind, part=part, **settings)
    assert not work
    defaults = {"n_channels": 5, "gap": 0.0, "window": 2.0} if kind == "events" else {"sides": "positive"}
    write(explainer, kind, part=(1, 2), **defaults)  # defaults that are named are the same


@KINDS
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("weights", "the weights of the model '[0-9a-f]*'?… became "),
        ("basis", "the bases {'square'.*became"),
        ("prototypes", "the bases"),
        ("transform", "what the transform gives for a trial"),
        ("classes", "what the Classifier does with files differs"),
        ("version", "the version of captum-apex '.*' became '9.9'"),
    ],
)
def test_rows_of_another_model_or_basis_are_refused(here, explainer, kind, change, message, monkeypatch):
    write(explainer, kind, part=(0, 3))
    classifier, basis = explainer.classifier, explainer.bases["square"]
    if change == "weights":
        classifier = pond_explainer().classifier
        with torch.no_grad():
            next(classifier.model.parameters()).add_(1e-3)
        basis = replace(basis, origin=replace(basis.origin, fingerprint=""))  # one that fits any weights
    elif change == "basis":
        basis = pond_explainer().bases["time"]
        basis = replace(basis, scheme="square", positive=explainer.bases["square"].positive)
    elif change == "prototypes":
        positive = replace(basis.positive, indices=basis.positive.indices.flip(0))
        basis = replace(basis, positive=positive)
    elif change == "transform":
        classifier = replace(classifier, transform=lambda waveform: 1.1 * explainer.classifier.transform(waveform))
    elif change == "classes":
        classifier = replace(classifier, class_names=[*classifier.class_names[:-1], "bird"])
    else:
        monkeypatch.setattr("captum_apex.explaining.table_settings.__version__", "9.9")
    other = Explainer(classifier, [basis])
    with pytest.raises(ValueError, match=f"expected what table.csv.parts was begun with, but .*{message}"):
        write(other, kind, part=(0, 3))


def test_a_table_of_another_kind_is_refused(here, explainer):
    write(explainer, "events")
    with pytest.raises(ValueError, match="the kind of the table 'events' became 'evidence'"):
        write(explainer, "evidence")
    Path("table.csv.parts/part-0-of-1/rows.jsonl").write_bytes(finished_files._line({"format": "other", "about": {}}))
    with pytest.raises(ValueError, match="in the format 'captum-apex rows 1', but it is in 'other'"):
        write(explainer, "events")


def test_a_changed_file_is_explained_anew_and_a_new_one_is_added(here, explainer, work):
    write(explainer, "events")
    work.clear()
    make_recordings("field", ["y.wav", "b.wav"])
    os.utime("field/a.wav", ns=(0, 0))
    with pytest.warns(UserWarning, match="explained anew, because they changed: field/a.wav, field/b.wav"):
        write(explainer, "events")
    assert work == ["field/a.wav", "field/b.wav", "field/y.wav"]
    Path("field/z.wav").unlink()
    work.clear()
    with pytest.warns(UserWarning, match="but not among the files that are given: field/z.wav"):
        table = write(explainer, "events")
    got = Path("table.csv").read_bytes()
    assert table.n_files == len(NAMES)
    assert b"z.wav" not in got
    write(explainer, "events", "new.csv")
    assert Path("new.csv").read_bytes() == got


# --- bad files ----------------------------------------------------------------


@KINDS
def test_a_broken_file_stops_the_work_by_its_name_and_loses_no_other(here, explainer, work, kind):
    Path("field/b.wav").write_text("no sound")
    message = "expected field/b.wav to be audio.*; the files before it are kept in table.csv.parts; `skip_bad=True`"
    with pytest.raises(ValueError, match=message):
        write(explainer, kind)
    work.clear()
    table = write(explainer, kind, skip_bad=True)
    assert work == [f"field/{name}" for name in NAMES[1:]]
    assert list(table.left_out) == ["field/b.wav"]
    assert "expected field/b.wav to be audio" in table.left_out["field/b.wav"]
    n_lines = len(Path("table.csv.parts/part-0-of-1/rows.jsonl").read_bytes().splitlines())
    work.clear()
    write(explainer, kind, skip_bad=True)
    assert work == ["field/b.wav"]  # it is tried again
    assert len(Path("table.csv.parts/part-0-of-1/rows.jsonl").read_bytes().splitlines()) == n_lines == 1 + len(NAMES)
    got = Path("table.csv").read_bytes()
    Path("field/b.wav").unlink()
    write(explainer, kind, "without.csv")
    assert Path("without.csv").read_bytes() == got


def test_a_file_that_can_be_read_later_is_added(here, explainer, work):
    """Its state on the disk is the same, as after a failure of a network."""
    whole = Path("field/b.wav").read_bytes()
    Path("field/b.wav").write_bytes(bytes(len(whole)))
    os.utime("field/b.wav", ns=(1, 1))
    write(explainer, "events", skip_bad=True)
    Path("field/b.wav").write_bytes(whole)
    os.utime("field/b.wav", ns=(1, 1))
    work.clear()
    assert not write(explainer, "events").left_out
    assert work == ["field/b.wav"]
    got = Path("table.csv").read_bytes()
    write(explainer, "events", "new.csv")
    assert Path("new.csv").read_bytes() == got


def test_a_recording_that_cannot_be_explained_to_its_end_is_left_out(here, explainer):
    samples, _ = soundfile.read("field/north/a.wav", dtype="float32")
    samples[4 * RATE] = float("nan")
    soundfile.write("field/north/a.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(ValueError, match="north/a.wav.*NaN or infinity|NaN.*north/a.wav"):
        write(explainer, "events")
    table = write(explainer, "events", skip_bad=True)
    assert list(table.left_out) == ["field/north/a.wav"]
    assert b"north/a.wav" not in Path("table.csv").read_bytes()


def test_a_part_that_left_out_files_is_not_joined_without_a_word(here, explainer):
    Path("field/b.wav").write_text("no sound")
    write(explainer, "events", part=(1, 2), skip_bad=True)
    with pytest.raises(ValueError, match="expected files that can be read, but field/b.wav cannot be: expected field"):
        write(explainer, "events", part=(0, 2))
    assert not Path("table.csv").exists()
    assert write(explainer, "events", part=(0, 2), skip_bad=True).is_complete


@KINDS
def test_all_bad_and_missing_files_are_an_error(here, explainer, kind):
    with pytest.raises(ValueError, match=r"but all 2 are bad, such as gone.wav: .*gone\.wav"):
        write(explainer, kind, files=["gone.wav", "gone.flac"], skip_bad=True)
    assert not Path("table.csv").exists()


@KINDS
def test_a_model_that_fails_is_no_bad_file(here, explainer, kind):
    class Failing(torch.nn.Module):
        def forward(self, inputs):
            raise RuntimeError("out of memory")

    classifier = pond_explainer().classifier
    other = Explainer(classifier, [explainer.bases["square"]])
    classifier.model.register_forward_pre_hook(lambda *_: Failing()(None))
    with pytest.raises((RuntimeError, ValueError), match="out of memory") as caught:
        write(other, kind, skip_bad=True)
    assert kind == "evidence" or caught.value.__notes__ == ["field/a.wav cannot be explained"]
    assert len(list(FinishedFiles(Path("none"), {}).files)) == 0
    assert len(Path("table.csv.parts/part-0-of-1/rows.jsonl").read_bytes().splitlines()) == 1  # no row, no bad file


def test_what_is_no_file_is_refused(here, explainer):
    with pytest.raises(ValueError, match="expected audio files, whose rows can be kept by their paths, but got clip 1"):
        explainer.write_evidence(torch.zeros(RATE), "table.csv")
    with pytest.raises(TypeError, match="expected paths of recordings or of folders, but got Tensor"):
        explainer.write_events(torch.zeros(RATE), "table.csv")
    with pytest.raises(ValueError, match="at least one recording"):
        explainer.write_events([], "table.csv")
    with pytest.raises(ValueError, match=r"a table that ends in .csv or .json, but got field/a\.wav"):
        explainer.write_events("field", "field/a.wav")
    Path("empty").mkdir()
    with pytest.raises(FileNotFoundError, match="in empty or below it, but there are none: it is empty"):
        explainer.write_events("empty", "table.csv")
    with pytest.raises(TypeError, match="expected settings among threshold, .*, but got 'treshold'"):
        explainer.write_events("field", "table.csv", treshold=0.5)


# --- memory and progress ------------------------------------------------------


@KINDS
def test_nothing_of_a_finished_file_is_kept(here, explainer, kind, monkeypatch):
    """Of what is made for a file, nothing is left when the next but one begins, nor when the table is written."""
    made = []
    alive = []

    def counted(whole, *arguments, **settings):
        gc.collect()
        alive.append(sum(each() is not None for each in made))
        result = whole(*arguments, **settings)
        made.append(weakref.ref(result))
        return result

    if kind == "events":
        recording = explainer_module.explain_recording
        monkeypatch.setattr(explainer_module, "explain_recording", partial(counted, recording))
    else:
        page = clip_pages.ClipPages.page
        monkeypatch.setattr(clip_pages.ClipPages, "page", lambda *a, **s: counted(page, *a, **s))
    write(explainer, kind)
    gc.collect()
    assert len(made) == len(NAMES)
    assert max(alive) <= 1
    assert not any(each() for each in made)


def test_the_rows_of_one_file_are_in_memory_at_a_time(here, explainer, monkeypatch):
    class Rows(list):
        pass

    alive = []
    most = []
    read = FinishedFiles.rows

    def counted(self, file):
        gc.collect()
        most.append(sum(each() is not None for each in alive))
        rows = Rows(read(self, file))
        alive.append(weakref.ref(rows))
        return rows

    monkeypatch.setattr(FinishedFiles, "rows", counted)
    write(explainer, "events")
    assert len(most) == len(NAMES)
    assert max(most) <= 1


def test_training_clips_are_kept_up_to_a_number(here, explainer, monkeypatch):
    monkeypatch.setattr(clip_pages, "_MOST_KEPT", 2)
    pages = explainer._pages
    explainer.explain("field/b.wav", **EVIDENCE)
    pages.forget()
    assert len(pages._training_clips) == 2
    write(explainer, "evidence")
    whole = Path("table.csv").read_bytes()
    monkeypatch.setattr(clip_pages, "_MOST_KEPT", 1000)
    write(explainer, "evidence", "again.csv")
    assert Path("again.csv").read_bytes() == whole


def test_the_bar_counts_the_files_of_the_part_from_what_is_finished(here, explainer, monkeypatch):
    bars = []

    def bar(items, **settings):
        bars.append(settings)
        return items

    monkeypatch.setattr(file_tables, "tqdm", bar)
    Path("field/z.wav").rename("z.wav")
    write(explainer, "events", progress=True)
    Path("z.wav").rename("field/z.wav")
    write(explainer, "events", progress=True)
    assert [(each["initial"], each["total"], each["disable"]) for each in bars] == [(0, 4, False), (4, 5, False)]


def test_what_is_finished_is_readable_as_lines_of_json(here, explainer):
    write(explainer, "events")
    lines = Path("table.csv.parts/part-0-of-1/rows.jsonl").read_text().splitlines()
    first, *others = map(json.loads, lines)
    assert first["about"]["threshold"] == 0.3
    assert [each["file"] for each in others] == [f"field/{name}" for name in NAMES]
    assert others[1]["rows"][0]["name"] in explainer.classifier.class_names
    stored = StoredFile.of("field/a.wav")
    assert (stored.size, stored.time) == (others[0]["size"], others[0]["time"])
    assert all(re.fullmatch("[0-9a-f]{64}", each["checksum"]) for each in others)
