"""Methods that replace regions of the clip by the fill and watch the logit."""

from __future__ import annotations

import numpy as np
import torch
from captum.attr import FeatureAblation, KernelShap, Lime, Occlusion, ShapleyValueSampling
from sklearn.linear_model import Ridge
from torch import Tensor

from benchmarks.methods.region_maps import shared, spread
from benchmarks.methods.registry import CLIPS_AT_ONCE, Query, method
from captum_apex.masking.grids import n_regions
from captum_apex.metrics import masked_scores

SAMPLES = 2  # masked clips per region for methods that fit a linear model: twice as many equations as unknowns
ORDERS = 3  # in which Shapley value sampling puts the regions in
KERNEL_WIDTH = 0.25  # of the lime package


@method("FeatureAblation", uses_fill=True, uses_grid=True)
def _feature_ablation(query: Query) -> Tensor:
    attributions = FeatureAblation(query.model).attribute(
        query.inputs,
        query.fill,
        query.target,
        feature_mask=query.grid[None, None],
        perturbations_per_eval=_at_once(query),
    )
    return shared(attributions, query.grid)


@method("Occlusion", uses_fill=True, uses_grid=True)
def _occlusion(query: Query) -> Tensor:
    """A window of a region's size that slides in steps smaller than itself, so that there are about twice as many windows as regions."""
    parts = len(query.grid[:, 0].unique()), len(query.grid[0].unique())  # of the frequency and of the time axis
    overlap = 2 ** (
        1 / max(1, sum(part > 1 for part in parts))
    )  # a half in each step, shared between the axes that are cut
    channels = query.inputs.shape[1]  # a window holds them all
    window = [-(-size // part) for size, part in zip(query.grid.shape, parts, strict=True)]
    strides = [round(side / overlap) or 1 if part > 1 else side for side, part in zip(window, parts, strict=True)]
    return Occlusion(query.model).attribute(
        query.inputs,
        (channels, *window),
        (channels, *strides),
        query.fill,
        query.target,
        perturbations_per_eval=_at_once(query),
    )


@method("two-sided occlusion", uses_fill=True, uses_grid=True)
def _two_sided_occlusion(query: Query) -> Tensor:
    """What each region takes away alone, and what it brings alone into the fill."""
    regions = n_regions(query.grid)
    none, one = torch.zeros(1, regions, dtype=torch.bool), torch.eye(regions, dtype=torch.bool)
    scores = _scores(query, torch.cat([none, one, ~none, ~one]).expand(len(query.inputs), -1, -1))
    clip, without, fill, alone = scores.split([1, regions, 1, regions], 1)
    return spread(clip - without + alone - fill, query.grid)


@method("ShapleyValueSampling", uses_fill=True, uses_grid=True)
def _shapley_value_sampling(query: Query) -> Tensor:
    mask, at_once = query.grid[None, None], _at_once(query)
    attributions = ShapleyValueSampling(query.model).attribute(
        query.inputs, query.fill, query.target, feature_mask=mask, n_samples=ORDERS, perturbations_per_eval=at_once
    )
    return shared(attributions, query.grid)


@method("KernelShap", uses_fill=True, uses_grid=True, batch=1)
def _kernel_shap(clip: Query) -> Tensor:
    mask, samples = clip.grid[None, None], SAMPLES * n_regions(clip.grid)
    attributions = KernelShap(clip.model).attribute(
        clip.inputs, clip.fill, clip.target, feature_mask=mask, n_samples=samples, perturbations_per_eval=CLIPS_AT_ONCE
    )
    return shared(attributions, clip.grid)


@method("Lime", uses_fill=True, uses_grid=True, batch=1)
def _lime(clip: Query) -> Tensor:
    """Captum's: a lasso, samples weighted by how similar the masked clips are to the clip."""
    mask, samples = clip.grid[None, None], SAMPLES * n_regions(clip.grid)
    attributions = Lime(clip.model).attribute(
        clip.inputs, clip.fill, clip.target, feature_mask=mask, n_samples=samples, perturbations_per_eval=CLIPS_AT_ONCE
    )
    return shared(attributions, clip.grid)


@method("audioLIME", uses_fill=True, uses_grid=True)
def _audio_lime(query: Query) -> Tensor:
    """LIME as the lime package does it, on parts of the sound, as audioLIME (arXiv 2008.00582) does; here the parts are the regions.

    A ridge regression on masks that keep each part with probability 1/2, weighted by the masks' cosine distance from the whole clip. It
    explains the logit, as all methods here do, and not the probability.
    """
    regions = n_regions(query.grid)
    kept = torch.rand(len(query.inputs), SAMPLES * regions, regions) < 0.5
    kept[:, 0] = True  # the first sample is the clip itself
    scores = _scores(query, ~kept).double().cpu().numpy()
    distances = 1 - kept.double().mean(2).sqrt()  # cosine distance between k ones and n ones: 1 − k / √(k·n)
    weights = torch.exp(-(distances**2) / KERNEL_WIDTH**2).sqrt().numpy()
    fits = [Ridge(alpha=1.0).fit(*samples) for samples in zip(kept.double().numpy(), scores, weights, strict=True)]
    return spread(torch.as_tensor(np.stack([fit.coef_ for fit in fits])).to(query.inputs), query.grid)


def _scores(query: Query, removed: Tensor) -> Tensor:
    """The target's logit under each mask (clip, mask, region)."""
    return masked_scores(
        query.model, query.inputs, query.fill, removed, query.grid, query.target, batch_size=CLIPS_AT_ONCE
    )


def _at_once(query: Query) -> int:
    """How many masks of each clip make a full batch; Captum takes the same masks for all clips."""
    return max(1, CLIPS_AT_ONCE // len(query.inputs))
