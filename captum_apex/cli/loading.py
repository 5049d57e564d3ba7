"""Loads and checks what several commands need: the layer, the bases, the folder to write to."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from captum_apex.attribution.layer_apex import LayerAPEX
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.bases.schemes import SCHEMES, Scheme
from captum_apex.classifiers.classifier import Classifier
from captum_apex.cli.factory import closest_names
from captum_apex.layers.models import device_of
from captum_apex.layers.padding import Columns

BASIS_SUFFIX = ".safetensors"


def check_output_folder(path: Path) -> None:
    """Raises where no file can be written at a path; commands call it before they compute anything."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"expected {path} in a folder that can be written to, but {folder} is none")


def chosen_layer(classifier: Classifier, name: str | None) -> nn.Module:
    """The module of the model that has this name; the classifier's layer where no name is given."""
    if name is not None:
        return _submodule(classifier.model, name)
    if classifier.layer is None:
        names = closest_names("", [name for name, _ in classifier.model.named_modules() if name])
        raise ValueError(f"expected --layer, or a Classifier with a `layer`, but there is neither; there are: {names}")
    return classifier.layer


def _submodule(model: nn.Module, name: str) -> nn.Module:
    submodules = dict(model.named_modules())
    submodules.pop("")  # the model itself
    if name not in submodules:
        names = closest_names(name, list(submodules))
        raise ValueError(
            f"expected --layer to be a module of {type(model).__name__}, but got {name!r}; there are: {names}"
        )
    return submodules[name]


def load_bases(paths: Sequence[Path], layer: str | None) -> dict[Path, PrototypeBasis]:
    """The bases of files and of all files in folders, by their path, in the order of `SCHEMES`."""
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


def load_apex(model: nn.Module, path: Path, basis: PrototypeBasis, columns: Columns | None = None) -> LayerAPEX:
    """The attribution object of a basis and a model; where the two do not fit, the ValueError names the file."""
    try:
        return LayerAPEX(model, _submodule(model, basis.origin.layer), basis, columns=columns)
    except ValueError as error:
        raise ValueError(f"{path} does not fit this model: {error}") from error


def class_scores(classifier: Classifier, inputs: Tensor, name: str) -> list[float]:
    """The model's scores for one input, after a check that it takes the input and gives one score per class."""
    try:
        with torch.no_grad():
            output = classifier.model(inputs[None].to(device_of(classifier.model)))
    except Exception as error:  # the user's code can raise anything
        shape = (1, *inputs.shape)
        raise ValueError(
            f"expected the model to take what the transform gives for {name}, of shape {shape}, but it raised "
            f"{type(error).__name__}: {error}"
        ) from error
    n_classes = len(classifier.class_names)
    if not isinstance(output, Tensor) or output.numel() != n_classes:
        got = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"expected the model to give a tensor of one score for each of the {n_classes} classes, but got {got}"
        )
    return output.flatten().tolist()
