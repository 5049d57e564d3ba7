"""ESC-50 and ESC-10."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from captum_apex.datasets.collection import CollectionFile, checked_choice, existing_folder, recordings_of
from captum_apex.recordings.folder_files import audio_files
from captum_apex.recordings.folders import Recordings

__all__ = ["esc10", "esc50"]

_COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file")


def esc50(folder: str | os.PathLike, folds: Collection[int] | None = None) -> Recordings:
    r"""ESC-50: environmental sounds in fifty classes, 5 s each; the groups are the sources of the clips.

    All clips of a source are in the same fold, so training and test are independent if they have no fold in common.

    Args:
        folder: folder with `audio/` and `meta/esc50.csv`.
        folds: the folds to read, from 1 to 5; all by default.

    Raises:
        FileNotFoundError: if the folder, its table or a recording is missing.
        ValueError: if the table lacks a column, or a fold is unknown.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.datasets import esc50
        >>> table = "filename,fold,target,category,esc10,src_file\n1-10-A-0.wav,1,0,dog,True,10\n"
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name, text in (("meta/esc50.csv", table), ("audio/1-10-A-0.wav", "")):
        ...         Path(folder, name).parent.mkdir()
        ...         _ = Path(folder, name).write_text(text)
        ...     sounds = esc50(folder, folds=[1])
        >>> sounds.names, sounds.class_names, sounds.groups
        (('audio/1-10-A-0.wav',), ('dog',), ('10',))

    Source: Piczak (2015), doi 10.1145/2733373.2806390; github.com/karolpiczak/ESC-50.
    """
    folder = existing_folder(folder)
    return _from_table(folder, _table(folder), folds)


def esc10(folder: str | os.PathLike, folds: Collection[int] | None = None) -> Recordings:
    """ESC-10: the ten classes of ESC-50 that are easiest to distinguish; the groups are the sources of the clips.

    Args:
        folder: folder of ESC-50, or of the older release of ESC-10, `{number}_{class}/{fold}-{source}-{take}.ogg`.
        folds: the folds to read, among those in the folder; all by default.

    Raises:
        FileNotFoundError: if the folder, its table or a recording is missing.
        ValueError: if the table lacks a column, a fold is unknown, or the name of a file has another form.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.datasets import esc10
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "001_dog_bark").mkdir()
        ...     for name in ("1-10-A.ogg", "2-20-A.ogg"):
        ...         Path(folder, "001_dog_bark", name).touch()
        ...     sounds = esc10(folder, folds=[2])
        >>> sounds.names, sounds.class_names, sounds.groups
        (('001_dog_bark/2-20-A.ogg',), ('dog bark',), ('20',))
    """
    folder = existing_folder(folder)
    if (folder / "meta").is_dir():
        return _from_table(folder, [row for row in _table(folder) if row["esc10"] == "True"], folds)
    return _from_sub_folders(folder, folds)


def _table(folder: Path) -> list[dict[str, str]]:
    """The rows of ESC-50's table, sorted by file name."""
    path = folder / "meta" / "esc50.csv"
    if not path.is_file():
        raise FileNotFoundError(f"expected ESC-50's table at {path}, but there is none")
    with open(path, newline="", encoding="utf-8-sig") as file:  # a spreadsheet may have put a mark at its beginning
        table = csv.DictReader(file)
        columns = table.fieldnames or ()
        missing = [name for name in _COLUMNS if name not in columns]
        if missing:
            raise ValueError(f"expected {path} to have a column {missing[0]!r}, but it has {', '.join(columns)}")
        return sorted(table, key=lambda row: row["filename"])


def _from_table(folder: Path, table: Sequence[Mapping[str, str]], folds: Collection[int] | None) -> Recordings:
    folds = checked_choice("folds", folds, {int(row["fold"]) for row in table})
    classes = dict(sorted({int(row["target"]): row["category"] for row in table}.items()))
    labels = {target: label for label, target in enumerate(classes)}  # the targets of ESC-10 have gaps
    files = [
        CollectionFile(f"audio/{row['filename']}", labels[int(row["target"])], row["src_file"])
        for row in table
        if folds is None or int(row["fold"]) in folds
    ]
    for file in files:
        if not (folder / file.name).is_file():
            raise FileNotFoundError(
                f"expected a recording at {folder / file.name}, which ESC-50's table names, but there is none"
            )
    return recordings_of(folder, files, [name.replace("_", " ") for name in classes.values()])


def _from_sub_folders(folder: Path, folds: Collection[int] | None) -> Recordings:
    """The older release of ESC-10, one sub-folder per class."""
    sub_folders = sorted(path for path in folder.iterdir() if path.is_dir() and re.match(r"\d+[ _]", path.name))
    if not sub_folders:
        raise FileNotFoundError(
            f"expected meta/esc50.csv, or folders such as 001_dog_bark, in {folder}, but there are none"
        )
    files_and_folds = [pair for label, path in enumerate(sub_folders) for pair in _files_and_folds(path, label)]
    folds = checked_choice("folds", folds, {fold for _, fold in files_and_folds})
    files = [file for file, fold in files_and_folds if folds is None or fold in folds]
    class_names = [re.sub(r"^\d+[ _-]+", "", path.name).replace("_", " ") for path in sub_folders]
    return recordings_of(folder, files, class_names)


def _files_and_folds(sub_folder: Path, label: int) -> list[tuple[CollectionFile, int]]:
    """The files of a class in the older release of ESC-10, each with its fold."""
    files_and_folds = []
    for name in audio_files(sub_folder):
        match = re.match(r"(\d+)-(.+)-[A-Z]\.", name)
        if match is None:
            raise ValueError(f"expected files named {{fold}}-{{source}}-{{take}} in {sub_folder}, but got {name!r}")
        fold, source = match.groups()
        files_and_folds.append((CollectionFile(f"{sub_folder.name}/{name}", label, source), int(fold)))
    return files_and_folds
