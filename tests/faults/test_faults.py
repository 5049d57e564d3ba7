"""Faults from outside: kills, Ctrl-C, full and read-only disks, several processes, damaged files.

Whatever happens, what is read is a whole content that was written, or an error says that there is none. Processes are
killed and interrupted before lines that are drawn with a fixed seed, so that a failure can be repeated.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings

import pytest
import torch
from safetensors.torch import save_file

from captum_apex import FeatureBank
from captum_apex.files import read_json, read_tensors
from tests.faults.small_run import rows_of
from tests.faults.worker import CLIPS
from tests.faults.writers import WRITERS
from tests.networks import build

if sys.platform != "linux":
    pytest.skip("the system's limits, mounts and signals are those of Linux", allow_module_level=True)

CHECKED = [kind for kind, writer in WRITERS.items() if writer.checked]
CHANGING = [kind for kind in WRITERS if kind != "settings"]  # the settings of a run are the same in both contents
NOBODY = 65534  # id of a user without rights


class Worker:
    """The process of `tests.faults.worker`."""

    def __init__(self):
        command = [sys.executable, "-m", "tests.faults.worker"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = subprocess.Popen(command, env=environment, text=True, **pipes)

    def ask(self, text):
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def run(self, call, *arguments, **settings):
        """The outcome of one job."""
        return self.together({"call": call, "arguments": arguments, **settings})[0]

    def together(self, *jobs):
        """The outcomes of jobs that run at the same time."""
        return self.ask(json.dumps(jobs))


@pytest.fixture(scope="module")
def worker():
    started = Worker()
    yield started
    started.process.communicate()


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    """Kind → what is read of its two contents."""
    folder = tmp_path_factory.mktemp("contents")
    return {kind: [read_after_write(folder / f"{kind} {seed}", kind, seed) for seed in (0, 1)] for kind in WRITERS}


def read_after_write(folder, kind, seed):
    folder.mkdir()
    return read(write(folder, kind, seed), kind)


def write(folder, kind, seed=0):
    path = folder / WRITERS[kind].name
    WRITERS[kind].write(path, seed)
    return path


def read(path, kind):
    return str(WRITERS[kind].read(path))


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# --- kills and Ctrl-C ---------------------------------------------------------


@pytest.mark.parametrize("kind", CHANGING)
def test_a_kill_leaves_the_old_content_or_the_new_one(worker, contents, kind, tmp_path):
    path = write(tmp_path, kind)
    n_lines = worker.run("write", kind, str(path), 0, stop=[-1, 0])["lines"]
    draw = random.Random(f"kill {kind}")
    for last in sorted(draw.choices(range(1, n_lines), k=8 if kind == "bank" else 4)):
        outcome = worker.run("write", kind, str(path), 1, stop=[last, signal.SIGKILL])
        assert outcome["signal"] == signal.SIGKILL
        assert read(path, kind) in contents[kind]
    write(tmp_path, kind, 1)
    assert read(path, kind) == contents[kind][1]
    if kind == "bank":
        assert len(names(path)) == 6, "what killed savers left is gone"


@pytest.mark.parametrize("kind", CHANGING)
def test_in_every_state_on_the_disk_there_is_a_whole_content(worker, contents, kind, tmp_path):
    """What a kill would leave, looked at before every line of the code that writes."""
    folder = tmp_path / "folder"
    folder.mkdir()
    outcome = worker.run("states", kind, str(write(folder, kind)))
    assert not outcome["error"]
    found = outcome["value"]
    assert set(found) == set(contents[kind])
    assert found == sorted(found, key=contents[kind].index), "after the new content the old one never comes back"
    assert len(found) >= 4


@pytest.mark.parametrize("kind", CHANGING)
def test_ctrl_c_is_not_swallowed_and_leaves_a_whole_content(worker, contents, kind, tmp_path):
    path = write(tmp_path, kind)
    n_lines = worker.run("write", kind, str(path), 0, stop=[-1, 0])["lines"]
    lines = random.Random(f"interrupt {kind}").sample(range(1, n_lines // 2), k=4 if kind == "page" else 25)
    outcome = worker.run("interrupt_often", kind, str(path), lines)
    assert not outcome["error"]
    assert set(outcome["value"]) == {"KeyboardInterrupt: "}
    assert read(path, kind) in contents[kind]


def test_a_run_that_was_killed_often_ends_with_the_rows_of_an_unbroken_one(worker, tmp_path):
    worker.ask("prepare")
    whole = worker.run("run_benchmark", str(tmp_path / "whole"), stop=[-1, 0])
    assert not whole["error"]
    draw, broken = random.Random("run"), tmp_path / "broken"
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL):
        stopped = worker.run("run_benchmark", str(broken), stop=[draw.randrange(1, whole["lines"] // 2), number])
        assert stopped["error"] in ("killed", "KeyboardInterrupt: ")
    assert not (broken / "rows.csv").exists()
    assert not worker.run("run_benchmark", str(broken))["error"]
    assert rows_of(broken).equals(rows_of(tmp_path / "whole"))


# --- banks that are kept while they are made ----------------------------------


@pytest.fixture(scope="module")
def whole():
    return FeatureBank.from_dataset(*build("pooling"), CLIPS, batch_size=2, places=False)


def is_equal(bank, expected):
    arrays = ((each.means, *each.cells.values()) for each in (bank, expected))
    return bank.origin == expected.origin and all(map(torch.equal, *arrays))


def test_a_killed_bank_goes_on_at_the_batch_that_it_had_come_to(worker, whole, tmp_path):
    for last, n_counted in ((3, 4), (1, 4), (3, 8)):
        assert worker.run("make_part", str(tmp_path), 0, 1, last)["signal"] == signal.SIGKILL
        assert read_json(tmp_path / "part-0-of-1" / "part.json")["n_written"] == n_counted
        with pytest.raises(ValueError, match=f"of its 1 parts part-0-of-1 has {n_counted} of 11 clips"):
            FeatureBank.load(tmp_path)
    assert worker.run("make_part", str(tmp_path), 0, 1)["value"] == 2, "two of the six batches are left"
    assert is_equal(FeatureBank.load(tmp_path), whole)
    assert worker.run("make_part", str(tmp_path), 0, 1)["value"] == 0


def test_a_bank_that_is_killed_before_any_line_is_the_whole_one_in_the_end(worker, whole, tmp_path):
    unbroken = worker.run("make_part", str(tmp_path / "unbroken"), 0, 1, stop=[-1, 0])
    assert not unbroken["error"]
    draw = random.Random("part")
    for index in range(6):
        folder = tmp_path / str(index)
        lines = draw.randrange(unbroken["lines"] // 8, unbroken["lines"])
        for number in (signal.SIGKILL, signal.SIGINT, signal.SIGKILL):
            worker.run("make_part", str(folder), 0, 1, stop=[lines // 2, number])
        assert not worker.run("make_part", str(folder), 0, 1)["error"]
        assert is_equal(FeatureBank.load(folder), whole)


def test_parts_that_processes_write_at_once_are_the_whole_bank(worker, whole, tmp_path):
    """Also where two of them write the same part: one waits for the other, and finds all of it there."""
    jobs = [{"call": "make_part", "arguments": [str(tmp_path), part, 3]} for part in (0, 1, 2, 2)]
    outcomes = worker.together(*jobs)
    assert not any(outcome["error"] for outcome in outcomes)
    assert [outcome["value"] for outcome in outcomes[:2]] == [2, 2]
    assert sorted(outcome["value"] for outcome in outcomes[2:]) == [0, 2]
    assert is_equal(FeatureBank.load(tmp_path), whole)


def test_a_bank_on_a_full_disk_keeps_what_it_has_and_goes_on(worker, whole, small_disk):
    filling = small_disk / "filling"
    filling.write_bytes(bytes(free_bytes(small_disk) - 6000))
    outcome = worker.run("make_part", str(small_disk / "bank"), 0, 1)
    assert "No space left on device" in outcome["error"]
    assert str(small_disk) in outcome["error"]
    filling.unlink()
    assert worker.run("make_part", str(small_disk / "bank"), 0, 1)["value"] == 6
    assert is_equal(FeatureBank.load(small_disk / "bank"), whole)


def free_bytes(folder):
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


# --- full and read-only disks -------------------------------------------------


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_is_an_error_that_names_the_file(worker, contents, kind, tmp_path):
    """For any number of bytes that the disk still takes."""
    path = write(tmp_path, kind)
    before = names(tmp_path)
    largest = max(each.stat().st_size for each in files_of(path, kind))
    limits = [0, 1, *random.Random(f"full {kind}").choices(range(largest // 2), k=3 if kind == "page" else 25)]
    outcome = worker.run("write_with_limits", kind, str(path), limits)
    assert not outcome["error"]
    assert len(outcome["value"]) == len(limits)
    for error in outcome["value"]:
        assert error.startswith(f"OSError: [Errno {errno.EFBIG}]")
        # The sounds of a page are encoded in the folder of temporary files.
        assert str(path) in error or (kind == "page" and tempfile.gettempdir() in error)
    assert read(path, kind) == contents[kind][0]
    assert names(tmp_path) == before


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user cannot mount a file system")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_disk_without_room_keeps_what_it_holds(worker, small_disk, contents, kind):
    path = write(small_disk, kind)
    before = names(small_disk)
    with pytest.raises(OSError, match="No space left"), open(small_disk / "rest", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    error = worker.run("write", kind, str(path), 1)["error"]
    assert error.startswith(f"OSError: [Errno {errno.ENOSPC}] No space left on device: '{path}")
    (small_disk / "rest").unlink()
    assert names(small_disk) == before
    assert read(path, kind) == contents[kind][0]


def test_a_mapped_bank_on_a_full_disk_is_an_error_before_the_first_clip(worker, small_disk):
    assert not worker.run("map_bank", str(small_disk), 8)["error"]
    outcome = worker.run("map_bank", str(small_disk), 80)
    assert outcome["signal"] == 0, "it is not ended by SIGBUS"
    assert "expected room for an array of 1.2 MiB" in outcome["error"]
    assert "No space left on device" in outcome["error"]
    assert str(small_disk) in outcome["error"]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_read_only_folder_is_an_error_that_names_it(worker, contents, kind, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    path = write(folder, kind)
    for each in (tmp_path.parents[1], tmp_path.parents[0], tmp_path, folder, *folder.rglob("*/")):
        each.chmod(0o755)
    if os.getuid() and any(os.access(each, os.W_OK) for each in (folder, *folder.rglob("*/"))):
        for each in (folder, *folder.rglob("*/")):
            each.chmod(0o555)
    outcome = worker.run("write", kind, str(path), 1, **({} if os.getuid() else {"user": NOBODY}))
    for each in (folder, *folder.rglob("*/")):
        each.chmod(0o755)
    assert outcome["error"].startswith(f"PermissionError: [Errno {errno.EACCES}]")
    assert str(path) in outcome["error"]
    assert read(path, kind) == contents[kind][0]


# --- several processes --------------------------------------------------------


@pytest.mark.parametrize("kind", ["basis", "bank", "cache", "cell", "sums"])
def test_readers_see_one_of_two_writers_and_never_a_mixture(worker, contents, kind, tmp_path):
    path = str(write(tmp_path, kind))
    writers = [{"call": "write", "arguments": [kind, path, seed], "endless": True} for seed in (0, 1)]
    reader = {"call": "read_often", "arguments": [kind, path, 150]}
    *killed, first, second = worker.together(*writers, reader, reader)
    assert [each["signal"] for each in killed] == [signal.SIGKILL] * 2, "no writer failed"
    for outcome in (first, second):
        assert not outcome["error"]
        assert set(outcome["value"]) <= set(contents[kind])
    assert read(tmp_path / WRITERS[kind].name, kind) in contents[kind]


def test_runs_that_begin_together_in_one_folder_keep_their_methods(worker, tmp_path):
    methods = [[f"method {process} {i}" for i in range(12)] for process in range(3)]
    jobs = [{"call": "open_run", "arguments": [str(tmp_path / "run"), of_process]} for of_process in methods]
    assert not any(outcome["error"] for outcome in worker.together(*jobs))
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert set(settings["methods"]) == {method for of_process in methods for method in of_process}


# --- damage -------------------------------------------------------------------


def files_of(path, kind):
    pattern = {"cell": "cells/*", "sums": "sums/*", "settings": "run.json"}.get(kind, "*")
    return [path] if path.is_file() else sorted(each for each in path.glob(pattern) if each.is_file())


def damaged(content, draw):
    """The content with one bit changed, some bytes overwritten, or its end cut off; the same for a seed."""
    start = draw.randrange(len(content))
    size = draw.choice([1, 2, 16, 200])
    kind = draw.randrange(4)
    if kind == 0:
        return content[:start]
    if kind == 1:
        return content[:start] + draw.randbytes(size) + content[start + size :]
    if kind == 2:
        return content[:start] + bytes(size) + content[start + size :]
    return content[:start] + bytes([content[start] ^ 1 << draw.randrange(8)]) + content[start + 1 :]


@pytest.mark.parametrize("kind", CHECKED)
def test_a_damaged_file_is_refused_or_gives_exactly_what_was_written(contents, kind, tmp_path):
    path = write(tmp_path, kind)
    files = files_of(path, kind)
    assert files
    draw, refused = random.Random(f"damage {kind}"), 0
    for file in files:
        content = file.read_bytes()
        for _ in range(100):
            file.write_bytes(damaged(content, draw))
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    found = read(path, kind)
            except ValueError:
                refused += 1
            else:
                assert found == contents[kind][0]
        file.write_bytes(content)
    assert read(path, kind) == contents[kind][0]
    assert refused > 0.9 * 100 * len(files), "few changes leave the content as it is"


@pytest.mark.parametrize("kind", ["basis", "bank"])
def test_a_damaged_file_of_the_former_format_is_a_value_error_or_within_its_ranges(contents, kind, tmp_path):
    path = write(tmp_path, kind)
    without_checksum(path, kind)
    assert read(path, kind) == contents[kind][0]
    draw, refused = random.Random(f"former {kind}"), 0
    for file in files_of(path, kind):
        content = file.read_bytes()
        for _ in range(100):
            file.write_bytes(damaged(content, draw))
            try:
                read(path, kind)
            except ValueError:
                refused += 1
        file.write_bytes(content)
    assert refused > 50


def without_checksum(path, kind):
    """Changes a file to the format that had no checksum."""
    if kind == "basis":
        tensors, metadata = read_tensors(path, {"captum-apex basis 2": True})
        save_file(tensors, path, {**metadata, "format": "captum-apex basis 1"})
        return
    content = json.loads((path / "bank.json").read_text())
    for name, entry in content["arrays"].items():
        (path / entry["file"]).rename(path / f"{name}.npy")
    former = {"format": "captum-apex bank 1", "arrays": list(content["arrays"]), "origin": content["origin"]}
    (path / "bank.json").write_text(json.dumps(former))


def test_arrays_of_another_bank_are_refused(tmp_path):
    first, second = (write(folder, "bank", seed) for seed, folder in enumerate(made(tmp_path, 2)))
    for name in ("time", "square", "frequency", "means", "labels"):
        (ours,), (other,) = first.glob(f"{name}-*"), second.glob(f"{name}-*")
        content = ours.read_bytes()
        shutil.copy(other, ours)
        with pytest.raises(ValueError, match=f"the checksum of {ours.name} is that of other content"):
            read(first, "bank")
        ours.write_bytes(content)
    read(first, "bank")


def made(folder, number):
    folders = [folder / str(i) for i in range(number)]
    for each in folders:
        each.mkdir()
    return folders


def test_a_cell_that_was_cut_at_the_end_of_a_line_is_not_finished(contents, tmp_path):
    path = write(tmp_path, "cell")
    (file,) = files_of(path, "cell")
    lines = file.read_text().splitlines(keepends=True)
    for n_lines in range(len(lines)):
        file.write_text("".join(lines[:n_lines]))
        with (
            pytest.warns(UserWarning, match="is damaged .*counts as not finished"),
            pytest.raises(ValueError, match="not finished"),
        ):
            read(path, "cell")
    file.write_text("".join(lines))
    assert read(path, "cell") == contents["cell"][0]
