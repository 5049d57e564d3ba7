"""LJSpeech and its vocoded versions in WaveFake."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from captum_apex.caller import warn_caller
from captum_apex.choices import one_of
from captum_apex.datasets.collection import (
    CollectionFile,
    Part,
    checked_choice,
    existing_folder,
    recordings_of,
)
from captum_apex.recordings.folder_files import audio_files
from captum_apex.recordings.folders import Recordings

__all__ = ["wavefake"]

SplitBy = Literal["chapter", "id"]
_PARTS = {"chapter": ("train", "test"), "id": ("train", "validation", "test")}
_FIRST_TEST_CHAPTER = 41  # of the fifty chapters of LJSpeech
_HELD_OUT = 1_000  # utterances in the test part by id, and as many in the validation part


def wavefake(
    ljspeech: str | os.PathLike,
    generated: str | os.PathLike,
    part: Part | Literal["validation"] | None = None,
    *,
    vocoders: Collection[str] | None = None,
    split_by: SplitBy = "chapter",
) -> Recordings:
    """LJSpeech and WaveFake: "real" speech, and the same utterances "vocoded"; the groups are the utterances.

    The clips of an utterance follow one another, the real one first; `Recordings.twins` gives the other ones. An
    utterance that is not in all selected folders is left out, with a warning.

    Args:
        ljspeech: folder of LJSpeech, with `wavs/{utterance}.wav`.
        generated: folder of WaveFake, with one sub-folder per vocoder, of files `{utterance}_gen.wav` (HiFi-GAN:
            `{utterance}_generated.wav`; WaveGlow: `{utterance}.wav`).
        part: "test", "train", or, where utterances are split by id, "validation"; all by default. All clips of an
            utterance are in the same part, whatever the vocoders.
        vocoders: names of sub-folders to read; by default all that begin with `ljspeech_`.
        split_by: "chapter": chapters 41 to 50 of LJSpeech, about a fifth, are the test part, the others the training
            part. "id": of the sorted utterances of `ljspeech`, the first 1,000 are the test part, the next 1,000 the
            validation part, and all others the training part. Parts by id share a chapter of the book, which is read in
            one session: use them only to compare with results that were measured so.

    Raises:
        FileNotFoundError: if a folder is missing, or no utterance of the part is in all selected folders.
        ValueError: if a vocoder, the part or `split_by` is unknown.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.datasets import wavefake
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("wavs/LJ001-0001.wav", "ljspeech_melgan/LJ001-0001_gen.wav"):
        ...         Path(folder, name).parent.mkdir()
        ...         Path(folder, name).touch()
        ...     speech = wavefake(folder, folder)
        >>> speech.names, speech.labels, speech.twins(0)
        (('wavs/LJ001-0001.wav', 'ljspeech_melgan/LJ001-0001_gen.wav'), (0, 1), (1,))

    Source: Frank and Schönherr, "WaveFake" (arXiv 2111.02813); Ito and Johnson, "The LJ Speech Dataset".
    """
    real = existing_folder(Path(ljspeech) / "wavs")
    fake = existing_folder(generated)
    one_of(split_by, "`split_by`", get_args(SplitBy))
    if part is not None:
        one_of(part, "`part`, if it is given,", _PARTS[split_by])
    versions = [_utterances(real), *(_utterances(folder) for folder in _vocoder_folders(fake, vocoders))]
    parts = _parts(sorted(versions[0]), split_by)
    root = Path(os.path.commonpath([real.absolute(), fake.absolute()]))
    files = [
        CollectionFile(version[utterance].absolute().relative_to(root).as_posix(), int(number > 0), utterance)
        for utterance in _complete_utterances(versions)
        if part in (None, parts[utterance])
        for number, version in enumerate(versions)
    ]
    return recordings_of(root, files, ("real", "vocoded"))


def _vocoder_folders(generated: Path, vocoders: Collection[str] | None) -> list[Path]:
    available = sorted(path.name for path in generated.iterdir() if path.name.startswith("ljspeech_") and path.is_dir())
    vocoders = checked_choice("vocoders", vocoders, available)
    if not available:
        raise FileNotFoundError(
            f"expected a sub-folder per vocoder, such as ljspeech_melgan, in {generated}, but there is none"
        )
    return [generated / name for name in available if vocoders is None or name in vocoders]


def _utterances(folder: Path) -> dict[str, Path]:
    """The file of each utterance."""
    matches = [re.fullmatch(r"(LJ\d{3}-\d{4})(_gen|_generated)?\.wav", name) for name in audio_files(folder)]
    return {match[1]: folder / match[0] for match in matches if match}


def _complete_utterances(versions: Sequence[Mapping[str, Path]]) -> list[str]:
    """The sorted utterances that have a file in every version."""
    complete = set.intersection(*(set(version) for version in versions))
    existing = set.union(*(set(version) for version in versions))
    if len(complete) < len(existing):
        warn_caller(
            f"{len(existing) - len(complete)} of {len(existing)} utterances are left out, because they are missing in "
            "LJSpeech or in the folder of a vocoder"
        )
    return sorted(complete)


def _parts(utterances: Sequence[str], split_by: SplitBy) -> dict[str, str]:
    """The part of each utterance of LJSpeech: LJ041-0001 is the first utterance of chapter 41."""
    if split_by == "chapter":
        return {each: "test" if int(each[2:5]) >= _FIRST_TEST_CHAPTER else "train" for each in utterances}
    held_out = ["test"] * _HELD_OUT + ["validation"] * _HELD_OUT
    return dict(itertools.zip_longest(utterances, held_out[: len(utterances)], fillvalue="train"))
