"""Loads and checks what several commands need: the layer, the bases, the folder to write to."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from captum_apex.classifiers.class_names import closest_names
from captum_apex.classifiers.classifier import Classifier
from captum_apex.classifiers.logits import naming_score_counts
from captum_apex.cli.layer_choice import layers_to_choose_from
from captum_apex.explaining.bad_files import all_bad_text, left_out_text, readable_recordings
from captum_apex.layers.chosen_run import named_layers
from captum_apex.layers.models import model_of
from captum_apex.recordings.audio_file import UnreadableAudioError
from captum_apex.recordings.folders import Recordings
from captum_apex.recordings.slices import Slices

__all__ = [
    "check_output_folder",
    "chosen_layer",
    "list_left_out",
    "naming_skip_bad",
    "submodule",
    "training_recordings",
]

TABLE_SUFFIXES = (".csv", ".tsv")  # of a path that may not exist, for the right message
_PROBE = bytes(1_000_000)  # the size of a small basis or page


def check_output_folder(path: Path) -> None:
    """Raises where no file can be written at a path; commands call it before they compute anything.

    It writes a megabyte beside the file and deletes it, because only that tells whether there is space.

    Args:
        path: path of the file to write; folders that do not exist yet are allowed.

    Raises:
        ValueError: the path is a folder, or the nearest existing folder is none or cannot be written to.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_apex.cli.loading import check_output_folder
        >>> with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        ...     try:
        ...         check_output_folder(Path(file.name, "page.html"))
        ...     except ValueError as error:
        ...         print(str(error)[-24:])
        is none: Not a directory
    """
    folder = path.absolute().parent
    try:
        while not os.path.lexists(folder):
            folder = folder.parent
        if path.is_dir():
            raise ValueError(f"expected a file to write, but {path} is a folder")
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".captum-apex-") as probe:
            probe.write(_PROBE)
    except OSError as error:
        raise ValueError(
            f"expected {path} in a folder that can be written to, but {folder} is none: {error.strerror}"
        ) from error


def chosen_layer(classifier: Classifier, name: str | None) -> nn.Module:
    """The module of the model that has this name; the classifier's layer where no name is given.

    Args:
        classifier: the classifier.
        name: name of the module in the model; None for the classifier's layer.

    Raises:
        ValueError: the model has no such module, or neither a name nor a layer is given; the message lists the layers
            that can be explained.

    Example:
        >>> from torch import nn
        >>> from captum_apex import Classifier
        >>> from captum_apex.cli.loading import chosen_layer
        >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
        >>> chosen_layer(Classifier(model, lambda waveform: waveform, 8000, ["dog"]), "1")
        ReLU()
    """
    if name is None and classifier.layer is not None:
        return classifier.layer
    try:
        if name is not None:
            return submodule(classifier.model, name)
        names = closest_names("", list(_submodules(classifier.model)))
        raise ValueError(f"expected --layer, or a Classifier with a `layer`, but there is neither; there are: {names}")
    except ValueError as error:
        raise ValueError(f"{error}{layers_to_choose_from(classifier)}") from None


def submodule(model: nn.Module, name: str, option: str = "--layer") -> nn.Module:
    """The module of a model that has a name.

    Args:
        model: the model.
        name: name of the module.
        option: the option that gave the name, for messages.

    Raises:
        ValueError: the model has no such module.

    Example:
        >>> from torch import nn
        >>> from captum_apex.cli.loading import submodule
        >>> submodule(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), "1")
        ReLU()
    """
    submodules = _submodules(model)
    if name not in submodules:
        names = closest_names(name, list(submodules))
        raise ValueError(
            f"expected {option} to be a module of {type(model).__name__}, but got {name!r}; there are: {names}"
        )
    return submodules[name]


def _submodules(model: nn.Module) -> dict[str, nn.Module]:
    """The modules of a model by name, without the model itself."""
    return {name: module for name, module in named_layers(model_of(model) or model) if name}


def training_recordings(
    classifier: Classifier, folder: Path, skip_bad: bool, sliced: bool = False, annotations: Path | None = None
) -> Recordings | Slices:
    """The recordings of a folder or of a CSV file, by the classes of the classifier.

    Args:
        classifier: the classifier.
        folder: folder of recordings, or of a sub-folder per class; or a CSV file with a column of files and a column of
            labels under usual names, as `Recordings.from_csv` finds them.
        skip_bad: whether files that are missing or cannot be read or transformed are left out and listed. All files are
            then read.
        sliced: whether recordings are sliced into clips of the classifier's length.
        annotations: CSV file that says where the classes sound, as in `Slices.of`; None for the labels of the files.

    Raises:
        ValueError: no file can be read, or the length of a slice is not known.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from captum_apex import Classifier, listening
        >>> from captum_apex.cli.loading import training_recordings
        >>> classifier = Classifier(torch.nn.Linear(9, 1), lambda waveform: waveform[:9], 8000, ["dog"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     listening.write(Path(folder, "a.wav"), torch.zeros(100), 8000)
        ...     training_recordings(classifier, Path(folder), skip_bad=True).names
        ('a.wav',)
    """
    with naming_score_counts(classifier):
        recordings = _recordings(classifier, folder, skip_bad)
    if not skip_bad:
        return _sliced(classifier, recordings, sliced, annotations)
    readable, bad = readable_recordings(classifier, recordings, progress=True)
    list_left_out(bad, len(recordings))
    return _sliced(classifier, readable, sliced, annotations)


def _recordings(classifier: Classifier, folder: Path, skip_missing: bool) -> Recordings:
    class_names = classifier.class_names
    if folder.is_file() or folder.suffix.lower() in TABLE_SUFFIXES:
        return Recordings.from_csv(
            folder, class_names=class_names, skip_missing=skip_missing, background=classifier.background
        )
    return Recordings.in_folder(folder, class_names, background=classifier.background)


@contextmanager
def naming_skip_bad() -> Iterator[None]:
    """Adds to the error for a file that cannot be read that `--skip-bad` leaves such files out.

    Example:
        >>> from captum_apex.cli.loading import naming_skip_bad
        >>> from captum_apex.recordings.audio_file import UnreadableAudioError
        >>> try:
        ...     with naming_skip_bad():
        ...         raise UnreadableAudioError("expected a.wav to be audio")
        ... except ValueError as error:
        ...     print(error)
        expected a.wav to be audio; --skip-bad leaves out files that cannot be read
    """
    try:
        yield
    except UnreadableAudioError as error:
        raise ValueError(f"{error}; --skip-bad leaves out files that cannot be read") from error


def _sliced(
    classifier: Classifier, recordings: Recordings, sliced: bool, annotations: Path | None
) -> Recordings | Slices:
    if not sliced and annotations is None:
        return recordings
    if classifier.length is None:
        raise ValueError("expected a Classifier with a `length` for --slice, which is that of a slice, but got None")
    seconds = classifier.length / classifier.sample_rate
    return Slices.of(recordings, seconds, annotations=annotations, background=classifier.background)


def list_left_out(bad: Mapping[str, str], n_files: int) -> None:
    """Lists the files that `--skip-bad` leaves out.

    Args:
        bad: the message of the error for each bad file, by its path.
        n_files: number of all files.

    Raises:
        ValueError: all files are bad.

    Example:
        >>> import contextlib, sys
        >>> from captum_apex.cli.loading import list_left_out
        >>> with contextlib.redirect_stderr(sys.stdout):
        ...     list_left_out({"a.wav": "it is empty"}, n_files=3)
        1 of 3 files are left out:
          a.wav: it is empty
    """
    if not bad:
        return
    if len(bad) == n_files:
        raise ValueError(all_bad_text(bad))
    print(left_out_text(bad, n_files), file=sys.stderr)
