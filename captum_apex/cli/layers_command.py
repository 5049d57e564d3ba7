"""`layers`: lists the layers that can be explained."""

from __future__ import annotations

import argparse
import sys

from captum_apex.cli.factory import load_classifier
from captum_apex.cli.layer_choice import layers_of


def run(options: argparse.Namespace) -> int:
    """Lists the layers that can be explained."""
    classifier = load_classifier(options.model, options.device, options.convert)
    layers = layers_of(classifier, None if options.clip is None else classifier.waveform(options.clip))
    print(layers)
    if not layers:
        raise ValueError("expected a model with a layer that can be explained, but there is none")
    if classifier.layer is None:
        layout = "" if layers[0].layout is None else f", with layout={layers[0].layout_code} in the Classifier"
        print(f"to explain the first: --layer {layers[0].name}{layout}", file=sys.stderr)
    return 0
