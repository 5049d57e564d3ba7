"""`layers`: lists the layers that can be explained."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from captum_apex.cli.command_results import print_results
from captum_apex.cli.factory import load_classifier
from captum_apex.cli.layer_choice import layers_of
from captum_apex.layers.suggestions import LayerSuggestion


def run(options: argparse.Namespace) -> int:
    """Lists the layers that can be explained."""
    classifier = load_classifier(options.model, options.device, options.convert)
    layers = layers_of(classifier, None if options.clip is None else classifier.waveform(options.clip))
    if not options.as_json or not layers:
        print(layers, file=sys.stderr if options.as_json else sys.stdout)
    if not layers:
        raise ValueError("expected a model with a layer that can be explained, but there is none")
    if options.as_json:
        print_results("layers", [_row(layer) for layer in layers], [], as_json=True, left_out=layers.left_out)
    elif classifier.layer is None:
        layout = "" if layers[0].layout is None else f", with layout={layers[0].layout_code} in the Classifier"
        print(f"to explain the first: --layer {layers[0].name}{layout}", file=sys.stderr)
    return 0


def _row(layer: LayerSuggestion) -> dict[str, Any]:
    return {
        "name": layer.name,
        "channels": layer.channels,
        "grid": layer.grid,
        "layout": None if layer.layout is None else layer.layout_code,
        "why": layer.reason,
    }
