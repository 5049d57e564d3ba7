"""The audio files in a folder and in its sub-folders, in an order that depends only on their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from captum_apex.recordings.class_labels import class_indices, composed

__all__ = ["SUFFIXES", "audio_files", "check_files", "files_by_folder", "folder_labels", "left_out"]

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


def files_by_folder(folder: Path) -> dict[str, list[str]]:
    """The audio files in and below each sub-folder that has any, in the order of names.

    Args:
        folder: the folder.

    Returns:
        For each sub-folder, the paths of its files from there, with `/` as separator.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.recordings.folder_files import files_by_folder
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("dog/a.wav", "dog/day1/b.wav", "fox/notes.txt"):
        ...         Path(folder, name).parent.mkdir(exist_ok=True)
        ...         Path(folder, name).touch()
        ...     files_by_folder(Path(folder))
        {'dog': ['a.wav', 'day1/b.wav']}
    """
    by_folder = {
        inner.name: [path.relative_to(inner).as_posix() for path in _below(inner, _around(folder)) if _is_audio(path)]
        for inner in _listed(folder)
        if inner.is_dir()
    }
    return {name: files for name, files in by_folder.items() if files}


def left_out(folder: Path) -> str:
    """What is in and below a folder, but is not read: how much of each kind, with examples.

    Args:
        folder: the folder.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.recordings.folder_files import left_out
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for name in ("a.wav", "a.txt", "b.txt"):
        ...         Path(folder, name).touch()
        ...     left_out(Path(folder))
        'files with other suffixes (2: a.txt, b.txt)'
    """
    kinds: dict[str, list[str]] = {}
    for top in _listed(folder):
        entries = list(_below(top, _around(folder)))
        if top not in entries and not any(map(_is_audio, entries)):
            kinds.setdefault("sub-folders without recordings", []).append(top.name)
        for path in entries:
            kind = _kind(path)
            if kind:
                kinds.setdefault(kind, []).append(path.relative_to(folder).as_posix())
    return "; ".join(
        f"{kind} ({len(names)}: {', '.join(names[:_N_EXAMPLES])}{', …' if len(names) > _N_EXAMPLES else ''})"
        for kind, names in kinds.items()
    )


def check_files(folder: Path, files: Sequence[str], by_folder: Mapping[str, Sequence[str]], has_classes: bool) -> None:
    """Raises where the audio files of a folder are neither files without labels nor sub-folders of classes.

    Args:
        folder: the folder.
        files: the audio files directly in the folder.
        by_folder: the audio files in and below each sub-folder.
        has_classes: whether the names of the classes are known otherwise than from the names of the sub-folders.

    Raises:
        FileNotFoundError: there is no audio file.
        ValueError: there are audio files beside sub-folders, two sub-folders have the same name in Unicode's composed
            form, or classes may be folders that are deeper.

    Example:
        >>> from pathlib import Path
        >>> from captum_apex.recordings.folder_files import check_files
        >>> check_files(Path("sounds"), ["a.wav"], {"dog": ["b.wav"]}, has_classes=False)
        Traceback (most recent call last):
            ...
        ValueError: expected either a sub-folder per class or only files, but sounds has the file 'a.wav' beside the \
sub-folder 'dog'
    """
    if files and by_folder:
        raise ValueError(
            f"expected either a sub-folder per class or only files, but {folder} has the file {files[0]!r} beside "
            f"the sub-folder {next(iter(by_folder))!r}"
        )
    if not files and not by_folder:
        said = left_out(folder)
        raise FileNotFoundError(
            f"expected audio files ({', '.join(SUFFIXES)}) in {folder} or its sub-folders, but there are none: "
            f"{f'only {said}' if said else 'it is empty'}"
        )
    names = [composed(name) for name in by_folder]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ValueError(
            f"expected sub-folders of {folder} with different names, but {twice[0]!r} is there composed and decomposed "
            "(NFC and NFD); put the files of both into one"
        )
    if by_folder and not has_classes:
        _check_depth(folder, by_folder)


def folder_labels(folder: Path, by_folder: Mapping[str, Sequence[str]], class_names: Sequence[str]) -> dict[str, int]:
    """The index of the class of each sub-folder.

    Args:
        folder: the folder.
        by_folder: the audio files in and below each sub-folder.
        class_names: names of the classes, in the order of the labels.

    Raises:
        ValueError: a sub-folder means no class or could mean several, or two mean the same.

    Example:
        >>> from pathlib import Path
        >>> from captum_apex.recordings.folder_files import folder_labels
        >>> folder_labels(Path("sounds"), {"001_dog_bark": [], "rain": []}, ["rain", "dog bark"])
        {'001_dog_bark': 1, 'rain': 0}
    """
    try:
        labels = class_indices(by_folder, class_names)
    except ValueError as error:
        raise ValueError(f"expected each sub-folder of {folder} to mean one class: {error}") from error
    unknown = [name for name in by_folder if name not in labels]
    if unknown:
        inner = {file.partition("/")[0] for file in by_folder[unknown[0]]} & set(class_names)
        advice = (
            f"{unknown[0]}/{min(inner)} is, so give the folder {folder / unknown[0]}"
            if inner
            else "if the files have no labels, put all of them into one folder"
        )
        raise ValueError(
            f"expected the sub-folders of {folder} to be named like classes ({', '.join(class_names)}), "
            f"but got {unknown[0]!r}; {advice}"
        )
    return labels


def _check_depth(folder: Path, by_folder: Mapping[str, Sequence[str]]) -> None:
    """Refuses folders such as train/dog and test/dog, or audio/dog and audio/rain, whose classes may be deeper."""
    if any("/" not in file for files in by_folder.values() for file in files):
        return
    inner = {name: {file.partition("/")[0] for file in files} for name, files in by_folder.items()}
    first, *others = inner
    shared = [name for name in sorted(inner[first]) if any(name in inner[other] for other in others)]
    if shared or (not others and len(inner[first]) > 1):
        example = f"{first}/{shared[0] if shared else min(inner[first])}"
        raise ValueError(
            f"expected the sub-folders of {folder} to be classes, but all recordings are deeper, such as in {example}; "
            f"where {first!r} is a class, give `class_names`; where its sub-folders are, give the folder "
            f"{folder / first}"
        )


def _listed(folder: Path) -> list[Path]:
    """What is in a folder, sorted by name, without hidden files and folders."""
    shown = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return sorted(shown, key=lambda path: (composed(path.name), path.name))


def _around(folder: Path) -> tuple[Path, ...]:
    return (folder.resolve(), *folder.resolve().parents)


def _below(path: Path, around: tuple[Path, ...]) -> Iterator[Path]:
    """The files in and below a folder, in the order of names; for another path than a folder, the path itself.

    A link to one of the folders around it would lead in a circle, and is given instead of what is in it.
    """
    if not path.is_dir() or path.resolve() in around:
        yield path
        return
    for inner in _listed(path):
        yield from _below(inner, (*around, path.resolve()))


def _is_audio(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _kind(path: Path) -> str:
    """The kind of files that a path belongs to if it is left out; empty if it is not."""
    if path.is_dir():
        return "links to a folder around them"
    if not path.exists():
        return "links to nothing"
    if not path.is_file():
        return "entries that are no files"
    return "" if path.suffix.lower() in SUFFIXES else "files with other suffixes"
