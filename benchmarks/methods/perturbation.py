"""Methods that replace regions of the clip by the fill and measure how the logit changes."""

from __future__ import annotations

import numpy as np
import torch
from captum.attr import FeatureAblation, KernelShap, Lime, Occlusion, ShapleyValueSampling
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from torch import Tensor

from benchmarks.methods.query import CLIPS_AT_ONCE, Query
from benchmarks.methods.region_maps import shared, spread
from benchmarks.methods.registry import method
from captum_apex.attribution import two_sided_occlusion
from captum_apex.masking.grids import n_regions
from captum_apex.metrics import masked_scores

SAMPLES = 2  # masked clips per region for methods that fit a linear model: twice as many equations as unknowns
ORDERS = 3  # random orders of the regions in Shapley value sampling
MANY_SAMPLES = 1000  # masked clips in the rows of surrogates that a run has to name, because they take so many passes
TREES = 100  # of a random forest
KERNEL_WIDTH = 0.25  # the default of the lime package


@method("FeatureAblation", uses_fill=True, uses_grid=True)
def _feature_ablation(query: Query) -> Tensor:
    attributions = FeatureAblation(query.model).attribute(
        query.inputs,
        query.fill,
        query.target,
        feature_mask=query.grid[None, None],
        perturbations_per_eval=_masks_at_once(query),
    )
    return shared(attributions, query.grid)


@method("Occlusion", uses_fill=True, uses_grid=True)
def _occlusion(query: Query) -> Tensor:
    """A window of the size of a region that slides in smaller steps: about twice as many windows as regions."""
    counts = (len(query.grid[:, 0].unique()), len(query.grid[0].unique()))  # regions along frequency and time
    n_divided_axes = max(1, sum(count > 1 for count in counts))
    # Steps that are smaller by this factor along each divided axis double the number of windows.
    overlap = 2 ** (1 / n_divided_axes)
    channels = query.inputs.shape[1]  # a window covers all channels
    window = [-(-size // count) for size, count in zip(query.grid.shape, counts, strict=True)]
    strides = [round(side / overlap) or 1 if count > 1 else side for side, count in zip(window, counts, strict=True)]
    return Occlusion(query.model).attribute(
        query.inputs,
        (channels, *window),
        (channels, *strides),
        query.fill,
        query.target,
        perturbations_per_eval=_masks_at_once(query),
    )


@method("two-sided occlusion", uses_fill=True, uses_grid=True)
def _two_sided_occlusion(query: Query) -> Tensor:
    """How much the logit falls without the region, plus how much it rises when the region is added to the fill."""
    return two_sided_occlusion(
        query.model, query.inputs, query.fill, query.grid, query.target, batch_size=CLIPS_AT_ONCE
    )


@method("ShapleyValueSampling", uses_fill=True, uses_grid=True)
def _shapley_value_sampling(query: Query) -> Tensor:
    attributions = ShapleyValueSampling(query.model).attribute(
        query.inputs,
        query.fill,
        query.target,
        feature_mask=query.grid[None, None],
        n_samples=ORDERS,
        perturbations_per_eval=_masks_at_once(query),
    )
    return shared(attributions, query.grid)


@method("KernelShap", uses_fill=True, uses_grid=True, batch=1)
def _kernel_shap(clip: Query) -> Tensor:
    return _surrogate_weights(KernelShap(clip.model), clip, SAMPLES * n_regions(clip.grid))


@method("Lime", uses_fill=True, uses_grid=True, batch=1)
def _lime(clip: Query) -> Tensor:
    """LIME as in Captum: a lasso, with samples weighted by the similarity of the masked clip to the clip."""
    return _surrogate_weights(Lime(clip.model), clip, SAMPLES * n_regions(clip.grid))


@method(f"Lime, {MANY_SAMPLES} samples", uses_fill=True, uses_grid=True, default=False, batch=1)
def _lime_of_many(clip: Query) -> Tensor:
    return _surrogate_weights(Lime(clip.model), clip, MANY_SAMPLES)


@method("audioLIME", uses_fill=True, uses_grid=True)
def _audio_lime(query: Query) -> Tensor:
    """LIME as in the lime package, on components of the sound as in audioLIME (arXiv 2008.00582): here the regions.

    A ridge regression on masks that leave each region in the clip with probability 1/2, weighted by the cosine distance
    of the mask from the whole clip. It explains the logit, as all methods here do, and not the probability.
    """
    return _ridge_weights(query, SAMPLES * n_regions(query.grid))


@method(f"audioLIME, {MANY_SAMPLES} samples", uses_fill=True, uses_grid=True, default=False)
def _audio_lime_of_many(query: Query) -> Tensor:
    return _ridge_weights(query, MANY_SAMPLES)


@method("random forest", uses_fill=True, uses_grid=True, default=False)
def _random_forest(query: Query) -> Tensor:
    """The importance of each region in a random forest that predicts the logit from the mask (arXiv 2506.04391).

    As in the code that was published with the paper, the forest is scikit-learn's with 100 trees, its samples have the
    weights of LIME, and the importance is the mean decrease in impurity, not that under permutation. It is never
    negative: a region that speaks against the class is as important as one that speaks for it. The masks are those of
    audioLIME here, and the logit is explained, not the log-odds.
    """
    return _impurity_decreases(query, SAMPLES * n_regions(query.grid))


@method(f"random forest, {MANY_SAMPLES} samples", uses_fill=True, uses_grid=True, default=False)
def _random_forest_of_many(query: Query) -> Tensor:
    return _impurity_decreases(query, MANY_SAMPLES)


def _surrogate_weights(surrogate: Lime, clip: Query, n_samples: int) -> Tensor:
    """The map of a method that fits a linear model to masked clips; in Captum, KernelShap is a subclass of Lime."""
    attributions = surrogate.attribute(
        clip.inputs,
        clip.fill,
        clip.target,
        feature_mask=clip.grid[None, None],
        n_samples=n_samples,
        perturbations_per_eval=CLIPS_AT_ONCE,
    )
    return shared(attributions, clip.grid)


def _ridge_weights(query: Query, n_samples: int) -> Tensor:
    fits = [Ridge(alpha=1.0).fit(*samples) for samples in _samples(query, n_samples)]
    return spread(torch.as_tensor(np.stack([fit.coef_ for fit in fits])).to(query.inputs), query.grid)


def _impurity_decreases(query: Query, n_samples: int) -> Tensor:
    forest = RandomForestRegressor(TREES, random_state=query.seed)
    importances = [forest.fit(*samples).feature_importances_ for samples in _samples(query, n_samples)]
    return spread(torch.as_tensor(np.stack(importances)).to(query.inputs), query.grid)


def _samples(query: Query, n_samples: int) -> list[tuple[NDArray, NDArray, NDArray]]:
    """What a surrogate of each clip is fitted to: masks (sample, region), logits (sample,), and weights (sample,)."""
    regions = n_regions(query.grid)
    present = torch.rand(len(query.inputs), n_samples, regions) < 0.5  # (clip, mask, region)
    present[:, 0] = True  # the first sample is the clip itself
    scores = _masked_logits(query, ~present).double().cpu().numpy()
    distances = 1 - present.double().mean(2).sqrt()  # cosine distance between k ones and n ones: 1 − k / √(k·n)
    weights = torch.exp(-(distances**2) / KERNEL_WIDTH**2).sqrt().numpy()
    return list(zip(present.double().numpy(), scores, weights, strict=True))


def _masked_logits(query: Query, removed: Tensor) -> Tensor:
    """The logit of the target under each mask, bool (clip, mask, region) → (clip, mask)."""
    return masked_scores(
        query.model, query.inputs, query.fill, removed, query.grid, query.target, batch_size=CLIPS_AT_ONCE
    )


def _masks_at_once(query: Query) -> int:
    """Number of masks that fill a batch; Captum applies the same masks to all clips."""
    return max(1, CLIPS_AT_ONCE // len(query.inputs))
