"""The audio files in a folder and in its sub-folders, in an order that depends only on their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

from captum_apex.recordings.background_labels import names_with_background, rows_without_background
from captum_apex.recordings.class_labels import Labels, class_indices, composed

__all__ = ["SUFFIXES", "FolderContents", "audio_files"]

SUFFIXES = (".aif", ".aiff", ".au", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav")
"""Suffixes of the files in a folder that count as audio files; upper case counts too."""

_N_EXAMPLES = 3  # names of left-out files in a warning


def audio_files(folder: Path) -> list[str]:
    """The sorted names of the audio files in a folder, without its sub-folders; none if there is no such folder.

    Args:
        folder: the folder.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.recordings import audio_files
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("b.wav", "a.flac", "notes.txt", ".hidden.wav"):
        ...         Path(folder, name).touch()
        ...     audio_files(Path(folder))
        ['a.flac', 'b.wav']
    """
    if not folder.is_dir():
        return []
    return [path.name for path in _listed(folder) if _is_audio(path)]


@dataclass(frozen=True)
class FolderContents:
    """What is in and below a folder.

    Args:
        folder: the folder.
        entries: for each file and sub-folder, in the order of names, the files in and below it, or itself if it is no
            folder: the path from `folder`, with `/` as separator, and why the file is left out, empty for audio files.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.recordings.folder_files import FolderContents
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("dog/a.wav", "dog/day1/b.wav", "fox/notes.txt"):
        ...         Path(folder, name).parent.mkdir(exist_ok=True)
        ...         Path(folder, name).touch()
        ...     contents = FolderContents.of(Path(folder))
        >>> contents.by_class
        {'dog': ['dog/a.wav', 'dog/day1/b.wav']}
        >>> contents.left_out()
        'sub-folders without recordings (1: fox); files with other suffixes (1: fox/notes.txt)'
    """

    folder: Path
    entries: Mapping[str, Sequence[tuple[str, str]]]

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Lists a folder and the folders below it."""
        around = (folder.resolve(), *folder.resolve().parents)
        return cls(
            folder,
            {
                top.name: [(path.relative_to(folder).as_posix(), kind) for path, kind in _below(top, around)]
                for top in _listed(folder)
            },
        )

    @cached_property
    def files(self) -> list[str]:
        """The audio files directly in the folder."""
        return [name for name, entries in self.entries.items() if (name, "") in entries[:1]]

    @cached_property
    def audio(self) -> list[str]:
        """The audio files in the folder and in all folders below it."""
        return [path for entries in self.entries.values() for path, kind in entries if not kind]

    @cached_property
    def by_class(self) -> dict[str, list[str]]:
        """The audio files in and below each sub-folder that has any."""
        by_class = {
            name: [path for path, kind in entries if not kind and path != name]
            for name, entries in self.entries.items()
        }
        return {name: files for name, files in by_class.items() if files}

    def left_out(self) -> str:
        """What is not read: how much of each kind, with examples."""
        kinds: dict[str, list[str]] = {}
        for name, entries in self.entries.items():
            if all(path != name and kind for path, kind in entries):
                kinds.setdefault("sub-folders without recordings", []).append(name)
            for path, kind in entries:
                if kind:
                    kinds.setdefault(kind, []).append(path)
        return "; ".join(
            f"{kind} ({len(names)}: {', '.join(names[:_N_EXAMPLES])}{', …' if len(names) > _N_EXAMPLES else ''})"
            for kind, names in kinds.items()
        )

    def check(self, has_classes: bool) -> None:
        """Raises where the audio files are neither files without labels nor sub-folders of classes.

        Args:
            has_classes: whether the names of the classes are known otherwise than from the names of the sub-folders.

        Raises:
            FileNotFoundError: there is no audio file.
            ValueError: there are audio files beside sub-folders, two sub-folders have the same name in Unicode's
                composed form, or classes may be folders that are deeper.
        """
        folder = self.folder
        if self.files and self.by_class:
            raise ValueError(
                f"expected either a sub-folder per class or only files, but {folder} has the file {self.files[0]!r} "
                f"beside the sub-folder {next(iter(self.by_class))!r}"
            )
        if not self.files and not self.by_class:
            said = self.left_out()
            raise FileNotFoundError(
                f"expected audio files ({', '.join(SUFFIXES)}) in {folder} or its sub-folders, but there are none: "
                f"{f'only {said}' if said else 'it is empty'}"
            )
        names = [composed(name) for name in self.by_class]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(
                f"expected sub-folders of {folder} with different names, but {twice[0]!r} is there composed and "
                "decomposed (NFC and NFD); put the files of both into one"
            )
        if self.by_class and not has_classes:
            self._check_depth()

    def labels(self, class_names: Sequence[str], background: str | None = None) -> Labels:
        """The index of the class of each file of `by_class`, in order; with a background a 0 or 1 for each class.

        Args:
            class_names: names of the classes, in the order of the labels.
            background: name of the sub-folder of files without any of the classes; None for no such sub-folder.

        Raises:
            ValueError: a sub-folder means no class or could mean several, or two mean the same.
        """
        if background is not None:
            names = names_with_background(class_names, background)
            return rows_without_background(self.labels(names), names, background)
        try:
            labels = class_indices(self.by_class, class_names)
        except ValueError as error:
            raise ValueError(f"expected each sub-folder of {self.folder} to mean one class: {error}") from error
        unknown = next((name for name in self.by_class if name not in labels), None)
        if unknown is not None:
            inner = self._inner_folders(unknown) & set(class_names)
            advice = (
                f"{unknown}/{min(inner)} is, so give the folder {self.folder / unknown}"
                if inner
                else "if the files have no labels, put all of them into one folder; if the model has this class, add "
                "it to the class names, in the order of the scores"
            )
            raise ValueError(
                f"expected the sub-folders of {self.folder} to be named like classes ({', '.join(class_names)}), "
                f"but got {unknown!r}; {advice}"
            )
        return tuple(labels[name] for name, files in self.by_class.items() for _ in files)

    def _inner_folders(self, name: str) -> set[str]:
        """The folders in a sub-folder that recordings are in or below."""
        steps = [path.split("/") for path in self.by_class[name]]
        return {step[1] for step in steps if len(step) > 2}

    def _check_depth(self) -> None:
        """Refuses folders such as train/dog and test/dog, or audio/dog and audio/rain: classes may be deeper."""
        if any(path.count("/") == 1 for files in self.by_class.values() for path in files):
            return
        first, *others = self.by_class
        inner = self._inner_folders(first)
        shared = [name for name in sorted(inner) if any(name in self._inner_folders(other) for other in others)]
        if shared or (not others and len(inner) > 1):
            example = f"{first}/{shared[0] if shared else min(inner)}"
            raise ValueError(
                f"expected the sub-folders of {self.folder} to be classes, but all recordings are deeper, such as in "
                f"{example}; where {first!r} is a class, give `class_names`; where its sub-folders are, give the "
                f"folder {self.folder / first}"
            )


def _listed(folder: Path) -> list[Path]:
    """What is in a folder, sorted by name, without hidden files and folders."""
    shown = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return sorted(shown, key=lambda path: (composed(path.name), path.name))


def _below(path: Path, around: tuple[Path, ...]) -> Iterator[tuple[Path, str]]:
    """The files in and below a folder with the kind of those that are left out, in the order of names.

    For another path than a folder, the path itself. A link to one of the folders around it would lead in a circle, and
    is given instead of what is in it.
    """
    if not path.is_dir():
        yield path, _kind(path)
    elif path.resolve() in around:
        yield path, "links to a folder around them"
    else:
        for inner in _listed(path):
            yield from _below(inner, (*around, path.resolve()))


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _kind(path: Path) -> str:
    """The kind of files that a path belongs to if it is left out; empty for an audio file."""
    if _is_audio(path):
        return ""
    if not path.exists():
        return "links to nothing"
    return "files with other suffixes" if path.is_file() else "entries that are no files"
