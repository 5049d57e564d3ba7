"""APEX in its four schemes: enlarged maps of the evidence, and attributions of the evidence score by other methods."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from captum.attr import IntegratedGradients, LayerActivation
from captum.attr._utils.approximation_methods import approximation_parameters
from torch import Tensor

from benchmarks.methods.query import CLIPS_AT_ONCE, Query
from benchmarks.methods.region_maps import enlarged, spread
from benchmarks.methods.registry import method
from captum_apex import APEX, SCHEMES, LayerAPEX, Scheme
from captum_apex.layers.hooks import captured, frozen
from captum_apex.layers.pooled_norm import PooledNorm, explained_grid
from captum_apex.masking.fills import masked
from captum_apex.masking.grids import n_regions

STEPS = 16  # steps of Integrated Gradients, in every method that uses it
EVIDENCE = {"": 5, ", n=1": 1, ", n=3": 3}  # ending of a name → number of channels in the evidence

EvidenceSize = tuple[Scheme, int | None]
"""The scheme and the number of channels of an evidence score; None for all channels."""

ENLARGED: dict[str, EvidenceSize] = {
    f"APEX {scheme}{size}": (scheme, n) for scheme in SCHEMES for size, n in {**EVIDENCE, ", all": None}.items()
}
# The score of all channels together is the same in every basis: there is one for all schemes, and it comes last.
SCORED: dict[str, EvidenceSize] = {
    **{f"APEX {scheme}{size}": (scheme, n) for scheme in SCHEMES for size, n in EVIDENCE.items()},
    "APEX all": (SCHEMES[0], None),
}
THROUGH_IG = {f"{name}, through IG": evidence for name, evidence in SCORED.items()}
THROUGH_OCCLUSION = {f"{name}, through Occlusion": evidence for name, evidence in SCORED.items()}
TWO_SIDED: dict[str, EvidenceSize] = {
    **{f"APEX {scheme}, two-sided": (scheme, 5) for scheme in SCHEMES},
    "APEX all, two-sided": (SCHEMES[0], None),
}


def integrated(score: Callable, inputs: Tensor, additional_forward_args: tuple | None, baseline: Tensor) -> Tensor:
    """Integrated Gradients of a score; with `baseline` bound by `functools.partial`, a `projection` for `APEX`."""
    batch_size = max(CLIPS_AT_ONCE, len(inputs))  # Captum warns if it is smaller than the number of clips
    return IntegratedGradients(score).attribute(
        inputs, baseline, additional_forward_args=additional_forward_args, n_steps=STEPS, internal_batch_size=batch_size
    )


def _enlarged(query: Query, scheme: Scheme, n_channels: int | None) -> Tensor:
    if query.band_shares is not None:  # the layer's rows divide the mel axis, not the frequency axis of the inputs
        at_layer = LayerAPEX(query.model, query.layer, query.bases[scheme])
        return enlarged(at_layer.attribute(query.inputs, query.target, n_channels=n_channels), query)
    return APEX(query.model, query.layer, query.bases[scheme]).attribute(
        query.inputs, query.target, n_channels=n_channels
    )


for _name, (_scheme, _n) in ENLARGED.items():
    method(_name)(partial(_enlarged, scheme=_scheme, n_channels=_n))


@method(*THROUGH_IG, uses_fill=True)
def _integrated(query: Query) -> list[Tensor]:
    """Captum's Integrated Gradients of each evidence score `Σ w ⊙ φ(x)`.

    All scores share one forward pass up to the layer; each has a backward pass.
    """
    weights = _weights(query, [THROUGH_IG[name] for name in query.names]).unbind(1)
    step_sizes, steps = (function(STEPS) for function in approximation_parameters("gausslegendre"))
    difference = query.inputs - query.fill
    totals = [torch.zeros_like(query.inputs) for _ in weights]
    for step, step_size in zip(steps, step_sizes, strict=True):
        point = (query.fill + step * difference).requires_grad_()
        features = _traced_features(query, point)
        for weights_of_score, total in zip(weights, totals, strict=True):
            total += step_size * torch.autograd.grad(features, point, weights_of_score, retain_graph=True)[0]
    return [difference * total for total in totals]


@method(*THROUGH_OCCLUSION, uses_fill=True, uses_grid=True)
def _occluded(query: Query) -> list[Tensor]:
    """How much each evidence score falls without each region; all scores share one pass up to the layer."""
    features = partial(_features, LayerActivation(query.model, query.layer), query)
    weights = _weights(query, [THROUGH_OCCLUSION[name] for name in query.names])
    whole = features(query.inputs)
    drops = [
        _scores(weights, whole - features(masked(query.inputs, query.fill, query.grid == region)))
        for region in range(n_regions(query.grid))
    ]
    return _region_maps(drops, query)


@method(*TWO_SIDED, uses_fill=True, uses_grid=True)
def _two_sided(query: Query) -> list[Tensor]:
    return two_sided(query, [TWO_SIDED[name] for name in query.names])


def two_sided(query: Query, evidence: Sequence[EvidenceSize]) -> list[Tensor]:
    """How much each evidence score falls without each region, plus how much the region alone adds to that of the fill.

    Args:
        query: clips, classifier, fill and regions.
        evidence: scheme and number of channels of each evidence score.

    Returns:
        A map (clip, 1, frequency, time) for each evidence score.
    """
    features = partial(_features, LayerActivation(query.model, query.layer), query)
    weights = _weights(query, evidence)
    whole = features(query.inputs)
    empty = features(query.fill)
    sums = []
    for region in range(n_regions(query.grid)):
        mask = query.grid == region
        without, alone = _without_and_alone(features, query, mask)
        sums.append(_scores(weights, whole - without + alone - empty))
    return _region_maps(sums, query)


def _without_and_alone(features: Callable[[Tensor], Tensor], query: Query, mask: Tensor) -> tuple[Tensor, Tensor]:
    """The features of the clips without a region, and of the region alone in the fill."""
    without = features(masked(query.inputs, query.fill, mask))
    alone = features(masked(query.fill, query.inputs, mask))
    return without, alone


def _scores(weights: Tensor, features: Tensor) -> Tensor:
    """Evidence scores, (clip, score), of features (clip, channel, frequency, time)."""
    return torch.einsum("nkcft,ncft->nk", weights, features)


def _region_maps(scores: Sequence[Tensor], query: Query) -> list[Tensor]:
    """A map for each evidence score, from a tensor (clip, evidence score) for each region."""
    by_score = torch.stack(list(scores)).permute(2, 1, 0)  # (region, clip, score) → (score, clip, region)
    return [spread(regions, query.grid) for regions in by_score]


def _features(activation: LayerActivation, query: Query, inputs: Tensor) -> Tensor:
    """The layer's output on its grid, (clip, channel, frequency, time)."""
    return _grid(query, activation.attribute(inputs))


def _traced_features(query: Query, inputs: Tensor) -> Tensor:
    """The layer's output on its grid with the graph from the inputs to it."""
    with frozen(query.model, query.layer), captured(query.layer, "of the query") as capture:
        query.model(inputs)
    return _grid(query, capture.value)


def _grid(query: Query, output: Tensor) -> Tensor:
    """The grid on which the bases act."""
    origin = next(iter(query.bases.values())).origin  # the same for all schemes
    return explained_grid(output, origin.layout, PooledNorm.of(query.model, query.layer, origin))


def _weights(query: Query, evidence: Sequence[EvidenceSize]) -> Tensor:
    """The weights of each evidence score, (clip, score, channel, frequency, time); one forward pass per scheme."""
    weights: dict[EvidenceSize, Tensor] = {}
    for scheme in dict.fromkeys(scheme for scheme, _ in evidence):
        apex = LayerAPEX(query.model, query.layer, query.bases[scheme])
        decomposition = apex.decompose(query.inputs, query.target)
        for size in evidence:
            if size[0] == scheme:
                weights[size] = apex.weights(decomposition, apex.selected_channels(decomposition, size[1]))
    return torch.stack([weights[size] for size in evidence], 1)
