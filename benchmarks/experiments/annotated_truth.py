"""Whether maps and regions point at annotated sounds: every measure for each clip, beside its chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from benchmarks.experiments.located_evidence import REGIONS
from benchmarks.methods import METHODS
from benchmarks.methods.prototype_maps import ENLARGED, THROUGH_IG, THROUGH_OCCLUSION, TWO_SIDED
from benchmarks.methods.query import CLIPS_AT_ONCE
from benchmarks.runs.annotated_clips import AnnotatedStage
from benchmarks.runs.maps import run_method
from captum_apex import SCHEMES, Region, RegionSearch, Scheme, explain
from captum_apex.metrics import (
    best_iou,
    bin_auroc,
    bootstrap_interval,
    chance_by_shifts,
    frame_f1,
    pointing_game,
    relevance_mass,
    segment_auroc,
    threshold_iou,
)
from captum_apex.progress import bar_settings

MEASURES = ("segment_auroc", "bin_auroc", "threshold_iou", "best_iou", "frame_f1", "pointing", "relevance_mass")
REGION_METHODS: dict[str, tuple[str, Scheme]] = {
    f"{place}, {scheme}": (place, scheme) for scheme in SCHEMES for place in reversed(REGIONS)
}
"""Name of a method → which region of the strongest channel, and its scheme."""
OF_SCHEMES = {**ENLARGED, **THROUGH_IG, **THROUGH_OCCLUSION, **TWO_SIDED}
OTHERS = ("LayerGradCam", "IntegratedGradients", "InputXGradient", "Saliency", "Occlusion")
CONTROLS = ("random", "blurred random", "energy")
LINE_COLUMNS = (
    *("method", "measure", "clips", "recordings", "mean", "low", "high"),
    *("chance", "above", "above_low", "above_high", "status"),
)


def default_methods(schemes: Sequence[Scheme]) -> list[str]:
    """The methods that are compared unless others are named: those of the schemes that have a basis, and some others.

    Args:
        schemes: the schemes.

    Example:
        >>> from benchmarks.experiments.annotated_truth import default_methods
        >>> from captum_apex import Scheme
        >>> default_methods([Scheme.TIME])[:4]
        ['found, time', 'cell, time', 'APEX time', 'APEX time, through IG']
    """
    of_bases = [
        name
        for scheme in schemes
        for name in (f"found, {scheme}", f"cell, {scheme}", f"APEX {scheme}", f"APEX {scheme}, through IG")
    ]
    return [*of_bases, *OTHERS, *CONTROLS]


def truth_rows(
    stage: AnnotatedStage,
    methods: Sequence[str],
    *,
    grid: str | None = None,
    fill: str = "mean",
    threshold: float = 0.5,
    progress: bool = False,
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Every measure of each method for each clip.

    Args:
        stage: the clips.
        methods: names in `METHODS` or `REGION_METHODS`.
        grid: region grid of methods that score regions; None for the usual one of the clips.
        fill: fill of methods that take one.
        threshold: share of the largest attribution for `threshold_iou` and `frame_f1`.
        progress: whether to show a progress bar.

    Returns:
        One line per method and clip, with the columns `method`, `recording`, `start`, `class`, `event_start`,
        `event_end`, each of `MEASURES`, and each with `_chance`; and the status of each method.
    """
    tables = []
    statuses = {}
    for name in tqdm(methods, "methods", **bar_settings(progress)):
        maps, statuses[name] = _maps(stage, name, grid or stage.usual_grid, fill)
        if maps is not None:
            measured = measured_maps(maps, stage.truth, stage.segments, threshold, seed=stage.classified.seed)
            tables.append(_clips(stage).assign(**measured).assign(method=name))
    columns = ["method", *_clips(stage).columns, *(f"{name}{end}" for name in MEASURES for end in ("", "_chance"))]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns), statuses


def measured_maps(
    maps: Tensor, truth: Tensor, segments: Tensor, threshold: float = 0.5, *, seed: int = 0
) -> dict[str, NDArray[np.floating]]:
    """Every measure of each map, and its chance.

    The chance is the mean of the measure over all places of the map; see `captum_apex.metrics.localisation`.

    Args:
        maps: maps (clip, 1, frequency, time).
        truth: bins in which the class is annotated, bool (clip, frequency, time).
        segments: segment of each frame, int64 (time,).
        threshold: share of the largest attribution for `threshold_iou` and `frame_f1`.
        seed: seed of the random places.

    Returns:
        Name of a measure → its values (clip,); the same name with `_chance` → their chance. Both are NaN where a
        measure is not defined.

    Example:
        >>> import torch
        >>> from benchmarks.experiments.annotated_truth import measured_maps
        >>> truth = torch.tensor([[[True, False, False, False]]])
        >>> measured = measured_maps(truth[:, None].double(), truth, torch.arange(4))
        >>> measured["pointing"], measured["pointing_chance"]
        (array([1.]), array([0.25]))
    """
    share = truth.double().mean((1, 2))
    half = torch.full_like(share, 0.5)
    measures: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Tensor | None]] = {
        "segment_auroc": (partial(segment_auroc, segments=segments), half),
        "bin_auroc": (bin_auroc, half),
        "threshold_iou": (partial(threshold_iou, threshold=threshold), None),
        "best_iou": (best_iou, None),
        "frame_f1": (partial(frame_f1, threshold=threshold), None),
        "pointing": (pointing_game, share),
        "relevance_mass": (relevance_mass, share),
    }
    columns = {}
    for name, (measure, chance) in measures.items():
        values = measure(maps, truth)
        at_chance = chance_by_shifts(measure, maps, truth, seed=seed) if chance is None else chance
        columns[name] = values.numpy()
        columns[f"{name}_chance"] = at_chance.where(values.isfinite(), torch.nan).numpy()
    return columns


def truth_lines(rows: pd.DataFrame, statuses: dict[str, str], seed: int = 0) -> pd.DataFrame:
    """The mean of every measure over the clips, with its interval, its chance, and how far it is above.

    Where there are several recordings, they are what is drawn again for the interval: clips of one recording are alike.

    Args:
        rows: the lines of `truth_rows`.
        statuses: the status of each method.
        seed: seed of the intervals.

    Returns:
        One line per method and measure, with the columns `LINE_COLUMNS`: `low` and `high` are the 95% interval of the
        mean, `above` is the mean of value less chance, with its interval; `clips` and `recordings` are the numbers of
        those that have a value.
    """
    lines = []
    for method, status in statuses.items():
        of_method = rows[rows["method"] == method]
        for measure in MEASURES:
            values = of_method[[measure, f"{measure}_chance"]].to_numpy(dtype=float)
            present = np.isfinite(values).all(1)
            values = values[present]
            groups = of_method["recording"].to_numpy()[present]
            mean, chance = values.mean(0) if len(values) else (np.nan, np.nan)
            above = values[:, 0] - values[:, 1]
            counts = {"clips": len(values), "recordings": len(set(groups))}
            ends = dict(zip(("low", "high"), interval(values[:, 0], groups, seed), strict=True))
            ends_above = dict(zip(("above_low", "above_high"), interval(above, groups, seed), strict=True))
            scores = {"mean": mean, **ends, "chance": chance, "above": mean - chance, **ends_above}
            lines.append({"method": method, "measure": measure, **counts, **scores, "status": status})
    return pd.DataFrame(lines, columns=list(LINE_COLUMNS))


def interval(values: NDArray[np.floating], groups: NDArray, seed: int = 0) -> tuple[float, float]:
    """The bootstrap interval of a mean over clips, in which recordings are drawn with all of their clips.

    Args:
        values: a value for each clip.
        groups: the recording of each clip; where there is one recording, clips are drawn.
        seed: seed of the resamples.

    Example:
        >>> import numpy as np
        >>> from benchmarks.experiments.annotated_truth import interval
        >>> values = np.array([0.0, 0.0, 0.0, 1.0, 1.0, 1.0])
        >>> [round(end, 2) for end in interval(values, np.zeros(6))]
        [0.02, 0.98]
    """
    names, own = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        low, high = bootstrap_interval(values[:, None], seed=seed)
    else:
        sums = np.bincount(own, values)
        low, high = bootstrap_interval(sums[:, None], over=np.bincount(own), seed=seed)
    return float(low[0]), float(high[0])


def _maps(stage: AnnotatedStage, name: str, grid: str, fill: str) -> tuple[Tensor | None, str]:
    """The maps of a method, float64 (clip, 1, frequency, time) on the CPU, or None; and its status."""
    if name in REGION_METHODS:
        return _region_maps(stage, *REGION_METHODS[name])
    if name in OF_SCHEMES and OF_SCHEMES[name][0] not in stage.apexes:
        return None, f"no basis for {OF_SCHEMES[name][0]}; give one by --basis"
    found = run_method(METHODS[name], replace(stage.query(grid, fill), names=(name,)))[name]
    return None if found.attributions is None else found.attributions.cpu().double(), found.status


def _region_maps(stage: AnnotatedStage, place: str, scheme: Scheme) -> tuple[Tensor | None, str]:
    """The region of the strongest channel of each clip as a map of 0 and 1; zeros where no channel is evidence."""
    if scheme not in stage.apexes:
        return None, f"no basis for {scheme}; give one by --basis"
    clips = stage.classified
    search = RegionSearch() if place == "found" else None
    own = stage.model.own(clips.inputs)
    explanations = [
        explanation
        for inputs, target in zip(own.split(CLIPS_AT_ONCE), clips.target.split(CLIPS_AT_ONCE), strict=True)
        for explanation in explain(stage.apexes[scheme], inputs, target, n_channels=1, n_prototypes=1, search=search)
    ]
    maps = torch.zeros(stage.truth.shape, dtype=torch.float64)
    for drawn, explanation in zip(maps, explanations, strict=True):
        for evidence in explanation.evidence:
            region = getattr(evidence, REGIONS[place])
            drawn[(_of_times(region) if len(drawn) == 1 else region).mask(*drawn.shape)] = 1
    return maps[:, None], "ok"


def _of_times(region: Region) -> Region:
    """The region with all frequencies, for waveforms, whose maps have one bin of frequency."""
    return Region(tuple(replace(box, low=0.0, high=1.0) for box in region.boxes))


def _clips(stage: AnnotatedStage) -> pd.DataFrame:
    """The recording, the start and the class of each clip, and the event that it is around."""
    return pd.DataFrame(
        {
            "recording": stage.names[clip.recording],
            "start": clip.start,
            "class": clip.label,
            "event_start": np.nan if clip.event is None else clip.event.start,
            "event_end": np.nan if clip.event is None else clip.event.end,
        }
        for clip in stage.clips
    )
