"""LJSpeech and its vocoded versions in WaveFake."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from captum_apex.caller import warn_caller
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

__all__ = ["wavefake"]

_FIRST_TEST_CHAPTER = 41  # of the fifty chapters of LJSpeech


def wavefake(
    ljspeech: str | os.PathLike,
    generated: str | os.PathLike,
    part: Part | None = None,
    *,
    vocoders: Collection[str] | None = None,
) -> Recordings:
    """LJSpeech and WaveFake: "real" speech, and the same utterances "vocoded"; the groups are the utterances.

    The clips of an utterance follow one another, the real one first; `Recordings.twins` gives the other ones. An
    utterance that is not in all selected folders is left out, with a warning.

    Args:
        ljspeech: folder of LJSpeech, with `wavs/{utterance}.wav`.
        generated: folder of WaveFake, with one sub-folder per vocoder, of files `{utterance}_gen.wav` (HiFi-GAN:
            `{utterance}_generated.wav`; WaveGlow: `{utterance}.wav`).
        part: "test" for the chapters 41 to 50 of LJSpeech, about a fifth, "train" for the others; both by default. All
            clips of an utterance are in the same split, whatever the vocoders.
        vocoders: names of sub-folders to read; by default all that begin with `ljspeech_`.

    Raises:
        FileNotFoundError: if a folder is missing, or no utterance is in all selected folders.
        ValueError: if a vocoder or the split is unknown.

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
    check_part(part)
    versions = [_utterances(real), *(_utterances(folder) for folder in _vocoder_folders(fake, vocoders))]
    root = Path(os.path.commonpath([real.absolute(), fake.absolute()]))
    files = [
        CollectionFile(version[utterance].absolute().relative_to(root).as_posix(), int(number > 0), utterance)
        for utterance in _complete_utterances(versions)
        if part in (None, _part_of(utterance))
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


def _part_of(utterance: str) -> Part:
    """The split of an utterance, by its chapter: LJ041-0001 is the first utterance of chapter 41."""
    return "test" if int(utterance[2:5]) >= _FIRST_TEST_CHAPTER else "train"
