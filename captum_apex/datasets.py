"""Public collections of sounds, each read as it is published: FSDD, ESC-50 and ESC-10, WaveFake with LJSpeech, BirdSet.

All of them give what `Recordings.in_folder` gives for a folder per class: labelled sounds in a fixed order, which `Classifier.dataset`
makes a model's inputs of. Nothing is downloaded here, except by `birdset` when it is given a name.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
import re
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from captum_apex.recordings.decoding import decode
from captum_apex.recordings.folders import Recordings, audio_files

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["BirdSet", "birdset", "esc10", "esc50", "fsdd", "wavefake"]

Part = Literal["train", "test"]

_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_ESC_COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file")
_FIRST_TEST_CHAPTER = 41  # of LJSpeech's fifty
_EVENTS = ("detected_events", "event_cluster", "start_time", "end_time")


class _File(NamedTuple):
    """One file of a collection."""

    name: str
    label: int
    group: str


def fsdd(folder: str | os.PathLike, part: Part | None = None, *, speakers: Collection[str] | None = None) -> Recordings:
    """The Free Spoken Digit Dataset: ten words; the groups are the speakers.

    Args:
        folder: holds `{digit}_{speaker}_{index}.wav`.
        part: "test" is the customary one, the recordings 0 to 4 of each digit and speaker, "train" the others; both if left out. All
            speakers are in both parts: for voices that a model has not heard, choose `speakers` for training and others for the test.
        speakers: whose recordings; everyone's if left out.

    Raises:
        FileNotFoundError: there is no such folder, or no recording in it.
        ValueError: a file is named otherwise, or a speaker or part is unknown.

    Source: Jakobovski et al., github.com/Jakobovski/free-spoken-digit-dataset.
    """
    folder, test = _folder(folder), _is_test(part)
    found = [(name, re.fullmatch(r"(\d)_([^_]+)_(\d+)\.wav", name)) for name in audio_files(folder)]
    for name, match in found:
        if match is None:
            raise ValueError(f"expected files named {{digit}}_{{speaker}}_{{index}}.wav in {folder}, but got {name!r}")
    parsed = [(name, *match.groups()) for name, match in found if match]
    _check_known("speakers", speakers, {speaker for _, _, speaker, _ in parsed})
    files = [
        _File(name, int(digit), speaker)
        for name, digit, speaker, index in parsed
        if (test is None or test == (int(index) < 5)) and (speakers is None or speaker in speakers)
    ]
    return _recordings(folder, files, _DIGITS)


def esc50(folder: str | os.PathLike, folds: Collection[int] | None = None) -> Recordings:
    """ESC-50: environmental sounds in fifty classes, 5 s each; the groups are the sources that clips were cut from.

    A source is in one fold only, so that training and test parts are honest where they have no fold in common.

    Args:
        folder: holds `audio/` and `meta/esc50.csv`.
        folds: among 1 to 5; all if left out.

    Raises:
        FileNotFoundError: the folder, its table or a recording is missing.
        ValueError: the table has not all columns, or a fold is unknown.

    Source: Piczak (2015), doi 10.1145/2733373.2806390; github.com/karolpiczak/ESC-50.
    """
    return _esc(_folder(folder), _esc_table(_folder(folder)), folds)


def esc10(folder: str | os.PathLike, folds: Collection[int] | None = None) -> Recordings:
    """ESC-10: the ten classes of ESC-50 that are easiest to tell apart; arguments, groups and errors as in `esc50`.

    Args:
        folder: ESC-50's, or that of the older release, `{number}_{class}/{fold}-{source}-{take}.ogg`.
        folds: among those that are there; all if left out.
    """
    folder = _folder(folder)
    if (folder / "meta").is_dir():
        return _esc(folder, [row for row in _esc_table(folder) if row["esc10"] == "True"], folds)
    return _older_esc(folder, folds)


def wavefake(
    ljspeech: str | os.PathLike,
    generated: str | os.PathLike,
    part: Part | None = None,
    *,
    vocoders: Collection[str] | None = None,
) -> Recordings:
    """LJSpeech and its twins in WaveFake: "real" speech, and the same utterances "vocoded"; the groups are the utterances.

    The clips of an utterance follow one another, the real one first, and `Recordings.twins` gives them. Utterances that are not there in
    all forms asked for are left out, with a warning. The parts are made of LJSpeech's chapters, 41 to 50 for the test, about a fifth: so
    twins stay together, whichever vocoders each part is asked for.

    Args:
        ljspeech: LJSpeech's folder, with `wavs/{utterance}.wav`.
        generated: WaveFake's folder, with a sub-folder of `{utterance}_gen.wav` (HiFi-GAN has `_generated`, WaveGlow nothing) per vocoder.
        part: "train" or "test"; both if left out.
        vocoders: names of sub-folders; all that begin with `ljspeech_` if left out.

    Raises:
        FileNotFoundError: a folder is missing, or no utterance is there in all forms.
        ValueError: a vocoder or part is unknown.

    Source: Frank and Schönherr, "WaveFake" (arXiv 2111.02813); Ito and Johnson, "The LJ Speech Dataset".
    """
    real, fake, test = _folder(Path(ljspeech) / "wavs"), _folder(generated), _is_test(part)
    there = sorted(path.name for path in fake.iterdir() if path.name.startswith("ljspeech_") and path.is_dir())
    _check_known("vocoders", vocoders, there)
    forms = [_utterances(real), *(_utterances(fake / name) for name in there if vocoders is None or name in vocoders)]
    if len(forms) == 1:
        raise FileNotFoundError(
            f"expected a sub-folder per vocoder, such as ljspeech_melgan, in {fake}, but there is none"
        )
    whole, some = set.intersection(*map(set, forms)), set.union(*map(set, forms))
    if len(whole) < len(some):
        warnings.warn(
            f"{len(some) - len(whole)} of {len(some)} utterances are not there in all forms and are left out",
            stacklevel=2,
        )
    root = Path(os.path.commonpath([real.absolute(), fake.absolute()]))
    files = [
        _File(form[utterance].absolute().relative_to(root).as_posix(), int(number > 0), utterance)
        for utterance in sorted(whole)
        if test is None or test == (int(utterance[2:5]) >= _FIRST_TEST_CHAPTER)
        for number, form in enumerate(forms)
    ]
    return _recordings(root, files, ("real", "vocoded"))


def birdset(source: str | Dataset, split: str = "test_5s") -> BirdSet:
    """BirdSet: calls of birds, several species to a clip, at 32 kHz; read it with a `length` of 160,000 samples, 5 s.

    Args:
        source: the name of a subset, such as "HSN", which the `datasets` library then loads from Hugging Face; or one split that is loaded
            already.
        split: "train" or "test_5s"; not asked for with a loaded split.

    Raises:
        ImportError: `datasets` is missing.
        TypeError: the source is neither a name nor one split.
        ValueError: a column is missing, the version of `datasets` cannot load BirdSet by name, or there is no such subset or split.

    Source: Rauch et al. (arXiv 2403.10380); huggingface.co/datasets/DBD-research-group/BirdSet.
    """
    return BirdSet.from_split(_downloaded(source, split) if isinstance(source, str) else source)


@dataclass(frozen=True, eq=False)
class BirdSet:
    """One split of BirdSet, its sounds decoded when they are asked for.

    A focal recording of the training split has any length. Of it, the clip around its first detected event is taken: the first one in the
    largest cluster of events that are no noise, with which BirdSet's own training also begins.

    Args:
        split: with a column `audio` that is not decoded.
        class_names: eBird codes of the species.
        labels: float32 (clip, class), 1 where the species calls; a clip can have none.
        names: the file of each clip, without its folder.
        centres: the middle of each clip in its recording, in s; None for the beginning.
    """

    split: Dataset
    class_names: tuple[str, ...]
    labels: Tensor
    names: tuple[str, ...]
    centres: tuple[float | None, ...]

    @classmethod
    def from_split(cls, split: Dataset) -> Self:
        """Of a loaded split; see `birdset`."""
        datasets = _library()
        if not isinstance(split, datasets.Dataset):
            raise TypeError(
                f"expected the name of a subset of BirdSet, or one split of it as a datasets.Dataset, but got {_described(split)}"
            )
        missing = [name for name in ("audio", "ebird_code_multilabel") if name not in split.column_names]
        if missing:
            raise ValueError(
                f"expected a split of BirdSet with a column {missing[0]!r}, but got {', '.join(split.column_names)}"
            )
        codes = getattr(split.features["ebird_code_multilabel"], "feature", None)
        if not isinstance(codes, datasets.ClassLabel):
            raise ValueError(
                f"expected lists of class labels in the column 'ebird_code_multilabel', but got {codes}; keep BirdSet's own features"
            )
        split = split.with_format(None).cast_column(
            "audio", datasets.Audio(decode=False)
        )  # decoding would need torchcodec
        wanted = ("ebird_code_multilabel", "ebird_code", *_EVENTS)
        rows = list(split.select_columns([name for name in wanted if name in split.column_names]))
        labels = torch.zeros(len(rows), len(codes.names))
        for index, row in enumerate(rows):
            labels[index, _species(row)] = 1
        return cls(split, tuple(codes.names), labels, _names(split), tuple(map(_centre, rows)))

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """The file of this index, for messages."""
        return self.names[index]

    def waveform(
        self, index: int, sample_rate: int = 32_000, length: int | None = None, *, convert: bool = True
    ) -> Tensor:
        """A clip as float32 (sample,); see `recordings.read`."""
        with self._opened(index) as file:
            return decode(
                file, sample_rate, length, centre=self.centres[index], convert=convert, name=self.names[index]
            )

    def _opened(self, index: int) -> BinaryIO:
        audio = self.split[index]["audio"]
        if audio["bytes"] is not None:
            return io.BytesIO(audio["bytes"])
        if not os.path.isfile(audio["path"]):
            raise FileNotFoundError(f"expected a recording of BirdSet at {audio['path']}, but there is none")
        return open(audio["path"], "rb")

    def fingerprint(self) -> str:
        """A SHA-256 of the names, the places in the recordings and the labels; no sound is read for it."""
        digest = hashlib.sha256(repr((self.names, self.centres, self.class_names)).encode())
        digest.update(self.labels.numpy().tobytes())
        return digest.hexdigest()


def _folder(path: str | os.PathLike) -> Path:
    if not Path(path).is_dir():
        raise FileNotFoundError(f"expected a folder at {os.fspath(path)}, but there is none")
    return Path(path)


def _is_test(part: Part | None) -> bool | None:
    if part not in ("train", "test", None):
        raise ValueError(f"expected `part` to be 'train', 'test' or None, but got {part!r}")
    return None if part is None else part == "test"


def _check_known(name: str, chosen: Collection | None, known: Iterable) -> None:
    """Raises where something was chosen that is not there."""
    if chosen is None:
        return
    unknown = [chosen] if isinstance(chosen, str) or not chosen else sorted(set(chosen) - set(known))
    if unknown:
        raise ValueError(f"expected `{name}` among {', '.join(map(str, sorted(known)))}, but got {unknown[0]!r}")


def _recordings(folder: Path, files: Sequence[_File], class_names: Sequence[str]) -> Recordings:
    if not files:
        raise FileNotFoundError(f"expected recordings in {folder}, but there are none that were asked for")
    names, labels, groups = zip(*files, strict=True)
    return Recordings(folder, names, labels, tuple(class_names), groups)


def _esc_table(folder: Path) -> list[dict[str, str]]:
    path = folder / "meta" / "esc50.csv"
    if not path.is_file():
        raise FileNotFoundError(f"expected ESC-50's table at {path}, but there is none")
    with open(path, newline="") as file:
        table = csv.DictReader(file)
        missing = [name for name in _ESC_COLUMNS if name not in (table.fieldnames or ())]
        if missing:
            raise ValueError(
                f"expected {path} to have a column {missing[0]!r}, but it has {', '.join(table.fieldnames or ())}"
            )
        return sorted(table, key=lambda row: row["filename"])


def _esc(folder: Path, table: Sequence[Mapping[str, str]], folds: Collection[int] | None) -> Recordings:
    _check_known("folds", folds, {int(row["fold"]) for row in table})
    classes = dict(sorted({int(row["target"]): row["category"] for row in table}.items()))
    labels = {target: label for label, target in enumerate(classes)}  # ESC-10's targets have gaps
    files = [
        _File(f"audio/{row['filename']}", labels[int(row["target"])], row["src_file"])
        for row in table
        if folds is None or int(row["fold"]) in folds
    ]
    for file in files:
        if not (folder / file.name).is_file():
            raise FileNotFoundError(
                f"expected a recording at {folder / file.name}, which ESC-50's table names, but there is none"
            )
    return _recordings(folder, files, [name.replace("_", " ") for name in classes.values()])


def _older_esc(folder: Path, folds: Collection[int] | None) -> Recordings:
    parts = sorted(path for path in folder.iterdir() if path.is_dir() and re.match(r"\d+[ _]", path.name))
    if not parts:
        raise FileNotFoundError(
            f"expected meta/esc50.csv, or folders such as 001_dog_bark, in {folder}, but there are none"
        )
    found = []
    for label, part in enumerate(parts):
        for name in audio_files(part):
            match = re.match(r"(\d+)-(.+)-[A-Z]\.", name)
            if match is None:
                raise ValueError(f"expected files named {{fold}}-{{source}}-{{take}} in {part}, but got {name!r}")
            found.append((int(match[1]), _File(f"{part.name}/{name}", label, match[2])))
    _check_known("folds", folds, {fold for fold, _ in found})
    files = [file for fold, file in found if folds is None or fold in folds]
    return _recordings(folder, files, [re.sub(r"^\d+[ _-]+", "", part.name).replace("_", " ") for part in parts])


def _utterances(folder: Path) -> dict[str, Path]:
    """The file of each utterance."""
    found = {name: re.fullmatch(r"(LJ\d{3}-\d{4})(_gen|_generated)?\.wav", name) for name in audio_files(folder)}
    return {match[1]: folder / name for name, match in found.items() if match}


def _library() -> ModuleType:
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            f"expected the `datasets` library, which loads BirdSet, but it cannot be imported: pip install 'captum-apex[birdset]' ({error})"
        ) from error
    return datasets


def _downloaded(name: str, split: str) -> Dataset:
    try:
        return _library().load_dataset("DBD-research-group/BirdSet", name, split=split)
    except RuntimeError as error:
        if "scripts are no longer supported" not in str(error):
            raise
        raise ValueError(
            "expected a version of `datasets` before 4, since BirdSet is published as a script, which later ones do not run; with those, "
            "load a copy, such as load_dataset('mteb/BirdSet', ...) or load_from_disk(...), and pass its split"
        ) from error


def _described(source: Any) -> str:
    return f"a dict of {', '.join(map(str, source))}" if isinstance(source, Mapping) else type(source).__name__


def _names(split: Dataset) -> tuple[str, ...]:
    """The file names of all clips, without reading their sounds."""
    paths = (
        split["filepath"] if "filepath" in split.column_names else split.select_columns("audio").flatten()["audio.path"]
    )
    return tuple(f"clip {index}" if path is None else os.path.basename(path) for index, path in enumerate(paths))


def _species(row: Mapping[str, Any]) -> list[int]:
    if row["ebird_code_multilabel"] is not None:
        return row["ebird_code_multilabel"]
    return [] if row.get("ebird_code") is None else [row["ebird_code"]]


def _centre(row: Mapping[str, Any]) -> float | None:
    """The middle of the event that a clip is of, in s: a detected one, else the one that the row is about."""
    events = np.array(row.get("detected_events") or [], dtype=float).reshape(-1, 2)
    clusters = np.array(row.get("event_cluster") or [0] * len(events))
    if not len(events):
        middle = np.mean(
            [row.get(name, math.nan) for name in ("start_time", "end_time")], dtype=float
        )  # None counts as NaN
        return None if np.isnan(middle) else float(middle)
    calls = clusters[clusters >= 0] if (clusters >= 0).any() else clusters  # -1 is noise, unless there is nothing else
    values, counts = np.unique(calls, return_counts=True)
    return float(events[clusters == values[counts.argmax()]][0].mean())
