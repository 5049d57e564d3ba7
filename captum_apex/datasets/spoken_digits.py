"""The Free Spoken Digit Dataset."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from captum_apex.datasets.collection import (
    CollectionFile,
    Part,
    check_part,
    checked_choice,
    existing_folder,
    recordings_of,
)
from captum_apex.recordings.folder_files import audio_files
from captum_apex.recordings.folders import Recordings

__all__ = ["fsdd"]

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_N_TEST_TAKES = 5  # of each digit and speaker


def fsdd(folder: str | os.PathLike, part: Part | None = None, *, speakers: Collection[str] | None = None) -> Recordings:
    """The Free Spoken Digit Dataset: ten words; the groups are the speakers.

    Args:
        folder: folder of the files `{digit}_{speaker}_{index}.wav`.
        part: "test" for the recordings 0 to 4 of each digit and speaker, the customary test split, "train" for the
            others; both by default. All speakers are in both splits. To test on new voices, choose some `speakers` for
            training and others for the test instead.
        speakers: names of the speakers to read; all by default.

    Raises:
        FileNotFoundError: if there is no such folder, or no recording in it.
        ValueError: if the name of a file has another form, or a speaker or the split is unknown.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.datasets import fsdd
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("7_theo_0.wav", "7_theo_31.wav"):
        ...         Path(folder, name).touch()
        ...     digits = fsdd(folder, "train")
        >>> digits.names, digits.class_names[digits.labels[0]], digits.groups
        (('7_theo_31.wav',), 'seven', ('theo',))

    Source: Jakobovski et al., github.com/Jakobovski/free-spoken-digit-dataset.
    """
    folder = existing_folder(folder)
    check_part(part)
    takes = [_take(name, folder) for name in audio_files(folder)]
    speakers = checked_choice("speakers", speakers, {take.speaker for take in takes})
    files = [
        CollectionFile(take.name, take.digit, take.speaker)
        for take in takes
        if part in (None, take.part) and (speakers is None or take.speaker in speakers)
    ]
    return recordings_of(folder, files, _DIGITS)


class _Take(NamedTuple):
    """One recording of a digit."""

    name: str
    digit: int
    speaker: str
    number: int

    @property
    def part(self) -> Part:
        return "test" if self.number < _N_TEST_TAKES else "train"


def _take(name: str, folder: Path) -> _Take:
    match = re.fullmatch(r"(\d)_([^_]+)_(\d+)\.wav", name)
    if match is None:
        raise ValueError(f"expected files named {{digit}}_{{speaker}}_{{index}}.wav in {folder}, but got {name!r}")
    digit, speaker, number = match.groups()
    return _Take(name, int(digit), speaker, int(number))
