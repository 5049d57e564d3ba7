"""The call of `Classifier` to paste."""

from __future__ import annotations

import math
from collections.abc import Mapping

from captum_apex.classifiers.classifier import Classifier
from captum_apex.layers.layout import Layout
from captum_apex.layers.suggestions import LayerSuggestion, LayerSuggestions

__all__ = ["changed_classifier", "new_classifier"]

_EXCLUSIVE = {
    True: "exclusive=True,  # one class per clip; False where several can sound at once",
    False: "exclusive=False,  # several classes can sound at once; True where each clip has one",
}


def new_classifier(layers: LayerSuggestions, scores_are: str, n_classes: int, model: str) -> str:
    """The code of a `Classifier` of a model.

    Args:
        layers: the layers of the model, with the axes of its inputs.
        scores_are: what its scores are, from `captum_apex.classifiers.logits.kind_of_scores`.
        n_classes: number of classes.
        model: the code of the model that gives one score per class.

    Example:
        >>> import torch
        >>> from captum_apex import suggest_layers
        >>> from captum_apex.examination.classifier_code import new_classifier
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> layers = suggest_layers(model, torch.rand(2, 1, 20, 40))
        >>> print(new_classifier(layers, "logits", n_classes=2, model="model"))
        import captum_apex
        <BLANKLINE>
        classifier = captum_apex.Classifier(
            model,
            transform,  # your function from a waveform (sample,) to one input, 1 × 20 × 40
            sample_rate=SAMPLE_RATE,  # of the waveforms, in Hz
            class_names=CLASS_NAMES,  # 2 names, in the order of the scores
            axes=captum_apex.SpectrogramAxes.from_transform(mel_spectrogram),  # of 20 bins
            layer=model.get_submodule("0"),
            exclusive=True,  # one class per clip; False where several can sound at once
        )
    """
    letters = layers.input_layout.split()[1:]
    sizes = dict(zip(letters, layers.input_shape, strict=True))
    shape = " × ".join(map(str, layers.input_shape))
    lines = [
        f"{model},",
        f"{_transform(letters, sizes)}  # your function from a waveform (sample,) to one input, {shape}",
        "sample_rate=SAMPLE_RATE,  # of the waveforms, in Hz",
        f"class_names=CLASS_NAMES,  # {n_classes} name{'s' * (n_classes > 1)}, in the order of the scores",
    ]
    if _is_waveform(sizes):
        lines[1] = _transform(letters, sizes)
        lines.append(f"length={sizes['t']},  # samples of a clip; None for files of any length")
    elif "f" in sizes:
        lines.append(f"axes=captum_apex.SpectrogramAxes.from_transform(mel_spectrogram),  # of {sizes['f']} bins")
    if layers:
        lines += _layer_lines(layers[0], "model")
    if len(letters) == 2:
        lines.append(f'input_layout="{layers.input_layout}",')
    if n_classes > 1:
        lines.append(_EXCLUSIVE[scores_are != "sigmoid"])
    return _call("captum_apex.Classifier", lines)


def changed_classifier(classifier: Classifier, layers: LayerSuggestions, changes: Mapping[str, str]) -> str:
    """The code that makes a classifier what it should be; empty where nothing is to be changed.

    Args:
        classifier: the classifier.
        layers: its layers that can be explained.
        changes: further fields of it by name, as code.

    Example:
        >>> import torch
        >>> from captum_apex import Classifier, suggest_layers
        >>> from captum_apex.examination.classifier_code import changed_classifier
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 1))
        >>> classifier = Classifier(model, lambda waveform: waveform[None], 8000, ["dog"])
        >>> print(changed_classifier(classifier, suggest_layers(model, torch.rand(2, 1, 800)), {}))
        import dataclasses
        <BLANKLINE>
        classifier = dataclasses.replace(
            classifier,
            layer=classifier.model.get_submodule("0"),
            layout="n c t -> n c 1 t",
        )
    """
    lines = []
    chosen = [layer for layer in layers if classifier.layer in (None, layer.module)][:1]
    for layer in chosen:
        wanted = _layer_lines(layer, "classifier.model")
        if classifier.layer is None:
            lines.append(wanted[0])
        if Layout.of(classifier.layout) != Layout.of(layer.layout):
            lines += wanted[1:] or ["layout=None,"]
    lines += [f"{field}={code}," for field, code in changes.items()]
    return _call("dataclasses.replace", ["classifier,", *lines]) if lines else ""


def _layer_lines(layer: LayerSuggestion, model: str) -> list[str]:
    layout = [] if layer.layout is None else [f"layout={layer.layout_code},"]
    return [f'layer={model}.get_submodule("{layer.name}"),', *layout]


def _is_waveform(sizes: Mapping[str, int]) -> bool:
    return "f" not in sizes and math.prod(sizes.values()) == sizes["t"]


def _transform(letters: list[str], sizes: Mapping[str, int]) -> str:
    if not _is_waveform(sizes):
        return "transform,"
    return "lambda waveform: waveform," if letters == ["t"] else "lambda waveform: waveform[None],"


def _call(function: str, lines: list[str]) -> str:
    inside = "".join(f"    {line}\n" for line in lines)
    modules = [name for name in ("dataclasses", "captum_apex", "torch") if f"{name}." in f"{function} {inside}"]
    imports = "".join(f"import {name}\n" for name in sorted(modules))
    return f"{imports}\nclassifier = {function}(\n{inside})"
