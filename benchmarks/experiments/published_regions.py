"""Where the regions of batdetect2's evidence lie, beside the boxes that are published with the recordings."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from benchmarks.experiments.published_rows import Measured
from benchmarks.published.bat_calls import COLUMNS, box_of, windows
from captum_apex import APEX, Explanation, Region, explain

ROWS = 128  # of the input
N_PLACES = 50  # random places of a region
AXES = {"time": (1,), "frequency": (0,)}  # the axes of the input along which a region of these schemes has a place


def region_lines(subject: Measured, every: int = 1) -> pd.DataFrame:
    """How the regions of the strongest channels meet the calls of the explained species.

    Args:
        subject: batdetect2 with its bases.
        every: explain only one of so many windows.

    Returns:
        One line per `scheme`:

        - `regions`: number of regions, one for each window with a call of the predicted species.
        - `met`: share of the regions that meet a box; `met_random` for the same regions at random places.
        - `inside`: share of the region's area in boxes; `inside_random`.
        - `iou`: intersection over union with the boxes of the window; `iou_random`.
    """
    generator = torch.Generator().manual_seed(0)
    lines = []
    for basis in subject.bases:
        assert subject.classifier.layer is not None
        apex = APEX(subject.classifier.model, subject.classifier.layer, basis)
        explanations = explain(apex, subject.inputs[::every], n_channels=1)
        entries = [
            _compared(region, boxes, str(basis.scheme), generator)
            for region, boxes in _regions_and_boxes(subject, explanations, every)
        ]
        table = pd.DataFrame(entries)
        lines.append({"scheme": str(basis.scheme), "regions": len(table)} | table.mean().to_dict())
    return pd.DataFrame(lines)


def _regions_and_boxes(subject: Measured, explanations: list[Explanation], every: int) -> list[tuple[Tensor, Tensor]]:
    """The masks of the strongest region and of the boxes of the explained species, bool (row, column)."""
    masks = []
    for window, explanation in zip(with_calls()[::every], explanations, strict=True):
        species = subject.classifier.class_names[int(explanation.target)]
        boxes = tuple(box_of(call, window.start) for call in window.calls if call.species == species)
        if boxes and explanation.evidence:
            region = explanation.evidence[0].region
            masks.append((region.mask(ROWS, COLUMNS), Region(boxes).mask(ROWS, COLUMNS)))
    return masks


def with_calls() -> list:
    """The explained windows, in the order of the clips."""
    return [window for window in windows("test") if window.calls]


def _compared(region: Tensor, boxes: Tensor, scheme: str, generator: torch.Generator) -> dict[str, float]:
    """Measures of a region and of the same region at random places; along the scheme's axes alone."""
    for axis in set(AXES.get(scheme, (0, 1))) ^ {0, 1}:  # a strip covers all rows, so the boxes do, too
        boxes = boxes.any(axis, keepdim=True).expand_as(boxes)
        region = region.any(axis, keepdim=True).expand_as(region)
    axes = AXES.get(scheme, (0, 1))
    values = _measures(region, boxes)
    places = []
    for _ in range(N_PLACES):
        shifts = tuple(int(torch.randint(region.shape[axis], (), generator=generator)) for axis in axes)
        places.append(_measures(region.roll(shifts, axes), boxes))
    return values | {f"{name}_random": sum(place[name] for place in places) / N_PLACES for name in values}


def _measures(region: Tensor, boxes: Tensor) -> dict[str, float]:
    common = (region & boxes).sum().item()
    return {
        "met": float(common > 0),
        "inside": common / max(region.sum().item(), 1),
        "iou": common / max((region | boxes).sum().item(), 1),
    }
