"""Files that are replaced as a whole, and files with a checksum."""

import errno
import os
import socket
import stat
import threading

import pytest
import torch
from safetensors.torch import save_file

from captum_apex import (
    Event,
    ExplainedClips,
    PrototypeBasis,
    files,
    listening,
    write_audacity,
    write_csv,
    write_raven,
)
from captum_apex.explaining.channel_names import write_names
from captum_apex.explanations import event_files
from captum_apex.files import locked, locked_alone, read_json, read_tensors, replaced, write_json, write_tensors
from captum_apex.report import Page
from tests import explained


def test_the_new_file_takes_the_place_of_the_old_one_at_the_end(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replaced(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_after_an_exception_the_old_file_is_unchanged(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replaced(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain.txt").touch()
    with replaced(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


def test_missing_folders_are_made(tmp_path):
    with replaced(tmp_path / "new" / "newer" / "a.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "new" / "newer" / "a.txt").read_text() == "new"


def test_folders_that_were_made_are_removed_after_an_exception_and_others_stay(tmp_path):
    (tmp_path / "old").mkdir()
    with pytest.raises(KeyboardInterrupt), replaced(tmp_path / "old" / "new" / "newer" / "a.txt"):
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.rglob("*")] == ["old"]


def test_folders_are_removed_where_one_of_them_cannot_be_made(tmp_path):
    with pytest.raises(OSError, match="too long"), replaced(tmp_path / "new" / ("x" * 300) / "a.txt"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "notes").touch()
    with pytest.raises(OSError, match="notes"), replaced(tmp_path / "notes" / "a.txt"):
        pass


EVENTS = [Event(1.0, 2.0, None, None, 0, "dog", 0.9, 2.0)]


def explained_clips():
    clip = explained.clip_of(explained.QUERY[0])
    return ExplainedClips((Page(clip, [explained.explained(search=None)], explained.Recorded(), explained.CLASSES),))


WRITERS = {
    "page": lambda path: explained_clips().write(path),
    "CSV": lambda path: explained_clips().write_csv(path),
    "JSON": lambda path: explained_clips().write_json(path),
    "Raven": lambda path: write_raven(path, EVENTS),
    "Audacity": lambda path: write_audacity(path, EVENTS),
    "events as CSV": lambda path: write_csv(path, EVENTS),
    "events as JSON": lambda path: event_files.write_json(path, EVENTS),
    "basis": lambda path: PrototypeBasis(torch.eye(2), "time").save(path),
    "bank": lambda path: explained.network()[2].save(path),
    "sound": lambda path: listening.write(path.with_suffix(".wav"), torch.zeros(100), 8000),
    "channel names": lambda path: write_names(path, {}, {}),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_makes_missing_folders(tmp_path, writer):
    """A basis and a page are written to new folders alike, from Python as on the command line."""
    WRITERS[writer](tmp_path / "new" / "newer" / "it")
    assert any((tmp_path / "new" / "newer").iterdir())


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o755])
def test_a_replaced_file_keeps_its_permissions(tmp_path, mode):
    path = tmp_path / "a.txt"
    path.write_text("old")
    path.chmod(mode)
    with replaced(path) as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600, "nobody else reads the content meanwhile"
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == mode


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="only root gives files to others")
def test_a_replaced_file_keeps_its_owner(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    os.chown(path, 1234, 2345)
    with replaced(path) as temporary:
        temporary.write_text("new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 2345)


def test_the_file_mode_mask_of_the_process_is_left_alone(tmp_path, monkeypatch):
    """Setting it, if only to read it, would make files of other threads writable for everybody."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the mask was set"))
    with replaced(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")


def test_a_file_is_on_the_disk_before_it_has_its_name_and_the_name_at_the_end(tmp_path, monkeypatch):
    events = []
    fsync, replace = os.fsync, os.replace

    def recorded_fsync(descriptor):
        status = os.fstat(descriptor)
        events.append("folder" if stat.S_ISDIR(status.st_mode) else f"{status.st_size} bytes")
        fsync(descriptor)

    def recorded_replace(source, target):
        events.append("renamed")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(os, "replace", recorded_replace)
    with replaced(tmp_path / "a.txt") as temporary:
        temporary.write_text("complete")
    assert events == ["8 bytes", "renamed", "folder"]


def test_a_link_that_waits_for_the_temporary_file_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "mine").write_text("mine")
    monkeypatch.setattr(files.secrets, "token_hex", lambda n: "0" * 2 * n)
    os.symlink(tmp_path / "mine", tmp_path / f".a.txt.{'0' * 16}")
    with pytest.raises(FileExistsError), replaced(tmp_path / "a.txt") as temporary:
        temporary.write_text("theirs")
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("kind", ["folder", "pipe", "socket", "device"])
def test_only_files_are_replaced(tmp_path, kind):
    path = tmp_path / "it"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.relpath(path))
    elif os.getuid():
        pytest.skip("only root makes devices")
    else:
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    before = path.stat()
    with pytest.raises(OSError, match=f"{path}"), replaced(path) as temporary:
        temporary.write_text("new")
    assert path.stat() == before
    assert os.listdir(tmp_path) == ["it"]


def test_the_longest_names_can_be_replaced(tmp_path):
    for name in ("a" * 255, "ä" * 127):
        with replaced(tmp_path / name) as temporary:
            temporary.write_text("new")
        assert (tmp_path / name).read_text() == "new"


def test_an_error_of_the_disk_names_the_target(tmp_path):
    path = tmp_path / "a.txt"
    with pytest.raises(OSError, match=f"No space left on device: '{path}'"), replaced(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(OSError, match="of another kind"), replaced(path):
        raise OSError("of another kind")


def test_two_threads_replace_a_file_and_one_content_stays(tmp_path):
    path = tmp_path / "a.txt"

    def replace_often(text):
        for _ in range(50):
            with replaced(path) as temporary:
                temporary.write_text(text * 10_000)

    threads = [threading.Thread(target=replace_often, args=(text,)) for text in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in ("a" * 10_000, "b" * 10_000)
    assert os.listdir(tmp_path) == ["a.txt"]


def test_json_without_a_checksum_is_read_and_a_wrong_checksum_is_not(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"sizes": (1, 2), "name": "ä", "share": 0.1 + 0.2, "none": None})
    content = {"sizes": [1, 2], "name": "ä", "share": 0.1 + 0.2, "none": None}
    assert read_json(path) == content
    path.write_text(path.read_text().replace("0.30000000000000004", "0.30000000000000005"))
    assert read_json(path) == content, "the same number"
    path.write_text(path.read_text().replace("0.30000000000000005", "0.31"))
    with pytest.raises(ValueError, match="its checksum is that of other content: the file is damaged"):
        read_json(path)
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deeply"):
        read_json(path)


def test_tensors_that_share_memory_are_written_and_later_changes_do_not_matter(tmp_path):
    path, whole = tmp_path / "a.safetensors", torch.arange(6.0)
    write_tensors(path, {"a": whole, "b": whole[1:3], "c": whole.view(2, 3).T, "d": torch.tensor(True)}, {})
    tensors, metadata = read_tensors(path, {None: True})
    assert metadata == {}
    assert torch.equal(tensors["c"], whole.view(2, 3).T)
    save_file({"a": torch.zeros(60)}, path)
    os.truncate(path, 0)
    assert torch.equal(tensors["a"], whole), "they are no mapping of the file"
    assert tensors["d"].item() is True


def test_a_file_of_another_format_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.zeros(1)}, {"format": "mine 1"})
    with open(path, "r+b") as file:
        file.truncate(2**40)  # a file with a hole: no memory could hold it
    with pytest.raises(ValueError, match="its format is 'mine 1', not 'mine 2' or None"):
        read_tensors(path, {"mine 2": True, None: False})


def test_whether_a_format_needs_a_checksum_is_up_to_the_reader(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    assert torch.equal(read_tensors(path, {None: False})[0]["a"], torch.zeros(1))
    with pytest.raises(ValueError, match="the file is damaged"):
        read_tensors(path, {None: True})


@pytest.mark.skipif(files.fcntl is None, reason="this system has no locks")
def test_a_lock_is_exclusive_unless_it_is_shared(tmp_path):
    with locked(tmp_path, shared=True) as first:
        with locked(tmp_path, shared=True) as second:
            assert not locked_alone(second)
        assert locked_alone(first)
    with locked(tmp_path), pytest.raises(BlockingIOError):
        descriptor = os.open(tmp_path, os.O_RDONLY)
        try:
            files.fcntl.flock(descriptor, files.fcntl.LOCK_SH | files.fcntl.LOCK_NB)
        finally:
            os.close(descriptor)


def test_without_locks_everything_is_written_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "fcntl", None)
    with locked(tmp_path) as descriptor:
        assert descriptor is None
        assert not locked_alone(descriptor)
