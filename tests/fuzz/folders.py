"""Folders of recordings with odd names, odd contents and things that are no recordings."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from unicodedata import normalize

import numpy as np

from captum_apex import Recordings
from captum_apex.recordings.folder_files import SUFFIXES
from tests.fuzz.texts import odd_file_name

OTHERS = (".m4a", ".txt", "", ".wav.bak", ".WAV", ".wma", ".webm", ".Flac", ".json")


def folders(random: np.random.Generator, folder: Path) -> None:
    """Each file is in the class of its folder, none is lost, and what is left out is said."""
    root = folder / odd_file_name(random)
    root.mkdir()
    by_class, skipped = _tree(random, root)
    expected = {name: sorted(files, key=_steps) for name, files in by_class.items() if files}
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        recordings = Recordings.in_folder(root)
    direct = expected.pop(".", [])
    assert not direct or not expected, "files beside folders of classes are accepted"
    if direct:
        assert [*recordings.names] == direct
        assert recordings.labels is None
    else:
        names = [f"{name}/{file}" for name in sorted(expected, key=_composed) for file in expected[name]]
        assert [*recordings.names] == names, "files are lost or in another order"
        assert recordings.labels is not None
        for name, label in zip(recordings.names, recordings.labels, strict=True):
            assert recordings.class_names[label] == normalize("NFC", name.split("/")[0]), (
                "a file has the label of another class"
            )
    assert len(recordings.fingerprint()) == 64
    assert not skipped or said, f"nothing says that {skipped} was left out"


def _composed(name: str) -> tuple[str, str]:
    """The key of the order: names that differ only in how accents are stored are equal."""
    return normalize("NFC", name), name


def _steps(path: str) -> list[tuple[str, str]]:
    """The key of the order of files in nested folders, each of which is sorted by itself."""
    return [_composed(name) for name in path.split("/")]


def _tree(random: np.random.Generator, root: Path) -> tuple[dict[str, list[str]], list[str]]:
    """Makes files and folders; the names of audio files by folder, and what is neither hidden nor a recording."""
    by_class: dict[str, list[str]] = {}
    skipped: list[str] = []
    with_classes = random.random() < 0.8
    for name in {odd_file_name(random) for _ in range(int(random.integers(0, 5)))} if with_classes else ["."]:
        inside = root / name
        inside.mkdir(exist_ok=True)
        entries = {odd_file_name(random) for _ in range(int(random.integers(0, 4)))}
        found = [_entry(random, inside, entry, with_classes) for entry in entries]
        hidden = name.startswith(".") and name != "."
        shown = [file for file, is_audio in found if is_audio and not file.startswith(".")]
        files = [path for file in shown for path in _inside(inside, file)]
        by_class[name] = [] if hidden else files
        if not hidden:
            skipped += [file for file, is_audio in found if not is_audio and not file.startswith(".")]
            skipped += [name] if not files and with_classes else []
    if with_classes and random.random() < 0.1:
        file = f"{odd_file_name(random)}.wav"
        if not (root / file).exists():
            (root / file).write_bytes(b"RIFF")
            by_class["."] = [] if file.startswith(".") else [file]
    return by_class, skipped


def _inside(folder: Path, name: str) -> list[str]:
    """The audio files of an entry of a folder: itself, or those in it."""
    return [f"{name}/a.wav"] if (folder / name).is_dir() else [name]


def _entry(random: np.random.Generator, folder: Path, name: str, in_class: bool) -> tuple[str, bool]:
    """Makes a file, a folder, a link or a pipe; its name, and whether it is an audio file."""
    kind = int(random.integers(0, 12))
    suffix = str(random.choice(OTHERS if kind < 3 else SUFFIXES))
    name += suffix
    path = folder / name
    is_audio = path.suffix.lower() in SUFFIXES and not name.startswith(".")
    if path.exists() or path.is_symlink():
        return f".{name}", False
    if kind == 3:
        path.mkdir()
        if in_class:
            (path / "a.wav").write_bytes(b"")
        return name, in_class
    if kind == 4:
        path.symlink_to(folder / "missing")
        return name, False
    if kind == 5:
        os.mkfifo(path)
        return name, False
    path.write_bytes(random.bytes(int(random.integers(0, 20))))
    return name, is_audio
