"""The layers of a classifier that can be explained."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor, nn

from captum_apex.classifiers.classifier import Classifier
from captum_apex.classifiers.logits import checked_scores
from captum_apex.layers.changes import restored
from captum_apex.layers.hooks import hooked
from captum_apex.layers.suggestions import LayerSuggestion, LayerSuggestions, suggest_layers

__all__ = ["layers_of", "layers_to_choose_from"]

_MOST_LAYERS = 5


@restored
def layers_of(classifier: Classifier, waveform: Tensor | None = None) -> LayerSuggestions:
    """The layers of a classifier that can be explained.

    Args:
        classifier: the classifier.
        waveform: samples of a clip at the classifier's sample rate, (sample,); None for noise of the length of its
            clips, or of five seconds where it has none.

    Raises:
        ValueError: the transform or the model does not take the waveform.

    Example:
        >>> from torch import nn
        >>> from captum_apex import Classifier
        >>> from captum_apex.cli.layer_choice import layers_of
        >>> model = nn.Sequential(nn.Conv1d(1, 4, 3), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> classifier = Classifier(model, lambda waveform: waveform[None], 8000, ["dog", "rain"], length=800)
        >>> layers_of(classifier)[0].layout
        'n c t -> n c 1 t'
    """
    if waveform is None:
        length = classifier.length or 5 * classifier.sample_rate
        waveform = 0.1 * torch.randn(length, generator=torch.Generator().manual_seed(0))
    inputs = classifier.inputs(waveform)
    outputs: list[Any] = []
    noted: AbstractContextManager = nullcontext()
    if isinstance(classifier.model, nn.Module):
        noted = hooked(classifier.model, lambda _, __, output: outputs.append(output))
    try:
        with noted:
            layers = suggest_layers(classifier.model, inputs[None], input_layout=classifier.input_layout)
        checked_scores(outputs[-1][:1], len(classifier.class_names))
    except Exception:  # the user's code can raise anything; the classifier's errors say more of the transform
        classifier.scores(inputs)
        return suggest_layers(classifier.model, inputs[None], input_layout=classifier.input_layout)
    return layers


def layers_to_choose_from(classifier: Classifier) -> str:
    """The layers that can be explained, as the end of a message; empty where the model or its transform fails.

    Args:
        classifier: the classifier.

    Example:
        >>> from torch import nn
        >>> from captum_apex import Classifier
        >>> from captum_apex.cli.layer_choice import layers_to_choose_from
        >>> model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        >>> classifier = Classifier(model, lambda waveform: waveform.view(1, 20, 40), 8000, ["a", "b"], length=800)
        >>> layers_to_choose_from(classifier)
        '; those that can be explained, the best first: 0'
    """
    layers: Sequence[LayerSuggestion] = ()
    with suppress(ValueError, TypeError):
        layers = layers_of(classifier)[:_MOST_LAYERS]
    if not layers:
        return ""
    needed = [f" (with layout={layer.layout_code} in the Classifier)" * (layer.layout is not None) for layer in layers]
    listed = ", ".join(f"{layer.name}{layout}" for layer, layout in zip(layers, needed, strict=True))
    return f"; those that can be explained, the best first: {listed}"
