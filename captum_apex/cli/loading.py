"""What several commands load and check: the layer, the bases, the folder to write to."""

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
from captum_apex.cli.factory import near
from captum_apex.cli.parser import SUFFIX
from captum_apex.layers.padding import Columns


def check_output_folder(path: Path) -> None:
    """Raises where no file can be written at a path: before the long work, not after it."""
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"expected {path} in a folder that can be written to, but {folder} is none")


def chosen_layer(classifier: Classifier, name: str | None) -> nn.Module:
    """The part of the model that has this name; the classifier's own layer where none is given."""
    if name is not None:
        return _part(classifier.model, name)
    if classifier.layer is None:
        there = near("", [own for own, _ in classifier.model.named_modules() if own])
        raise ValueError(f"expected --layer, or a Classifier with a `layer`, but there is neither; there are: {there}")
    return classifier.layer


def _part(model: nn.Module, name: str) -> nn.Module:
    """The part of a model that has this name."""
    parts = {own: part for own, part in model.named_modules() if own}
    if name not in parts:
        raise ValueError(
            f"expected --layer to be a part of {type(model).__name__}, but got {name!r}; there are: {near(name, list(parts))}"
        )
    return parts[name]


def load_bases(paths: Sequence[Path], layer: str | None) -> dict[Path, PrototypeBasis]:
    """The bases of all files, and of all files in folders, in the schemes' order."""
    files = [file for path in paths for file in (sorted(path.glob(f"*{SUFFIX}")) if path.is_dir() else [path])]
    if not files:
        raise FileNotFoundError(f"expected bases, *{SUFFIX}, in {', '.join(map(str, paths))}, but there are none")
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
    """The attribution of a basis on a model; a ValueError names the file where the two do not fit."""
    try:
        return LayerAPEX(model, _part(model, basis.origin.layer), basis, columns=columns)
    except ValueError as error:
        raise ValueError(f"{path} does not fit this model: {error}") from error


def class_scores(classifier: Classifier, inputs: Tensor, name: str) -> list[float]:
    """The model's scores of one input, after making sure that it takes it and gives one score per class."""
    device = next((tensor.device for tensor in classifier.model.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            output = classifier.model(inputs[None].to(device))
    except Exception as error:  # the user's code
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
