"""Where the regions of batdetect2's evidence lie, beside the boxes that are published with the recordings."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor

from benchmarks.experiments.published_rows import N_CHANNELS, Measured
from benchmarks.published.bat_calls import COLUMNS, Window, box_of, windows
from captum_apex import APEX, Evidence, Explanation, PrototypeBasis, Region, explain
from captum_apex.attribution import Decomposition

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


def elsewhere_lines(subject: Measured, every: int = 1, n_channels: int = N_CHANNELS) -> pd.DataFrame:
    """How many channels fire more strongly elsewhere than they count, and which of both places is a call.

    Args:
        subject: batdetect2 with its bases.
        every: explain only one of so many windows.
        n_channels: channels of the evidence of each window.

    Returns:
        One line per `scheme`, over the windows with a call of the predicted species:

        - `channels`: number of channels in the evidence.
        - `elsewhere`: share of them that fire elsewhere, as the effect of their region says.
        - `level`: median activation of these at the cell where they count most, as a share of that at the peak cell.
        - `region_met`, `cell_met`: share of these whose region, and whose peak cell, meets a box.
    """
    lines = []
    for basis in subject.bases:
        assert subject.classifier.layer is not None
        apex = APEX(subject.classifier.model, subject.classifier.layer, basis)
        inputs = subject.inputs[::every]
        decomposition = apex.layer_apex.decompose(inputs, predicted=True)
        explanations = explain(apex, inputs, n_channels=n_channels)
        entries = []
        for clip, (window, explanation) in enumerate(zip(with_calls()[::every], explanations, strict=True)):
            boxes = _boxes(subject, window, explanation)
            if boxes is None:
                continue
            for evidence in explanation.evidence:
                met = {f"{name}_met": _meets(getattr(evidence, name), boxes) for name in ("region", "cell")}
                level = _level_where_it_counts(basis, decomposition, clip, evidence)
                entries.append({"elsewhere": bool(evidence.elsewhere.boxes), "level": level} | met)
        table = pd.DataFrame(entries)
        far = table[table["elsewhere"]]
        measures = {"level": far["level"].median()} | far[["region_met", "cell_met"]].mean().to_dict()
        share = table["elsewhere"].mean()
        lines.append({"scheme": str(basis.scheme), "channels": len(table), "elsewhere": share} | measures)
    return pd.DataFrame(lines)


def _level_where_it_counts(basis: PrototypeBasis, decomposition: Decomposition, clip: int, evidence: Evidence) -> float:
    """The activation of a channel at the cell where it counts most, as a share of that at its peak cell."""
    maps = (decomposition.features[clip, evidence.channel], decomposition.relevance[clip, evidence.channel])
    levels, counts = (basis.scheme.cells(each[None, None])[0].flatten() for each in maps)
    levels = evidence.side * levels
    return (levels[counts.argmax()] / levels.max()).item()


def _boxes(subject: Measured, window: Window, explanation: Explanation) -> Tensor | None:
    """The boxes of the explained species, bool (row, column); None where there is none in the window."""
    species = subject.classifier.class_names[int(explanation.target)]
    boxes = tuple(box_of(call, window.start) for call in window.calls if call.species == species)
    return Region(boxes).mask(ROWS, COLUMNS) if boxes else None


def _meets(region: Region, boxes: Tensor) -> bool:
    return bool((region.mask(ROWS, COLUMNS) & boxes).any())


def _regions_and_boxes(subject: Measured, explanations: list[Explanation], every: int) -> list[tuple[Tensor, Tensor]]:
    """The masks of the strongest region and of the boxes of the explained species, bool (row, column)."""
    masks = []
    for window, explanation in zip(with_calls()[::every], explanations, strict=True):
        boxes = _boxes(subject, window, explanation)
        if boxes is not None and explanation.evidence:
            masks.append((explanation.evidence[0].region.mask(ROWS, COLUMNS), boxes))
    return masks


def with_calls() -> list[Window]:
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
