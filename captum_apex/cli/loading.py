"""Loads and checks what several commands need: the layer, the bases, the folder to write to."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_apex.attribution.apex import APEX
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.bases.schemes import SCHEMES, Scheme
from captum_apex.classifiers.classifier import Classifier
from captum_apex.cli.factory import closest_names
from captum_apex.cli.layer_choice import layers_to_choose_from
from captum_apex.layers.changes import restored
from captum_apex.layers.hooks import held
from captum_apex.layers.models import device_of
from captum_apex.layers.padding import Columns
from captum_apex.layers.values import checked_output
from captum_apex.recordings.folders import Recordings

__all__ = [
    "BASIS_SUFFIX",
    "check_output_folder",
    "chosen_layer",
    "class_scores",
    "list_left_out",
    "load_apex",
    "load_bases",
    "submodule",
    "training_recordings",
]

BASIS_SUFFIX = ".safetensors"
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
        names = closest_names("", [each for each, _ in classifier.model.named_modules() if each])
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
    submodules = dict(model.named_modules())
    submodules.pop("")  # the model itself
    if name not in submodules:
        names = closest_names(name, list(submodules))
        raise ValueError(
            f"expected {option} to be a module of {type(model).__name__}, but got {name!r}; there are: {names}"
        )
    return submodules[name]


def load_bases(paths: Sequence[Path], layer: str | None) -> dict[Path, PrototypeBasis]:
    """The bases of files and of all files in folders, by their path, in the order of `SCHEMES`.

    Args:
        paths: paths of files and folders.
        layer: name of the layer of the bases; None where any layer is allowed.

    Raises:
        FileNotFoundError: there is no basis.
        ValueError: a basis has no prototypes or is of another layer, or two bases are for the same scheme.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from captum_apex import FeatureBank, basis_from_matrix
        >>> from captum_apex.cli.loading import load_bases
        >>> layer = torch.nn.AvgPool2d(3)
        >>> model = torch.nn.Sequential(layer, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        >>> bank = FeatureBank.from_dataset(model, layer, torch.arange(108.0).view(2, 1, 9, 6))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     basis_from_matrix(bank, "time", torch.eye(1), n_prototypes=2).save(Path(folder, "time.safetensors"))
        ...     bases = load_bases([Path(folder)], "0")
        >>> {path.name: str(basis.scheme) for path, basis in bases.items()}
        {'time.safetensors': 'time'}
    """
    files = [file for path in paths for file in (sorted(path.glob(f"*{BASIS_SUFFIX}")) if path.is_dir() else [path])]
    if not files:
        raise FileNotFoundError(f"expected bases, *{BASIS_SUFFIX}, in {', '.join(map(str, paths))}, but there are none")
    bases = {file: PrototypeBasis.load(file) for file in files}
    seen: dict[Scheme, Path] = {}
    for file, basis in bases.items():
        if basis.positive is None:
            raise ValueError(f"expected a basis with prototypes, but {file} has none")
        if layer is not None and basis.origin.layer != layer:
            raise ValueError(
                f"expected a basis of the layer {layer!r}, but {file} was fitted on {basis.origin.layer!r}"
            )
        if basis.scheme in seen:
            raise ValueError(
                f"expected one basis per scheme, but {seen[basis.scheme]} and {file} are both for {str(basis.scheme)!r}"
            )
        seen[basis.scheme] = file
    return {seen[scheme]: bases[seen[scheme]] for scheme in SCHEMES if scheme in seen}


def load_apex(classifier: Classifier, path: Path, basis: PrototypeBasis, columns: Columns | None = None) -> APEX:
    """The attribution object of a basis and a classifier; where the two do not fit, the ValueError names the file.

    Args:
        classifier: the classifier.
        path: path of the file of the basis.
        basis: the basis.
        columns: columns of the grid that belong to a clip, as in `APEX`.

    Raises:
        ValueError: the basis does not fit the model.

    Example:
        >>> from pathlib import Path
        >>> import torch
        >>> from captum_apex import Classifier, FeatureBank, basis_from_matrix
        >>> from captum_apex.cli.loading import load_apex
        >>> layer = torch.nn.AvgPool2d(3)
        >>> model = torch.nn.Sequential(layer, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        >>> bank = FeatureBank.from_dataset(model, layer, torch.arange(108.0).view(2, 1, 9, 6))
        >>> basis = basis_from_matrix(bank, "time", torch.eye(1), n_prototypes=2)
        >>> classifier = Classifier(model, lambda waveform: waveform.view(1, 9, 6), 8000, ["dog"])
        >>> load_apex(classifier, Path("time.safetensors"), basis).layer is layer
        True
    """
    model = classifier.model
    layout = classifier.input_layout
    try:
        layer = submodule(model, basis.origin.layer)
        return APEX(model, layer, basis, input_layout=layout, columns=columns)
    except ValueError as error:
        raise ValueError(f"{path} does not fit this model: {error}") from error


@restored
def class_scores(classifier: Classifier, inputs: Tensor, name: str) -> list[float]:
    """The model's scores for one input, after a check that it takes the input and gives one score per class.

    Args:
        classifier: the classifier.
        inputs: input of the model for one clip, without the clip axis.
        name: name of the clip, for the error.

    Raises:
        ValueError: the model raises an exception for the input, or gives another number of scores.

    Example:
        >>> import torch
        >>> from captum_apex import Classifier
        >>> from captum_apex.cli.loading import class_scores
        >>> classifier = Classifier(torch.nn.Flatten(), lambda waveform: waveform, 8000, ["dog", "rain"])
        >>> class_scores(classifier, torch.tensor([1.5, -0.5]), "barking.wav")
        [1.5, -0.5]
    """
    try:
        with torch.no_grad(), held(classifier.model):
            output = classifier.model(inputs[None].to(device_of(classifier.model)))
    except Exception as error:  # the user's code can raise anything
        shape = (1, *inputs.shape)
        raise ValueError(
            f"expected the model to take what the transform gives for {name}, of shape {shape}, but it raised "
            f"{type(error).__name__}: {error}"
        ) from error
    n_classes = len(classifier.class_names)
    if checked_output(output, classifier.model).numel() != n_classes:
        raise ValueError(
            f"expected the model to give a tensor of one score for each of the {n_classes} classes, but got shape "
            f"{tuple(output.shape)}"
        )
    return output.flatten().tolist()


def training_recordings(classifier: Classifier, folder: Path, skip_bad: bool) -> Recordings:
    """The recordings of a folder, by the classes of the classifier.

    Args:
        classifier: the classifier.
        folder: folder of recordings, or of a sub-folder per class.
        skip_bad: whether files that cannot be read or transformed are left out and listed. All files are then read.

    Raises:
        ValueError: no file can be read.

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
    recordings = Recordings.in_folder(folder, classifier.class_names)
    if not skip_bad:
        return recordings
    inputs = classifier.dataset(recordings)
    with tqdm(total=len(recordings), desc="reading", unit="file") as bar:

        def attempt(index: int) -> None:
            bar.update()
            inputs.input(index)

        readable, bad = recordings.readable(attempt)
    list_left_out(bad, len(recordings))
    return readable


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
        name, message = next(iter(bad.items()))
        raise ValueError(f"expected files that can be read, but all {n_files} are bad, such as {name}: {message}")
    print(f"{len(bad)} of {n_files} files are left out:", file=sys.stderr)
    for name, message in bad.items():
        print(f"  {name}: {message}", file=sys.stderr)
