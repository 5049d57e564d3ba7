"""What a folder of parts of a bank holds, and what it lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from captum_apex.bases.joined_parts import begun_parts, unfinished_parts
from captum_apex.bases.part_files import PartFiles
from captum_apex.cli.descriptions import origin_facts, schemes_of
from captum_apex.layers.layout import Layout
from captum_apex.layers.origin import Origin

__all__ = ["describe_parts"]


def describe_parts(folder: Path) -> dict[str, Any]:
    """What a folder of parts of a bank holds, finished or not.

    Args:
        folder: path of the folder.

    Raises:
        ValueError: no part has been begun, or parts are damaged or not of one bank.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import torch
        >>> from captum_apex import FeatureBank
        >>> from captum_apex.cli.part_descriptions import describe_parts
        >>> model = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     bank = FeatureBank.from_dataset(model, model[0], torch.ones(4, 1, 4, 5), folder=folder, part=(0, 2))
        ...     description = describe_parts(Path(folder))
        >>> description["n_written"], description["n_clips"], description["unfinished"]
        (2, 4, ['part-1-of-2 is missing'])
    """
    try:
        unfinished = unfinished_parts(folder)
        parts = begun_parts(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"expected {folder} to hold parts of a feature bank, but it cannot be read: {error}"
        ) from error
    if not parts or not all(part.n_written for part in parts):
        raise ValueError(f"expected {folder} to hold parts of a feature bank, but none of their clips are counted yet")
    names = parts[0].names
    n_finished = sum("origin" in part.details for part in parts)
    return {
        "kind": "bank",
        "n_channels": parts[0].shape("means")[1],
        "schemes": schemes_of(names),
        "has_labels": "labels" in names,
        "n_bytes": sum(part.n_bytes for part in parts),
        **origin_facts(asdict(_origin(parts))),
        "n_parts": n_finished + len(unfinished),
        "n_finished": n_finished,
        "n_written": sum(part.n_written for part in parts),
        "unfinished": unfinished,
        "format": "captum-apex part 1",
    }


def _origin(parts: Sequence[PartFiles]) -> Origin:
    """The record of the bank, as far as its parts have come."""
    about = parts[0].about
    shapes = {tuple(shape) for part in parts for shape in part.details["input_shapes"]}
    return Origin(
        about["layer"],
        Layout(**about["layout"]),
        grid=(parts[0].details["grid_rows"], max(part.widest for part in parts)),
        input_shape=next(iter(shapes)) if len(shapes) == 1 and not about["padded"] else None,
        fingerprint=about["weights"],
        n_clips=about["n_clips"],
        at_input=about["at_input"],
        dataset=about["dataset"],
        norm=about["norm"],
    )
