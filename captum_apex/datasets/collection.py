"""The list of files of a collection, and checks of the readers' arguments."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from captum_apex.choices import one_of
from captum_apex.recordings.folders import Recordings

__all__ = ["CollectionFile", "Part", "check_part", "checked_choice", "existing_folder", "recordings_of"]

Part = Literal["train", "test"]
"""The split of a collection that is read."""


class CollectionFile(NamedTuple):
    """One file of a collection.

    Args:
        name: path from the folder of the collection, with `/` as separator.
        label: index of the class.
        group: name of the source, speaker or utterance.

    Example:
        >>> from captum_apex.datasets.collection import CollectionFile
        >>> CollectionFile("audio/1-100032-A-0.wav", label=0, group="100032").group
        '100032'
    """

    name: str
    label: int
    group: str


def recordings_of(folder: Path, files: Sequence[CollectionFile], class_names: Sequence[str]) -> Recordings:
    """The recordings of a collection.

    Args:
        folder: the folder of the collection.
        files: the selected files, in order.
        class_names: names of the classes, in the order of the labels.

    Raises:
        FileNotFoundError: if there are no files.

    Example:
        >>> from pathlib import Path
        >>> from captum_apex.datasets.collection import CollectionFile, recordings_of
        >>> file = CollectionFile("a.wav", label=1, group="100032")
        >>> recordings_of(Path("esc"), [file], ["dog", "rain"]).labels
        (1,)
    """
    if not files:
        raise FileNotFoundError(f"expected recordings in {folder}, but there are none for the given arguments")
    names, labels, groups = zip(*files, strict=True)
    return Recordings(folder, names, labels, tuple(class_names), groups)


def existing_folder(path: str | os.PathLike) -> Path:
    """The path of a folder, after a check that it exists.

    Args:
        path: path of the folder.

    Raises:
        FileNotFoundError: if there is no such folder.

    Example:
        >>> from captum_apex.datasets.collection import existing_folder
        >>> existing_folder("no such folder")
        Traceback (most recent call last):
            ...
        FileNotFoundError: expected a folder at no such folder, but there is none
    """
    if not Path(path).is_dir():
        raise FileNotFoundError(f"expected a folder at {os.fspath(path)}, but there is none")
    return Path(path)


def check_part(part: Part | None) -> None:
    """Raises an error if a split is neither "train" nor "test" nor None.

    Args:
        part: name of the split, the argument of a reader.

    Raises:
        TypeError: if it is no string.
        ValueError: if the split is another one.

    Example:
        >>> from captum_apex.datasets.collection import check_part
        >>> check_part("valid")
        Traceback (most recent call last):
            ...
        ValueError: expected `part`, if it is given, to be one of 'train', 'test', but got 'valid'
    """
    if part is not None:
        one_of(part, "`part`, if it is given,", get_args(Part))


def checked_choice(name: str, chosen: Collection | None, known: Iterable) -> set | None:
    """A choice as a set, after a check that it is not empty and that all its elements exist.

    Args:
        name: name of the argument.
        chosen: the argument, a collection; None for no choice. Of a Series of pandas the values count, not the index.
        known: all elements that exist.

    Raises:
        ValueError: if the choice is wrong.

    Example:
        >>> from captum_apex.datasets.collection import checked_choice
        >>> checked_choice("folds", [1, 2], known=[1, 2, 5])
        {1, 2}
        >>> checked_choice("folds", [1, 7], known=[1, 2, 5])
        Traceback (most recent call last):
            ...
        ValueError: expected `folds` among 1, 2, 5, but got 7
    """
    if chosen is None:
        return None
    entries = chosen.tolist() if hasattr(chosen, "tolist") else chosen  # an array has no truth value
    is_one = isinstance(entries, str) or not isinstance(entries, Collection)
    unknown = [entries] if is_one or not len(entries) else sorted(set(entries) - set(known))
    if unknown:
        raise ValueError(f"expected `{name}` among {', '.join(map(str, sorted(known)))}, but got {unknown[0]!r}")
    return set(entries)
