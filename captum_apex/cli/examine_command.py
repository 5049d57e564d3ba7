"""`examine`: reports what can be explained in a model, and what would make that wrong."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from captum_apex.cli.command_results import print_results
from captum_apex.cli.factory import load_classifier, said_where_slow
from captum_apex.examination import Examination, ExaminedLayer, examine

_MOST_CLIPS = 2


def run(options: argparse.Namespace) -> int:
    """Prints the report."""
    if len(options.clips) > _MOST_CLIPS:
        raise ValueError(f"expected one or two audio files, but got {len(options.clips)}")
    classifier = load_classifier(options.model, options.device, options.convert)
    with said_where_slow("examining the model …"):
        examination = examine(classifier, options.clips or None, seconds=options.seconds)
    if options.as_json:
        print_results("layers", [_row(layer) for layer in examination.layers], [], as_json=True, **_about(examination))
    else:
        print(examination)
    return 0


def _row(layer: ExaminedLayer) -> dict[str, Any]:
    suggestion = layer.suggestion
    return {
        "name": suggestion.name,
        "channels": suggestion.channels,
        "grid": suggestion.grid,
        "layout": None if suggestion.layout is None else suggestion.layout_code,
        "why": suggestion.reason,
        "places": asdict(layer.places),
        "columns_per_second": layer.columns_per_second,
        "first_second": layer.first_second,
        "receptive_field_s": layer.receptive_field_seconds,
        "effect": layer.effect,
        "delta": layer.delta,
        "fault": layer.fault,
    }


def _about(examination: Examination) -> dict[str, Any]:
    """The report without its layers."""
    names = ("model_name", "input_layout", "input_shape", "left_out", "scores", "class_names", "scores_are")
    others = ("predicted", "batch_difference", "faults", "code")
    return {name: getattr(examination, name) for name in (*names, *others)}
