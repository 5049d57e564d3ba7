"""Whether maps and regions point at the place of the class event, on tasks for which that place is known."""

from __future__ import annotations

from functools import partial

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.experiments.located_evidence import REGIONS, explanations_of, moved, region_masks
from benchmarks.methods.prototype_maps import integrated
from benchmarks.methods.query import logits
from benchmarks.runs.stage import Stage
from benchmarks.runs.subject import Subject
from captum_apex import APEX, PrototypeBasis, Region, Scheme
from captum_apex.masking.fills import mean_fill

N_LOCATED = 40  # at most so many clips per scheme
N_PLACES = 100  # random places of a region
REGION_COLUMNS = ("cell", "found", "random", "iou_cell", "iou_found", "area_cell", "area_found")
TRUTH_COLUMNS = ("scheme", *REGION_COLUMNS[:2], "enlarged", "integrated", *REGION_COLUMNS[2:], "clips")


def truth_table(subject: Subject) -> pd.DataFrame:
    """How often a map or region meets the known truth, one line per scheme, over test clips of the classes made for it.

    Args:
        subject: the classifier and its bases.

    Returns:
        Shares of clips in which a place has a bin in common with the truth; no lines where the truth is not known.

        - `cell`: the peak cell of the strongest channel (for `time-frequency` the crossing of a strip and a band).
        - `found`: the region of the strongest channel that the search of `captum_apex.explain` finds.
        - `enlarged`: the place where the enlarged map of five channels is largest.
        - `integrated`: the place where the map of five channels through Integrated Gradients is largest, with the
          clip's mean per band as the baseline.
        - `random`: the found region at random places: the mean over a hundred of them in each clip.
        - `iou_cell`, `iou_found`: bins that a region and the truth have in common, as a share of the bins that at least
          one of them has, mean over clips.
        - `area_cell`, `area_found`: share of the clip that a region covers, mean over clips.
        - `clips`: number of clips.
    """
    lines = []
    for scheme in subject.bases:
        clips = truth_clips(subject, scheme)
        if clips is not None:
            shares = region_shares(subject, scheme, clips) | _map_shares(subject, scheme, clips)
            lines.append({"scheme": str(scheme), **shares, "clips": len(clips.indices)})
    return pd.DataFrame(lines, columns=TRUTH_COLUMNS)


def truth_clips(subject: Subject, scheme: Scheme) -> Stage | None:
    """At most `N_LOCATED` test clips of the classes that are made for a scheme; None where there are none."""
    task = subject.task
    if task.truth is None or task.schemes is None:
        return None
    indices, inputs = subject.test_clips(len(task.test))
    made_for = [i for i, index in enumerate(indices) if str(scheme) in task.schemes(index)]
    chosen = [i for i in made_for if task.truth(indices[i]).any()][:N_LOCATED]
    if not chosen:
        return None
    return Stage.on(subject, [indices[i] for i in chosen], inputs[chosen])


def region_shares(subject: Subject, scheme: Scheme, clips: Stage) -> dict[str, float]:
    """How the regions of the strongest channel lie on the truth: the columns `REGION_COLUMNS` of `truth_table`.

    Args:
        subject: the classifier and its bases.
        scheme: the scheme.
        clips: the clips, with a known truth.
    """
    explanations = explanations_of(subject, subject.bases[scheme], clips.inputs, n_channels=1)
    n_rows, n_columns = clips.inputs.shape[2:]
    masks = {
        region: torch.stack(
            [region_masks(clips.band_shares, each, (n_rows, n_columns), region).any(0) for each in explanations]
        )
        for region in REGIONS
    }
    generator = torch.Generator().manual_seed(subject.seed)
    places = [_share_met(moved(masks["found"], generator), clips.known_truth) for _ in range(N_PLACES)]
    return {
        **{region: _share_met(of_region, clips.known_truth) for region, of_region in masks.items()},
        "random": sum(places) / N_PLACES,
        **{f"iou_{region}": _mean_iou(of_region, clips.known_truth) for region, of_region in masks.items()},
        **{f"area_{region}": of_region.double().mean().item() for region, of_region in masks.items()},
    }


def _map_shares(subject: Subject, scheme: Scheme, clips: Stage) -> dict[str, float]:
    """How often the largest value of a map lies on the truth, for the enlarged map and for Integrated Gradients."""
    basis = subject.bases[scheme]
    target = logits(subject.model, clips.inputs).argmax(1)
    projections = {"enlarged": None, "integrated": partial(integrated, baseline=mean_fill(clips.inputs))}
    shares = {}
    for name, projection in projections.items():
        maps = APEX(subject.model, subject.layer, basis, projection=projection).attribute(clips.inputs, target)
        places = _strongest_places(maps, scheme, basis)
        shares[name] = _share_met(torch.stack([place.mask(*maps.shape[2:]) for place in places]), clips.known_truth)
    return shares


def _strongest_places(maps: Tensor, scheme: Scheme, basis: PrototypeBasis) -> list[Region]:
    """Where each map (clip, 1, mel, frame) is largest, as a region of the scheme on the layer's grid."""
    n_rows, n_columns = _grid(basis)
    cells = scheme.cells(F.adaptive_avg_pool2d(maps, (n_rows, n_columns)))
    peaks = torch.stack([sequence[:, 0].argmax(1) for sequence in cells], 1)  # (clip, sequence)
    return [
        scheme.region(place, n_rows, n_columns, intersection=True)
        if values.any()
        else Region(())  # a map of zeros points nowhere
        for place, values in zip(peaks.tolist(), maps, strict=True)
    ]


def _share_met(masks: Tensor, truths: Tensor) -> float:
    """Share of clips in which the mask (clip, frequency, time) has a bin in common with the truth."""
    return (masks & truths).any(2).any(1).double().mean().item()


def _mean_iou(masks: Tensor, truths: Tensor) -> float:
    """Mean over clips of the bins that mask and truth have in common, as a share of those that one of them has."""
    common = (masks & truths).sum((1, 2)).double()
    return (common / (masks | truths).sum((1, 2)).clamp_min(1)).mean().item()


def _grid(basis: PrototypeBasis) -> tuple[int, int]:
    assert basis.origin.grid is not None  # always set in a fitted basis; this line is for the type checker
    return basis.origin.grid
